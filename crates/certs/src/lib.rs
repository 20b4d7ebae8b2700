//! Certificates that the gateway gets by itself, and renews before they end: from an ACME server (RFC 8555)
//! or a SPIFFE Workload API. Start reading in `acme.rs` and `spiffe.rs`.

mod acme;
mod counts;
mod held;
mod spiffe;

pub use self::{
    acme::{Acme, External, HttpAnswers, Parts, Settings, Way},
    counts::Counts,
    held::placeholder,
    spiffe::{Spiffe, SpiffeParts, SpiffeSettings, Svid},
};
