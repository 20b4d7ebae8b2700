//! Signed messages count once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use portcullis_core::Timestamp;
use portcullis_net::webhook::FRESH_S;
pub use portcullis_net::webhook::{Signature, SignatureError};

/// Ids that are remembered; beyond, nothing is taken until the oldest are too old to come again.
const SEEN_MAX: usize = 10_000;

/// The ids that came, for as long as they could come again.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashMap<(String, String), u64>>);

impl Seen {
    /// Remembers a message of `hook`, which was verified before: nobody else fills the memory.
    pub(crate) fn first(&self, hook: &str, id: &str, now: Timestamp) -> Result<(), SignatureError> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (hook.to_owned(), id.to_owned());
        if seen.len() >= SEEN_MAX {
            seen.retain(|_, until| *until > now.seconds());
        }
        // A message from the future stays fresh for as long again.
        let until = now.seconds() + 2 * FRESH_S + 1;
        match seen.get(&key) {
            Some(until) if *until > now.seconds() => Err(SignatureError::Again),
            _ if seen.len() >= SEEN_MAX => Err(SignatureError::TooMany),
            _ => {
                seen.insert(key, until);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    #[test]
    fn a_message_counts_once_and_what_is_remembered_is_bounded() {
        let seen = Seen::default();
        assert_eq!(seen.first("a", "1", NOW), Ok(()));
        assert_eq!(seen.first("a", "1", NOW), Err(SignatureError::Again));
        assert_eq!(seen.first("b", "1", NOW), Ok(()), "another hook");
        // For as long as a message from the future is fresh.
        assert_eq!(seen.first("a", "1", NOW.plus_ms(2 * FRESH_S * 1_000)), Err(SignatureError::Again));
        for id in 2..SEEN_MAX {
            assert_eq!(seen.first("a", &id.to_string(), NOW), Ok(()));
        }
        assert_eq!(seen.first("a", "more", NOW), Err(SignatureError::TooMany));
        assert_eq!(seen.first("a", "1", NOW), Err(SignatureError::Again));
        assert_eq!(seen.first("a", "more", NOW.plus_ms((2 * FRESH_S + 2) * 1_000)), Ok(()));
    }
}
