//! `policy explain`: the same code that decides calls, asked without calling.

use std::{collections::BTreeSet, sync::Arc};

use portcullis_core::{Action, Caller, Proof, Scope, Target, TargetKind};
use portcullis_policy::RequestContext;
use portcullis_store::definitions;
use serde_json::Value;

use super::Control;
use crate::{problem::Problem, wire::wire};

wire! { question
    /// Who would do what. The caller is an API key, or made up from the other members.
    ExplainQuestion {
        /// Id of an API key.
        key: Option<String>,
        /// Roles of a made-up caller.
        roles: Option<Vec<String>>,
        /// Id of a made-up caller; `anonymous` for one without credential.
        caller: Option<String>,
        /// Claims of a made-up caller, as one object.
        claims: Option<Value>,
        /// Ids of those who act for a made-up caller, the nearest first.
        actors: Option<Vec<String>>,
        /// The action; guessed from the kind when left out.
        action: Option<String>,
        /// The server.
        server: String,
        /// `tool` (the default), `prompt`, `resource` or `template`.
        kind: Option<String>,
        /// Name or URI; the server as a whole when left out.
        name: Option<String>,
        /// Arguments of the call.
        arguments: Option<Value>,
        /// Protocol revision of the client.
        era: Option<String>,
        /// `user` (the default), `service` or `anonymous`, of a made-up caller.
        caller_kind: Option<String>,
        /// When (RFC 3339, UTC); now when left out.
        at: Option<String>,
        /// Where from.
        source_ip: Option<String>,
        /// Labels of what the session has used before.
        seen: Option<Vec<String>>,
    }
}

wire! { answer
    /// A decision with its reasons.
    Explained {
        /// Whether it would be allowed.
        allowed: bool,
        /// In words, for people.
        text: String,
        /// The decision, the policies that decided, those that failed and those that do not fit.
        explanation: Value,
    }
}

impl Control {
    pub(super) async fn explain(&self, question: ExplainQuestion) -> Result<Explained, Problem> {
        let caller = self.caller(&question)?;
        let (action, target) = self.aim(&question).await?;
        let arguments = question.arguments.clone().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let lazily = || arguments.clone();
        let era = question.era.as_deref().unwrap_or("2025-11-25");
        let context = self.context(&question, era)?;
        let policies = (self.parts.policies)();
        let explanation = policies.explain(&caller, action, &target, Some(&lazily), &context);
        let (allowed, text) = (explanation.allowed, explanation.to_string());
        let explanation =
            serde_json::to_value(&explanation).map_err(|error| Problem::Store(error.to_string()))?;
        let reaches = caller.servers.reaches(&question.server);
        let text =
            if reaches { text } else { format!("the key does not reach `{}`\n{text}", question.server) };
        Ok(Explained { allowed: allowed && reaches, text, explanation })
    }

    fn context<'a>(&self, question: &ExplainQuestion, era: &'a str) -> Result<RequestContext<'a>, Problem> {
        let now = match question.at.as_deref() {
            None => self.parts.clock.now(),
            Some(text) => portcullis_core::Timestamp::parse(text).ok_or_else(|| {
                Problem::invalid(format!("`{text}` is not a time"), "write UTC like 2026-11-01T08:30:00Z")
            })?,
        };
        let address = |text: &String| {
            let wrong = || Problem::invalid(format!("`{text}` is not an address"), "write one like 10.1.2.3");
            text.parse::<std::net::IpAddr>().map_err(|_| wrong())
        };
        let seen = portcullis_policy::labels_named(question.seen.as_deref().unwrap_or_default());
        let hint = "docs/reference/config.md lists the labels";
        Ok(RequestContext {
            source_ip: question.source_ip.as_ref().map(address).transpose()?,
            seen: seen.map_err(|message| Problem::invalid(message, hint))?,
            ..RequestContext::new(now, era)
        })
    }

    fn caller(&self, question: &ExplainQuestion) -> Result<Caller, Problem> {
        let sorted = |roles: &[String]| -> Arc<[String]> {
            roles.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().into()
        };
        if let Some(id) = &question.key {
            let Some(row) = self.parts.keys.find(id) else {
                return Err(Problem::NotFound(format!("there is no key `{id}`")));
            };
            return Ok(Caller {
                id: format!("key:{id}").into(),
                kind: row.kind,
                proof: Proof::ApiKey { key_id: id.clone() },
                roles: sorted(&row.roles),
                servers: row.servers.clone(),
                scopes: Vec::new(),
                claims: None,
                actors: Arc::from([]),
                expires: row.expires,
            });
        }
        let roles = sorted(question.roles.as_deref().unwrap_or_default());
        let claims = match &question.claims {
            None | Some(Value::Null) => None,
            Some(Value::Object(members)) => Some(Arc::new(members.clone())),
            Some(_) => {
                return Err(Problem::invalid(
                    "`claims` must be an object",
                    "write `{\"department\": \"sales\"}`",
                ));
            }
        };
        let id = question.caller.as_deref().unwrap_or("made-up");
        if id == "anonymous" {
            return Ok(Caller::anonymous(roles));
        }
        let kind = portcullis_policy::kind_named(question.caller_kind.as_deref().unwrap_or("user"));
        Ok(Caller {
            id: id.into(),
            kind: kind.map_err(|message| Problem::invalid(message, "leave it out for a person"))?,
            proof: Proof::Anonymous,
            roles,
            servers: Scope::All,
            scopes: Vec::new(),
            claims,
            actors: question.actors.clone().unwrap_or_default().into(),
            expires: None,
        })
    }

    async fn aim(&self, question: &ExplainQuestion) -> Result<(Action, Target), Problem> {
        let kind = question.kind.as_deref().unwrap_or("tool");
        let Some(kind) = TargetKind::named(kind) else {
            return Err(Problem::invalid(
                format!("unknown kind `{kind}`"),
                "write tool, prompt, resource or template",
            ));
        };
        let action = match question.action.as_deref() {
            Some(name) => match Action::ALL.iter().find(|action| action.name() == name) {
                Some(action) => *action,
                None => {
                    let known: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
                    let message = format!("unknown action `{name}`; known: {}", known.join(", "));
                    return Err(Problem::invalid(message, "leave it out to have it guessed"));
                }
            },
            None => match (&question.name, kind) {
                (None, _) => Action::Connect,
                (Some(_), TargetKind::Tool) => Action::CallTool,
                (Some(_), TargetKind::Prompt) => Action::GetPrompt,
                (Some(_), TargetKind::Resource | TargetKind::Template) => Action::ReadResource,
            },
        };
        let server: Arc<str> = question.server.as_str().into();
        let Some(name) = &question.name else {
            return Ok((action, Target { server, item: None, digest: None }));
        };
        let revision = definitions::name(&server, name);
        let head = self.parts.revisions.head(kind.name(), &revision, definitions::PINNED).await?;
        let item = Some((kind, Arc::from(name.as_str())));
        Ok((action, Target { server, item, digest: head.map(|head| head.digest) }))
    }
}
