//! Puts everything together and runs it: data directory, store, ledger, rules, listeners, reload, shutdown. The one
//! place where the control plane and the data plane meet, and they meet only as arguments.

mod banner;
mod compile;
mod convert;
mod health;
mod reload;
mod start;
mod telemetry;
mod watch;
mod world;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use portcullis_core::Event;
use portcullis_net::listen::{self, ListenOptions};
use portcullis_proof::entry::Entry;
use portcullis_proxy::service::DataPlane;
use tokio::sync::watch as channel;

use crate::{
    config::{Config, Overrides},
    output::Output,
};

pub(crate) use self::{compile::check, telemetry::LEDGER_METRICS};

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
    let node = start::node(config, &options).await?;
    let (stop, stopped) = channel::channel(false);
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
    let data = tokio::spawn(data);
    let admin = tokio::spawn(portcullis_admin::serve(node.admin, node.parts, stopped.clone()));
    let following = tokio::spawn(watch::follow(Arc::clone(&core), stopped.clone()));
    let reloading = tokio::spawn(reload::on_signals_and_changes(Arc::clone(&core), node.tls, stopped));

    wait_for_end().await.context("signals cannot be received")?;
    tracing::info!("stopping; running calls may finish");
    let _ = stop.send(true);
    let cut = data.await.unwrap_or(0);
    let _ = admin.await;
    following.abort();
    reloading.abort();
    core.shutdown_children().await;
    let mut entry = Entry::new(Event::GatewayStopped, core.gateway.clock.now(), &core.instance);
    entry.data.insert("cut_off", cut.into());
    if let Err(error) = core.ledger.append(entry.to_jcs()).await {
        tracing::error!(%error, "the stop could not be recorded");
    }
    core.ledger.close().await.context("the ledger could not be closed")?;
    core.telemetry.shutdown();
    Ok(ExitCode::SUCCESS)
}

/// SIGINT or SIGTERM.
async fn wait_for_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
