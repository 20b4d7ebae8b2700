//! OpenTelemetry logs, by OTLP over HTTP with JSON (OTLP 1.x).

use async_trait::async_trait;
use portcullis_core::kind::{Kind, KindError};
use serde_json::{Value, json};

use super::wrong;
use crate::{
    Failure, Message, Settings, Sink,
    formats::{Body, PRODUCT, VERSION},
    post::Post,
};

/// The kind.
pub(super) const KIND: Kind<Box<dyn Sink>, Settings> = Kind {
    name: "otlp",
    doc: "An OpenTelemetry collector at `url` (without `/v1/logs`): OTLP over HTTP, JSON. `token` is a bearer token.",
    build,
};

#[derive(Debug)]
struct Logs(Post);

fn build(settings: &Settings) -> Result<Box<dyn Sink>, KindError> {
    Post::new(settings, Some("Bearer"))
        .map(|post| Box::new(Logs(post)) as Box<dyn Sink>)
        .map_err(|why| wrong(KIND.name, why))
}

/// A value as OTLP writes it.
fn any(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({ "boolValue": value }),
        // 64-bit integers are text in the JSON of protobuf.
        Value::Number(number) => match number.as_i64() {
            Some(number) => json!({ "intValue": number.to_string() }),
            None => json!({ "doubleValue": number }),
        },
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(any).collect::<Vec<_>>() } })
        }
        Value::Object(members) => {
            let pairs = members.iter().map(|(key, value)| json!({ "key": key, "value": any(value) }));
            json!({ "kvlistValue": { "values": pairs.collect::<Vec<_>>() } })
        }
    }
}

fn attribute(key: &str, text: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": text } })
}

fn record(message: &Message) -> Value {
    let body = match &message.body {
        Body::Json(value) => any(value),
        Body::Text(text) => any(&json!(text)),
    };
    json!({
        "timeUnixNano": format!("{}000000", message.at_ms),
        "observedTimeUnixNano": format!("{}000000", message.at_ms),
        "severityNumber": message.grade.of([9, 11, 13, 17, 21]),
        "severityText": message.grade.name(),
        "eventName": message.event,
        "body": body,
        "attributes": [attribute("log.record.uid", &message.id), attribute("event.name", &message.event)],
    })
}

#[async_trait]
impl Sink for Logs {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let instance = messages.first().map(|message| &*message.log).unwrap_or_default();
        let body = json!({ "resourceLogs": [{
            "resource": { "attributes": [
                attribute("service.name", "portcullis"),
                attribute("service.version", VERSION),
                attribute("service.instance.id", instance),
            ] },
            "scopeLogs": [{
                "scope": { "name": PRODUCT, "version": VERSION },
                "logRecords": messages.iter().map(record).collect::<Vec<_>>(),
            }],
        }] });
        let path = self.0.path("/v1/logs").map_err(Failure::Away)?;
        let answer = self.0.send(path, Vec::new(), body.to_string()).await?;
        let rejected = answer.pointer("/partialSuccess/rejectedLogRecords");
        match rejected {
            None => Ok(()),
            Some(Value::String(count)) if count == "0" => Ok(()),
            Some(Value::Number(count)) if count.as_u64() == Some(0) => Ok(()),
            Some(_) => Err(Failure::Refused(answer.to_string())),
        }
    }
}
