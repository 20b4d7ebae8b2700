//! A stream lasts longer than what opened it may: credential, session, server and policy are asked again while it is
//! open, as they would be for a new request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use portcullis_core::{Code, Refusal, Timestamp};
use portcullis_mcp::jsonrpc::Message;

use super::{
    arm::{self, Armed},
    authenticate, authorize,
    parse::Content,
    resolve::scope,
};
use crate::{
    gateway::Gateway,
    rules::{Rules, Server},
    tasks::reparsed,
};

impl Armed {
    /// Keeps of the request what its stream needs, in memory of its own: each header and message is a part of the
    /// buffer that it came in, and keeps the whole of it.
    pub fn settle(&mut self) {
        copy_values(&mut self.headers);
        let inspected = &mut self.recorded.inspected;
        if let Some(message) = &mut inspected.message {
            copy(message);
        }
        let call = &mut inspected.permitted.valid.aimed.call;
        let credentials = authenticate::HEADERS.into_iter().filter_map(|name| {
            // Repeated ones were refused.
            let value = call.head.headers.get(&name)?.clone();
            Some((name, value))
        });
        call.head.headers = credentials.collect();
        copy_values(&mut call.head.headers);
        if let Content::Message(message) = &mut call.content {
            copy(message);
        }
    }
}

fn copy_values(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if let Ok(mut copied) = HeaderValue::from_bytes(value.as_bytes()) {
            copied.set_sensitive(value.is_sensitive());
            *value = copied;
        }
    }
}

fn copy(message: &mut Message) {
    if let Ok(copied) = reparsed(Bytes::copy_from_slice(message.bytes())) {
        *message = copied;
    }
}

/// Judges an open stream by `rules`; it was judged by `before` the last time, and opened at `begun`.
///
/// # Errors
/// `auth.*`, `server.unknown`, `server.changed`, `session.unknown`, `policy.*`, `connection.failed`: the stream is over.
pub async fn stream(
    gateway: &Gateway,
    armed: &mut Armed,
    (before, begun): (&Rules, Timestamp),
    rules: &Rules,
) -> Result<(), Refusal> {
    let permitted = &armed.recorded.inspected.permitted;
    let call = &permitted.valid.aimed.call;
    let caller = authenticate::again(&call.head, rules).await?;
    // Roles for a time end here as well.
    let (caller, _) = portcullis_usage::granted(&*gateway.usage.grants, caller, gateway.clock.now());
    if caller.id != permitted.caller.id {
        return Err(Refusal::new(Code::AuthInvalid, "the credential is another caller's now"));
    }
    let server = &permitted.valid.aimed.server;
    unchanged(server, before, rules)?;
    if server.authorization.as_ref().is_some_and(|outgoing| outgoing.ended_since(&caller.id, begun)) {
        let what = "the connection to the server was ended";
        return Err(Refusal::new(Code::ConnectionFailed, what).saying(what));
    }
    scope::check(call, &caller, &server.name, rules)?;
    if let Some(route) = call.via.as_ref().and_then(|via| before.route(via.route())) {
        unchanged(route, before, rules)?;
    }
    if let Some(session) = armed.own_session() {
        // Whoever listens uses the session.
        let route = (&*call.head.server, rules.declared(&call.head.server));
        gateway.sessions.find(&session.id, &caller.id, route, &rules.limits)?;
    }
    let context = authorize::context(gateway, &caller, call, rules);
    let permit =
        authorize::permit(&caller, &permitted.valid, &rules.policy, &context).map_err(Refusal::from)?;
    let permitted = &mut armed.recorded.inspected.permitted;
    (permitted.caller, permitted.permit) = (caller, permit);
    armed.obligations = arm::obligations(&armed.recorded);
    if let Some(session) = armed.own_session() {
        session.demand(&armed.obligations);
    }
    Ok(())
}

/// What the stream comes from is still there, and still the same.
fn unchanged(server: &Arc<Server>, before: &Rules, rules: &Rules) -> Result<(), Refusal> {
    let gone = || Refusal::new(Code::ServerUnknown, format!("server `{}` was removed", server.name));
    let now = rules.route(&server.name).ok_or_else(gone)?;
    if Arc::ptr_eq(server, now) || same_group(server, now, before, rules) {
        return Ok(());
    }
    Err(Refusal::new(Code::ServerChanged, format!("server `{}` was changed", server.name)))
}

/// A route over several servers is made anew by every reload; it is the same when it leads to the same ones.
fn same_group(old: &Server, now: &Server, before: &Rules, rules: &Rules) -> bool {
    let (Some(old), Some(now)) = (&old.group, &now.group) else { return false };
    let (old, now) = (old.members(), now.members());
    old.len() == now.len()
        && old.iter().zip(now).all(|(old, now)| {
            let servers = (before.servers.get(&*old.server), rules.servers.get(&*now.server));
            let kept = match servers {
                (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                (None, None) => old.server == now.server,
                (Some(_), None) | (None, Some(_)) => false,
            };
            kept && old.prefix == now.prefix && old.selection == now.selection
        })
}
