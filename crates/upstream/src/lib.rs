//! Servers behind the gateway, over Streamable HTTP or as child processes, spoken to in their own era. Bytes in,
//! bytes out: what they mean is decided by the stages.

pub mod events;
pub mod headers;
pub mod http;
mod merged;
pub mod own;
mod pending;
pub mod spoken;
pub mod sse;
pub mod stdio;
pub mod tokens;

use std::{fmt, pin::Pin, time::Duration};

use ::http::HeaderMap;
use bytes::Bytes;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::{
    json::JsonLimits,
    jsonrpc::{Message, Shape},
    sse::Event,
};
use tokio::time::timeout;

pub use self::headers::Verb;
pub use self::http::HttpPeer;
pub use self::merged::Merged;
pub use self::sse::SseServer;
pub use self::stdio::StdioPeer;
pub use self::tokens::{Behalf, Tokens, Unauthorized};

/// One server, reached one way.
#[derive(Debug)]
pub enum Upstream {
    /// None of its own: the route leads to several servers.
    Group,
    /// Streamable HTTP.
    Http(Box<HttpPeer>),
    /// Child processes, and connections of the transport before Streamable HTTP: one channel in each direction.
    Stdio(Box<StdioPeer>),
}

impl Upstream {
    /// Whether callers have credentials of their own there, so that what one of them sees is not for another.
    #[must_use]
    pub fn personal(&self) -> bool {
        match self {
            Self::Http(peer) => peer.personal(),
            Self::Group | Self::Stdio(_) => false,
        }
    }

    /// On whose behalf something is kept: the caller's, and the token's with which it came where that matters.
    #[must_use]
    pub fn keeps_for(&self, behalf: &Behalf) -> Behalf {
        match self {
            Self::Http(peer) => peer.keeps_for(behalf),
            Self::Group | Self::Stdio(_) => Behalf::of(&behalf.caller),
        }
    }

    /// Notes on whose behalf the request with these headers is made, where that matters.
    pub fn on_behalf_of(&self, headers: &mut HeaderMap, behalf: &Behalf) {
        match self {
            Self::Http(peer) if peer.asks_for_whom() => tokens::on_behalf_of(headers, behalf),
            Self::Group | Self::Http(_) | Self::Stdio(_) => {}
        }
    }
}

/// Who shares a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each caller has its own.
    PerCaller,
    /// Each session has its own; messages without a session share one per caller.
    PerSession,
    /// One for everybody. The server cannot ask clients anything.
    Shared,
    /// There is one caller. The gateway reads the catalogue on the process that this caller has opened, so that a
    /// program which is meant to run once does.
    Solo,
}

/// What a server answered.
#[derive(Debug)]
pub enum Reply {
    /// Taken, nothing to say (202).
    Accepted,
    /// One message.
    Unary {
        /// HTTP status; 200 from a child process.
        status: u16,
        /// The message.
        bytes: Bytes,
        /// The session id that came with it.
        session: Option<String>,
    },
    /// Messages as they come.
    Stream {
        /// Where they come from.
        events: Events,
        /// The session id that came with it.
        session: Option<String>,
    },
}

impl Reply {
    /// The answer to a request of the gateway itself; what else the server says in its course is dropped, and one that
    /// talks without end does not keep anybody for longer than a call may take.
    ///
    /// # Errors
    /// `answer.*`, `upstream.*`.
    pub async fn answer(self, limits: &Limits) -> Result<Message, Refusal> {
        let mut events = match self {
            Self::Unary { bytes, .. } => return parse(bytes, limits),
            Self::Accepted => {
                return Err(Refusal::new(Code::AnswerInvalid, "a request that was not answered"));
            }
            Self::Stream { events, .. } => events,
        };
        let answer = async {
            while let Some(event) = events.next(limits, false).await? {
                let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
                let message = parse(data, limits)?;
                if matches!(message.shape(), Shape::Response | Shape::Error) {
                    return Ok(message);
                }
            }
            Err(Refusal::new(Code::AnswerInvalid, "the stream ended before the request was answered"))
        };
        let total = Duration::from_millis(limits.total_timeout_ms);
        timeout(total, answer).await.map_err(|_| {
            Refusal::new(Code::UpstreamTimeout, "the answer took longer than total_timeout_ms")
        })?
    }

    /// The session id that came with it.
    fn session(&self) -> Option<&String> {
        match self {
            Self::Accepted => None,
            Self::Stream { session, .. } | Self::Unary { session, .. } => session.as_ref(),
        }
    }
}

/// A message of a server.
///
/// # Errors
/// `answer.invalid`.
pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Message, Refusal> {
    Message::parse(bytes, &JsonLimits::answer(limits))
        .map_err(|error| Refusal::new(Code::AnswerInvalid, error.to_string()))
}

/// Messages of a server as they come. Dropping it over HTTP closes the connection, which cancels the request
/// under revision 2026-07-28.
#[derive(Debug)]
pub enum Events {
    /// An event stream.
    Http(Box<events::EventStream>),
    /// Messages of another era, translated.
    Bridged(Box<dyn Bridged>),
    /// Streams of several servers in one.
    Merged(Merged),
    /// Lines of a child process that concern one call or one session.
    Stdio(stdio::Lines),
}

/// The next event of a bridged stream, when it is there.
pub type NextEvent<'a> = Pin<Box<dyn Future<Output = Result<Option<Event>, Refusal>> + Send + 'a>>;

/// Messages of a server of another era, as the client's era says them.
pub trait Bridged: fmt::Debug + Send {
    /// As [`Events::next`].
    fn next<'a>(&'a mut self, limits: &'a Limits) -> NextEvent<'a>;
}

impl Events {
    /// The next event; `None` at the orderly end.
    ///
    /// # Errors
    /// `upstream.timeout` after too long a silence, `answer.too_large` beyond the size of one event,
    /// `upstream.unavailable` when the connection or the child is gone.
    pub async fn next(&mut self, limits: &Limits, endless: bool) -> Result<Option<Event>, Refusal> {
        match self {
            Self::Bridged(bridged) => bridged.next(limits).await,
            Self::Http(stream) => stream.next(limits, endless).await,
            Self::Merged(merged) => Ok(merged.next().await),
            Self::Stdio(lines) => lines.next(limits, endless).await,
        }
    }
}
