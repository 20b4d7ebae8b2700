//! Names and addresses of machines: which are declared, and which lead into a network that is not public.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ::url::Host;

use crate::{lower, printable};

/// Bytes of a name in the DNS.
const BYTES_MAX: usize = 253;
/// Names that mean machines of the own network, and those that public DNS answers with any address written in them.
const INWARD: &[&str] = &[
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "lan",
    "home.arpa",
    "corp",
    "home",
    "private",
    "nip.io",
    "sslip.io",
    "xip.io",
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "lacolhost.com",
    "1u.ms",
    "rebind.it",
    "rebind.network",
    "ip6.name",
    "traefik.me",
    "rbndr.us",
];

/// Machines by name: one, or with `*.` before it all below it, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    below: bool,
    /// Empty for all.
    name: String,
}

impl FromStr for HostPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self { below: true, name: String::new() });
        }
        let below = text.strip_prefix("*.");
        let host = host(below.unwrap_or(text)).map_err(|_| "is no name or address of a machine")?;
        match (below, &host) {
            (Some(_), Host::Ipv4(_) | Host::Ipv6(_)) => Err("is an address, which has nothing below it"),
            _ => Ok(Self { below: below.is_some(), name: host.to_string() }),
        }
    }
}

impl HostPattern {
    /// Whether one of `all` is the machine of that name.
    pub(crate) fn any(all: &[Self], host: &str) -> bool {
        all.iter().any(|pattern| pattern.matches(host))
    }

    fn matches(&self, host: &str) -> bool {
        if self.name.is_empty() {
            return true;
        }
        if !self.below {
            return host == self.name;
        }
        host.strip_suffix(&*self.name).is_some_and(|before| before.ends_with('.') && before.len() > 1)
    }
}

/// Machines that may be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    /// Those that are declared.
    pub to: Vec<HostPattern>,
    /// Whether machines count that are not public, where no pattern without a star names them.
    pub private: bool,
}

impl HostRule {
    pub(crate) fn check(&self, text: &str) -> Result<(), &'static str> {
        self.allows(&host(printable(text, BYTES_MAX)?)?)
    }

    pub(crate) fn allows(&self, host: &Host<String>) -> Result<(), &'static str> {
        let name = host.to_string();
        if self.to.iter().any(|pattern| !pattern.below && pattern.matches(&name)) {
            return Ok(());
        }
        if !self.to.iter().any(|pattern| pattern.matches(&name)) {
            return Err("names a host that is not declared");
        }
        let public = match host {
            Host::Domain(name) => is_public_name(name),
            Host::Ipv4(address) => is_public(IpAddr::V4(*address)),
            Host::Ipv6(address) => is_public(IpAddr::V6(*address)),
        };
        if public || self.private { Ok(()) } else { Err("names a host that is not public") }
    }
}

/// A host that is written as every reader takes it: ASCII, addresses in their usual form.
pub(crate) fn host(text: &str) -> Result<Host<String>, &'static str> {
    const ODD: &str = "names a host in a form that readers take differently";
    let written = lower(text.strip_suffix('.').unwrap_or(text));
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let bracketed = written.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    if let Some(address) = bracketed.or_else(|| written.contains(':').then_some(&*written)) {
        return address.parse::<Ipv6Addr>().map(Host::Ipv6).map_err(|_| ODD);
    }
    let whole =
        written.split('.').all(|label| !label.is_empty() && label.len() <= 63 && !label.starts_with('-'));
    if written.is_empty() || !whole || !written.bytes().all(plain) {
        return Err(ODD);
    }
    // `2130706433`, `0x7f.1` and `0177.0.0.1` become addresses here, and are then written otherwise.
    let host = Host::parse(&written).map_err(|_| ODD)?;
    if host.to_string() == written { Ok(host) } else { Err(ODD) }
}

fn is_public_name(name: &str) -> bool {
    let inward = |known: &&str| name == *known || name.ends_with(&format!(".{known}"));
    // A name without a dot is looked up in the own domain.
    name.contains('.') && !INWARD.iter().any(inward)
}

/// Whether an address is one of the public internet (IANA special-purpose registries), also where it holds another.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        // Where Azure machines ask for their settings.
        || address == Ipv4Addr::new(168, 63, 129, 16);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, ..] = segments;
    let held = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if let Some(v4) = address.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    match segments {
        // NAT64 and 6to4 hold an address of the other kind.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => held(high, low),
        _ => {
            let global = first & 0xe000 == 0x2000;
            let special = first == 0x2001 && (second < 0x200 || second == 0xdb8) || first == 0x3fff;
            global && !special
        }
    }
}

/// Declared names as text, for messages to the operator.
pub(crate) fn patterns<'t>(
    texts: impl IntoIterator<Item = &'t str>,
) -> Result<Vec<HostPattern>, &'static str> {
    texts.into_iter().map(str::parse).collect()
}

impl HostRule {
    /// A rule for these machines.
    ///
    /// # Errors
    /// What is wrong with a pattern.
    pub fn new<'t>(to: impl IntoIterator<Item = &'t str>, private: bool) -> Result<Self, &'static str> {
        let to = patterns(to)?;
        if to.is_empty() { Err("names no host") } else { Ok(Self { to, private }) }
    }
}
