//! Where client and server are of different eras, the bridge takes the call across.

use std::sync::Arc;

use bytes::Bytes;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::{
    json::JsonLimits,
    jsonrpc::{Message, Shape},
    method,
    revision::{Era, ParamHeader},
};

use super::{Armed, Exchange};
use crate::{
    bridge::{BridgedSession, Crossing},
    gateway::Gateway,
    rules::{Rules, Server},
    session::{Backend, Session},
    stages::{arm, parse::Content},
};
use portcullis_upstream::{Behalf, Reply, Upstream};

/// The exchange over the bridge; nothing where client and server are of one era.
pub(super) async fn exchange(
    gateway: &Gateway,
    rules: &Rules,
    armed: &Armed,
    session: Option<&Arc<Session>>,
) -> Result<Option<Exchange>, Refusal> {
    let (server, limits) = (armed.server(), &rules.limits);
    match armed.era() {
        Era::Modern if server.upstream.speaks_modern(&armed.behalf(), limits).await? => Ok(None),
        Era::Modern => match gateway.bridge.from_modern(crossing(armed, limits)?).await {
            // It was silent when it was asked, refuses the older era, and says now that it speaks the newer one.
            Err(refusal) if refused(&refusal) && server.upstream.spoken().modern() == Some(true) => Ok(None),
            reply => Ok(Some(Exchange::plain(reply?))),
        },
        Era::Legacy => match session.map(|session| &session.backend) {
            Some(Backend::Bridged(session)) => {
                in_session(gateway, armed, session, limits).await.map(Exchange::plain).map(Some)
            }
            Some(Backend::Group(_) | Backend::Http(_) | Backend::Stdio { .. }) => Ok(None),
            None => initialize(gateway, armed, limits).await,
        },
    }
}

async fn in_session(
    gateway: &Gateway,
    armed: &Armed,
    session: &Arc<BridgedSession>,
    limits: &Limits,
) -> Result<Reply, Refusal> {
    match armed.content() {
        Content::EndSession => {
            session.end();
            Ok(Reply::Accepted)
        }
        Content::OpenStream if armed.asks_for_missed() => {
            Err(Refusal::new(Code::BridgeResumption, "Last-Event-ID in a session over the bridge"))
        }
        Content::OpenStream => Ok(gateway.bridge.changes(
            armed.server(),
            armed.caller(),
            &armed.headers,
            session,
            &armed.unwanted,
        )),
        Content::Message(message) => match message.shape() {
            // As it was judged, with what had to be masked.
            Shape::Error | Shape::Response => {
                gateway.bridge.answered(armed.message().unwrap_or(message), session)
            }
            Shape::Notification | Shape::Request => {
                gateway.bridge.from_legacy(crossing(armed, limits)?, session).await
            }
        },
    }
}

/// `initialize` goes straight to the server first, unless it is known to be of the newer era alone. Only one that
/// refuses, and is of the newer era, is bridged.
async fn initialize(gateway: &Gateway, armed: &Armed, limits: &Limits) -> Result<Option<Exchange>, Refusal> {
    let upstream = &armed.server().upstream;
    if !armed.is("initialize") || upstream.spoken().modern() == Some(false) {
        return Ok(None);
    }
    if upstream.spoken().legacy() != Some(false) {
        let straight = match upstream {
            Upstream::Group => return Ok(None),
            Upstream::Http(peer) => super::http(peer, armed, None, limits).await,
            Upstream::Stdio(peer) => super::legacy_stdio(gateway, peer, armed, None, limits).await,
        };
        let refused = match &straight {
            Ok(exchange) => !speaks(&exchange.reply, limits),
            Err(refusal) => refused(refusal),
        };
        if !refused || !upstream.speaks_modern(&armed.behalf(), limits).await.unwrap_or(false) {
            return straight.map(Some);
        }
        upstream.spoken().refused_initialize();
    }
    let (reply, session) = gateway.bridge.initialize(&crossing(armed, limits)?).await?;
    Ok(Some(Exchange { reply, opens: Some(Backend::Bridged(session)), list: None }))
}

/// A session on the bridge with one server of a route over several, opened with the params of the client's own
/// `initialize`.
pub(super) async fn open(
    gateway: &Gateway,
    server: &Arc<Server>,
    behalf: &Behalf,
    params: &Bytes,
    limits: &Limits,
) -> Result<Backend, Refusal> {
    let lost = || Refusal::new(Code::Internal, "a session whose `initialize` is lost");
    let mut bytes = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":"#.to_vec();
    bytes.extend_from_slice(params);
    bytes.push(b'}');
    let message = Message::parse(Bytes::from(bytes), &JsonLimits::request(limits)).map_err(|_| lost())?;
    let crossing = Crossing {
        server,
        caller: &behalf.caller,
        behalf: behalf.clone(),
        message: &message,
        row: method::find("initialize").ok_or_else(lost)?,
        headers: arm::credentials(server, behalf),
        annotated: &[],
        limits,
        unwanted: &Arc::default(),
    };
    Ok(Backend::Bridged(gateway.bridge.initialize(&crossing).await?.1))
}

/// Whether a reply to `initialize` is one of a server that speaks the older era. A stream is only begun by one.
fn speaks(reply: &Reply, limits: &Limits) -> bool {
    match reply {
        Reply::Accepted => false,
        Reply::Stream { .. } => true,
        Reply::Unary { bytes, .. } => {
            let json = JsonLimits::answer(limits);
            // What cannot be read is judged further on.
            Message::parse(bytes.clone(), &json).map_or(true, |message| message.shape() != Shape::Error)
        }
    }
}

/// Whether the server was there and did not want to be initialised.
pub(super) fn refused(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        Code::AnswerInvalid | Code::MethodNotAllowed | Code::SessionUnknown | Code::UpstreamRevision
    )
}

fn crossing<'a>(armed: &'a Armed, limits: &'a Limits) -> Result<Crossing<'a>, Refusal> {
    let aimed = &armed.recorded.inspected.permitted.valid.aimed;
    let lost = || Refusal::new(Code::Internal, "a message without a method on the bridge");
    let (message, row) = armed.message().zip(aimed.call.row).ok_or_else(lost)?;
    let annotated: &[ParamHeader] = aimed.item.as_deref().map_or(&[], |item| item.headers());
    Ok(Crossing {
        server: armed.server(),
        caller: armed.caller(),
        behalf: armed.behalf(),
        message,
        row,
        headers: armed.headers(),
        annotated,
        limits,
        unwanted: &armed.unwanted,
    })
}
