//! The Model Context Protocol as bytes: bounded JSON, JSON-RPC, both revisions, schema checks.
//!
//! Nothing here re-encodes a message through typed models: the original bytes are kept, views read them, and an
//! edit replaces the smallest span. So what was checked is what is forwarded.
#![no_std]

extern crate alloc;

pub mod alias;
pub mod answer;
pub mod bridge;
pub mod elicitation;
pub mod facts;
pub mod json;
pub mod jsonrpc;
pub mod method;
pub mod notice;
pub mod revision;
pub mod schema;
pub mod sse;
pub mod template;
