//! Writes canonical JSON (RFC 8785) straight into bytes. The caller names members in sorted order.

use alloc::{string::String, vec::Vec};

use portcullis_core::Digest;

/// How much of free text and lists is written before a digest or a count stands for the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Longer texts are written as digest and size.
    pub(super) text_bytes_max: usize,
    /// Items of a list beyond this are left out; `omitted` counts them.
    pub(super) items_max: usize,
    /// Larger `data` is written as digest and size.
    pub(super) data_bytes_max: usize,
}

/// The largest integer that every JSON reader reads exactly; larger ones are written as this.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// An open JSON object.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    cut: Cut,
    empty: bool,
}

impl<'o> Object<'o> {
    /// Opens an object in `out`, lets `members` write it, closes it.
    pub(super) fn write(out: &'o mut Vec<u8>, cut: Cut, members: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        let mut object = Object { out, cut, empty: true };
        members(&mut object);
        object.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A member with words of our own, which need no escapes and are never cut.
    pub(super) fn word(&mut self, key: &str, value: &str) {
        self.key(key);
        text(self.out, value);
    }

    /// A member with free text; long text goes by digest.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        cut_text(self.out, self.cut, value);
    }

    /// A member with an integer.
    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        number(self.out, value);
    }

    /// A member with a digest.
    pub(super) fn digest(&mut self, key: &str, value: &Digest) {
        self.key(key);
        digest(self.out, value);
    }

    /// A member with a list of free texts.
    pub(super) fn texts(&mut self, key: &str, values: &[String]) {
        self.key(key);
        self.out.push(b'[');
        for (i, value) in values.iter().take(self.cut.items_max).enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            cut_text(self.out, self.cut, value);
        }
        self.out.push(b']');
    }

    /// A member with an object.
    pub(super) fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        Object::write(self.out, self.cut, members);
    }

    /// A member with a list of objects.
    pub(super) fn objects<T>(&mut self, key: &str, values: &[T], member: impl Fn(&mut Object<'_>, &T)) {
        self.key(key);
        self.out.push(b'[');
        for (i, value) in values.iter().take(self.cut.items_max).enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            Object::write(self.out, self.cut, |object| member(object, value));
        }
        self.out.push(b']');
    }

    /// A member whose value is canonical JSON already.
    pub(super) fn canonical(&mut self, key: &str, value: &[u8]) {
        if value.len() > self.cut.data_bytes_max {
            let (digest, size) = (Digest::of(value), size(value.len()));
            return self.object(key, |object| {
                object.digest("digest", &digest);
                object.number("size", size);
            });
        }
        self.key(key);
        self.out.extend_from_slice(value);
    }

    /// How much is written.
    pub(super) const fn cut(&self) -> Cut {
        self.cut
    }
}

/// A length as a number.
pub(super) fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn cut_text(out: &mut Vec<u8>, cut: Cut, value: &str) {
    // Nobody will read this attempt: it is too large already.
    if out.len() > super::ENTRY_BYTES_MAX {
        return;
    }
    if value.len() <= cut.text_bytes_max {
        return text(out, value);
    }
    Object::write(out, cut, |object| {
        object.digest("digest", &Digest::of(value.as_bytes()));
        object.number("size", size(value.len()));
    });
}

const fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

fn digest(out: &mut Vec<u8>, value: &Digest) {
    out.extend_from_slice(b"\"sha256:");
    let mut text = [0; 64];
    for (byte, digits) in value.0.iter().zip(text.as_chunks_mut::<2>().0) {
        *digits = [hex(byte >> 4), hex(byte & 15)];
    }
    out.extend_from_slice(&text);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, value: u64) {
    let mut rest = value.min(INTEGER_MAX);
    let mut digits = [0; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = hex(u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - used));
}

/// A JSON string with the escapes of RFC 8785, 3.2.2.2.
fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut rest = value.as_bytes();
    while let Some(plain) = rest.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\') {
        let (before, after) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        out.extend_from_slice(before);
        let Some((byte, after)) = after.split_first() else { break };
        escape(out, *byte);
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        other => {
            out.extend_from_slice(b"\\u00");
            for nibble in [other >> 4, other & 15] {
                out.push(hex(nibble));
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
