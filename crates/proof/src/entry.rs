//! One ledger entry, written directly as canonical JSON (RFC 8785), so that the same facts are always the same bytes
//! and the hot path builds no tree of values.

mod json;

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};
use core::net::IpAddr;

use portcullis_core::{
    Action, Caller, CallerKind, Code, Digest, Event, Finding, Proof, Severity, Target, TargetKind, Timestamp,
};
use serde_json::Value;

use self::json::{Cut, Object};
use crate::ProofError;

/// The largest entry, in bytes: the tile format counts an entry's length in 16 bits, and readers add framing.
pub const ENTRY_BYTES_MAX: usize = 61_440;

/// The version of the members below, the `v` member.
pub const ENTRY_VERSION: u64 = 1;

/// One ledger entry. Absent members are not written. No member may hold a secret; large values go by digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<'a> {
    /// What the entry is about.
    pub event: Event,
    /// When it happened.
    pub at: Timestamp,
    /// Which gateway wrote it.
    pub instance: &'a str,
    /// What the message asked for.
    pub action: Option<Action>,
    /// Who asked, or who did it.
    pub actor: Option<Actor<'a>>,
    /// Why it was refused.
    pub code: Option<Code>,
    /// Members of their own for events that are no calls.
    pub data: BTreeMap<&'a str, Value>,
    /// What policy decided.
    pub decision: Option<Decision<'a>>,
    /// The private text of a refusal.
    pub detail: Option<&'a str>,
    /// The revision of the protocol that the client speaks.
    pub era: Option<&'a str>,
    /// What detectors saw.
    pub findings: &'a [Finding],
    /// What went in.
    pub input: Option<Content>,
    /// Index of the entry with the intent, in entries about an outcome.
    pub intent: Option<u64>,
    /// Time between intent and outcome.
    pub latency_us: Option<u64>,
    /// The method as the message names it.
    pub method: Option<&'a str>,
    /// What came out.
    pub output: Option<Output<'a>>,
    /// Digest of the rules in force.
    pub rules: Option<Digest>,
    /// Digest of the session id; never the id.
    pub session: Option<Digest>,
    /// Where the message came from.
    pub source: Option<IpAddr>,
    /// HTTP status of the reply.
    pub status: Option<u16>,
    /// What the message was aimed at.
    pub target: Option<&'a Target>,
    /// Trace id (W3C).
    pub trace: Option<&'a str>,
}

/// Who acts in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor<'a> {
    /// [`Caller::id`], or an id of an operator.
    pub id: &'a str,
    /// Person, program or unknown.
    pub kind: CallerKind,
    /// How the identity was proven: `api_key`, `certificate`, `introspection`, `jwt`, `anonymous`, or a way of the
    /// admin API.
    pub proof: &'a str,
    /// Roles in force.
    pub roles: &'a [String],
    /// Issuer of the token.
    pub issuer: Option<&'a str>,
    /// Digest of the token, or of the certificate.
    pub token: Option<Digest>,
}

impl<'a> Actor<'a> {
    /// The caller as an actor.
    #[must_use]
    pub fn of(caller: &'a Caller) -> Self {
        let (proof, issuer, token) = match &caller.proof {
            Proof::Anonymous => ("anonymous", None, None),
            Proof::ApiKey { key_id: _ } => ("api_key", None, None),
            Proof::Certificate { fingerprint } => ("certificate", None, Some(*fingerprint)),
            Proof::Introspected { issuer, token } => ("introspection", Some(issuer.as_str()), Some(*token)),
            Proof::Jwt { issuer, token } => ("jwt", Some(issuer.as_str()), Some(*token)),
            Proof::Local { uid: _ } => ("local", None, None),
        };
        Self { id: &caller.id, kind: caller.kind, proof, roles: &caller.roles, issuer, token }
    }
}

/// What policy decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether the answer was yes.
    pub allow: bool,
    /// Ids of the policies that decided.
    pub policies: &'a [String],
}

/// A value that went in, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A value that came out, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output<'a> {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Why it is not a good answer, if it is not.
    pub error: Option<&'a str>,
}

/// First everything that can fit at all; then without long texts; at last so little that no input can exceed the limit.
const CUTS: [Cut; 3] = [
    Cut { text_bytes_max: ENTRY_BYTES_MAX, items_max: usize::MAX, data_bytes_max: ENTRY_BYTES_MAX },
    Cut { text_bytes_max: 1_024, items_max: 64, data_bytes_max: 16_384 },
    Cut { text_bytes_max: 128, items_max: 16, data_bytes_max: 4_096 },
];

impl<'a> Entry<'a> {
    /// An entry with nothing but what every entry has.
    #[must_use]
    pub const fn new(event: Event, at: Timestamp, instance: &'a str) -> Self {
        Self {
            event,
            at,
            instance,
            action: None,
            actor: None,
            code: None,
            data: BTreeMap::new(),
            decision: None,
            detail: None,
            era: None,
            findings: &[],
            input: None,
            intent: None,
            latency_us: None,
            method: None,
            output: None,
            rules: None,
            session: None,
            source: None,
            status: None,
            target: None,
            trace: None,
        }
    }

