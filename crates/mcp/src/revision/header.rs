//! Values of mirrored headers: plain visible ASCII, or `=?base64?…?=`.

use alloc::{borrow::Cow, format, string::String};

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

/// The value of a header that mirrors `text`: as it is where it can stand so, in base64 otherwise.
#[must_use]
pub fn mirrored(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.starts_with("=?base64?");
    if plain { Cow::Borrowed(text) } else { Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(text))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mirrored_is_read_back() {
        for text in ["job-1", "", " a", "a ", "ü", "=?base64?x", "=?base64?YQ==?=", "a\tb", "a b"] {
            assert_eq!(decode(&mirrored(text)).unwrap(), text);
        }
        assert_eq!(mirrored("job-1"), "job-1");
    }
}
