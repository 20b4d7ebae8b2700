//! What a sink is: something that takes messages, and says when it has them.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use portcullis_core::{Clock, Secret};
use portcullis_net::{client::raw::RawPeer, guard::EgressPolicy, tls::ClientTls};
use url::Url;

use crate::{Fields, Filter, Format, Grade, formats::Body};

/// One thing to send.
#[derive(Clone, Debug)]
pub struct Message {
    /// Index of its entry in the log.
    pub index: u64,
    /// Names it among all messages of all gateways, so that a receiver can tell one that comes twice.
    pub id: String,
    /// When it happened, in milliseconds since 1970.
    pub at_ms: u64,
    /// How grave it is.
    pub grade: Grade,
    /// Its event class.
    pub event: String,
    /// The name of the log, which is that of the gateway.
    pub log: Arc<str>,
    /// As the format of the sink has it.
    pub body: Body,
}

/// Why messages were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The receiver cannot be used now.
    #[error("{0}")]
    Away(String),
    /// It does not want these messages, for what they are.
    #[error("refused: {0}")]
    Refused(String),
}

impl Failure {
    /// The receiver cannot be used now.
    pub(crate) fn away(error: impl fmt::Display) -> Self {
        Self::Away(error.to_string())
    }
}

/// A receiver. One at a time has it, and what it says it has taken is not sent again.
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// Sends messages, in order, and returns when the receiver has all of them.
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure>;

    /// How long after sending the receiver is taken to have them, where its protocol knows no answer: for as long, what was
    /// sent is sent again when the connection breaks.
    fn settles(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the connection still stands, where the protocol knows no answer.
    async fn alive(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A secret that a sink shows, looked up each time.
#[async_trait]
pub trait Credential: Send + Sync + fmt::Debug {
    /// Its value now.
    async fn value(&self) -> Result<Secret<String>, String>;
}

/// How a receiver is reached.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Which addresses it may have.
    pub egress: EgressPolicy,
    /// What is wanted of its certificate, and the one that is shown to it.
    pub tls: ClientTls,
    /// For one delivery.
    pub timeout: Duration,
}

/// A sink, as configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Which kind, by its name in the catalogue.
    pub kind: String,
    /// Where the receiver is.
    pub url: Option<Url>,
    /// The file, for sinks that are one.
    pub path: Option<PathBuf>,
    /// A token or password that it wants.
    pub token: Option<Arc<dyn Credential>>,
    /// How entries are written.
    pub format: &'static Format,
    /// Which entries.
    pub filter: Filter,
    /// What of them.
    pub fields: Fields,
    /// Name of the index, data stream or subject at the receiver.
    pub index: Option<String>,
    /// The receiver acknowledges what it has indexed, and not only what it has taken (Splunk).
    pub acknowledged: bool,
    /// Files are begun anew at this size, in bytes.
    pub file_bytes_max: u64,
    /// Files that are kept beside the newest.
    pub files_kept: u64,
    /// A sink that was never here starts at the first entry of the log, not at the next one.
    pub from_start: bool,
    /// How it is reached.
    pub reach: Reach,
    /// The time, for signatures.
    pub clock: Arc<dyn Clock>,
    /// Changes when anything that the sink depends on does.
    pub signature: String,
}

impl Settings {
    /// The receiver of a protocol that is not HTTP, at this port unless the URL names another.
    pub(crate) fn raw_peer(&self, port: u16) -> Result<RawPeer, String> {
        let url = self.url()?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("`url` names no host")?;
        let (port, reach) = (url.port().unwrap_or(port), &self.reach);
        RawPeer::new((host, port), reach.egress, &reach.tls, reach.timeout).map_err(|error| error.to_string())
    }

    /// Where the receiver is.
    pub(crate) fn url(&self) -> Result<&Url, String> {
        self.url.as_ref().ok_or_else(|| "`url` is missing".to_owned())
    }
}