    /// The entry as canonical JSON, at most [`ENTRY_BYTES_MAX`] bytes. Where it would be larger, long texts are
    /// written as `{"digest":…,"size":…}` and long lists are shortened, which `omitted` counts.
    #[must_use]
    pub fn to_jcs(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024);
        for cut in CUTS {
            out.clear();
            Object::write(&mut out, cut, |object| self.write(object));
            if out.len() <= ENTRY_BYTES_MAX {
                break;
            }
        }
        out
    }

    // Members in the order that RFC 8785 demands.
    fn write(&self, object: &mut Object<'_>) {
        if let Some(action) = self.action {
            object.word("action", action.name());
        }
        if let Some(actor) = &self.actor {
            object.object("actor", |object| actor.write(object));
        }
        object.word("at", &self.at.to_string());
        if let Some(code) = self.code {
            object.word("code", code.name());
        }
        if !self.data.is_empty() {
            object.canonical("data", &self.data_jcs());
        }
        if let Some(decision) = &self.decision {
            object.object("decision", |object| {
                object.word("effect", if decision.allow { "allow" } else { "deny" });
                object.texts("policies", decision.policies);
            });
        }
        optional_text(object, "detail", self.detail);
        optional_text(object, "era", self.era);
        object.word("event", self.event.name());
        if !self.findings.is_empty() {
            object.objects("findings", self.findings, finding);
        }
        if let Some(input) = &self.input {
            object.object("input", |object| {
                object.digest("digest", &input.digest);
                object.number("size", input.size);
            });
        }
        object.text("instance", self.instance);
        self.write_rest(object);
    }

    fn write_rest(&self, object: &mut Object<'_>) {
        optional_number(object, "intent", self.intent);
        optional_number(object, "latency_us", self.latency_us);
        optional_text(object, "method", self.method);
        self.write_omitted(object);
        if let Some(output) = &self.output {
            object.object("output", |object| {
                object.digest("digest", &output.digest);
                optional_text(object, "error", output.error);
                object.number("size", output.size);
            });
        }
        if let Some(rules) = &self.rules {
            object.digest("rules", rules);
        }
        if let Some(session) = &self.session {
            object.digest("session", session);
        }
        if let Some(source) = &self.source {
            object.word("source", &source.to_string());
        }
        optional_number(object, "status", self.status.map(u64::from));
        if let Some(target) = self.target {
            object.object("target", |object| write_target(object, target));
        }
        optional_text(object, "trace", self.trace);
        object.number("v", ENTRY_VERSION);
    }

    fn write_omitted(&self, object: &mut Object<'_>) {
        let most = object.cut().items_max;
        let omitted = [
            ("findings", self.findings.len()),
            ("policies", self.decision.as_ref().map_or(0, |decision| decision.policies.len())),
            ("roles", self.actor.as_ref().map_or(0, |actor| actor.roles.len())),
        ];
        if omitted.iter().any(|(_, len)| *len > most) {
            object.object("omitted", |object| {
                for (key, len) in omitted.into_iter().filter(|(_, len)| *len > most) {
                    object.number(key, json::size(len - most));
                }
            });
        }
    }

    // Names of members are free here, so their order is left to the library.
    fn data_jcs(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(&self.data)
            .unwrap_or_else(|_| b"{\"error\":\"not canonical\"}".to_vec())
    }
}

impl Actor<'_> {
    fn write(&self, object: &mut Object<'_>) {
        object.text("id", self.id);
        optional_text(object, "issuer", self.issuer);
        let kind = match self.kind {
            CallerKind::Anonymous => "anonymous",
            CallerKind::Service => "service",
            CallerKind::User => "user",
        };
        object.word("kind", kind);
        object.text("proof", self.proof);
        object.texts("roles", self.roles);
        if let Some(token) = &self.token {
            object.digest("token", token);
        }
    }
}

fn optional_text(object: &mut Object<'_>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        object.text(key, value);
    }
}

fn optional_number(object: &mut Object<'_>, key: &str, value: Option<u64>) {
    if let Some(value) = value {
        object.number(key, value);
    }
}

fn finding(object: &mut Object<'_>, finding: &Finding) {
    object.digest("evidence", &finding.evidence);
    object.text("kind", finding.kind);
    object.text("place", &finding.place);
    let severity = match finding.severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    };
    object.word("severity", severity);
    object.word("treatment", finding.treatment.name());
}

fn write_target(object: &mut Object<'_>, target: &Target) {
    if let Some(digest) = &target.digest {
        object.digest("digest", digest);
    }
    if let Some((kind, name)) = &target.item {
        object.word("kind", TargetKind::name(*kind));
        object.text("name", name);
    }
    object.text("server", &target.server);
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub index: u64,
    /// Its bytes: canonical JSON, when this crate wrote it.
    pub bytes: Vec<u8>,
}

impl Record {
    /// The entry as a value.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn value(&self) -> Result<Value, ProofError> {
        serde_json::from_slice(&self.bytes).map_err(|error| ProofError::Entry(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
