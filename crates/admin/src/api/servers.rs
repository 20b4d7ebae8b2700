//! Servers added and removed at run time: revisions of kind `server` with one head, `active`. The data plane
//! watches the store and follows.

use std::collections::BTreeMap;

use portcullis_core::{Digest, Event};
use portcullis_store::{Batch, Move, NewRevision};
use serde_json::{Value, json};

use super::{
    Control,
    control::{OPERATOR, target},
};
pub use crate::parts::ServerState;
use crate::{problem::Problem, wire::wire};

/// Revision kind of servers that were added at run time.
pub const SERVER_KIND: &str = "server";
/// The head that is in force.
pub const SERVER_SLOT: &str = "active";

wire! { answer
    /// Every server behind the gateway.
    ServerList {
        /// By name.
        servers: Vec<ServerState>,
    }
}

wire! { question
    /// A server to be added.
    AddServer {
        /// Its name.
        name: String,
        /// The same members as under `servers.NAME` in portcullis.yaml.
        server: Value,
    }
}

wire! { answer
    /// A server was added or removed.
    ServerChanged {
        /// Its name.
        name: String,
        /// Index of the ledger entry.
        entry: u64,
    }
}

impl Control {
    pub(super) async fn new_server(&self, question: AddServer) -> Result<ServerChanged, Problem> {
        let AddServer { name, server } = question;
        if let Err(mistakes) = (self.parts.check_server)(&name, &server).await {
            return Err(Problem::invalid(
                mistakes.join("; "),
                "docs/reference/config.md describes the members",
            ));
        }
        let _changing = self.changing.lock().await;
        if self.parts.health.servers().iter().any(|known| known.name == name) {
            let message = format!("there is a server `{name}` already");
            return Err(Problem::Conflict { message, hint: "remove it first, or choose another name" });
        }
        let body = server.to_string().into_bytes();
        let digest = Digest::of(&body);
        let head = self.parts.revisions.head(SERVER_KIND, &name, SERVER_SLOT).await?;
        let data = BTreeMap::from([("digest", json!(digest)), ("transport", json!(transport(&server)))]);
        let entry = self.record(Event::ServerAdded, Some(&target(&name, None)), data).await?;
        let (by, at) = (OPERATOR.to_owned(), self.parts.clock.now());
        let (kind, slot) = (SERVER_KIND.to_owned(), SERVER_SLOT.to_owned());
        let put = NewRevision {
            kind: kind.clone(),
            name: name.clone(),
            body,
            digest,
            parent: head.as_ref().map(|head| head.digest),
            author: by.clone(),
            reason: String::from("added at run time"),
            at,
        };
        let expect = head.map(|head| head.digest);
        let change = Move { kind, name: name.clone(), slot, expect, to: Some(digest), by, at };
        self.applied(Batch { puts: vec![put], moves: vec![change] }).await?;
        Ok(ServerChanged { name, entry })
    }

    pub(super) async fn end_server(&self, name: &str) -> Result<ServerChanged, Problem> {
        let _changing = self.changing.lock().await;
        let Some(head) = self.parts.revisions.head(SERVER_KIND, name, SERVER_SLOT).await? else {
            if self.parts.health.servers().iter().any(|known| known.name == name) {
                let message = format!("`{name}` is declared in the configuration file");
                return Err(Problem::Conflict { message, hint: "remove it from portcullis.yaml" });
            }
            return Err(Problem::NotFound(format!("there is no server `{name}`")));
        };
        let data = BTreeMap::from([("digest", json!(head.digest))]);
        let entry = self.record(Event::ServerRemoved, Some(&target(name, None)), data).await?;
        let change = Move {
            kind: SERVER_KIND.to_owned(),
            name: name.to_owned(),
            slot: SERVER_SLOT.to_owned(),
            expect: Some(head.digest),
            to: None,
            by: OPERATOR.to_owned(),
            at: self.parts.clock.now(),
        };
        self.applied(Batch { puts: Vec::new(), moves: vec![change] }).await?;
        Ok(ServerChanged { name: name.to_owned(), entry })
    }

    /// Applies a batch; somebody else's change in between is a conflict.
    pub(super) async fn applied(&self, batch: Batch) -> Result<(), Problem> {
        if self.parts.revisions.apply(batch).await? {
            (self.parts.follow)().await;
            return Ok(());
        }
        let message = String::from("it was changed by somebody else meanwhile");
        Err(Problem::Conflict { message, hint: "look again, then repeat" })
    }
}

fn transport(server: &Value) -> &'static str {
    if server.get("url").is_some() { "http" } else { "stdio" }
}
