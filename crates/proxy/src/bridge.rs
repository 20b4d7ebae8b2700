//! Between a client of one era and a server of the other. What goes to the server is translated behind `arm`; what
//! comes back is translated before it is judged, so that what is inspected and recorded is what the client gets.

mod aside;
mod changes;
mod held;
mod legacy_client;
mod link;
mod listener;
mod modern_client;
mod pool;
mod rounds;
mod running;
mod unwanted;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_core::{Clock, Code, Entropy, Limits, Refusal};
use portcullis_mcp::{
    bridge::{Passage, passage},
    jsonrpc::{Id, Message},
    method::{MethodRow, Side},
    revision::{Era, MODERN, ParamHeader, mirrored},
};

use self::{held::Held, pool::Pool, running::Requests};
pub use self::{legacy_client::BridgedSession, unwanted::Unwanted};
use crate::{
    head::{NAME, PARAM_PREFIX},
    rules::Server,
    tasks::reparsed,
};
use portcullis_seal::Sealer;
use portcullis_upstream::{
    Behalf, Reply, Upstream, Verb, headers::METHOD, headers::SESSION, headers::VERSION, parse, stdio::Owner,
};

/// Kinds of questions that a server may be allowed to ask.
const QUESTIONS: &[&str] = &["elicitation/create", "roots/list", "sampling/createMessage"];

/// One message on its way from a client of one era to a server of the other.
#[derive(Debug)]
pub struct Crossing<'a> {
    /// Where it goes.
    pub server: &'a Arc<Server>,
    /// Whose it is.
    pub caller: &'a str,
    /// The same, with the token with which it came where that is known.
    pub behalf: Behalf,
    /// The message as it was judged and recorded.
    pub message: &'a Message,
    /// Its row in the table of methods.
    pub row: &'static MethodRow,
    /// The headers it was armed with.
    pub headers: HeaderMap,
    /// Arguments that the server wants mirrored.
    pub annotated: &'a [ParamHeader],
    /// The limits in force.
    pub limits: &'a Limits,
    /// Where it is noted what the server says in vain.
    pub unwanted: &'a Arc<Unwanted>,
}

impl Crossing<'_> {
    /// The id of the request (JSON text).
    fn id(&self) -> Bytes {
        self.message.id().map(|id| id.raw().clone()).unwrap_or_default()
    }

    /// The progress token of the request (JSON text).
    fn token(&self) -> Option<Bytes> {
        let token = self.message.params()?.path(&["_meta", "progressToken"])?;
        Some(Bytes::copy_from_slice(token.raw()))
    }

    /// Refuses what has no counterpart on the other side.
    fn passes(&self, client: Era, server: Era) -> Result<(), Refusal> {
        match passage(self.row, Side::Client, client, server) {
            Passage::Answered | Passage::Translated => Ok(()),
            Passage::Absent | Passage::Refused | Passage::Straight => Err(untranslatable(self.row.name)),
        }
    }
}

/// What the bridge of one node holds.
#[derive(Debug)]
pub struct Bridge {
    pool: Pool,
    held: Arc<Held>,
    requests: Requests,
}

impl Bridge {
    /// A bridge whose states every node with the same `sealer` can open.
    #[must_use]
    pub fn new(sealer: Sealer, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let held = Arc::new(Held::new(sealer, Arc::clone(&clock), entropy));
        Self { pool: Pool::new(clock), held, requests: Requests::default() }
    }

    /// Gives up calls that wait for their callers' answers where `stopped` says so of caller and server.
    pub fn give_up(&self, stopped: impl Fn(&str, &str) -> bool) {
        self.held.give_up(stopped);
    }

    /// Ends sessions with servers that nobody uses, and calls whose question nobody answered in time.
    pub fn sweep(&self, limits: &Limits) {
        self.pool.sweep(limits);
        self.held.sweep();
    }
}

fn untranslatable(what: &str) -> Refusal {
    Refusal::new(Code::BridgeUntranslatable, format!("`{what}` has no counterpart in the server's revision"))
}

/// Whether an answer is the one to the request that was sent with this number.
fn answers(message: &Message, number: u64) -> bool {
    let sent = Id::from_json(Bytes::from(number.to_string()));
    message.id().is_none_or(|id| Some(id) == sent)
}

fn wrong_id() -> Refusal {
    Refusal::new(Code::AnswerInvalid, "an answer with another request's id")
}

/// The headers that reach any server, without what a revision says in headers.
fn plain_headers(armed: &HeaderMap) -> HeaderMap {
    let of_revision = |name: &HeaderName| {
        [METHOD, NAME, VERSION, SESSION].contains(name)
            || name.as_str().starts_with(PARAM_PREFIX)
            || name.as_str() == "last-event-id"
    };
    let mut headers: HeaderMap = armed
        .iter()
        .filter(|(name, _)| !of_revision(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers
}

/// Sends a request of the newer revision.
async fn send_modern(
    server: &Server,
    caller: &str,
    headers: HeaderMap,
    message: Bytes,
    limits: &Limits,
) -> Result<Reply, Refusal> {
    match &server.upstream {
        Upstream::Group => Err(Refusal::new(Code::Internal, "a route over several servers on the bridge")),
        Upstream::Http(peer) => peer.send(Verb::Post, headers, message, limits).await,
        Upstream::Stdio(peer) => {
            let message = reparsed(message)?;
            let endless = message.method_name().as_deref() == Some("subscriptions/listen");
            let process = peer.modern(Owner::Caller(caller), limits).await?;
            let mut lines = process.request(&message, None, true).await?;
            Ok(match lines.only(limits, endless).await? {
                Some(bytes) => Reply::Unary { status: 200, bytes, session: None },
                None => Reply::Stream { events: portcullis_upstream::Events::Stdio(lines), session: None },
            })
        }
    }
}

/// The headers of a request of the newer revision.
fn modern_headers(
    armed: &HeaderMap,
    method: &'static str,
    name: Option<&str>,
    params: Vec<(String, String)>,
) -> Result<HeaderMap, Refusal> {
    let unfit =
        |what: &str| Refusal::new(Code::RequestInvalid, format!("`{what}` does not fit into a header"));
    let mut headers = plain_headers(armed);
    headers.insert(VERSION, HeaderValue::from_static(MODERN));
    headers.insert(METHOD, HeaderValue::from_static(method));
    if let Some(name) = name {
        headers.insert(NAME, HeaderValue::try_from(&*mirrored(name)).map_err(|_| unfit("name"))?);
    }
    for (param, value) in params {
        let name = HeaderName::try_from(format!("{PARAM_PREFIX}{}", param.to_ascii_lowercase()));
        let name = name.map_err(|_| unfit(&param))?;
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| unfit(&param))?);
    }
    Ok(headers)
}
