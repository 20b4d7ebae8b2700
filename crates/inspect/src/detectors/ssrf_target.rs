//! Targets of server-side request forgery: the machine itself, what only its network reaches, metadata of clouds, in
//! every form of an address, and schemes that speak to other services.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "ssrf_target",
    doc: "URLs of the machine itself, of private networks and of metadata services, and schemes that reach other services, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// Schemes that speak to services that a URL has no business with.
const SCHEMES: &[&str] = &[
    "gopher", "dict", "ldap", "ldaps", "tftp", "jar", "netdoc", "php", "phar", "expect", "zip", "glob",
    "ogg", "rar", "smb", "imap", "pop3", "telnet", "ssh2",
];

/// Names of machines that only a network's own members reach.
const HOSTS: &[&str] = &[
    "localhost",
    "localhost.localdomain",
    "metadata",
    "metadata.google.internal",
    "instance-data",
    "metadata.azure.com",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "host.docker.internal",
    "gateway.docker.internal",
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "metadata.packet.net",
    "metadata.tencentyun.com",
    "ip6-localhost",
    "loopback",
    "spoofed.burpcollaborator.net",
    "metadata.oraclecloud.com",
];

/// Domains that answer with the address that stands in the name.
const MIRRORS: &[&str] = &[
    ".nip.io",
    ".xip.io",
    ".sslip.io",
    ".localtest.me",
    ".lvh.me",
    ".localhost",
    ".1u.ms",
    ".rbndr.us",
    ".rebind.it",
    ".rebind.network",
    ".ip6.name",
    ".traefik.me",
    ".burpcollaborator.net",
    ".svc.cluster.local",
];

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    let mut best = 0;
    let mut from = 0;
    while let Some(colon) = memchr::memchr(b':', text.get(from..).unwrap_or_default()).map(|at| from + at) {
        from = colon + 1;
        let before = text.get(..colon).unwrap_or_default();
        let length = before.iter().rev().take(12).take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let scheme = before.get(before.len() - length..).unwrap_or_default();
        let rest = text.get(colon + 1..).unwrap_or_default();
        best = best.max(url(scheme, rest));
    }
    match best {
        // Commands and documents name such addresses for good reasons.
        best if argument.is_command() || argument.is_long() || argument.is_prose() => best / 4,
        best => best,
    }
}

fn url(scheme: &[u8], rest: &[u8]) -> u16 {
    let slashes = rest.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    let known = SCHEMES.iter().any(|one| scheme == one.as_bytes());
    match scheme {
        b"file" if slashes > 0 => return 850,
        _ if known && slashes >= 2 => return 950,
        b"php" | b"jar" | b"netdoc" | b"phar" | b"expect" if known => return 850,
        b"http" | b"https" | b"ftp" | b"ws" | b"wss" | b"sftp" if slashes >= 1 => {}
        _ => return 0,
    }
    let rest = rest.get(slashes..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b' ' | b'"' | b'\'' | b'>' | b'\n'))
        .unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    // What one parser takes for the host, another takes for a user.
    let twofold = authority.iter().filter(|byte| **byte == b'@').count() > 1
        || authority.iter().any(|byte| matches!(byte, b'\\' | b'#'));
    let hosts = authority.split(|byte| matches!(byte, b'@' | b'\\' | b'#'));
    let host_score = hosts.map(host).max().unwrap_or_default();
    let user = memchr::memchr(b'@', authority).is_some();
    match host_score {
        0 if twofold && user => 700,
        0 => 0,
        score if twofold => score.max(900),
        score => score,
    }
}

