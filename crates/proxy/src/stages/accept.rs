//! The head of a request: is it for us, from where it may come, in a form MCP knows? Nothing of the body is read.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header};
use portcullis_core::{Code, Refusal};

use crate::{head::Head, rules::Rules};
use portcullis_upstream::Verb;

/// Judges the head of a request to `/mcp/{server}`.
///
/// # Errors
/// `request.host`, `request.origin`, `method.not_allowed`, `request.media_type`, `request.accept`,
/// `request.headers_too_large`.
pub fn head(
    method: &Method,
    uri: &Uri,
    server: &str,
    headers: HeaderMap,
    source: IpAddr,
    rules: &Rules,
) -> Result<Head, Refusal> {
    size(&headers, rules)?;
    host(uri, &headers, rules)?;
    origin(uri, &headers, rules)?;
    let verb = Verb::of(method)
        .ok_or_else(|| Refusal::new(Code::MethodNotAllowed, format!("HTTP method {method}")))?;
    let head = Head { verb, server: server.to_owned(), source, headers, certificate: None };
    if verb == Verb::Post {
        media_type(&head)?;
    }
    accepted(&head)?;
    Ok(head)
}

/// Judges whether a request that is no message of MCP is for us.
///
/// # Errors
/// `request.host`, `request.headers_too_large`.
pub(crate) fn place(uri: &Uri, headers: &HeaderMap, rules: &Rules) -> Result<(), Refusal> {
    size(headers, rules)?;
    host(uri, headers, rules)
}

fn size(headers: &HeaderMap, rules: &Rules) -> Result<(), Refusal> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() as u64 > rules.limits.headers_max || bytes as u64 > rules.limits.header_bytes_max {
        return Err(Refusal::new(
            Code::RequestHeadersTooLarge,
            format!("{} headers, {bytes} bytes", headers.len()),
        ));
    }
    Ok(())
}

/// DNS rebinding: a browser tricked into our address still sends the attacker's name.
fn host(uri: &Uri, headers: &HeaderMap, rules: &Rules) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let from_header = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Refusal::new(Code::RequestHost, "more than one Host header")),
    };
    let authority = uri.authority().map(http::uri::Authority::as_str);
    for given in [authority, from_header].into_iter().flatten() {
        let name = host_of(given).unwrap_or_default().to_ascii_lowercase();
        let address = rules.any_address && name.parse::<IpAddr>().is_ok();
        // One that was configured with a port is served with it alone.
        let known = || rules.hosts.contains(&name) || rules.hosts.contains(&given.to_ascii_lowercase());
        if !address && !known() {
            return Err(Refusal::new(Code::RequestHost, format!("host `{given}`")));
        }
    }
    if authority.or(from_header).is_none() {
        return Err(Refusal::new(Code::RequestHost, "no host"));
    }
    Ok(())
}

/// The host of `host[:port]`, without the brackets of an IPv6 literal.
fn host_of(authority: &str) -> Option<&str> {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map(|(host, _)| host);
    }
    authority.split(':').next()
}

/// A page may call us that came from us: same scheme, host and port. Any other is one that the operator listed.
fn origin(uri: &Uri, headers: &HeaderMap, rules: &Rules) -> Result<(), Refusal> {
    let mut values = headers.get_all(header::ORIGIN).iter();
    let Some(value) = values.next() else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    // Judged before: there is one, and it is ours.
    let from_header = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let served = uri.authority().map(http::uri::Authority::as_str).or_else(from_header).unwrap_or_default();
    let known =
        values.next().is_none() && (rules.origins.contains(text) || is_own(text, served, &rules.public_url));
    if known { Ok(()) } else { Err(Refusal::new(Code::RequestOrigin, format!("origin `{text}`"))) }
}

/// Whether `origin` is that of the URL under which clients reach us, or has its scheme and the authority that was asked.
fn is_own(origin: &str, served: &str, public_url: &str) -> bool {
    let Some((scheme, from)) = origin.split_once("://") else { return false };
    let Some((public_scheme, rest)) = public_url.split_once("://") else { return false };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    let public = rest.split('/').next().unwrap_or_default();
    scheme == public_scheme && !from.is_empty() && [served, public].iter().any(|own| bare(own) == bare(from))
}

