//! A certificate of an ACME server (RFC 8555): ordered when there is none, again when two thirds of its time are over, and
//! shown as soon as it is there. Gateways on one store share it: one of them orders, all of them answer what the server
//! asks to see whose the names are. While an order fails, what was there stays.

mod answer;
mod book;
mod order;
mod pace;
mod way;

use std::{fmt, sync::Arc, time::Duration};

use portcullis_core::{Clock, Entropy, Event, Secret};
use portcullis_net::{guard::EgressPolicy, tls::ServerIdentity};
use portcullis_proof::entry::Entry;
use portcullis_seal::Sealer;
use portcullis_store::{Connections, Ledger, Revisions};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use url::Url;

pub use self::answer::HttpAnswers;
use self::book::{Book, Claim};
use crate::{counts::Counts, held::Held};

/// How long an order may take, with all that the server waits for.
const ORDER_MAX: Duration = Duration::from_secs(240);
/// How long a claim counts, which is longer than an order can take. A gateway that crashes in the middle of one keeps the
/// others from it for so long.
const CLAIM_MS: u64 = 300_000;
/// How often the clock is looked at while nothing is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often while the store cannot be read, or its keys are not open.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// How the server finds out whose a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a handshake with the listener (RFC 8737).
    TlsAlpn01,
    /// By a request on port 80.
    Http01,
}

/// An account at the server's owner, to which ours is bound (RFC 8555 section 7.3.4).
#[derive(Clone, Debug)]
pub struct External {
    /// Its name.
    pub id: String,
    /// Its key.
    pub key: Secret<Vec<u8>>,
}

/// What is ordered, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's directory.
    pub directory: Url,
    /// Addresses that it may resolve to.
    pub egress: EgressPolicy,
    /// PEM texts of authorities that are trusted for it, beside the platform's.
    pub roots_pem: Vec<Vec<u8>>,
    /// Whom the server tells of trouble.
    pub contact: Vec<String>,
    /// The names of the certificate.
    pub domains: Vec<String>,
    /// How they are proven to be ours.
    pub way: Way,
    /// An account elsewhere, where the server wants one.
    pub external: Option<External>,
}

/// What it works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where account, certificate and answers are kept, sealed.
    pub registrations: Arc<dyn Connections>,
    /// Where it stands who orders.
    pub revisions: Arc<dyn Revisions>,
    /// Seals them.
    pub sealer: Sealer,
    /// Where it is recorded.
    pub ledger: Arc<dyn Ledger>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from.
    pub entropy: Arc<dyn Entropy>,
    /// The name of the gateway in the ledger.
    pub instance: Arc<str>,
    /// What is counted.
    pub counts: Counts,
}

/// Keeps a certificate fresh. Clones are one.
#[derive(Clone)]
pub struct Acme(Arc<Inner>);

struct Inner {
    settings: Settings,
    parts: Parts,
    book: Book,
    /// Names this process among those on the store.
    holder: String,
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme").field("directory", &self.0.settings.directory.as_str()).finish_non_exhaustive()
    }
}

impl Acme {
    /// Nothing is asked or read yet.
    #[must_use]
    pub fn new(settings: Settings, parts: Parts) -> Self {
        let mut holder = [0; 16];
        parts.entropy.fill(&mut holder);
        let holder = holder.iter().map(|byte| format!("{byte:02x}")).collect();
        let kept = (&parts.registrations, &parts.revisions);
        let book = Book::new(&settings, kept, (&parts.sealer, &parts.entropy));
        Self(Arc::new(Inner { settings, parts, book, holder }))
    }

    /// The certificate that is kept, where there is one that opens.
    pub async fn kept(&self) -> Option<ServerIdentity> {
        self.held().await.ok()?.map(|held| held.identity())
    }

    async fn held(&self) -> Result<Option<Held>, String> {
        let Some(text) = self.0.book.certificate().await? else { return Ok(None) };
        Held::read(&text, &self.0.settings.domains).map(Some)
    }

