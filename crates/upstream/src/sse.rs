//! A server of the transport before Streamable HTTP (HTTP+SSE, revision 2024-11-05): one event stream brings all its
//! messages, and its first event says where ours are posted. A connection is one channel in each direction, so it is
//! used like the process of a stdio server; when its stream ends, so does every call on it.

use std::{sync::Arc, time::Duration};

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, header,
    uri::{PathAndQuery, Uri},
};
use bytes::Bytes;
use http_body_util::Full;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::sse::Event;
use portcullis_net::{client::HttpUpstream, queue::offer};
use portcullis_secrets::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use url::Url;

use super::events::{EventStream, event_stream};
use crate::headers::secret_value;

/// Messages of the server that wait for their readers; beyond, the server's stream waits.
const MESSAGES_WAITING_MAX: usize = 64;

/// Bytes of the address that a server names for our messages.
const ENDPOINT_BYTES_MAX: usize = 2_048;

/// A server of the older transport.
#[derive(Clone, Debug)]
pub struct SseServer {
    client: HttpUpstream,
    url: Url,
    headers: Vec<(HeaderName, Value)>,
    /// On whose behalf the connection is made; nobody's where all share it.
    caller: Option<String>,
}

/// Where messages are posted.
#[derive(Clone, Debug)]
enum Endpoint {
    Unknown,
    At(PathAndQuery),
    Gone(Arc<str>),
}

/// One connection. Dropping it ends the stream.
#[derive(Debug)]
pub(super) struct SseLink {
    server: SseServer,
    endpoint: watch::Receiver<Endpoint>,
    wait: Duration,
    reading: JoinHandle<()>,
}

impl Drop for SseLink {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl SseServer {
    /// A server whose stream is at `url`, reached through `client`, with its credentials.
    #[must_use]
    pub const fn new(client: HttpUpstream, url: Url, headers: Vec<(HeaderName, Value)>) -> Self {
        Self { client, url, headers, caller: None }
    }

    /// The same on behalf of a caller.
    pub(super) fn on_behalf_of(&self, caller: Option<&str>) -> Self {
        Self { caller: caller.map(str::to_owned), ..self.clone() }
    }

