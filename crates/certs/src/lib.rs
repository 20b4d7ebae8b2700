//! Certificates that the gateway gets by itself, and renews before they end: from an ACME server (RFC 8555)
//! or a SPIFFE Workload API; and what authorities say of their revocation. Start reading in `acme.rs`, `spiffe.rs` and `ocsp.rs`.

mod acme;
mod counts;
mod held;
mod ocsp;
mod spiffe;

pub use self::{
    acme::{Acme, External, HttpAnswers, Parts, Settings, Way},
    counts::Counts,
    held::placeholder,
    ocsp::{Ocsp, OcspParts, OcspSettings},
    spiffe::{Spiffe, SpiffeParts, SpiffeSettings, Svid},
};
