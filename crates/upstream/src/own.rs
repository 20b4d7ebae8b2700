//! What the gateway asks a server on its own behalf: which era it speaks, and its complete catalogue.

use ::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use portcullis_core::{Code, Limits, Refusal, TargetKind};
use portcullis_mcp::{
    json::{View, quote},
    jsonrpc::{Message, Shape},
    revision::{Era, LEGACY, MODERN},
};
use tokio::sync::Mutex;

use super::{
    HttpPeer, Reply, StdioPeer, Upstream, parse,
    spoken::{INITIALIZE, PROBE_MS},
    stdio::Owner,
};
use crate::{
    headers::{METHOD, SESSION, VERSION, Verb},
    tokens::{Behalf, on_behalf_of},
};

/// The `_meta` of the gateway's own requests of revision 2026-07-28.
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"portcullis","version":"0.1.0"}}"#;

/// The longest name of a revision that is kept.
pub const VERSION_BYTES_MAX: usize = 32;

/// The gateway's own state on a Streamable HTTP server.
#[derive(Debug, Default)]
pub struct OwnHttp(Mutex<Option<Opened>>);

#[derive(Clone, Debug)]
struct Opened {
    offer: Offer,
    session: Option<String>,
    /// On whose behalf, where callers have credentials of their own: nobody else goes on in it.
    caller: Option<Behalf>,
}

/// What a server says it offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The era in which it said so.
    pub era: Era,
    /// The versions it says it supports.
    pub versions: Vec<String>,
    capabilities: Bytes,
}

impl Offer {
    /// What it says it can do, as JSON.
    #[must_use]
    pub const fn capabilities(&self) -> &Bytes {
        &self.capabilities
    }

    /// Whether the server offers definitions of that kind.
    #[must_use]
    pub fn has(&self, kind: TargetKind) -> bool {
        let member = match kind {
            TargetKind::Prompt => "prompts",
            TargetKind::Resource | TargetKind::Template => "resources",
            TargetKind::Tool => "tools",
        };
        View::of(&self.capabilities).get(member).is_some()
    }
}

impl Upstream {
    /// Asks what the server offers; opens the gateway's own session where the era has one. `caller` is on whose behalf,
    /// which matters to a server where callers have credentials of their own.
    ///
    /// # Errors
    /// When the server cannot be reached or speaks neither era.
    pub async fn offer(&self, caller: Option<&Behalf>, limits: &Limits) -> Result<Offer, Refusal> {
        match self {
            Self::Http(peer) => Ok(peer.opened(caller, limits).await?.offer),
            Self::Stdio(peer) => peer.offer(limits).await,
            Self::Group => Err(several()),
        }
    }

    /// As [`Self::offer`], asked anew where a server may say something else without a new session.
    ///
    /// # Errors
    /// As [`Self::offer`].
    pub async fn offer_now(&self, caller: Option<&Behalf>, limits: &Limits) -> Result<Offer, Refusal> {
        if let Self::Http(peer) = self {
            peer.renew(caller, limits).await?;
        }
        self.offer(caller, limits).await
    }

