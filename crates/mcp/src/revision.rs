//! The two eras on one endpoint: which one a message belongs to, and whether its headers agree with its body.

mod header;
mod param;

use alloc::{format, string::String, vec::Vec};
use core::fmt;

pub use header::mirrored;
pub use param::{ParamHeader, ParamHeaderError, agree_params};
use portcullis_core::{Action, Code};

use crate::{
    json::{ValueKind, View, quote},
    jsonrpc::{Message, Shape},
    method::{Form, MethodRow, Side},
};

/// The revision of the handshake that is served in full; earlier ones are accepted as its subsets.
pub const LEGACY: &str = "2025-11-25";
/// The stateless revision.
pub const MODERN: &str = "2026-07-28";
/// Every version that is accepted, newest first.
pub const SUPPORTED: &[&str] = &[MODERN, LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"];
/// The versions of the handshake that are accepted, newest first.
pub const LEGACY_SUPPORTED: &[&str] = &[LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"];

/// Member of `_meta` with the protocol version of a request.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Member of `_meta` with the capabilities of the client.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Member of `_meta` with what the client calls itself. Self-reported: for logs only.
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// Members of a request's `_meta` that say how it is made and followed, and nothing of what is asked for.
pub const META_APART: [&str; 8] = [
    META_VERSION,
    META_CLIENT,
    META_CAPABILITIES,
    "io.modelcontextprotocol/logLevel",
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
];

/// The two ways of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Era {
    /// `initialize` and sessions: 2025-11-25 and before.
    Legacy,
    /// Version, capabilities and identity in every request: 2026-07-28.
    Modern,
}

impl Era {
    /// The name of the revision that is served in this era.
    #[must_use]
    pub const fn revision(self) -> &'static str {
        match self {
            Self::Legacy => LEGACY,
            Self::Modern => MODERN,
        }
    }

    /// The era of a version, if it is accepted.
    #[must_use]
    pub fn of(version: &str) -> Option<Self> {
        match version {
            MODERN => Some(Self::Modern),
            _ => LEGACY_SUPPORTED.contains(&version).then_some(Self::Legacy),
        }
    }

    /// Whether `side` may send the method of this row in this era.
    #[must_use]
    pub fn allows(self, row: &MethodRow, side: Side) -> bool {
        let sent = row.from == Side::Both || row.from == side;
        match self {
            Self::Legacy => row.legacy && sent,
            Self::Modern => {
                let in_direction = match (side, row.form) {
                    // A modern server asks inside its results, never by a request of its own.
                    (Side::Server, Form::Request) => false,
                    (Side::Client | Side::Both, Form::Notification) => {
                        row.name == "notifications/cancelled" || row.action == Action::CallMethod
                    }
                    (Side::Client | Side::Both, Form::Request) | (Side::Server, Form::Notification) => true,
                };
                row.modern && sent && in_direction
            }
        }
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.revision())
    }
}

/// The MCP headers of an HTTP request, their values without outer white space, otherwise as sent.
#[derive(Clone, Debug, Default)]
pub struct McpHeaders<'a> {
    /// `MCP-Protocol-Version`
    pub protocol_version: Option<&'a str>,
    /// `Mcp-Method`
    pub method: Option<&'a str>,
    /// `Mcp-Name`
    pub name: Option<&'a str>,
    /// `Mcp-Session-Id`
    pub session_id: Option<&'a str>,
    /// `Mcp-Param-*`: what follows the prefix, and the value.
    pub params: Vec<(&'a str, &'a str)>,
    /// The name of a header above that came more than once or was not visible ASCII.
    pub repeated: Option<&'static str>,
}

/// Why headers, body and revision do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraError {
    /// The code of the refusal.
    pub code: Code,
    /// For the operator: what disagrees. Names headers and members, never their values.
    pub detail: String,
    /// The version that was asked for, where that is the trouble.
    pub requested: Option<String>,
}

impl EraError {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), requested: None }
    }

    fn mismatch(detail: impl Into<String>) -> Self {
        Self::new(Code::RequestHeaderMismatch, detail)
    }

    fn version(requested: &str) -> Self {
        Self {
            requested: Some(requested.into()),
            ..Self::new(Code::RequestVersion, "the protocol version is not supported")
        }
    }

    /// `data` of the JSON-RPC error (JSON text), where the specification asks for it.
    #[must_use]
    pub fn data(&self) -> Option<String> {
        self.requested.as_deref().map(version_data)
    }
}

impl fmt::Display for EraError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.detail)
    }
}

impl core::error::Error for EraError {}

