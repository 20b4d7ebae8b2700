//! A JSON text as it came, looked at without decoding. Each question is answered once, and only when asked.

use core::cell::OnceCell;

use memchr::memmem;

/// A JSON text as it came.
#[derive(Debug)]
pub struct Raw<'a> {
    bytes: &'a [u8],
    escapes: bool,
    unseen: OnceCell<bool>,
    disguised: OnceCell<bool>,
}

impl<'a> Raw<'a> {
    pub(crate) const fn new(bytes: &'a [u8], unicode_escapes: bool) -> Self {
        Self { bytes, escapes: unicode_escapes, unseen: OnceCell::new(), disguised: OnceCell::new() }
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether `\u` may occur.
    #[must_use]
    pub const fn has_escapes(&self) -> bool {
        self.escapes
    }

    /// Whether a character may be in it that nobody sees: controls, bidi controls, tags, zero-width characters,
    /// variation selectors. As itself or escaped.
    #[must_use]
    pub fn has_unseen(&self) -> bool {
        *self.unseen.get_or_init(|| {
            memchr::memchr(0x7f, self.bytes).is_some()
                || memmem::find(self.bytes, b"\\b").is_some()
                || memmem::find(self.bytes, b"\\f").is_some()
                || (!self.bytes.is_ascii() && unseen_bytes(self.bytes))
                || (self.escapes && self.any_escape(|unit| is_unseen(unit) || is_unseen_surrogate(unit)))
        })
    }

    /// Whether visible ASCII may be written as an escape, so that no search in the raw bytes is dependable. Encoders
    /// that are careful with HTML write `<`, `>`, `&`, `'`, `=` so; no detector looks for these.
    #[must_use]
    pub fn is_disguised(&self) -> bool {
        *self.disguised.get_or_init(|| {
            self.escapes
                && self.any_escape(|unit| {
                    unit.is_none_or(|unit| {
                        (0x20..0x7f).contains(&unit) && !matches!(unit, 0x3c | 0x3e | 0x26 | 0x27 | 0x3d)
                    })
                })
        })
    }

    /// Whether any `\u` is followed by a unit that fits. An escaped backslash before a `u` counts too: that errs on
    /// the side of looking closer.
    fn any_escape(&self, fits: impl Fn(Option<u32>) -> bool) -> bool {
        memmem::find_iter(self.bytes, b"\\u").any(|at| fits(self.bytes.get(at + 2..at + 6).and_then(hex)))
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

fn is_unseen(unit: Option<u32>) -> bool {
    unit.is_none_or(|unit| match unit {
        0x09 | 0x0a | 0x0d => false,
        0x00..=0x1f | 0x7f..=0x9f => true,
        other => is_invisible(other),
    })
}

// U+E0000 to U+E0FFF (tags, more variation selectors) start with these units.
fn is_unseen_surrogate(unit: Option<u32>) -> bool {
    matches!(unit, Some(0xdb40..=0xdb43))
}

/// Characters that take no room, and bidi controls. Keep in step with [`unseen_bytes`].
pub(crate) const fn is_invisible(unit: u32) -> bool {
    matches!(
        unit,
        0xad | 0x034f
            | 0x061c
            | 0x115f
            | 0x1160
            | 0x180b..=0x180f
            | 0x200b..=0x200f
            | 0x202a..=0x202e
            | 0x2060..=0x206f
            | 0x3164
            | 0xfe00..=0xfe0f
            | 0xfeff
            | 0xffa0
            | 0xe0000..=0xe0fff
    )
}

/// Whether the UTF-8 bytes may hold an unseen character that is not ASCII.
pub(crate) fn unseen_bytes(bytes: &[u8]) -> bool {
    let second = |at: usize| bytes.get(at + 1).copied().unwrap_or_default();
    let third = |at: usize| bytes.get(at + 2).copied().unwrap_or_default();
    // General Punctuation, soft hyphen and C1, planes 14.
    memchr::memchr3_iter(0xe2, 0xc2, 0xf3, bytes).any(|at| match bytes.get(at) {
        Some(0xe2) => match second(at) {
            0x80 => matches!(third(at), 0x8b..=0x8f | 0xaa..=0xae),
            0x81 => matches!(third(at), 0xa0..=0xaf),
            _ => false,
        },
        Some(0xc2) => second(at) < 0xa0 || second(at) == 0xad,
        _ => true,
    }) || memchr::memchr3_iter(0xef, 0xe1, 0xe3, bytes).any(|at| match bytes.get(at) {
        Some(0xef) => matches!((second(at), third(at)), (0xb8, 0x80..=0x8f) | (0xbb, 0xbf) | (0xbe, 0xa0)),
        Some(0xe1) => matches!((second(at), third(at)), (0x85, 0x9f | 0xa0) | (0xa0, 0x8b..=0x8f)),
        _ => (second(at), third(at)) == (0x85, 0xa4),
    }) || memchr::memchr2_iter(0xcd, 0xd8, bytes).any(|at| match bytes.get(at) {
        Some(0xcd) => second(at) == 0x8f,
        _ => second(at) == 0x9c,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::{Raw, is_invisible};

    #[test]
    fn every_invisible_character_is_noticed_raw_and_escaped() {
        for unit in 0x80..=0x10_ffff_u32 {
            let Some(c) = char::from_u32(unit) else { continue };
            let expected = is_invisible(unit) || unit < 0xa0;
            let raw = format!("\"{c}\"");
            let seen = Raw::new(raw.as_bytes(), false).has_unseen();
            // All of plane 14 and the end of plane 13's neighbours share their first byte.
            assert!(seen == expected || (seen && unit >= 0xc0000), "U+{unit:04X}: {seen}");
            let mut units = [0; 2];
            let escaped: std::string::String =
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect();
            if expected {
                assert!(Raw::new(escaped.as_bytes(), true).has_unseen(), "{escaped}");
            }
        }
    }

    #[test]
    fn ordinary_text_is_not_suspected() {
        for text in
            ["plain", "caf\u{e9} \u{201c}quoted\u{201d} \u{65e5}\u{672c} \u{1f600}", "a\\n\\t\\r\\\"b\\/"]
        {
            let raw = Raw::new(text.as_bytes(), false);
            assert!(!raw.has_unseen() && !raw.is_disguised(), "{text}");
        }
        let raw = Raw::new(b"\\u00e9\\u2019\\ud83d\\ude00\\u003c\\u0026", true);
        assert!(!raw.has_unseen() && !raw.is_disguised());
        for text in ["\\u0041", "\\u002d", "\\u00"] {
            assert!(Raw::new(text.as_bytes(), true).is_disguised(), "{text}");
        }
    }
}