    /// Asks for one page of a list, in the era of `offer`.
    ///
    /// # Errors
    /// As [`Self::offer`]; and when the answer is an error or not a message.
    pub async fn page(
        &self,
        offer: &Offer,
        method: &'static str,
        cursor: Option<&str>,
        caller: Option<&Behalf>,
        limits: &Limits,
    ) -> Result<Message, Refusal> {
        let mut members = Vec::new();
        if let Some(cursor) = cursor {
            members.push(format!(r#""cursor":{}"#, quote(cursor)));
        }
        if offer.era == Era::Modern {
            members.push(META.to_owned());
        }
        let params = format!("{{{}}}", members.join(","));
        let answer = match self {
            Self::Group => return Err(several()),
            Self::Http(peer) => peer.ask_in_session(method, &params, caller, limits).await?,
            Self::Stdio(peer) => {
                let process = match offer.era {
                    Era::Modern => peer.modern(Owner::Gateway, limits).await?,
                    Era::Legacy => match peer.opened().await {
                        Some((process, _)) => process,
                        None => {
                            peer.legacy(Owner::Gateway, None, &Bytes::from_static(INITIALIZE), limits)
                                .await?
                                .0
                        }
                    },
                };
                process.own_request(method, params.as_bytes(), limits).await?
            }
        };
        match answer.shape() {
            Shape::Response => Ok(answer),
            Shape::Error | Shape::Notification | Shape::Request => Err(Refusal::new(
                Code::AnswerInvalid,
                format!("the server answered `{method}` with an error"),
            )),
        }
    }

    /// Ends the gateway's own session, so that the next question opens a new one.
    pub async fn reopen(&self) {
        match self {
            Self::Http(peer) => *peer.own.0.lock().await = None,
            Self::Group | Self::Stdio(_) => {}
        }
        self.spoken().doubt();
    }
}

fn several() -> Refusal {
    Refusal::new(Code::Internal, "a route over several servers is no server that can be asked")
}

impl HttpPeer {
    /// What a server of the older era offers lasts as long as its session; one of the newer era is asked again.
    async fn renew(&self, caller: Option<&Behalf>, limits: &Limits) -> Result<(), Refusal> {
        let mut held = self.own.0.lock().await;
        if held.as_ref().is_some_and(|opened| opened.offer.era == Era::Modern)
            && let Some(opened) = self.discover(caller, limits, PROBE_MS).await?
        {
            *held = Some(opened);
        }
        Ok(())
    }

    /// On whose behalf the gateway asks for itself.
    fn reader(&self, caller: Option<&Behalf>) -> Option<Behalf> {
        let caller = caller.filter(|_| self.personal());
        caller.map(|caller| self.keeps_for(caller))
    }

    async fn opened(&self, caller: Option<&Behalf>, limits: &Limits) -> Result<Opened, Refusal> {
        let caller = self.reader(caller);
        let caller = caller.as_ref();
        let mut held = self.own.0.lock().await;
        if let Some(opened) = held.as_ref().filter(|opened| opened.caller.as_ref() == caller) {
            return Ok(opened.clone());
        }
        let opened = match self.discover(caller, limits, PROBE_MS).await? {
            Some(opened) => opened,
            None => match self.handshake(caller, limits).await {
                // Silence was taken for the older era, which the server refuses: perhaps it only takes its time.
                Err(refusal) if refused(&refusal) => {
                    self.discover(caller, limits, u64::MAX).await?.ok_or(refusal)?
                }
                other => other?,
            },
        };
        self.spoken.offered(opened.offer.era);
        *held = Some(opened.clone());
        Ok(opened)
    }

    /// `server/discover`; `None` when the server does not speak revision 2026-07-28, however it says so.
    async fn discover(
        &self,
        caller: Option<&Behalf>,
        limits: &Limits,
        patience_ms: u64,
    ) -> Result<Option<Opened>, Refusal> {
        let (params, caller) = (format!("{{{META}}}"), self.reader(caller));
        let caller = caller.as_ref();
        let probe = within(patience_ms, limits);
        let mut asked = self.ask("server/discover", &params, Era::Modern, None, (caller, &probe)).await;
        // A server may refuse the version and yet name it among those it supports: who asks is to choose and ask again.
        if asked.as_ref().is_ok_and(|(answer, _)| supports_modern(answer)) {
            asked = self.ask("server/discover", &params, Era::Modern, None, (caller, &probe)).await;
        }
        let (answer, _) = match asked {
            Ok(answer) => answer,
            Err(refusal) if final_word(&refusal) => return Err(refusal),
            Err(_) => return Ok(None),
        };
        let caller = caller.cloned();
        Ok(modern_offer(&answer).map(|offer| Opened { offer, session: None, caller }))
    }

    /// Opens a session on behalf of a caller, with the params of its own `initialize`. Returns the server's id of the
    /// session, where it gave one, and the version it agreed to.
    ///
    /// # Errors
    /// `upstream.*`, `answer.*`; `upstream.revision` when the server refuses `initialize`.
    pub async fn start_session(
        &self,
        params: &str,
        caller: &Behalf,
        limits: &Limits,
    ) -> Result<(Option<String>, String), Refusal> {
        let (Opened { offer, session, .. }, _) = self.initialize(params, Some(caller), limits).await?;
        Ok((session, offer.versions.into_iter().next().unwrap_or_else(|| LEGACY.to_owned())))
    }

    /// Sends a message within a session that [`Self::start_session`] opened, or opens its stream, or ends it.
    ///
    /// # Errors
    /// As [`HttpPeer::send`].
    pub async fn within(
        &self,
        verb: Verb,
        (session, version): (Option<&str>, &str),
        (caller, body): (&Behalf, Bytes),
        limits: &Limits,
    ) -> Result<Reply, Refusal> {
        let offer =
            Offer { era: Era::Legacy, versions: vec![version.to_owned()], capabilities: Bytes::new() };
        let opened = Opened { offer, session: session.map(str::to_owned), caller: Some(caller.clone()) };
        self.send(verb, self.headers(Some(&opened), None, Some(caller))?, body, limits).await
    }

    /// Sends a caller's `subscriptions/listen`.
    ///
    /// # Errors
    /// As [`HttpPeer::send`].
    pub async fn listen(&self, caller: &Behalf, body: Bytes, limits: &Limits) -> Result<Reply, Refusal> {
        let headers = self.headers(None, Some("subscriptions/listen"), Some(caller))?;
        self.send(Verb::Post, headers, body, limits).await
    }

    async fn handshake(&self, caller: Option<&Behalf>, limits: &Limits) -> Result<Opened, Refusal> {
        let params = String::from_utf8_lossy(INITIALIZE);
        Ok(self.initialize(&params, caller, limits).await?.0)
    }

    async fn initialize(
        &self,
        params: &str,
        caller: Option<&Behalf>,
        limits: &Limits,
    ) -> Result<(Opened, Message), Refusal> {
        let (answer, session) = self.ask("initialize", params, Era::Legacy, None, (caller, limits)).await?;
        let opened = Opened { offer: legacy_offer(&answer)?, session, caller: caller.cloned() };
        let note = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        self.send(Verb::Post, self.headers(Some(&opened), None, caller)?, note, limits).await?;
        Ok((opened, answer))
    }

    /// Opens a session of the older revision with these params of `initialize`: the headers for its messages, and what
    /// the server answered.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn open_session(
        &self,
        params: &str,
        caller: &Behalf,
        limits: &Limits,
    ) -> Result<(HeaderMap, Message), Refusal> {
        let (opened, answer) = self.initialize(params, Some(caller), limits).await?;
        Ok((self.headers(Some(&opened), None, Some(caller))?, answer))
    }

    /// Asks within the gateway's own session; one that the server has ended is opened again, once.
    async fn ask_in_session(
        &self,
        method: &'static str,
        params: &str,
        caller: Option<&Behalf>,
        limits: &Limits,
    ) -> Result<Message, Refusal> {
        let caller = self.reader(caller);
        let caller = caller.as_ref();
        let opened = self.opened(caller, limits).await?;
        match self.ask(method, params, opened.offer.era, Some(&opened), (caller, limits)).await {
            Err(refusal) if refusal.code == Code::SessionUnknown => {
                *self.own.0.lock().await = None;
                let opened = self.opened(caller, limits).await?;
                Ok(self.ask(method, params, opened.offer.era, Some(&opened), (caller, limits)).await?.0)
            }
            other => Ok(other?.0),
        }
    }

    fn headers(
        &self,
        opened: Option<&Opened>,
        modern: Option<&'static str>,
        caller: Option<&Behalf>,
    ) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::new();
        if let Some(caller) = caller.filter(|_| self.asks_for_whom()) {
            on_behalf_of(&mut headers, caller);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(method) = modern {
            headers.insert(VERSION, HeaderValue::from_static(MODERN));
            headers.insert(METHOD, HeaderValue::from_static(method));
        } else if let Some(opened) = opened {
            if let Some(Ok(version)) = opened.offer.versions.first().map(HeaderValue::try_from) {
                headers.insert(VERSION, version);
            }
            if let Some(Ok(session)) = opened.session.as_ref().map(HeaderValue::try_from) {
                headers.insert(SESSION, session);
            }
        }
        Ok(headers)
    }

    async fn ask(
        &self,
        method: &'static str,
        params: &str,
        era: Era,
        opened: Option<&Opened>,
        (caller, limits): (Option<&Behalf>, &Limits),
    ) -> Result<(Message, Option<String>), Refusal> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let modern = (era == Era::Modern).then_some(method);
        let headers = self.headers(opened, modern, caller)?;
        let sent = self.send(Verb::Post, headers, Bytes::from(body), limits).await?;
        if matches!(sent, Reply::Unary { status: 404, .. })
            && opened.is_some_and(|opened| opened.session.is_some())
        {
            return Err(Refusal::new(Code::SessionUnknown, "the server ended the gateway's session"));
        }
        let session = sent.session().cloned();
        Ok((sent.answer(limits).await?, session))
    }
}

