//! A receiver of Standard Webhooks (standardwebhooks.com): one signed post per message.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue};
use portcullis_core::{
    Clock, Timestamp,
    kind::{Kind, KindError},
};
use portcullis_net::webhook::Key;
use serde_json::json;

use super::wrong;
use crate::{Credential, Failure, Message, Settings, Sink, formats::Body, post::Post};

/// The kind.
pub(super) const KIND: Kind<Box<dyn Sink>, Settings> = Kind {
    name: "webhook",
    doc: "Standard Webhooks: one post per message with `type`, `timestamp` and `data`, signed with the secret in `token` (HMAC-SHA256; \
          `whsec_` and Base64, or any text).",
    build,
};

#[derive(Debug)]
struct Webhook {
    post: Post,
    secret: Arc<dyn Credential>,
    clock: Arc<dyn Clock>,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, KindError> {
    let post = Post::new(settings, None).map_err(|why| wrong(KIND.name, why))?;
    let secret = settings.token.clone();
    let secret = secret
        .ok_or_else(|| wrong(KIND.name, "`token` is missing: the secret that posts are signed with"))?;
    Ok(Box::new(Webhook { post, secret, clock: Arc::clone(&settings.clock) }))
}

fn signature(secret: &str, id: &str, seconds: u64, body: &str) -> Result<String, Failure> {
    let key = match secret.trim().strip_prefix("whsec_") {
        Some(text) => STANDARD
            .decode(text)
            .map_err(|_| Failure::Away("`token`: what follows `whsec_` is no Base64".into()))?,
        None => secret.trim().as_bytes().to_vec(),
    };
    Ok(Key::new(&key).sign(id, seconds, body.as_bytes()))
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let secret = self.secret.value().await.map_err(|error| Failure::Away(format!("`token`: {error}")))?;
        let path = self.post.path("").map_err(Failure::Away)?;
        for message in messages {
            let data = match &message.body {
                Body::Json(value) => value.clone(),
                Body::Text(text) => json!(text),
            };
            let time = Timestamp(message.at_ms).to_string();
            let body = json!({ "type": message.event, "timestamp": time, "data": data }).to_string();
            // A dot ends the id where it is signed.
            let id = message.id.replace('.', "_");
            let seconds = self.clock.now().seconds();
            let signature = signature(secret.expose(), &id, seconds, &body)?;
            let mut headers = Vec::new();
            for (name, text) in [
                ("webhook-id", id),
                ("webhook-timestamp", seconds.to_string()),
                ("webhook-signature", signature),
            ] {
                headers.push((
                    HeaderName::from_static(name),
                    HeaderValue::try_from(text).map_err(Failure::away)?,
                ));
            }
            self.post.send(path.clone(), headers, body).await?;
        }
        Ok(())
    }
}
