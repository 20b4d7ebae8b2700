//! On a route over several servers: which of them the call is for. From here on it is a call to that server like any
//! other, under the server's own names; only what the client calls things is kept.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use portcullis_core::{Action, Code, Refusal, TargetKind};
use portcullis_mcp::{
    alias::{Prefix, split, split_question, with_param, with_token},
    jsonrpc::{Message, Shape},
    method,
    revision::mirrored,
};

use super::{
    super::parse::{Call, Content},
    invalid, unknown,
};
use crate::{
    aggregate::{Group, Member},
    head::{LAST_EVENT_ID, NAME},
    rules::{Rules, Server},
    session::{Backend, Running, Session},
};

/// How a call came to its server.
#[derive(Debug)]
pub struct Via {
    route: Arc<Server>,
    /// What the server's things are exposed under.
    pub(crate) prefix: Prefix,
    /// What the client calls the thing that it named.
    pub(in crate::stages) alias: Option<String>,
    /// The client's session with the route.
    pub(crate) session: Option<Arc<Session>>,
    /// Known as running until the proof is dropped, so that it can be cancelled.
    #[expect(dead_code, reason = "held for its drop")]
    running: Option<Running>,
}

impl Via {
    /// The part of the client's session that belongs to a server, once there is one.
    pub(in crate::stages) fn part(&self, server: &str) -> Option<Arc<Session>> {
        match &self.session.as_ref()?.backend {
            Backend::Group(sessions) => sessions.of(server),
            Backend::Bridged(_) | Backend::Http(_) | Backend::Stdio { .. } => None,
        }
    }

    /// The name of the route.
    #[must_use]
    pub fn route(&self) -> &Arc<str> {
        &self.route.name
    }
}

/// Where a call leads to, and how it reads there.
struct Found<'g> {
    member: &'g Member,
    server: &'g Arc<Server>,
    alias: Option<String>,
    own: Option<String>,
    message: Option<Bytes>,
}

/// The server that `call` is for; the route itself where it is for all of its servers, or leads to one alone.
///
/// # Errors
/// `target.unknown` and the like: what is not exposed here does not exist here.
pub(super) fn pick(call: &mut Call, route: &Arc<Server>, rules: &Rules) -> Result<Arc<Server>, Refusal> {
    let Some(group) = &route.group else { return Ok(Arc::clone(route)) };
    let found = match &call.content {
        Content::EndSession => None,
        Content::OpenStream => resumed(call, group, rules),
        Content::Message(message) => destination(call, message, group, rules)?,
    };
    let Some(Found { member, server, alias, own, message }) = found else { return Ok(Arc::clone(route)) };
    let (server, prefix) = (Arc::clone(server), member.prefix.clone());
    if let Some(bytes) = message {
        let parsed = Message::parse(bytes, &rules.request);
        let message = parsed.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
        call.content = Content::Message(message);
    }
    if let Some(own) = own {
        rename(&mut call.head.headers, &own)?;
    }
    let session = call.session.take();
    let sessions = session.as_ref().and_then(|session| match &session.backend {
        Backend::Group(sessions) => Some(sessions),
        Backend::Bridged(_) | Backend::Http(_) | Backend::Stdio { .. } => None,
    });
    let running = sessions
        .zip(call.message().and_then(Message::id))
        .map(|(sessions, id)| sessions.runs(&id, &server.name));
    call.session = sessions.and_then(|sessions| sessions.of(&server.name));
    call.via = Some(Via { route: Arc::clone(route), prefix, alias, session, running });
    Ok(server)
}

/// What headers say of the thing, they say under the server's own name for it.
fn rename(headers: &mut HeaderMap, own: &str) -> Result<(), Refusal> {
    for (name, value) in [(NAME, mirrored(own)), (LAST_EVENT_ID, own.into())] {
        if headers.contains_key(&name) {
            let value = HeaderValue::try_from(&*value);
            let value =
                value.map_err(|error| Refusal::new(Code::RequestHeaderMismatch, error.to_string()))?;
            headers.insert(name, value);
        }
    }
    Ok(())
}

/// The member with that prefix, and its server.
fn member<'g>(group: &'g Group, rules: &'g Rules, prefix: &str) -> Option<(&'g Member, &'g Arc<Server>)> {
    let member = group.with_prefix(prefix)?;
    Some((member, rules.servers.get(&*member.server)?))
}

