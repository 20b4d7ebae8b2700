//! The kill switch: what an operator stopped, at once and until it is taken back. Kept as revisions with one head for
//! each thing that is stopped, so that it outlives a restart and every gateway on the same store follows; a copy in
//! memory is asked by every request.

use std::{collections::HashMap, fmt, sync::Arc};

use portcullis_core::{Digest, Timestamp};
use serde_json::json;
use tokio::sync::watch;

use crate::{Batch, Move, NewRevision, Revisions, StoreError};

/// Revision kind of kills.
const KIND: &str = "kill";
/// The head of a kill in force.
const SLOT: &str = "active";
/// Separates the parts of a revision's name; none can hold it.
const SEPARATOR: char = '\u{1f}';
/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 2_048;

/// What is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KillTarget {
    /// All calls of everybody.
    Everything,
    /// Whoever has this caller id.
    Caller(String),
    /// The session of this digest.
    Session(Digest),
    /// Calls under this W3C trace id: what comes closest to a session where the protocol has none.
    Trace(String),
    /// A server, or a route over several.
    Server(String),
    /// One tool of a server.
    Tool {
        /// The server.
        server: String,
        /// The tool, as its server calls it.
        tool: String,
    },
}

/// What an operator wrote names nothing that can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KillSyntax(&'static str);

impl KillTarget {
    /// The words for what can be stopped.
    pub const KINDS: &'static [&'static str] = &["caller", "session", "server", "tool", "everything"];

    /// What an operator means by one of [`KillTarget::KINDS`] and a name.
    ///
    /// # Errors
    /// Nothing can be called so.
    pub fn read(kind: &str, name: &str) -> Result<Self, KillSyntax> {
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(KillSyntax("a name has at most 2048 bytes and no control characters"));
        }
        if name.is_empty() != (kind == "everything") {
            return Err(KillSyntax("`everything` has no name; everything else has one"));
        }
        match kind {
            "everything" => Ok(Self::Everything),
            "caller" => Ok(Self::Caller(name.to_owned())),
            "session" => session(name),
            "server" => Ok(Self::Server(name.to_owned())),
            "tool" => match name.split_once('/') {
                Some((server, tool)) if !server.is_empty() && !tool.is_empty() => {
                    Ok(Self::Tool { server: server.to_owned(), tool: tool.to_owned() })
                }
                _ => Err(KillSyntax("a tool is named SERVER/TOOL")),
            },
            _ => Err(KillSyntax("only a caller, session, server, tool or everything can be killed")),
        }
    }

    /// What kind of thing it is; with [`KillTarget::name`] it reads back.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Caller(_) => "caller",
            Self::Everything => "everything",
            Self::Server(_) => "server",
            Self::Session(_) | Self::Trace(_) => "session",
            Self::Tool { .. } => "tool",
        }
    }

    /// Which one.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Everything => String::new(),
            Self::Caller(name) | Self::Server(name) | Self::Trace(name) => name.clone(),
            Self::Session(digest) => digest.to_string(),
            Self::Tool { server, tool } => format!("{server}/{tool}"),
        }
    }

    fn key(&self) -> String {
        format!("{}{SEPARATOR}{}", self.kind(), self.name())
    }
}

impl fmt::Display for KillTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Caller(_) | Self::Server(_) | Self::Session(_) | Self::Tool { .. } | Self::Trace(_) => {
                write!(f, "{} `{}`", self.kind(), self.name())
            }
        }
    }
}

/// The session of a ledger entry, its id as the client has it, or the trace that stands for one.
fn session(name: &str) -> Result<KillTarget, KillSyntax> {
    if let Ok(digest) = name.parse() {
        return Ok(KillTarget::Session(digest));
    }
    if name.starts_with("pcs_") {
        return Ok(KillTarget::Session(Digest::of(name.as_bytes())));
    }
    let hex = name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex && name.len() == 32 {
        return Ok(KillTarget::Trace(name.to_owned()));
    }
    Err(KillSyntax(
        "a session is named by its digest (`sha256:…`), its id (`pcs_…`) or a W3C trace id (32 hex digits)",
    ))
}

/// One thing that is stopped, by whom and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// What.
    pub target: KillTarget,
    /// Who did it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why; empty when nobody said.
    pub reason: String,
}

/// A kill in force, and the version that says so.
#[derive(Clone, Debug)]
struct Held {
    kill: Arc<Kill>,
    digest: Digest,
}

/// Everything that is stopped.
#[derive(Clone, Debug, Default)]
pub struct Kills(HashMap<KillTarget, Held>);

/// What a call is: whatever of it is stopped stops the call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Involved<'a> {
    /// Who calls.
    pub caller: &'a str,
    /// Sessions that it belongs to.
    pub sessions: [Option<Digest>; 2],
    /// Its W3C trace id.
    pub trace: Option<&'a str>,
    /// The server, and the route it came by.
    pub servers: [Option<&'a str>; 2],
    /// The tool, beside the first server.
    pub tool: Option<&'a str>,
}

