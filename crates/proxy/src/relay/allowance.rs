//! How much of the ledger a server may fill with what it says in one stream.

use std::time::Duration;

use portcullis_core::{Code, Refusal};
use tokio::time::Instant;

/// Entries at once.
const AT_ONCE: u32 = 64;

/// Time after which it may cause one more.
const ONE_MORE: Duration = Duration::from_secs(1);

/// What is left of it.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    counted: Instant,
}

impl Allowance {
    /// All of it.
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, counted: now }
    }

    /// Takes one entry.
    ///
    /// # Errors
    /// `server_request.flood` when there is none left: the stream is over.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Refusal> {
        while self.left < AT_ONCE && now.duration_since(self.counted) >= ONE_MORE {
            self.left += 1;
            self.counted += ONE_MORE;
        }
        if self.left == AT_ONCE {
            self.counted = now;
        }
        let left = self.left.checked_sub(1);
        let flood = "the server asks questions, or says what cannot be passed on, without end";
        self.left = left.ok_or_else(|| Refusal::new(Code::ServerRequestFlood, flood))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_causes_so_many_entries_at_once_and_one_more_each_second() {
        let begun = Instant::now();
        let mut allowance = Allowance::new(begun);
        for (seconds, more) in [(0, 64), (0, 0), (1, 1), (11, 10), (100_000, 64), (100_001, 1)] {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!((0..100).take_while(|_| allowance.take(now).is_ok()).count(), more, "{seconds}");
            assert_eq!(allowance.take(now).unwrap_err().code, Code::ServerRequestFlood);
        }
    }
}