    /// Opens a connection; its messages come out of the receiver, which ends with the stream.
    pub(super) fn connect(&self, name: &Arc<str>, limits: &Limits) -> (SseLink, mpsc::Receiver<Bytes>) {
        let (to, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (told, endpoint) = watch::channel(Endpoint::Unknown);
        let (server, name, limits) = (self.clone(), Arc::clone(name), limits.clone());
        let wait = Duration::from_millis(limits.first_byte_timeout_ms);
        let reading = tokio::spawn(async move {
            let ended = server.read(&told, &to, &limits).await;
            let reason = ended.map_or_else(|refusal| refusal.private, |()| "the stream ended".to_owned());
            tracing::warn!(server = %name, reason, "the connection to the server is over");
            told.send_replace(Endpoint::Gone(Arc::from(reason)));
        });
        (SseLink { server: self.clone(), endpoint, wait, reading }, messages)
    }

    async fn read(
        &self,
        told: &watch::Sender<Endpoint>,
        to: &mpsc::Sender<Bytes>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let mut events =
            timeout(Duration::from_millis(limits.first_byte_timeout_ms), self.open(told, limits))
                .await
                .map_err(|_elapsed| {
                    Refusal::new(Code::UpstreamTimeout, "no `endpoint` within first_byte_timeout_ms")
                })??;
        while let Some(Event { event, data, .. }) = events.next(limits, true).await? {
            let message = match event.as_deref() {
                None | Some("message") => data.filter(|data| !data.is_empty()),
                // A second one would send what follows elsewhere.
                Some("endpoint") => return Err(invalid("a second `endpoint`")),
                Some(_) => None,
            };
            let Some(message) = message else { continue };
            if offer(to, message.len(), message).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Opens the stream and learns where messages are posted.
    async fn open(&self, told: &watch::Sender<Endpoint>, limits: &Limits) -> Result<EventStream, Refusal> {
        let request = self.request(Method::GET, Bytes::new()).await?.map(|_| Bytes::new());
        let response = self.client.open(request).await.map_err(|error| unavailable(error.to_string()))?;
        let mut events = event_stream(response, limits)?;
        while let Some(Event { event, data, .. }) = events.next(limits, true).await? {
            match (event.as_deref(), data) {
                (Some("endpoint"), Some(data)) => {
                    told.send_replace(Endpoint::At(self.resolve(&data)?));
                    return Ok(events);
                }
                (_, None) => {}
                (_, Some(_)) => return Err(invalid("a message before the `endpoint`")),
            }
        }
        Err(invalid("the stream ended before its `endpoint`"))
    }

    /// Only on the same origin: our credentials go there.
    fn resolve(&self, data: &[u8]) -> Result<PathAndQuery, Refusal> {
        let text = std::str::from_utf8(data).ok().filter(|text| text.len() <= ENDPOINT_BYTES_MAX);
        let joined = text.and_then(|text| self.url.join(text.trim()).ok());
        let joined = joined.ok_or_else(|| invalid("an `endpoint` that is no URL"))?;
        let same = joined.origin() == self.url.origin()
            && joined.username().is_empty()
            && joined.password().is_none();
        if !same {
            return Err(invalid("an `endpoint` on another origin"));
        }
        let uri: Option<Uri> = joined.as_str().parse().ok();
        uri.and_then(|uri| uri.path_and_query().cloned())
            .ok_or_else(|| invalid("an `endpoint` that is no URL"))
    }

    async fn request(&self, method: Method, body: Bytes) -> Result<Request<Full<Bytes>>, Refusal> {
        let mut headers = HeaderMap::new();
        let accept = if method == Method::GET { "text/event-stream" } else { "application/json" };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        if method == Method::POST {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.headers {
            let secret = value.get(self.caller.as_deref()).await?;
            headers.insert(name, secret_value(secret.expose())?);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl SseLink {
    /// Posts one message. Its answer comes over the stream.
    pub(super) async fn send(&self, message: Bytes) -> Result<(), Refusal> {
        let mut endpoint = self.endpoint.clone();
        let known = endpoint.wait_for(|endpoint| !matches!(endpoint, Endpoint::Unknown));
        let known = timeout(self.wait, known)
            .await
            .map_err(|_elapsed| {
                Refusal::new(Code::UpstreamTimeout, "no `endpoint` within first_byte_timeout_ms")
            })?
            .map_err(|_closed| unavailable("the connection to the server is over"))?
            .clone();
        let target = match known {
            Endpoint::At(target) => target,
            Endpoint::Gone(reason) => return Err(unavailable(&*reason)),
            Endpoint::Unknown => return Err(unavailable("the server named no `endpoint`")),
        };
        let request = self.server.request(Method::POST, message).await?;
        let sent = timeout(self.wait, self.server.client.send_to(target, request)).await;
        let response = sent
            .map_err(|_elapsed| {
                Refusal::new(Code::UpstreamTimeout, "no answer within first_byte_timeout_ms")
            })?
            .map_err(|error| unavailable(error.to_string()))?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(unavailable(format!("the server did not take the message: {}", response.status())))
    }

    /// Ends the stream.
    pub(super) fn close(&self) {
        self.reading.abort();
    }
}

fn unavailable(why: impl Into<String>) -> Refusal {
    Refusal::new(Code::UpstreamUnavailable, why)
}

fn invalid(why: &str) -> Refusal {
    Refusal::new(Code::AnswerInvalid, why)
}

#[cfg(test)]
mod tests {
    use portcullis_net::{client::UpstreamOptions, guard::EgressPolicy};

    use super::*;

    #[tokio::test]
    async fn messages_are_posted_on_the_origin_of_the_stream_alone() {
        let url: Url = "http://127.0.0.1:9000/sse?k=1".parse().unwrap();
        let egress = EgressPolicy::of(true, false);
        let client = HttpUpstream::new(&url, &UpstreamOptions::new(egress, &Limits::default())).unwrap();
        let server = SseServer::new(client, url, Vec::new());
        for (told, expected) in [
            ("/messages?session_id=1", Some("/messages?session_id=1")),
            ("messages/", Some("/messages/")),
            ("http://127.0.0.1:9000/m", Some("/m")),
            ("http://127.0.0.1:9001/m", None),
            ("https://127.0.0.1:9000/m", None),
            ("http://evil.example/m", None),
            ("//evil.example/m", None),
            ("\\\\evil.example\\m", None),
            ("http://u:p@127.0.0.1:9000/m", None),
            ("file:///etc/passwd", None),
            ("javascript:x", None),
        ] {
            let target = server.resolve(told.as_bytes()).ok();
            assert_eq!(target.as_ref().map(PathAndQuery::as_str), expected, "{told}");
        }
        assert!(server.resolve(&vec![b'a'; ENDPOINT_BYTES_MAX + 1]).is_err());
        assert!(server.resolve(b"\xff").is_err());
    }
}
