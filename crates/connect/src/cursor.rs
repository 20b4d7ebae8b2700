//! Positions in merged lists, sealed: a cursor is good for the caller, the route and the list that it was made for,
//! for a while, and for nobody who writes one himself. It says nothing that its page did not say.

use aws_lc_rs::hmac;
use portcullis_core::{Digest, TargetKind, Timestamp};

/// How long a cursor may be used. Who takes longer starts again.
const LIFE_MS: u64 = 600_000;

/// The longest cursor that is looked at.
const BYTES_MAX: usize = 256;

/// Digits of the digest that names the last entry of a page.
const NAME_DIGITS: usize = 16;

/// Whose cursor it is, and of which list.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// The caller's id.
    pub caller: &'a str,
    /// The name of the route.
    pub route: &'a str,
    /// What is listed.
    pub kind: TargetKind,
}

/// The last entry of a page: the next page starts behind it, or where it was when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The prefix of its server.
    pub prefix: String,
    /// Its place among the entries of that server.
    pub index: usize,
    name: String,
}

impl Position {
    /// The place of an entry by the server's own name for it.
    #[must_use]
    pub fn new(prefix: &str, index: usize, name: &str) -> Self {
        Self { prefix: prefix.to_owned(), index, name: digest_of(name) }
    }

    /// Whether the entry of that name is the one that is meant.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.name == digest_of(name)
    }
}

fn digest_of(name: &str) -> String {
    Digest::of(name.as_bytes()).hex().chars().take(NAME_DIGITS).collect()
}

/// The key that seals cursors. The same on every node that shares the store.
#[derive(Debug)]
pub struct Cursors(hmac::Key);

impl Cursors {
    /// Derives the key from the gateway's own secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&secret, b"portcullis cursors 1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// A cursor for `holder` at `position`.
    #[must_use]
    pub fn seal(&self, holder: Holder<'_>, position: &Position, now: Timestamp) -> String {
        let until = now.0.saturating_add(LIFE_MS);
        let text = format!("{until:x}:{}:{}:{}", position.prefix, position.index, position.name);
        let seal = hmac::sign(&self.0, &sealed(holder, &text));
        format!("{text}:{}", hex(seal.as_ref()))
    }

    /// The position in a cursor that was made for `holder` and is not too old.
    #[must_use]
    pub fn open(&self, holder: Holder<'_>, cursor: &str, now: Timestamp) -> Option<Position> {
        if cursor.len() > BYTES_MAX {
            return None;
        }
        let (text, seal) = cursor.rsplit_once(':')?;
        hmac::verify(&self.0, &sealed(holder, text), &unhex(seal)?).ok()?;
        let mut parts = text.split(':');
        let until = u64::from_str_radix(parts.next()?, 16).ok()?;
        let position = Position {
            prefix: parts.next()?.to_owned(),
            index: parts.next()?.parse().ok()?,
            name: parts.next()?.to_owned(),
        };
        (now.0 < until).then_some(position)
    }
}

/// What the seal covers; lengths keep the parts apart.
fn sealed(holder: Holder<'_>, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [holder.caller, holder.route, holder.kind.name(), text] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn holder<'a>(caller: &'a str, route: &'a str) -> Holder<'a> {
        Holder { caller, route, kind: TargetKind::Tool }
    }

    #[test]
    fn a_cursor_is_good_for_its_caller_its_route_and_its_list_until_it_is_too_old() {
        let cursors = Cursors::new(b"secret");
        let position = Position::new("files", 7, "read");
        let cursor = cursors.seal(holder("a", "r"), &position, NOW);
        let opened = cursors.open(holder("a", "r"), &cursor, NOW);
        assert_eq!(opened.as_ref(), Some(&position));
        assert!(opened.is_some_and(|position| position.names("read") && !position.names("write")));
        assert_eq!(cursors.open(holder("b", "r"), &cursor, NOW), None, "another caller");
        assert_eq!(cursors.open(holder("a", "s"), &cursor, NOW), None, "another route");
        let prompts = Holder { kind: TargetKind::Prompt, ..holder("a", "r") };
        assert_eq!(cursors.open(prompts, &cursor, NOW), None, "another list");
        let later = |ms| Timestamp(NOW.0 + ms);
        assert!(cursors.open(holder("a", "r"), &cursor, later(LIFE_MS - 1)).is_some());
        assert_eq!(cursors.open(holder("a", "r"), &cursor, later(LIFE_MS)), None, "too old");
        assert_eq!(Cursors::new(b"other").open(holder("a", "r"), &cursor, NOW), None, "another gateway");
        // Where one caller ends and the route begins is part of what is sealed.
        let joined = cursors.seal(holder("ab", "r"), &position, NOW);
        assert_eq!(cursors.open(holder("a", "br"), &joined, NOW), None);
    }

    #[test]
    fn a_cursor_with_any_byte_changed_or_made_up_is_none() {
        let cursors = Cursors::new(b"secret");
        let cursor = cursors.seal(holder("a", "r"), &Position::new("files", 7, "read"), NOW);
        for at in 0..cursor.len() {
            let mut bytes = cursor.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(cursors.open(holder("a", "r"), &changed, NOW), None, "{changed}");
        }
        for text in ["", ":", "1:files:0:0", "ü:ü", &"a".repeat(300), "1:files:0:0:zz", "1:files:0:0:abc"] {
            assert_eq!(cursors.open(holder("a", "r"), text, NOW), None, "{text}");
        }
    }
}
