//! References followed to servers that speak as Vault, OpenBao and AWS do: recorded answers of a real one, the published
//! description of the API, and everything that goes wrong.

#![cfg(test)]

mod aws;
mod broker;
mod description;
mod recorded;
mod server;
mod vault;
