//! `portcullis wrap`: the same gateway for one user and one server, on standard input and output instead of listeners.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context as _;
use portcullis_config::Config;
use portcullis_core::{Caller, Event};
use portcullis_net::stdio::Environment;
use portcullis_proxy::front;
use portcullis_store::DataDir;
use tokio::sync::watch as channel;

use super::{
    Ends, RunOptions, end, keys, settle,
    start::{self, Base, Place},
    watch,
};

/// How the host of a wrapped server is served.
#[derive(Debug)]
pub(crate) struct Wrapped {
    /// The only server of this, among others without meaning here.
    pub(crate) config: Config,
    /// Its data directory, locked.
    pub(crate) dir: DataDir,
    /// The user whose programs hold the pipes.
    pub(crate) caller: Caller,
    /// The name of the server.
    pub(crate) server: Arc<str>,
    /// What a wrapped command gets.
    pub(crate) environment: Environment,
}

/// Serves the host on the other end of standard input and output until it is gone or a signal comes.
///
/// # Errors
/// What keeps it from starting, and a ledger that cannot be closed.
pub(crate) async fn wrap(wrapped: Wrapped) -> anyhow::Result<()> {
    let Wrapped { config, dir, caller, server, environment } = wrapped;
    let mut ends = Ends::new().context("signals cannot be received")?;
    let base = Base::open(dir, &config).await?;
    let place = Place {
        data: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        environment,
        local: Some(Arc::new(caller)),
    };
    let core = Box::pin(base.core(config, &RunOptions::default(), place)).await?;
    let started = [("address", "stdio".into()), ("server", (*server).into())];
    start::record(&core, Event::GatewayStarted, started).await?;
    tracing::info!(%server, data = %core.dir.path().display(), "ready");

    let limits = core.gateway.rules.load().limits.clone();
    let (stop, stopped) = channel::channel(false);
    let pipes = (pipe(std::io::stdin())?, pipe(std::io::stdout())?);
    let grace = Duration::from_millis(limits.shutdown_grace_ms);
    let killing = tokio::spawn(watch::follow_kills(Arc::clone(&core), stopped.clone()));
    let sealing = tokio::spawn(keys::follow(Arc::clone(&core), stopped.clone()));
    let turning = tokio::spawn(watch::follow_secrets(Arc::clone(&core), stopped.clone()));
    let serving = front::serve(Arc::clone(&core.gateway), server, pipes, grace, stopped);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = ends.next() => {
            let _ = stop.send(true);
            serving.await
        }
    };
    killing.abort();
    sealing.abort();
    turning.abort();
    tracing::info!(?ended, "stopping");
    core.gateway.stopping.store(true, Ordering::Relaxed);
    let cut = core.gateway.running.calls();
    settle(&core, limits.ledger_timeout_ms).await;
    end(&core, cut).await
}

/// One of our standard streams. They may be shared with other processes, so that they stay blocking, and a thread waits
/// for them.
fn pipe(stream: impl AsFd) -> anyhow::Result<tokio::fs::File> {
    let own = stream.as_fd().try_clone_to_owned().context("a standard stream cannot be used")?;
    Ok(tokio::fs::File::from_std(File::from(own)))
}
