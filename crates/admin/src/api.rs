//! The admin API as one trait and one table: the router, the OpenAPI document, the access matrix and the client of
//! the command line are made from the rows.

mod approvals;
mod canaries;
mod connections;
mod control;
mod definitions;
mod grants;
mod keys;
mod kills;
mod ledger;
mod openapi;
mod policy;
mod privacy;
mod seal;
mod search;
mod secrets;
pub mod servers;
mod sinks;
mod status;
mod users;

use std::{future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;
use portcullis_approve::Signature;
use portcullis_core::Caller;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use self::{
    approvals::{
        Approval, ApprovalAnswer, ApprovalFinding, ApprovalList, ApprovalQuery, ApprovalSaid, ApprovalVerdict,
    },
    canaries::{Canary, CanaryChanged, CanaryList, CanaryValue, CreateCanary, CreatedCanary, RemoveCanary},
    connections::{Connection, ConnectionList, RevokeConnection, RevokedConnection},
    control::Control,
    definitions::{
        Change, Definition, DefinitionDiff, DefinitionList, DefinitionQuery, DefinitionRow,
        DefinitionVerdict, Judged,
    },
    grants::{CreateGrant, Grant, GrantList, QuotaList},
    keys::{CreateKey, CreatedKey, Key, KeyList},
    kills::{Kill, KillChanged, KillList, KillQuestion},
    ledger::{CheckpointNote, EntryList, EntryQuery, LedgerEntry, ProofText},
    openapi::document as openapi_document,
    policy::{ExplainQuestion, Explained},
    privacy::{AskedApproval, ErasePerson, ErasedPerson, HeldAbout, PersonQuestion, TokenKey},
    seal::{SealKey, SealRotate, SealRotated, SealShred, SealStatus},
    search::{IndexQuestion, IndexState, LedgerPage, LedgerSearch},
    secrets::{
        LocalSecret, LocalSecretChanged, LocalSecretList, NamedSecret, PutSecret, RemoveSecret, RenewSecret,
        RenewedSecret, RenewedSecrets, SecretUse, SecretUser, SecretUses,
    },
    servers::{AddServer, ServerChanged, ServerList, ServerState},
    sinks::{MoveSink, Sink, SinkChanged, SinkList, TestSink},
    status::{Healthz, LedgerHealth, Reloaded, Status},
};
use crate::{problem::Problem, wire::Described};

/// Who may use an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever has the token, or an API key of this gateway: people who answer questions.
    Key,
    /// Whoever has the token; everybody on this machine where configuration says so.
    Metrics,
    /// Whoever can sign as a chat system that configuration names; looked at where the body is.
    Signed,
    /// Everybody on this machine.
    Open,
    /// Whoever has the token.
    Token,
}

/// Who asks, where it matters: the holder of an API key; nobody for whoever has the token.
pub type By = Option<Arc<Caller>>;

/// What an endpoint is asked: the last part of the path, the query and the body.
#[derive(Debug, Default)]
pub struct Input {
    /// The variable part of the path, decoded.
    pub path: String,
    /// The query string.
    pub query: String,
    /// The body.
    pub body: Vec<u8>,
    /// Who asks.
    pub by: By,
    /// The headers of a signed message.
    pub signature: Signature,
}

impl Input {
    fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let uri = axum::http::Uri::builder().path_and_query(format!("/?{}", self.query)).build();
        let uri = uri.map_err(|error| {
            Problem::invalid(format!("the query is not valid: {error}"), "see /openapi.json")
        })?;
        match axum::extract::Query::<T>::try_from_uri(&uri) {
            Ok(axum::extract::Query(query)) => Ok(query),
            Err(error) => Err(Problem::invalid(error.body_text(), "see /openapi.json for the parameters")),
        }
    }

    fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Problem::invalid(format!("the body does not fit: {error}"), "see /openapi.json for its form")
        })
    }
}

