//! IP addresses, versions 4 and 6, but those that mean no machine in particular; private ones only where they are
//! called so.

use alloc::boxed::Box;
use core::net::{Ipv4Addr, Ipv6Addr};

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "ip_address",
    doc: "IP addresses (4 and 6), but loopback and the like.",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const LABELS: &[&str] =
    &["ip", "ipv4", "ipv6", "ip address", "ipaddress", "addr", "client", "remote", "peer", "host"];

const SCHEMES: &[Scheme] = &[
    Scheme { labels: LABELS, lead: Lead::Digit, form: Form::Word((1, 3), four) },
    Scheme { labels: LABELS, lead: Lead::Any, form: Form::Word((1, 4), six) },
];

fn four(look: &Look<'_>) -> Option<Value> {
    let start = look.word.start;
    let dotted = look.groups.count() >= 4 && (0..3).all(|index| look.groups.separator(index) == b'.');
    if !dotted || matches!(look.groups.separator(3), b'.' | b'-') {
        return None;
    }
    let end = start + (0..4).map(|index| look.groups.size(index)).sum::<usize>() + 3;
    // A path before it is that of a product: `Chrome/120.0.6099.109`.
    let product = look.before(start) == b'/' && look.before(start.saturating_sub(1)).is_ascii_alphabetic();
    let before = look.before(start);
    if product || before.is_ascii_alphanumeric() || matches!(before, b'.' | b'_' | b'-') {
        return None;
    }
    if look.byte(end).is_ascii_alphanumeric() || matches!(look.byte(end), b'_') {
        return None;
    }
    // What is left of an address that was generalised, or any other network, is no machine.
    if look.bytes.get(end - 2..end + 3) == Some(b".0/24") && !look.byte(end + 3).is_ascii_digit() {
        return None;
    }
    let address: Ipv4Addr = core::str::from_utf8(look.bytes.get(start..end)?).ok()?.parse().ok()?;
    let nobody = address.is_loopback()
        || address.is_broadcast()
        || address.is_multicast()
        || matches!(address.octets(), [0 | 255, ..] | [.., 0, 0]);
    let alone = !address.is_private() && !address.is_documentation() && !address.is_link_local();
    (!nobody).then_some(Value { range: start..end, alone })
}

fn six(look: &Look<'_>) -> Option<Value> {
    let fits = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    if look.byte(look.word.end) != b':' && look.before(look.word.start) != b':' {
        return None;
    }
    let start = look.run_back(look.word.start, 40, fits);
    let end = look.run(start, 48, |byte| fits(byte) || byte == b'.');
    let text = core::str::from_utf8(look.bytes.get(start..end)?).ok()?.trim_end_matches(['.', ':']);
    let end = start + text.len();
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    if groups < 4 || look.before(start).is_ascii_alphanumeric() || look.byte(end).is_ascii_alphanumeric() {
        return None;
    }
    let address: Ipv6Addr = text.parse().ok()?;
    let nobody = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    (!nobody).then_some(Value { range: start..end, alone: true })
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_addresses_of_machines() {
        for (text, expected) in [
            ("login ok ip=147.191.73.85 ua", "147.191.73.85"),
            ("http://8.8.4.4:53/x and 1.1.1.1/32", "8.8.4.4|1.1.1.1"),
            ("client 192.168.4.17", "192.168.4.17"),
            ("from fade:7a8:1234:23:0:0:12:2e3e.", "fade:7a8:1234:23:0:0:12:2e3e"),
            ("[2001:db8:85a3::8a2e:370:7334]:80", "2001:db8:85a3::8a2e:370:7334"),
        ] {
            found("ip_address", text, expected);
        }
    }

    #[test]
    fn leaves_versions_loopback_and_times() {
        for text in [
            "Version 10.4.128.3 of the driver",
            "Chrome/120.0.6099.109",
            "127.0.0.1:8080 and 0.0.0.0:9090",
            "1.2.3.4.5",
            "v1.2.3.4",
            "256.1.1.1",
            "010.1.1.1",
            "10:12:33",
            "std::a1::b2",
            "10.0.0.7",
            "route 147.191.73.0/24 via eth0",
        ] {
            nothing("ip_address", text);
        }
    }
}
