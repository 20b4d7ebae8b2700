//! What a server tells on the stream of a call, held until its answer is there and all of it was judged together.

use portcullis_core::{Code, Finding, Obligations, Refusal};
use portcullis_inspect::Inspector;
use portcullis_mcp::{
    answer::{self, Place},
    sse,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

use crate::{stages::redact, tasks::reparsed};

/// What an event counts for beside its words.
const EVENT_BYTES: usize = 64;

/// Events that wait, and what they say at each place, one after the other.
#[derive(Debug, Default)]
pub(super) struct Held {
    events: Vec<sse::Event>,
    said: BTreeMap<String, String>,
    bytes: usize,
}

impl Held {
    /// Holds an event that passed by itself.
    ///
    /// # Errors
    /// `answer.too_large`.
    pub(super) fn take(&mut self, event: sse::Event, bytes_max: u64) -> Result<(), Refusal> {
        let data = event.data.clone().unwrap_or_default();
        self.bytes = self.bytes.saturating_add(data.len() + EVENT_BYTES);
        if self.bytes as u64 > bytes_max {
            let what = "more than limits.answer_bytes_max came before the answer, for which all of it waits";
            return Err(Refusal::new(Code::AnswerTooLarge, what));
        }
        if let Some(params) = reparsed(data).ok().as_ref().and_then(|message| message.params()) {
            answer::leaves(params, "", |place, kind, leaf| {
                if let Some(text) = leaf.as_str().filter(|_| kind == Place::Value) {
                    self.said.entry(place.to_owned()).or_default().push_str(&text);
                }
            });
        }
        self.events.push(event);
        Ok(())
    }

    /// The events, once nothing is seen in what they say together that no mask reached in any of them.
    ///
    /// # Errors
    /// `answer.refused`, `limit.inspection`.
    pub(super) fn release(
        &mut self,
        inspector: &Inspector,
        obligations: &Obligations,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<sse::Event>, Refusal> {
        let said = std::mem::take(self);
        let data = said.said.into_iter().map(|(place, text)| {
            let name = place.rsplit('/').next().unwrap_or_default().to_owned();
            Value::Object(Map::from_iter([(name, Value::from(text))]))
        });
        let params = json!({"level": "info", "data": data.collect::<Vec<_>>()});
        let whole = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
        redact::together(inspector, obligations, &reparsed(whole.to_string().into())?, findings)?;
        Ok(said.events)
    }
}
