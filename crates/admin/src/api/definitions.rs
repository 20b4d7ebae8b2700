//! Definitions: what servers offer, what people approved, and what changed. The convention of the slots is the
//! store's (`definitions`), shared with the data plane.

use std::collections::BTreeMap;

use portcullis_core::{Digest, Event, TargetKind};
use portcullis_store::{
    Batch, Move,
    definitions::{self, Heads, Standing},
};
use serde_json::{Value, json};

use super::{
    Control,
    control::{OPERATOR, target},
};
use crate::{problem::Problem, wire::wire};

wire! { question
    /// Which definitions. `show` and `diff` need server and name.
    DefinitionQuery {
        /// `tool` (the default for one definition), `prompt`, `resource` or `template`.
        kind: Option<String>,
        /// The server.
        server: Option<String>,
        /// Name or URI.
        name: Option<String>,
        /// `approved`, `changed`, `pending`, `rejected` or `vanished`.
        state: Option<String>,
    }
}

wire! { answer
    /// One definition in a list.
    DefinitionRow {
        /// `tool`, `prompt`, `resource` or `template`.
        kind: String,
        /// The server.
        server: String,
        /// Name or URI.
        name: String,
        /// `approved`, `changed`, `pending`, `rejected` or `vanished`.
        state: String,
        /// Digest of the approved definition.
        pinned: Option<String>,
        /// Digest of what the server says now.
        observed: Option<String>,
    }
}

wire! { answer
    /// Definitions.
    DefinitionList {
        /// By kind, server and name.
        definitions: Vec<DefinitionRow>,
    }
}

wire! { answer
    /// One definition, whole.
    Definition {
        /// Where it stands.
        row: DefinitionRow,
        /// The approved definition, as the server wrote it.
        pinned: Option<Value>,
        /// What the server says now, where it differs from the approved one.
        observed: Option<Value>,
    }
}

wire! { answer
    /// What the server changed.
    DefinitionDiff {
        /// Where it stands.
        row: DefinitionRow,
        /// Member by member.
        changes: Vec<Change>,
    }
}

wire! { answer
    /// One changed member.
    Change {
        /// Where (RFC 6901).
        pointer: String,
        /// JSON before; null when it was not there.
        before: Option<String>,
        /// JSON after; null when it is gone.
        after: Option<String>,
    }
}

wire! { question
    /// A person's decision on a definition.
    DefinitionVerdict {
        /// `tool` (the default), `prompt`, `resource` or `template`.
        kind: Option<String>,
        /// The server.
        server: String,
        /// Name or URI.
        name: String,
        /// Digest of what the person looked at; the decision fails when the server says something else by now.
        digest: Option<String>,
    }
}

wire! { answer
    /// A decision was made.
    Judged {
        /// Where the definition stands now.
        row: DefinitionRow,
        /// Index of the ledger entry.
        entry: u64,
    }
}

fn kind_of(kind: Option<&str>) -> Result<TargetKind, Problem> {
    let kind = kind.unwrap_or("tool");
    TargetKind::named(kind).ok_or_else(|| {
        Problem::invalid(format!("unknown kind `{kind}`"), "write tool, prompt, resource or template")
    })
}

/// One definition and where its heads stand.
#[derive(Debug)]
struct Found {
    kind: TargetKind,
    server: String,
    name: String,
    heads: Heads,
    standing: Standing,
}

impl Found {
    fn row(&self) -> DefinitionRow {
        DefinitionRow {
            kind: self.kind.name().to_owned(),
            server: self.server.clone(),
            name: self.name.clone(),
            state: self.standing.name().to_owned(),
            pinned: self.heads.pinned.map(|digest| digest.to_string()),
            observed: self.heads.observed.map(|digest| digest.to_string()),
        }
    }

    fn revision(&self) -> String {
        definitions::name(&self.server, &self.name)
    }

    fn moved(
        &self,
        slot: &str,
        expect: Option<Digest>,
        to: Option<Digest>,
        at: portcullis_core::Timestamp,
    ) -> Move {
        let (kind, name, slot) = (self.kind.name().to_owned(), self.revision(), slot.to_owned());
        Move { kind, name, slot, expect, to, by: OPERATOR.to_owned(), at }
    }
}

impl Control {
    pub(super) async fn definitions(&self, query: &DefinitionQuery) -> Result<DefinitionList, Problem> {
        let kinds = match &query.kind {
            Some(kind) => vec![kind_of(Some(kind))?],
            None => TargetKind::ALL.to_vec(),
        };
        let wanted = |want: &Option<String>, have: &str| want.as_ref().is_none_or(|want| want == have);
        let mut rows = Vec::new();
        for kind in kinds {
            let mut found: BTreeMap<(String, String), Heads> = BTreeMap::new();
            for head in self.parts.revisions.heads(kind.name()).await? {
                let Some((server, name)) = definitions::split(&head.name) else { continue };
                if wanted(&query.server, server) && wanted(&query.name, name) {
                    found
                        .entry((server.to_owned(), name.to_owned()))
                        .or_default()
                        .set(&head.slot, head.digest);
                }
            }
            for ((server, name), heads) in found {
                let Some(standing) = heads.standing() else { continue };
                if wanted(&query.state, standing.name()) {
                    rows.push(Found { kind, server, name, heads, standing }.row());
                }
            }
        }
        Ok(DefinitionList { definitions: rows })
    }

