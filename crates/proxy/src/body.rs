//! Bodies: what a client sends, and the reply: one message, an event stream, or nothing.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// The body of a request.
#[derive(Debug)]
pub enum Inbound {
    /// Still on its way, over a connection.
    Wire(Incoming),
    /// Here already: a line of standard input, or a message of the gateway's own.
    Whole(Bytes),
}

/// The body of a reply.
#[derive(Debug)]
pub enum Body {
    /// At most one piece.
    Full(Option<Bytes>),
    /// Pieces as they come; dropping the body tells the sender that the client is gone.
    Stream(mpsc::Receiver<Bytes>),
}

/// A body of one piece.
#[must_use]
pub fn full(bytes: Bytes) -> Body {
    Body::Full((!bytes.is_empty()).then_some(bytes))
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
