//! What people are shown, and what the ledger says of it.

use std::{fmt, sync::Arc};

use portcullis_core::{Approval, Caller, Digest, Finding, Severity, Target};
use serde_json::{Value, json};

use crate::Binding;

/// Bytes of arguments that people are shown; of longer ones only the beginning, and that it is one.
const SHOWN_BYTES_MAX: usize = 32_768;
/// Findings that people are shown.
const FINDINGS_MAX: usize = 32;

/// The arguments of a call, or its answer, as people may see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// JSON text with everything masked that policy masks in answers; nothing where it must not be shown at all.
    pub text: Option<String>,
    /// Bytes as they are.
    pub size: u64,
    /// SHA-256 of them as they are.
    pub digest: Digest,
}

/// An answer that waits.
#[derive(Clone, Debug)]
pub struct Held {
    /// The message.
    pub message: String,
    /// What people see of it.
    pub shown: Shown,
}

/// What the person behind a client said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// To which question.
    pub id: String,
    /// Whether the call shall be made.
    pub yes: bool,
}

/// A call that must be approved.
pub struct Waiting<'a> {
    /// What exactly is approved.
    pub binding: Binding,
    /// Who asks.
    pub caller: &'a Arc<Caller>,
    /// Whether the client can show its user a question.
    pub asks: bool,
    /// What its user said to one.
    pub confirmation: Option<Confirmation>,
    /// Who answers for the program that asks.
    pub owner: Option<&'a str>,
    /// On what.
    pub target: &'a Target,
    /// Whom to ask.
    pub demand: &'a Approval,
    /// Digest of the policy that demands it.
    pub policy: Digest,
    /// The policies that permit.
    pub policies: &'a [String],
    /// What detectors saw in it.
    pub findings: &'a [Finding],
    /// Its session.
    pub session: Option<Digest>,
    /// Its W3C trace.
    pub trace: Option<&'a str>,
    /// The arguments as people may see them; asked for only where there is no question yet.
    pub shown: &'a (dyn Fn() -> Shown + Sync),
    /// Its answer, where it was made and that waits.
    pub answer: Option<Held>,
}

impl fmt::Debug for Waiting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("binding", &self.binding).finish_non_exhaustive()
    }
}

impl Waiting<'_> {
    /// Who asks and who acts for who asks.
    pub(crate) fn askers(&self) -> Vec<String> {
        std::iter::once(self.caller.id.to_string()).chain(self.caller.actors.iter().cloned()).collect()
    }

    /// What people are shown.
    pub(crate) fn text(&self) -> String {
        let Shown { text: arguments, size, digest } = (self.shown)();
        let complete = is_complete(arguments.as_ref());
        let (kind, name) = self.target.item.as_ref().map_or(("", ""), |(kind, name)| (kind.name(), name));
        let findings: Vec<Value> = self.findings.iter().take(FINDINGS_MAX).map(finding).collect();
        let mut question = json!({
            "server": &*self.target.server,
            "kind": kind,
            "name": name,
            "definition": self.target.digest,
            "arguments": arguments.map(beginning),
            "arguments_complete": complete,
            "arguments_bytes": size,
            "arguments_digest": digest,
            "findings": findings,
            "owner": self.owner,
            "policy": self.policy,
            "policies": self.policies,
            "session": self.session,
            "trace": self.trace,
        });
        if let (Some(held), Some(members)) = (&self.answer, question.as_object_mut()) {
            let Shown { text, size, digest } = &held.shown;
            members.insert("answer_complete".into(), json!(is_complete(text.as_ref())));
            members.insert("answer".into(), json!(text.clone().map(beginning)));
            members.insert("answer_bytes".into(), json!(size));
            members.insert("answer_digest".into(), json!(digest));
        }
        question.to_string()
    }
}

fn is_complete(text: Option<&String>) -> bool {
    text.is_some_and(|text| text.len() <= SHOWN_BYTES_MAX)
}

fn beginning(mut text: String) -> String {
    if text.len() > SHOWN_BYTES_MAX {
        let end = (0..=SHOWN_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
    }
    text
}

fn finding(finding: &Finding) -> Value {
    let severity = match finding.severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    };
    json!({ "detector": finding.kind, "severity": severity, "confidence": finding.confidence, "place": finding.place, "treatment": finding.treatment.name() })
}
