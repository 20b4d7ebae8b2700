//! What a hostile server can be told to do.

use std::time::Duration;

use serde_json::{Value, json};

/// One behaviour. Unless it says otherwise the request was read completely first.
#[derive(Clone, Debug, PartialEq)]
pub enum Hostile {
    /// Answers a result, as JSON: the well-behaved case with chosen content.
    Answer(Value),
    /// Answers a JSON-RPC error with this code, message and HTTP status.
    AnswerError(u16, i64, String),
    /// Answers the texts as events of a stream, then ends it. `$ID` stands for the request's id.
    Events(Vec<String>),
    /// Closes the connection in an orderly way without a byte.
    Close,
    /// Answers with an object nested this deep.
    DeepJson(usize),
    /// Answers one result with the member `result` twice.
    DuplicateMembers,
    /// Answers the same id twice in one stream, with different results.
    DuplicateId,
    /// Starts a JSON body of unknown length and never stops sending it.
    EndlessBody,
    /// Starts an event stream and sends this text again and again, for as long as somebody takes it.
    EndlessEvents(String),
    /// Sends header lines for ever.
    EndlessHeaders,
    /// Sends log notifications for ever, as events of a stream.
    EndlessStream,
    /// Reads nothing at all once the connection is there.
    HangAtAccept,
    /// Reads the request and answers nothing.
    HangBeforeHeaders,
    /// Sends headers and half a body, then nothing.
    HangInBody,
    /// Sends one complete event of a stream (a log notification), then nothing.
    HangInStream,
    /// Answers one event of at least this many bytes.
    HugeEvent(usize),
    /// Answers a result whose text has this many bytes.
    HugeText(usize),
    /// Answers with something that is not JSON but says it is.
    InvalidJson,
    /// Answers JSON that is not JSON-RPC.
    NotJsonRpc,
    /// Writes exactly these bytes (a whole HTTP answer) and closes. `$ID` is not replaced.
    Raw(Vec<u8>),
    /// Sends the client elsewhere.
    Redirect(String),
    /// Resets the connection after the request.
    Reset,
    /// Resets the connection in the middle of the body.
    ResetInBody,
    /// Waits, then behaves.
    Slow(Duration),
    /// Sends the proper answer byte by byte with this pause between bytes.
    SlowBody(Duration),
    /// Sends this many small notifications before the answer.
    SseFlood(usize),
    /// Answers a bare HTTP status with a text.
    Status(u16, String),
    /// Sends fewer bytes than `Content-Length` promised, then closes.
    TruncatedBody,
    /// Says the body is text.
    WrongContentType,
    /// Answers another id than was asked.
    WrongId,
}

/// What goes onto the socket.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write these bytes.
    Write(Vec<u8>),
    /// Write these bytes one by one.
    WriteSlowly(Vec<u8>, Duration),
    /// Write this again and again until the peer closes.
    Repeat(Vec<u8>),
    /// Do nothing for a while.
    Pause(Duration),
    /// Do nothing until the peer closes.
    Hang,
    /// End the connection.
    Close,
    /// End it with a reset.
    Reset,
}

