//! Values of mirrored headers: plain visible ASCII, or `=?base64?…?=`.

use alloc::{borrow::Cow, string::String};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The text that a header value stands for; nothing when it is malformed. The markers are exact: in any other
/// case, or with one of them missing, the value is literal.
pub(super) fn decode(value: &str) -> Option<Cow<'_, str>> {
    if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return None;
    }
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(Cow::Borrowed(value));
    };
    let bytes = STANDARD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}
