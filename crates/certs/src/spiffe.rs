//! Certificates of a SPIFFE Workload API: its stream is followed for as long as the gateway runs, so that each new certificate
//! and each new authority is in use as soon as it is there. While the agent is away what it gave last stays, up to its end and
//! never beyond.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use portcullis_core::{Clock, Digest, Entropy, Event, Secret, Timestamp};
use portcullis_net::tls::{Bundles, ServerIdentity, Workload};
use portcullis_proof::entry::Entry;
use portcullis_store::Ledger;
use serde_json::{Value, json};
use spiffe::{WorkloadApiClient, X509Context, X509Svid, transport::Endpoint};
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use crate::counts::Counts;

/// For the connection and the first sign of an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Before the first new attempt, and at most; twice as long each time.
const PAUSE_MS: (u64, u64) = (500, 5_000);
/// How often the clock is looked at.
const LOOK_EVERY_MS: u64 = 60_000;
/// Trust domains of one answer; an agent that sends more is not believed.
const DOMAINS_MAX: usize = 1_000;

/// Which Workload API, and what of it.
#[derive(Clone, Debug)]
pub struct SpiffeSettings {
    /// Its socket, as `unix:/path`.
    pub socket: String,
    /// The ID that is ours, where the agent gives several; the first otherwise.
    pub id: Option<String>,
    /// How long the start waits for the first certificate.
    pub wait: Duration,
}

/// What it works with.
#[derive(Clone, Debug)]
pub struct SpiffeParts {
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

/// A certificate, and whose certificates hold.
#[derive(Debug)]
pub struct Svid {
    /// As a listener shows it.
    pub identity: ServerIdentity,
    /// The authorities of each trust domain.
    pub bundles: Bundles,
    until: Timestamp,
    digest: Digest,
}

#[derive(Debug, Default)]
struct State {
    svid: Option<Arc<Svid>>,
    /// Why there is none.
    error: Option<String>,
}

/// A Workload API that is followed. Clones are one; with the last one it ends.
#[derive(Clone)]
pub struct Spiffe(Arc<Inner>);

struct Inner {
    workload: Workload,
    state: watch::Receiver<State>,
    task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Spiffe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spiffe")
    }
}

impl Spiffe {
    /// Follows it, and waits for its first certificate. Inside a runtime.
    ///
    /// # Errors
    /// There is no such socket, or no certificate in time.
    pub async fn open(settings: SpiffeSettings, parts: SpiffeParts) -> Result<Self, String> {
        let endpoint = Endpoint::parse(&settings.socket).map_err(|error| error.to_string())?;
        if !matches!(endpoint, Endpoint::Unix(_)) {
            return Err(format!("`{}` is no Unix socket", settings.socket));
        }
        let (tell, mut state) = watch::channel(State::default());
        let workload = Workload::default();
        let wait = settings.wait;
        let following =
            Following { endpoint, id: settings.id, parts, workload: workload.clone(), tell, failing: false };
        let task = tokio::spawn(following.run()).abort_handle();
        let source = Self(Arc::new(Inner { workload, state: state.clone(), task }));
        let first = timeout(wait, state.wait_for(|state| state.svid.is_some())).await;
        if matches!(first, Ok(Ok(_))) {
            return Ok(source);
        }
        let why = source.0.state.borrow().error.clone();
        let why = why.unwrap_or_else(|| "it does not answer".to_owned());
        Err(format!("`{}` gave no certificate within {} s: {why}", settings.socket, wait.as_secs()))
    }

    /// What is in force. `None`: its time is over.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Svid>> {
        self.0.state.borrow().svid.clone()
    }

    /// The same for connections to servers.
    #[must_use]
    pub fn workload(&self) -> Workload {
        self.0.workload.clone()
    }

    /// Calls `show` whenever something else is in force, until `stop`.
    pub async fn follow(&self, show: impl Fn(Option<Arc<Svid>>) + Send, mut stop: watch::Receiver<bool>) {
        let mut state = self.0.state.clone();
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                changed = state.changed() => if changed.is_err() { return },
            }
            let svid = state.borrow_and_update().svid.clone();
            show(svid);
        }
    }
}

struct Following {
    endpoint: Endpoint,
    id: Option<String>,
    parts: SpiffeParts,
    workload: Workload,
    tell: watch::Sender<State>,
    failing: bool,
}

impl Following {
    async fn run(mut self) {
        let mut pause_ms = PAUSE_MS.0;
        loop {
            let why = self.stream(&mut pause_ms).await;
            self.failed(why).await;
            let mut chance = [0; 1];
            self.parts.entropy.fill(&mut chance);
            let pause = pause_ms / 5 * 4 + pause_ms / 5 * 2 * u64::from(chance[0]) / 255;
            let svid = self.held();
            tokio::select! {
                () = sleep(Duration::from_millis(pause)) => {}
                () = ended(&*self.parts.clock, svid.as_deref()) => self.end().await,
            }
            pause_ms = pause_ms.saturating_mul(2).min(PAUSE_MS.1);
        }
    }

    fn held(&self) -> Option<Arc<Svid>> {
        self.tell.borrow().svid.clone()
    }

