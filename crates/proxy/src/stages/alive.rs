//! What an operator stopped gets no further: a caller at its door; a session, server or tool once policy has said that
//! this caller may know of it; and what runs already, wherever it waits.

use std::sync::Arc;

use portcullis_core::{Caller, Code, Refusal, TargetKind};
use portcullis_store::{Involved, Kill, KillTarget, Kills};
use tokio::sync::watch;

use super::{arm::Armed, authorize::Permitted};
use crate::{gateway::Gateway, session::Session};

/// A permitted call of which nothing is stopped.
#[derive(Debug)]
pub struct Alive {
    pub(super) permitted: Permitted,
}

/// Judges a caller before anything of its message is read.
///
/// # Errors
/// `killed`.
pub fn caller(gateway: &Gateway, caller: &Caller) -> Result<(), Refusal> {
    let involved = Involved { caller: &caller.id, ..Involved::default() };
    gateway.kills.kills().stops(&involved).map_or(Ok(()), |kill| Err(stopped(kill, None)))
}

/// Judges a call. Who may not make it was refused before, and learns nothing of what is stopped.
///
/// # Errors
/// `killed`.
pub fn call(gateway: &Gateway, permitted: Permitted) -> Result<Alive, Refusal> {
    let kills = gateway.kills.kills();
    if !kills.is_empty() {
        Facts::of(&permitted).judge(&kills)?;
    }
    Ok(Alive { permitted })
}

/// Whether calls of `caller` go to that server now, where the gateway itself turns to several.
pub(crate) fn reaches(gateway: &Gateway, caller: &str, server: &str) -> bool {
    let involved = Involved { caller, servers: [Some(server), None], ..Involved::default() };
    gateway.kills.kills().stops(&involved).is_none()
}

/// What of a call can be stopped.
#[derive(Debug)]
struct Facts {
    caller: Arc<str>,
    sessions: [Option<Arc<Session>>; 2],
    trace: Option<String>,
    server: Arc<str>,
    route: Option<Arc<str>>,
    tool: Option<Arc<str>>,
    /// What the client calls the tool.
    alias: Option<String>,
}

impl Facts {
    fn of(permitted: &Permitted) -> Self {
        let aimed = &permitted.valid.aimed;
        let (call, via) = (&aimed.call, aimed.call.via.as_ref());
        // What a stopped tool still does can be ended.
        let tool = aimed.target.item.as_ref().filter(|_| !call.is("tasks/cancel"));
        let tool = tool.filter(|(kind, _)| *kind == TargetKind::Tool).map(|(_, name)| Arc::clone(name));
        let trace = call.trace_parent();
        Self {
            caller: Arc::clone(&permitted.caller.id),
            sessions: [call.session().cloned(), via.and_then(|via| via.session.clone())],
            trace: trace.and_then(|parent| parent.split('-').nth(1).map(str::to_owned)),
            server: Arc::clone(&aimed.server.name),
            route: via.map(|via| Arc::clone(via.route())),
            alias: tool.as_deref().map(|name| call.shown(name).to_owned()),
            tool,
        }
    }

    fn judge(&self, kills: &Kills) -> Result<(), Refusal> {
        let digest = |session: &Option<Arc<Session>>| session.as_ref().map(|session| session.digest());
        let [own, outer] = &self.sessions;
        let involved = Involved {
            caller: &self.caller,
            sessions: [digest(own), digest(outer)],
            trace: self.trace.as_deref(),
            servers: [Some(&self.server), self.route.as_deref()],
            tool: self.tool.as_deref(),
        };
        kills.stops(&involved).map_or(Ok(()), |kill| Err(stopped(kill, self.alias.as_deref())))
    }
}

fn stopped(kill: &Kill, alias: Option<&str>) -> Refusal {
    let Kill { target, by, at, reason } = kill;
    let what = match (target, alias) {
        (KillTarget::Tool { .. }, Some(alias)) => format!("tool `{alias}`"),
        (KillTarget::Caller(_), _) => String::from("this caller"),
        (KillTarget::Session(_) | KillTarget::Trace(_), _) => String::from("this session"),
        (KillTarget::Everything | KillTarget::Server(_) | KillTarget::Tool { .. }, _) => target.to_string(),
    };
    let data = serde_json::json!({
        "code": Code::Killed.name(), "killed": target.kind(), "by": by, "at": at.to_string(),
    });
    Refusal::new(Code::Killed, format!("{target} was killed by {by} at {at}: {reason}"))
        .saying(format!("{}: {what}, by {by} at {at}", Code::Killed.sentence()))
        .with_data(data.to_string())
}

/// Looks after something that runs.
#[derive(Debug)]
pub(crate) struct Watch {
    facts: Facts,
    kills: watch::Receiver<Arc<Kills>>,
}

impl Watch {
    pub(crate) fn of(gateway: &Gateway, armed: &Armed) -> Self {
        let facts = Facts::of(&armed.recorded.inspected.permitted);
        let mut kills = gateway.kills.changed();
        // What was stopped since the call was judged is seen by the first look.
        kills.mark_changed();
        Self { facts, kills }
    }

    /// Ends when what runs is stopped.
    pub(crate) async fn stopped(&mut self) -> Refusal {
        loop {
            if self.kills.changed().await.is_err() {
                return std::future::pending().await;
            }
            let kills = Arc::clone(&self.kills.borrow_and_update());
            if let Err(refusal) = self.facts.judge(&kills) {
                return refusal;
            }
        }
    }
}

/// Ends when a server that the gateway itself listens to for `caller` is stopped.
pub(super) async fn until_stopped(gateway: &Gateway, caller: &str, server: &str) {
    wait(gateway, || !reaches(gateway, caller, server)).await;
}

/// Ends when such a server is not stopped.
pub(super) async fn until_alive(gateway: &Gateway, caller: &str, server: &str) {
    wait(gateway, || reaches(gateway, caller, server)).await;
}

async fn wait(gateway: &Gateway, so: impl Fn() -> bool) {
    let mut kills = gateway.kills.changed();
    while !so() {
        if kills.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
