//! `portcullis run`: configuration, log, then the gateway itself.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use portcullis_config::{LogFormat, Overrides, Tls};
use url::Url;

use super::{Common, Failure, output::Output};
use crate::{logging, wire::RunOptions};

/// What `run` takes beside the configuration.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  portcullis run                                            loopback, sample server, one key printed once
  portcullis run --tls                                      the same with TLS and a certificate of its own
  portcullis run --config portcullis.yaml                   what the file says
  portcullis run --listen 0.0.0.0:7300 --public-url https://mcp.example.com:7300 --tls-cert cert.pem --tls-key key.pem

SIGHUP and changes of the file reload it: whole, or not at all. SIGTERM and SIGINT stop in order.")]
pub(crate) struct Run {
    /// Address for clients [default: 127.0.0.1:7300]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// URL under which clients reach the gateway, where the address is not it
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// Address for the admin API, loopback only [default: 127.0.0.1:7301]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Serve TLS; without a certificate of yours, with a self-signed one that is made and kept in the data directory
    #[arg(long)]
    tls: bool,
    /// PEM file with the certificate chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "COUNT", env = "PORTCULLIS_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Form of log lines
    #[arg(long, value_name = "FORM")]
    log_format: Option<Format>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Text,
}

pub(super) fn run(common: &Common, run: Run, output: &Output) -> ExitCode {
    let Run { listen, public_url, admin_listen, tls, tls_cert, tls_key, workers, log_format } = run;
    let overrides = Overrides {
        data: common.data.clone(),
        listen,
        own_tls: tls,
        public_url,
        admin: admin_listen,
        tls: tls_cert.zip(tls_key).map(|(certificate, key)| Tls::of(certificate, key)),
        log_format: log_format.map(|format| match format {
            Format::Json => LogFormat::Json,
            Format::Text => LogFormat::Text,
        }),
    };
    match start(common, RunOptions { overrides, workers, json: common.json }) {
        Ok(code) => code,
        Err(failure) => output.fail(&failure),
    }
}

fn start(common: &Common, options: RunOptions) -> Result<ExitCode, Failure> {
    let config = super::check::load(common.config.as_deref(), &options.overrides)?;
    let failed = |error: anyhow::Error| Failure::refused(format!("{error:#}"));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = options.workers {
        builder.worker_threads(workers.get());
    }
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(error.to_string()))?;
    logging::start(&config.settings.log).map_err(failed)?;
    // Boxed: the whole gateway is one large future.
    runtime.block_on(Box::pin(crate::wire::run(config, options))).map_err(failed)
}
