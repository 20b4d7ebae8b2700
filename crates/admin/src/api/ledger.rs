//! The ledger, read: entries with filters, waiting for new ones, proofs.

use std::time::Duration;

use portcullis_store::Record;
use serde_json::Value;

use super::Control;
use crate::{problem::Problem, wire::wire};

/// Entries in one answer.
const LIMIT_MAX: u64 = 1_000;
/// Entries looked at for one answer; `next` says where to go on.
const SCAN_MAX: u64 = 20_000;
/// Entries read from the ledger at once.
const CHUNK: u64 = 1_000;
/// Longest wait for a new entry.
const WAIT_MS_MAX: u64 = 30_000;

wire! { question
    /// Which entries.
    EntryQuery {
        /// First index; 0 when left out, unless `last` is given.
        from: Option<u64>,
        /// The last so many entries that fit, instead of the first.
        last: Option<u64>,
        /// At most so many (default 100, at most 1000).
        limit: Option<u64>,
        /// Event, like `call.refused`; a trailing `*` stands for any rest.
        event: Option<String>,
        /// Id of the actor, or a part of it.
        caller: Option<String>,
        /// The server.
        server: Option<String>,
        /// Name of the tool, prompt or resource.
        tool: Option<String>,
        /// Code of the refusal.
        code: Option<String>,
        /// Not before (RFC 3339).
        since: Option<String>,
        /// Before (RFC 3339).
        until: Option<String>,
        /// Wait so long for an entry that fits when there is none yet.
        wait_ms: Option<u64>,
    }
}

wire! { answer
    /// One entry.
    LedgerEntry {
        /// Its index.
        index: u64,
        /// What it says.
        entry: Value,
    }
}

wire! { answer
    /// Entries.
    EntryList {
        /// In the order of the ledger.
        entries: Vec<LedgerEntry>,
        /// Where to go on.
        next: u64,
        /// Durable entries in the ledger.
        size: u64,
    }
}

wire! { answer
    /// A signed checkpoint.
    CheckpointNote {
        /// The note (C2SP tlog-checkpoint).
        checkpoint: String,
        /// The key to verify it with (C2SP vkey).
        vkey: String,
    }
}

wire! { answer
    /// An offline proof.
    ProofText {
        /// The entry's index.
        index: u64,
        /// The proof (C2SP tlog-proof).
        proof: String,
        /// The key to verify it with (C2SP vkey).
        vkey: String,
    }
}

/// A bound in time as a prefix of the times in entries. Whatever is written another way is refused: compared as text
/// it would find too little, and an empty search looks like peace.
fn moment(text: &str) -> Result<String, Problem> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.000";
    let bare = text.strip_suffix('Z').unwrap_or(text);
    let length = bare.len();
    let whole = matches!(length, 16 | 19 | 21..=23) || (length == 10 && bare == text);
    let shaped = bare.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        other => byte == *other,
    });
    if whole && shaped {
        return Ok(bare.to_owned());
    }
    let message = format!("`{text}` is not a time");
    Err(Problem::invalid(message, "write UTC like 2026-11-01 or 2026-11-01T08:30:00Z"))
}

impl EntryQuery {
    fn checked(&self) -> Result<Self, Problem> {
        let bound = |text: &Option<String>| text.as_deref().map(moment).transpose();
        Ok(Self { since: bound(&self.since)?, until: bound(&self.until)?, ..self.clone() })
    }

    fn fits(&self, entry: &Value) -> bool {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let same =
            |want: &Option<String>, pointer: &str| want.as_ref().is_none_or(|want| text(pointer) == want);
        let event = self.event.as_ref().is_none_or(|want| match want.strip_suffix('*') {
            Some(start) => text("/event").starts_with(start),
            None => text("/event") == want,
        });
        // RFC 3339 in UTC with a fixed number of digits sorts as text; a shorter bound compares as a prefix.
        let since = self.since.as_ref().is_none_or(|bound| text("/at") >= bound.as_str());
        let until = self.until.as_ref().is_none_or(|bound| text("/at") < bound.as_str());
        event
            && since
            && until
            && self.caller.as_ref().is_none_or(|part| text("/actor/id").contains(part.as_str()))
            // Entries that are about no message name their server among their own members.
            && (same(&self.server, "/target/server") || same(&self.server, "/data/server"))
            && same(&self.tool, "/target/name")
            && same(&self.code, "/code")
    }

