//! Elasticsearch and OpenSearch, by the bulk API.

use async_trait::async_trait;
use http::{HeaderValue, header};
use portcullis_core::kind::{Kind, KindError};
use serde_json::{Value, json};

use super::wrong;
use crate::{Failure, Message, Settings, Sink, formats::Body, post::Post};

/// The kind.
pub(super) const KIND: Kind<Box<dyn Sink>, Settings> = Kind {
    name: "elasticsearch",
    doc: "Elasticsearch or OpenSearch at `url`: created in the index or data stream `index` (default `portcullis`) under an id of its own, so \
          that what comes twice is there once. `token` is an API key, or a whole `Authorization` such as `Basic …`.",
    build,
};

#[derive(Debug)]
struct Bulk {
    post: Post,
    index: String,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, KindError> {
    let post = Post::new(settings, Some("ApiKey")).map_err(|why| wrong(KIND.name, why))?;
    Ok(Box::new(Bulk { post, index: settings.index.clone().unwrap_or_else(|| "portcullis".to_owned()) }))
}

/// What became of each document.
fn judged(answer: &Value) -> Result<(), Failure> {
    let items = answer.get("items").and_then(Value::as_array);
    let items = items.ok_or_else(|| Failure::Away("the answer is none of the bulk API".to_owned()))?;
    let mut refused = None;
    for item in items {
        let done = item.get("create").unwrap_or(item);
        match done.get("status").and_then(Value::as_u64) {
            // 409: it is there already.
            Some(200..=299 | 409) => {}
            Some(400 | 413 | 422) => refused = Some(done.to_string()),
            _ => return Err(Failure::Away(format!("a document was not taken: {done}"))),
        }
    }
    refused.map_or(Ok(()), |why| Err(Failure::Refused(why)))
}

#[async_trait]
impl Sink for Bulk {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let mut body = String::new();
        for message in messages {
            let document = match &message.body {
                Body::Json(value) => value.clone(),
                Body::Text(text) => json!({ "message": text }),
            };
            let action = json!({ "create": { "_index": self.index, "_id": message.id } });
            body.push_str(&format!("{action}\n{document}\n"));
        }
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
        let path = self.post.path("/_bulk").map_err(Failure::Away)?;
        judged(&self.post.send(path, headers, body).await?)
    }
}