impl StdioPeer {
    pub(super) async fn offer(&self, limits: &Limits) -> Result<Offer, Refusal> {
        if let Some((_, answer)) = self.opened().await {
            return offered(answer, limits);
        }
        if !self.legacy_only()
            && let Some(offer) = self.discover(limits, PROBE_MS).await?
        {
            return Ok(offer);
        }
        // Any answer that is not modern, and silence, mean the older era (specification 2026-07-28, versioning).
        self.does_not_speak_modern();
        let params = Bytes::from_static(INITIALIZE);
        let offer = match offered(self.legacy(Owner::Gateway, None, &params, limits).await?.1, limits) {
            Err(refusal) if self.spoken.modern() == Some(true) => {
                return self.discover(limits, PROBE_MS).await?.ok_or(refusal);
            }
            offer => offer?,
        };
        self.spoken.offered(Era::Legacy);
        Ok(offer)
    }

    /// Learns from a refused `initialize` what is spoken: the answer names 2026-07-28, or the child is asked again.
    /// Silence means the older era, and is wrong of a child that only took longer to start than it is waited for.
    pub(super) async fn refused_era(&self, answer: &Bytes, limits: &Limits) {
        let Ok(answer) = parse(answer.clone(), limits) else { return };
        if answer.shape() != Shape::Error || self.legacy_only() {
            return;
        }
        let named = supports_modern(&answer);
        if named {
            self.spoken.offered(Era::Modern);
        }
        if named || self.spoken.modern().is_none() {
            self.spoken.refused_initialize();
        }
        // Some children say only that they know no such method.
        if self.spoken.modern().is_none() && !matches!(self.discover(limits, u64::MAX).await, Ok(Some(_))) {
            self.spoken.doubt();
            self.does_not_speak_modern();
        }
    }

