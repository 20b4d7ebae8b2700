//! How the data plane is, for the admin API.

use std::sync::Arc;

use portcullis_admin::{Health, api::servers::ServerState};
use portcullis_connect::auth::{Credentials, Route, key_holder};
use portcullis_core::{Caller, Proof, TargetKind};
use portcullis_proxy::settings::Transport;
use portcullis_store::Involved;

use super::start::Core;

/// Who holds an API key, with the roles of now; nobody where it is not valid, or its caller was stopped.
pub(crate) fn holder(core: &Core, key: &str) -> Option<Arc<Caller>> {
    let rules = core.gateway.rules.load();
    let credentials = Credentials { bearer: Some(key), method: "POST", ..Credentials::default() };
    let caller = rules.auth.try_now(&credentials, &Route::at(""))?.ok()?;
    standing(core, Some(caller).filter(|caller| matches!(caller.proof, Proof::ApiKey { .. }))?)
}

/// The same by the id of the key, for chat systems.
pub(crate) fn person(core: &Core, id: &str) -> Option<Arc<Caller>> {
    if !core.config.load().settings.identities.api_keys {
        return None;
    }
    let row = core.keys.find(id)?;
    standing(core, Arc::new(key_holder(&row, core.gateway.clock.now())?))
}

fn standing(core: &Core, caller: Arc<Caller>) -> Option<Arc<Caller>> {
    let gateway = &core.gateway;
    let involved = Involved { caller: &caller.id, ..Involved::default() };
    if gateway.kills.kills().stops(&involved).is_some() {
        return None;
    }
    Some(portcullis_usage::granted(&*gateway.usage.grants, caller, gateway.clock.now()).0)
}

#[derive(Debug)]
pub(crate) struct Facts(pub(crate) Arc<Core>);

impl Health for Facts {
    fn servers(&self) -> Vec<ServerState> {
        let rules = self.0.gateway.rules.load();
        let config = self.0.config.load();
        let state = |(name, server): (&String, &Arc<portcullis_proxy::rules::Server>)| {
            let error = server.catalog.error();
            let asked = TargetKind::ALL.iter().any(|kind| server.catalog.age_us(*kind).is_some());
            let state = match (&error, asked) {
                (Some(_), _) => "failing",
                (None, true) => "ready",
                (None, false) => "starting",
            };
            let (transport, place) = match &server.settings.transport {
                // Without query and user information: either may carry a credential.
                Transport::Http { url, .. } => {
                    ("http", format!("{}{}", url.origin().ascii_serialization(), url.path()))
                }
                Transport::LegacySse { url, .. } => {
                    ("legacy_sse", format!("{}{}", url.origin().ascii_serialization(), url.path()))
                }
                Transport::Stdio { program, .. } => ("stdio", program.program.clone()),
                Transport::Group => ("group", String::new()),
            };
            let sandbox = match &server.settings.transport {
                Transport::Group | Transport::Http { .. } | Transport::LegacySse { .. } => None,
                Transport::Stdio { sandbox: None, .. } => Some("off".to_owned()),
                Transport::Stdio { sandbox: Some(sandbox), .. } => {
                    Some(super::sandbox::state(&sandbox.confinement))
                }
            };
            let declared = config.settings.servers.contains_key(name) || name == super::judge::SAMPLE;
            ServerState {
                name: name.clone(),
                transport: transport.to_owned(),
                source: if declared { "file" } else { "runtime" }.to_owned(),
                state: state.to_owned(),
                place,
                revisions: server.catalog.versions().to_vec(),
                sandbox,
                error: error.or_else(|| server.catalog.unusable()),
            }
        };
        rules.servers.iter().map(state).collect()
    }

    fn leads_somewhere(&self, server: &str) -> bool {
        self.0.gateway.rules.load().route(server).is_some()
    }

    fn ready(&self) -> bool {
        self.0.ledger.status().healthy
    }
}

/// How many sessions a caller has; with `end` they end, and what they have seen is forgotten.
pub(super) fn sessions(core: &Core, caller: &str, end: bool) -> u64 {
    let gateway = &core.gateway;
    if end {
        gateway.usage.seen.forget(caller);
    }
    gateway.sessions.of_caller(caller, end)
}
