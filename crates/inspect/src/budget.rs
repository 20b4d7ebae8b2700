//! How much of one message is read: what is packed in it, or hidden in codes in codes, must not make a small message a
//! large one.

/// Bytes of one message that may still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    left: usize,
    spent: bool,
}

impl Budget {
    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        Self { left: bytes, spent: false }
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
            _ => *self = Self { left: 0, spent: true },
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
