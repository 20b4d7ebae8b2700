//! A Streamable HTTP server: one POST per message, answers as JSON or as an event stream.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use portcullis_core::{Code, Limits, Refusal, Secret};
use portcullis_net::client::{Body, ClientError, HttpUpstream};
use portcullis_secrets::{Broker, Value};
use tokio::time::timeout;

use super::{Events, Reply, events::EventStream, own::OwnHttp, spoken::Spoken};
use crate::{
    headers::{METHOD, SESSION, Verb, secret_value},
    tokens::{Behalf, Tokens, Unauthorized, bear, take_caller},
};

/// Bytes of the id that a server gives a session, which is kept as long as the session.
const SESSION_BYTES_MAX: usize = 1_024;

/// A Streamable HTTP server.
#[derive(Debug)]
pub struct HttpPeer {
    pub(super) client: HttpUpstream,
    pub(super) own: OwnHttp,
    pub(super) spoken: Spoken,
    /// Credentials of the gateway, joined in [`Self::send`].
    headers: Vec<(HeaderName, Value)>,
    /// Credentials that differ by caller, joined in [`Self::send`].
    pub(super) tokens: Option<Arc<dyn Tokens>>,
    /// What looks for them in what comes back, and what they are called there.
    guard: Option<(Arc<Broker>, Arc<str>)>,
}

impl HttpPeer {
    /// A server reached through `client`, with its credentials.
    #[must_use]
    pub fn new(client: HttpUpstream, headers: Vec<(HeaderName, Value)>) -> Self {
        Self {
            client,
            own: OwnHttp::default(),
            spoken: Spoken::default(),
            headers,
            tokens: None,
            guard: None,
        }
    }

    /// The same server, with tokens of its callers.
    #[must_use]
    pub fn with_tokens(self, tokens: Option<Arc<dyn Tokens>>) -> Self {
        Self { tokens, ..self }
    }

    /// The same server, called `name`, with its tokens looked for in what comes back.
    #[must_use]
    pub fn guarded(self, broker: &Arc<Broker>, name: &Arc<str>) -> Self {
        Self { guard: Some((Arc::clone(broker), Arc::clone(name))), ..self }
    }

    /// From here on the token is looked for in what comes back.
    fn arm(&self, token: Option<&Secret<String>>) {
        if let (Some((broker, name)), Some(token)) = (&self.guard, token) {
            drop(broker.watched().arm(|| format!("token:{name}"), token.expose()));
        }
    }

