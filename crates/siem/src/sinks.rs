//! The kinds of sinks. Each is one file and one line here.

use portcullis_core::{
    catalog,
    kind::{Kind, KindError},
};

use crate::{Settings, Sink};

catalog! {
    /// Every kind of sink.
    pub SINKS: [Kind<Box<dyn Sink>, Settings>] = elasticsearch, file, nats, otlp, splunk_hec, syslog, webhook
}

/// Builds a sink.
pub(crate) fn build(settings: &Settings) -> Result<Box<dyn Sink>, String> {
    let kind = SINKS.iter().find(|kind| kind.name == settings.kind);
    let kind = kind.ok_or_else(|| format!("there is no kind of sink `{}`", settings.kind))?;
    (kind.build)(settings).map_err(|error| format!("sink `{}`: {}", settings.name, error.reason))
}

/// As the catalogue wants it.
fn wrong(name: &'static str, reason: impl Into<String>) -> KindError {
    KindError { name, reason: reason.into() }
}
