//! The stages, one file each, in the order of the pipeline. Each owns what it was given and wraps it; only the
//! stage itself can make its proof.

pub mod accept;
pub mod again;
pub mod alarm;
pub mod alive;
pub mod approve;
pub mod arm;
pub mod authenticate;
pub mod authorize;
pub mod fit;
pub mod forward;
pub mod inspect;
pub(crate) mod kept;
mod meaning;
pub mod parse;
pub mod read;
pub mod record;
pub mod redact;
pub mod resolve;
pub mod throttle;
pub mod validate;
