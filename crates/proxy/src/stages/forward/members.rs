//! Sessions with the servers of a route that leads to several: opened on the client's behalf, with the params of its
//! own `initialize`, when a call first needs one.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::{
    alias::split_question,
    jsonrpc::{Id, Message, Shape},
    revision::LEGACY,
};

use super::{Armed, Exchange, bridged, together};
use crate::{
    gateway::Gateway,
    rules::{Rules, Server},
    session::{Backend, Members, NewSession, Session},
};
use portcullis_upstream::{
    Behalf, Reply, StdioPeer, Upstream, Verb,
    headers::SESSION,
    headers::VERSION,
    headers::secret_value,
    own::VERSION_BYTES_MAX,
    parse,
    stdio::{Owner, declined},
};

/// The session that the call is made in: the client's own, or on a route over several servers the part of it that
/// belongs to this server.
pub(super) async fn session(
    gateway: &Gateway,
    armed: &Armed,
    limits: &Limits,
) -> Result<Option<Arc<Session>>, Refusal> {
    match armed.via() {
        Some(via) if via.session.is_some() => {
            open_part(gateway, armed, armed.server(), limits).await.map(Some)
        }
        None if parts(armed).is_some() => open_part(gateway, armed, armed.server(), limits).await.map(Some),
        _ => Ok(armed.session().cloned()),
    }
}

/// The part of the client's session that belongs to `server`, opened if it is not.
pub(super) async fn open_part(
    gateway: &Gateway,
    armed: &Armed,
    server: &Arc<Server>,
    limits: &Limits,
) -> Result<Arc<Session>, Refusal> {
    let (session, members) = armed
        .own_session()
        .and_then(of_group)
        .map(|(session, members)| (session, &**members))
        .or_else(|| parts(armed))
        .ok_or_else(|| Refusal::new(Code::Internal, "a session with one server on a route over several"))?;
    let slot = members.slot(&server.name);
    if let Some(open) = slot.session().filter(|open| open.declared == server.settings.digest) {
        return Ok(open);
    }
    let _opening = slot.opening().await;
    if let Some(open) = slot.session().filter(|open| open.declared == server.settings.digest) {
        return Ok(open);
    }
    let behalf = armed.behalf();
    let straight = open(gateway, server, &behalf, &session.params, limits).await;
    let (backend, version) = match straight {
        // Only a server that refuses, and is of the newer era, is bridged.
        Err(refusal)
            if bridged::refused(&refusal) && server.upstream.speaks_modern(&behalf, limits).await? =>
        {
            (bridged::open(gateway, server, &behalf, &session.params, limits).await?, LEGACY.to_owned())
        }
        straight => straight?,
    };
    let part = gateway.sessions.part(NewSession {
        caller: Arc::clone(&session.caller),
        server: Arc::clone(&server.name),
        declared: server.settings.digest,
        version,
        backend,
        params: session.params.clone(),
    });
    together::log_from(gateway, server, &part, members, limits).await;
    slot.put(Arc::clone(&part));
    members.joined(&server.name);
    Ok(part)
}

/// The session with the call's server, once there is one.
pub(super) fn part(armed: &Armed) -> Option<Arc<Session>> {
    match parts(armed) {
        Some((_, members)) => members.of(&armed.server().name),
        None => armed.session().cloned(),
    }
}

/// The client's session and its parts, where the call is made in one of them: on a route over several servers, and at a
/// replica.
fn parts(armed: &Armed) -> Option<(&Arc<Session>, &Members)> {
    let session = armed.own_session()?;
    if armed.via().is_some() {
        return of_group(session).map(|(session, members)| (session, &**members));
    }
    armed.is_aside().then_some((session, &session.replicas))
}

/// Refuses a question that came on the merged stream, on behalf of the client.
pub(crate) async fn decline(rules: &Rules, armed: &Armed, question: &Id) {
    let Some((_, members)) = armed.session().and_then(of_group) else { return };
    let Some((prefix, id)) = split_question(question) else { return };
    let member = armed.server().group.as_ref().and_then(|group| group.with_prefix(&prefix));
    let Some(server) = member.and_then(|member| rules.servers.get(&*member.server)) else { return };
    let Some(session) = members.of(&server.name) else { return };
    match (&server.upstream, &session.backend) {
        (_, Backend::Bridged(bridged)) => bridged.decline(id.raw()),
        (Upstream::Stdio(_), Backend::Stdio { process, .. }) => process.decline(id.raw(), &session.id).await,
        (Upstream::Http(peer), Backend::Http(own)) => {
            let within = (own.as_deref(), session.version.as_str());
            let declined = (&armed.behalf(), declined(id.raw()));
            let _ = peer.within(Verb::Post, within, declined, &rules.limits).await;
        }
        (Upstream::Group | Upstream::Http(_) | Upstream::Stdio(_), _) => {}
    }
}

