//! Answers that last, written without hyper. Nothing but such an answer happens on its HTTP/1.1 connection any more, so
//! the buffers for heads and the state of a whole request, over 20 KiB, would be held for nothing while it is silent.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// Extension of a response whose body lasts and is mostly silent, as an event stream is: its connection serves nothing
/// else afterwards and ends with it.
#[derive(Clone, Copy, Debug)]
pub struct Lasting;

/// What a client may still say on a connection that only answers, in bytes. It is dropped; beyond, the answer ends.
const UNHEARD_BYTES_MAX: usize = 64 << 10;

/// Where the body of a lasting answer waits until its head is written.
#[derive(Debug)]
pub(super) struct Handover<B> {
    body: Mutex<Option<B>>,
    /// Whether hyper still has bytes that the client did not take.
    waiting: Arc<AtomicBool>,
}

impl<B> Handover<B> {
    pub(super) fn new(waiting: Arc<AtomicBool>) -> Self {
        Self { body: Mutex::new(None), waiting }
    }

    /// The body whose head has been written.
    pub(super) fn take(&self) -> Option<B> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        // hyper writes out what it has before it waits.
        if self.waiting.load(Ordering::Relaxed) { None } else { body.take() }
    }
}

/// The body of a response as hyper sees it.
#[derive(Debug)]
pub(super) enum Answer<B> {
    /// Written by hyper.
    Here(B),
    /// Without any content.
    Empty,
    /// Handed over: hyper writes the head and waits for what comes another way.
    Elsewhere,
}

impl<B> Answer<B> {
    /// Hands the body over where the response asks for it and the request allows it: only HTTP/1.1 has chunks that we
    /// write ourselves, and on HTTP/2 an answer shares its connection.
    pub(super) fn of(mut response: Response<B>, handover: Option<&Handover<B>>) -> Response<Self> {
        let Some(handover) = handover.filter(|_| response.extensions().get::<Lasting>().is_some()) else {
            return response.map(Self::Here);
        };
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let (head, body) = response.into_parts();
        *handover.body.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        Response::from_parts(head, Self::Elsewhere)
    }
}

/// Whether an answer to `request` may be handed over.
pub(super) fn allowed<T>(request: &Request<T>) -> bool {
    request.version() == Version::HTTP_11 && request.method() != http::Method::HEAD
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Here(body) => Pin::new(body).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
            Self::Elsewhere => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Here(body) => body.is_end_stream(),
            Self::Empty => true,
            Self::Elsewhere => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Here(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
            Self::Elsewhere => SizeHint::default(),
        }
    }
}

/// What comes next on a connection that only answers.
enum Next {
    Frame(Frame<Bytes>),
    End,
    /// The client, or what it was to be told.
    Gone,
}

/// Writes `body` in chunks (RFC 9112 section 7.1) to its end, or until the client is gone.
pub(super) async fn write<I, B>(mut io: I, mut body: B) -> std::io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
{
    let mut heard = 0;
    loop {
        let next = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Next::Frame(frame)),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Next::Gone),
            Poll::Ready(None) => Poll::Ready(Next::End),
            Poll::Pending => poll_gone(&mut io, cx, &mut heard).map(|()| Next::Gone),
        });
        match next.await {
            Next::Frame(frame) => {
                let Ok(data) = frame.into_data() else { continue };
                if !data.is_empty() {
                    let size = Bytes::from(format!("{:x}\r\n", data.len()));
                    let mut chunk = size.chain(data).chain(&b"\r\n"[..]);
                    io.write_all_buf(&mut chunk).await?;
                    io.flush().await?;
                }
            }
            Next::End => {
                io.write_all(b"0\r\n\r\n").await?;
                return io.shutdown().await;
            }
            // Without a last chunk the client knows that something is missing.
            Next::Gone => return Ok(()),
        }
    }
}

/// Ready when the client closed its side, or says too much.
fn poll_gone<I: AsyncRead + Unpin>(io: &mut I, cx: &mut Context<'_>, heard: &mut usize) -> Poll<()> {
    let mut bytes = [mem::MaybeUninit::uninit(); 512];
    while *heard <= UNHEARD_BYTES_MAX {
        let mut buffer = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => *heard += buffer.filled().len(),
            Poll::Ready(Ok(()) | Err(_)) => break,
        }
    }
    Poll::Ready(())
}
