//! What authorities say of the revocation of our certificates (OCSP), fetched to be shown beside them: ahead of its end, bounded,
//! verified before it is shown, and never shown beyond its time. A certificate that says that it is good with such an answer alone
//! (must-staple) is not shown without one; all others are.

mod response;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use portcullis_core::{Clock, Digest, Event, Limits, Timestamp};
use portcullis_net::{
    client::{HttpUpstream, UpstreamOptions},
    guard::{EgressPolicy, parse_url},
    tls::ServerIdentity,
};
use portcullis_proof::entry::Entry;
use portcullis_store::Ledger;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use url::Url;

use self::response::{Judged, Pair, must_staple, responder};
use crate::counts::Counts;

/// Bytes of an answer. One with a certificate of its responder has some two thousand.
const ANSWER_BYTES_MAX: usize = 65_536;
/// For one question, name lookup included.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// After the first failure, and at most; twice as long each time.
const PAUSE_MS: (u64, u64) = (5_000, 3_600_000);
/// How often the clock is looked at.
const LOOK_EVERY_MS: u64 = 60_000;

/// Where responders may be.
#[derive(Clone, Debug)]
pub struct OcspSettings {
    /// Asked in the place of what certificates name.
    pub url: Option<Url>,
    /// Addresses that responders may have.
    pub egress: EgressPolicy,
}

/// What it works with.
#[derive(Clone, Debug)]
pub struct OcspParts {
    /// Where failures are recorded.
    pub ledger: Arc<dyn Ledger>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The name of the gateway in the ledger.
    pub instance: Arc<str>,
    /// What is counted.
    pub counts: Counts,
}

/// Fetches answers and keeps them. Clones are one.
#[derive(Clone)]
pub struct Ocsp(Arc<Inner>);

struct Inner {
    settings: OcspSettings,
    parts: OcspParts,
    /// By the digest of the certificate.
    wanted: Mutex<HashMap<Digest, Wanted>>,
    changed: Notify,
}

#[derive(Clone)]
struct Wanted {
    /// The certificate and the rest of its chain.
    chain: Arc<[CertificateDer<'static>]>,
    answer: Option<(Vec<u8>, Timestamp)>,
    due: Timestamp,
    failures: u32,
}

impl fmt::Debug for Ocsp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ocsp")
    }
}

impl Ocsp {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(settings: OcspSettings, parts: OcspParts) -> Self {
        Self(Arc::new(Inner { settings, parts, wanted: Mutex::default(), changed: Notify::new() }))
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<Digest, Wanted>> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives these certificates what is there for them, and has the rest fetched. One that is good with an answer alone is left
    /// out while there is none. What an operator gave stays.
    #[must_use]
    pub fn dress(&self, identities: Vec<ServerIdentity>) -> Vec<ServerIdentity> {
        let now = self.0.parts.clock.now();
        let mut wanted = self.wanted();
        let mut seen = HashMap::new();
        let dressed = identities.into_iter().filter_map(|mut one| {
            if one.ocsp.is_some() {
                return Some(one);
            }
            let read = CertificateDer::pem_slice_iter(&one.cert_pem).collect::<Result<Vec<_>, _>>();
            let Some(leaf) = read.as_ref().ok().and_then(|chain| chain.first()) else { return Some(one) };
            if self.0.settings.url.is_none() && responder(leaf).is_none() {
                return Some(one);
            }
            let (digest, strict) = (Digest::of(leaf), must_staple(leaf));
            let chain = read.unwrap_or_default().into();
            let fresh = Wanted { chain, answer: None, due: now, failures: 0 };
            let kept = wanted.remove(&digest).unwrap_or(fresh);
            one.ocsp =
                kept.answer.as_ref().filter(|(_, until)| *until > now).map(|(answer, _)| answer.clone());
            seen.insert(digest, kept);
            (one.ocsp.is_some() || !strict).then_some(one)
        });
        let dressed = dressed.collect();
        *wanted = seen;
        self.0.changed.notify_one();
        dressed
    }

    /// Fetches what is due until `stop`; `show` is called whenever other answers are to be shown.
    pub async fn run(self, show: impl Fn() + Send, mut stop: watch::Receiver<bool>) {
        loop {
            if self.look().await {
                show();
            }
            let now = self.0.parts.clock.now();
            let next = self.wanted().values().map(|one| one.next().0.saturating_sub(now.0)).min();
            let wait = next.unwrap_or(LOOK_EVERY_MS).clamp(100, LOOK_EVERY_MS);
            tokio::select! {
                _ = stop.changed() => return,
                () = sleep(Duration::from_millis(wait)) => {}
                () = self.0.changed.notified() => {}
            }
        }
    }

