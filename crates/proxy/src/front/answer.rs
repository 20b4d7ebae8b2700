//! From replies to lines: one message, or the events of a stream, each as it comes.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use portcullis_core::{Code, Refusal};
use portcullis_mcp::{
    jsonrpc::{Id, Message, Shape},
    sse,
};
use portcullis_net::queue::offer;
use tokio::time::{Instant, sleep, timeout_at};

use super::Front;
use crate::{
    body::Body,
    refusal::{self, Asked},
};

/// Pause before a stream that broke off is continued, where the server names none.
const RETRY: Duration = Duration::from_secs(1);

/// What a reply is read for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// The answer to this request.
    Answer(&'a Id),
    /// What the server says unasked.
    Nothing,
    /// Why a line was refused.
    Refusal,
    /// What this subscription brings.
    Subscription(&'a Id),
}

impl<'a> Wanted<'a> {
    const fn id(self) -> Option<&'a Id> {
        match self {
            Self::Answer(id) | Self::Subscription(id) => Some(id),
            Self::Nothing | Self::Refusal => None,
        }
    }
}

/// What was heard on a stream.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Whether the answer was there.
    answered: bool,
    /// The last id of an event, by which the stream can be continued.
    pub(super) last: Option<String>,
    /// How long the server wants a client to wait before it does.
    pub(super) retry: Option<Duration>,
}

impl Front {
    /// Writes what a reply holds. A request is answered in any case.
    pub(super) async fn relay(&self, response: Response<Body>, wanted: Wanted<'_>) -> Heard {
        let mut heard = Heard::default();
        self.read(response, wanted, &mut heard).await;
        match wanted {
            Wanted::Answer(id) => {
                if !heard.answered && heard.last.is_some() {
                    self.resume(wanted, &mut heard).await;
                }
                if !heard.answered {
                    let refusal = Refusal::new(Code::AnswerInvalid, "a reply without the answer");
                    let asked = Asked { id: Some(id.raw().clone()), ..Asked::default() };
                    self.write(&refusal::message(&refusal, &asked)).await;
                }
            }
            // The server tears it down; the client may ask again (2026-07-28, subscriptions).
            Wanted::Subscription(id) if !heard.answered => {
                let over = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"the subscription ended"}}}}"#
                );
                self.write(over.as_bytes()).await;
            }
            Wanted::Subscription(_) | Wanted::Nothing | Wanted::Refusal => {}
        }
        heard
    }

    async fn read(&self, response: Response<Body>, wanted: Wanted<'_>, heard: &mut Heard) {
        match response.into_body() {
            Body::Full(None) => {}
            Body::Full(Some(bytes)) => self.message(bytes, wanted, heard).await,
            Body::Stream(mut pieces) => {
                let limits = self.gateway.rules.load().limits.clone();
                // Beside the data an event has an id, a type and the names of its fields.
                let most = usize::try_from(limits.answer_bytes_max).unwrap_or(usize::MAX).saturating_mul(2);
                let mut parser = sse::Parser::new(most);
                while let Some(piece) = pieces.recv().await {
                    let mut events = Vec::new();
                    if parser.push(&piece, |event| events.push(event)).is_err() {
                        tracing::error!(server = %self.server, "an event is too large to be passed on");
                        return;
                    }
                    for event in events {
                        self.event(event, wanted, heard).await;
                    }
                }
            }
        }
    }

    async fn event(&self, event: sse::Event, wanted: Wanted<'_>, heard: &mut Heard) {
        heard.last = event.id.filter(|id| !id.is_empty()).or_else(|| heard.last.take());
        heard.retry = event.retry.map(Duration::from_millis).or(heard.retry);
        if let Some(data) = event.data.filter(|data| !data.is_empty()) {
            self.message(data, wanted, heard).await;
        }
    }

    /// Writes one message. An error that names no request is about the one that was asked: over HTTP the exchange says
    /// so, here the id must.
    async fn message(&self, bytes: Bytes, wanted: Wanted<'_>, heard: &mut Heard) {
        let limits = self.gateway.rules.load().answer;
        let Some((id, message)) = wanted.id().zip(Message::parse(bytes.clone(), &limits).ok()) else {
            if matches!(wanted, Wanted::Nothing | Wanted::Refusal) {
                self.write(&bytes).await;
            }
            return;
        };
        let answer = matches!(message.shape(), Shape::Response | Shape::Error);
        if answer && message.id().is_none() {
            heard.answered = true;
            self.write(&named(&message, id)).await;
            return;
        }
        if answer && message.id().as_ref() == Some(id) {
            heard.answered = true;
            self.agreed(&message);
        }
        self.write(&bytes).await;
    }

    /// Continues a stream that broke off before its answer, as revision 2025-11-25 asks of clients.
    async fn resume(&self, wanted: Wanted<'_>, heard: &mut Heard) {
        let total = Duration::from_millis(self.gateway.rules.load().limits.total_timeout_ms);
        let end = Instant::now() + total;
        let going_on = async {
            while !heard.answered {
                sleep(heard.retry.unwrap_or(RETRY).clamp(RETRY / 10, RETRY * 30)).await;
                let Some(response) = self.stream(heard.last.as_deref()).await else { return };
                if !response.status().is_success() {
                    return;
                }
                self.read(response, wanted, heard).await;
            }
        };
        let _late = timeout_at(end, going_on).await;
    }

    /// Writes one line. JSON has line breaks between its tokens alone, where a space means the same.
    async fn write(&self, message: &[u8]) {
        let mut line = Vec::with_capacity(message.len() + 1);
        line.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        line.push(b'\n');
        // An error means that nobody reads any more; `serve` ends then.
        let _gone = offer(&self.out, line.len(), Bytes::from(line)).await;
    }
}

/// An error without an id, with one.
fn named(message: &Message, id: &Id) -> Bytes {
    if message.root().get("id").is_some() {
        return message.with_id(id.raw());
    }
    let bytes = message.bytes();
    let start = message.root().span().start.saturating_add(1);
    let rest = bytes.get(start..).unwrap_or_default();
    let mut out = format!(r#"{{"id":{id},"#).into_bytes();
    out.extend_from_slice(rest);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use portcullis_core::Limits;
    use portcullis_mcp::json::JsonLimits;

    use super::*;

    #[test]
    fn an_error_that_names_no_request_gets_the_id_of_the_one_it_is_about() {
        let id = Id::from_json(Bytes::from_static(b"\"a\"")).unwrap();
        for text in [
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#,
            r#" {"jsonrpc":"2.0","error":{"code":1,"message":"m"}}"#,
        ] {
            let limits = JsonLimits::answer(&Limits::default());
            let message = Message::parse(Bytes::from(text), &limits).unwrap();
            let named = Message::parse(named(&message, &id), &limits).unwrap();
            assert_eq!(named.id(), Some(id.clone()));
            assert_eq!(named.shape(), Shape::Error);
        }
    }
}