    async fn find(
        &self,
        kind: Option<&str>,
        server: Option<&str>,
        name: Option<&str>,
    ) -> Result<Found, Problem> {
        let kind = kind_of(kind)?;
        let (Some(server), Some(name)) = (server, name) else {
            return Err(Problem::invalid("`server` and `name` are required", "write SERVER/NAME"));
        };
        let revision = definitions::name(server, name);
        let mut heads = Heads::default();
        for slot in [definitions::PINNED, definitions::OBSERVED, definitions::REJECTED] {
            if let Some(head) = self.parts.revisions.head(kind.name(), &revision, slot).await? {
                heads.set(slot, head.digest);
            }
        }
        let Some(standing) = heads.standing() else {
            return Err(Problem::NotFound(format!("there is no {kind} `{name}` of `{server}`")));
        };
        Ok(Found { kind, server: server.to_owned(), name: name.to_owned(), heads, standing })
    }

    async fn asked(&self, query: &DefinitionQuery) -> Result<Found, Problem> {
        self.find(query.kind.as_deref(), query.server.as_deref(), query.name.as_deref()).await
    }

    async fn body(&self, found: &Found, digest: Option<Digest>) -> Result<Option<Vec<u8>>, Problem> {
        let Some(digest) = digest else { return Ok(None) };
        let revision = self.parts.revisions.get(found.kind.name(), &found.revision(), digest).await?;
        Ok(revision.map(|revision| revision.body))
    }

    pub(super) async fn definition(&self, query: &DefinitionQuery) -> Result<Definition, Problem> {
        let found = self.asked(query).await?;
        let value = |bytes: Option<Vec<u8>>| {
            bytes.map(|bytes| {
                serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)))
            })
        };
        let pinned = value(self.body(&found, found.heads.pinned).await?);
        let differs = found.heads.observed.filter(|observed| found.heads.pinned != Some(*observed));
        let observed = value(self.body(&found, differs).await?);
        Ok(Definition { row: found.row(), pinned, observed })
    }

    pub(super) async fn difference(&self, query: &DefinitionQuery) -> Result<DefinitionDiff, Problem> {
        let found = self.asked(query).await?;
        let old = self.body(&found, found.heads.pinned).await?.unwrap_or_else(|| b"{}".to_vec());
        let new = self.body(&found, found.heads.observed).await?.unwrap_or_else(|| b"{}".to_vec());
        let changes = portcullis_proof::manifest::diff(&old, &new)
            .into_iter()
            .map(|change| Change { pointer: change.pointer, before: change.before, after: change.after })
            .collect();
        Ok(DefinitionDiff { row: found.row(), changes })
    }

    /// What the server says now, if it is still what the person looked at.
    fn judged(found: &Found, verdict: &DefinitionVerdict) -> Result<Digest, Problem> {
        let Some(observed) = found.heads.observed else {
            let message = format!("`{}` no longer has this {}", found.server, found.kind);
            return Err(Problem::Conflict {
                message,
                hint: "there is nothing to decide until the server offers it again",
            });
        };
        match &verdict.digest {
            None => Ok(observed),
            Some(text) => match text.parse::<Digest>() {
                Ok(digest) if digest == observed => Ok(observed),
                Ok(_) => Err(Problem::Conflict {
                    message: format!("the server says something else by now: {observed}"),
                    hint: "look at it again with `portcullis tool diff`, then decide",
                }),
                Err(error) => Err(Problem::invalid(error.to_string(), "copy it from `portcullis tool show`")),
            },
        }
    }

    async fn decide(
        &self,
        event: Event,
        found: &Found,
        to: Digest,
        moves: Vec<Move>,
    ) -> Result<Judged, Problem> {
        let mut target = target(&found.server, Some((found.kind, &found.name)));
        target.digest = Some(to);
        let data = BTreeMap::from([("before", json!(found.heads.pinned))]);
        let entry = self.record(event, Some(&target), data).await?;
        self.applied(Batch { puts: Vec::new(), moves }).await?;
        let now = self.find(Some(found.kind.name()), Some(&found.server), Some(&found.name)).await?;
        Ok(Judged { row: now.row(), entry })
    }

    pub(super) async fn approve(&self, verdict: &DefinitionVerdict) -> Result<Judged, Problem> {
        let _changing = self.changing.lock().await;
        let found = self.find(verdict.kind.as_deref(), Some(&verdict.server), Some(&verdict.name)).await?;
        let observed = Self::judged(&found, verdict)?;
        let at = self.parts.clock.now();
        let mut moves = vec![found.moved(definitions::PINNED, found.heads.pinned, Some(observed), at)];
        if found.heads.rejected.is_some() {
            moves.push(found.moved(definitions::REJECTED, found.heads.rejected, None, at));
        }
        self.decide(Event::DefinitionApproved, &found, observed, moves).await
    }

    pub(super) async fn reject(&self, verdict: &DefinitionVerdict) -> Result<Judged, Problem> {
        let _changing = self.changing.lock().await;
        let found = self.find(verdict.kind.as_deref(), Some(&verdict.server), Some(&verdict.name)).await?;
        let observed = Self::judged(&found, verdict)?;
        let at = self.parts.clock.now();
        let mut moves = vec![found.moved(definitions::REJECTED, found.heads.rejected, Some(observed), at)];
        // Rejecting what was approved takes the approval back; an older approved definition stays in force otherwise.
        if found.heads.pinned == Some(observed) {
            moves.push(found.moved(definitions::PINNED, found.heads.pinned, None, at));
        }
        self.decide(Event::DefinitionRejected, &found, observed, moves).await
    }
}
