//! Reads one HTTP/1.1 request from a socket, nothing more: the hostile server must own every byte it writes.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Outcome;

/// Most bytes of one request.
const REQUEST_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Reads requests from one connection.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next request, or nothing when the peer closed between requests.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Request>> {
        let Some(head) = self.until(b"\r\n\r\n").await? else { return Ok(None) };
        let head = String::from_utf8(head)?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut request = Request {
            method: words.next().unwrap_or_default().to_owned(),
            target: words.next().unwrap_or_default().to_owned(),
            ..Request::default()
        };
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
            request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            request.body = self.chunks().await?;
        } else if let Some(length) = request.header("content-length") {
            let length = length.parse()?;
            request.body = self.exactly(length).await?;
        }
        Ok(Some(request))
    }

    /// Reads on and throws away until the peer closes.
    pub(crate) async fn drain(&mut self) {
        let mut scratch = vec![0; 16 * 1024];
        while !matches!(self.stream.read(&mut scratch).await, Ok(0) | Err(_)) {}
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    async fn chunks(&mut self) -> Outcome<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?.ok_or("a body that ends early")?;
            let size = std::str::from_utf8(&line)?.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)?;
            body.extend(self.exactly(size).await?);
            self.exactly(2).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Outcome<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                let taken = self.buffer.drain(..at + mark.len()).take(at).collect();
                return Ok(Some(taken));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Outcome<Vec<u8>> {
        if count > REQUEST_BYTES_MAX {
            return Err("a request too large for the testkit".into());
        }
        while self.buffer.len() < count {
            if !self.more().await? {
                return Err("a body that ends early".into());
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    async fn more(&mut self) -> Outcome<bool> {
        if self.buffer.len() > REQUEST_BYTES_MAX {
            return Err("a request too large for the testkit".into());
        }
        let mut scratch = vec![0; 16 * 1024];
        let count = self.stream.read(&mut scratch).await?;
        self.buffer.extend(scratch.iter().take(count));
        Ok(count > 0)
    }
}
