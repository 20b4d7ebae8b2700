//! Which addresses the gateway may connect to. A URL is checked as text, then every address that its name
//! resolves to, then exactly one of those is connected to: nothing is looked up twice, so a name that changes
//! its answer in between gains nothing.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;
use url::{Host, Url};

/// What outbound connections are allowed to reach beyond public addresses. The default is the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Plain `http:` is allowed besides `https:`.
    pub allow_http: bool,
    /// Loopback addresses and `localhost` names are allowed.
    pub allow_loopback: bool,
    /// Private networks (RFC 1918, RFC 4193, carrier-grade NAT) are allowed. Link-local addresses and the
    /// metadata services of clouds stay refused: they hand out credentials to whoever asks.
    pub allow_private: bool,
    /// The addresses where the platform tells a workload who it is: those of AWS, for the gateway's own use alone.
    pub allow_metadata: bool,
}

impl EgressPolicy {
    /// Public addresses and these; in the clear only to what is not public.
    #[must_use]
    pub const fn of(loopback: bool, private: bool) -> Self {
        Self {
            allow_http: loopback || private,
            allow_loopback: loopback,
            allow_private: private,
            allow_metadata: false,
        }
    }

    /// The same with the addresses where the platform tells a workload who it is, which speak plain HTTP.
    #[must_use]
    pub const fn with_metadata(self) -> Self {
        Self { allow_http: true, allow_metadata: true, ..self }
    }

    /// The same with what `url` names: an operator who writes a literal address or `localhost` means exactly that kind of
    /// address.
    #[must_use]
    pub fn naming(self, url: &Url) -> Self {
        let (loopback, private) = match url.host() {
            Some(Host::Domain(name)) => (name == "localhost" || name.ends_with(".localhost"), false),
            Some(Host::Ipv4(ip)) => (ip.is_loopback(), ip.is_private()),
            Some(Host::Ipv6(ip)) => (ip.is_loopback(), ip.is_unique_local()),
            None => (false, false),
        };
        Self::of(self.allow_loopback || loopback, self.allow_private || private)
    }
}

/// Why the guard refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GuardError {
    /// The name resolves to an address that is not allowed, or the URL names such an address.
    #[error("address `{0}` is not allowed: {1}")]
    Address(IpAddr, &'static str),
    /// The URL carries a user name or a password.
    #[error("a URL with user name or password is not allowed")]
    Credentials,
    /// The URL has a fragment, which is never sent and only serves to deceive a reader.
    #[error("a URL with a fragment is not allowed")]
    Fragment,
    /// The name is never allowed, or only with loopback.
    #[error("host name `{0}` is not allowed")]
    Name(String),
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The text is no absolute URL as RFC 3986 writes it.
    #[error("`{0}` is not a well-formed absolute URL")]
    Malformed(String),
    /// The scheme is not allowed.
    #[error("scheme `{0}` is not allowed")]
    Scheme(String),
    /// The name resolves to nothing.
    #[error("host name `{0}` has no address")]
    Unresolved(String),
}

/// Reads a URL strictly and checks it against `policy`.
///
/// The WHATWG parser repairs what people and browsers get wrong (`http:\\a`, `http:a`, stray tabs). Two readers that
/// repair differently disagree about the host, so what needs repair is refused.
pub fn parse_url(text: &str, policy: &EgressPolicy) -> Result<Url, GuardError> {
    let malformed = || GuardError::Malformed(text.chars().take(200).collect());
    if text.chars().any(|c| c == '\\' || c.is_control() || c.is_whitespace()) {
        return Err(malformed());
    }
    let (scheme, rest) = text.split_once(':').ok_or_else(malformed)?;
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        return Err(GuardError::Scheme(scheme.chars().take(40).collect()));
    }
    let rest = rest.strip_prefix("//").ok_or_else(malformed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('%') {
        return Err(malformed());
    }
    let url = Url::parse(text).map_err(|_| malformed())?;
    check_url(&url, policy)?;
    Ok(url)
}