impl Kills {
    /// Whether nothing is stopped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many things are stopped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Why such a call is stopped, if it is.
    #[must_use]
    pub fn stops(&self, call: &Involved<'_>) -> Option<&Arc<Kill>> {
        if self.0.is_empty() {
            return None;
        }
        let [server, route] = call.servers;
        let tool = server
            .zip(call.tool)
            .map(|(server, tool)| KillTarget::Tool { server: server.to_owned(), tool: tool.to_owned() });
        let sessions = call.sessions.into_iter().flatten().map(KillTarget::Session);
        [KillTarget::Everything, KillTarget::Caller(call.caller.to_owned())]
            .into_iter()
            .chain(sessions)
            .chain(call.trace.map(|trace| KillTarget::Trace(trace.to_owned())))
            .chain([server, route].into_iter().flatten().map(|name| KillTarget::Server(name.to_owned())))
            .chain(tool)
            .find_map(|target| self.0.get(&target).map(|held| &held.kill))
    }

    /// The kill of exactly this.
    #[must_use]
    pub fn of(&self, target: &KillTarget) -> Option<&Arc<Kill>> {
        self.0.get(target).map(|held| &held.kill)
    }

    /// Each kill, in the order of what it stops.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Kill>> {
        let mut all: Vec<_> = self.0.values().map(|held| Arc::clone(&held.kill)).collect();
        all.sort_by(|one, other| one.target.cmp(&other.target));
        all
    }
}

/// The kill switch of one gateway.
#[derive(Debug)]
pub struct KillSwitch {
    revisions: Arc<dyn Revisions>,
    held: watch::Sender<Arc<Kills>>,
    /// What was read later is not replaced by what was read earlier.
    loading: tokio::sync::Mutex<()>,
}

