//! What tracing learns of a call: read from the client, handed to whoever exports spans.

use std::{borrow::Cow, fmt};

use portcullis_core::Code;

use crate::trail::Trail;

/// One finished call, in the terms of the OpenTelemetry conventions for MCP.
#[derive(Clone, Debug)]
pub struct Span {
    /// `mcp.method.name`
    pub method: Cow<'static, str>,
    /// The server and, where the method names one, tool or prompt.
    pub target: String,
    /// `mcp.protocol.version`
    pub revision: &'static str,
    /// The `traceparent` that the client sent.
    pub parent: Option<String>,
    /// How long it took.
    pub duration_us: u64,
    /// The code of the refusal, if it was refused.
    pub refusal: Option<Code>,
}

impl Span {
    pub(crate) fn of(trail: &Trail, refusal: Option<Code>) -> Self {
        Self {
            method: trail.method.clone().unwrap_or(Cow::Borrowed("none")),
            target: trail.target.as_ref().map(ToString::to_string).unwrap_or_default(),
            revision: trail.era.unwrap_or("unknown"),
            parent: trail.trace.clone(),
            duration_us: trail.elapsed_us(),
            refusal,
        }
    }
}

/// Exports finished calls.
pub trait Tracer: Send + Sync + fmt::Debug {
    /// A call is over. Must not block.
    fn call(&self, span: &Span);
}

/// Whether a text is a W3C `traceparent`.
pub(crate) fn well_formed(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let parts: Vec<_> = text.split('-').collect();
    parts.len() == 4
        && parts.iter().zip(lengths).all(|(part, length)| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
        && parts.get(1).is_some_and(|id| id.bytes().any(|byte| byte != b'0'))
}

#[cfg(test)]
mod tests {
    use super::well_formed;

    #[test]
    fn only_well_formed_trace_parents_are_taken() {
        assert!(well_formed("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in [
            "",
            "00-0-0-0",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert!(!well_formed(bad), "{bad}");
        }
    }
}
