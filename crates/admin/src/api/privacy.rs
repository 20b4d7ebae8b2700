//! What is held about a person: found, and erased. Who asks about whom is recorded, with a keyed digest in place of the
//! person's identifier.

use std::collections::BTreeMap;

use portcullis_core::{Event, Timestamp};
use portcullis_store::{ApprovalRow, SubjectRow};
use serde_json::{Value, json};

use super::{
    Connection, Control, Grant, Key,
    control::{OPERATOR, checked_name},
};
use crate::{
    parts::Revoked,
    problem::{Problem, closed},
    wire::wire,
};

wire! { question
    /// Somebody whom data is about.
    PersonQuestion {
        /// Id of a caller (`jwt:ISSUER#SUBJECT`), or what else identifies a person: an address of mail, a number.
        subject: String,
    }
}

wire! { question
    /// Somebody who is to be erased.
    ErasePerson {
        /// As in the question about a person.
        subject: String,
        /// Why: a ticket or the number of a request. Never the person.
        reason: String,
    }
}

wire! { answer
    /// A key of somebody whose data became tokens.
    TokenKey {
        /// When it was made (RFC 3339).
        created: String,
        /// When it ends, and the tokens with it (RFC 3339).
        expires: String,
    }
}

wire! { answer
    /// A call that waited for people: one of the person, or one that names the person.
    AskedApproval {
        /// Its name.
        id: String,
        /// How it stands.
        state: String,
        /// When it was asked (RFC 3339).
        created: String,
        /// What people were shown.
        question: String,
    }
}

wire! { answer
    /// What the gateway holds about a person, beside the ledger.
    HeldAbout {
        /// The person, as the ledger names the search and the erasure.
        subject: String,
        /// Keys of tokens. The tokens themselves are with those who got them.
        token_keys: Vec<TokenKey>,
        /// Connections to servers.
        connections: Vec<Connection>,
        /// Roles for a time.
        grants: Vec<Grant>,
        /// Calls that waited for people: those of the person, and those of others that name the person in what people were
        /// shown.
        approvals: Vec<AskedApproval>,
        /// The API key, where the person is one.
        api_key: Option<Key>,
        /// Open sessions, and calls without one that are remembered.
        sessions: u64,
    }
}

wire! { answer
    /// What was erased of a person.
    ErasedPerson {
        /// The person, as the ledger names it.
        subject: String,
        /// Keys of tokens that were destroyed: what they sealed can be read by nobody.
        token_keys: u64,
        /// Connections that were ended.
        connections: u64,
        /// Roles for a time.
        grants: u64,
        /// Calls that waited for people, those of others that name the person as well: who asks again is asked about anew.
        approvals: u64,
        /// Counts of quotas.
        quota_counts: u64,
        /// Sessions that were ended.
        sessions: u64,
        /// What stays, and why.
        kept: Vec<String>,
    }
}

fn key(row: SubjectRow) -> TokenKey {
    TokenKey { created: row.created.to_string(), expires: row.expires.to_string() }
}

fn asked(row: &ApprovalRow, now: Timestamp) -> AskedApproval {
    AskedApproval {
        id: row.asked.id.clone(),
        state: row.state(now).name().to_owned(),
        created: row.asked.created.to_string(),
        question: row.asked.question.clone(),
    }
}

/// Letters and digits of an identifier from which on it is found in whatever way it is written.
const TELLING: usize = 6;
/// JSON in texts in JSON that is looked into.
const DEPTH_MAX: usize = 4;

/// Whether a question is a person's, or names that person in what people are shown or have said.
fn is_about(row: &ApprovalRow, subject: &str) -> bool {
    let own = row.asked.caller == subject;
    let said = || row.answers.iter().any(|answer| names(&answer.reason, subject, DEPTH_MAX));
    own || names(&row.asked.question, subject, DEPTH_MAX) || said()
}

