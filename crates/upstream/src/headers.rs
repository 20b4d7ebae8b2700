//! What an HTTP request of MCP says beside its body, in both directions.

use http::{HeaderName, HeaderValue, Method};
use portcullis_core::{Code, Refusal};

/// The session header of revision 2025-11-25.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The version header.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The mirrored method.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// Which of the three HTTP methods of an MCP endpoint was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// End the session (2025-11-25).
    Delete,
    /// Open an event stream (2025-11-25).
    Get,
    /// Send one message.
    Post,
}

impl Verb {
    /// The verb of an HTTP method.
    #[must_use]
    pub fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::POST => Some(Self::Post),
            Method::GET => Some(Self::Get),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }

    /// The HTTP method, as it is written.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A header value that debug output does not show.
///
/// # Errors
/// A character that headers cannot hold: `internal`, since configuration is checked for it.
pub fn secret_value(text: &str) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Refusal::new(Code::Internal, "a header for the server holds a character that headers cannot hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
