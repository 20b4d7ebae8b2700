//! An event stream of a server over HTTP, of either transport.

use std::{collections::VecDeque, time::Duration};

use ::http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::sse;
use portcullis_net::client::Body;
use tokio::time::timeout;

/// The event stream that a server answers.
///
/// # Errors
/// `upstream.unavailable` when it answers anything else.
pub(super) fn event_stream(response: Response<Body>, limits: &Limits) -> Result<EventStream, Refusal> {
    let (head, body) = response.into_parts();
    let media = head.headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or_default());
    let media = media.split(';').next().unwrap_or_default().trim();
    if head.status != StatusCode::OK || !media.eq_ignore_ascii_case("text/event-stream") {
        let what = format!("the server opened no event stream: {}", head.status);
        return Err(Refusal::new(Code::UpstreamUnavailable, what));
    }
    Ok(EventStream::new(body, limits))
}

/// An event stream over HTTP.
#[derive(Debug)]
pub struct EventStream {
    body: Body,
    parser: sse::Parser,
    ready: VecDeque<sse::Event>,
    ended: bool,
}

impl EventStream {
    pub(super) fn new(body: Body, limits: &Limits) -> Self {
        let parser = sse::Parser::new(limits.answer_bytes_max as usize);
        Self { body, parser, ready: VecDeque::new(), ended: false }
    }

    pub(super) async fn next(
        &mut self,
        limits: &Limits,
        endless: bool,
    ) -> Result<Option<sse::Event>, Refusal> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            let frame = if endless {
                self.body.frame().await
            } else {
                timeout(Duration::from_millis(limits.idle_timeout_ms), self.body.frame()).await.map_err(
                    |_| Refusal::new(Code::UpstreamTimeout, "silence for idle_timeout_ms in an event stream"),
                )?
            };
            match frame {
                None => self.ended = true,
                Some(Err(error)) => {
                    return Err(Refusal::new(
                        Code::UpstreamUnavailable,
                        format!("the stream broke off: {error}"),
                    ));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let ready = &mut self.ready;
                    self.parser
                        .push(&data, |event| ready.push_back(event))
                        .map_err(|error| Refusal::new(Code::AnswerTooLarge, error.to_string()))?;
                }
            }
        }
    }
}
