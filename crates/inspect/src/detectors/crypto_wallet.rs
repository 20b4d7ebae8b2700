//! Addresses of crypto wallets: Base58Check and Bech32 with checksums that hold, and those of Ethereum.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "crypto_wallet",
    doc: "Addresses of crypto wallets (Base58Check, Bech32, Ethereum).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &["wallet", "bitcoin", "btc", "ethereum", "eth", "crypto"],
    lead: Lead::Any,
    form: Form::Word((14, 90), read),
}];

fn read(look: &Look<'_>) -> Option<Value> {
    let word = look.text();
    let hex = |text: &[u8]| text.len() == 40 && text.iter().all(u8::is_ascii_hexdigit);
    let starts = |kinds: &[&str]| {
        kinds.iter().any(|kind| {
            word.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes()))
        })
    };
    let known = match word {
        [b'0', b'x' | b'X', hex_digits @ ..] => hex(hex_digits),
        _ if (14..=90).contains(&word.len()) && starts(&["bc1", "tb1", "ltc1", "addr1", "cosmos1"]) => {
            check::bech32(word)
        }
        [b'1' | b'3' | b'L' | b'M' | b'D' | b'T' | b'A' | b'9', ..] if (26..=35).contains(&word.len()) => {
            check::base58(word)
        }
        _ => false,
    };
    let begun = look.before(look.word.start);
    let joined = begun == b'_' || look.byte(look.word.end) == b'_';
    (known && !joined).then_some(Value { range: look.word.clone(), alone: true })
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_addresses_whose_checksum_holds() {
        for text in [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
            "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "0x52908400098527886E0F7030069857D2E4169EE7",
        ] {
            found("crypto_wallet", &alloc::format!("send to {text}."), text);
        }
    }

    #[test]
    fn leaves_wrong_checksums_and_other_hex() {
        for text in [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
            "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdp",
            "0x52908400098527886E0F7030069857D2E4169EE",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        ] {
            nothing("crypto_wallet", text);
        }
    }
}
