//! Things of one server among those of several: names, URIs and ids under a prefix of its own, and back again.
//!
//! A prefix holds no `__` and does not end in `_`, so the first `__` of an exposed name or id always ends the prefix:
//! two servers can never be given the same exposed name, whatever they call their tools.

use alloc::{borrow::ToOwned as _, format, string::String};
use core::fmt;

use bytes::Bytes;
use portcullis_core::{Digest, TargetKind};

use crate::{
    answer::list_members,
    json::{Edits, ValueKind, View, quote},
    jsonrpc::{Id, Message, Shape},
};

/// The name under which policy speaks about the route over all servers, so that no server can have it.
pub const ROOT: &str = "aggregate";

/// What stands between the prefix and the server's own name or id.
pub const SEPARATOR: &str = "__";

/// The longest prefix: what is left of 64 characters belongs to the tool.
pub const PREFIX_BYTES_MAX: usize = 20;

/// The shortest bound on exposed names under which every prefix still leaves room for a hash.
pub const NAME_BYTES_MIN: usize = 40;

/// Hexadecimal digits of the hash that stands for what a name had to lose.
const HASH_DIGITS: usize = 10;

/// The scheme of exposed URIs. What follows the prefix is the server's own URI, unchanged, so that templates expand to
/// exposed URIs by themselves.
const SCHEME: &str = "mcp://";

/// MCP Apps are recognised by their scheme (SEP-1865), so it stays in front.
const UI: &str = "ui://";

/// `_meta` member that names the task a message belongs to (2025-11-25, tasks).
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// What one server's things are exposed under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(String);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    /// `text` as a prefix, if it can be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=PREFIX_BYTES_MAX).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(name_byte)
            && !text.contains(SEPARATOR)
            && !text.ends_with('_');
        fits.then(|| Self(text.to_owned()))
    }

    /// The prefix of a server for which none was chosen: its name where that can be one, or else a part of it with a
    /// hash of the whole.
    #[must_use]
    pub fn of_server(name: &str) -> Self {
        Self::new(name).unwrap_or_else(|| {
            let kept: String =
                name.chars().filter(char::is_ascii_alphanumeric).take(PREFIX_BYTES_MAX - 8).collect();
            let kept = if kept.is_empty() { "s".to_owned() } else { kept };
            Self(format!("{kept}-{}", hash(name, 7)))
        })
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A tool or prompt as clients see it: at most `bytes_max` bytes (no less than [`NAME_BYTES_MIN`]) of letters,
    /// digits, `_`, `-` and `.`. A name that has to lose something ends in a hash of all of it.
    #[must_use]
    pub fn expose_name(&self, name: &str, bytes_max: usize) -> String {
        let bytes_max = bytes_max.max(NAME_BYTES_MIN);
        let whole = self.0.len() + SEPARATOR.len() + name.len();
        if whole <= bytes_max && !name.is_empty() && name.bytes().all(name_byte) {
            return format!("{}{SEPARATOR}{name}", self.0);
        }
        let room = bytes_max.saturating_sub(self.0.len() + SEPARATOR.len() + 1 + HASH_DIGITS);
        let safe = |c: char| if c.is_ascii() && name_byte(c as u8) { c } else { '_' };
        let kept: String = name.chars().take(room).map(safe).collect();
        format!("{}{SEPARATOR}{kept}_{}", self.0, hash(name, HASH_DIGITS))
    }

    /// A URI or URI template as clients see it.
    #[must_use]
    pub fn expose_uri(&self, uri: &str) -> String {
        match uri.strip_prefix(UI) {
            Some(rest) => format!("{UI}{}/{rest}", self.0),
            None => format!("{SCHEME}{}/{uri}", self.0),
        }
    }

    /// An opaque id (of a task, of an event) as clients see it.
    #[must_use]
    pub fn expose_id(&self, id: &str) -> String {
        format!("{}{SEPARATOR}{id}", self.0)
    }

    /// A message of the server as clients see it; nothing when it names nothing that is exposed otherwise. The id of
    /// a server's own question is exposed too, so that its answer finds the way back.
    #[must_use]
    pub fn outward(&self, message: &Message) -> Option<Bytes> {
        let mut edits = Outward { prefix: self, edits: Edits::new() };
        match message.shape() {
            Shape::Response => edits.result(message.result()?),
            Shape::Error => edits.uri(message.error()?.path(&["data", "uri"])),
            Shape::Notification => {
                let params = message.params()?;
                edits.uri(params.get("uri"));
                edits.task(params);
            }
            Shape::Request => {
                if let Some(id) = message.root().get("id") {
                    let exposed = self.expose_id(&String::from_utf8_lossy(id.raw()));
                    edits.edits.replace(id.span(), quote(&exposed).into_bytes());
                }
                if let Some(params) = message.params() {
                    edits.token(params);
                    edits.related(params);
                }
            }
        }
        if edits.edits.is_empty() {
            return None;
        }
        edits.edits.apply(message.bytes()).ok()
    }

    /// A definition as clients see it, under the name that was chosen for it.
    #[must_use]
    pub fn definition(&self, kind: TargetKind, raw: &Bytes, exposed: &str) -> Option<Bytes> {
        let (_, member) = list_members(kind);
        let view = View::of(raw);
        let mut edits = Outward { prefix: self, edits: Edits::new() };
        edits.edits.replace(view.get(member)?.span(), quote(exposed).into_bytes());
        edits.app(view);
        edits.edits.apply(raw).ok()
    }
}

/// The prefix of an exposed name or id, and what follows it.
#[must_use]
pub fn split(exposed: &str) -> Option<(&str, &str)> {
    exposed.split_once(SEPARATOR)
}

