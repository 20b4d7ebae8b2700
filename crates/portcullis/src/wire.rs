//! Puts everything together and runs it: data directory, store, ledger, rules, listeners, reload, shutdown. The one
//! place where the control plane and the data plane meet, and they meet only as arguments.

mod added;
mod authorization;
mod banner;
mod canaries;
mod certificates;
mod compile;
mod control;
mod convert;
mod forensics;
mod groups;
mod guard;
mod health;
mod hooks;
mod judge;
mod keys;
mod own_tls;
mod quotas;
mod reload;
mod sandbox;
mod secret_book;
pub(crate) mod secrets;
mod server_tls;
mod sinks;
mod start;
mod telemetry;
mod watch;
mod world;
mod wrap;

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use portcullis_config::{Config, Overrides};
use portcullis_core::Event;
use portcullis_net::listen::{self, ListenOptions};
use portcullis_proof::entry::Entry;
use portcullis_proxy::service::DataPlane;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch as channel,
};

use crate::output::Output;

pub(crate) use self::{
    forensics::INDEX_FILE,
    judge::{check, source},
    sandbox::OURSELVES,
    telemetry::{Dangers, LEDGER_METRICS},
    world::{SystemClock, SystemEntropy},
    wrap::{Wrapped, wrap},
};

/// How long sinks may take to get what is in the ledger at the end; the rest they get after the next start.
const SINKS_GRACE: Duration = Duration::from_secs(5);

/// What `run` was told on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunOptions {
    /// Settings that win over the file, also after a reload.
    pub(crate) overrides: Overrides,
    /// Worker threads; one per core where this says nothing.
    pub(crate) workers: Option<std::num::NonZeroUsize>,
    /// Print what a new user needs as JSON.
    pub(crate) json: bool,
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub(crate) async fn run(config: Config, options: RunOptions) -> anyhow::Result<ExitCode> {
    let node = Box::pin(start::node(config, &options)).await?;
    let (stop, stopped) = channel::channel(false);
    // From here on a signal means an end in order, also one that comes before everything runs.
    let mut ends = Ends::new().context("signals cannot be received")?;
    let signs = reload::Signs::new(&node.core).context("signals cannot be received")?;
    let data_address = node.data.local_addr();
    let first_key = start::first_key(&node.core).await?;
    start::record(&node.core, Event::GatewayStarted, [("address", data_address.to_string().into())]).await?;
    banner::print(&node, first_key.as_ref(), Output::new(options.json))?;
    drop(first_key);

    let core = Arc::clone(&node.core);
    let grace = Duration::from_millis(core.gateway.rules.load().limits.shutdown_grace_ms);
    let limits = core.gateway.rules.load().limits.clone();
    let mut listening = ListenOptions::new(node.tls.clone(), &limits);
    // The stages refuse with a code and an entry; the door keeps out only what is far beyond, with neither. Up to
    // 100 fields are read without an allocation.
    listening.headers_max =
        if listening.headers_max < 100 { 100 } else { listening.headers_max.saturating_mul(2) };
    listening.header_bytes_max = listening.header_bytes_max.saturating_mul(2);
    let data =
        listen::serve(node.data, listening, DataPlane(Arc::clone(&core.gateway)), stopped.clone(), grace);
    let mut data = tokio::spawn(data);
    let indexing = Arc::clone(&node.parts.searching.librarian).follow(core.ledger.changed());
    let indexing = tokio::spawn(indexing);
    let admin = tokio::spawn(portcullis_admin::serve(node.admin, node.parts, stopped.clone()));
    let killing = tokio::spawn(watch::follow_kills(Arc::clone(&core), stopped.clone()));
    let sealing = tokio::spawn(keys::follow(Arc::clone(&core), stopped.clone()));
    let (source, following) = (node.source, (Arc::clone(&core), stopped.clone()));
    let certifying = node.tls.clone().map(|tls| {
        let (core, stop) = following;
        tokio::spawn(certificates::follow(source, core, tls, stop))
    });
    let turning = tokio::spawn(watch::follow_secrets(Arc::clone(&core), stopped.clone()));
    let following = tokio::spawn(watch::follow(Arc::clone(&core), stopped.clone()));
    let reloading = tokio::spawn(reload::on_signals_and_changes(Arc::clone(&core), node.tls, signs, stopped));

    ends.next().await;
    tracing::info!("stopping; running calls may finish, a second signal cuts them off");
    core.gateway.stopping.store(true, Ordering::Relaxed);
    let _ = stop.send(true);
    let cut = tokio::select! {
        cut = &mut data => cut.unwrap_or(0),
        () = ends.next() => {
            let cut = core.gateway.running.calls();
            data.abort();
            let _ = data.await;
            cut
        }
    };
    settle(&core, limits.ledger_timeout_ms).await;
    let _ = admin.await;
    killing.abort();
    indexing.abort();
    sealing.abort();
    turning.abort();
    following.abort();
    reloading.abort();
    if let Some(certifying) = certifying {
        certifying.abort();
    }
    end(&core, cut).await?;
    Ok(ExitCode::SUCCESS)
}

/// Ends the children, records the stop and closes the ledger.
async fn end(core: &start::Core, cut: usize) -> anyhow::Result<()> {
    core.shutdown_children().await;
    // Only now does nobody need them any more.
    core.world.broker.close().await;
    let mut entry = Entry::new(Event::GatewayStopped, core.gateway.clock.now(), &core.instance);
    entry.data.insert("cut_off", cut.into());
    if let Err(error) = core.ledger.append(entry.to_jcs()).await {
        tracing::error!(%error, "the stop could not be recorded");
    }
    core.couriers.close(SINKS_GRACE).await;
    core.ledger.close().await.context("the ledger could not be closed")?;
    core.telemetry.shutdown();
    Ok(())
}

/// Waits for the outcomes of what was cut off. An append waits no longer than this, so what is not there then never
/// will be.
async fn settle(core: &start::Core, ledger_timeout_ms: u64) {
    let open = core.gateway.running.settle(Duration::from_millis(ledger_timeout_ms)).await;
    if open > 0 {
        tracing::error!(open, "calls have no outcome in the ledger");
    }
}

/// SIGINT and SIGTERM.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
