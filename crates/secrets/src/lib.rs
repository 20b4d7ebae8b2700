//! References to secrets, and where their values come from. Start reading in `reference.rs`, then `broker.rs`.

mod aws;
mod bait;
mod broker;
mod http;
mod local;
mod reference;
mod source;
mod template;
mod value;
mod vault;
mod watch;

pub use self::{
    aws::{AssumeRole, AwsIdentity, KmsKek, SecretsManager},
    bait::Bait,
    broker::{Broker, Censor, Keeper, Keeping, Parts, Renewed, State, Witness},
    http::Reach,
    local::{Variables, read},
    reference::{AwsValue, Mistake, Place, Reference},
    source::{Document, Failure, Lease},
    template::Template,
    value::Value,
    vault::{Login, TransitKek, Vault, VaultSettings},
    watch::{Hold, Leak, WATCHED_BYTES_MIN, Watched, Why, is_watchable},
};
