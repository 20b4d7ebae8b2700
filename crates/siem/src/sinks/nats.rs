//! NATS JetStream, by its text protocol: published with an id, so that the stream leaves out what comes twice, and
//! delivered when the stream says that it has it.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::rand;
use portcullis_core::kind::{Kind, KindError};
use portcullis_net::client::raw::{RawPeer, RawStream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::wrong;
use crate::{
    Credential, Failure, Message, Settings, Sink,
    formats::{PRODUCT, VERSION},
};

/// The kind.
pub(super) const KIND: Kind<Box<dyn Sink>, Settings> = Kind {
    name: "nats",
    doc: "A stream of NATS JetStream that takes the subject `index` (default `portcullis.events`), at `tls://HOST:4222` or `nats://HOST:4222`. \
          `token` is a token, or a user and a password with a colon between.",
    build,
};

/// Bytes of one line, and of one message, that are read.
const LINE_BYTES_MAX: u64 = 64 << 10;
const REPLY_BYTES_MAX: u64 = 64 << 10;
/// The subscription on which the stream answers.
const SUBSCRIPTION: &str = "1";

#[derive(Debug)]
struct JetStream {
    peer: RawPeer,
    tls: bool,
    subject: String,
    token: Option<Arc<dyn Credential>>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stream: BufReader<RawStream>,
    inbox: String,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, KindError> {
    let url = settings.url().map_err(|why| wrong(KIND.name, why))?;
    let tls = match url.scheme() {
        "tls" => true,
        "nats" => false,
        other => {
            return Err(wrong(KIND.name, format!("`{other}` is no way to NATS: write `tls://HOST:4222`")));
        }
    };
    let subject = settings.index.clone().unwrap_or_else(|| "portcullis.events".to_owned());
    if !subject.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'>')) {
        return Err(wrong(KIND.name, "`index` is no subject to publish to: letters, digits and dots"));
    }
    let peer = settings.raw_peer(4222).map_err(|why| wrong(KIND.name, why))?;
    Ok(Box::new(JetStream { peer, tls, subject, token: settings.token.clone(), open: None }))
}

impl JetStream {
    async fn connect(&self) -> Result<Open, Failure> {
        let plain = self.peer.connect().await.map_err(Failure::away)?;
        // The server speaks first, in the clear, and TLS begins after that.
        let mut plain = BufReader::new(plain);
        let info = line(&mut plain).await?;
        if !info.starts_with("INFO ") {
            return Err(Failure::Away(format!("this is no NATS server: {}", info.escape_debug())));
        }
        let plain = plain.into_inner();
        let stream = if self.tls { self.peer.secure(plain).await.map_err(Failure::away)? } else { plain };
        let mut options = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "lang": "rust",
            "name": PRODUCT, "version": VERSION, "tls_required": self.tls, "protocol": 1,
        });
        if let (Some(token), Some(options)) = (&self.token, options.as_object_mut()) {
            let token = token.value().await.map_err(|error| Failure::Away(format!("`token`: {error}")))?;
            match token.expose().trim().split_once(':') {
                Some((user, password)) => {
                    options.insert("user".to_owned(), json!(user));
                    options.insert("pass".to_owned(), json!(password));
                }
                None => {
                    options.insert("auth_token".to_owned(), json!(token.expose().trim()));
                }
            }
        }
        let mut random = [0; 8];
        rand::fill(&mut random).map_err(|_| Failure::Away("no random bytes".to_owned()))?;
        let inbox = format!("_INBOX.{:016x}", u64::from_be_bytes(random));
        let mut open = Open { stream: BufReader::new(stream), inbox };
        let hello = format!("CONNECT {options}\r\nSUB {}.* {SUBSCRIPTION}\r\nPING\r\n", open.inbox);
        open.write(hello.as_bytes()).await?;
        open.until_pong().await?;
        Ok(open)
    }
}

/// One line of the protocol, without its end.
async fn line(stream: &mut BufReader<RawStream>) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).await.map_err(Failure::away)?;
    if !bytes.ends_with(b"\n") {
        return Err(Failure::Away("the server closed the connection".to_owned()));
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

impl Open {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes).await.map_err(Failure::away)?;
        stream.flush().await.map_err(Failure::away)
    }

    async fn until_pong(&mut self) -> Result<(), Failure> {
        loop {
            match line(&mut self.stream).await?.as_str() {
                "PONG" => return Ok(()),
                error if error.starts_with("-ERR") => return Err(Failure::Away(error.to_owned())),
                _ => {}
            }
        }
    }

    /// The next message to us: its last word, which says to what it answers, and its text.
    async fn answer(&mut self) -> Result<(String, Vec<u8>), Failure> {
        loop {
            let line = line(&mut self.stream).await?;
            let mut words = line.split(' ');
            let verb = words.next().unwrap_or_default();
            match verb {
                "PING" => self.write(b"PONG\r\n").await?,
                "-ERR" => return Err(Failure::Away(line)),
                "MSG" | "HMSG" => {
                    let subject = words.next().unwrap_or_default().to_owned();
                    let rest: Vec<&str> = words.collect();
                    let size = rest.last().and_then(|size| size.parse::<u64>().ok());
                    let size = size.filter(|size| *size <= REPLY_BYTES_MAX);
                    let size = size.ok_or_else(|| Failure::Away("an answer is too large".to_owned()))?;
                    let mut bytes = vec![0; usize::try_from(size + 2).unwrap_or(0)];
                    self.stream.read_exact(&mut bytes).await.map_err(Failure::away)?;
                    bytes.truncate(bytes.len().saturating_sub(2));
                    // With headers: only the server itself answers so, when nobody listens.
                    if verb == "HMSG" {
                        return Err(Failure::Away(
                            "no stream takes this subject; `nats stream add` makes one".to_owned(),
                        ));
                    }
                    return Ok((subject, bytes));
                }
                _ => {}
            }
        }
    }

    async fn publish(&mut self, subject: &str, messages: &[Message]) -> Result<(), Failure> {
        let mut out = Vec::new();
        for (number, message) in messages.iter().enumerate() {
            let body = message.body.line();
            let head = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\nEvent: {}\r\n\r\n", message.id, message.event);
            let (head_len, whole) = (head.len(), head.len() + body.len());
            out.extend(
                format!("HPUB {subject} {}.{number} {head_len} {whole}\r\n{head}{body}\r\n", self.inbox)
                    .into_bytes(),
            );
        }
        self.write(&out).await?;
        let mut waiting: std::collections::BTreeSet<String> =
            (0..messages.len()).map(|number| format!("{}.{number}", self.inbox)).collect();
        while !waiting.is_empty() {
            let (answers, text) = self.answer().await?;
            let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(error) = answer.get("error") {
                return Err(Failure::Away(format!("the stream answers {error}")));
            }
            waiting.remove(&answers);
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for JetStream {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        // Taken out while it is in use: one that was left in the middle is not used again.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let subject = self.subject.clone();
        open.publish(&subject, messages).await?;
        self.open = Some(open);
        Ok(())
    }
}
