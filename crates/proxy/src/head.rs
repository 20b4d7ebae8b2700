//! The head of an HTTP request, read once: addresses, credentials and MCP headers as owned strings, so that every
//! later stage works on the same reading.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use portcullis_mcp::revision::McpHeaders;
use portcullis_net::tls::PeerCertificate;
use portcullis_upstream::{
    Verb,
    headers::{METHOD, SESSION, VERSION},
};

/// Prefix of headers that mirror arguments (specification 2026-07-28, transports, "Custom Headers").
pub(crate) const PARAM_PREFIX: &str = "mcp-param-";
/// The mirrored name or URI.
pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Which event a broken stream ended with (2025-11-25).
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The head of a request to an MCP endpoint.
#[derive(Clone, Debug)]
pub struct Head {
    /// Which HTTP method.
    pub verb: Verb,
    /// The `{server}` of the route.
    pub server: String,
    /// Where it came from.
    pub source: IpAddr,
    /// All headers, as they came.
    pub headers: HeaderMap,
    /// The certificate that the client has shown, where the connection has one.
    pub certificate: Option<PeerCertificate>,
}

impl Head {
    /// The one value of a header as text; `None` when absent, repeated or not visible ASCII.
    #[must_use]
    pub fn one(&self, name: &HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        if values.next().is_some() { None } else { first.to_str().ok().map(str::trim) }
    }

    /// The MCP headers.
    #[must_use]
    pub fn mcp(&self) -> McpHeaders<'_> {
        let params = self
            .headers
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().strip_prefix(PARAM_PREFIX)?, value.to_str().unwrap_or("\u{fffd}").trim()))
            })
            .collect();
        McpHeaders {
            protocol_version: self.one(&VERSION),
            method: self.one(&METHOD),
            name: self.one(&NAME),
            session_id: self.one(&SESSION),
            params,
            repeated: self.unreadable(),
        }
    }

    /// The first MCP header that is repeated or is not text: two readers could disagree about it.
    fn unreadable(&self) -> Option<&'static str> {
        let single = [
            (VERSION, "MCP-Protocol-Version"),
            (METHOD, "Mcp-Method"),
            (NAME, "Mcp-Name"),
            (SESSION, "Mcp-Session-Id"),
        ];
        single
            .into_iter()
            .find(|(name, _)| self.headers.contains_key(name) && self.one(name).is_none())
            .map(|(_, text)| text)
            .or_else(|| {
                let repeated = self
                    .headers
                    .keys()
                    .filter(|name| name.as_str().starts_with(PARAM_PREFIX))
                    .any(|name| self.one(name).is_none());
                repeated.then_some("Mcp-Param-*")
            })
    }

    /// Whether the `Accept` header names `media` or a range that holds it.
    #[must_use]
    pub fn accepts(&self, media: &str) -> bool {
        let range = media.split('/').next().map(|kind| format!("{kind}/*")).unwrap_or_default();
        let mut named = false;
        for value in self.headers.get_all(header::ACCEPT) {
            for part in value.to_str().unwrap_or_default().split(',') {
                let part = part.split(';').next().unwrap_or_default().trim();
                named |=
                    part == "*/*" || part.eq_ignore_ascii_case(media) || part.eq_ignore_ascii_case(&range);
            }
        }
        named
    }
}