    fn limit(&self) -> usize {
        usize::try_from(self.last.or(self.limit).unwrap_or(100).clamp(1, LIMIT_MAX)).unwrap_or(1)
    }
}

fn view(record: &Record) -> LedgerEntry {
    let entry =
        record.value().unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&record.bytes).into_owned()));
    LedgerEntry { index: record.index, entry }
}

impl Control {
    pub(super) async fn entries(&self, query: &EntryQuery) -> Result<EntryList, Problem> {
        let query = &query.checked()?;
        let wait = Duration::from_millis(query.wait_ms.unwrap_or(0).min(WAIT_MS_MAX));
        let mut changed = self.parts.ledger.changed();
        let deadline = tokio::time::Instant::now() + wait;
        let mut from = query.from;
        loop {
            let list = match (from, query.last) {
                (None, Some(_)) => self.newest(query).await?,
                (from, _) => self.forward(query, from.unwrap_or(0)).await?,
            };
            if !list.entries.is_empty() || list.next < list.size || wait.is_zero() {
                return Ok(list);
            }
            from = Some(list.next);
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(list),
            }
        }
    }

    async fn chunk(&self, from: u64, count: u64) -> Result<Vec<Record>, Problem> {
        Ok(self.parts.ledger.read(from, usize::try_from(count).unwrap_or(1)).await?)
    }

    async fn forward(&self, query: &EntryQuery, from: u64) -> Result<EntryList, Problem> {
        let size = self.parts.ledger.status().durable;
        let limit = query.limit();
        let end = from.saturating_add(SCAN_MAX).min(size);
        let mut entries = Vec::new();
        let mut next = from;
        while next < end {
            let records = self.chunk(next, CHUNK.min(end - next)).await?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                next = record.index + 1;
                let seen = view(record);
                if query.fits(&seen.entry) {
                    entries.push(seen);
                }
                if entries.len() >= limit {
                    return Ok(EntryList { entries, next, size });
                }
            }
        }
        Ok(EntryList { entries, next, size })
    }

    /// The newest entries that fit, looking back at most `SCAN_MAX` entries.
    async fn newest(&self, query: &EntryQuery) -> Result<EntryList, Problem> {
        let size = self.parts.ledger.status().durable;
        let limit = query.limit();
        let floor = size.saturating_sub(SCAN_MAX);
        let mut entries: Vec<LedgerEntry> = Vec::new();
        let mut end = size;
        while end > floor && entries.len() < limit {
            let start = end.saturating_sub(CHUNK).max(floor);
            let records = self.chunk(start, end - start).await?;
            let fitting = records.iter().rev().map(view).filter(|seen| query.fits(&seen.entry));
            entries.extend(fitting.take(limit - entries.len()));
            end = start;
        }
        entries.reverse();
        Ok(EntryList { entries, next: size, size })
    }

    pub(super) async fn proof(&self, index: &str) -> Result<ProofText, Problem> {
        let Ok(index) = index.parse::<u64>() else {
            return Err(Problem::invalid(
                format!("`{index}` is not the index of an entry"),
                "write a whole number",
            ));
        };
        let proof = self.parts.ledger.prove(index).await?;
        Ok(ProofText { index, proof, vkey: self.parts.info.vkey.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn a_bound_in_time_is_a_prefix_of_the_times_in_entries_or_refused() {
        let at = "2026-11-22T20:18:00.500Z";
        for (text, after) in [
            ("2026-11-22", true),
            ("2026-11-22T20:18:00Z", true),
            ("2026-11-22T20:18:00.500Z", true),
            ("2026-11-22T20:18", true),
            ("2026-11-22T20:18:00.501Z", false),
            ("2026-11-22T20:18:01Z", false),
            ("2026-11-23", false),
        ] {
            assert_eq!(at >= moment(text).unwrap().as_str(), after, "{text}");
        }
        for text in [
            "yesterday",
            "",
            "Z",
            "2026",
            "2026-11-22Z",
            "22.11.2026",
            "2026-11-22T20:18:00+02:00",
            "2026-11-22t20:18:00Z",
        ] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
