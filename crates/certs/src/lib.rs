//! Certificates that the gateway gets by itself, and renews before they end: from an ACME server (RFC 8555). Start reading
//! in `acme.rs`.

mod acme;
mod counts;
mod held;

pub use self::{
    acme::{Acme, External, HttpAnswers, Parts, Settings, Way},
    counts::Counts,
    held::placeholder,
};