/// A complete answer with a length.
pub(crate) fn answer(status: u16, kind: &str, extra: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\n{extra}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

fn open(kind: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
}

fn stream(events: &[String]) -> Vec<u8> {
    let mut bytes = open("text/event-stream");
    for event in events {
        bytes.extend(chunk(format!("event: message\ndata: {event}\n\n").as_bytes()));
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn message(id: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

fn notification(text: &str) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": text}})
        .to_string()
}

fn text_result(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": false, "resultType": "complete"})
}

impl Hostile {
    /// The steps for a request with this id, whose proper result would be `proper`.
    pub(crate) fn steps(&self, id: &Value, proper: &Value) -> Vec<Step> {
        let json = |body: String| vec![Step::Write(answer(200, "application/json", "", body.as_bytes()))];
        let whole = message(id, proper);
        match self {
            Self::Answer(result) => json(message(id, result)),
            Self::AnswerError(status, code, text) => {
                let body =
                    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}}).to_string();
                vec![Step::Write(answer(*status, "application/json", "", body.as_bytes()))]
            }
            Self::Events(events) => {
                let id = id.to_string();
                let events = events.iter().map(|event| event.replace("$ID", &id)).collect::<Vec<_>>();
                vec![Step::Write(stream(&events))]
            }
            Self::Close | Self::HangAtAccept => vec![Step::Close],
            Self::DeepJson(depth) => {
                let body = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{}1{}}}",
                    "{\"a\":".repeat(*depth),
                    "}".repeat(*depth)
                );
                json(body)
            }
            Self::DuplicateMembers => {
                let (good, evil) = (text_result("first"), text_result("second"));
                json(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{good},\"result\":{evil}}}"))
            }
            Self::DuplicateId => {
                vec![Step::Write(stream(&[whole, message(id, &text_result("second answer"))]))]
            }
            Self::InvalidJson => json("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"oops\":}".to_owned()),
            Self::NotJsonRpc => json("{\"hello\":\"world\"}".to_owned()),
            Self::WrongContentType => vec![Step::Write(answer(200, "text/plain", "", whole.as_bytes()))],
            Self::WrongId => json(message(&json!("not-your-id"), proper)),
            Self::HugeEvent(bytes) => {
                vec![Step::Write(stream(&[message(id, &text_result(&"x".repeat(*bytes)))]))]
            }
            Self::HugeText(bytes) => json(message(id, &text_result(&"x".repeat(*bytes)))),
            Self::SseFlood(count) => {
                let flood = (0..*count).map(|number| notification(&format!("event {number}")));
                vec![Step::Write(stream(&flood.chain([whole]).collect::<Vec<_>>()))]
            }
            Self::Redirect(to) => {
                vec![Step::Write(answer(307, "text/plain", &format!("Location: {to}\r\n"), b""))]
            }
            Self::Status(status, text) => {
                vec![Step::Write(answer(*status, "text/plain", "", text.as_bytes()))]
            }
            Self::Raw(bytes) => vec![Step::Write(bytes.clone()), Step::Close],
            Self::Slow(pause) => {
                let mut steps = json(whole);
                steps.insert(0, Step::Pause(*pause));
                steps
            }
            Self::SlowBody(pause) => {
                vec![Step::WriteSlowly(answer(200, "application/json", "", whole.as_bytes()), *pause)]
            }
            Self::EndlessBody
            | Self::EndlessEvents(_)
            | Self::EndlessHeaders
            | Self::EndlessStream
            | Self::HangBeforeHeaders
            | Self::HangInBody
            | Self::HangInStream
            | Self::Reset
            | Self::ResetInBody
            | Self::TruncatedBody => self.broken_steps(id),
        }
    }

    /// The behaviours that never come to a proper end.
    fn broken_steps(&self, id: &Value) -> Vec<Step> {
        let start = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\""
        );
        let mut half = open("application/json");
        half.extend(chunk(start.as_bytes()));
        match self {
            Self::EndlessBody => vec![Step::Write(half), Step::Repeat(chunk(&[b'x'; 8192]))],
            Self::EndlessEvents(text) => {
                vec![Step::Write(open("text/event-stream")), Step::Repeat(chunk(text.as_bytes()))]
            }
            Self::EndlessHeaders => vec![
                Step::Write(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Step::Repeat(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(64)),
            ],
            Self::EndlessStream => {
                let event = chunk(format!("data: {}\n\n", notification("again")).as_bytes());
                vec![Step::Write(open("text/event-stream")), Step::Repeat(event)]
            }
            Self::HangInBody => vec![Step::Write(half), Step::Hang],
            Self::HangInStream => {
                let mut bytes = open("text/event-stream");
                bytes.extend(chunk(format!("data: {}\n\n", notification("first")).as_bytes()));
                vec![Step::Write(bytes), Step::Hang]
            }
            Self::Reset => vec![Step::Reset],
            Self::ResetInBody => {
                vec![Step::Write(half), Step::Pause(Duration::from_millis(20)), Step::Reset]
            }
            Self::TruncatedBody => {
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n";
                vec![Step::Write(format!("{head}{start}").into_bytes()), Step::Close]
            }
            _ => vec![Step::Hang],
        }
    }
}
