//! What goes with one message while it is looked at: how much of it may still be read, since what is packed in it, or hidden
//! in codes in codes, must not make a small message a large one; and within what its tokens mean something.

use portcullis_core::Digest;

/// Bytes of one message that may still be read, and the scope of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    left: usize,
    spent: bool,
    scope: Option<Digest>,
}

impl Budget {
    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self { left: bytes, spent: false, scope: None }
    }

    /// For a message of a caller or session, where tokens mean something within one.
    #[must_use]
    pub const fn within(self, scope: Option<Digest>) -> Self {
        Self { scope, ..self }
    }

    /// Within what tokens in the message mean something.
    pub(crate) const fn scope(&self) -> Option<Digest> {
        self.scope
    }

    /// Whether something was not read because it was too much: what was found is not all.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.spent
    }

    /// Whether so many bytes may be read, which counts as read.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) if !self.spent => self.left = left,
            _ => (self.left, self.spent) = (0, true),
        }
        !self.spent
    }

    /// Takes what `work` uses of at most `bytes`, of which it takes away. Where less was left, and that was not enough,
    /// it is spent.
    pub(crate) fn lend<T>(&mut self, bytes: usize, work: impl FnOnce(&mut usize) -> T) -> T {
        let lent = bytes.min(self.left);
        let mut rest = lent;
        let made = work(&mut rest);
        self.take(lent - rest.min(lent));
        self.spent |= rest == 0 && lent < bytes;
        made
    }
}
