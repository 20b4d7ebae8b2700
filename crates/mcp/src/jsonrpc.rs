//! One JSON-RPC message, kept as the bytes it came in. Parsing proves the envelope; views read the rest.

use alloc::{borrow::Cow, vec::Vec};
use core::{fmt, hash, ops::Range};

use bytes::Bytes;
use portcullis_core::Code;

use crate::json::{JsonError, JsonLimits, Member, Stats, ValueKind, View, check_members, quote};

/// An id longer than this is refused: ids are remembered while calls are in flight.
const ID_BYTES_MAX: usize = 1024;

/// The members of a message.
const MEMBERS: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];

/// The members of `params` by which a message is judged or sent on its way.
const PARAMS: &[&str] = &[
    "_meta",
    "arguments",
    "cursor",
    "inputResponses",
    "name",
    "progressToken",
    "ref",
    "requestId",
    "requestState",
    "uri",
];

/// Whether `name` is none of `known`, but would be for a reader that ignores case, as Go's `encoding/json` does; it
/// folds the long s and the Kelvin sign, too.
fn is_disguised(name: &str, known: &[&str]) -> bool {
    let folded = |name: char| match name {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    let same = |known: &&str| name.chars().map(folded).eq(known.chars().map(folded));
    !known.contains(&name) && known.iter().any(same)
}

/// Which of the four forms a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// An answer that says what went wrong.
    Error,
    /// A method without an id: no answer is expected.
    Notification,
    /// A method with an id.
    Request,
    /// An answer with a result.
    Response,
}

/// Why bytes are not one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// An array: batches exist in no revision that is served.
    #[error("a batch of messages")]
    Batch,
    /// A name that only case tells from one of the protocol: readers that ignore case would read another message.
    #[error("a member is named like one of the protocol, but for its case")]
    Case,
    /// `error` is not an object with an integer `code` and a string `message`.
    #[error("`error` is not an object with an integer `code` and a string `message`")]
    ErrorForm,
    /// `id` is neither a string nor an integer, or too long.
    #[error("`id` is neither a string nor an integer of at most {ID_BYTES_MAX} bytes")]
    IdForm,
    /// A response without an id.
    #[error("a response without `id`")]
    IdMissing,
    /// Not acceptable JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The members contradict each other, for example both `method` and `result`.
    #[error("the members fit no form: exactly one of `method`, `result`, `error` is needed")]
    Members,
    /// `method` is not a string.
    #[error("`method` is not a string")]
    MethodForm,
    /// Neither an object nor an array.
    #[error("not an object")]
    NotObject,
    /// `params` is not an object.
    #[error("`params` is not an object")]
    ParamsForm,
    /// `result` is not an object.
    #[error("`result` is not an object")]
    ResultForm,
    /// `jsonrpc` is not `"2.0"`.
    #[error("`jsonrpc` is not \"2.0\"")]
    Version,
}

impl MessageError {
    /// The code of the refusal, where a client sent the message.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Json(error) => error.code(),
            Self::Batch
            | Self::Case
            | Self::ErrorForm
            | Self::IdForm
            | Self::IdMissing
            | Self::Members
            | Self::MethodForm
            | Self::NotObject
            | Self::ParamsForm
            | Self::ResultForm
            | Self::Version => Code::RequestInvalid,
        }
    }
}

/// The id of a request: a string or an integer. Two ids are equal when they mean the same, however they are
/// escaped; the bytes as written are kept beside that.
#[derive(Clone)]
pub struct Id {
    raw: Bytes,
    canonical: Bytes,
}

impl Id {
    /// The id written as `raw` (JSON text), if it is a string or an integer.
    #[must_use]
    pub fn from_json(raw: Bytes) -> Option<Self> {
        let limits = JsonLimits {
            bytes_max: ID_BYTES_MAX,
            depth_max: 0,
            nodes_max: 1,
            string_bytes_max: ID_BYTES_MAX,
        };
        crate::json::check(&raw, &limits).ok()?;
        Self::of(raw)
    }

    fn of(raw: Bytes) -> Option<Self> {
        let view = View::of(&raw);
        let canonical = match view.kind() {
            ValueKind::String if memchr::memchr(b'\\', &raw).is_some() => {
                Bytes::from(quote(&view.as_str().unwrap_or_default()))
            }
            ValueKind::String => raw.clone(),
            ValueKind::Number if raw.as_ref() == b"-0" => Bytes::from_static(b"0"),
            ValueKind::Number if raw.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9')) => raw.clone(),
            ValueKind::Number | ValueKind::Array | ValueKind::Bool | ValueKind::Null | ValueKind::Object => {
                return None;
            }
        };
        (raw.len() <= ID_BYTES_MAX).then_some(Self { raw, canonical })
    }

    /// The bytes as written.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The one way to write this id; equal ids have equal ones.
    #[must_use]
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for Id {}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.canonical.cmp(&other.canonical)
    }
}

impl hash::Hash for Id {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.canonical.hash(state);
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As written.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.raw).unwrap_or_default())
    }
}

/// One message: its bytes, and where the members of the envelope are. Unknown members are kept, not looked at.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    shape: Shape,
    stats: Stats,
    id: Option<Range<usize>>,
    method: Option<Range<usize>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