/// Checks what can be known before the name is resolved.
pub fn check_url(url: &Url, policy: &EgressPolicy) -> Result<(), GuardError> {
    match url.scheme() {
        "https" => {}
        "http" if policy.allow_http => {}
        other => return Err(GuardError::Scheme(other.to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(GuardError::Credentials);
    }
    if url.fragment().is_some() {
        return Err(GuardError::Fragment);
    }
    match url.host() {
        Some(Host::Ipv4(ip)) => check_ip(ip.into(), policy),
        Some(Host::Ipv6(ip)) => check_ip(ip.into(), policy),
        Some(Host::Domain(name)) => check_name(name, policy),
        None => Err(GuardError::NoHost),
    }
}

/// Whether a connection to `ip` is allowed.
#[must_use]
pub fn allowed(ip: IpAddr, policy: &EgressPolicy) -> bool {
    check_ip(ip, policy).is_ok()
}

/// Whether a connection to `ip` is allowed, and if not, what the address is.
pub fn check_ip(ip: IpAddr, policy: &EgressPolicy) -> Result<(), GuardError> {
    let verdict = match ip {
        IpAddr::V4(v4) => judge_v4(v4, policy),
        IpAddr::V6(v6) => judge_v6(v6, policy),
    };
    verdict.map_err(|why| GuardError::Address(ip, why))
}

/// Names that stand for this host or for a metadata service, whatever a resolver says about them.
fn check_name(name: &str, policy: &EgressPolicy) -> Result<(), GuardError> {
    let plain = name.trim_end_matches('.').to_ascii_lowercase();
    let refused = || Err(GuardError::Name(plain.clone()));
    if plain.is_empty() {
        return refused();
    }
    if plain == "localhost" || plain.ends_with(".localhost") {
        return if policy.allow_loopback { Ok(()) } else { refused() };
    }
    const METADATA: [&str; 5] =
        ["metadata", "metadata.google.internal", "metadata.goog", "metadata.azure.internal", "instance-data"];
    if METADATA.contains(&plain.as_str()) || plain.starts_with("instance-data.") {
        return refused();
    }
    Ok(())
}

/// What may be done with a range.
#[derive(Clone, Copy)]
enum Access {
    Loopback,
    Metadata,
    Never,
    Private,
}

struct Range {
    net: IpNet,
    access: Access,
    what: &'static str,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8, access: Access, what: &'static str) -> Range {
    Range { net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)), access, what }
}

const fn v6(head: [u16; 3], length: u8, access: Access, what: &'static str) -> Range {
    let [a, b, c] = head;
    Range { net: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)), access, what }
}

