//! How a client left its connection, as far as the socket tells. A kernel that closes for a program that left bytes unread
//! resets too, so that a reset is no proof of an intention.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// How it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It closed its side in order.
    Closed,
    /// The connection was reset or broke.
    Reset,
    /// It took none of our bytes for too long and was cut off by us.
    Unread,
}

/// Says how the client left, once it has; an extension of every request.
#[derive(Clone, Debug, Default)]
pub struct Departure(Arc<AtomicU8>);

impl Departure {
    /// How it left; nothing while it is there.
    #[must_use]
    pub fn left(&self) -> Option<Left> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Left::Closed),
            2 => Some(Left::Reset),
            _ => Some(Left::Unread),
        }
    }

    /// What was seen first counts: what follows is our own end of the connection.
    pub(crate) fn note(&self, left: Left) {
        let left = match left {
            Left::Closed => 1,
            Left::Reset => 2,
            Left::Unread => 3,
        };
        let _earlier = self.0.compare_exchange(0, left, Ordering::AcqRel, Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sign_of_how_a_client_left_stands() {
        for first in [Left::Closed, Left::Reset, Left::Unread] {
            let departure = Departure::default();
            assert_eq!(departure.left(), None);
            departure.note(first);
            for later in [Left::Closed, Left::Reset, Left::Unread] {
                departure.note(later);
                assert_eq!(departure.left(), Some(first));
            }
        }
    }
}
