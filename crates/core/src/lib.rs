//! The nouns every layer of Portcullis speaks. Nothing here does input or output: time and chance are
//! arguments, so a test is a table and a bug report is a seed.
#![no_std]

extern crate alloc;

mod action;
mod approval;
mod caller;
mod clock;
mod code;
mod digest;
mod event;
mod finding;
pub mod kind;
mod label;
mod limits;
mod refusal;
mod secret;
mod target;

pub use action::Action;
pub use approval::{Approval, Review};
pub use caller::{Caller, CallerKind, Proof, Scope};
pub use clock::{Clock, Entropy, Timestamp};
pub use code::{Code, Fault, Level};
pub use digest::Digest;
pub use event::Event;
pub use finding::{Direction, Finding, Obligations, Severity, Treatment};
pub use label::{Label, Labels};
pub use limits::{LimitRow, Limits};
pub use refusal::Refusal;
pub use secret::Secret;
pub use target::{Target, TargetKind};
