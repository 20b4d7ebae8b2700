//! One message, strictly parsed once: era, method, session. Past this line nobody validates the envelope again.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use portcullis_core::{Action, Caller, Code, Refusal, Timestamp};
use portcullis_mcp::{
    jsonrpc::{Message, Shape},
    method::{self, Form, MethodRow, Side},
    revision::{self, Era, EraError, MODERN},
};
use portcullis_policy::RequestContext;

use super::resolve::{member::Via, replica::Aside};
use crate::{
    head::Head,
    refusal::Asked,
    rules::Rules,
    session::{Session, Sessions},
    trace,
};
use portcullis_upstream::Verb;

/// What the client sent.
#[derive(Debug)]
pub enum Content {
    /// Close the session.
    EndSession,
    /// One JSON-RPC message.
    Message(Message),
    /// Open an event stream.
    OpenStream,
}

/// One parsed, bounded message of a known caller.
#[derive(Debug)]
pub struct Call {
    pub(super) head: Head,
    pub(super) content: Content,
    pub(super) era: Era,
    pub(super) row: Option<&'static MethodRow>,
    /// The name of a method beyond the specification that the operator lists.
    pub(super) listed: Option<String>,
    pub(super) session: Option<Arc<Session>>,
    pub(super) action: Action,
    /// How it came to its server, where the route leads to several.
    pub(super) via: Option<Via>,
    /// How it came to a replica of its server.
    pub(super) aside: Option<Aside>,
}

impl Call {
    /// The message, if it is one.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match &self.content {
            Content::Message(message) => Some(message),
            Content::EndSession | Content::OpenStream => None,
        }
    }

    /// The method, or what stands for one.
    #[must_use]
    pub fn method(&self) -> Cow<'static, str> {
        if let Some(listed) = &self.listed {
            return Cow::Owned(listed.clone());
        }
        Cow::Borrowed(match (&self.content, self.row) {
            (Content::EndSession, _) => "DELETE",
            (Content::OpenStream, _) => "GET",
            (Content::Message(_), Some(row)) => row.name,
            (Content::Message(_), None) => "response",
        })
    }

    /// Whether it is the method of that name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.row.is_some_and(|row| row.name == name)
    }

    /// Whether the answer is a stream without an end of its own.
    #[must_use]
    pub fn endless(&self) -> bool {
        matches!(self.content, Content::OpenStream) || self.is("subscriptions/listen")
    }

    /// What it asks for.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// A header of the client, as text.
    #[must_use]
    pub fn header(&self, name: &'static str) -> Option<&str> {
        self.head.one(&http::HeaderName::from_static(name))
    }

    /// The W3C `traceparent`: from `_meta` (SEP-414), else from the header. What is malformed is ignored.
    #[must_use]
    pub fn trace_parent(&self) -> Option<String> {
        let meta =
            self.message().and_then(|message| message.params()?.path(&["_meta", "traceparent"])?.as_str());
        let text = meta.or_else(|| self.header("traceparent").map(Into::into))?;
        trace::well_formed(&text).then(|| text.into_owned())
    }

    /// The era it is in.
    #[must_use]
    pub const fn era(&self) -> Era {
        self.era
    }

    /// What policy is told of it beside caller, action and target.
    #[must_use]
    pub const fn context(&self, now: Timestamp) -> RequestContext<'static> {
        RequestContext { source_ip: Some(self.head.source), ..RequestContext::new(now, self.era.revision()) }
    }

    /// What the client calls the thing that this server calls `name`.
    #[must_use]
    pub fn shown<'a>(&'a self, name: &'a str) -> &'a str {
        self.via.as_ref().and_then(|via| via.alias.as_deref()).unwrap_or(name)
    }

    /// The session that the client knows.
    #[must_use]
    pub fn own_session(&self) -> Option<&Arc<Session>> {
        let aside = || self.aside.as_ref().map_or(self.session.as_ref(), |aside| aside.session.as_ref());
        self.via.as_ref().map_or_else(aside, |via| via.session.as_ref())
    }

    /// Its session; on a route over several servers that with the one it goes to, once there is one.
    #[must_use]
    pub const fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }
}

/// Parses what came with `head`; `asked` learns what a reply needs even when this fails.
///
/// # Errors
/// `request.*`, `method.unknown`, `session.*`.
pub fn call(
    head: Head,
    bytes: Bytes,
    caller: &Caller,
    rules: &Rules,
    sessions: &Sessions,
    asked: &mut Asked,
) -> Result<Call, Refusal> {
    let parsed = match head.verb {
        Verb::Post => message(&head, bytes, rules, asked)?,
        Verb::Get => without_body(&head, Content::OpenStream, rules, asked)?,
        Verb::Delete => without_body(&head, Content::EndSession, rules, asked)?,
    };
    let Parsed { content, era, row, listed, action } = parsed;
    let session = match era {
        Era::Modern => None,
        Era::Legacy if row.is_some_and(|row| row.name == "initialize") => None,
        Era::Legacy => Some(session(&head, caller, rules, sessions)?),
    };
    Ok(Call { head, content, era, row, listed, session, action, via: None, aside: None })
}

