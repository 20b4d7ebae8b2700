//! Moves bytes: listeners, TLS, the guarded client, HTTP and stdio upstreams. Knows nothing of MCP.
#![forbid(unsafe_code)]

pub mod body;
pub mod certificate;
pub mod client;
pub mod departure;
pub mod descriptors;
pub mod egress;
pub mod guard;
pub mod incident;
pub mod listen;
pub mod queue;
pub mod sandbox;
mod stall;
pub mod stdio;
pub mod tls;
mod visible;
pub mod webhook;

/// An error of any kind that can cross threads, as hyper's bodies and services carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
