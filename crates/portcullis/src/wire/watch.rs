//! What goes on in the background: the store is followed, catalogues are kept fresh, what is past its time ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use portcullis_core::TargetKind;
use portcullis_proxy::rules::Server;
use portcullis_store::Involved;
use portcullis_upstream::Upstream;
use tokio::{sync::watch, task::JoinHandle};

use super::{reload, start::Core};

/// How soon what could not be read is read again.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// How often sessions and idle children are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// Runs until `stop`.
pub(crate) async fn follow(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut revisions = core.revisions.changed();
    let mut refreshers = BTreeMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    *core.active.lock().await = active_servers(&core).await;
    loop {
        keep_fresh(&core, &mut refreshers);
        tokio::select! {
            _ = stop.changed() => break,
            _ = sweep.tick() => sweep_once(&core).await,
            changed = revisions.changed() => {
                if changed.is_err() {
                    break;
                }
                follow_store(&core).await;
            }
        }
    }
    for (_, (_, refresher)) in refreshers {
        refresher.abort();
    }
}

/// Follows the kill switch until `stop`, apart from all else that may take its time: what another gateway on the same
/// store stopped is stopped here too.
pub(crate) async fn follow_kills(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let (mut revisions, mut kills) = (core.revisions.changed(), core.gateway.kills.changed());
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            changed = revisions.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Err(error) = core.gateway.kills.load().await {
                    tracing::error!(%error, "what is killed cannot be read; what was stays, and is read again");
                    tokio::time::sleep(READ_AGAIN).await;
                    revisions.mark_changed();
                }
            }
            Ok(()) = kills.changed() => {
                let now = Arc::clone(&kills.borrow_and_update());
                core.world.authorizer.exchange_anew();
                core.gateway.bridge.give_up(|caller, server| {
                    let servers = [Some(server), None];
                    now.stops(&Involved { caller, servers, ..Involved::default() }).is_some()
                });
            }
        }
    }
}

/// Looks until `stop` whether children were given what has another value by now; at once where somebody rotates.
pub(crate) async fn follow_secrets(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(SWEEP) => {}
            () = core.rotated.notified() => {}
        }
        let rules = core.gateway.rules.load_full();
        for server in rules.servers.values() {
            if let Upstream::Stdio(peer) = &server.upstream {
                peer.turn_over(&rules.limits).await;
            }
        }
    }
}

/// Definitions were judged or servers were added: what is in memory follows.
pub(crate) async fn follow_store(core: &Core) {
    let mut active = core.active.lock().await;
    let rules = core.gateway.rules.load_full();
    for server in rules.servers.values() {
        if let Err(error) = server.catalog.load().await {
            tracing::error!(server = %server.name, %error, "definitions cannot be read; the old ones stay");
        }
    }
    // Only now everybody's tools are known.
    for server in rules.servers.values() {
        if let Err(error) = server.catalog.judge_again(rules.limits.definition_entries_max).await {
            tracing::error!(server = %server.name, %error, "definitions cannot be judged again; calls wait for it");
        }
    }
    let now = active_servers(core).await;
    if now != *active {
        *active = now;
        let _ = reload::reload(core).await;
    }
}

/// The run-time servers as one comparable text.
async fn active_servers(core: &Core) -> Option<String> {
    let heads = core.revisions.heads(portcullis_admin::SERVER_KIND).await.ok()?;
    Some(heads.iter().map(|head| format!("{} {} {}\n", head.name, head.slot, head.digest)).collect())
}

async fn sweep_once(core: &Core) {
    let rules = core.gateway.rules.load_full();
    let sessions = core.gateway.sessions.sweep(&rules.limits);
    core.gateway.metrics.sessions(sessions);
    core.gateway.bridge.sweep(&rules.limits);
    for server in rules.servers.values() {
        if let Upstream::Stdio(peer) = &server.upstream {
            peer.sweep(&rules.limits).await;
        }
    }
}

type Refreshers = BTreeMap<String, (Arc<Server>, JoinHandle<()>)>;

/// One task per server fetches its catalogue now, then again whenever it is old or the server says it changed.
fn keep_fresh(core: &Arc<Core>, refreshers: &mut Refreshers) {
    let rules = core.gateway.rules.load_full();
    refreshers.retain(|name, (server, task)| {
        let kept = rules.servers.get(name).is_some_and(|kept| Arc::ptr_eq(kept, server));
        if !kept {
            task.abort();
        }
        kept
    });
    for (name, server) in &rules.servers {
        if !refreshers.contains_key(name) {
            let task = tokio::spawn(refresh(Arc::clone(core), Arc::clone(server)));
            refreshers.insert(name.clone(), (Arc::clone(server), task));
        }
    }
}

async fn refresh(core: Arc<Core>, server: Arc<Server>) {
    loop {
        let limits = core.gateway.rules.load().limits.clone();
        // A failure is in the log and in the server's state already.
        let _ = server.catalog.refresh(&server.upstream, TargetKind::ALL, &limits).await;
        let pause = tokio::time::sleep(Duration::from_millis(limits.catalog_refresh_ms));
        match &server.upstream {
            Upstream::Stdio(peer) => tokio::select! {
                () = pause => {}
                () = peer.changed.notified() => {
                    server.catalog.invalidate();
                    server.catalog.turn().await;
                }
            },
            Upstream::Group | Upstream::Http(_) => pause.await,
        }
    }
}
