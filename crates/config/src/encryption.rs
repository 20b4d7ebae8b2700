//! What is sealed at rest, and which key wraps the keys that seal it.

use portcullis_seal::KeyReference;

use super::{
    decode::{Setting, Shape, Walk, choice, section},
    values::Reference,
    yaml::Node,
};

section! {
    /// Encryption at rest. What is sensitive in the store is sealed with data keys; one key-encryption key, which is kept
    /// elsewhere, wraps those.
    EncryptionSection {
        /// The key-encryption key: `file:PATH`, `vault:MOUNT/KEY` (transit, of the Vault under `secrets.vault`), `aws:KEY` (KMS; id,
        /// ARN or alias) or `pkcs11:token=LABEL;object=LABEL?module-path=PATH`. Default: the file `kek` in the data directory,
        /// which is made at the first start.
        key: Option<KeyReference>;
        /// The passphrase of the file, or the PIN of the token: `env:NAME` or `file:PATH`.
        passphrase: Option<Reference>;
        /// Keys that wrapped data keys before. They unwrap until `portcullis seal rewrap` was run.
        former: Vec<KeyReference>;
        /// What the start does while the key service does not answer.
        unavailable: Unavailable = Unavailable::Refuse;
    }
}

choice! {
    /// What the start does while the key service does not answer.
    Unavailable {
        /// It fails.
        Refuse = "refuse",
        /// The gateway serves whoever needs nothing that is sealed, and opens the keys as soon as it can. Refused until then:
        /// API keys, connections of callers, secrets of the gateway, approvals; placeholders stand where tokens would.
        Degraded = "degraded",
    }
}

impl Setting for KeyReference {
    fn shape() -> Shape {
        Shape::Text("key")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        match Self::parse(&text) {
            Ok(reference) => Some(reference.relative_to(&walk.base)),
            Err(hint) => {
                walk.report(node, "is no reference to a key-encryption key", hint);
                None
            }
        }
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(serde_json::json!(self.to_string()))
    }
}