fn host(text: &[u8]) -> u16 {
    if let Some(inner) = text.strip_prefix(b"[") {
        let end = memchr::memchr(b']', inner).unwrap_or(inner.len());
        return six(inner.get(..end).unwrap_or_default());
    }
    let end = memchr::memchr(b':', text).unwrap_or(text.len());
    let mut name = text.get(..end).unwrap_or_default();
    while let [rest @ .., b'.'] = name {
        name = rest;
    }
    if HOSTS.iter().any(|host| name == host.as_bytes()) {
        return 850;
    }
    if MIRRORS.iter().any(|mirror| name.ends_with(mirror.as_bytes())) {
        return 850;
    }
    if !name.is_ascii() && name.contains(&0xe2) {
        // Digits in circles and dots of other alphabets become an address.
        return 850;
    }
    number(name).map_or(0, |(address, plain)| four(address, plain))
}

/// What the functions of the C library make of a name of digits: up to four parts, decimal, octal or hex.
fn number(name: &[u8]) -> Option<(u32, bool)> {
    if !name.first()?.is_ascii_digit() {
        return None;
    }
    let (mut count, mut plain) = (0, true);
    let mut parts = [0_u64; 4];
    for text in name.split(|byte| *byte == b'.') {
        let (radix, digits) = match text {
            [b'0', b'x', digits @ ..] => (16, digits),
            [b'0', digits @ ..] if !digits.is_empty() => (8, digits),
            digits => (10, digits),
        };
        plain &= radix == 10;
        if digits.is_empty() || digits.len() > 16 {
            return None;
        }
        let value = digits.iter().try_fold(0_u64, |value, digit| {
            Some(value * radix + u64::from(char::from(*digit).to_digit(radix as u32)?))
        })?;
        *parts.get_mut(count)? = value;
        count += 1;
    }
    let (last, first) = parts.get(..count)?.split_last()?;
    let address =
        first.iter().enumerate().fold(*last, |address, (index, part)| address + (part << (24 - index * 8)));
    Some(((address & 0xffff_ffff) as u32, plain && count == 4))
}

fn four(address: u32, plain: bool) -> u16 {
    let ip = core::net::Ipv4Addr::from_bits(address);
    let own =
        ip.is_loopback() || ip.is_unspecified() || ip.is_link_local() || ip.octets() == [100, 100, 100, 200];
    match (own, plain) {
        (true, _) => 950,
        // Nobody writes an address so but to get past a filter.
        (_, false) => 900,
        _ if ip.octets().first() == Some(&0) => 850,
        _ if ip.is_private() => 400,
        _ => 0,
    }
}

fn six(text: &[u8]) -> u16 {
    let text = core::str::from_utf8(text).unwrap_or_default();
    let text = text.split('%').next().unwrap_or_default();
    let Ok(ip) = text.parse::<core::net::Ipv6Addr>() else { return 500 };
    let within = ip.to_ipv4().map(|ip| four(ip.to_bits(), true));
    let [first, ..] = ip.segments();
    match within {
        _ if ip.is_loopback() || ip.is_unspecified() => 950,
        Some(score) => score.max(700),
        None if matches!(first, 0xfe80..=0xfebf | 0xfc00..=0xfdff | 0x64 | 0x2002) => 850,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_every_form_of_an_address_and_schemes_that_reach_further() {
        for text in [
            "http://169.254.169.254/latest/meta-data/",
            "http://127.0.0.1:2375/v1.24/containers/json",
            "http://127.1",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://localhost:9001/x",
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://169.254.169.254.nip.io/",
            "http://user@127.0.0.1/",
            "http://1.1.1.1\\@169.254.169.254/",
            "gopher://127.0.0.1:3306/_x",
            "dict://internal:11211/stat",
            "file:///etc/passwd",
            "http://127.127.127.127",
            "http%3A%2F%2F127.0.0.1%2F",
        ] {
            attacks("ssrf_target", "url", text);
        }
    }

    #[test]
    fn leaves_other_urls() {
        for text in [
            "https://example.com/a?b=c:d",
            "https://192.168.1.1/api",
            "https://8.8.8.8/dns-query",
            "see https://docs.rs: it says",
            "https://user@example.com/",
            "time: 10:30",
        ] {
            harmless("ssrf_target", "url", text);
        }
        harmless("ssrf_target", "command", "curl http://localhost:3000");
    }
}
