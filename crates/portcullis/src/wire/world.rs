//! The real clock, real chance and the real network, behind the traits that everything else is written against.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use portcullis_connect::{Fetch, GuardedFetch};
use portcullis_core::{Clock, Entropy, Timestamp};
use portcullis_net::guard::EgressPolicy;
use url::Url;

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

/// Fetches key sets through the guarded client. An identity provider on this machine is written with its loopback
/// address or `localhost`; nothing else may be local.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IssuerFetch;

#[async_trait::async_trait]
impl Fetch for IssuerFetch {
    async fn get(&self, url: &Url, max_bytes: u64, timeout_ms: u64) -> Result<bytes::Bytes, String> {
        let loopback = url.host().is_some_and(|host| match host {
            url::Host::Domain(name) => name == "localhost",
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback(),
        });
        let egress = EgressPolicy { allow_http: loopback, allow_loopback: loopback, allow_private: false };
        GuardedFetch { egress, extra_roots_pem: Vec::new() }.get(url, max_bytes, timeout_ms).await
    }
}
