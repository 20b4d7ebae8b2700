//! Which hosts a child may reach: `host`, `host:port`, `*.domain`, `*.domain:port`; without a port, 443.

use std::{net::IpAddr, str::FromStr};

use thiserror::Error;
use url::{Host, Url};

use crate::guard::EgressPolicy;

/// The port where none is written.
const HTTPS: u16 = 443;

/// One entry of a list of allowed hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// Lower case, without the root's dot; an address as it is printed.
    name: String,
    port: u16,
    /// Every name below, and not the name itself.
    below: bool,
    policy: EgressPolicy,
}

/// The text is no such entry.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not `host`, `host:port`, `*.domain` or `*.domain:port`")]
pub struct AllowedHostError(String);

impl AllowedHost {
    /// The same entry, whose name may also resolve to private networks.
    #[must_use]
    pub fn or_private(mut self, allowed: bool) -> Self {
        self.policy.allow_private |= allowed;
        self
    }

    /// What may be connected to under this entry, if it speaks about this host and port.
    pub(super) fn covers(&self, host: &str, port: u16) -> Option<EgressPolicy> {
        let named = if self.below {
            host.strip_suffix(self.name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.name
        };
        (named && port == self.port).then_some(self.policy)
    }
}

impl FromStr for AllowedHost {
    type Err = AllowedHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AllowedHostError(text.chars().take(200).collect());
        let (below, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        if rest.contains(['/', '?', '#', '@', '\\', '*', '%']) {
            return Err(wrong());
        }
        let (host, port) = target(rest).ok_or_else(wrong)?;
        let port = port.unwrap_or(HTTPS);
        let ip = host.parse::<IpAddr>().ok();
        if below && ip.is_some() {
            return Err(wrong());
        }
        // Who writes an address of this machine or of a private network means it.
        let local = host == "localhost" || host.ends_with(".localhost");
        let policy = EgressPolicy {
            allow_http: true,
            allow_loopback: local || ip.is_some_and(|ip| ip.is_loopback()),
            allow_private: ip.is_some_and(|ip| match ip {
                IpAddr::V4(ip) => ip.is_private(),
                IpAddr::V6(ip) => ip.is_unique_local(),
            }),
            allow_metadata: false,
        };
        Ok(Self { name: host, port, below, policy })
    }
}

/// Host and port of an authority, the host as URLs have it: lower case, numbers as the address they stand for.
pub(super) fn target(authority: &str) -> Option<(String, Option<u16>)> {
    if authority.contains(['@', '/', '\\', '?', '#']) {
        return None;
    }
    // The port must survive, and a URL drops the one of its scheme.
    let (bare, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            (host, Some(port.parse().ok().filter(|port| digits && *port != 0)?))
        }
        _ => (authority, None),
    };
    let url = Url::parse(&format!("http://{bare}/")).ok()?;
    let host = match url.host()? {
        Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_what_it_says_and_nothing_that_merely_looks_like_it() {
        for (entry, host, port, covered) in [
            ("api.example.com", "api.example.com", 443, true),
            ("API.Example.com.", "api.example.com", 443, true),
            ("api.example.com", "api.example.com", 80, false),
            ("api.example.com:80", "api.example.com", 80, true),
            ("api.example.com", "evil-api.example.com", 443, false),
            ("api.example.com", "api.example.com.evil.test", 443, false),
            ("*.example.com", "a.b.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*.example.com", ".example.com", 443, false),
            ("*.example.com", "evilexample.com", 443, false),
            ("127.0.0.1:9000", "127.0.0.1", 9000, true),
            ("[::1]:9000", "::1", 9000, true),
        ] {
            let entry: AllowedHost = entry.parse().unwrap();
            assert_eq!(entry.covers(host, port).is_some(), covered, "{entry:?} {host}:{port}");
        }
    }

    #[test]
    fn only_a_written_address_opens_this_machine_or_a_private_network() {
        let policy = |text: &str| text.parse::<AllowedHost>().unwrap().policy;
        assert!(policy("localhost:1").allow_loopback && policy("127.0.0.1").allow_loopback);
        assert!(policy("10.0.0.7").allow_private && !policy("10.0.0.7").allow_loopback);
        let plain = policy("db.internal.example");
        assert!(!plain.allow_loopback && !plain.allow_private);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "*",
            "*.",
            "http://a.test",
            "a.test/x",
            "u@a.test",
            "a.test:0",
            "a.test:99999",
            "*.10.0.0.1",
            "a b",
        ] {
            assert!(text.parse::<AllowedHost>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_in_disguise_is_read_as_the_address() {
        for text in ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"] {
            assert_eq!(target(text), Some(("127.0.0.1".to_owned(), None)), "{text}");
        }
        assert_eq!(target("[::ffff:169.254.169.254]:80").map(|found| found.1), Some(Some(80)));
    }
}
