//! Adapters to the systems of our users: authentication, secrets, keys, sinks.

pub mod auth;
mod fetch;

pub use fetch::{Fetch, GuardedFetch};
