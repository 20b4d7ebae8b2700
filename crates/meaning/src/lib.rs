//! What operators declare parameters of tools to mean, and whether arguments are that. Names of parameters are matched
//! here; each meaning has a file of its own.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod address;
mod path;
mod pointer;
mod propose;
mod sql;
mod url;
mod words;

use alloc::{
    borrow::{Cow, ToOwned},
    format,
    string::String,
    vec::Vec,
};

use portcullis_core::{Digest, Finding, Severity, Treatment};
use portcullis_mcp::json::{ValueKind, View};
use portcullis_policy::Pattern;

pub use self::{
    address::{HostPattern, HostRule},
    path::PathRule,
    pointer::Pointer,
    propose::{Proposal, Suggestion, propose},
    sql::{Dialect, SqlRule},
    url::UrlRule,
    words::{CommandRule, EmailRule, IdentifierRule, LiteralRule},
};

/// Arguments of one call that are refused are named up to this many.
const BREACHES_MAX: usize = 16;

/// What a parameter means.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// A program and its arguments, without a shell.
    Command(CommandRule),
    /// The address of one mailbox.
    Email(EmailRule),
    /// The name or address of a machine.
    Host(HostRule),
    /// A name that means nothing else anywhere.
    Identifier(IdentifierRule),
    /// Text that no interpreter takes for anything else.
    Literal(LiteralRule),
    /// One of these texts, exactly.
    OneOf(Vec<String>),
    /// A file or folder.
    Path(PathRule),
    /// A query that only reads.
    Sql(SqlRule),
    /// A URL.
    Url(UrlRule),
}

impl Meaning {
    /// What findings call it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "parameter.command",
            Self::Email(_) => "parameter.email",
            Self::Host(_) => "parameter.host",
            Self::Identifier(_) => "parameter.identifier",
            Self::Literal(_) => "parameter.literal",
            Self::OneOf(_) => "parameter.one_of",
            Self::Path(_) => "parameter.path",
            Self::Sql(_) => "parameter.sql",
            Self::Url(_) => "parameter.url",
        }
    }

    /// Why `text` is not that, if it is not.
    ///
    /// # Errors
    /// A phrase that goes on after the name of the parameter. It holds nothing of the text.
    pub fn check(&self, text: &str) -> Result<(), &'static str> {
        match self {
            Self::OneOf(texts) if texts.iter().any(|one| one == text) => Ok(()),
            Self::OneOf(_) => Err("is none of the declared texts"),
            // Structure in a text is a text to a query alone: other servers may read it before they look at it.
            _ if !matches!(self, Self::Sql(_)) && structured(text) => Err("holds a structure as text"),
            Self::Command(rule) => rule.check(text),
            Self::Email(rule) => rule.check(text),
            Self::Host(rule) => rule.check(text),
            Self::Identifier(rule) => rule.check(text),
            Self::Literal(rule) => rule.check(text),
            Self::Path(rule) => rule.check(text),
            Self::Sql(rule) => rule.check(text),
            Self::Url(rule) => rule.check(text),
        }
    }

    fn check_value(&self, value: &View<'_>) -> Result<(), &'static str> {
        match value.kind() {
            ValueKind::Null => Ok(()),
            ValueKind::String => value.as_str().map_or(Err("is no text"), |text| self.check(&text)),
            ValueKind::Bool | ValueKind::Number => match self {
                Self::Identifier(_) | Self::OneOf(_) => self.check(&String::from_utf8_lossy(value.raw())),
                _ => Err("is no text"),
            },
            ValueKind::Array | ValueKind::Object => Err("is no text"),
        }
    }
}

/// Frameworks for servers read JSON in texts where the tool wants something else than a text.
fn structured(text: &str) -> bool {
    let text = text.trim();
    [('[', ']'), ('{', '}'), ('"', '"')]
        .iter()
        .any(|(open, close)| text.len() > 1 && text.starts_with(*open) && text.ends_with(*close))
}

/// An argument that is not what its parameter was declared to mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// What was declared, as findings call it.
    pub kind: &'static str,
    /// JSON pointer into the arguments.
    pub place: String,
    /// A phrase that goes on after the name of the parameter, without anything of the value.
    pub why: &'static str,
    /// Of the value as it came.
    pub evidence: Digest,
}

impl Breach {
    /// As a finding in a message.
    #[must_use]
    pub fn finding(&self) -> Finding {
        Finding {
            kind: self.kind,
            severity: Severity::High,
            confidence: Finding::CERTAIN,
            place: format!("/params/arguments{}", self.place),
            evidence: self.evidence,
            treatment: Treatment::Refuse,
        }
    }
}

/// What the parameters of the tools of one server were declared to mean.
#[derive(Clone, Debug, Default)]
pub struct Meanings {
    declared: Vec<(Pattern, Pointer, Meaning)>,
}

impl Meanings {
    /// Declares a parameter of the tools that `tools` matches. What is declared more than once has to be all of it.
    pub fn declare(&mut self, tools: Pattern, parameter: Pointer, meaning: Meaning) {
        self.declared.push((tools, parameter, meaning));
    }

    /// Whether nothing is declared.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    /// The arguments of a call of `tool` that are not what they were declared to be.
    #[must_use]
    pub fn check(&self, tool: &str, arguments: Option<View<'_>>) -> Vec<Breach> {
        let mut found = Vec::new();
        let Some(arguments) = arguments else { return found };
        for (_, pointer, meaning) in self.declared.iter().filter(|(tools, ..)| tools.matches(tool)) {
            let mut judge = |place: String, value: Option<View<'_>>| {
                let verdict = match &value {
                    Some(value) => meaning.check_value(value),
                    None => Err("is no structure, but a parameter in it has a meaning"),
                };
                if let Err(why) = verdict
                    && found.len() < BREACHES_MAX
                {
                    let text = value.as_ref().and_then(View::as_str);
                    let seen = text.unwrap_or_else(|| {
                        Cow::Owned(value.map_or_else(String::new, |value| {
                            String::from_utf8_lossy(value.raw()).into_owned()
                        }))
                    });
                    let evidence = Digest::of(seen.as_bytes());
                    found.push(Breach { kind: meaning.kind(), place, why, evidence });
                }
            };
            pointer.visit(arguments, &mut judge);
        }
        found
    }
}

/// A text of at most so many bytes without control characters.
fn printable(text: &str, bytes_max: usize) -> Result<&str, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > bytes_max {
        return Err("is too long");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    Ok(text)
}

/// Lower case, where only ASCII counts.
fn lower(text: &str) -> String {
    text.to_owned().to_ascii_lowercase()
}

#[cfg(test)]
mod tests;
