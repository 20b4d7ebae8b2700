//! A question with the answer that somebody expects: what `policy test` runs.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::net::IpAddr;

use portcullis_core::{
    Action, Caller, CallerKind, Code, Digest, Proof, Scope, Target, TargetKind, Timestamp,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Label, Labels, Policies, RequestContext};

/// One case, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, as a sentence.
    pub name: String,
    /// Id of the caller.
    pub caller: Option<String>,
    /// `user` (the default), `service` or `anonymous`.
    pub caller_kind: Option<String>,
    /// `api_key`, `certificate`, `introspection`, `jwt` (the default), `local` or `anonymous`.
    pub proof: Option<String>,
    /// The caller's roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// OAuth scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Claims that policies may read.
    pub claims: Option<Map<String, Value>>,
    /// Ids of those who act for the caller, the nearest first.
    #[serde(default)]
    pub actors: Vec<String>,
    /// The action; guessed from what is named.
    pub action: Option<String>,
    /// The server.
    pub server: String,
    /// A tool on it.
    pub tool: Option<String>,
    /// A prompt on it.
    pub prompt: Option<String>,
    /// The URI of a resource on it.
    pub resource: Option<String>,
    /// Arguments of the call.
    pub arguments: Option<Value>,
    /// When (RFC 3339, UTC).
    pub at: Option<String>,
    /// Where from.
    pub source_ip: Option<IpAddr>,
    /// Labels of what the session has used before.
    #[serde(default)]
    pub seen: Vec<String>,
    /// Calls of the caller within the last minute.
    #[serde(default)]
    pub calls_last_minute: u64,
    /// Protocol revision of the client.
    pub revision: Option<String>,
    /// `allow`, `deny`, or the code of a refusal.
    pub expect: String,
    /// The policies that decide, by id, in any order.
    pub policies: Option<Vec<String>>,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// The case.
    pub name: String,
    /// Whether it came out as expected.
    pub passed: bool,
    /// `allow`, or the code of the refusal.
    pub got: String,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// What was expected instead, or what is wrong with the case.
    pub problem: Option<String>,
}

impl Case {
    /// Puts the question to `policies`.
    #[must_use]
    pub fn run(&self, policies: &Policies) -> Outcome {
        let outcome = |passed, got: &str, policies: &[String], problem| Outcome {
            name: self.name.clone(),
            passed,
            got: got.to_string(),
            policies: policies.to_vec(),
            problem,
        };
        let (caller, action, target, context) = match self.question() {
            Ok(question) => question,
            Err(problem) => return outcome(false, "", &[], Some(problem)),
        };
        let expected = self.expect.as_str();
        if !matches!(expected, "allow" | "deny") && Code::named(expected).is_none() {
            let problem = format!("`expect: {expected}` is neither `allow`, `deny` nor a code");
            return outcome(false, "", &[], Some(problem));
        }
        let arguments = || self.arguments.clone().unwrap_or_else(|| Value::Object(Map::new()));
        let decision = policies.decide(&caller, action, &target, Some(&arguments), &context);
        let got = decision.code.map_or("allow", Code::name);
        let fits = got == expected || (expected == "deny" && !decision.is_allowed());
        let decided: BTreeSet<&String> = decision.policies.iter().collect();
        let wanted = self.policies.as_ref().map(|wanted| wanted.iter().collect::<BTreeSet<_>>());
        let by = wanted.as_ref().is_none_or(|wanted| *wanted == decided);
        let problem = match (fits, by) {
            (true, true) => None,
            (false, _) => Some(format!("expected {expected}, got {got}: {}", decision.reason)),
            (true, false) => Some(format!("expected to be decided by {:?}", wanted.unwrap_or_default())),
        };
        outcome(problem.is_none(), got, &decision.policies, problem)
    }

