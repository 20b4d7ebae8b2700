//! The admin API over the real parts. Each group of endpoints has its file; here is what they share: every change is
//! an entry of the ledger before it takes effect, and is not made when it cannot be recorded.

use std::collections::BTreeMap;

use async_trait::async_trait;
use portcullis_core::{CallerKind, Event, Target, TargetKind};
use portcullis_proof::{Actor, Entry};
use serde_json::Value;

use super::{
    AddServer, Api, Approval, ApprovalList, ApprovalQuery, ApprovalVerdict, By, CanaryChanged, CanaryList,
    CheckpointNote, ConnectionList, CreateCanary, CreateGrant, CreateKey, CreatedCanary, CreatedKey,
    Definition, DefinitionDiff, DefinitionList, DefinitionQuery, DefinitionVerdict, EntryList, EntryQuery,
    ErasePerson, ErasedPerson, ExplainQuestion, Explained, Grant, GrantList, Healthz, HeldAbout,
    IndexQuestion, IndexState, Input, Judged, Key, KeyList, KillChanged, KillList, KillQuestion, LedgerPage,
    LedgerSearch, LocalSecretChanged, LocalSecretList, MoveSink, NamedSecret, PersonQuestion, ProofText,
    PutSecret, QuotaList, Reloaded, RemoveCanary, RemoveSecret, RenewSecret, RenewedSecrets,
    RevokeConnection, RevokedConnection, SealRotate, SealRotated, SealShred, SealStatus, SecretUses,
    ServerChanged, ServerList, SinkChanged, SinkList, Status, TestSink,
};
use crate::{parts::AdminParts, problem::Problem};

/// Who acts through the admin API: whoever holds the token of the data directory.
pub(crate) const OPERATOR: &str = "admin";

/// The admin API over the real parts.
#[derive(Debug)]
pub struct Control {
    pub(super) parts: AdminParts,
    /// One change at a time: what was checked is still true when it is made.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// One kill at a time, which waits for no other change.
    pub(super) killing: tokio::sync::Mutex<()>,
}

impl Control {
    /// Over `parts`.
    #[must_use]
    pub fn new(parts: AdminParts) -> Self {
        Self { parts, changing: tokio::sync::Mutex::default(), killing: tokio::sync::Mutex::default() }
    }

    /// Records a change that is about to be made.
    pub(super) async fn record(
        &self,
        event: Event,
        target: Option<&Target>,
        data: BTreeMap<&str, Value>,
    ) -> Result<u64, Problem> {
        self.record_by(&None, event, target, data).await
    }

    /// Records what somebody does, by who it is: the holder of an API key, or whoever has the token.
    pub(super) async fn record_by(
        &self,
        by: &By,
        event: Event,
        target: Option<&Target>,
        data: BTreeMap<&str, Value>,
    ) -> Result<u64, Problem> {
        let mut entry = Entry::new(event, self.parts.clock.now(), &self.parts.info.instance);
        entry.actor = Some(by.as_deref().map_or(
            Actor {
                id: OPERATOR,
                kind: CallerKind::User,
                proof: "admin_token",
                roles: &[],
                issuer: None,
                token: None,
            },
            Actor::of,
        ));
        entry.target = target;
        entry.data = data;
        Ok(self.parts.ledger.append(entry.to_jcs()).await?.index())
    }
}

/// A server, or something on it.
pub(super) fn target(server: &str, item: Option<(TargetKind, &str)>) -> Target {
    Target { server: server.into(), item: item.map(|(kind, name)| (kind, name.into())), digest: None }
}

/// A name that can stand in lists, logs and URLs.
pub(super) fn checked_name<'n>(what: &str, name: &'n str) -> Result<&'n str, Problem> {
    let good = !name.is_empty() && name.len() <= 2_048 && !name.chars().any(char::is_control);
    if good {
        return Ok(name);
    }
    Err(Problem::invalid(
        format!("{what} must have 1 to 2048 bytes and no control characters"),
        "choose another name",
    ))
}

#[async_trait]
impl Api for Control {
    async fn healthz(&self) -> Result<Healthz, Problem> {
        Ok(self.health())
    }

    async fn metrics(&self) -> Result<String, Problem> {
        Ok((self.parts.metrics)())
    }

    async fn openapi(&self) -> Result<Value, Problem> {
        Ok(super::openapi_document(&self.parts.info.version))
    }

    async fn status(&self) -> Result<Status, Problem> {
        Ok(self.facts())
    }

    async fn list_keys(&self) -> Result<KeyList, Problem> {
        self.keys().await
    }

    async fn create_key(&self, question: CreateKey) -> Result<CreatedKey, Problem> {
        self.new_key(question).await
    }

    async fn seal_status(&self) -> Result<SealStatus, Problem> {
        self.sealing().await
    }

    async fn rotate_seal_keys(&self, question: SealRotate) -> Result<SealRotated, Problem> {
        self.rotate_seal(question).await
    }

    async fn shred_everything(&self, question: SealShred) -> Result<SealRotated, Problem> {
        self.shred(question).await
    }

    async fn list_sinks(&self) -> Result<SinkList, Problem> {
        Ok(self.sinks())
    }

    async fn move_sink(&self, question: MoveSink) -> Result<SinkChanged, Problem> {
        self.send_on(question).await
    }

    async fn test_sink(&self, question: TestSink) -> Result<SinkChanged, Problem> {
        self.try_sink(question).await
    }

    async fn list_secrets(&self) -> Result<LocalSecretList, Problem> {
        self.local_secrets().await
    }