/// The prefix of an exposed URI, and the server's own URI.
#[must_use]
pub fn split_uri(exposed: &str) -> Option<(&str, String)> {
    if let Some(rest) = exposed.strip_prefix(SCHEME) {
        return rest.split_once('/').map(|(prefix, uri)| (prefix, uri.to_owned()));
    }
    let (prefix, uri) = exposed.strip_prefix(UI)?.split_once('/')?;
    Some((prefix, format!("{UI}{uri}")))
}

/// The prefix in the id of a client's answer, and the id that the server gave its question.
#[must_use]
pub fn split_question(id: &Id) -> Option<(String, Id)> {
    let text = View::of(id.raw()).as_str()?;
    let (prefix, raw) = split(&text)?;
    Some((prefix.to_owned(), Id::from_json(Bytes::copy_from_slice(raw.as_bytes()))?))
}

/// The prefix in the progress token of a client's notification, and the notification with the server's own token.
#[must_use]
pub fn with_token(message: &Message) -> Option<(String, Bytes)> {
    let token = message.params()?.get("progressToken")?;
    let text = token.as_str()?;
    let (prefix, raw) = split(&text)?;
    let own = Id::from_json(Bytes::copy_from_slice(raw.as_bytes()))?;
    let mut edits = Edits::new();
    edits.replace(token.span(), own.raw().to_vec());
    Some((prefix.to_owned(), edits.apply(message.bytes()).ok()?))
}

/// `message` with the text at `path` of its params replaced; nothing when there is none.
#[must_use]
pub fn with_param(message: &Message, path: &[&str], text: &str) -> Option<Bytes> {
    let old = message.params()?.path(path)?;
    let mut edits = Edits::new();
    edits.replace(old.span(), quote(text).into_bytes());
    edits.apply(message.bytes()).ok()
}

const fn name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn hash(text: &str, digits: usize) -> String {
    Digest::of(text.as_bytes()).hex().chars().take(digits).collect()
}

/// Collects what is exposed otherwise.
struct Outward<'p> {
    prefix: &'p Prefix,
    edits: Edits,
}

impl Outward<'_> {
    fn uri(&mut self, at: Option<View<'_>>) {
        if let Some((view, uri)) = at.and_then(|view| Some((view, view.as_str()?))) {
            self.edits.replace(view.span(), quote(&self.prefix.expose_uri(&uri)).into_bytes());
        }
    }

    fn id(&mut self, at: Option<View<'_>>) {
        if let Some((view, id)) = at.and_then(|view| Some((view, view.as_str()?))) {
            self.edits.replace(view.span(), quote(&self.prefix.expose_id(&id)).into_bytes());
        }
    }

    /// The result of a call, a read, a prompt or a task; a task holds the result of its call.
    fn result(&mut self, result: View<'_>) {
        self.own_result(result);
        if let Some(inner) = result.get("result").filter(|inner| inner.kind() == ValueKind::Object) {
            self.own_result(inner);
        }
    }

    fn own_result(&mut self, result: View<'_>) {
        for (name, value) in result.members() {
            match name.as_ref() {
                "content" => value.elements().for_each(|block| self.block(block)),
                "contents" => value.elements().for_each(|content| self.uri(content.get("uri"))),
                "messages" => value.elements().for_each(|message| self.message(message)),
                "taskId" => self.id(Some(value)),
                "task" => self.id(value.get("taskId")),
                "tasks" => value.elements().for_each(|task| self.id(task.get("taskId"))),
                _ => {}
            }
        }
        self.app(result);
        self.related(result);
    }

    fn message(&mut self, message: View<'_>) {
        let Some(content) = message.get("content") else { return };
        match content.kind() {
            ValueKind::Array => content.elements().for_each(|block| self.block(block)),
            _ => self.block(content),
        }
    }

    /// A block of content: a link or an embedded resource names a URI.
    fn block(&mut self, block: View<'_>) {
        let kind = block.get("type").and_then(|kind| kind.as_str());
        match kind.as_deref() {
            Some("resource_link") => self.uri(block.get("uri")),
            Some("resource") => self.uri(block.path(&["resource", "uri"])),
            Some("tool_result") => {
                let content = block.get("content");
                content
                    .into_iter()
                    .flat_map(|content| content.elements())
                    .for_each(|inner| self.inner(inner));
            }
            _ => {}
        }
    }

    /// Content inside a tool result of a conversation; it nests no further.
    fn inner(&mut self, block: View<'_>) {
        self.uri(
            block.get("uri").filter(|_| block.get("type").is_some_and(|kind| kind.is_str("resource_link"))),
        );
        self.uri(block.path(&["resource", "uri"]));
    }

    /// The page of an MCP App, in both places where servers name it.
    fn app(&mut self, holder: View<'_>) {
        let Some(meta) = holder.get("_meta") else { return };
        self.uri(meta.path(&["ui", "resourceUri"]));
        self.uri(meta.get("ui/resourceUri"));
    }

    fn task(&mut self, params: View<'_>) {
        self.id(params.get("taskId"));
        self.related(params);
    }

    fn related(&mut self, holder: View<'_>) {
        self.id(holder.path(&["_meta", RELATED_TASK, "taskId"]));
    }

    fn token(&mut self, params: View<'_>) {
        let Some(token) = params.path(&["_meta", "progressToken"]) else { return };
        let exposed = self.prefix.expose_id(&String::from_utf8_lossy(token.raw()));
        self.edits.replace(token.span(), quote(&exposed).into_bytes());
    }
}
