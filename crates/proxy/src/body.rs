//! Bodies: what a client sends, and the reply: one message, an event stream, or nothing.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
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
    Stream(Pieces),
}

/// What a stream is cut off with: its last piece, or nothing. What waits before it is not sent any more.
pub type Cut = Arc<OnceLock<Bytes>>;

/// The pieces of a stream.
#[derive(Debug)]
pub struct Pieces {
    from: mpsc::Receiver<Bytes>,
    cut: Cut,
    over: bool,
}

impl Pieces {
    /// What comes through `from` until `cut` says otherwise; whoever cuts drops the sender.
    #[must_use]
    pub const fn new(from: mpsc::Receiver<Bytes>, cut: Cut) -> Self {
        Self { from, cut, over: false }
    }

    /// The next one.
    pub async fn recv(&mut self) -> Option<Bytes> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.over {
            return Poll::Ready(None);
        }
        let piece = match self.cut.get() {
            None => std::task::ready!(self.from.poll_recv(context)),
            Some(_) => None,
        };
        // Looked at again, since the channel ends only after the cut.
        if let (None, Some(last)) = (&piece, self.cut.get()) {
            self.over = true;
            return Poll::Ready((!last.is_empty()).then(|| last.clone()));
        }
        Poll::Ready(piece)
    }
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
                pieces.poll(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_is_cut_off_sends_nothing_of_what_waited_but_its_last_word() {
        for last in ["over", ""] {
            let (to, from) = mpsc::channel(4);
            let cut = Cut::default();
            let mut pieces = Pieces::new(from, Arc::clone(&cut));
            for piece in ["one", "two", "three"] {
                to.send(Bytes::from(piece)).await.unwrap();
            }
            assert_eq!(pieces.recv().await.as_deref(), Some(&b"one"[..]));
            cut.set(Bytes::from(last)).unwrap();
            let expected = (!last.is_empty()).then_some(last.as_bytes());
            assert_eq!(pieces.recv().await.as_deref(), expected);
            assert_eq!(pieces.recv().await, None);
        }
    }

    #[tokio::test]
    async fn a_reader_that_waits_hears_that_the_stream_was_cut_off() {
        let (to, from) = mpsc::channel::<Bytes>(1);
        let cut = Cut::default();
        let mut pieces = Pieces::new(from, Arc::clone(&cut));
        let reader = tokio::spawn(async move { (pieces.recv().await, pieces.recv().await) });
        tokio::task::yield_now().await;
        cut.set(Bytes::from("over")).unwrap();
        drop(to);
        assert_eq!(reader.await.unwrap(), (Some(Bytes::from("over")), None));
    }
}