    /// Whether what is sent differs by caller, so that what one of them may see is not for another.
    pub(super) fn personal(&self) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.personal())
            || self.headers.iter().any(|(_, value)| value.personal())
    }

    /// Whether it matters on whose behalf a request is made.
    pub(super) fn asks_for_whom(&self) -> bool {
        self.tokens.is_some() || self.headers.iter().any(|(_, value)| value.reference().kept_elsewhere())
    }

    /// Joins the credentials of the gateway; what was joined, where it may be another one when the server does not take it.
    async fn join(
        &self,
        headers: &mut HeaderMap,
        behalf: Option<&Behalf>,
    ) -> Result<Vec<(&HeaderName, &Value, Secret<String>)>, Refusal> {
        let mut joined = Vec::new();
        for (name, value) in &self.headers {
            let secret = value.get(behalf.map(|behalf| behalf.caller.as_str())).await?;
            headers.insert(name, secret_value(secret.expose())?);
            if !value.reference().fixed() {
                joined.push((name, value, secret));
            }
        }
        Ok(joined)
    }

    /// Sends a request; once more where a secret has another value by now than the one that the server does not take.
    async fn armed(
        &self,
        verb: Verb,
        mut headers: HeaderMap,
        behalf: Option<&Behalf>,
        (body, limits): (Bytes, &Limits),
    ) -> Result<Response<Body>, Refusal> {
        let joined = self.join(&mut headers, behalf).await?;
        let kept = (!joined.is_empty()).then(|| (headers.clone(), body.clone()));
        let response = self.exchange(verb, headers, body, limits).await?;
        let (Some((mut headers, body)), StatusCode::UNAUTHORIZED) = (kept, response.status()) else {
            return Ok(response);
        };
        let mut again = false;
        for (name, value, secret) in &joined {
            let caller = behalf.map(|behalf| behalf.caller.as_str());
            if let Some(other) = value.refused(caller, secret).await? {
                headers.insert(*name, secret_value(other.expose())?);
                again = true;
            }
        }
        // A request that was not authorized was not carried out, so that it may be made once more.
        if again { Box::pin(self.exchange(verb, headers, body, limits)).await } else { Ok(response) }
    }

    pub(super) fn keeps_for(&self, behalf: &Behalf) -> Behalf {
        match &self.tokens {
            Some(tokens) if tokens.per_token() => behalf.clone(),
            Some(_) | None => Behalf::of(&behalf.caller),
        }
    }

    /// Sends one request and reads the head of its answer; a JSON body is read whole, a stream is handed on.
    ///
    /// # Errors
    /// A refusal that says what the server did wrong; its words are not in the public text.
    pub async fn send(
        &self,
        verb: Verb,
        mut headers: HeaderMap,
        body: Bytes,
        limits: &Limits,
    ) -> Result<Reply, Refusal> {
        let behalf = take_caller(&mut headers);
        let Some(tokens) = &self.tokens else {
            let response = self.armed(verb, headers, behalf.as_ref(), (body, limits)).await?;
            return read(verb, response, limits).await;
        };
        let mut token = tokens.token(behalf.as_ref()).await?;
        let mut again = false;
        loop {
            self.arm(token.as_ref());
            bear(&mut headers, token.as_ref())?;
            let response = self.armed(verb, headers.clone(), behalf.as_ref(), (body.clone(), limits)).await?;
            if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return read(verb, response, limits).await;
            }
            let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
            let answer = Unauthorized {
                status: response.status().as_u16(),
                challenges: challenges.filter_map(|value| value.to_str().ok()).collect(),
                token: token.as_ref(),
                again,
            };
            // A request that was not authorized was not carried out, so that it may be made once more.
            match tokens.refused(behalf.as_ref(), answer).await? {
                Some(other) if !again => (token, again) = (Some(other), true),
                Some(_) | None => return read(verb, response, limits).await,
            }
        }
    }

    async fn exchange(
        &self,
        verb: Verb,
        headers: HeaderMap,
        body: Bytes,
        limits: &Limits,
    ) -> Result<Response<Body>, Refusal> {
        let method = match verb {
            Verb::Post => Method::POST,
            Verb::Get => Method::GET,
            Verb::Delete => Method::DELETE,
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        let wait = Duration::from_millis(limits.first_byte_timeout_ms);
        let listens = verb == Verb::Get
            || request.headers().get(METHOD).is_some_and(|method| method == "subscriptions/listen");
        let sent = async {
            if listens {
                return Box::pin(self.client.open(request)).await;
            }
            Ok(self.client.send(request.map(Full::new)).await?.map(Body::Pooled))
        };
        timeout(wait, sent)
            .await
            .map_err(|_elapsed| {
                Refusal::new(Code::UpstreamTimeout, "no answer within first_byte_timeout_ms")
            })?
            .map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &ClientError) -> Refusal {
    match error {
        ClientError::FirstByteTimeout => Refusal::new(Code::UpstreamTimeout, error.to_string()),
        _ => Refusal::new(Code::UpstreamUnavailable, error.to_string()),
    }
}

async fn read(verb: Verb, response: Response<Body>, limits: &Limits) -> Result<Reply, Refusal> {
    let (head, body) = response.into_parts();
    let status = head.status;
    let session = head.headers.get(&SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
    if session.as_ref().is_some_and(|id| id.len() > SESSION_BYTES_MAX) {
        return Err(Refusal::new(Code::AnswerInvalid, "the id of the server's session is too long"));
    }
    let media = head.headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or_default());
    let media = media.split(';').next().unwrap_or_default().trim();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        // Its challenge concerns our credential, not the caller's: it is never relayed.
        return Err(Refusal::new(
            Code::UpstreamUnavailable,
            format!("the server refused our credential: {status}"),
        ));
    }
    if media.eq_ignore_ascii_case("text/event-stream") && status.is_success() {
        let events = EventStream::new(body, limits);
        return Ok(Reply::Stream { events: Events::Http(Box::new(events)), session });
    }
    if status.is_redirection() || status.is_informational() {
        return Err(Refusal::new(Code::AnswerInvalid, format!("{status}: the server sends us elsewhere")));
    }
    if verb == Verb::Get && !status.is_success() {
        return Err(no_stream(status));
    }
    let bytes = collect(body, head.headers.get(header::CONTENT_LENGTH), limits).await?;
    if bytes.is_empty() && (status.is_success() || verb == Verb::Delete) {
        return Ok(Reply::Accepted);
    }
    if status == StatusCode::NOT_FOUND && !media.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(Code::SessionUnknown, "the server ended the session"));
    }
    if !media.eq_ignore_ascii_case("application/json") {
        let what = format!("status {status} with a body that is neither JSON nor an event stream");
        return Err(Refusal::new(Code::AnswerInvalid, what));
    }
    Ok(Reply::Unary { status: status.as_u16(), bytes, session })
}

fn no_stream(status: StatusCode) -> Refusal {
    let code = match status {
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::NOT_FOUND => Code::SessionUnknown,
        _ => Code::UpstreamUnavailable,
    };
    Refusal::new(code, format!("the server opened no event stream: {status}"))
}

async fn collect(mut body: Body, length: Option<&HeaderValue>, limits: &Limits) -> Result<Bytes, Refusal> {
    let too_large = || Refusal::new(Code::AnswerTooLarge, "the answer exceeds limits.answer_bytes_max");
    let announced = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    if announced > limits.answer_bytes_max {
        return Err(too_large());
    }
    let idle = Duration::from_millis(limits.idle_timeout_ms);
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    loop {
        let frame = timeout(idle, body.frame()).await.map_err(|_| {
            Refusal::new(Code::UpstreamTimeout, "silence for idle_timeout_ms in the middle of an answer")
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Refusal::new(Code::UpstreamUnavailable, format!("the answer broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if (first.len() + rest.len() + data.len()) as u64 > limits.answer_bytes_max {
            return Err(too_large());
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve((announced as usize).max(first.len() + data.len()));
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { Bytes::from(rest) })
}
