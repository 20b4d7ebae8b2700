//! The kill switch: what is stopped at once, until somebody lets it go on.

use std::collections::BTreeMap;

use portcullis_core::{Event, Target, TargetKind};
use portcullis_store::{Kill as Stored, KillTarget, definitions};
use serde_json::json;

use super::{
    Control,
    control::{OPERATOR, target},
};
use crate::{problem::Problem, wire::wire};

/// Bytes of a reason at most.
const REASON_BYTES_MAX: usize = 1_024;

wire! { question
    /// What to stop, or to let go on.
    KillQuestion {
        /// `caller`, `session`, `server`, `tool` or `everything`.
        kind: String,
        /// Which one: a caller's id as in the ledger; a session's digest as in the ledger, its id, or a W3C trace id; a
        /// server or route; `SERVER/TOOL`. Left out for everything.
        name: Option<String>,
        /// Why; kept in the ledger and in the list.
        reason: Option<String>,
    }
}

wire! { answer
    /// Something that is stopped.
    Kill {
        /// `caller`, `session`, `server`, `tool` or `everything`.
        kind: String,
        /// Which one.
        name: String,
        /// Who stopped it.
        by: String,
        /// When (RFC 3339).
        at: String,
        /// Why.
        reason: String,
    }
}

wire! { answer
    /// Everything that is stopped.
    KillList {
        /// Everything first, then callers, sessions, servers and tools, each by name.
        kills: Vec<Kill>,
    }
}

wire! { answer
    /// What was stopped or goes on.
    KillChanged {
        /// It.
        kill: Kill,
        /// Index of the ledger entry; nothing where it was so already.
        entry: Option<u64>,
        /// Whether a server or tool of that name is known now; always true of anything else.
        known: bool,
    }
}

fn view(kill: &Stored) -> Kill {
    Kill {
        kind: kill.target.kind().to_owned(),
        name: kill.target.name(),
        by: kill.by.clone(),
        at: kill.at.to_string(),
        reason: kill.reason.clone(),
    }
}

fn read(question: &KillQuestion) -> Result<(KillTarget, String), Problem> {
    let reason = question.reason.clone().unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        let message = format!("a reason has at most {REASON_BYTES_MAX} bytes and no control characters");
        return Err(Problem::invalid(message, "say it shorter, on one line"));
    }
    let target = KillTarget::read(&question.kind, question.name.as_deref().unwrap_or_default());
    let target = target.map_err(|error| {
        Problem::invalid(
            error.to_string(),
            "`audit tail` shows callers and sessions, `server list` and `tool list` the rest",
        )
    })?;
    Ok((target, reason))
}

impl Control {
    pub(super) async fn kills(&self) -> Result<KillList, Problem> {
        self.parts.kills.load().await?;
        let kills = self.parts.kills.kills().list();
        Ok(KillList { kills: kills.iter().map(|kill| view(kill)).collect() })
    }

    pub(super) async fn stop(&self, question: KillQuestion) -> Result<KillChanged, Problem> {
        let (stopped, reason) = read(&question)?;
        let _killing = self.killing.lock().await;
        // Another gateway on the same store may have been faster.
        self.parts.kills.load().await?;
        let (kills, known) = (self.parts.kills.kills(), self.known(&stopped).await?);
        if let Some(kill) = kills.of(&stopped) {
            return Ok(KillChanged { kill: view(kill), entry: None, known });
        }
        if kills.len() as u64 >= self.parts.limits.kills_max && stopped != KillTarget::Everything {
            let message = format!("{} things are killed already (limits.kills_max)", kills.len());
            return Err(Problem::Conflict {
                message,
                hint: "`unkill` what needs it no more, or kill everything",
            });
        }
        let at = self.parts.clock.now();
        let kill = Stored { target: stopped, by: OPERATOR.to_owned(), at, reason };
        let entry = self.record_kill(Event::KillSet, &kill.target, &kill.reason).await?;
        self.parts.kills.kill(kill.clone()).await?;
        let now = self.parts.kills.kills();
        let kill = now.of(&kill.target).map_or_else(|| view(&kill), |kill| view(kill));
        Ok(KillChanged { kill, entry: Some(entry), known })
    }

    pub(super) async fn let_go_on(&self, question: KillQuestion) -> Result<KillChanged, Problem> {
        let (stopped, reason) = read(&question)?;
        let _killing = self.killing.lock().await;
        self.parts.kills.load().await?;
        let kills = self.parts.kills.kills();
        let kill = kills.of(&stopped).ok_or_else(|| Problem::NotFound(format!("{stopped} is not killed")))?;
        let known = self.known(&stopped).await?;
        let entry = self.record_kill(Event::KillLifted, &stopped, &reason).await?;
        if !self.parts.kills.unkill(&stopped, OPERATOR, self.parts.clock.now()).await? {
            let message = String::from("it was changed by somebody else meanwhile");
            return Err(Problem::Conflict { message, hint: "look again, then repeat" });
        }
        Ok(KillChanged { kill: view(kill), entry: Some(entry), known })
    }

    async fn record_kill(&self, event: Event, stopped: &KillTarget, reason: &str) -> Result<u64, Problem> {
        let about = about(stopped);
        let data =
            [("kind", json!(stopped.kind())), ("name", json!(stopped.name())), ("reason", json!(reason))];
        self.record(event, about.as_ref(), BTreeMap::from(data)).await
    }

    /// Whether there is a server or tool of that name: who mistypes one in a hurry is told.
    async fn known(&self, stopped: &KillTarget) -> Result<bool, Problem> {
        match stopped {
            KillTarget::Caller(_)
            | KillTarget::Everything
            | KillTarget::Session(_)
            | KillTarget::Trace(_) => Ok(true),
            KillTarget::Server(server) => Ok(self.parts.health.leads_somewhere(server)),
            KillTarget::Tool { server, tool } => {
                let (kind, name) = (TargetKind::Tool.name(), definitions::name(server, tool));
                Ok(!self.parts.revisions.history(kind, &name).await?.is_empty())
            }
        }
    }
}

fn about(stopped: &KillTarget) -> Option<Target> {
    match stopped {
        KillTarget::Caller(_) | KillTarget::Everything | KillTarget::Session(_) | KillTarget::Trace(_) => {
            None
        }
        KillTarget::Server(server) => Some(target(server, None)),
        KillTarget::Tool { server, tool } => Some(target(server, Some((TargetKind::Tool, tool)))),
    }
}
