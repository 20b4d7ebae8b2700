//! A JSON text as it came, looked at without decoding. Each question is answered once, and only when asked.

use core::cell::OnceCell;

use memchr::memmem;

use crate::{
    attacks::is_suspect,
    identifiers::may_hold,
    plain::{ACCENTS_REACH, is_accented, is_spaced, is_twisted},
    unseen::{is_invisible, unseen_bytes},
};

/// A JSON text as it came.
#[derive(Debug)]
pub struct Raw<'a> {
    bytes: &'a [u8],
    escapes: bool,
    unseen: OnceCell<bool>,
    disguised: OnceCell<bool>,
    twisted: OnceCell<bool>,
    veiled: OnceCell<bool>,
    identifiers: OnceCell<bool>,
    attacks: OnceCell<bool>,
}

impl<'a> Raw<'a> {
    pub(crate) const fn new(bytes: &'a [u8], unicode_escapes: bool) -> Self {
        Self {
            bytes,
            escapes: unicode_escapes,
            unseen: OnceCell::new(),
            disguised: OnceCell::new(),
            twisted: OnceCell::new(),
            veiled: OnceCell::new(),
            identifiers: OnceCell::new(),
            attacks: OnceCell::new(),
        }
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

    /// Whether a text in it may say something else without its disguises, so that no search in the raw bytes is dependable.
    #[must_use]
    pub fn is_veiled(&self) -> bool {
        *self.veiled.get_or_init(|| {
            self.is_disguised()
                || self.has_unseen()
                || self.is_twisted()
                || is_spaced(self.bytes)
                || self.is_accented()
        })
    }

    /// Whether letters may be in it that stand for others: compatibility forms, or two scripts in one word.
    #[must_use]
    pub fn is_twisted(&self) -> bool {
        *self.twisted.get_or_init(|| {
            (!self.bytes.is_ascii() && is_twisted(self.bytes))
                || (self.escapes
                    && (self.is_disguised()
                        || self.any_escape(|unit| {
                            matches!(
                                unit,
                                Some(
                                    0x370..=0x587
                                    | 0x2100..=0x214f
                                    | 0x2460..=0x24ff
                                    | 0xd835
                                    | 0xff10..=0xff5a,
                                )
                            )
                        })))
        })
    }

    /// Whether so many letters wear accents that it may be to disguise them.
    fn is_accented(&self) -> bool {
        let escaped = || self.any_escape(|unit| matches!(unit, Some(0xc0..=0x17e)));
        // What stands between them takes twice the room in JSON, and as an escape by its number six times.
        let reach = ACCENTS_REACH * if self.escapes { 6 } else { 2 };
        (!self.bytes.is_ascii() && is_accented(self.bytes, reach)) || (self.escapes && escaped())
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

    /// Whether an identifier with digits may be in it, whatever it is called.
    #[must_use]
    pub fn has_identifiers(&self) -> bool {
        *self.identifiers.get_or_init(|| self.is_disguised() || may_hold(self.bytes))
    }

    /// Whether anything may be in it that attacks in arguments are made of. Encoders that are careful with HTML escape that.
    #[must_use]
    pub fn has_attacks(&self) -> bool {
        *self.attacks.get_or_init(|| self.escapes || is_suspect(self.bytes))
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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::Raw;
    use crate::unseen::is_invisible;

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
