//! Authentication through its public door: real keys and signatures, a real store, real key-set servers.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod api_keys;
mod certificates;
mod discovery;
mod introspection;
mod jwt_cases;
mod key_sets;
mod possession;
mod presets;
mod provider;
mod tokens;
mod world;