/// The parts of a session on a route over several servers.
pub(super) fn of_group(session: &Arc<Session>) -> Option<(&Arc<Session>, &Arc<Members>)> {
    match &session.backend {
        Backend::Group(members) => Some((session, members)),
        Backend::Bridged(_) | Backend::Http(_) | Backend::Stdio { .. } => None,
    }
}

async fn open(
    gateway: &Gateway,
    server: &Server,
    behalf: &Behalf,
    params: &Bytes,
    limits: &Limits,
) -> Result<(Backend, String), Refusal> {
    match &server.upstream {
        Upstream::Group => Err(Refusal::new(Code::Internal, "a route over several servers inside another")),
        Upstream::Http(peer) => {
            let (id, version) = peer.start_session(&String::from_utf8_lossy(params), behalf, limits).await?;
            Ok((Backend::Http(id), version))
        }
        Upstream::Stdio(peer) => child(gateway, peer, &behalf.caller, params, limits).await,
    }
}

async fn child(
    gateway: &Gateway,
    peer: &StdioPeer,
    caller: &str,
    params: &Bytes,
    limits: &Limits,
) -> Result<(Backend, String), Refusal> {
    let mut random = [0; 8];
    gateway.entropy.fill(&mut random);
    let unique = format!("{:016x}", u64::from_be_bytes(random));
    let (process, answer) = peer.legacy(Owner::Caller(caller), Some(&unique), params, limits).await?;
    let answer = parse(answer, limits)?;
    if answer.shape() != Shape::Response {
        peer.end(&process).await;
        return Err(Refusal::new(Code::UpstreamRevision, "the child refused `initialize`"));
    }
    process.confirm().await?;
    let version = answer.result().and_then(|result| result.get("protocolVersion")?.as_str());
    let version = version.filter(|version| version.len() <= VERSION_BYTES_MAX);
    let version = version.map_or_else(|| LEGACY.to_owned(), std::borrow::Cow::into_owned);
    Ok((Backend::Stdio { process, unique }, version))
}

/// Headers for a message within `session`: the version and the id are those of this server, not of the route.
pub(super) fn headers(mut headers: HeaderMap, session: &Session) -> Result<HeaderMap, Refusal> {
    if let Ok(version) = HeaderValue::try_from(&session.version) {
        headers.insert(VERSION, version);
    }
    headers.remove(&SESSION);
    if let Backend::Http(Some(id)) = &session.backend {
        headers.insert(SESSION, secret_value(id)?);
    }
    Ok(headers)
}

/// Whether the server said that it ended its session: then the call was not made, and is made in a new one. Nothing
/// is said to be ended where the route leads to one server: its client opens the new session itself.
pub(super) fn ended(armed: &Armed, sent: &Result<Exchange, Refusal>) -> bool {
    let Some((_, members)) = parts(armed) else { return false };
    let ended = match sent {
        Err(refusal) => refusal.code == Code::SessionUnknown,
        Ok(exchange) => matches!(exchange.reply, Reply::Unary { status: 404, .. }),
    };
    if ended {
        members.forget(&armed.server().name);
    }
    ended
}

/// Ends every part of a session, as its client asked.
pub(crate) async fn end(members: &Members, rules: &Rules) {
    for (name, session) in members.open() {
        members.forget(&name);
        let Some(server) = rules.servers.get(&*name) else { continue };
        match (&server.upstream, &session.backend) {
            (Upstream::Stdio(peer), Backend::Stdio { process, .. }) => {
                process.close_session(&session.id);
                peer.end(process).await;
            }
            (Upstream::Http(peer), Backend::Http(Some(id))) => {
                // Servers may refuse it, and then they end the session themselves.
                let within = (Some(id.as_str()), session.version.as_str());
                let _ = peer
                    .within(Verb::Delete, within, (&Behalf::of(&session.caller), Bytes::new()), &rules.limits)
                    .await;
            }
            (_, Backend::Bridged(bridged)) => bridged.end(),
            (Upstream::Group | Upstream::Http(_) | Upstream::Stdio(_), _) => {}
        }
    }
}

/// Tells every server that has a session already and that the caller may tell; one that cannot be told hears it by the
/// next call that fails.
pub(super) async fn tell(
    members: &Members,
    rules: &Rules,
    message: &Message,
    may: impl Fn(&Arc<str>) -> bool,
) {
    for (name, session) in members.open() {
        let Some(server) = rules.servers.get(&*name).filter(|_| may(&name)) else { continue };
        let told = match (&server.upstream, &session.backend) {
            (Upstream::Stdio(_), Backend::Stdio { process, .. }) => {
                process.notify(message, Some(&session.id)).await
            }
            (Upstream::Http(peer), Backend::Http(id)) => {
                let within = (id.as_deref(), session.version.as_str());
                let message = (&Behalf::of(&session.caller), message.bytes().clone());
                peer.within(Verb::Post, within, message, &rules.limits).await.map(drop)
            }
            (Upstream::Group | Upstream::Http(_) | Upstream::Stdio(_), _) => Ok(()),
        };
        if let Err(refusal) = told {
            tracing::info!(server = %name, %refusal, "a notification did not reach a server of a route over several");
        }
    }
}
