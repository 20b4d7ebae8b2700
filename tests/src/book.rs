//! What a gateway's ledger says about calls, read through its admin API and compared with what clients and servers
//! saw, and what `portcullis audit verify` says about its files.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_core::Digest;
use portcullis_testkit::{Fault, Gateway, Outcome};
use serde_json::Value;

use crate::load::Call;

/// The calls of a ledger: calls of tools by the digest of the request's body, since tests give each its own.
#[derive(Debug, Default)]
pub struct Book {
    next: u64,
    intents: BTreeMap<Digest, u64>,
    begun: BTreeSet<u64>,
    outcomes: BTreeMap<u64, Option<Digest>>,
    refused: BTreeSet<u64>,
    /// Calls whose client did not wait.
    pub cancelled: usize,
    /// How often each event was read.
    pub events: BTreeMap<String, usize>,
    /// The event read last.
    pub last: String,
}

impl Book {
    /// Reads what the ledger holds beyond what was read already.
    ///
    /// # Errors
    /// No answer, or an entry that cannot be.
    pub async fn read(&mut self, gateway: &Gateway) -> Outcome {
        loop {
            let path = format!("/v1/ledger/entries?limit=1000&from={}", self.next);
            let reply = gateway.admin_get(&path).await?;
            let list: Value = serde_json::from_slice(&reply.body).map_err(|_| reply.text())?;
            let number = |key: &str| list.get(key).and_then(Value::as_u64).ok_or_else(|| reply.text());
            let (next, size) = (number("next")?, number("size")?);
            for row in list.get("entries").and_then(Value::as_array).into_iter().flatten() {
                let index = row.get("index").and_then(Value::as_u64).ok_or("no index")?;
                self.note(index, row.get("entry").unwrap_or(&Value::Null))?;
            }
            if next >= size || next == self.next {
                self.next = next;
                return Ok(());
            }
            self.next = next;
        }
    }

    /// Takes one entry in.
    ///
    /// # Errors
    /// It contradicts an earlier one.
    pub fn note(&mut self, index: u64, entry: &Value) -> Outcome {
        let event = entry.get("event").and_then(Value::as_str).ok_or("an entry without event")?;
        let digest = |pointer: &str| -> Option<Digest> { entry.pointer(pointer)?.as_str()?.parse().ok() };
        let intent = entry.get("intent").and_then(Value::as_u64);
        *self.events.entry(event.to_owned()).or_default() += 1;
        event.clone_into(&mut self.last);
        match (event, intent) {
            ("call.intent", _) => {
                self.begun.insert(index);
                let called = entry.get("method").and_then(Value::as_str) == Some("tools/call");
                let input = digest("/input/digest").filter(|_| called);
                if let Some(other) = input.and_then(|input| self.intents.insert(input, index)) {
                    return Err(format!("{other} and {index} are intents of one call").into());
                }
            }
            ("call.outcome", Some(intent)) => {
                self.cancelled += usize::from(entry.get("status").and_then(Value::as_u64) == Some(499));
                if self.outcomes.insert(intent, digest("/output/digest")).is_some() {
                    return Err(format!("{intent} has two outcomes").into());
                }
            }
            ("call.refused", Some(intent)) => {
                self.refused.insert(intent);
            }
            _ => {}
        }
        Ok(())
    }

    /// Every call that was answered with 200 has its intent and, with the digest of exactly this answer, its
    /// outcome. Returns how many there were.
    ///
    /// # Errors
    /// The first call of which something is missing.
    pub fn holds(&self, journal: &[Call]) -> Outcome<usize> {
        let mut count = 0;
        for call in journal.iter().filter(|call| call.status == Some(200)) {
            let intent = self.intents.get(&call.input).ok_or_else(|| missing("intent", call))?;
            let outcome = self.outcomes.get(intent).ok_or_else(|| missing("outcome", call))?;
            if call.output.is_some() && call.output != *outcome {
                return Err(Fault::from(format!("{call:?} has the outcome of another answer: {outcome:?}")));
            }
            count += 1;
        }
        Ok(count)
    }

    /// Everything that a server received has an intent.
    ///
    /// # Errors
    /// It has none: it was forwarded without being recorded.
    pub fn holds_forwarded(&self, bodies: impl IntoIterator<Item = Vec<u8>>) -> Outcome<usize> {
        let mut count = 0;
        for body in bodies {
            if !self.knows(&Digest::of(&body)) {
                let text = String::from_utf8_lossy(&body).into_owned();
                return Err(format!("forwarded without an intent: {text}").into());
            }
            count += 1;
        }
        Ok(count)
    }

    /// Whether there is an intent for this body.
    #[must_use]
    pub fn knows(&self, input: &Digest) -> bool {
        self.intents.contains_key(input)
    }

    /// Intents that nothing became of.
    #[must_use]
    pub fn open(&self) -> Vec<u64> {
        let settled = |index: &u64| self.outcomes.contains_key(index) || self.refused.contains(index);
        self.begun.iter().copied().filter(|index| !settled(index)).collect()
    }

    /// How many intents there are.
    #[must_use]
    pub fn intents(&self) -> usize {
        self.intents.len()
    }

    /// How many entries were read.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.next
    }

    /// How often an event was read.
    #[must_use]
    pub fn count(&self, event: &str) -> usize {
        self.events.get(event).copied().unwrap_or_default()
    }
}

fn missing(what: &str, call: &Call) -> Fault {
    format!("an answered call has no {what} in the ledger: {call:?}").into()
}

/// What `portcullis audit verify` says: entries under the checkpoint, and whole ones behind it.
///
/// # Errors
/// The ledger does not verify; the text says why.
pub fn verified(gateway: &Gateway) -> Outcome<(u64, u64)> {
    let output = gateway.command(&["audit", "verify", "--config", "portcullis.yaml", "--json"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("audit verify: {}: {text}{errors}", output.status).into());
    }
    let report: Value = serde_json::from_str(&text)?;
    let number = |key: &str| report.get(key).and_then(Value::as_u64).ok_or_else(|| Fault::from(text.clone()));
    Ok((number("size")?, number("pending")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_without_intent_without_outcome_or_with_another_answer_is_noticed() {
        let (asked, answered) = (Digest::of(b"asked"), Digest::of(b"answered"));
        let call = |output: &[u8]| Call { input: asked, status: Some(200), output: Some(Digest::of(output)) };
        let mut book = Book::default();
        assert!(book.holds(&[call(b"answered")]).unwrap_err().to_string().contains("no intent"));
        assert!(book.holds_forwarded([b"asked".to_vec()]).is_err());
        book.note(
            7,
            &json!({"event": "call.intent", "method": "tools/call",
            "input": {"digest": asked.to_string()}}),
        )
        .unwrap();
        assert!(book.holds(&[call(b"answered")]).unwrap_err().to_string().contains("no outcome"));
        assert_eq!(book.holds_forwarded([b"asked".to_vec()]).unwrap(), 1);
        assert_eq!(book.open(), [7]);
        let output = json!({"digest": answered.to_string()});
        let outcome = json!({"event": "call.outcome", "intent": 7, "output": output});
        book.note(8, &outcome).unwrap();
        assert_eq!(book.holds(&[call(b"answered")]).unwrap(), 1);
        assert!(book.holds(&[call(b"another")]).is_err());
        assert!(book.open().is_empty());
        assert!(book.note(9, &outcome).unwrap_err().to_string().contains("two outcomes"));
    }
}
