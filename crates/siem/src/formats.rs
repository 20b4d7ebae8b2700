//! How an entry is written for a sink. Each format is one file and one line here.

use portcullis_core::catalog;
use serde_json::Value;

use crate::Seen;

/// The product, as every format names it.
pub(crate) const PRODUCT: &str = "Portcullis";
/// Its version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is sent of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A document.
    Json(Value),
    /// A line of text.
    Text(String),
}

impl Body {
    /// As one line of text.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A way to write an entry.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name in configuration.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// One document or line, or several where an entry is several things in that format.
    pub render: fn(&Seen) -> Vec<Body>,
}

catalog! {
    /// Every format.
    pub FORMATS: [Format] = cef, ecs, json, leef, ocsf
}

impl Format {
    /// The format of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }
}

#[cfg(test)]
mod tests;
