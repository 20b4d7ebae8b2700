//! An issuer's keys over time: fetched when first needed, again before they are old, and for a key that nobody knows yet;
//! at most twice in `jwks_min_refresh_ms`, whatever tokens ask for. One fetch at a time; it belongs to no request, so a client that
//! hangs up does not cost the others their wait. While the issuer cannot be reached, its tokens are refused, or the last
//! set stays in use up to `jwks_stale_max_ms`: that is the choice of the route.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portcullis_core::{Clock, Digest, Limits};
use tokio::{io::AsyncReadExt as _, runtime::Handle, sync::watch};
use url::Url;

use crate::{
    Reach,
    auth::{
        IssuerDown, Parts,
        discovery::{discover, discoverable},
        jwt::{JwksSource, JwtIssuer, jwks::KeySet},
    },
    fetch::is_local,
};

/// What can be said about the keys now.
#[derive(Debug)]
pub(in crate::auth) enum Readiness {
    /// These hold.
    Ready(Arc<KeySet>),
    /// They cannot be had for the moment.
    Unavailable,
    /// There are none, or they are old: a fetch has to be waited for.
    Wait,
}

/// Which fetch is under way; the receiver hears of its end.
enum Begun {
    /// One that was under way before.
    Before(watch::Receiver<u64>),
    /// None, it is too soon.
    Nothing,
    /// One that begins now.
    Now(watch::Receiver<u64>),
}

/// An issuer's keys and where they come from.
pub(in crate::auth) struct KeySource {
    issuer: String,
    source: JwksSource,
    reach: Reach,
    clock: Arc<dyn Clock>,
    limits: Limits,
    state: Mutex<State>,
    /// Counts fetches that ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// When the last fetch began.
    began_us: Option<u64>,
    /// When the one before it began.
    earlier_us: Option<u64>,
    fetching: bool,
    /// Fetches that failed since the last that did not.
    failures: u64,
}

struct Current {
    set: Arc<KeySet>,
    content: Digest,
    fetched_us: u64,
}

/// Ends a fetch however it ends, or nobody would ever fetch again.
struct Fetching(Arc<KeySource>);