    /// Follows one connection, and says why it is over.
    async fn stream(&mut self, pause_ms: &mut u64) -> String {
        let endpoint = self.endpoint.clone();
        let opening = async {
            let client = WorkloadApiClient::connect(endpoint).await?;
            client.stream_x509_contexts().await
        };
        let svid = self.held();
        let opened = tokio::select! {
            opened = timeout(ANSWER_MAX, opening) => opened,
            () = ended(&*self.parts.clock, svid.as_deref()) => {
                self.end().await;
                return "it does not answer".to_owned();
            }
        };
        let mut contexts = match opened {
            Ok(Ok(contexts)) => contexts,
            Ok(Err(error)) => return said(&error),
            Err(_) => return "it does not answer".to_owned(),
        };
        loop {
            let svid = self.held();
            let next = tokio::select! {
                next = contexts.next() => next,
                () = ended(&*self.parts.clock, svid.as_deref()) => {
                    self.end().await;
                    return "it gave no new certificate in time".to_owned();
                }
            };
            match next {
                None => return "it has ended the stream".to_owned(),
                Some(Err(error)) => return said(&error),
                Some(Ok(context)) => match self.take(&context).await {
                    Ok(()) => *pause_ms = PAUSE_MS.0,
                    // It may be mended by the next one.
                    Err(error) => self.failed(error).await,
                },
            }
        }
    }

    async fn take(&mut self, context: &X509Context) -> Result<(), String> {
        let svid = self.ours(context)?;
        let id = svid.spiffe_id().to_string();
        let (until, digest) = (until(svid.leaf().as_bytes())?, Digest::of(svid.leaf().as_bytes()));
        let now = self.parts.clock.now();
        if until <= now {
            return Err(format!("its certificate for `{id}` is over since {until}"));
        }
        if context.bundle_set().len() > DOMAINS_MAX {
            return Err(format!("it names more than {DOMAINS_MAX} trust domains"));
        }
        let bundles: Bundles = context
            .bundle_set()
            .iter()
            .map(|(domain, bundle)| {
                let all = bundle.authorities().iter().map(|one| pem("CERTIFICATE", one.as_bytes()));
                (domain.to_string(), all.flat_map(|text| text.as_bytes().to_vec()).collect())
            })
            .collect();
        let chain = svid.cert_chain().iter().map(|one| pem("CERTIFICATE", one.as_bytes()));
        let identity = ServerIdentity {
            cert_pem: chain.flat_map(|text| text.as_bytes().to_vec()).collect(),
            key_pem: Secret::new(pem("PRIVATE KEY", svid.private_key().as_bytes()).as_bytes().to_vec()),
            ocsp: None,
        };
        self.workload.put(&identity, &bundles).map_err(|error| error.to_string())?;
        let known = self.held().is_some_and(|held| held.digest == digest);
        self.failing = false;
        let fresh = Arc::new(Svid { identity, bundles, until, digest });
        self.tell.send_replace(State { svid: Some(fresh), error: None });
        self.parts.counts.expires(until.seconds());
        if !known {
            self.parts.counts.ordered(true);
            tracing::info!(id, %until, "the SPIFFE Workload API gave a certificate");
            self.record(Event::CertificateObtained, [("id", json!(id)), ("until", json!(until.to_string()))])
                .await;
        }
        Ok(())
    }

    /// The certificate that is meant.
    fn ours<'a>(&self, context: &'a X509Context) -> Result<&'a X509Svid, String> {
        let Some(wanted) = &self.id else {
            return context
                .default_svid()
                .map(|svid| &**svid)
                .ok_or_else(|| "it gave no certificate".to_owned());
        };
        let found = context.svids().iter().find(|svid| svid.spiffe_id().to_string() == *wanted);
        found.map(|svid| &**svid).ok_or_else(|| format!("it gave no certificate for `{wanted}`"))
    }

    /// What was given is over.
    async fn end(&mut self) {
        self.workload.end();
        self.tell.send_modify(|state| state.svid = None);
        self.failing = false;
        self.failed("the certificate is over, and there is no other".to_owned()).await;
    }

    async fn failed(&mut self, why: String) {
        if self.failing {
            tracing::debug!(why, "the SPIFFE Workload API is tried again");
        } else {
            self.failing = true;
            self.parts.counts.ordered(false);
            tracing::error!(
                why,
                "the SPIFFE Workload API gives no certificate; what it gave stays up to its end"
            );
            self.record(Event::CertificateFailed, [("detail", json!(why))]).await;
        }
        self.tell.send_if_modified(|state| {
            state.error = Some(why);
            false
        });
    }

    async fn record<const N: usize>(&self, event: Event, data: [(&'static str, Value); N]) {
        let mut entry = Entry::new(event, self.parts.clock.now(), &self.parts.instance);
        entry.data = BTreeMap::from(data).into_iter().collect();
        entry.data.insert("source", json!("spiffe"));
        if let Err(error) = self.parts.ledger.append(entry.to_jcs()).await {
            tracing::error!(%error, "what the SPIFFE Workload API gave could not be recorded");
        }
    }
}

/// Waits until the time of a certificate is over; for ever where there is none.
async fn ended(clock: &dyn Clock, svid: Option<&Svid>) {
    let Some(svid) = svid else { return std::future::pending().await };
    loop {
        let left = svid.until.0.saturating_sub(clock.now().0);
        if left == 0 {
            return;
        }
        // The clock may be set meanwhile.
        sleep(Duration::from_millis(left.min(LOOK_EVERY_MS))).await;
    }
}

fn until(leaf: &[u8]) -> Result<Timestamp, String> {
    let (_, read) = parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(read.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Timestamp(seconds.saturating_mul(1_000)))
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut out = Zeroizing::new(String::with_capacity(text.len() + text.len() / 64 + 64));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    for (at, letter) in text.chars().enumerate() {
        out.push_str(match at {
            0 => "-----\n",
            at if at % 64 == 0 => "\n",
            _ => "",
        });
        out.push(letter);
    }
    out.push_str("\n-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// What an error says, for the log and the ledger: without what could break a line, and not all of it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    // Some say it themselves.
    if let Some(source) =
        error.source().map(ToString::to_string).filter(|source| !text.contains(source.as_str()))
    {
        text = format!("{text}: {source}");
    }
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