impl KillSwitch {
    /// With what is stopped already.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn open(revisions: Arc<dyn Revisions>) -> Result<Self, StoreError> {
        let switch = Self::new(revisions);
        switch.load().await?;
        Ok(switch)
    }

    /// Without what is stopped, until it is loaded.
    #[must_use]
    pub fn new(revisions: Arc<dyn Revisions>) -> Self {
        Self { revisions, held: watch::Sender::default(), loading: tokio::sync::Mutex::default() }
    }

    /// What is stopped now.
    #[must_use]
    pub fn kills(&self) -> Arc<Kills> {
        Arc::clone(&self.held.borrow())
    }

    /// Tells of every change.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<Arc<Kills>> {
        self.held.subscribe()
    }

    /// Brings the copy in memory up to the store.
    ///
    /// # Errors
    /// What the store reports; a kill that cannot be read is an error too. The copy stays then.
    pub async fn load(&self) -> Result<(), StoreError> {
        let _loading = self.loading.lock().await;
        let mut kills = Kills::default();
        for (head, revision) in self.revisions.heads_with_bodies(KIND).await? {
            if head.slot != SLOT {
                continue;
            }
            let read = head.name.split_once(SEPARATOR).map(|(kind, name)| KillTarget::read(kind, name));
            let Some(Ok(target)) = read else {
                return Err(StoreError::Corrupt(format!("a kill of `{}`", head.name.escape_default())));
            };
            let meta = revision.meta;
            let kill = Kill { target: target.clone(), by: meta.author, at: meta.at, reason: meta.reason };
            kills.0.insert(target, Held { kill: Arc::new(kill), digest: head.digest });
        }
        self.held.send_if_modified(|held| {
            let same = held.0.len() == kills.0.len()
                && kills
                    .0
                    .iter()
                    .all(|(target, new)| held.0.get(target).is_some_and(|old| old.digest == new.digest));
            if !same {
                *held = Arc::new(kills);
            }
            !same
        });
        Ok(())
    }

    /// Stops something; in force when this returns. False when somebody else did meanwhile.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn kill(&self, kill: Kill) -> Result<bool, StoreError> {
        let Kill { target, by, at, reason } = kill;
        let name = target.key();
        let body =
            json!({ "at": at, "by": by, "kind": target.kind(), "name": target.name(), "reason": reason });
        let body = body.to_string().into_bytes();
        let digest = Digest::of(&body);
        let put = NewRevision {
            kind: KIND.to_owned(),
            name: name.clone(),
            body,
            digest,
            parent: None,
            author: by.clone(),
            reason,
            at,
        };
        let change = Move {
            kind: KIND.to_owned(),
            name,
            slot: SLOT.to_owned(),
            expect: None,
            to: Some(digest),
            by,
            at,
        };
        let made = self.revisions.apply(Batch { puts: vec![put], moves: vec![change] }).await?;
        self.load().await?;
        Ok(made)
    }

    /// Lets something go on; in force when this returns. False when it was not stopped, or stopped anew meanwhile.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn unkill(&self, target: &KillTarget, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let Some(expect) = self.kills().0.get(target).map(|held| held.digest) else { return Ok(false) };
        let change = Move {
            kind: KIND.to_owned(),
            name: target.key(),
            slot: SLOT.to_owned(),
            expect: Some(expect),
            to: None,
            by: by.to_owned(),
            at,
        };
        let made = self.revisions.move_head(change).await?;
        self.load().await?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sqlite;

    fn kill(kind: &str, name: &str) -> Kill {
        let target = KillTarget::read(kind, name).unwrap();
        Kill { target, by: "admin".into(), at: Timestamp(1), reason: "why".into() }
    }

    #[test]
    fn what_can_be_killed_reads_back_from_its_kind_and_name_and_nothing_else_is_taken() {
        let digest = Digest::of(b"pcs_1").to_string();
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for (kind, name) in [
            ("everything", ""),
            ("caller", "key:abc"),
            ("session", &*digest),
            ("session", trace),
            ("server", "files"),
            ("tool", "files/read/all"),
        ] {
            let target = KillTarget::read(kind, name).unwrap();
            assert_eq!((target.kind(), &*target.name()), (kind, name));
        }
        assert_eq!(KillTarget::read("session", "pcs_1").unwrap().name(), digest);
        for (kind, name) in [
            ("everything", "x"),
            ("caller", ""),
            ("caller", "a\nb"),
            ("session", "x"),
            ("session", &trace.to_uppercase()),
            ("tool", "files"),
            ("tool", "files/"),
            ("tool", "/x"),
            ("prompt", "x"),
            ("caller", &"x".repeat(2_049)),
        ] {
            assert!(KillTarget::read(kind, name).is_err(), "{kind} {name}");
        }
    }

    #[tokio::test]
    async fn a_kill_stops_what_it_names_and_nothing_beside_it_and_outlives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("portcullis.db");
        let session = Digest::of(b"pcs_1");
        let call = Involved {
            caller: "key:a",
            sessions: [Some(session), None],
            trace: Some("0af7651916cd43dd8448eb211c80319c"),
            servers: [Some("s"), Some("all")],
            tool: Some("echo"),
        };
        let hits = [
            kill("everything", ""),
            kill("caller", "key:a"),
            kill("session", "pcs_1"),
            kill("session", "0af7651916cd43dd8448eb211c80319c"),
            kill("server", "s"),
            kill("server", "all"),
            kill("tool", "s/echo"),
        ];
        let misses = [
            kill("caller", "key:b"),
            kill("session", "pcs_2"),
            kill("session", "1af7651916cd43dd8448eb211c80319c"),
            kill("server", "t"),
            kill("tool", "s/add"),
            kill("tool", "all/echo"),
        ];
        for (kills, stops) in [(&hits[..], true), (&misses[..], false)] {
            for kill in kills {
                let store: Arc<dyn Revisions> = Arc::new(Sqlite::open(&path).unwrap());
                let switch = KillSwitch::open(Arc::clone(&store)).await.unwrap();
                assert!(switch.kill(kill.clone()).await.unwrap());
                assert_eq!(switch.kills().stops(&call).is_some(), stops, "{}", kill.target);
                drop((switch, store));
                let store: Arc<dyn Revisions> = Arc::new(Sqlite::open(&path).unwrap());
                let switch = KillSwitch::open(store).await.unwrap();
                assert_eq!(switch.kills().stops(&call).is_some(), stops, "{} later", kill.target);
                assert_eq!(switch.kills().list(), [Arc::new(kill.clone())]);
                assert!(switch.unkill(&kill.target, "admin", Timestamp(2)).await.unwrap());
                assert!(!switch.unkill(&kill.target, "admin", Timestamp(2)).await.unwrap());
                assert!(switch.kills().is_empty());
                assert!(switch.kills().stops(&call).is_none());
            }
        }
    }

    #[tokio::test]
    async fn another_gateway_on_the_same_store_learns_of_a_kill_and_the_first_of_two_stands() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("portcullis.db");
        let open = || async {
            let store: Arc<dyn Revisions> = Arc::new(Sqlite::open(&path).unwrap());
            (KillSwitch::open(Arc::clone(&store)).await.unwrap(), store)
        };
        let ((one, _), (two, store)) = (open().await, open().await);
        let mut foreign = store.changed();
        assert!(one.kill(kill("server", "s")).await.unwrap());
        foreign.changed().await.unwrap();
        two.load().await.unwrap();
        assert_eq!(two.kills().len(), 1);
        let second = Kill { by: "another".into(), ..kill("server", "s") };
        assert!(!two.kill(second).await.unwrap(), "it is stopped already");
        assert_eq!(two.kills().list()[0].by, "admin");
    }
}