/// The special-purpose registries of IANA, and single addresses where clouds answer with credentials. The first
/// match decides, so single addresses come before the networks they lie in.
static RANGES: LazyLock<[Range; 47]> = LazyLock::new(|| {
    use Access::{Loopback, Metadata, Never, Private};
    [
        v4(169, 254, 169, 254, 32, Metadata, "link-local"),
        v4(169, 254, 170, 2, 32, Metadata, "link-local"),
        v4(169, 254, 170, 23, 32, Metadata, "link-local"),
        v4(100, 100, 100, 200, 32, Never, "cloud metadata service"),
        v4(168, 63, 129, 16, 32, Never, "cloud wire server"),
        v4(192, 0, 0, 192, 32, Never, "cloud metadata service"),
        v4(0, 0, 0, 0, 8, Never, "this network"),
        v4(10, 0, 0, 0, 8, Private, "private network"),
        v4(100, 64, 0, 0, 10, Private, "carrier-grade NAT"),
        v4(127, 0, 0, 0, 8, Loopback, "loopback"),
        v4(169, 254, 0, 0, 16, Never, "link-local"),
        v4(172, 16, 0, 0, 12, Private, "private network"),
        v4(192, 0, 0, 0, 24, Never, "protocol assignments"),
        v4(192, 0, 2, 0, 24, Never, "documentation"),
        v4(192, 31, 196, 0, 24, Never, "AS112"),
        v4(192, 52, 193, 0, 24, Never, "AMT"),
        v4(192, 88, 99, 0, 24, Never, "6to4 relay"),
        v4(192, 168, 0, 0, 16, Private, "private network"),
        v4(192, 175, 48, 0, 24, Never, "AS112"),
        v4(198, 18, 0, 0, 15, Never, "benchmarking"),
        v4(198, 51, 100, 0, 24, Never, "documentation"),
        v4(203, 0, 113, 0, 24, Never, "documentation"),
        v4(224, 0, 0, 0, 4, Never, "multicast"),
        v4(240, 0, 0, 0, 4, Never, "reserved"),
        v6([0xfd00, 0x0ec2, 0], 32, Never, "cloud metadata service"),
        v6([0xfd20, 0x00ce, 0], 32, Never, "cloud metadata service"),
        v6([0x0064, 0xff9b, 0x0001], 48, Never, "local NAT64"),
        v6([0x0100, 0, 0], 64, Never, "discard-only"),
        v6([0x0100, 0, 0], 48, Never, "dummy prefix"),
        v6([0x2001, 0x0000, 0], 32, Never, "Teredo"),
        v6([0x2001, 0x0002, 0], 48, Never, "benchmarking"),
        v6([0x2001, 0x0003, 0], 32, Never, "AMT"),
        v6([0x2001, 0x0004, 0x0112], 48, Never, "AS112"),
        v6([0x2001, 0x0010, 0], 28, Never, "ORCHID"),
        v6([0x2001, 0x0020, 0], 28, Never, "ORCHIDv2"),
        v6([0x2001, 0x0030, 0], 28, Never, "drone remote ids"),
        v6([0x2001, 0x0db8, 0], 32, Never, "documentation"),
        v6([0x2001, 0, 0], 23, Never, "protocol assignments"),
        v6([0x2002, 0, 0], 16, Never, "6to4"),
        v6([0x2620, 0x004f, 0x8000], 48, Never, "AS112"),
        v6([0x3fff, 0, 0], 20, Never, "documentation"),
        v6([0x5f00, 0, 0], 16, Never, "segment routing"),
        v6([0xfc00, 0, 0], 7, Private, "private network"),
        v6([0xfe80, 0, 0], 10, Never, "link-local"),
        v6([0xfec0, 0, 0], 10, Never, "site-local"),
        v6([0xff00, 0, 0], 8, Never, "multicast"),
        v6([0, 0, 0], 8, Never, "reserved"),
    ]
});

fn judge_v4(ip: Ipv4Addr, policy: &EgressPolicy) -> Result<(), &'static str> {
    judge(ip.into(), policy)
}

fn judge_v6(ip: Ipv6Addr, policy: &EgressPolicy) -> Result<(), &'static str> {
    if ip == Ipv6Addr::LOCALHOST {
        return if policy.allow_loopback { Ok(()) } else { Err("loopback") };
    }
    // The kernel connects a mapped address over IPv4, and a NAT64 gateway does so on our behalf: what counts is
    // the IPv4 address inside.
    if let Some(inner) = ip.to_ipv4_mapped() {
        return judge_v4(inner, policy);
    }
    let octets = ip.octets();
    if let [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] = octets {
        return judge_v4(Ipv4Addr::new(a, b, c, d), policy).and_then(|()| global_unicast_only(a));
    }
    judge(ip.into(), policy)?;
    // Only 2000::/3 is assigned for global unicast; private networks were allowed above.
    let [first, ..] = ip.segments();
    if (0x2000..0x4000).contains(&first) || (0xfc00..0xfe00).contains(&first) {
        Ok(())
    } else {
        Err("outside of global unicast")
    }
}

/// A NAT64 gateway has no business with any loopback, ours or its own.
fn global_unicast_only(first: u8) -> Result<(), &'static str> {
    if first == 127 { Err("loopback behind NAT64") } else { Ok(()) }
}

fn judge(ip: IpAddr, policy: &EgressPolicy) -> Result<(), &'static str> {
    let Some(range) = RANGES.iter().find(|range| range.net.contains(&ip)) else {
        return Ok(());
    };
    let allowed = match range.access {
        Access::Loopback => policy.allow_loopback,
        Access::Metadata => policy.allow_metadata,
        Access::Never => false,
        Access::Private => policy.allow_private,
    };
    if allowed { Ok(()) } else { Err(range.what) }
}