/// Whether a text names somebody, in capitals or not, and numbers with or without what stands between the digits.
fn names(text: &str, subject: &str, depth: usize) -> bool {
    if let Some(json) = serde_json::from_str::<Value>(text).ok().filter(|json| depth > 0 && !json.is_number())
    {
        return holds(&json, subject, depth - 1);
    }
    let (text, subject) = (text.to_lowercase(), subject.trim().to_lowercase());
    let plain = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let number = plain(&subject);
    text.contains(&subject)
        || (!subject.contains('@') && number.chars().count() >= TELLING && plain(&text).contains(&number))
}

fn holds(json: &Value, subject: &str, depth: usize) -> bool {
    match json {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => names(&number.to_string(), subject, 0),
        Value::String(text) => names(text, subject, depth),
        Value::Array(items) => items.iter().any(|item| holds(item, subject, depth)),
        Value::Object(members) => {
            members.iter().any(|(name, value)| names(name, subject, 0) || holds(value, subject, depth))
        }
    }
}

impl Control {
    pub(super) async fn held_about(&self, subject: &str) -> Result<HeldAbout, Problem> {
        checked_name("what identifies a person", subject)?;
        let digest = (self.parts.subject_of)(subject).ok_or_else(closed)?;
        self.record(Event::SubjectSearched, None, BTreeMap::from([("subject", json!(digest))])).await?;
        let now = self.parts.clock.now();
        let keys = self.parts.subjects.subject_keys(digest).await?;
        let connections = self.all_connections().await?.connections;
        let grants = self.grants().await?.grants;
        let approvals = self.parts.approvals.list(None).await?;
        let approvals = approvals.iter().filter(|row| is_about(row, subject));
        let api_keys = self.keys().await?.keys;
        Ok(HeldAbout {
            subject: digest.to_string(),
            token_keys: keys.into_iter().map(key).collect(),
            connections: connections.into_iter().filter(|one| one.caller == subject).collect(),
            grants: grants.into_iter().filter(|one| one.caller == subject).collect(),
            approvals: approvals.map(|row| asked(row, now)).collect(),
            api_key: api_keys.into_iter().find(|one| subject.strip_prefix("key:") == Some(&one.id)),
            sessions: (self.parts.sessions)(subject, false),
        })
    }

    pub(super) async fn erase(&self, question: ErasePerson) -> Result<ErasedPerson, Problem> {
        let ErasePerson { subject, reason } = question;
        checked_name("what identifies a person", &subject)?;
        checked_name("a reason", &reason)?;
        if reason.contains(&subject) {
            let hint = "write the number of the request: the ledger is never erased";
            return Err(Problem::invalid("the reason names the person", hint));
        }
        let _changing = self.changing.lock().await;
        let digest = (self.parts.subject_of)(&subject).ok_or_else(closed)?;
        let data = BTreeMap::from([("subject", json!(digest)), ("reason", json!(reason))]);
        self.record(Event::SubjectErased, None, data).await?;
        let mut kept = Vec::new();
        let mut connections = 0;
        for one in self.all_connections().await?.connections.into_iter().filter(|one| one.caller == subject) {
            let revoked = self.parts.connections.revoke(&one.caller, &one.server, OPERATOR).await;
            match revoked.map_err(Problem::Store)? {
                Revoked::Unknown => {}
                Revoked::Everywhere => connections += 1,
                Revoked::Here(reason) => {
                    connections += 1;
                    kept.push(format!("a token at the issuer of `{}`: {reason}", one.server));
                }
            }
        }
        let sessions = (self.parts.sessions)(&subject, true);
        let asked = self.parts.approvals.list(None).await?;
        let named = asked.iter().filter(|row| is_about(row, &subject)).map(|row| row.asked.id.clone());
        let erased = self.parts.subjects.erase(digest, &subject, named.collect()).await?;
        let named = self.keys().await?.keys;
        if named.iter().any(|one| subject.strip_prefix("key:") == Some(&one.id)) {
            kept.push("the API key with its name: `portcullis key revoke` ends it".into());
        }
        kept.push("ids of callers in entries of the ledger, which is a record that may be kept (GDPR, Art. 17(3)(b) and (e))".into());
        Ok(ErasedPerson {
            subject: digest.to_string(),
            token_keys: erased.keys,
            connections,
            grants: erased.grants,
            approvals: erased.approvals,
            quota_counts: erased.quota_counts,
            sessions,
            kept,
        })
    }
}
