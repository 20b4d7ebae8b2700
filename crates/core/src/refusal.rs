//! A no: what the caller is told, what the operator is told, and whose fault it was.

use alloc::{borrow::Cow, boxed::Box, string::String};
use core::fmt;

use crate::Code;

/// A refusal. Public text never contains a path, a key, an upstream's words or a type name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The row of the table of codes.
    pub code: Code,
    /// The code the caller sees, where it must not learn the real one: what is hidden looks absent.
    pub shown: Code,
    /// What the caller is told; starts as the code's public sentence.
    pub public: Cow<'static, str>,
    /// What the operator is told, in log and ledger. May name servers, tools and rules; never secrets.
    pub private: String,
    /// Extra `data` for the JSON-RPC error, for codes whose specification asks for it; JSON text.
    pub data: Option<Box<str>>,
    /// Seconds after which a retry can succeed, for `Retry-After`.
    pub retry_after_s: Option<u32>,
    /// The OAuth scopes with which it would succeed, parted by spaces, for the challenge.
    pub scope: Option<Box<str>>,
}

impl Refusal {
    /// A refusal with the code's own public sentence and a private detail.
    #[must_use]
    pub fn new(code: Code, private: impl Into<String>) -> Self {
        Self {
            code,
            shown: code,
            public: Cow::Borrowed(code.sentence()),
            private: private.into(),
            data: None,
            retry_after_s: None,
            scope: None,
        }
    }

    /// The same refusal, looking like `code` to the caller; ledger and log keep the real one.
    #[must_use]
    pub fn shown_as(mut self, code: Code) -> Self {
        self.shown = code;
        self.public = Cow::Borrowed(code.sentence());
        self
    }

    /// The same refusal, telling the caller `public` instead of the code's sentence.
    #[must_use]
    pub fn saying(mut self, public: impl Into<Cow<'static, str>>) -> Self {
        self.public = public.into();
        self
    }

    /// The same refusal with `data` (JSON text) for the JSON-RPC error.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Box<str>>) -> Self {
        self.data = Some(data.into());
        self
    }

    /// The same refusal, telling the caller which scopes would do.
    #[must_use]
    pub fn needing(mut self, scope: impl Into<Box<str>>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The same refusal, telling the caller to wait.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.private)
    }
}

impl core::error::Error for Refusal {}
