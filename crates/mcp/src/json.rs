//! Bounded, strict JSON: one pass that proves a text well-formed and within limits, then views into its bytes.

mod check;
mod edit;
mod names;
mod removal;
mod text;
mod tree;
mod view;

pub use check::check;
pub(crate) use check::{Member, check_members};
pub use edit::{EditError, Edits};
use portcullis_core::{Code, Limits};
pub use removal::{removal, without};
pub use text::quote;
pub use view::{Elements, Members, ValueKind, View};

/// How much JSON is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    /// Bytes of the whole text.
    pub bytes_max: usize,
    /// Containers open at once.
    pub depth_max: usize,
    /// Values: members, elements, scalars and the containers themselves.
    pub nodes_max: usize,
    /// Bytes of one string as written, without its quotes. Names are strings too.
    pub string_bytes_max: usize,
}

impl JsonLimits {
    /// The limits of what a client sends.
    #[must_use]
    pub fn request(limits: &Limits) -> Self {
        Self::with_bytes(limits, limits.body_bytes_max)
    }

    /// The limits of what a server sends.
    #[must_use]
    pub fn answer(limits: &Limits) -> Self {
        Self::with_bytes(limits, limits.answer_bytes_max)
    }

    fn with_bytes(limits: &Limits, bytes_max: u64) -> Self {
        let size = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            bytes_max: size(bytes_max),
            depth_max: size(limits.json_depth_max),
            nodes_max: size(limits.json_nodes_max),
            string_bytes_max: size(limits.json_string_bytes_max),
        }
    }
}

/// What the one pass learned on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Values of every kind.
    pub nodes: usize,
    /// Greatest number of containers open at once.
    pub depth: usize,
    /// Whether any byte is outside ASCII.
    pub non_ascii: bool,
    /// Whether any string has a `\u` escape: text that looks like ASCII may then decode to something else.
    pub unicode_escapes: bool,
}

/// Why a text is not accepted. Offsets count bytes from the start of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// A byte order mark in front.
    #[error("byte order mark at offset {offset}")]
    ByteOrderMark {
        /// Where.
        offset: usize,
    },
    /// More containers open at once than allowed.
    #[error("nested deeper than {max} at offset {offset}")]
    Depth {
        /// Where.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// An object has two members whose decoded names are equal.
    #[error("duplicate member name at offset {offset}")]
    DuplicateName {
        /// Where the second one starts.
        offset: usize,
    },
    /// A surrogate escape without its other half.
    #[error("lone surrogate escape at offset {offset}")]
    LoneSurrogate {
        /// Where.
        offset: usize,
    },
    /// Not the grammar of RFC 8259.
    #[error("malformed JSON at offset {offset}")]
    Malformed {
        /// Where.
        offset: usize,
    },
    /// More values than allowed.
    #[error("more than {max} values at offset {offset}")]
    Nodes {
        /// Where.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// Not the grammar of a number, or beyond what a double can hold.
    #[error("unacceptable number at offset {offset}")]
    Number {
        /// Where it starts.
        offset: usize,
    },
    /// More bytes than allowed.
    #[error("longer than {max} bytes")]
    Size {
        /// Where the limit lies.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// A string longer than allowed.
    #[error("string longer than {max} bytes at offset {offset}")]
    String {
        /// Where it starts.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// Something follows the value.
    #[error("trailing bytes at offset {offset}")]
    Trailing {
        /// Where.
        offset: usize,
    },
    /// Not UTF-8.
    #[error("not UTF-8 at offset {offset}")]
    Utf8 {
        /// Where.
        offset: usize,
    },
}

impl JsonError {
    /// Bytes from the start of the text to what is wrong.
    #[must_use]
    pub const fn offset(self) -> usize {
        match self {
            Self::ByteOrderMark { offset }
            | Self::Depth { offset, .. }
            | Self::DuplicateName { offset }
            | Self::LoneSurrogate { offset }
            | Self::Malformed { offset }
            | Self::Nodes { offset, .. }
            | Self::Number { offset }
            | Self::Size { offset, .. }
            | Self::String { offset, .. }
            | Self::Trailing { offset }
            | Self::Utf8 { offset } => offset,
        }
    }

    /// The code of the refusal, where a client sent the text.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Depth { .. } | Self::Nodes { .. } | Self::Size { .. } | Self::String { .. } => {
                Code::RequestTooLarge
            }
            // The text is JSON; only readers that disagree about which member counts make it dangerous.
            Self::DuplicateName { .. } => Code::RequestInvalid,
            Self::ByteOrderMark { .. }
            | Self::LoneSurrogate { .. }
            | Self::Malformed { .. }
            | Self::Number { .. }
            | Self::Trailing { .. }
            | Self::Utf8 { .. } => Code::RequestMalformed,
        }
    }
}
