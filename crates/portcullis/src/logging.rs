//! Where log lines go. Lines carry no secret: types that hold one print `****`.

use anyhow::Context as _;
use portcullis_config::{Log, LogFormat};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

type Sink = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging as `log` says.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level.0).context("the log filter")?;
    let sink: Sink = match &log.file {
        Some(path) => {
            use std::os::unix::fs::OpenOptionsExt as _;
            let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
            let file = file.with_context(|| format!("cannot open the log file `{}`", path.display()))?;
            lines(log.format, std::sync::Mutex::new(file), false)
        }
        None => lines(log.format, std::io::stderr, std::io::IsTerminal::is_terminal(&std::io::stderr())),
    };
    tracing_subscriber::registry().with(sink.with_filter(filter)).try_init().context("logging")
}

fn lines<W>(format: LogFormat, writer: W, ansi: bool) -> Sink
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => Box::new(layer.json().flatten_event(true)),
        LogFormat::Text => Box::new(layer.with_ansi(ansi)),
    }
}
