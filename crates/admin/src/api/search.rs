//! Searches in the ledger by its index. Who looks at whom is an entry of the ledger before the answer goes out.

use std::collections::BTreeMap;

use portcullis_core::Event;
use portcullis_forensics::{Hit, Order, Paging, Search, Status};
use serde_json::{Value, json};

use super::{By, Control, LedgerEntry};
use crate::{problem::Problem, wire::wire};

/// Entries on a page, where nothing is said.
const LIMIT: u64 = 100;
/// What a search is for is a word.
const PURPOSE_CHARS: usize = 64;

wire! { question
    /// What is looked for: entries that fit all of it. A trailing `*` of a name stands for any rest; of a digest the first
    /// eight digits will do.
    LedgerSearch {
        /// The event, like `call.refused` or `call.*`.
        event: Option<String>,
        /// Id of who asked, or of whom an entry is about, or a whole word of it.
        caller: Option<String>,
        /// The server.
        server: Option<String>,
        /// Name of the tool, prompt or resource.
        tool: Option<String>,
        /// What the message asked for, like `call_tool`.
        action: Option<String>,
        /// The method of the message.
        method: Option<String>,
        /// Code of the refusal.
        code: Option<String>,
        /// What policy decided: `allow` or `deny`.
        decision: Option<String>,
        /// Id of a policy that decided.
        policy: Option<String>,
        /// Role that the caller had.
        role: Option<String>,
        /// Kind of a finding.
        finding: Option<String>,
        /// How grave a finding is.
        severity: Option<String>,
        /// Digest of what was found.
        evidence: Option<String>,
        /// Trace id (W3C).
        trace: Option<String>,
        /// Digest of the session.
        session: Option<String>,
        /// Digest of the definition: the version of a tool or model.
        definition: Option<String>,
        /// Digest of the message that came in, arguments included.
        input: Option<String>,
        /// Digest of the answer.
        output: Option<String>,
        /// Digest of the rules in force.
        rules: Option<String>,
        /// Digest of the token or certificate that proved who asked.
        token: Option<String>,
        /// Id of the approval.
        approval: Option<String>,
        /// Address the message came from.
        source: Option<String>,
        /// Words of names, reasons and details; all must be there.
        text: Option<String>,
        /// Not before: RFC 3339, or as `yesterday` and `2h ago`.
        from: Option<String>,
        /// Before.
        to: Option<String>,
        /// Not before this index.
        first: Option<u64>,
        /// The newest first.
        newest: Option<bool>,
        /// At most so many (default 100, at most 1000).
        limit: Option<u64>,
        /// Where the page before it ended.
        cursor: Option<String>,
        /// What for, in a word; it stands in the ledger entry about the search.
        purpose: Option<String>,
    }
}

wire! { answer
    /// Entries that fit.
    LedgerPage {
        /// In the order that was asked for.
        entries: Vec<LedgerEntry>,
        /// Where to go on; nothing where there is no more.
        cursor: Option<String>,
        /// The answer is complete for the first so many entries of the ledger.
        complete: u64,
        /// The signed checkpoint over them (C2SP tlog-checkpoint).
        checkpoint: Option<String>,
        /// Durable entries in the ledger.
        size: u64,
        /// Index of the ledger entry about this search.
        entry: u64,
    }
}

wire! { question
    /// How the index of the ledger is.
    IndexQuestion {
        /// Look through its whole file.
        check: Option<bool>,
    }
}

wire! { answer
    /// How far the index of the ledger is.
    IndexState {
        /// Entries in it.
        indexed: u64,
        /// Answers are complete for the first so many entries of the ledger.
        complete: u64,
        /// Entries under the checkpoint of the ledger.
        signed: u64,
        /// The signed checkpoint up to which answers are complete.
        checkpoint: Option<String>,
        /// Why it does not go on, where the ledger was changed.
        refused: Option<String>,
        /// Bytes of its file.
        bytes: u64,
    }
}

impl LedgerSearch {
    /// The search and the page, apart.
    ///
    /// # Errors
    /// What cannot be looked for.
    pub fn read(&self, now: portcullis_core::Timestamp) -> Result<(Search, Paging), Problem> {
        let members = serde_json::to_value(self).unwrap_or_default();
        let texts: Vec<(&str, String)> = members
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !["newest", "limit", "cursor", "purpose"].contains(&name.as_str()))
            .filter_map(|(name, value)| match value {
                Value::Null => None,
                Value::String(text) => Some((name.as_str(), text.clone())),
                other => Some((name.as_str(), other.to_string())),
            })
            .collect();
        let search = Search::read(texts.iter().map(|(name, value)| (*name, value.as_str())), now)?;
        let order = if self.newest == Some(true) { Order::Newest } else { Order::Oldest };
        let limit = usize::try_from(self.limit.unwrap_or(LIMIT)).unwrap_or(usize::MAX);
        Ok((search, Paging { order, limit, cursor: self.cursor.clone() }))
    }
}

impl From<Hit> for LedgerEntry {
    fn from(hit: Hit) -> Self {
        Self { index: hit.index, entry: hit.entry }
    }
}

fn state(status: Status) -> IndexState {
    let Status { indexed, complete, signed, checkpoint, refused, bytes } = status;
    IndexState { indexed, complete, signed, checkpoint, refused, bytes }
}

impl Control {
    pub(super) async fn search(&self, (by, question): (By, LedgerSearch)) -> Result<LedgerPage, Problem> {
        self.may_search(&by)?;
        let (search, paging) = question.read(self.parts.clock.now())?;
        // What is durable now is signed now, so that a search finds what was just done.
        self.parts.ledger.checkpoint().await?;
        let page = self.parts.searching.librarian.find(search.clone(), paging).await?;
        let conceal = |word: &str| (self.parts.subject_of)(word);
        let mut data = BTreeMap::from([
            ("complete", json!(page.complete)),
            ("count", json!(page.hits.len())),
            ("filters", search.recorded(conceal)),
        ]);
        if let Some(purpose) = &question.purpose {
            data.insert("purpose", purpose.chars().take(PURPOSE_CHARS).collect::<String>().into());
        }
        if question.cursor.is_some() {
            data.insert("further", true.into());
        }
        let entry = self.record_by(&by, Event::LedgerSearched, None, data).await?;
        Ok(LedgerPage {
            entries: page.hits.into_iter().map(LedgerEntry::from).collect(),
            cursor: page.cursor,
            complete: page.complete,
            checkpoint: page.checkpoint,
            size: self.parts.ledger.status().durable,
            entry,
        })
    }

    fn may_search(&self, by: &By) -> Result<(), Problem> {
        let Some(caller) = by else { return Ok(()) };
        let readers = (self.parts.searching.readers)();
        if caller.roles.iter().any(|role| readers.contains(role)) {
            return Ok(());
        }
        Err(Problem::NotAllowed(String::from("this key may not search the ledger")))
    }

    pub(super) async fn index(&self, question: &IndexQuestion) -> Result<IndexState, Problem> {
        Ok(state(self.parts.searching.librarian.status(question.check == Some(true)).await?))
    }

    pub(super) async fn index_anew(&self) -> Result<IndexState, Problem> {
        self.record(Event::IndexRebuilt, None, BTreeMap::new()).await?;
        Ok(state(self.parts.searching.librarian.rebuild().await?))
    }
}
