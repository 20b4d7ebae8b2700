//! Adapters to the systems of our users: authentication, secrets, keys, sinks.

pub mod auth;
pub mod cursor;
mod fetch;
pub mod results;

pub use fetch::Reach;