struct Parsed {
    content: Content,
    era: Era,
    row: Option<&'static MethodRow>,
    listed: Option<String>,
    action: Action,
}

fn message(head: &Head, bytes: Bytes, rules: &Rules, asked: &mut Asked) -> Result<Parsed, Refusal> {
    let message = Message::parse(bytes, &rules.request)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    if message.shape() == Shape::Request {
        asked.id = message.id().map(|id| id.raw().clone());
    }
    let headers = head.mcp();
    let era = revision::classify(&headers, &message).map_err(|error| refused(error, head, rules))?;
    asked.era = Some(era);
    let Some(name) = message.method_name() else {
        if era == Era::Modern {
            return Err(Refusal::new(
                Code::RequestInvalid,
                "revision 2026-07-28 has no responses from clients",
            ));
        }
        let content = Content::Message(message);
        return Ok(Parsed { content, era, row: None, listed: None, action: Action::Answer });
    };
    let unknown = || Refusal::new(Code::MethodUnknown, format!("method `{name}`"));
    let form = match message.shape() {
        Shape::Notification => Form::Notification,
        Shape::Error | Shape::Request | Shape::Response => Form::Request,
    };
    let listed = rules.servers.get(&head.server).filter(|server| server.settings.methods.contains(&*name));
    let row = method::find(&name).or_else(|| listed.map(|_| method::listed(form))).ok_or_else(unknown)?;
    let listed = (row.action == Action::CallMethod).then(|| name.clone().into_owned());
    if !era.allows(row, Side::Client) {
        return Err(unknown());
    }
    if row.form != form {
        return Err(Refusal::new(Code::RequestInvalid, format!("`{name}` with or without an id, wrongly")));
    }
    asked.tool_call = row.action == Action::CallTool;
    asked.opens_urls = era == Era::Modern && elicits(&message, row, "url");
    asked.fills_forms = era == Era::Modern && elicits(&message, row, "form");
    revision::agree(era, &headers, &message, row).map_err(|error| refused(error, head, rules))?;
    let action = row.action;
    Ok(Parsed { content: Content::Message(message), era, row: Some(row), listed, action })
}

/// Whether the client's user can be asked so in the answer to this request (2026-07-28, multi round-trip requests). Who
/// declares no way of asking has forms.
fn elicits(message: &Message, row: &MethodRow, way: &str) -> bool {
    let params =
        message.params().filter(|_| matches!(row.name, "prompts/get" | "resources/read" | "tools/call"));
    let declared =
        params.and_then(|params| params.path(&["_meta", revision::META_CAPABILITIES, "elicitation"]));
    declared.is_some_and(|ways| ways.get(way).is_some() || (way == "form" && ways.members().count() == 0))
}

/// A refusal for headers, body and revision that do not go together. What is supported is what the server of the
/// route supports: clients decide by it what to fall back to.
pub(super) fn refused(error: EraError, head: &Head, rules: &Rules) -> Refusal {
    let refusal = Refusal::new(error.code, error.detail.clone());
    let offered = rules.route(&head.server).map(|server| server.catalog.versions()).unwrap_or_default();
    match (error.data(), &error.requested) {
        (Some(_), Some(requested)) if !offered.is_empty() => {
            // What the server does not speak, the bridge does.
            let bridged = (!offered.iter().any(|version| version == MODERN)).then(|| MODERN.to_owned());
            let supported: Vec<&String> = bridged.iter().chain(offered.iter()).collect();
            let data = serde_json::json!({ "supported": supported, "requested": requested });
            refusal.with_data(data.to_string())
        }
        (Some(data), _) => refusal.with_data(data),
        (None, _) => refusal,
    }
}

fn unsupported(version: &str, head: &Head, rules: &Rules) -> Refusal {
    let detail = "the protocol version is not supported".to_owned();
    refused(EraError { code: Code::RequestVersion, detail, requested: Some(version.to_owned()) }, head, rules)
}

/// GET and DELETE exist in the older era alone.
fn without_body(head: &Head, content: Content, rules: &Rules, asked: &mut Asked) -> Result<Parsed, Refusal> {
    let headers = head.mcp();
    if let Some(repeated) = headers.repeated {
        return Err(Refusal::new(Code::RequestHeaderMismatch, format!("header {repeated}")));
    }
    if let Some(version) = headers.protocol_version {
        let era = Era::of(version).ok_or_else(|| unsupported(version, head, rules))?;
        asked.era = Some(era);
        if era == Era::Modern {
            return Err(Refusal::new(Code::MethodNotAllowed, "revision 2026-07-28 only uses POST"));
        }
    }
    asked.era = Some(Era::Legacy);
    Ok(Parsed { content, era: Era::Legacy, row: None, listed: None, action: Action::Connect })
}

fn session(
    head: &Head,
    caller: &Caller,
    rules: &Rules,
    sessions: &Sessions,
) -> Result<Arc<Session>, Refusal> {
    let id = head
        .one(&portcullis_upstream::headers::SESSION)
        .ok_or_else(|| Refusal::new(Code::SessionMissing, "no Mcp-Session-Id header"))?;
    // Without a server of that name the call ends where its target is looked for.
    sessions.find(id, &caller.id, (&head.server, rules.declared(&head.server)), &rules.limits)
}