    /// Whether something else is to be shown.
    async fn look(&self) -> bool {
        let now = self.0.parts.clock.now();
        let mut other = false;
        let due: Vec<_> = {
            let mut wanted = self.wanted();
            for one in wanted.values_mut() {
                if one.answer.as_ref().is_some_and(|(_, until)| *until <= now) {
                    one.answer = None;
                    other = true;
                }
            }
            wanted
                .iter()
                .filter(|(_, one)| one.due <= now)
                .map(|(digest, one)| (*digest, one.clone()))
                .collect()
        };
        for (digest, one) in due {
            let asked = self.ask(&one.chain).await;
            self.0.parts.counts.answered(asked.is_ok());
            if let Err(why) = &asked
                && one.failures == 0
            {
                tracing::error!(
                    why,
                    "no OCSP answer for a certificate; what was fetched stays up to its end"
                );
                self.record(why).await;
            }
            let now = self.0.parts.clock.now();
            let mut wanted = self.wanted();
            let Some(kept) = wanted.get_mut(&digest) else { continue };
            match asked {
                Ok((answer, Judged { from, until, .. })) => {
                    other |= kept.answer.as_ref().is_none_or(|(old, _)| *old != answer);
                    // At half of its time; one that is nearly over is fetched anew after a while.
                    let half = Timestamp(from.0.midpoint(until.0)).max(now.plus_ms(PAUSE_MS.0));
                    (kept.answer, kept.due, kept.failures) = (Some((answer, until)), half, 0);
                }
                Err(_) => {
                    let pause =
                        PAUSE_MS.0.saturating_mul(2_u64.saturating_pow(kept.failures)).min(PAUSE_MS.1);
                    kept.due = now.plus_ms(pause);
                    kept.failures = kept.failures.saturating_add(1);
                }
            }
        }
        other
    }

    /// One question, and an answer that holds.
    async fn ask(&self, chain: &[CertificateDer<'static>]) -> Result<(Vec<u8>, Judged), String> {
        let Inner { settings, parts, .. } = &*self.0;
        let [leaf, issuer, ..] = chain else {
            return Err("the chain holds no certificate of the authority".to_owned());
        };
        let pair = Pair::read(leaf, issuer)?;
        let mut egress = settings.egress;
        // What is answered is signed, and nothing in the question is secret.
        egress.allow_http = true;
        let url = match &settings.url {
            Some(url) => url.clone(),
            None => parse_url(&responder(leaf).ok_or("the certificate names no responder")?, &egress)
                .map_err(|error| error.to_string())?,
        };
        let mut options = UpstreamOptions::new(egress, &Limits::default());
        options.connect_timeout = ANSWER_MAX;
        options.first_byte_timeout = ANSWER_MAX;
        let upstream = HttpUpstream::new(&url, &options).map_err(|error| error.to_string())?;
        let mut request = Request::new(Full::new(Bytes::from(pair.request()?)));
        *request.method_mut() = Method::POST;
        let kind = HeaderValue::from_static("application/ocsp-request");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        let fetched = upstream.fetch(request, ANSWER_BYTES_MAX, ANSWER_MAX).await;
        let (status, body) = fetched.map_err(|error| error.to_string())?;
        if status != StatusCode::OK {
            return Err(format!("the responder answered `{status}`"));
        }
        let judged = pair.judge(&body, parts.clock.now())?;
        if judged.revoked {
            tracing::error!("a certificate of the listener is revoked; clients are told so");
            self.record("the certificate is revoked").await;
        }
        Ok((body.to_vec(), judged))
    }

    async fn record(&self, why: &str) {
        let parts = &self.0.parts;
        let mut entry = Entry::new(Event::CertificateFailed, parts.clock.now(), &parts.instance);
        entry.data.insert("source", json!("ocsp"));
        entry.data.insert("detail", json!(why.chars().take(500).collect::<String>()));
        if let Err(error) = parts.ledger.append(entry.to_jcs()).await {
            tracing::error!(%error, "what a responder says could not be recorded");
        }
    }
}

impl Wanted {
    /// When it is looked at next.
    fn next(&self) -> Timestamp {
        self.answer.as_ref().map_or(self.due, |(_, until)| self.due.min(*until))
    }
}