/// A stream that broke off is asked for again where it came from: event ids carry the prefix.
fn resumed<'g>(call: &Call, group: &'g Group, rules: &'g Rules) -> Option<Found<'g>> {
    let (prefix, own) = split(call.head.one(&LAST_EVENT_ID)?)?;
    let (member, server) = member(group, rules, prefix)?;
    Some(Found { member, server, alias: None, own: Some(own.to_owned()), message: None })
}

fn destination<'g>(
    call: &Call,
    message: &Message,
    group: &'g Group,
    rules: &'g Rules,
) -> Result<Option<Found<'g>>, Refusal> {
    let Some(row) = call.row else { return answer(message, group, rules).map(Some) };
    if call.action == Action::Complete {
        let reference = message.params().and_then(|params| method::completion_target(&params));
        let (kind, name) = reference.ok_or_else(|| invalid("`ref` names neither a prompt nor a resource"))?;
        let path = if kind == TargetKind::Prompt { ["ref", "name"] } else { ["ref", "uri"] };
        return thing(call, message, (kind, &name), &path, group, rules).map(Some);
    }
    if let Some((kind, member)) = row.item {
        let name = message.params().and_then(|params| params.get(member)?.as_str());
        let name = name.ok_or_else(|| invalid(&format!("`params.{member}` is not a string")))?;
        return thing(call, message, (kind, &name), &[member], group, rules).map(Some);
    }
    match row.name {
        "notifications/cancelled" => Ok(cancelled(call, message, group, rules)),
        "notifications/progress" => Ok(with_token(message).and_then(|(prefix, bytes)| {
            let (member, server) = member(group, rules, &prefix)?;
            Some(Found { member, server, alias: None, own: None, message: Some(bytes) })
        })),
        _ if call.action == Action::Task => task(message, group, rules),
        _ => Ok(None),
    }
}

/// What names a tool, prompt or resource goes to the server that has it.
fn thing<'g>(
    call: &Call,
    message: &Message,
    (kind, exposed): (TargetKind, &str),
    path: &[&str],
    group: &'g Group,
    rules: &'g Rules,
) -> Result<Found<'g>, Refusal> {
    let absent = || unknown(call, kind, exposed);
    let (found, rest) = group.leads_to(kind, exposed).ok_or_else(absent)?;
    let server = rules.servers.get(&*found.server).ok_or_else(absent)?;
    let own = match kind {
        TargetKind::Prompt | TargetKind::Tool => {
            found.face(&server.catalog, group.bounds.name_bytes_max).own_name(kind, &rest)
        }
        TargetKind::Resource | TargetKind::Template => rest,
    };
    if !found.selection.holds(kind, &own) {
        return Err(absent());
    }
    let message = with_param(message, path, &own);
    Ok(Found { member: found, server, alias: Some(exposed.to_owned()), own: Some(own), message })
}

/// The answer to a question of a server goes back to it.
fn answer<'g>(message: &Message, group: &'g Group, rules: &'g Rules) -> Result<Found<'g>, Refusal> {
    debug_assert!(matches!(message.shape(), Shape::Response | Shape::Error));
    let asked = message.id().as_ref().and_then(split_question);
    let found = asked.and_then(|(prefix, id)| Some((member(group, rules, &prefix)?, id)));
    let ((member, server), id) = found.ok_or_else(|| {
        Refusal::new(Code::RequestInvalid, "an answer to a question that was not asked here")
    })?;
    Ok(Found { member, server, alias: None, own: None, message: Some(message.with_id(id.raw())) })
}

/// A cancellation goes where the call went; one that is over needs none.
fn cancelled<'g>(call: &Call, message: &Message, group: &'g Group, rules: &'g Rules) -> Option<Found<'g>> {
    let id = message.params()?.get("requestId")?;
    let Backend::Group(sessions) = &call.session.as_ref()?.backend else { return None };
    let name = sessions.runs_on(id.raw())?;
    let member = group.members().iter().find(|member| member.server == name)?;
    Some(Found { member, server: rules.servers.get(&*name)?, alias: None, own: None, message: None })
}

/// Tasks carry the prefix in their ids.
fn task<'g>(message: &Message, group: &'g Group, rules: &'g Rules) -> Result<Option<Found<'g>>, Refusal> {
    let Some(exposed) = message.params().and_then(|params| params.get("taskId")?.as_str()) else {
        return Ok(None);
    };
    let found = split(&exposed).and_then(|(prefix, own)| Some((member(group, rules, prefix)?, own)));
    let ((member, server), own) = found.ok_or_else(|| invalid("no such task"))?;
    let message = with_param(message, &["taskId"], own);
    Ok(Some(Found { member, server, alias: None, own: Some(own.to_owned()), message }))
}
