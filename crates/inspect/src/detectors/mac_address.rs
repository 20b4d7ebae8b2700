//! Addresses of network interfaces (IEEE 802): six pairs of hex digits, or three groups of four.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "mac_address",
    doc: "Addresses of network interfaces (MAC).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &["mac", "mac address", "macaddress", "bssid", "ether"],
    lead: Lead::Any,
    form: Form::Word((2, 4), read),
}];

fn read(look: &Look<'_>) -> Option<Value> {
    let separator = match (look.word.len(), look.byte(look.word.end), look.before(look.word.start)) {
        (2, sign @ (b':' | b'-'), _) | (2, _, sign @ (b':' | b'-')) => sign,
        (4, b'.', _) | (4, _, b'.') => b'.',
        _ => return None,
    };
    let fits = |byte: u8| byte.is_ascii_hexdigit() || byte == separator;
    let start = look.run_back(look.word.start, 18, fits);
    let end = look.run(start, 18, fits);
    let text = look.bytes.get(start..end)?;
    let size = if separator == b'.' { 4 } else { 2 };
    let count = text.split(|byte| *byte == separator).filter(|group| group.len() == size).count();
    let nobody = text.iter().all(|byte| matches!(byte, b'0' | b':' | b'-' | b'.'))
        || text.iter().all(|byte| matches!(byte, b'f' | b'F' | b':' | b'-' | b'.'));
    let length = if separator == b'.' { 14 } else { 17 };
    if text.len() != length || count * size != 12 || nobody {
        return None;
    }
    let range = look.whole(start..end)?;
    Some(Value { range, alone: separator != b'.' })
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_addresses_of_every_form() {
        for (text, expected) in [
            ("ether 3c:22:fb:9a:01:7e txqueuelen", "3c:22:fb:9a:01:7e"),
            ("AA-BB-CC-12-34-56", "AA-BB-CC-12-34-56"),
            ("MAC 3c22.fb9a.017e", "3c22.fb9a.017e"),
        ] {
            found("mac_address", text, expected);
        }
    }

    #[test]
    fn leaves_other_hex() {
        for text in
            ["00:00:00:00:00:00", "3c:22:fb:9a:01", "3c:22:fb:9a:01:7e:11", "10:12:33", "3c22.fb9a.017e"]
        {
            nothing("mac_address", text);
        }
    }
}
