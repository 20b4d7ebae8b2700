//! An MCP server over Streamable HTTP that costs next to nothing: answers are rendered once and only the id
//! differs. It speaks 2025-11-25 (with sessions) and 2026-07-28 on one path.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, sync::atomic::AtomicU64, sync::atomic::Ordering};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response, StatusCode, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::payload::{Era, SIZES, TOOL, answer_parts};

/// Requests longer than this are cut off: nothing in the bench sends one.
const REQUEST_BYTES_MAX: usize = 1 << 20;

const SESSION: &str = "mcp-session-id";

/// Listens on loopback, prints the address and serves until it is killed.
pub(crate) async fn serve(port: u16, tools: usize, only: Option<Era>) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    crate::say(&format!("listening {}", listener.local_addr()?))?;
    let answers = Arc::new(Answers::new(tools, only));
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        let service = service_fn(move |request| {
            let answers = answers.clone();
            async move { Ok::<_, Infallible>(answer(&answers, request).await) }
        });
        // A client that goes away is no fault of the bench's upstream.
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

/// The answers, rendered once.
#[derive(Debug)]
struct Answers {
    legacy: Vec<(usize, Bytes)>,
    modern: Vec<(usize, Bytes)>,
    sessions: AtomicU64,
    tools: String,
    only: Option<Era>,
}

impl Answers {
    fn new(tools: usize, only: Option<Era>) -> Self {
        let of = |era| SIZES.iter().map(|&size| (size, answer_parts(size, era).1)).collect();
        Self {
            legacy: of(Era::Legacy),
            modern: of(Era::Modern),
            sessions: AtomicU64::new(1),
            tools: self::tools(tools),
            only,
        }
    }

    fn tail(&self, era: Era, size: u64) -> Option<Bytes> {
        let list = match era {
            Era::Legacy => &self.legacy,
            Era::Modern => &self.modern,
        };
        list.iter().find(|(known, _)| u64::try_from(*known) == Ok(size)).map(|(_, tail)| tail.clone())
    }
}

/// A body of two parts, so that the large one is never copied.
struct Parts {
    first: Option<Bytes>,
    second: Option<Bytes>,
    /// Nothing follows, but the end does not come either: an event stream on which nothing happens.
    endless: bool,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.first.take().or_else(|| self.second.take());
        match next {
            // Nobody is woken: the connection ends when the client closes it.
            None if self.endless => std::task::Poll::Pending,
            next => std::task::Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.second.is_none() && !self.endless
    }

    fn size_hint(&self) -> SizeHint {
        if self.endless {
            return SizeHint::default();
        }
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, |bytes| bytes.len() as u64);
        SizeHint::with_exact(length(&self.first) + length(&self.second))
    }
}

/// The members of a request that the upstream looks at.
#[derive(serde::Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: Option<&'a serde_json::value::RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(serde::Deserialize)]
struct Params<'a> {
    name: Option<&'a str>,
    arguments: Option<Arguments>,
}

#[derive(serde::Deserialize)]
struct Arguments {
    size: Option<u64>,
}

async fn answer(answers: &Answers, request: Request<Incoming>) -> Response<Parts> {
    match *request.method() {
        Method::POST => {}
        Method::GET => return stream(),
        Method::DELETE => return empty(StatusCode::OK),
        _ => return empty(StatusCode::METHOD_NOT_ALLOWED),
    }
    let version = request.headers().get("mcp-protocol-version");
    let modern = version.is_some_and(|version| version.as_bytes() == Era::Modern.version().as_bytes());
    let era = if modern { Era::Modern } else { Era::Legacy };
    match read(request.into_body()).await {
        Some(body) => respond(answers, era, &body),
        None => empty(StatusCode::BAD_REQUEST),
    }
}

async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut kept = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if more.len() + kept.len() + data.len() > REQUEST_BYTES_MAX {
            return None;
        }
        if kept.is_empty() && more.is_empty() {
            kept = data;
        } else {
            more.extend_from_slice(&std::mem::take(&mut kept));
            more.extend_from_slice(&data);
        }
    }
    Some(if more.is_empty() { kept } else { more.freeze() })
}