    fn question(&self) -> Result<(Caller, Action, Target, RequestContext<'_>), String> {
        let named = [
            (TargetKind::Tool, Action::CallTool, &self.tool),
            (TargetKind::Prompt, Action::GetPrompt, &self.prompt),
            (TargetKind::Resource, Action::ReadResource, &self.resource),
        ];
        let mut items =
            named.into_iter().filter_map(|(kind, action, name)| Some((kind, action, name.as_ref()?)));
        let item = items.next();
        if items.next().is_some() {
            return Err("names several of `tool`, `prompt` and `resource`; keep one".into());
        }
        let guessed = item.map_or(Action::Connect, |(_, action, _)| action);
        let action = self.action.as_deref().map_or(Ok(guessed), action_named)?;
        let server = self.server.as_str().into();
        let item = item.map(|(kind, _, name)| (kind, name.as_str().into()));
        let at = self.at.as_deref().map_or(Ok(Timestamp(1_767_225_600_000)), |text| {
            Timestamp::parse(text).ok_or_else(|| format!("`{text}` is no time like 2026-11-01T08:30:00Z"))
        })?;
        let context = RequestContext {
            source_ip: self.source_ip,
            seen: labels_named(&self.seen)?,
            calls_last_minute: self.calls_last_minute,
            ..RequestContext::new(at, self.revision.as_deref().unwrap_or("2025-11-25"))
        };
        Ok((self.caller()?, action, Target { server, item, digest: None }, context))
    }

    fn caller(&self) -> Result<Caller, String> {
        let kind = kind_named(self.caller_kind.as_deref().unwrap_or("user"))?;
        let id = self.caller.as_deref().unwrap_or("made-up");
        let proof = proof_named(self.proof.as_deref().unwrap_or("jwt"), id)?;
        let sorted =
            |texts: &[String]| texts.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
        Ok(Caller {
            id: id.into(),
            kind,
            proof,
            roles: sorted(&self.roles).into(),
            servers: Scope::All,
            scopes: sorted(&self.scopes),
            claims: self.claims.clone().map(Arc::new),
            actors: self.actors.clone().into(),
            expires: None,
        })
    }
}

/// The labels of those names.
///
/// # Errors
/// A name that is no label, in words.
pub fn labels_named(names: &[String]) -> Result<Labels, String> {
    let named = |name: &String| Label::named(name).ok_or_else(|| format!("`{name}` is no label"));
    names.iter().map(named).collect()
}

/// The action of that name.
///
/// # Errors
/// There is none; in words.
pub(crate) fn action_named(name: &str) -> Result<Action, String> {
    let action = Action::ALL.iter().copied().find(|action| action.name() == name);
    action.ok_or_else(|| format!("`{name}` is no action"))
}

/// The kind of caller of that name.
///
/// # Errors
/// There is none; in words.
pub fn kind_named(name: &str) -> Result<CallerKind, String> {
    match name {
        "anonymous" => Ok(CallerKind::Anonymous),
        "service" => Ok(CallerKind::Service),
        "user" => Ok(CallerKind::User),
        _ => Err(format!("`{name}` is no kind of caller: write user, service or anonymous")),
    }
}

/// A proof of that name. What it carries beside is not for policy.
pub(crate) fn proof_named(name: &str, id: &str) -> Result<Proof, String> {
    match name {
        "anonymous" => Ok(Proof::Anonymous),
        "api_key" => Ok(Proof::ApiKey { key_id: id.to_string() }),
        "certificate" => Ok(Proof::Certificate { fingerprint: Digest::of(b"") }),
        "introspection" => Ok(Proof::Introspected { issuer: String::new(), token: Digest::of(b"") }),
        "jwt" => Ok(Proof::Jwt { issuer: String::new(), token: Digest::of(b"") }),
        "local" => Ok(Proof::Local { uid: 0 }),
        _ => Err(format!(
            "`{name}` is no proof: write api_key, certificate, introspection, jwt, local or anonymous"
        )),
    }
}
