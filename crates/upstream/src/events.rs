//! An event stream of a server over HTTP, of either transport.

use std::{collections::VecDeque, time::Duration};

use ::http::{Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::sse;
use portcullis_net::client::Body;
use tokio::time::timeout;

/// Bytes of a stream that are read at a time: the smallest events are many times larger once they are read.
const READ_BYTES: usize = 4_096;

/// Events for which a stream that waits keeps room.
const READY_KEPT: usize = 8;

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
pub struct EventStream<B = Body> {
    body: B,
    parser: sse::Parser,
    /// What has come and was not read yet.
    unread: Bytes,
    ready: VecDeque<sse::Event>,
    ended: bool,
}

impl<B: hyper::body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin> EventStream<B> {
    pub(super) fn new(body: B, limits: &Limits) -> Self {
        let parser = sse::Parser::new(limits.answer_bytes_max as usize);
        Self { body, parser, unread: Bytes::new(), ready: VecDeque::new(), ended: false }
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
            if !self.unread.is_empty() {
                // What is left empty would still hold the whole piece, for as long as the stream is idle.
                let chunk = if self.unread.len() > READ_BYTES {
                    self.unread.split_to(READ_BYTES)
                } else {
                    std::mem::take(&mut self.unread)
                };
                let ready = &mut self.ready;
                self.parser
                    .push(&chunk, |event| ready.push_back(event))
                    .map_err(|error| Refusal::new(Code::AnswerTooLarge, error.to_string()))?;
                continue;
            }
            if self.ended {
                return Ok(None);
            }
            // A stream can be idle for hours; what a burst of events took is given back.
            self.ready.shrink_to(READY_KEPT);
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
                    if let Ok(data) = frame.into_data() {
                        self.unread = data;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn of_a_large_piece_of_the_smallest_events_only_few_are_read_before_they_are_wanted() {
        let (limits, count) = (Limits::default(), 300_000);
        let mut stream = EventStream::new(Full::new(Bytes::from(":\n\n".repeat(count))), &limits);
        let (mut seen, mut most) = (0, 0);
        while let Some(event) = stream.next(&limits, false).await.unwrap() {
            assert!(event.comment.is_some());
            seen += 1;
            most = most.max(stream.ready.len());
        }
        assert_eq!(seen, count);
        assert!((1_000..=READ_BYTES).contains(&most), "{most} waited at once");
    }
}