/// `data` of an error about versions: what is supported and what was asked for (JSON text).
#[must_use]
pub fn version_data(requested: &str) -> String {
    let supported: Vec<String> = SUPPORTED.iter().map(|version| quote(version)).collect();
    format!(r#"{{"supported":[{}],"requested":{}}}"#, supported.join(","), quote(requested))
}

/// The era that a message belongs to.
///
/// # Errors
/// An unsupported version, or a header that disagrees with the body.
pub fn classify(headers: &McpHeaders<'_>, message: &Message) -> Result<Era, EraError> {
    if let Some(name) = headers.repeated {
        return Err(EraError::mismatch(format!("header `{name}` is repeated or not visible ASCII")));
    }
    let stated = meta(message).and_then(|meta| meta.get(META_VERSION)).and_then(|version| version.as_str());
    let Some(header) = headers.protocol_version else {
        return match stated {
            Some(version) if Era::of(&version) != Some(Era::Legacy) => {
                Err(EraError::mismatch("`_meta` states a protocol version but the header is missing"))
            }
            Some(_) | None => Ok(Era::Legacy),
        };
    };
    if stated.is_some_and(|version| version != header) {
        return Err(EraError::mismatch("`MCP-Protocol-Version` disagrees with `_meta`"));
    }
    let era = Era::of(header).ok_or_else(|| EraError::version(header))?;
    match (era, message.shape()) {
        (Era::Modern, Shape::Response | Shape::Error) => Err(EraError::new(
            Code::RequestInvalid,
            "a client of 2026-07-28 answers questions by asking again, not by responses",
        )),
        (Era::Modern, Shape::Request | Shape::Notification)
        | (Era::Legacy, Shape::Request | Shape::Notification | Shape::Response | Shape::Error) => Ok(era),
    }
}

/// Proves that a client may send this method in this era, and that the mirrored headers and `_meta` agree with the
/// body. For messages with a method.
///
/// # Errors
/// What is missing, malformed or in disagreement.
pub fn agree(era: Era, headers: &McpHeaders<'_>, message: &Message, row: &MethodRow) -> Result<(), EraError> {
    if !era.allows(row, Side::Client) {
        return Err(EraError::new(
            Code::MethodUnknown,
            format!("`{}` is not for clients of {era}", row.name),
        ));
    }
    match (row.form, message.shape()) {
        (Form::Request, Shape::Request) | (Form::Notification, Shape::Notification) => {}
        (Form::Request | Form::Notification, _) => {
            return Err(EraError::new(
                Code::RequestInvalid,
                "a request without id, or a notification with one",
            ));
        }
    }
    let required = era == Era::Modern && row.form == Form::Request;
    if required {
        required_meta(headers, message)?;
    }
    match headers.method {
        Some(method) if message.method_name().as_deref() != Some(method) => {
            return Err(EraError::mismatch("`Mcp-Method` disagrees with the body"));
        }
        None if required => return Err(EraError::mismatch("`Mcp-Method` is missing")),
        Some(_) | None => {}
    }
    let Some(member) = row.header_name else { return Ok(()) };
    let Some(header) = headers.name else {
        return if required { Err(EraError::mismatch("`Mcp-Name` is missing")) } else { Ok(()) };
    };
    let decoded = header::decode(header)
        .ok_or_else(|| EraError::mismatch("`Mcp-Name` is not visible ASCII or valid base64 of UTF-8"))?;
    let named = message.params().and_then(|params| params.get(member)).and_then(|name| name.as_str());
    if named.as_deref() != Some(decoded.as_ref()) {
        return Err(EraError::mismatch(format!("`Mcp-Name` disagrees with `params.{member}`")));
    }
    Ok(())
}

fn meta(message: &Message) -> Option<View<'_>> {
    message.params()?.get("_meta")
}

/// The members of `_meta` that every request of 2026-07-28 has. `clientInfo` is optional.
fn required_meta(headers: &McpHeaders<'_>, message: &Message) -> Result<(), EraError> {
    let lacks = |what: &str| EraError::new(Code::RequestMeta, format!("`_meta` lacks {what}"));
    let meta = meta(message).filter(|meta| meta.kind() == ValueKind::Object);
    let meta = meta.ok_or_else(|| lacks("everything"))?;
    let version = meta.get(META_VERSION).and_then(|version| version.as_str());
    let version = version.ok_or_else(|| lacks("a protocol version"))?;
    let is_object = |view: View<'_>| view.kind() == ValueKind::Object;
    if !meta.get(META_CAPABILITIES).is_some_and(is_object) {
        return Err(lacks("client capabilities"));
    }
    if !meta.get(META_CLIENT).is_none_or(is_object) {
        return Err(EraError::new(Code::RequestMeta, "`_meta` has a client info that is not an object"));
    }
    if headers.protocol_version != Some(version.as_ref()) {
        return Err(EraError::mismatch("`MCP-Protocol-Version` disagrees with `_meta`"));
    }
    Ok(())
}
