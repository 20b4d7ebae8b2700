//! What a definition is pinned by: the digest of its canonical JSON. Canonical JSON alone would give two different
//! texts one digest (integers beyond 2^53, repeated members), so those are refused first.

mod guard;

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

use portcullis_core::{Digest, TargetKind};
use serde_json::Value;

use self::guard::parse;

/// Why a definition cannot be pinned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no valid JSON text, or nested too deep.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// A member name occurs twice in one object.
    #[error("the member `{0}` occurs twice")]
    Repeated(String),
    /// A definition is an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// Readers would round the integer differently.
    #[error("the integer `{0}` is beyond 2^53 - 1 and would be rounded")]
    UnsafeInteger(String),
}

/// The digest by which the definition `raw` of `kind` is pinned. Every member counts, also unknown ones.
///
/// # Errors
/// When two different texts could have the same digest.
pub fn definition_digest(kind: TargetKind, raw: &[u8]) -> Result<Digest, ManifestError> {
    let value = parse(raw)?;
    if !value.is_object() {
        return Err(ManifestError::NotAnObject);
    }
    // The prefix keeps a prompt from ever standing in for a tool.
    let prefix: &[u8] = match kind {
        TargetKind::Prompt => b"mcpgw/prompt/v1\n",
        TargetKind::Resource => b"mcpgw/resource/v1\n",
        TargetKind::Template => b"mcpgw/template/v1\n",
        TargetKind::Tool => b"mcpgw/tool/v1\n",
    };
    Ok(Digest::of_parts(&[prefix, &to_jcs(&value)?]))
}

/// `raw` as canonical JSON (RFC 8785).
///
/// # Errors
/// When two different texts could have the same canonical form.
pub fn canonical(raw: &[u8]) -> Result<Vec<u8>, ManifestError> {
    to_jcs(&parse(raw)?)
}

fn to_jcs(value: &Value) -> Result<Vec<u8>, ManifestError> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| ManifestError::Json(error.to_string()))
}

/// One difference between two definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where (RFC 6901).
    pub pointer: String,
    /// The value before, as canonical JSON; `None` when it was not there.
    pub before: Option<String>,
    /// The value after, as canonical JSON; `None` when it is not there any more.
    pub after: Option<String>,
}

/// The differences between two definitions, member by member. A text that cannot be pinned is one difference, at the
/// root, and is shown as it is.
#[must_use]
pub fn diff(old: &[u8], new: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    match (parse(old), parse(new)) {
        (Ok(old), Ok(new)) => compare(&mut String::new(), Some(&old), Some(&new), &mut changes),
        (_, _) if old == new => {}
        (_, _) => changes.push(Change {
            pointer: String::new(),
            before: Some(String::from_utf8_lossy(old).into_owned()),
            after: Some(String::from_utf8_lossy(new).into_owned()),
        }),
    }
    changes
}

/// Depth is bounded by the parser's.
fn compare(pointer: &mut String, old: Option<&Value>, new: Option<&Value>, changes: &mut Vec<Change>) {
    match (old, new) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let step = name.replace('~', "~0").replace('/', "~1");
                below(pointer, &step, before.get(name), after.get(name), changes);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for i in 0..before.len().max(after.len()) {
                below(pointer, &i.to_string(), before.get(i), after.get(i), changes);
            }
        }
        (before, after) => {
            let text = |value: &Value| to_jcs(value).map(|jcs| String::from_utf8_lossy(&jcs).into_owned());
            let (before, after) = (before.and_then(|v| text(v).ok()), after.and_then(|v| text(v).ok()));
            if before != after {
                changes.push(Change { pointer: pointer.clone(), before, after });
            }
        }
    }
}

fn below(
    pointer: &mut String,
    step: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    let len = pointer.len();
    pointer.push_str(&format!("/{step}"));
    compare(pointer, old, new, changes);
    pointer.truncate(len);
}

#[cfg(test)]
mod tests;
