//! Extensions that client and server offer each other: those that the gateway understands, and those that the operator
//! lists. What one side is not told of the other it does not use.

use memchr::memmem;
use portcullis_core::{Code, Refusal};
use portcullis_mcp::{
    json::{Edits, View},
    jsonrpc::Message,
    revision::META_CAPABILITIES,
};

use crate::{settings::ServerSettings, tasks::reparsed};

/// Extensions whose messages the gateway judges like those of the core.
const UNDERSTOOD: [&str; 2] = ["io.modelcontextprotocol/tasks", "io.modelcontextprotocol/ui"];

/// The server's answer to `initialize` or `server/discover`, without the extensions that may not pass.
///
/// # Errors
/// `internal`.
pub(crate) fn outward(settings: &ServerSettings, message: Message) -> Result<Message, Refusal> {
    let mut edits = Edits::new();
    let capabilities = message.result().and_then(|result| result.get("capabilities"));
    if may_offer(&message) {
        narrow(settings, capabilities, &mut edits);
    }
    applied(edits, message)
}

/// A client's message, without the extensions that may not pass.
///
/// # Errors
/// `internal`.
pub(crate) fn inward(settings: &ServerSettings, message: Message) -> Result<Message, Refusal> {
    let mut edits = Edits::new();
    if may_offer(&message) {
        let params = message.params();
        let once = params.filter(|_| message.method_name().as_deref() == Some("initialize"));
        narrow(settings, once.and_then(|params| params.get("capabilities")), &mut edits);
        narrow(settings, params.and_then(|params| params.path(&["_meta", META_CAPABILITIES])), &mut edits);
    }
    applied(edits, message)
}

/// Whether a message can name an extension at all; only escapes could hide it.
fn may_offer(message: &Message) -> bool {
    message.stats().unicode_escapes || memmem::find(message.bytes(), b"extensions").is_some()
}

fn narrow(settings: &ServerSettings, capabilities: Option<View<'_>>, edits: &mut Edits) {
    if let Some(extensions) = capabilities.and_then(|capabilities| capabilities.get("extensions")) {
        edits.retain_members(extensions, |name| {
            UNDERSTOOD.contains(&name) || settings.extensions.contains(name)
        });
    }
}

fn applied(edits: Edits, message: Message) -> Result<Message, Refusal> {
    if edits.is_empty() {
        return Ok(message);
    }
    let bytes = edits.apply(message.bytes());
    reparsed(bytes.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?)
}
