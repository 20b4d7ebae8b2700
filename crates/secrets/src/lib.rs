//! References to secrets, and where their values come from. Start reading in `reference.rs`, then `broker.rs`.

mod aws;
mod broker;
mod http;
mod local;
mod reference;
mod source;
mod template;
mod value;
mod vault;

pub use self::{
    aws::{AssumeRole, AwsIdentity, SecretsManager},
    broker::{Broker, Keeper, Keeping, Parts, State, Witness},
    http::Reach,
    local::{Variables, read},
    reference::{AwsValue, Mistake, Place, Reference},
    source::{Document, Failure, Lease},
    template::Template,
    value::Value,
    vault::{Login, Vault, VaultSettings},
};
