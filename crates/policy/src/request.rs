//! What is known about a request besides caller, action and target.

use core::net::IpAddr;

use portcullis_core::Timestamp;
use serde_json::Value;

use crate::Labels;

/// The arguments of a call, made only when a policy reads them.
pub type Arguments<'a> = &'a dyn Fn() -> Value;

/// What is known about a request besides caller, action and target.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// Now.
    pub now: Timestamp,
    /// Where the request comes from, if that is known.
    pub source_ip: Option<IpAddr>,
    /// The protocol revision of the client, for example `2026-07-28`.
    pub era: &'a str,
    /// Labels of what the same session, or the same caller under the same trace, has used already.
    pub seen: Labels,
    /// Calls of the caller within the last minute, this one not counted.
    pub calls_last_minute: u64,
}

impl<'a> RequestContext<'a> {
    /// A first request from nowhere.
    #[must_use]
    pub const fn new(now: Timestamp, era: &'a str) -> Self {
        Self { now, source_ip: None, era, seen: Labels::NONE, calls_last_minute: 0 }
    }
}