    /// `server/discover`; `None` when the child does not speak revision 2026-07-28.
    pub(super) async fn discover(&self, limits: &Limits, patience_ms: u64) -> Result<Option<Offer>, Refusal> {
        let probe = within(patience_ms, limits);
        let process = self.modern(Owner::Gateway, limits).await?;
        let params = format!("{{{META}}}");
        let answer = process.own_request("server/discover", params.as_bytes(), &probe).await;
        let offer = answer.ok().as_ref().and_then(modern_offer);
        if offer.is_some() {
            self.spoken.offered(Era::Modern);
        }
        Ok(offer)
    }
}

/// Limits under which the first byte of an answer is waited for no longer than that.
fn within(patience_ms: u64, limits: &Limits) -> Limits {
    Limits { first_byte_timeout_ms: patience_ms.min(limits.first_byte_timeout_ms), ..limits.clone() }
}

/// Whether a server was there and did not want to open a session.
fn refused(refusal: &Refusal) -> bool {
    refusal.code != Code::UpstreamTimeout && !final_word(refusal)
}

/// Whether a refusal says nothing about eras: the server was not reached, or does not let this caller in.
const fn final_word(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        Code::ConnectionFailed
            | Code::ConnectionRequired
            | Code::ExchangeRefused
            | Code::ExchangeToken
            | Code::UpstreamUnavailable
    )
}

/// Whether an error says that revision 2026-07-28 is supported.
fn supports_modern(answer: &Message) -> bool {
    let supported = answer.error().and_then(|error| error.path(&["data", "supported"]));
    supported.is_some_and(|versions| versions.elements().any(|version| version.is_str(MODERN)))
}

/// What an answer to `initialize` says is offered.
fn offered(answer: Bytes, limits: &Limits) -> Result<Offer, Refusal> {
    legacy_offer(&parse(answer, limits)?)
}

fn modern_offer(answer: &Message) -> Option<Offer> {
    let result = answer.result()?;
    let versions: Vec<String> = result
        .get("supportedVersions")?
        .elements()
        .filter_map(|version| Some(version.as_str()?.into_owned()))
        .collect();
    let speaks = versions.iter().any(|version| version == MODERN);
    speaks.then(|| Offer { era: Era::Modern, versions, capabilities: capabilities(result) })
}

fn legacy_offer(answer: &Message) -> Result<Offer, Refusal> {
    let result = answer.result().ok_or_else(|| {
        Refusal::new(Code::UpstreamRevision, "the server refused both `server/discover` and `initialize`")
    })?;
    // Kept as long as a session.
    let version = result.get("protocolVersion").and_then(|view| view.as_str());
    let version =
        version.filter(|version| version.len() <= VERSION_BYTES_MAX).unwrap_or_else(|| LEGACY.into());
    Ok(Offer { era: Era::Legacy, versions: vec![version.into_owned()], capabilities: capabilities(result) })
}

fn capabilities(result: View<'_>) -> Bytes {
    Bytes::copy_from_slice(result.get("capabilities").map_or(&b"{}"[..], |view| view.raw()))
}