    /// Keeps it fresh until `stop`; `show` is told of every new one, also of those that another gateway ordered.
    pub async fn run(self, show: impl Fn(ServerIdentity) + Send, mut stop: watch::Receiver<bool>) {
        let mut changed = self.0.parts.revisions.changed();
        let mut shown = None;
        loop {
            changed.borrow_and_update();
            let wait = match self.held().await {
                Ok(held) => {
                    if let Some(held) = held.as_ref().filter(|held| shown != Some(held.digest())) {
                        shown = Some(held.digest());
                        self.0.parts.counts.expires(held.until.seconds());
                        show(held.identity());
                    }
                    self.look(held).await
                }
                Err(error) => {
                    tracing::error!(error, "the certificate that is kept cannot be read; it is read again");
                    READ_AGAIN
                }
            };
            tokio::select! {
                _ = stop.changed() => return,
                () = sleep(wait) => {}
                Ok(()) = changed.changed() => {}
            }
        }
    }

    /// Orders a certificate if that is due, and says how long to wait.
    async fn look(&self, held: Option<Held>) -> Duration {
        let Inner { parts, book, .. } = &*self.0;
        let now = parts.clock.now();
        let due = held.map_or(now, |held| {
            pace::due((held.from, held.until), pace::chance(&parts.instance, held.digest()))
        });
        if now < due {
            return Duration::from_millis(due.0.saturating_sub(now.0)).min(LOOK_EVERY);
        }
        if !parts.sealer.is_open() {
            return READ_AGAIN;
        }
        match book.claim(&self.0.holder, (now, now.plus_ms(CLAIM_MS))).await {
            Ok(Claim::Ours(failures)) => {
                Box::pin(self.renew(failures)).await;
                Duration::ZERO
            }
            Ok(Claim::Until(until)) => Duration::from_millis(until.0.saturating_sub(now.0)).min(LOOK_EVERY),
            Err(error) => {
                tracing::error!(
                    error,
                    "it cannot be found out who orders the certificate; it is tried again"
                );
                READ_AGAIN
            }
        }
    }

    /// One order, whatever comes of it.
    async fn renew(&self, failures: u32) {
        let Inner { parts, book, holder, settings } = &*self.0;
        let way = way::Client::new(settings, &parts.clock);
        let outcome = match &way {
            Ok(way) => {
                timeout(ORDER_MAX, Box::pin(self.order(way))).await.unwrap_or(Err("it took too long".into()))
            }
            Err(error) => Err(error.clone()),
        };
        let kept = match outcome {
            Ok(held) => book.keep(&held).await.map(|()| held),
            Err(error) => Err(error),
        };
        let now = parts.clock.now();
        let (event, data, failures, until) = match kept {
            Ok(held) => (Event::CertificateObtained, json!(held.until.to_string()), 0, now),
            Err(error) => {
                let asked_ms = way.as_ref().map_or(0, way::Client::pause_ms);
                let mut chance = [0; 1];
                parts.entropy.fill(&mut chance);
                let pause = pace::pause_ms(failures, chance[0]).max(asked_ms);
                tracing::error!(
                    error,
                    pause_s = pause / 1_000,
                    "no certificate was obtained; what was shown stays"
                );
                (Event::CertificateFailed, json!(error), failures.saturating_add(1), now.plus_ms(pause))
            }
        };
        let obtained = event == Event::CertificateObtained;
        parts.counts.ordered(obtained);
        if obtained {
            tracing::info!(domains = settings.domains.join(" "), "a certificate was obtained");
        }
        self.record(event, if obtained { "until" } else { "detail" }, data).await;
        if let Err(error) = book.settle(holder, (failures, until), now).await {
            tracing::error!(error, "it cannot be kept that the order is over; others wait until it would be");
        }
    }

    async fn record(&self, event: Event, name: &'static str, value: serde_json::Value) {
        let Inner { parts, settings, .. } = &*self.0;
        let mut entry = Entry::new(event, parts.clock.now(), &parts.instance);
        entry.data.insert("directory", json!(settings.directory.as_str()));
        entry.data.insert("domains", json!(settings.domains));
        entry.data.insert(name, value);
        if let Err(error) = parts.ledger.append(entry.to_jcs()).await {
            tracing::error!(%error, "what became of the order could not be recorded");
        }
    }
}
