//! Splunk's HTTP Event Collector.

use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand;
use http::{HeaderName, HeaderValue};
use portcullis_core::kind::{Kind, KindError};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::wrong;
use crate::{Failure, Message, Settings, Sink, formats::Body, post::Post};

/// The kind.
pub(super) const KIND: Kind<Box<dyn Sink>, Settings> = Kind {
    name: "splunk_hec",
    doc: "Splunk HTTP Event Collector at `url` (without `/services`), with its token in `token`. With `acknowledged: true` a message counts as \
          delivered when the indexer says that it is on disk.",
    build,
};

const CHANNEL: HeaderName = HeaderName::from_static("x-splunk-request-channel");
/// How often is asked whether something is indexed.
const ASK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Collector {
    post: Post,
    index: Option<String>,
    source_type: String,
    acknowledged: bool,
    channel: String,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, KindError> {
    let post = Post::new(settings, Some("Splunk")).map_err(|why| wrong(KIND.name, why))?;
    if settings.token.is_none() {
        return Err(wrong(KIND.name, "`token` is missing: the token of the collector"));
    }
    Ok(Box::new(Collector {
        post,
        index: settings.index.clone(),
        source_type: format!("portcullis:{}", settings.format.name),
        acknowledged: settings.acknowledged,
        channel: guid().map_err(|why| wrong(KIND.name, why))?,
    }))
}

/// A random UUID (RFC 9562, version 4).
fn guid() -> Result<String, String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| "no random bytes".to_owned())?;
    let number = u128::from_be_bytes(bytes) & !(0xf000_u128 << 64 | 0xc000_u128 << 48)
        | 0x4000_u128 << 64
        | 0x8000_u128 << 48;
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

impl Collector {
    fn event(&self, message: &Message) -> Value {
        let mut event = json!({
            "time": format!("{}.{:03}", message.at_ms / 1_000, message.at_ms % 1_000),
            "host": &*message.log,
            "source": "portcullis",
            "sourcetype": self.source_type,
            "event": match &message.body { Body::Json(value) => value.clone(), Body::Text(text) => json!(text) },
            "fields": { "id": message.id, "event": message.event, "severity": message.grade.name() },
        });
        if let (Some(event), Some(index)) = (event.as_object_mut(), &self.index) {
            event.insert("index".to_owned(), json!(index));
        }
        event
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
        Ok(vec![(CHANNEL, HeaderValue::try_from(&self.channel).map_err(Failure::away)?)])
    }

    /// Asks until it is indexed; the courier ends that when it takes too long.
    async fn indexed(&self, id: u64) -> Result<(), Failure> {
        let path = self.post.path(&format!("/services/collector/ack?channel={}", self.channel));
        let path = path.map_err(Failure::Away)?;
        loop {
            let question = json!({ "acks": [id] }).to_string();
            let answer = self.post.send(path.clone(), self.headers()?, question).await?;
            if answer.pointer(&format!("/acks/{id}")) == Some(&Value::Bool(true)) {
                return Ok(());
            }
            sleep(ASK_EVERY).await;
        }
    }
}

#[async_trait]
impl Sink for Collector {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let body: String = messages.iter().map(|message| self.event(message).to_string()).collect();
        let path = self.post.path("/services/collector/event").map_err(Failure::Away)?;
        let answer = self.post.send(path, self.headers()?, body).await?;
        if answer.get("code").and_then(Value::as_u64) != Some(0) {
            return Err(Failure::Away(format!("the collector answers {answer}")));
        }
        if !self.acknowledged {
            return Ok(());
        }
        let id = answer.get("ackId").and_then(Value::as_u64);
        let id = id.ok_or_else(|| {
            Failure::Away(
                "the token gives no acknowledgements; enable them, or set `acknowledged: false`".into(),
            )
        })?;
        self.indexed(id).await
    }
}
