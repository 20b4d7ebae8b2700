//! Chat systems in which people approve calls, as configured.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use portcullis_approve::{Counts, Hook, Hooks, Parts};
use portcullis_config::{Settings, is_local};
use portcullis_core::{Clock, Secret};
use portcullis_net::guard::EgressPolicy;
use portcullis_seal::{SealedApprovals, Sealer};
use portcullis_secrets::Broker;
use portcullis_store::Sqlite;

use super::{compile::World, health, start::Core};

/// Bytes of a secret at least, as many as the signature has.
const SECRET_BYTES_MIN: usize = 32;

/// Starts to post to them.
pub(crate) fn start(
    settings: &Settings,
    (clock, broker): (&Arc<dyn Clock>, &Broker),
    counts: &Counts,
) -> anyhow::Result<Hooks> {
    let mut hooks = std::collections::BTreeMap::new();
    for (name, section) in &settings.approval_hooks {
        let key = format!("approval_hooks.{name}.secret");
        let secret =
            broker.known(&section.secret).map_err(anyhow::Error::msg).with_context(|| key.clone())?;
        ensure!(secret.expose().len() >= SECRET_BYTES_MIN, "{key}: has less than {SECRET_BYTES_MIN} bytes");
        let local = is_local(&section.url);
        let hook = Hook {
            url: section.url.clone(),
            egress: EgressPolicy {
                allow_http: local,
                allow_loopback: local,
                ..EgressPolicy::of(false, section.allow_private)
            },
            secret: Secret::new(secret.expose().clone().into_bytes()),
            people: section.people.clone(),
        };
        hooks.insert(name.clone(), hook);
    }
    Ok(Hooks::start(hooks, clock, counts))
}

/// From here on answers count for the keys of people.
pub(crate) fn know(core: &Arc<Core>) {
    let weak = Arc::downgrade(core);
    core.gateway
        .approvals
        .know(Box::new(move |id| weak.upgrade().and_then(|core| health::person(&core, id))));
}

/// What calls that wait for people are kept with.
pub(super) fn desk(store: &Arc<Sqlite>, world: &World, sealer: Sealer) -> Parts {
    let entropy = &world.entropy;
    Parts {
        store: Arc::new(SealedApprovals::new(Arc::clone(store) as _, sealer, Arc::clone(entropy))),
        ledger: Arc::clone(&world.ledger),
        clock: Arc::clone(&world.clock),
        entropy: Arc::clone(entropy),
        instance: Arc::clone(&world.instance),
    }
}
