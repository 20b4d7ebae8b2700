//! What the control plane gets of the rest, as closures and traits.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Context as _;
use portcullis_admin::{AdminParts, FreshKey, GatewayInfo};
use portcullis_config::Config;
use portcullis_connect::auth::new_api_key;
use portcullis_core::{Entropy, Secret};

use super::{
    authorization::Book, compile, health, health::Facts, quotas, reload, secret_book::OwnBook, sinks,
    start::Core, watch,
};

/// All that the admin API works with.
pub(super) fn parts(
    core: &Arc<Core>,
    token: &Secret<Vec<u8>>,
    entropy: Arc<dyn Entropy>,
    info: GatewayInfo,
) -> anyhow::Result<AdminParts> {
    let token = String::from_utf8(token.expose().clone()).context("admin.token is not text")?;
    let config = core.config.load();
    let follower = Arc::clone(core);
    let (policies, roles, metrics, reloader) =
        (Arc::clone(core), Arc::clone(core), Arc::clone(core), Arc::clone(core));
    let (base, counting, holding) = (Arc::clone(core), Arc::clone(core), Arc::clone(core));
    let (people, sessions) = (Arc::clone(core), Arc::clone(core));
    let ring = Arc::clone(core.world.keyring.ring());
    Ok(AdminParts {
        ledger: Arc::clone(&core.ledger),
        keys: Arc::clone(&core.keys),
        grants: Arc::clone(&core.gateway.usage.grants),
        quotas: Arc::new(move || quotas::states(Arc::clone(&counting))),
        connections: Arc::new(Book(Arc::clone(core))),
        keyring: Arc::clone(&core.world.keyring),
        secrets: Arc::new(OwnBook(Arc::clone(core))),
        sinks: Arc::new(sinks::Book(Arc::clone(core))),
        searching: super::forensics::searching(core, &info.vkey)?,
        canaries: Arc::new(core.world.canaries.clone()),
        revisions: Arc::clone(&core.revisions),
        kills: Arc::clone(&core.gateway.kills),
        approvals: Arc::clone(&core.gateway.approvals),
        subjects: Arc::clone(&core.world.subjects),
        subject_of: Arc::new(move |who| {
            let index = people.world.keyring.ring().index()?;
            Some(portcullis_inspect::subject_of(index.expose(), who))
        }),
        sessions: Arc::new(move |caller, end| health::sessions(&sessions, caller, end)),
        holder: Arc::new(move |key| health::holder(&holding, key)),
        fresh_key: Arc::new(move || {
            let (text, id, hash) = new_api_key(&*entropy, &ring.index()?);
            Some(FreshKey { text, id, hash })
        }),
        policies: Arc::new(move || Arc::clone(&policies.gateway.rules.load().policy)),
        roles: Arc::new(move || role_names(&roles.config.load())),
        health: Arc::new(Facts(Arc::clone(core))),
        metrics: Arc::new(move || metrics.telemetry.render()),
        metrics_public: config.settings.telemetry.metrics_public,
        follow: Arc::new(move || {
            let core = Arc::clone(&follower);
            Box::pin(async move { watch::follow_store(&core).await })
        }),
        reload: Arc::new(move || {
            let core = Arc::clone(&reloader);
            Box::pin(async move { reload::reload(&core).await })
        }),
        check_server: Arc::new(move |name, server| {
            let (core, name, server) = (Arc::clone(&base), name.to_owned(), server.clone());
            Box::pin(async move {
                compile::check_server(&core.config.load_full(), &core.world, &name, &server).await
            })
        }),
        clock: Arc::clone(&core.gateway.clock),
        limits: config.settings.limits.clone(),
        token: Secret::new(token.trim().to_owned()),
        info,
    })
}

fn role_names(config: &Config) -> BTreeSet<String> {
    let declared = config.settings.roles.keys().cloned();
    portcullis_policy::builtin_roles().into_iter().map(|role| role.name).chain(declared).collect()
}
