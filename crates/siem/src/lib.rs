//! Ledger entries on their way to the systems in which people look for attacks. Start at `courier.rs`: each sink has a
//! place in the ledger, which is its queue; nothing is kept twice, and nothing is left out.

mod courier;
mod fields;
mod filter;
mod formats;
mod post;
mod seen;
mod sink;
mod sinks;
mod status;

pub use self::{
    courier::{Couriers, Parts},
    fields::{Fields, Keep},
    filter::Filter,
    formats::{FORMATS, Format},
    seen::{Grade, Seen},
    sink::{Credential, Failure, Message, Reach, Settings, Sink},
    sinks::SINKS,
    status::{Counts, Status},
};
