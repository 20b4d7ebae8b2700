//! The same service elsewhere: a call that may not go to one server goes to a replica of it where it may. From here on it
//! is a call to that server like any other, under that server's own name.

use std::sync::Arc;

use portcullis_core::{Action, Code, Refusal};
use portcullis_mcp::jsonrpc::Message;

use super::super::parse::Call;
use crate::{
    rules::{Rules, Server},
    session::{Running, Session},
};

/// How a call came to a replica.
#[derive(Debug)]
pub struct Aside {
    /// The client's session with the server that it called.
    pub(crate) session: Option<Arc<Session>>,
    /// Known as running until the proof is dropped, so that it can be cancelled.
    #[expect(dead_code, reason = "held for its drop")]
    running: Option<Running>,
}

/// Whether a call that was refused so may be let through at a replica.
#[must_use]
pub fn may_pass_elsewhere(refusal: &Refusal, action: Option<Action>) -> bool {
    // What opens, ends or lists belongs to the server that is called.
    let of_a_thing = matches!(
        action,
        Some(Action::CallTool | Action::Complete | Action::GetPrompt | Action::ReadResource | Action::Task)
    );
    // A task that nobody knows here may be one of a replica.
    let code = matches!(refusal.code, Code::PolicyDenied | Code::ResidencyRefused | Code::TaskUnknown);
    of_a_thing && code
}

/// The replica with that place; nothing where there are not so many. A cancellation goes where its call went.
pub(super) fn pick(
    call: &mut Call,
    server: &Arc<Server>,
    place: usize,
    rules: &Rules,
) -> Option<Arc<Server>> {
    let place = if place == 0 { cancelled(call, server, rules).unwrap_or(0) } else { place };
    let chosen = rules.replica(&server.name, place).filter(|_| place > 0);
    let Some(chosen) = chosen else { return (place == 0).then(|| Arc::clone(server)) };
    // On a route over several servers the client's session has a part for each server anyway.
    let sessions = call.own_session().cloned();
    if let Some(via) = &call.via {
        call.session = via.part(&chosen.name);
        return Some(Arc::clone(chosen));
    }
    let running = sessions
        .as_ref()
        .zip(call.message().and_then(Message::id))
        .map(|(session, id)| session.replicas.runs(&id, &chosen.name));
    call.session = sessions.as_ref().and_then(|session| session.replicas.of(&chosen.name));
    call.aside = Some(Aside { session: sessions, running });
    Some(Arc::clone(chosen))
}

fn cancelled(call: &Call, server: &Server, rules: &Rules) -> Option<usize> {
    if !call.is("notifications/cancelled") {
        return None;
    }
    let id = call.message()?.params()?.get("requestId")?;
    let name = call.session()?.replicas.runs_on(id.raw())?;
    let place = rules.replicas.get(&*server.name)?.iter().position(|replica| *replica == *name)?;
    Some(place + 1)
}
