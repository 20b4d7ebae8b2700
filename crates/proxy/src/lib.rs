//! The data plane: the pipeline of proofs every message goes through. Start reading in `pipeline.rs`.

pub mod aggregate;
pub mod body;
pub mod bridge;
mod connect;
mod extensions;
pub mod front;
mod gateway;
mod head;
pub mod metrics;
mod pending;
mod pipeline;
pub mod refusal;
mod relay;
pub mod rules;
pub mod running;
pub mod service;
pub mod session;
pub mod settings;
pub mod stages;
pub mod tasks;
pub mod throttle;
pub mod trace;
pub mod trail;

pub use gateway::Gateway;
pub use head::Head;