/// What an endpoint answers.
#[derive(Debug)]
pub enum Reply {
    /// JSON.
    Json(Value),
    /// JSON with a status of its own.
    Status(u16, Value),
    /// Plain text.
    Text(String),
}

fn json<T: Serialize>(answer: &T) -> Result<Reply, Problem> {
    serde_json::to_value(answer).map(Reply::Json).map_err(|error| Problem::Store(error.to_string()))
}

/// Answers one call of an endpoint.
pub type Call = fn(Arc<dyn Api>, Input) -> Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>>;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// HTTP method.
    pub method: &'static str,
    /// Path; at most one variable part, the last.
    pub path: &'static str,
    /// Stable name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Schema of the query parameters.
    pub query: Option<fn() -> Value>,
    /// Schema of the body.
    pub body: Option<fn() -> Value>,
    /// Schema of the answer; `None` for plain text.
    pub answer: Option<fn() -> Value>,
    /// Does it.
    pub call: Call,
}

macro_rules! endpoints {
    ($($(#[doc = $doc:literal])+ $method:ident $path:literal $name:ident($($kind:ident $($question:ty)?)?) $access:ident -> $answer:ident;)+) => {
        /// The admin API: one method per endpoint.
        #[async_trait]
        pub trait Api: Send + Sync {
            $($(#[doc = $doc])+
            async fn $name(&self $(, question: endpoints!(@type $kind $($question)?))?) -> Result<endpoints!(@answer $answer), Problem>;)+
        }

        /// Every endpoint.
        pub const ENDPOINTS: &[Endpoint] = &[$(Endpoint {
            method: stringify!($method),
            path: $path,
            name: stringify!($name),
            doc: concat!($($doc, "\n"),+),
            access: Access::$access,
            query: endpoints!(@query $($kind $($question)?)?),
            body: endpoints!(@body $($kind $($question)?)?),
            answer: endpoints!(@schema $answer),
            call: |api, input| Box::pin(async move {
                let _ = &input;
                let answer = api.$name($(endpoints!(@read input $kind $($question)?))?).await?;
                endpoints!(@reply answer $answer)
            }),
        }),+];
    };
    (@type path) => { String };
    (@type signed $question:ty) => { Input };
    (@type by_path) => { (By, String) };
    (@type by_body $question:ty) => { (By, $question) };
    (@type by_query $question:ty) => { (By, $question) };
    (@type $kind:ident $question:ty) => { $question };
    (@answer Text) => { String };
    (@answer $answer:ident) => { $answer };
    (@query query $question:ty) => { Some(<$question as Described>::schema) };
    (@query by_query $question:ty) => { Some(<$question as Described>::schema) };
    (@query $($other:tt)*) => { None };
    (@body body $question:ty) => { Some(<$question as Described>::schema) };
    (@body signed $question:ty) => { Some(<$question as Described>::schema) };
    (@body by_body $question:ty) => { Some(<$question as Described>::schema) };
    (@body $($other:tt)*) => { None };
    (@schema Text) => { None };
    (@schema $answer:ident) => { Some(<$answer as Described>::schema) };
    (@read $input:ident path) => { $input.path };
    (@read $input:ident signed $question:ty) => { $input };
    (@read $input:ident by_path) => { ($input.by, $input.path) };
    (@read $input:ident by_query $question:ty) => { ($input.by.clone(), $input.query::<$question>()?) };
    (@read $input:ident by_body $question:ty) => { ($input.by.clone(), $input.body::<$question>()?) };
    (@read $input:ident query $question:ty) => { $input.query::<$question>()? };
    (@read $input:ident body $question:ty) => { $input.body::<$question>()? };
    (@reply $answer:ident Text) => { Ok(Reply::Text($answer)) };
    (@reply $answer:ident Healthz) => { $answer.reply() };
    (@reply $answer:ident $type:ident) => { json(&$answer) };
}

endpoints! {
    /// How the gateway is; status 503 while it cannot take calls.
    GET "/healthz" healthz() Open -> Healthz;
    /// Metrics in the OpenMetrics text format.
    GET "/metrics" metrics() Metrics -> Text;
    /// This document.
    GET "/openapi.json" openapi() Open -> Value;
    /// What runs, and with what.
    GET "/v1/status" status() Token -> Status;
    /// Every API key, revoked and expired ones too. Never the keys themselves.
    GET "/v1/keys" list_keys() Token -> KeyList;
    /// Creates an API key. Its text is in this answer and nowhere else.
    POST "/v1/keys" create_key(body CreateKey) Token -> CreatedKey;
    /// Revokes an API key, with effect on the next request.
    DELETE "/v1/keys/{id}" revoke_key(path) Token -> Key;
    /// Roles that callers have or had for a time.
    GET "/v1/grants" list_grants() Token -> GrantList;
    /// Gives a caller a role for a time, with effect on the next request.
    POST "/v1/grants" create_grant(body CreateGrant) Token -> Grant;
    /// Revokes a grant, with effect on the next request.
    DELETE "/v1/grants/{id}" revoke_grant(path) Token -> Grant;
    /// What was used of each quota.
    GET "/v1/quotas" list_quotas() Token -> QuotaList;
    /// Every secret that the gateway keeps itself, without its value.
    GET "/v1/secrets" list_secrets() Token -> LocalSecretList;
    /// Seals a value and keeps it under a name; it takes the place of one that was there.
    POST "/v1/secrets" put_secret(body PutSecret) Token -> LocalSecretChanged;
    /// Takes a secret out of use.
    POST "/v1/secrets/remove" remove_secret(body RemoveSecret) Token -> LocalSecretChanged;
    /// Where a secret stands, and which callers would have it joined to their calls. Never its value.
    GET "/v1/secrets/uses" secret_uses(query NamedSecret) Token -> SecretUses;
    /// Fetches a secret anew, or has its source make a new value; for `local:` it takes a new value.
    POST "/v1/secrets/renew" renew_secret(body RenewSecret) Token -> RenewedSecrets;
    /// Every credential that was planted, without its value.
    GET "/v1/canaries" list_canaries() Token -> CanaryList;
    /// Plants a credential whose appearance raises an alarm. A value that was made is in this answer and nowhere else.
    POST "/v1/canaries" create_canary(body CreateCanary) Token -> CreatedCanary;
    /// Does not look for a planted credential any more.
    POST "/v1/canaries/remove" remove_canary(body RemoveCanary) Token -> CanaryChanged;
    /// How encryption at rest stands: data keys, what wraps them, and what the newest has not sealed yet.
    GET "/v1/seal" seal_status() Token -> SealStatus;
    /// A step of a rotation of keys. Each can be repeated, and goes on where one before it stopped.
    POST "/v1/seal/rotate" rotate_seal_keys(body SealRotate) Token -> SealRotated;
    /// Destroys every data key: what is sealed can never be read again, and no API key counts any more.
    POST "/v1/seal/shred" shred_everything(body SealShred) Token -> SealRotated;
    /// Where ledger entries go beside the ledger, and how each of these is.
    GET "/v1/sinks" list_sinks() Token -> SinkList;
    /// Has a sink go on at another entry, so that what comes after it is delivered, again where it was before.
    POST "/v1/sinks/move" move_sink(body MoveSink) Token -> SinkChanged;
    /// Writes an entry, and waits up to 20 seconds until the sink is past it.
    POST "/v1/sinks/test" test_sink(body TestSink) Token -> SinkChanged;
    /// Every connection of a caller to a server, without its tokens.
    GET "/v1/connections" list_connections() Token -> ConnectionList;
    /// Ends a connection: the authorization server is told, and the tokens are forgotten.
    POST "/v1/connections/revoke" revoke_connection(body RevokeConnection) Token -> RevokedConnection;
    /// Every server behind the gateway.
    GET "/v1/servers" list_servers() Token -> ServerList;
    /// Adds a server at run time.
    POST "/v1/servers" add_server(body AddServer) Token -> ServerChanged;
    /// Removes a server that was added at run time.
    DELETE "/v1/servers/{name}" remove_server(path) Token -> ServerChanged;
    /// Tools, prompts, resources and templates, and how each stands.
    GET "/v1/definitions" list_definitions(query DefinitionQuery) Token -> DefinitionList;
    /// One definition: what is approved and what the server says now.
    GET "/v1/definitions/show" show_definition(query DefinitionQuery) Token -> Definition;
    /// What the server changed since the definition was approved.
    GET "/v1/definitions/diff" diff_definition(query DefinitionQuery) Token -> DefinitionDiff;
    /// Approves what the server says now.
    POST "/v1/definitions/approve" approve_definition(body DefinitionVerdict) Token -> Judged;
    /// Rejects what the server says now; calls to it are refused.
    POST "/v1/definitions/reject" reject_definition(body DefinitionVerdict) Token -> Judged;
    /// Calls that wait for people; with an API key, those that its holder may answer or has asked.
    GET "/v1/approvals" list_approvals(by_query ApprovalQuery) Key -> ApprovalList;
    /// One call that waits for people.
    GET "/v1/approvals/{id}" show_approval(by_path) Key -> Approval;
    /// Says yes to exactly this call, once. Only with an API key that has the roles the policy names.
    POST "/v1/approvals/approve" approve_call(by_body ApprovalVerdict) Key -> Approval;
    /// Says no: the same call is refused until the question ends. Only with an API key that has the roles.
    POST "/v1/approvals/deny" deny_call(by_body ApprovalVerdict) Key -> Approval;
    /// Says yes or no for a user of a chat system, whose message it signs (Standard Webhooks), each message once.
    POST "/v1/approvals/answer/{hook}" answer_by_hook(signed ApprovalAnswer) Signed -> Approval;
    /// Everything that is stopped.
    GET "/v1/kills" list_kills() Token -> KillList;
    /// Stops a caller, session, server, tool or everything, at once: open streams and running calls end.
    POST "/v1/kills" kill(body KillQuestion) Token -> KillChanged;
    /// Lets go on what was stopped.
    POST "/v1/kills/lift" unkill(body KillQuestion) Token -> KillChanged;
    /// Decides without calling: who would be allowed what, and which policy says so.
    POST "/v1/policy/explain" explain_policy(body ExplainQuestion) Token -> Explained;
    /// What is held about a person, beside the ledger. The search is recorded, without the person's name.
    POST "/v1/privacy/find" find_person(body PersonQuestion) Token -> HeldAbout;
    /// Destroys the keys of a person's tokens and removes what is held about the person; recorded before.
    POST "/v1/privacy/erase" erase_person(body ErasePerson) Token -> ErasedPerson;
    /// Ledger entries, filtered; with `wait_ms` the answer waits for a new one.
    GET "/v1/ledger/entries" list_entries(query EntryQuery) Token -> EntryList;
    /// Searches the ledger by its index, a page at a time. The search is recorded before its answer goes out. With an API
    /// key, only for holders of a role in `ledger.readers`.
    GET "/v1/ledger/search" search_ledger(by_query LedgerSearch) Key -> LedgerPage;
    /// How far the index of the ledger is.
    GET "/v1/ledger/index" index_state(query IndexQuestion) Token -> IndexState;
    /// Makes the index of the ledger anew; it is filled behind the ledger.
    POST "/v1/ledger/index/rebuild" rebuild_index() Token -> IndexState;
    /// A signed checkpoint over everything that is durable now, and the key to verify it.
    POST "/v1/ledger/checkpoint" sign_checkpoint() Token -> CheckpointNote;
    /// The offline proof (`.tlog-proof`) that an entry is in the ledger.
    GET "/v1/ledger/proof/{index}" prove_entry(path) Token -> ProofText;
    /// Applies the configuration file again, whole or not at all.
    POST "/v1/config/reload" reload_config() Token -> Reloaded;
}
