//! Adapters to the systems of our users: authentication, secrets, keys, sinks.

pub mod auth;
pub mod cursor;
mod fetch;
pub mod results;
pub mod seal;

pub use fetch::Reach;
