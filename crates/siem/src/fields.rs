//! What of an entry a sink gets: each class of members is kept, replaced by a keyed digest, or left out.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::Secret;
use serde_json::Value;

use crate::Seen;

/// What is done with a class of members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// They go out as they are.
    #[default]
    Keep,
    /// A keyed digest goes out: the same value is the same digest in every sink of this store.
    Digest,
    /// They stay here.
    LeaveOut,
}

/// What is done with each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Who: ids and issuers of callers, owners of agents, digests of sessions and tokens.
    pub identity: Keep,
    /// Where from: addresses.
    pub network: Keep,
    /// What about: names of tools and resources, private details of refusals, members of single events.
    pub content: Keep,
}

const IDENTITY: &[&str] =
    &["/actor/id", "/actor/issuer", "/actor/token", "/session", "/data/owner", "/data/caller"];
const NETWORK: &[&str] = &["/source"];
const CONTENT: &[&str] = &["/target/name", "/detail", "/data"];

impl Fields {
    /// Does it to one entry.
    pub(crate) fn apply(&self, seen: &mut Seen, key: &Secret<Vec<u8>>) {
        // The widest class last: it may take members of the others with it.
        for (keep, pointers) in [(self.identity, IDENTITY), (self.network, NETWORK), (self.content, CONTENT)]
        {
            if keep == Keep::Keep {
                continue;
            }
            for pointer in pointers {
                treat(seen, pointer, keep, key);
            }
        }
    }
}

fn treat(seen: &mut Seen, pointer: &str, keep: Keep, key: &Secret<Vec<u8>>) {
    let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
    let members = match parent.strip_prefix('/') {
        None => Some(&mut seen.entry),
        Some(parent) => seen.entry.get_mut(parent).and_then(Value::as_object_mut),
    };
    let Some(members) = members else { return };
    let Some(value) = members.remove(name) else { return };
    if keep == Keep::Digest {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        members.insert(name.to_owned(), Value::String(digest(&text, key)));
    }
}

fn digest(text: &str, key: &Secret<Vec<u8>>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let tag = hmac::sign(&key, text.as_bytes());
    let half = tag.as_ref().get(..16).unwrap_or_default();
    format!("hmac:{}", URL_SAFE_NO_PAD.encode(half))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_a_sink_must_not_have_is_in_no_member() {
        let log = Arc::from("gateway");
        let entry = br#"{"event":"call.refused","actor":{"id":"ann@example.com","roles":["reader"]},"source":"10.1.2.3","session":"sha256:aa","detail":"file of ann@example.com","target":{"server":"files","name":"/home/ann"},"data":{"owner":"ann@example.com"}}"#;
        let key = Secret::new(vec![7; 32]);
        let all = |keep| Fields { identity: keep, network: keep, content: keep };
        let mut out = Seen::read(1, &log, entry);
        all(Keep::LeaveOut).apply(&mut out, &key);
        let left = serde_json::json!({"actor": {"roles": ["reader"]}, "event": "call.refused", "target": {"server": "files"}});
        assert_eq!(Value::Object(out.entry), left);
        let mut hashed = Seen::read(1, &log, entry);
        all(Keep::Digest).apply(&mut hashed, &key);
        let text = Value::Object(hashed.entry.clone()).to_string();
        assert!(!text.contains("ann") && !text.contains("10.1.2.3"), "{text}");
        let mut again = Seen::read(9, &log, entry);
        all(Keep::Digest).apply(&mut again, &key);
        assert_eq!(hashed.text("/actor/id"), again.text("/actor/id"));
        assert!(hashed.text("/actor/id").starts_with("hmac:"));
    }
}