    async fn put_secret(&self, question: PutSecret) -> Result<LocalSecretChanged, Problem> {
        self.keep_secret(question).await
    }

    async fn remove_secret(&self, question: RemoveSecret) -> Result<LocalSecretChanged, Problem> {
        self.drop_secret(question).await
    }

    async fn secret_uses(&self, question: NamedSecret) -> Result<SecretUses, Problem> {
        self.who_uses(question).await
    }

    async fn renew_secret(&self, question: RenewSecret) -> Result<RenewedSecrets, Problem> {
        self.renewed(question).await
    }

    async fn list_canaries(&self) -> Result<CanaryList, Problem> {
        self.canaries().await
    }

    async fn create_canary(&self, question: CreateCanary) -> Result<CreatedCanary, Problem> {
        self.plant_canary(question).await
    }

    async fn remove_canary(&self, question: RemoveCanary) -> Result<CanaryChanged, Problem> {
        self.drop_canary(question).await
    }

    async fn list_connections(&self) -> Result<ConnectionList, Problem> {
        self.all_connections().await
    }

    async fn revoke_connection(&self, question: RevokeConnection) -> Result<RevokedConnection, Problem> {
        self.end_connection(question).await
    }

    async fn revoke_key(&self, question: String) -> Result<Key, Problem> {
        self.end_key(&question).await
    }

    async fn list_grants(&self) -> Result<GrantList, Problem> {
        self.grants().await
    }

    async fn create_grant(&self, question: CreateGrant) -> Result<Grant, Problem> {
        self.new_grant(question).await
    }

    async fn revoke_grant(&self, question: String) -> Result<Grant, Problem> {
        self.end_grant(&question).await
    }

    async fn list_quotas(&self) -> Result<QuotaList, Problem> {
        self.quota_states().await
    }

    async fn list_servers(&self) -> Result<ServerList, Problem> {
        Ok(ServerList { servers: self.parts.health.servers() })
    }

    async fn add_server(&self, question: AddServer) -> Result<ServerChanged, Problem> {
        self.new_server(question).await
    }

    async fn remove_server(&self, question: String) -> Result<ServerChanged, Problem> {
        self.end_server(&question).await
    }

    async fn list_definitions(&self, question: DefinitionQuery) -> Result<DefinitionList, Problem> {
        self.definitions(&question).await
    }

    async fn show_definition(&self, question: DefinitionQuery) -> Result<Definition, Problem> {
        self.definition(&question).await
    }

    async fn diff_definition(&self, question: DefinitionQuery) -> Result<DefinitionDiff, Problem> {
        self.difference(&question).await
    }

    async fn approve_definition(&self, question: DefinitionVerdict) -> Result<Judged, Problem> {
        self.approve(&question).await
    }

    async fn reject_definition(&self, question: DefinitionVerdict) -> Result<Judged, Problem> {
        self.reject(&question).await
    }

    async fn list_approvals(&self, question: (By, ApprovalQuery)) -> Result<ApprovalList, Problem> {
        self.approvals(question).await
    }

    async fn show_approval(&self, question: (By, String)) -> Result<Approval, Problem> {
        self.approval(question).await
    }

    async fn approve_call(&self, question: (By, ApprovalVerdict)) -> Result<Approval, Problem> {
        self.verdict(question, true).await
    }

    async fn deny_call(&self, question: (By, ApprovalVerdict)) -> Result<Approval, Problem> {
        self.verdict(question, false).await
    }

    async fn answer_by_hook(&self, message: Input) -> Result<Approval, Problem> {
        self.hook_verdict(message).await
    }

    async fn list_kills(&self) -> Result<KillList, Problem> {
        self.kills().await
    }

    async fn kill(&self, question: KillQuestion) -> Result<KillChanged, Problem> {
        self.stop(question).await
    }

    async fn unkill(&self, question: KillQuestion) -> Result<KillChanged, Problem> {
        self.let_go_on(question).await
    }

    async fn explain_policy(&self, question: ExplainQuestion) -> Result<Explained, Problem> {
        self.explain(question).await
    }

    async fn find_person(&self, question: PersonQuestion) -> Result<HeldAbout, Problem> {
        self.held_about(&question.subject).await
    }

    async fn erase_person(&self, question: ErasePerson) -> Result<ErasedPerson, Problem> {
        self.erase(question).await
    }

    async fn list_entries(&self, question: EntryQuery) -> Result<EntryList, Problem> {
        self.entries(&question).await
    }

    async fn search_ledger(&self, question: (By, LedgerSearch)) -> Result<LedgerPage, Problem> {
        self.search(question).await
    }

    async fn index_state(&self, question: IndexQuestion) -> Result<IndexState, Problem> {
        self.index(&question).await
    }

    async fn rebuild_index(&self) -> Result<IndexState, Problem> {
        self.index_anew().await
    }

    async fn sign_checkpoint(&self) -> Result<CheckpointNote, Problem> {
        let checkpoint = self.parts.ledger.checkpoint().await?;
        Ok(CheckpointNote { checkpoint, vkey: self.parts.info.vkey.clone() })
    }

    async fn prove_entry(&self, question: String) -> Result<ProofText, Problem> {
        self.proof(&question).await
    }

    async fn reload_config(&self) -> Result<Reloaded, Problem> {
        match (self.parts.reload)().await {
            Ok(summary) => Ok(Reloaded { summary }),
            Err(mistakes) => Err(Problem::ConfigRefused(mistakes.join("\n"))),
        }
    }
}
