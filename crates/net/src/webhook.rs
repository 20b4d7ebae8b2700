//! Signatures of messages between the gateway and other systems, as Standard Webhooks has them: HMAC-SHA-256 over id,
//! time and body.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_core::Timestamp;

/// The version of signatures, before each.
const VERSION: &str = "v1,";
/// So far the time of a message may be from ours.
pub const FRESH_S: u64 = 300;
/// Bytes of an id at most.
const ID_BYTES_MAX: usize = 128;
/// Signatures of one message that are looked at: two while a secret is changed.
const SIGNATURES_MAX: usize = 4;

/// The three headers of a signed message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// `webhook-id`: new for each message.
    pub id: String,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: String,
    /// `webhook-signature`: one or several, parted by spaces.
    pub signature: String,
}

/// Why a signed message counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Nobody who has the secret wrote this.
    #[error("the signature is missing or wrong")]
    Wrong,
    /// It is too old, or from the future.
    #[error("the message is older than {FRESH_S} s, or from later")]
    Stale,
    /// It came before.
    #[error("the message came before")]
    Again,
    /// So many came that it cannot be said whether it did.
    #[error("too many messages within {FRESH_S} s")]
    TooMany,
}

/// What one side signs with and both know.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(****)")
    }
}

impl Key {
    /// Of these bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The header `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let tag = hmac::sign(&self.0, &content(id, &seconds.to_string(), body));
        format!("{VERSION}{}", STANDARD.encode(tag))
    }

    /// Whether the message is of somebody who has the secret, and of now. The signature first: nobody else learns what
    /// time it is here.
    ///
    /// # Errors
    /// Why it counts for nothing.
    pub fn verify(&self, signed: &Signature, body: &[u8], now: Timestamp) -> Result<(), SignatureError> {
        let Signature { id, timestamp, signature } = signed;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(SignatureError::Wrong);
        }
        let content = content(id, timestamp, body);
        let tags = signature.split(' ').take(SIGNATURES_MAX).filter_map(|one| one.strip_prefix(VERSION));
        let mut tags = tags.filter_map(|tag| STANDARD.decode(tag).ok());
        if !tags.any(|tag| hmac::verify(&self.0, &content, &tag).is_ok()) {
            return Err(SignatureError::Wrong);
        }
        let seconds: u64 = timestamp.parse().map_err(|_| SignatureError::Stale)?;
        if seconds.abs_diff(now.seconds()) > FRESH_S { Err(SignatureError::Stale) } else { Ok(()) }
    }
}

fn content(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);
    const SECONDS: u64 = 1_790_000_000;

    fn signed(key: &Key, id: &str, seconds: u64, body: &[u8]) -> Signature {
        Signature { id: id.into(), timestamp: seconds.to_string(), signature: key.sign(id, seconds, body) }
    }

    #[test]
    fn it_is_the_signature_of_standard_webhooks() {
        // The example of the libraries of Standard Webhooks (spec/standard-webhooks.md), its secret decoded from Base64.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = Key::new(&secret).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_the_very_message_of_who_has_the_secret_counts_and_only_while_it_is_fresh() {
        let key = Key::new(&[7; 32]);
        let good = signed(&key, "id", SECONDS, b"{}");
        assert_eq!(key.verify(&good, b"{}", NOW), Ok(()));
        let with = |change: &dyn Fn(&mut Signature)| {
            let mut changed = good.clone();
            change(&mut changed);
            key.verify(&changed, b"{}", NOW)
        };
        let other = signed(&Key::new(&[8; 32]), "id", SECONDS, b"{}").signature;
        for (name, result) in [
            ("body", key.verify(&good, b"{ }", NOW)),
            ("id", with(&|signed| signed.id = "ie".into())),
            ("no id", with(&|signed| signed.id.clear())),
            ("time", with(&|signed| signed.timestamp = (SECONDS + 1).to_string())),
            ("none", with(&|signed| signed.signature.clear())),
            ("another key", with(&|signed| signed.signature.clone_from(&other))),
            ("no version", with(&|signed| signed.signature = signed.signature.replace("v1,", ""))),
            (
                "too many before it",
                with(&|signed| signed.signature = format!("a a a a {}", signed.signature)),
            ),
        ] {
            assert_eq!(result, Err(SignatureError::Wrong), "{name}");
        }
        assert_eq!(with(&|signed| signed.signature = format!("{other} {}", signed.signature)), Ok(()));
        for (seconds, expected) in [
            (SECONDS - FRESH_S, Ok(())),
            (SECONDS + FRESH_S, Ok(())),
            (SECONDS - FRESH_S - 1, Err(SignatureError::Stale)),
            (SECONDS + FRESH_S + 1, Err(SignatureError::Stale)),
            (0, Err(SignatureError::Stale)),
        ] {
            assert_eq!(key.verify(&signed(&key, "id", seconds, b"{}"), b"{}", NOW), expected, "{seconds}");
        }
    }
}
