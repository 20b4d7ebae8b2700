//! Whose calls reach a server: what the policy says of every API key and every role, for whatever the server offers.

use std::{collections::BTreeSet, sync::Arc};

use portcullis_core::{Action, Caller, CallerKind, Proof, Scope, Target, TargetKind};
use portcullis_policy::{Policies, Verdict};
use portcullis_store::definitions;

use super::{Control, SecretUser};
use crate::problem::Problem;

/// Definitions of a server that are asked about.
const ITEMS_MAX: usize = 2_000;

impl Control {
    /// Everybody who may have a call forwarded to the server.
    pub(super) async fn users_of(&self, server: &str) -> Result<Vec<SecretUser>, Problem> {
        let targets = self.offered(server).await?;
        let policies = (self.parts.policies)();
        let now = self.parts.clock.now();
        let mut users = Vec::new();
        for row in self.parts.keys.list().await?.into_iter().filter(|row| row.valid(now)) {
            let (id, proof) = (format!("key:{}", row.id), Proof::ApiKey { key_id: row.id.clone() });
            let granted = self.parts.grants.of(&id, now);
            let granted = granted.iter().map(|row| row.grant.role.clone());
            let roles: BTreeSet<String> = row.roles.iter().cloned().chain(granted).collect();
            let caller = made_up(&id, (row.kind, proof), roles, row.servers.clone());
            let Some(verdict) = best(&policies, &caller, &targets, server) else { continue };
            users.push(SecretUser {
                kind: "key".to_owned(),
                id: row.id.clone(),
                name: Some(row.name.clone()),
                verdict,
            });
        }
        for role in (self.parts.roles)() {
            let roles = BTreeSet::from([role.clone()]);
            let caller = made_up("made-up", (CallerKind::User, Proof::Anonymous), roles, Scope::All);
            let Some(verdict) = best(&policies, &caller, &targets, server) else { continue };
            users.push(SecretUser { kind: "role".to_owned(), id: role, name: None, verdict });
        }
        Ok(users)
    }

    /// What the server offers, with what is done with it.
    async fn offered(&self, server: &str) -> Result<Vec<(Action, Target)>, Problem> {
        let own: Arc<str> = Arc::from(server);
        let mut targets = Vec::new();
        for kind in TargetKind::ALL {
            let action = match kind {
                TargetKind::Tool => Action::CallTool,
                TargetKind::Prompt => Action::GetPrompt,
                TargetKind::Resource | TargetKind::Template => Action::ReadResource,
            };
            for head in self.parts.revisions.heads(kind.name()).await? {
                let Some((of, name)) = definitions::split(&head.name) else { continue };
                if of == server && head.slot == definitions::PINNED && targets.len() < ITEMS_MAX {
                    let item = Some((*kind, Arc::from(name)));
                    targets
                        .push((action, Target { server: Arc::clone(&own), item, digest: Some(head.digest) }));
                }
            }
        }
        Ok(targets)
    }
}

fn made_up(id: &str, (kind, proof): (CallerKind, Proof), roles: BTreeSet<String>, servers: Scope) -> Caller {
    Caller {
        id: id.into(),
        kind,
        proof,
        roles: roles.into_iter().collect::<Vec<_>>().into(),
        servers,
        scopes: Vec::new(),
        claims: None,
        actors: Arc::from([]),
        expires: None,
    }
}

/// The most that the policy says of any of them; nothing where it says no to all, and to a connection.
fn best(policies: &Policies, caller: &Caller, targets: &[(Action, Target)], server: &str) -> Option<String> {
    if !caller.servers.reaches(server) {
        return None;
    }
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Allow => Some((3, "allow")),
        Verdict::Approval => Some((2, "approval")),
        Verdict::Depends(_) => Some((1, "depends")),
        Verdict::Deny => None,
    };
    let whole = Target { server: Arc::from(server), item: None, digest: None };
    let connects = rank(&policies.verdict(caller, Action::Connect, &whole, None));
    let mut most = connects.map(|_| (0, "connect"));
    for (action, target) in targets {
        most = most.max(rank(&policies.verdict(caller, *action, target, None)));
        if most.is_some_and(|(rank, _)| rank == 3) {
            break;
        }
    }
    most.map(|(_, word)| word.to_owned())
}
