//! The real clock and real chance, behind the traits that everything else is written against.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use portcullis_core::{Clock, Entropy, Timestamp};

/// The machine's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock(Instant);

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn ticks_us(&self) -> u64 {
        // Starts above zero, so that zero can mean "never".
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        // Without randomness keys and sessions could be guessed: there is no way to go on. The kernel is asked itself: a
        // generator in this process would first gather 25 ms of noise of its own.
        if getrandom::fill(out).is_err() {
            tracing::error!("the operating system gives no randomness");
            std::process::abort();
        }
    }
}
