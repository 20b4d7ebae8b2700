//! What is known about a request besides caller, action and target.

use core::net::IpAddr;

use portcullis_core::Timestamp;
use serde_json::Value;

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
}