impl Message {
    /// Parses exactly one message.
    ///
    /// # Errors
    /// JSON that is not acceptable, a batch, or an envelope that is not JSON-RPC 2.0.
    pub fn parse(bytes: Bytes, limits: &JsonLimits) -> Result<Self, MessageError> {
        let (stats, members) = check_members(&bytes, limits)?;
        match View::of(&bytes).kind() {
            ValueKind::Object => {}
            ValueKind::Array => return Err(MessageError::Batch),
            ValueKind::Bool | ValueKind::Null | ValueKind::Number | ValueKind::String => {
                return Err(MessageError::NotObject);
            }
        }
        let mut message = Self {
            bytes,
            shape: Shape::Request,
            stats,
            id: None,
            method: None,
            params: None,
            result: None,
            error: None,
        };
        let version = message.place(members)?;
        if !version.is_some_and(|span| message.view(&span).is_str("2.0")) {
            return Err(MessageError::Version);
        }
        message.shape = message.form()?;
        Ok(message)
    }

    /// Notes where the known members are; gives the place of `jsonrpc`.
    fn place(&mut self, members: Vec<Member>) -> Result<Option<Range<usize>>, MessageError> {
        let mut version = None;
        for Member { name, value } in members {
            let bytes = self.bytes.clone();
            let slot = match View::at(&bytes, &name).as_str().unwrap_or_default().as_ref() {
                "jsonrpc" => &mut version,
                "id" => &mut self.id,
                "method" => &mut self.method,
                "params" => &mut self.params,
                "result" => &mut self.result,
                "error" => &mut self.error,
                name if is_disguised(name, MEMBERS) => return Err(MessageError::Case),
                _ => continue,
            };
            *slot = Some(value);
        }
        let mut params = self.params().into_iter().flat_map(|params| params.members());
        if params.any(|(name, _)| is_disguised(&name, PARAMS)) {
            return Err(MessageError::Case);
        }
        Ok(version)
    }

    fn form(&mut self) -> Result<Shape, MessageError> {
        let shape = match (&self.method, &self.result, &self.error) {
            (Some(_), None, None) if self.id.is_some() => Shape::Request,
            (Some(_), None, None) => Shape::Notification,
            (None, Some(_), None) => Shape::Response,
            (None, None, Some(_)) => Shape::Error,
            (_, _, _) => return Err(MessageError::Members),
        };
        let null_id = self.id.as_ref().is_some_and(|span| self.view(span).is_null());
        match shape {
            // An error that could not be matched to a request has no id to give.
            Shape::Error if null_id => {}
            Shape::Response if self.id.is_none() => return Err(MessageError::IdMissing),
            Shape::Error | Shape::Notification | Shape::Request | Shape::Response => {
                if self.id.is_some() && self.id().is_none() {
                    return Err(MessageError::IdForm);
                }
            }
        }
        let is = |span: &Option<Range<usize>>, kind| {
            span.as_ref().is_none_or(|span| self.view(span).kind() == kind)
        };
        if !is(&self.method, ValueKind::String) {
            return Err(MessageError::MethodForm);
        }
        if !is(&self.params, ValueKind::Object) {
            return Err(MessageError::ParamsForm);
        }
        if self.params.is_some() && self.method.is_none() {
            return Err(MessageError::Members);
        }
        if !is(&self.result, ValueKind::Object) {
            return Err(MessageError::ResultForm);
        }
        if let Some(error) = self.error() {
            let code = error.get("code").is_some_and(|code| code.as_i64().is_some());
            let text = error.get("message").is_some_and(|text| text.kind() == ValueKind::String);
            if error.kind() != ValueKind::Object || !code || !text {
                return Err(MessageError::ErrorForm);
            }
        }
        Ok(shape)
    }

    fn view(&self, span: &Range<usize>) -> View<'_> {
        View::at(&self.bytes, span)
    }

    fn optional(&self, span: Option<&Range<usize>>) -> Option<View<'_>> {
        span.map(|span| self.view(span))
    }

    /// The bytes it came in.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Which form it has.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The id; none for notifications and for errors without one or with `null`.
    #[must_use]
    pub fn id(&self) -> Option<Id> {
        let span = self.id.clone()?;
        if span.end > self.bytes.len() {
            return None;
        }
        Id::of(self.bytes.slice(span))
    }

    /// The decoded name of the method.
    #[must_use]
    pub fn method_name(&self) -> Option<Cow<'_, str>> {
        self.optional(self.method.as_ref())?.as_str()
    }

    /// `params`, an object.
    #[must_use]
    pub fn params(&self) -> Option<View<'_>> {
        self.optional(self.params.as_ref())
    }

    /// `result`, an object.
    #[must_use]
    pub fn result(&self) -> Option<View<'_>> {
        self.optional(self.result.as_ref())
    }

    /// `error`, an object with `code` and `message`.
    #[must_use]
    pub fn error(&self) -> Option<View<'_>> {
        self.optional(self.error.as_ref())
    }

    /// The whole message.
    #[must_use]
    pub fn root(&self) -> View<'_> {
        View::of(&self.bytes)
    }

    /// What the check learned.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The same bytes with another id (JSON text); unchanged when there is none to replace.
    #[must_use]
    pub fn with_id(&self, raw: &[u8]) -> Bytes {
        let Some(span) = &self.id else { return self.bytes.clone() };
        let (before, after) = (self.bytes.get(..span.start), self.bytes.get(span.end..));
        let mut out = Vec::with_capacity(self.bytes.len() + raw.len());
        out.extend_from_slice(before.unwrap_or_default());
        out.extend_from_slice(raw);
        out.extend_from_slice(after.unwrap_or_default());
        Bytes::from(out)
    }
}
