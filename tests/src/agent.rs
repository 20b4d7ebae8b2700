//! A SPIFFE Workload API of our own: gRPC over HTTP/2 on a Unix socket, strict in what it takes, with a real authority behind
//! it. Messages are written by hand, so that nothing of the gateway's own reader is believed.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_testkit::Outcome;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{net::UnixListener, sync::watch, task::JoinSet};

use crate::authority::Identity;

/// What an agent gives.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// ID, certificate, and the authority (PEM) of its trust domain.
    pub svids: Vec<(String, Identity, String)>,
    /// Authorities (PEM) of other trust domains.
    pub federated: Vec<(String, String)>,
}

/// An agent that runs. It ends when it is dropped.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    given: Arc<watch::Sender<Bytes>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// One field that has a length.
fn field(out: &mut BytesMut, number: u8, value: &[u8]) {
    out.put_u8(number << 3 | 2);
    let mut left = value.len();
    while left > 127 {
        out.put_u8((left & 127) as u8 | 128);
        left >>= 7;
    }
    out.put_u8(left as u8);
    out.put_slice(value);
}

fn der(pem: &str) -> Outcome<Vec<u8>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    Ok(all.iter().flat_map(|one| one.to_vec()).collect())
}

/// `X509SVIDResponse` as one message of gRPC.
fn message(given: &Given) -> Outcome<Bytes> {
    let mut body = BytesMut::new();
    for (id, identity, authority) in &given.svids {
        let mut svid = BytesMut::new();
        let key = PrivateKeyDer::from_pem_slice(identity.key().as_bytes())?;
        for (number, value) in [
            (1, id.clone().into_bytes()),
            (2, der(identity.certificate())?),
            (3, key.secret_der().to_vec()),
            (4, der(authority)?),
        ] {
            field(&mut svid, number, &value);
        }
        field(&mut body, 1, &svid);
    }
    for (domain, authority) in &given.federated {
        let mut entry = BytesMut::new();
        field(&mut entry, 1, domain.as_bytes());
        field(&mut entry, 2, &der(authority)?);
        field(&mut body, 3, &entry);
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(body.len().try_into()?);
    framed.put_slice(&body);
    Ok(framed.freeze())
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

fn status(code: &'static str, text: &'static str) -> Answer {
    let mut answer = Response::new(http_body_util::Empty::new().boxed());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer.headers_mut().insert("grpc-status", HeaderValue::from_static(code));
    answer.headers_mut().insert("grpc-message", HeaderValue::from_static(text));
    answer
}

type Waiting = std::pin::Pin<Box<dyn Future<Output = (watch::Receiver<Bytes>, bool)> + Send + Sync>>;

/// Whatever is given, as soon as it is.
struct Stream {
    given: watch::Receiver<Bytes>,
    waiting: Option<Waiting>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut given = self.given.clone();
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                let more = given.changed().await.is_ok();
                (given, more)
            })
        });
        let (given, more) = std::task::ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        self.given = given;
        if !more {
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("14"),
            )]);
            return std::task::Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let bytes = self.given.borrow_and_update().clone();
        std::task::Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

async fn answer(request: Request<Incoming>, given: watch::Receiver<Bytes>) -> Result<Answer, Infallible> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if parts.uri.path() != "/SpiffeWorkloadAPI/FetchX509SVID" {
        return Ok(status("12", "no such method"));
    }
    if header("workload.spiffe.io") != Some("true") {
        return Ok(status("3", "security header missing from request"));
    }
    let fits = header("te") == Some("trailers")
        && header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    let asked = body.collect().await.map(http_body_util::Collected::to_bytes);
    if !fits || asked.ok().as_deref() != Some(&[0; 5][..]) {
        return Ok(status("3", "not a request of gRPC"));
    }
    if given.borrow().is_empty() {
        return Ok(status("7", "no identity issued"));
    }
    let mut given = given;
    given.mark_changed();
    let mut answer = Response::new(Stream { given, waiting: None }.boxed());
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(answer)
}

impl Agent {
    /// Answers at `socket`. Inside a runtime.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(socket: &Path, given: Option<&Given>) -> Outcome<Self> {
        let listener = UnixListener::bind(socket)?;
        let first = given.map(message).transpose()?.unwrap_or_default();
        let given = Arc::new(watch::channel(first).0);
        let source = Arc::clone(&given);
        let task = tokio::spawn(async move {
            // Connections live in the set, so that dropping the agent ends them too.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let given = source.subscribe();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(request, given.clone()));
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { socket: socket.to_owned(), given, task })
    }

    /// Gives this from now on.
    ///
    /// # Errors
    /// What is given cannot be written.
    pub fn give(&self, given: &Given) -> Outcome {
        self.given.send_replace(message(given)?);
        Ok(())
    }
}
