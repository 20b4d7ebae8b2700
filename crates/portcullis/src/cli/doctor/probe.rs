//! One HTTP exchange as raw bytes, over TCP or TLS: what an attacker sends is nothing that an HTTP library would write.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use portcullis_net::tls;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use url::Url;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes kept of one answer.
const ANSWER_BYTES_MAX: usize = 262_144;

/// Where the gateway listens for clients.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// What belongs into the Host header.
    pub(super) host: String,
    /// The name in the certificate; none without TLS.
    pub(super) name: Option<String>,
    /// Certificates that are trusted beside the platform's: the gateway's own.
    roots: Vec<Vec<u8>>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The status; `None` where the connection was closed without an answer.
    pub(super) status: Option<u16>,
    pub(super) text: String,
}

impl Answer {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Door {
    /// The door at `url`, on this machine at `address`.
    pub(super) fn new(url: &Url, address: SocketAddr, roots: Vec<Vec<u8>>) -> Result<Self, String> {
        let host = url.host_str().ok_or("the endpoint has no host")?.to_owned();
        let name = (url.scheme() == "https").then(|| host.trim_matches(['[', ']']).to_owned());
        let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Ok(Self { address, host, name, roots })
    }

    /// Whether it speaks TLS.
    pub(super) const fn tls(&self) -> bool {
        self.name.is_some()
    }

    /// Writes `bytes` and reads until the other side closes, or has said enough.
    pub(super) async fn exchange(&self, bytes: &[u8]) -> Result<Answer, String> {
        let stream =
            timeout(PATIENCE, TcpStream::connect(self.address)).await.map_err(|_| "no answer in time")?;
        let stream = stream.map_err(|error| format!("cannot connect to {}: {error}", self.address))?;
        let Some(name) = &self.name else { return Ok(talk(stream, bytes).await) };
        let config = tls::client_config(&self.roots, false).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(name.clone()).map_err(|error| error.to_string())?;
        let connected =
            timeout(PATIENCE, TlsConnector::from(Arc::clone(&config)).connect(name, stream)).await;
        let stream =
            connected.map_err(|_| "TLS took too long")?.map_err(|error| format!("TLS failed: {error}"))?;
        Ok(talk(stream, bytes).await)
    }

    /// Writes `bytes` without TLS, whatever is spoken there.
    pub(super) async fn in_clear(&self, bytes: &[u8]) -> Result<Answer, String> {
        let plain = Self { name: None, ..self.clone() };
        plain.exchange(bytes).await
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Answer {
    let mut answer = Vec::new();
    // Whoever refuses early may not read to the end: that is an answer too.
    let exchange = async {
        let _refused = stream.write_all(bytes).await;
        let _flushed = stream.flush().await;
        let mut buffer = vec![0; 16_384];
        while answer.len() < ANSWER_BYTES_MAX {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => answer.extend(buffer.iter().take(count)),
            }
        }
    };
    let _over = timeout(PATIENCE, exchange).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    Answer { status, text }
}