impl Drop for Fetching {
    fn drop(&mut self) {
        // Told while nobody can begin the next one: whoever waits for that must not be woken by this.
        let mut state = self.0.state();
        state.fetching = false;
        self.0.ended.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl KeySource {
    /// Reads the keys that are in a file; those at an address are fetched when a token first needs them.
    pub(in crate::auth) fn open(issuer: &JwtIssuer, parts: &Parts) -> Result<Self, String> {
        let this = Self {
            issuer: issuer.issuer.clone(),
            source: issuer.jwks.clone(),
            reach: issuer.reach.clone(),
            clock: Arc::clone(&parts.clock),
            limits: parts.limits.clone(),
            state: Mutex::default(),
            ended: watch::Sender::new(0),
        };
        if this.source == JwksSource::Discovered {
            discoverable(&this.issuer)?;
        }
        if let JwksSource::File(path) = &this.source {
            let failed = |error: std::io::Error| format!("`{}`: {error}", path.display());
            let file = std::fs::File::open(path).map_err(failed)?;
            let mut bytes = Vec::new();
            let mut bounded = std::io::Read::take(file, this.limits.jwks_bytes_max.saturating_add(1));
            std::io::Read::read_to_end(&mut bounded, &mut bytes).map_err(failed)?;
            this.accept(&bytes).map_err(|reason| format!("`{}`: {reason}", path.display()))?;
            // An issuer may withdraw all its keys later on; a file that starts out without any is a mistake.
            if this.state().current.as_ref().is_none_or(|current| current.set.len() == 0) {
                return Err(format!("`{}` holds no key that can be used", path.display()));
            }
        }
        Ok(this)
    }

    /// The keys, if they may be used now. Starts a fetch in the background when they are about to grow old.
    pub(in crate::auth) fn ready(self: &Arc<Self>, down: IssuerDown) -> Readiness {
        let now_us = self.clock.ticks_us();
        let refresh_us = self.limits.jwks_refresh_ms.saturating_mul(1000);
        let stale_us = match down {
            IssuerDown::Refuse => refresh_us,
            IssuerDown::KnownKeys => self.limits.jwks_stale_max_ms.saturating_mul(1000).max(refresh_us),
        };
        let state = self.state();
        let failing = state.failures > 0;
        let can_wait = state.fetching || self.allows(&state, now_us);
        let (set, age_us) = match &state.current {
            Some(current) => (Arc::clone(&current.set), now_us.saturating_sub(current.fetched_us)),
            None if can_wait => return Readiness::Wait,
            None => return Readiness::Unavailable,
        };
        drop(state);
        if age_us > refresh_us / 4 * 3 {
            let _in_background = self.start(Self::allows);
        }
        match age_us {
            age if age <= refresh_us => Readiness::Ready(set),
            // The issuer is known to be out of reach: nobody waits for what will not come.
            age if failing && age <= stale_us => Readiness::Ready(set),
            _ if can_wait => Readiness::Wait,
            age if age <= stale_us => Readiness::Ready(set),
            _ => Readiness::Unavailable,
        }
    }

    /// Whether waiting can bring a key that is not here yet.
    pub(in crate::auth) fn may_fetch(&self) -> bool {
        let state = self.state();
        state.fetching || self.allows_another(&state, self.clock.ticks_us())
    }

    /// Waits for the fetch under way, or for a new one where the limit allows it. Whether more is known now than when this was
    /// called, or nothing more can be: what was under way can be older than that.
    pub(in crate::auth) async fn fetch_and_wait(self: &Arc<Self>) -> bool {
        let (mut ended, before) = match self.start(Self::allows_another) {
            Begun::Nothing => return true,
            Begun::Before(ended) => (ended, true),
            Begun::Now(ended) => (ended, false),
        };
        // The fetch has its own limit of time; it always ends.
        let _closed = ended.changed().await;
        !before
    }

    /// Starts a fetch unless one is under way or it is too soon.
    fn start(self: &Arc<Self>, allows: fn(&Self, &State, u64) -> bool) -> Begun {
        let Ok(runtime) = Handle::try_current() else { return Begun::Nothing };
        let now_us = self.clock.ticks_us();
        let mut state = self.state();
        if state.fetching {
            return Begun::Before(self.ended.subscribe());
        }
        if !allows(self, &state, now_us) {
            return Begun::Nothing;
        }
        state.fetching = true;
        state.earlier_us = state.began_us.replace(now_us);
        let ended = self.ended.subscribe();
        drop(state);
        let fetching = Fetching(Arc::clone(self));
        runtime.spawn(async move { fetching.0.fetch().await });
        Begun::Now(ended)
    }

    /// Whether the last fetch is long enough ago.
    fn allows(&self, state: &State, now_us: u64) -> bool {
        self.is_past(state.began_us, now_us)
    }

    /// The same for a key that nobody knows yet: an issuer may rotate its keys the moment after they were fetched, and its
    /// tokens must not be refused until the next fetch. So one more is allowed, of an issuer that answers.
    fn allows_another(&self, state: &State, now_us: u64) -> bool {
        self.allows(state, now_us) || (state.failures == 0 && self.is_past(state.earlier_us, now_us))
    }

    fn is_past(&self, moment_us: Option<u64>, now_us: u64) -> bool {
        let pause_us = self.limits.jwks_min_refresh_ms.saturating_mul(1000);
        moment_us.is_none_or(|moment_us| now_us.saturating_sub(moment_us) >= pause_us)
    }

    async fn fetch(&self) {
        let limit = Duration::from_millis(self.limits.jwks_timeout_ms);
        // The fetcher is told the limit; this one holds even if it does not.
        let outcome = match tokio::time::timeout(limit, self.read()).await {
            Ok(Ok(bytes)) => self.accept(&bytes),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("no answer in time".into()),
        };
        if let Err(reason) = outcome {
            let mut state = self.state();
            state.failures = state.failures.saturating_add(1);
            let failures = state.failures;
            drop(state);
            tracing::warn!(issuer = self.issuer, failures, reason, "cannot refresh the issuer's keys");
        }
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        let bytes_max = self.limits.jwks_bytes_max;
        match &self.source {
            JwksSource::Url(url) => self.get(url, is_local(url)).await,
            JwksSource::Discovered => {
                // Each time: an issuer may move its keys.
                let timeout_ms = self.limits.jwks_timeout_ms;
                let found = discover(&self.issuer, &self.reach, bytes_max, timeout_ms).await?;
                self.get(&found.jwks_uri, is_local(&discoverable(&self.issuer)?)).await
            }
            JwksSource::File(path) => {
                let file = tokio::fs::File::open(path).await.map_err(|error| error.to_string())?;
                let mut bytes = Vec::new();
                let mut bounded = file.take(bytes_max.saturating_add(1));
                bounded.read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
                Ok(bytes)
            }
        }
    }

    async fn get(&self, url: &Url, local: bool) -> Result<Vec<u8>, String> {
        let (bytes_max, timeout_ms) = (self.limits.jwks_bytes_max, self.limits.jwks_timeout_ms);
        Ok(self.reach.get(url, local, bytes_max, timeout_ms).await?.into())
    }

    /// Takes a fetched set into use. The generation moves only if something changed.
    fn accept(&self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() as u64 > self.limits.jwks_bytes_max {
            return Err("the key set exceeds `limits.jwks_bytes_max`".into());
        }
        let content = Digest::of(bytes);
        let secret = matches!(self.source, JwksSource::File(_));
        let mut state = self.state();
        let set = match &state.current {
            Some(current) if current.content == content => Arc::clone(&current.set),
            before => {
                let generation = before.as_ref().map_or(1, |current| current.set.generation.wrapping_add(1));
                let set = KeySet::parse(bytes, generation, secret, &self.limits)?;
                tracing::info!(
                    issuer = self.issuer,
                    keys = set.len(),
                    generation,
                    "the issuer's keys are in use"
                );
                Arc::new(set)
            }
        };
        let fetched_us = self.clock.ticks_us();
        state.current = Some(Current { set, content, fetched_us });
        state.failures = 0;
        // A file read at start counts as a fetch, so that unknown key ids cannot have it read at will.
        state.began_us.get_or_insert(fetched_us);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource")
            .field("issuer", &self.issuer)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
