//! Syslog (RFC 5424) over TLS (RFC 5425), TCP (RFC 6587, octet counting) or UDP (RFC 5426).

use std::{fmt::Write as _, time::Duration};

use async_trait::async_trait;
use portcullis_core::{
    Timestamp,
    kind::{Kind, KindError},
};
use portcullis_net::client::raw::{RawPeer, RawStream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
};

use super::wrong;
use crate::{Failure, Message, Settings, Sink};

/// The kind.
pub(super) const KIND: Kind<Box<dyn Sink>, Settings> = Kind {
    name: "syslog",
    doc: "A syslog server: `tls://HOST:6514`, `tcp://HOST:601` or `udp://HOST:514`. Its protocol has no answers: what was sent less than \
          two seconds before a connection broke is sent again, and over UDP what is lost is lost.",
    build,
};

/// Log audit.
const FACILITY: u8 = 13;
/// How long after sending a message counts as delivered, if the connection still stands.
const SETTLES: Duration = Duration::from_secs(2);
/// The enterprise number that RFC 5612 sets aside for examples; ours is not registered.
const ENTERPRISE: &str = "32473";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Tls,
    Tcp,
    Udp,
}

#[derive(Debug)]
struct Syslog {
    peer: RawPeer,
    over: Over,
    stream: Option<RawStream>,
    socket: Option<UdpSocket>,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, KindError> {
    let url = settings.url().map_err(|why| wrong(KIND.name, why))?;
    let (over, port) = match url.scheme() {
        "tls" => (Over::Tls, 6514),
        "tcp" => (Over::Tcp, 601),
        "udp" => (Over::Udp, 514),
        other => {
            return Err(wrong(
                KIND.name,
                format!("`{other}` is no way to a syslog server: write `tls://HOST:PORT`"),
            ));
        }
    };
    let peer = settings.raw_peer(port).map_err(|why| wrong(KIND.name, why))?;
    Ok(Box::new(Syslog { peer, over, stream: None, socket: None }))
}

/// As a header may have it: printable ASCII without spaces, bounded.
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

fn parameter(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
}

/// One message of RFC 5424, with the mark that says that its text is UTF-8.
fn message(message: &Message) -> String {
    let priority = FACILITY * 8 + message.grade.of([6, 5, 4, 3, 2]);
    let mut line = format!(
        "<{priority}>1 {} {} portcullis - {} ",
        Timestamp(message.at_ms),
        word(&message.log, 255),
        word(&message.event, 32),
    );
    // Sequence ids of RFC 5424 end at 2^31 - 1 and begin again at 1.
    let sequence = message.index % 2_147_483_647 + 1;
    let _ = write!(
        line,
        "[meta sequenceId=\"{sequence}\"][entry@{ENTERPRISE} id=\"{}\" severity=\"{}\"] \u{feff}{}",
        parameter(&message.id),
        message.grade,
        message.body.line()
    );
    line
}

impl Syslog {
    async fn stream(&mut self) -> Result<&mut RawStream, Failure> {
        if self.stream.is_none() {
            let plain = self.peer.connect().await.map_err(Failure::away)?;
            let stream = match self.over {
                Over::Tls => self.peer.secure(plain).await.map_err(Failure::away)?,
                Over::Tcp | Over::Udp => plain,
            };
            self.stream = Some(stream);
        }
        self.stream.as_mut().ok_or_else(|| Failure::Away("there is no connection".to_owned()))
    }

    async fn datagrams(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.peer.datagrams().await.map_err(Failure::away)?,
        };
        for one in messages {
            match socket.send(message(one).as_bytes()).await {
                // EMSGSIZE: no datagram holds it.
                Err(error) if error.raw_os_error() == Some(90) => {
                    return Err(Failure::Refused("the message is larger than a datagram".to_owned()));
                }
                sent => sent.map_err(Failure::away)?,
            };
        }
        self.socket = Some(socket);
        Ok(())
    }
}

#[async_trait]
impl Sink for Syslog {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        if self.over == Over::Udp {
            return self.datagrams(messages).await;
        }
        let mut frames = String::new();
        for one in messages {
            let text = message(one);
            let _ = write!(frames, "{} {text}", text.len());
        }
        let stream = self.stream().await?;
        let written = async {
            stream.write_all(frames.as_bytes()).await?;
            stream.flush().await
        };
        let written = written.await;
        if let Err(error) = written {
            self.stream = None;
            return Err(Failure::away(error));
        }
        Ok(())
    }

    fn settles(&self) -> Duration {
        if self.over == Over::Udp { Duration::ZERO } else { SETTLES }
    }

    async fn alive(&mut self) -> Result<(), Failure> {
        if self.over == Over::Udp {
            return Ok(());
        }
        let Some(stream) = &mut self.stream else {
            return Err(Failure::Away("the connection was closed".to_owned()));
        };
        // A syslog server says nothing; what can be read is its end.
        let mut bytes = [0; 64];
        let read = tokio::select! {
            biased;
            read = stream.read(&mut bytes) => Some(read),
            () = std::future::ready(()) => None,
        };
        let why = match read {
            None | Some(Ok(1..)) => return Ok(()),
            Some(Ok(0)) => "the server closed the connection".to_owned(),
            Some(Err(error)) => error.to_string(),
        };
        self.stream = None;
        Err(Failure::Away(why))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Grade, formats::Body};

    #[test]
    fn a_message_is_written_as_rfc_5424_has_it() {
        let one = Message {
            index: 41,
            id: "gate\"way]:41".to_owned(),
            at_ms: 1_763_936_655_001,
            grade: Grade::High,
            event: "call.refused".to_owned(),
            log: Arc::from("gate way"),
            body: Body::Text("grüße".to_owned()),
        };
        assert_eq!(
            message(&one),
            "<107>1 2025-11-23T22:24:15.001Z gateway portcullis - call.refused [meta sequenceId=\"42\"]\
             [entry@32473 id=\"gate\\\"way\\]:41\" severity=\"high\"] \u{feff}grüße"
        );
    }
}
