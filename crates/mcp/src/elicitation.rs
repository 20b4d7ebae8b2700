//! URLs that a server wants a user to open (elicitation in URL mode, SEP-1036). Judged as bytes, so strictly that no
//! two readers of URLs can disagree about where they lead.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::json::View;

/// Bytes of a URL.
pub const URL_BYTES_MAX: usize = 2_048;

/// Why a URL is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No text where a URL should be.
    #[error("there is no URL in it")]
    Absent,
    /// White space, control characters, a backslash, or anything outside ASCII.
    #[error("the URL holds a character that readers of URLs disagree about")]
    Character,
    /// No host, or one that is not written plainly.
    #[error("the URL has no plain host")]
    Host,
    /// More than [`URL_BYTES_MAX`].
    #[error("the URL is too long")]
    Length,
    /// Neither `https` nor `http` on this machine.
    #[error("the URL is neither `https` nor `http` on this machine")]
    Scheme,
    /// A user name before the host: what looks like the host is not.
    #[error("the URL has a user name in it")]
    UserInfo,
}

/// Judges the `params` of `elicitation/create`, or an entry of `data.elicitations` of the error -32042.
///
/// # Errors
/// The URL is not safe to open, or is missing in URL mode.
pub fn judge(params: Option<View<'_>>) -> Result<(), UrlError> {
    let Some(params) = params else { return Ok(()) };
    let by_url = params.get("mode").is_some_and(|mode| !mode.is_str("form"));
    match params.get("url") {
        // Whatever the mode: a client may look at the URL first.
        Some(url) => safe(&url.as_str().ok_or(UrlError::Absent)?),
        None if by_url => Err(UrlError::Absent),
        None => Ok(()),
    }
}

/// The URLs that the error -32042 (URL elicitation required, 2025-11-25) wants opened.
pub fn required<'a>(error: &View<'a>) -> impl Iterator<Item = View<'a>> {
    let is_it = error.get("code").and_then(|code| code.as_i64()) == Some(-32042);
    let list = error.path(&["data", "elicitations"]).filter(|_| is_it);
    list.into_iter().flat_map(|list| list.elements())
}

/// Judges one URL.
///
/// # Errors
/// Why it is not safe to open.
pub fn safe(url: &str) -> Result<(), UrlError> {
    if url.len() > URL_BYTES_MAX {
        return Err(UrlError::Length);
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(UrlError::Character);
    }
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let host = host(authority).ok_or(UrlError::Host)?;
    if scheme.eq_ignore_ascii_case("https") || (scheme.eq_ignore_ascii_case("http") && is_loopback(host)) {
        return Ok(());
    }
    Err(UrlError::Scheme)
}

/// The host of an authority without a user name; nothing when it is not written plainly.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, after.strip_prefix(':').or_else(|| after.is_empty().then_some(""))?)
        }
        None => {
            let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            let plain = name.bytes().all(plain) && name.bytes().any(|byte| byte.is_ascii_alphanumeric());
            (plain.then_some(name)?, port)
        }
    };
    let port_fits =
        port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
    port_fits.then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String};

    use super::*;

    #[test]
    fn only_https_and_http_on_this_machine_pass_and_nothing_that_two_readers_read_differently() {
        use UrlError::{Character, Host, Length, Scheme, UserInfo};
        let long = |bytes: usize| format!("https://a.example/{}", "x".repeat(bytes - 18));
        let (fits, too_long): (String, String) = (long(URL_BYTES_MAX), long(URL_BYTES_MAX + 1));
        for (url, expected) in [
            ("https://accounts.example/auth?state=1#x", Ok(())),
            ("HTTPS://a.example:8443", Ok(())),
            ("https://[2001:db8::1]:1/x", Ok(())),
            ("https://a.example/@b?c=d@e", Ok(())),
            ("http://127.0.0.1:5000/cb", Ok(())),
            ("http://localhost/", Ok(())),
            ("http://[::1]/", Ok(())),
            (&fits, Ok(())),
            (&too_long, Err(Length)),
            ("http://a.example/", Err(Scheme)),
            ("http://localhost.evil.example/", Err(Scheme)),
            ("http://127.1/", Err(Scheme)),
            ("javascript://a.example/%0aalert(1)", Err(Scheme)),
            ("javascript:alert(1)", Err(Scheme)),
            ("file:///etc/passwd", Err(Host)),
            ("data:text/html,x", Err(Scheme)),
            ("https:a.example", Err(Scheme)),
            ("https:/a.example", Err(Scheme)),
            ("", Err(Scheme)),
            ("https://", Err(Host)),
            ("https:///a.example", Err(Host)),
            ("https://.", Err(Host)),
            ("https://a.example:99999/", Err(Host)),
            ("https://a.example:x/", Err(Host)),
            ("https://a%2eexample/", Err(Host)),
            ("https://[::1", Err(Host)),
            ("https://[::1]x/", Err(Host)),
            ("https://user@a.example/", Err(UserInfo)),
            ("https://a.example:pw@evil.example/", Err(UserInfo)),
            ("https://evil.example\\@a.example/", Err(Character)),
            ("https://a.example/\n", Err(Character)),
            (" https://a.example/", Err(Character)),
            ("https://\u{430}.example/", Err(Character)),
        ] {
            assert_eq!(safe(url), expected, "{url}");
        }
    }

    #[test]
    fn a_url_is_judged_whatever_mode_stands_beside_it() {
        for (params, expected) in [
            (r#"{"message":"sure?","requestedSchema":{}}"#, Ok(())),
            (r#"{"mode":"form","message":""}"#, Ok(())),
            (r#"{"mode":"url","url":"https://a.example"}"#, Ok(())),
            (r#"{"mode":"url"}"#, Err(UrlError::Absent)),
            (r#"{"mode":"url","url":1}"#, Err(UrlError::Absent)),
            (r#"{"url":"javascript:1"}"#, Err(UrlError::Scheme)),
            (r#"{"mode":"form","url":"http:\/\/a.example"}"#, Err(UrlError::Scheme)),
            (r#"{"mode":"other"}"#, Err(UrlError::Absent)),
        ] {
            assert_eq!(judge(Some(View::of(params.as_bytes()))), expected, "{params}");
        }
        assert_eq!(judge(None), Ok(()));
    }
}
