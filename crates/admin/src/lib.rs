//! The control plane: the admin API on a loopback listener of its own. It changes the store and the ledger; the data
//! plane watches the store and follows. Neither sees the other.

pub mod api;
mod parts;
mod problem;
mod serve;
pub mod wire;

pub use api::openapi_document;
pub use api::{
    Access, Api, Control, ENDPOINTS, Endpoint,
    servers::{SERVER_KIND, SERVER_SLOT},
};
pub use parts::{
    AdminParts, CanaryBook, CanaryState, CanaryValues, CheckServer, ConnectionBook, CountSessions, Follow,
    FreshKey, GatewayInfo, Health, Holder, Pending, QuotaState, Reload, RenewedSecret, Revoked, Searching,
    SecretBook, SecretState, SecretUse, SinkBook, SinkState, SubjectOf,
};
pub use problem::{Problem, ProblemBody, ProblemDetail};
pub use serve::{router, serve};
