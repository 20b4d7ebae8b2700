//! The gateway as OAuth client of the servers behind it: tokens that their users grant it, one by one, sealed at rest and
//! sent to nobody but the server that they were issued for. The token with which a caller comes in never leaves by here.

mod authorizer;
mod challenge;
mod chance;
mod consent;
mod exchange;
mod flow;
mod grant;
mod identity;
mod key;
mod metadata;
mod outgoing;
pub mod page;
mod presented;
mod registered;
mod renewal;
mod settings;
mod token;
mod vault;
mod web;

pub use authorizer::{Authorizer, Parts, Taken};
pub use flow::{Answer, Consent, Departure, Ticket};
pub use outgoing::Outgoing;
pub use settings::{ClientAuth, ClientSettings, Exchange, Mode, Settings, Subject};
pub use web::Failure;