fn respond(answers: &Answers, era: Era, body: &[u8]) -> Response<Parts> {
    let Ok(call) = serde_json::from_slice::<Call<'_>>(body) else { return empty(StatusCode::BAD_REQUEST) };
    let Some(id) = call.id else { return empty(StatusCode::ACCEPTED) };
    let tail = match call.method {
        "tools/call" => tool(answers, era, call.params),
        "tools/list" => result(era, &answers.tools),
        "initialize" if answers.only != Some(Era::Modern) => result(Era::Legacy, &initialize()),
        "ping" => result(Era::Legacy, "{}"),
        "server/discover" if answers.only != Some(Era::Legacy) => result(Era::Modern, &discover()),
        _ => Bytes::from_static(b",\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}"),
    };
    let mut head = BytesMut::with_capacity(48);
    head.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    head.extend_from_slice(id.get().as_bytes());
    let mut response =
        Response::new(Parts { first: Some(head.freeze()), second: Some(tail), endless: false });
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    if call.method == "initialize" {
        let session = format!("bench-{}", answers.sessions.fetch_add(1, Ordering::Relaxed));
        if let Ok(session) = session.parse() {
            response.headers_mut().insert(SESSION, session);
        }
    }
    response
}

fn tool(answers: &Answers, era: Era, params: Option<Params<'_>>) -> Bytes {
    let Some(params) = params.filter(|params| params.name == Some(TOOL)) else {
        return Bytes::from_static(b",\"error\":{\"code\":-32602,\"message\":\"Unknown tool\"}}");
    };
    let size = params.arguments.and_then(|arguments| arguments.size);
    size.and_then(|size| answers.tail(era, size)).unwrap_or_else(|| {
        Bytes::from_static(b",\"error\":{\"code\":-32602,\"message\":\"size must be 1024 or 65536\"}}")
    })
}

/// A whole `result` member and the end of the message.
fn result(era: Era, members: &str) -> Bytes {
    match era {
        Era::Legacy => Bytes::from(format!(",\"result\":{members}}}")),
        Era::Modern => {
            let open = members.strip_suffix('}').unwrap_or(members);
            Bytes::from(format!(
                ",\"result\":{open},\"resultType\":\"complete\",\"ttlMs\":60000,\"cacheScope\":\"public\"}}}}"
            ))
        }
    }
}

/// The tool of the bench, then others of the same shape up to `count`.
fn tools(count: usize) -> String {
    let tool = |name: &str| {
        format!(
            "{{\"name\":\"{name}\",\"title\":\"Echo\",\"description\":\"Returns text of the size asked \
             for.\",\"inputSchema\":{{\"type\":\"object\",\"properties\":{{\"size\":{{\"type\":\"integer\",\"minimum\":1,\
             \"maximum\":65536,\"description\":\"Bytes of text.\"}},\"note\":{{\"type\":\"string\",\"maxLength\":200}}}},\
             \"required\":[\"size\"],\"additionalProperties\":false}}}}"
        )
    };
    let others = (1..count).map(|number| tool(&format!("{TOOL}_{number}")));
    let all: Vec<String> = std::iter::once(tool(TOOL)).chain(others).collect();
    format!("{{\"tools\":[{}]}}", all.join(","))
}

/// An event stream on which nothing happens.
fn stream() -> Response<Parts> {
    let first = Some(Bytes::from_static(b": open\n\n"));
    let mut response = Response::new(Parts { first, second: None, endless: true });
    let events = hyper::header::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, events);
    response
}

fn initialize() -> String {
    format!(
        "{{\"protocolVersion\":\"{}\",\"capabilities\":{{\"tools\":{{}}}},\"serverInfo\":{{\"name\":\"bench\",\
         \"version\":\"1\"}}}}",
        Era::Legacy.version()
    )
}

fn discover() -> String {
    format!(
        "{{\"supportedVersions\":[\"{}\"],\"capabilities\":{{\"tools\":{{}}}},\"serverInfo\":{{\"name\":\"bench\",\
         \"version\":\"1\"}}}}",
        Era::Modern.version()
    )
}

fn empty(status: StatusCode) -> Response<Parts> {
    let mut response = Response::new(Parts { first: None, second: None, endless: false });
    *response.status_mut() = status;
    response
}
