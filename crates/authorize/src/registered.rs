//! What an authorization server answered when the gateway registered itself (RFC 7591).

use serde::{Deserialize, Serialize};

/// A registration that the gateway made.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Registered {
    /// What the gateway is called there.
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<String>,
    pub(crate) token_endpoint_auth_method: Option<String>,
    /// Seconds since 1970; zero: never.
    #[serde(default)]
    pub(crate) client_secret_expires_at: u64,
}
