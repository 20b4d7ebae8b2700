//! Writing an object anew from the members of another: what stays keeps its bytes and its place.

use alloc::vec::Vec;

use crate::json::{View, quote};

/// What becomes of a member.
pub(super) enum Change {
    /// It goes.
    Drop,
    /// It stays as it was written.
    Keep,
    /// It gets this value (JSON text).
    Set(Vec<u8>),
}

/// The object with its members changed, then `extra` members behind them.
pub(super) fn rewrite<'a>(
    object: View<'a>,
    mut change: impl FnMut(&str, View<'a>) -> Change,
    extra: &[(&str, &[u8])],
) -> Vec<u8> {
    let mut out = alloc::vec![b'{'];
    for (name, value) in object.members() {
        match change(&name, value) {
            Change::Drop => {}
            Change::Keep => push(&mut out, &name, value.raw()),
            Change::Set(text) => push(&mut out, &name, &text),
        }
    }
    for (name, value) in extra {
        push(&mut out, name, value);
    }
    out.push(b'}');
    out
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(quote(name).as_bytes());
    out.push(b':');
    out.extend_from_slice(value);
}

/// An object of these members.
pub(super) fn object(members: &[(&str, &[u8])]) -> Vec<u8> {
    rewrite(View::of(b"{}"), |_, _| Change::Keep, members)
}
