//! One exchange on a connection of its own, for an answer that lasts: the head is read here and not by hyper, whose
//! buffers and queues, over 20 KiB, would be held for nothing while the answer is silent.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body as HttpBody, Frame};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

use super::{ClientError, chunks::Chunks, connect::Stream};
use crate::BoxError;

/// Bytes of the head of an answer, with those of interim answers before it.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// The body of an answer of a server.
#[derive(Debug)]
pub enum Body {
    /// On a connection of the pool.
    Pooled(Incoming),
    /// On a connection of its own.
    Own(Own),
}

/// A body on a connection of its own.
#[derive(Debug)]
pub struct Own {
    io: Stream,
    /// What was read and not yet taken.
    input: Bytes,
    framing: Framing,
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Debug)]
enum Framing {
    Chunks(Chunks),
    Length(u64),
    Close,
    Ended,
}

/// Sends `request`, its target in origin form, and reads the head of the answer.
pub(super) async fn exchange(
    mut io: Stream,
    request: Request<Bytes>,
    headers_max: usize,
) -> Result<Response<Body>, ClientError> {
    let broken = |error: io::Error| ClientError::Protocol(error.to_string());
    io.write_all(&encode(&request)).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;
    let mut input = BytesMut::new();
    let mut seen = 0_usize;
    loop {
        let from = seen.saturating_sub(3);
        let end = input.get(from..).and_then(|new| new.windows(4).position(|four| four == b"\r\n\r\n"));
        if let Some(end) = end {
            let head = input.split_to(from + end + 4);
            seen = 0;
            if let Some(response) = parse(&head, headers_max)? {
                let framing = framing(response.version(), response.status(), response.headers())?;
                return Ok(response.map(|()| Body::Own(Own { io, input: input.freeze(), framing })));
            }
            continue;
        }
        seen = input.len();
        if seen >= HEAD_BYTES_MAX {
            return Err(ClientError::Protocol("the head of the answer is too large".to_owned()));
        }
        if io.read_buf(&mut input).await.map_err(broken)? == 0 {
            return Err(ClientError::Protocol("the connection was closed before the answer".to_owned()));
        }
    }
}

fn encode(request: &Request<Bytes>) -> Vec<u8> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut bytes = format!("{} {target} HTTP/1.1\r\n", request.method()).into_bytes();
    let mut field =
        |name: &[u8], value: &[u8]| bytes.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    for (name, value) in request.headers() {
        // How long the body is, is ours to say.
        if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
            field(name.as_ref(), value.as_bytes());
        }
    }
    if !request.body().is_empty() || request.method() == http::Method::POST {
        field(b"content-length", request.body().len().to_string().as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(request.body());
    bytes
}

/// The answer that `head` begins; nothing for an interim one.
fn parse(head: &[u8], headers_max: usize) -> Result<Option<Response<()>>, ClientError> {
    let invalid = |what: &str| ClientError::Protocol(format!("the head of the answer is not valid: {what}"));
    let mut fields = vec![httparse::EMPTY_HEADER; headers_max];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(invalid("it ends early")),
        Err(error) => return Err(invalid(&error.to_string())),
    }
    let status =
        parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| invalid("status"))?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(invalid("another protocol"));
    }
    if status.is_informational() {
        return Ok(None);
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid("a name of a field"))?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| invalid("a value of a field"))?;
        response.headers_mut().append(name, value);
    }
    Ok(Some(response))
}

/// Two readings of where a body ends are none.
fn framing(version: Version, status: StatusCode, headers: &HeaderMap) -> Result<Framing, ClientError> {
    let invalid = || ClientError::Protocol("the length of the answer is not clear".to_owned());
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Ended);
    }
    let (mut codings, mut lengths) =
        (headers.get_all(header::TRANSFER_ENCODING).iter(), headers.get_all(header::CONTENT_LENGTH).iter());
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Close),
        (Some(coding), None) if codings.next().is_none() && version == Version::HTTP_11 => {
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            if chunked { Ok(Framing::Chunks(Chunks::default())) } else { Err(invalid()) }
        }
        (None, Some(length)) if lengths.all(|other| other == length) => {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).map(Framing::Length).ok_or_else(invalid)
        }
        (Some(_), _) | (None, Some(_)) => Err(invalid()),
    }
}

impl Own {
    /// What is there of the body; nothing when more has to be read.
    fn take(&mut self) -> Result<Option<Bytes>, BoxError> {
        match &mut self.framing {
            Framing::Ended => Ok(None),
            Framing::Close => Ok(Some(self.input.split_off(0)).filter(|data| !data.is_empty())),
            Framing::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                let data = self.input.split_to(most);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.framing = Framing::Ended;
                }
                Ok(Some(data).filter(|data| !data.is_empty()))
            }
            Framing::Chunks(chunks) => {
                let data = chunks.next(&mut self.input)?;
                if chunks.ended() {
                    self.framing = Framing::Ended;
                }
                Ok(data)
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            if let Some(data) = self.take()? {
                return Poll::Ready(Some(Ok(data)));
            }
            if matches!(self.framing, Framing::Ended) {
                return Poll::Ready(None);
            }
            // On the stack: what is silent holds no buffer.
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                let whole = matches!(self.framing, Framing::Close);
                self.framing = Framing::Ended;
                let broken = || Some(Err("the connection was closed in the middle".into()));
                return Poll::Ready(if whole { None } else { broken() });
            }
            self.input = Bytes::copy_from_slice(read);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Pooled(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Own(own) => own.poll_data(cx).map_ok(Frame::data),
        }
    }
}
