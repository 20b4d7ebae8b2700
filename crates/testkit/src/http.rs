//! A tiny HTTP client: one connection per request, nothing followed, nothing decoded, nothing retried.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Fault, Outcome};

/// Sends single requests over plain HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Client {
    patience: Duration,
    receive_buffer_bytes: Option<u32>,
}

impl Default for Client {
    fn default() -> Self {
        Self::with_patience(Duration::from_secs(30))
    }
}

/// The status, headers and whole body of one answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, empty when it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An answer whose body is read as it comes. Dropping it closes the connection.
#[derive(Debug)]
pub struct Body {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    incoming: Incoming,
    connection: JoinHandle<()>,
}

impl Body {
    /// The next piece, or nothing at the end.
    ///
    /// # Errors
    /// The connection broke, or nothing came within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Outcome<Option<Bytes>> {
        loop {
            match timeout(patience, self.incoming.frame()).await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Everything that is left.
    ///
    /// # Errors
    /// The connection broke, or `patience` is over.
    pub async fn rest(&mut self, patience: Duration) -> Outcome<Bytes> {
        Ok(timeout(patience, (&mut self.incoming).collect()).await??.to_bytes())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    /// A client that gives up after `patience`.
    #[must_use]
    pub fn with_patience(patience: Duration) -> Self {
        Self { patience, receive_buffer_bytes: None }
    }

    /// The same client, whose kernel takes about so many bytes that are not read; else it takes megabytes.
    #[must_use]
    pub fn with_receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// GET.
    ///
    /// # Errors
    /// No complete answer.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Outcome<Reply> {
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    /// POST.
    ///
    /// # Errors
    /// No complete answer.
    pub async fn post(&self, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Outcome<Reply> {
        self.send(Method::POST, url, headers, body.into()).await
    }

    /// Sends one request and collects the whole answer.
    ///
    /// # Errors
    /// No complete answer.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Outcome<Reply> {
        let mut answer = self.open(method, url, headers, body).await?;
        let body = answer.rest(self.patience).await?;
        Ok(Reply { status: answer.status, headers: answer.headers.clone(), body })
    }

    /// Sends one request and returns as soon as the head of the answer is there. A repeated header name is sent
    /// repeatedly; `Host` is made from the URL unless it is given.
    ///
    /// # Errors
    /// No answer.
    pub async fn open(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Outcome<Body> {
        let uri: Uri = url.parse()?;
        let authority = uri.authority().ok_or("the url has no authority")?.clone();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", authority.as_str());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        let stream = self.connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // An error here reaches the test as an error of the body.
            let _closed = connection.await;
        });
        let (head, incoming) = timeout(self.patience, sender.send_request(request))
            .await
            .map_err(|_| Fault::from(format!("no answer from `{url}` in {:?}", self.patience)))??
            .into_parts();
        Ok(Body { status: head.status, headers: head.headers, incoming, connection })
    }

    async fn connect(&self, to: (&str, u16)) -> Outcome<TcpStream> {
        let Some(bytes) = self.receive_buffer_bytes else { return Ok(TcpStream::connect(to).await?) };
        let address = lookup_host(to).await?.next().ok_or("no address")?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Before the connection is made, since it is what the first packet offers.
        socket.set_recv_buffer_size(bytes)?;
        Ok(socket.connect(address).await?)
    }
}