fn media_type(head: &Head) -> Result<(), Refusal> {
    let media = head.one(&header::CONTENT_TYPE).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(Code::RequestMediaType, format!("content type `{media}`")));
    }
    // Many servers decode by it. What is harmless text in UTF-8 can be quotes and braces in UTF-7, so that they would
    // read another call than the one judged here.
    if !media.split(';').skip(1).all(utf8_or_no_charset) {
        return Err(Refusal::new(Code::RequestMediaType, format!("content type `{media}`")));
    }
    // A decompressor is a way to make much out of little; MCP clients do not compress.
    if head.headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::new(Code::RequestMediaType, "a content encoding"));
    }
    Ok(())
}

/// Whether a parameter of the media type leaves JSON the one encoding it has (RFC 8259 section 8.1).
fn utf8_or_no_charset(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    !name.trim().trim_end_matches('*').eq_ignore_ascii_case("charset")
        || (!name.contains('*') && value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

fn accepted(head: &Head) -> Result<(), Refusal> {
    let wanted: &[&str] = match head.verb {
        Verb::Post => &["application/json", "text/event-stream"],
        Verb::Get => &["text/event-stream"],
        Verb::Delete => &[],
    };
    match wanted.iter().find(|media| !head.accepts(media)) {
        Some(media) => Err(Refusal::new(Code::RequestAccept, format!("{media} is not accepted"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{host_of, is_own, utf8_or_no_charset};

    #[test]
    fn json_that_claims_another_encoding_than_utf_8_is_not_read() {
        for (parameter, fine) in [
            (" charset=utf-8", true),
            ("CharSet=\"UTF-8\"", true),
            (" profile=x", true),
            ("", true),
            (" charset=utf-7", false),
            (" charset = utf-16le", false),
            ("charset=\"utf-7\"", false),
            ("charset=", false),
            ("charset", false),
            (" charset*=utf-7", false),
        ] {
            assert_eq!(utf8_or_no_charset(parameter), fine, "`{parameter}`");
        }
    }

    #[test]
    fn the_host_of_an_authority_is_read_without_port_and_brackets() {
        for (authority, host) in [
            ("localhost:7300", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:7300", "::1"),
            ("[::1]", "::1"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("evil.example", "evil.example"),
        ] {
            assert_eq!(host_of(authority), Some(host));
        }
        assert_eq!(host_of("[::1"), None);
    }

    #[test]
    fn a_page_is_ours_where_scheme_host_and_port_are_those_that_were_asked_for() {
        let (plain, proxied) = ("http://127.0.0.1:7300", "https://gateway.example/under");
        for (origin, served, public_url, own) in [
            ("http://localhost:7300", "localhost:7300", plain, true),
            ("http://LOCALHOST:7300", "localhost:7300", plain, true),
            ("http://[::1]:7300", "[::1]:7300", plain, true),
            ("http://127.0.0.1:7300", "localhost:7300", plain, true),
            ("http://localhost:7300", "127.0.0.1:7300", plain, false),
            ("http://localhost:9", "localhost:7300", plain, false),
            ("http://localhost", "localhost:7300", plain, false),
            ("https://localhost:7300", "localhost:7300", plain, false),
            ("http://localhost:7300/", "localhost:7300", plain, false),
            ("http://localhost:7300.evil.example", "localhost:7300", plain, false),
            ("http://localhost:7300@evil.example", "localhost:7300", plain, false),
            ("http://localhost", "localhost:80", "http://127.0.0.1:80", true),
            ("https://gateway.example", "inner:7300", proxied, true),
            ("https://gateway.example", "gateway.example:443", proxied, true),
            ("https://gateway.example:443", "gateway.example", proxied, true),
            ("https://gateway.example:80", "gateway.example", proxied, false),
            ("http://gateway.example", "gateway.example", proxied, false),
            ("https://evil.example", "gateway.example", proxied, false),
            ("null", "localhost:7300", plain, false),
            ("", "", plain, false),
            ("http://", "", plain, false),
            ("file://", "", plain, false),
        ] {
            assert_eq!(is_own(origin, served, public_url), own, "`{origin}` at `{served}`");
        }
    }
}
