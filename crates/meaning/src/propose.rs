//! What the parameters of a tool probably mean, by its schema: proposed to the operator, never enforced.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use portcullis_mcp::json::View;

use crate::lower;

/// Parameters in parameters.
const DEPTH_MAX: usize = 4;
/// Proposals for one tool.
const PROPOSALS_MAX: usize = 64;

/// A meaning that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suggestion {
    /// A program and its arguments.
    Command,
    /// A mailbox.
    Email,
    /// A machine.
    Host,
    /// An identifier.
    Identifier,
    /// A file or folder.
    Path,
    /// A query.
    Sql,
    /// A URL.
    Url,
}

/// A meaning that a parameter probably has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// A name, or a JSON pointer where the parameter lies in another.
    pub parameter: String,
    /// What it probably is.
    pub suggestion: Suggestion,
    /// What makes one think so.
    pub why: &'static str,
}

/// What the parameters of a tool with this `inputSchema` probably mean. Those with a list of values need no meaning.
#[must_use]
pub fn propose(schema: View<'_>) -> Vec<Proposal> {
    let mut found = Vec::new();
    look(schema, "", DEPTH_MAX, &mut found);
    found
}

fn look(schema: View<'_>, place: &str, depth: usize, found: &mut Vec<Proposal>) {
    let Some(left) = depth.checked_sub(1) else { return };
    if let Some(items) = schema.get("items") {
        look(items, &format!("{place}/*"), left, found);
    }
    for (name, property) in schema.get("properties").into_iter().flat_map(|all| all.members()) {
        let place = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
        let typed = |one: &str| property.get("type").is_some_and(|kind| kind.is_str(one));
        let texts =
            property.get("items").is_some_and(|items| items.get("type").is_some_and(|t| t.is_str("string")));
        let closed = property.get("enum").is_some() || property.get("const").is_some();
        let open = !closed
            && !["array", "boolean", "integer", "null", "number", "object"].iter().any(|one| typed(one));
        if open || texts {
            let text =
                |key: &str| property.get(key).and_then(|text| text.as_str()).unwrap_or_default().into_owned();
            if let Some((suggestion, why)) = guess(&name, &text("format"), &text("description"))
                && found.len() < PROPOSALS_MAX
            {
                let plain = place.matches('/').count() == 1 && !name.starts_with('/');
                let parameter = if plain { name.to_string() } else { place.clone() };
                found.push(Proposal { parameter, suggestion, why });
            }
        }
        if !texts {
            look(property, &place, left, found);
        }
    }
}

/// By format, then by the last words of the name, then by what is said about it.
fn guess(name: &str, format: &str, said: &str) -> Option<(Suggestion, &'static str)> {
    let by_format = match format {
        "email" | "idn-email" => Some(Suggestion::Email),
        "hostname" | "idn-hostname" | "ipv4" | "ipv6" => Some(Suggestion::Host),
        "uri" | "iri" | "uri-reference" | "url" => Some(Suggestion::Url),
        "path" | "file-path" | "directory-path" => Some(Suggestion::Path),
        "uuid" => Some(Suggestion::Identifier),
        _ => None,
    };
    if let Some(suggestion) = by_format {
        return Some((suggestion, "the format in the schema"));
    }
    let (words, said) = (words(name), lower(said));
    let is = |one: &str| words.iter().any(|word| word == one);
    let ends = |all: &[&str]| words.last().is_some_and(|word| all.contains(&&**word));
    let by_name = if is("sql") || (ends(&["query", "statement"]) && said.contains("sql")) {
        Suggestion::Sql
    } else if ends(&["url", "uri", "urls", "uris", "href", "webhook", "endpoint", "link"]) {
        Suggestion::Url
    } else if ends(&[
        "path",
        "paths",
        "file",
        "files",
        "filename",
        "filepath",
        "dir",
        "directory",
        "folder",
        "cwd",
    ]) {
        Suggestion::Path
    } else if ends(&["command", "cmd", "shell", "argv"]) {
        Suggestion::Command
    } else if ends(&["email", "emails", "mail", "recipient", "recipients", "cc", "bcc"]) {
        Suggestion::Email
    } else if ends(&["host", "hostname", "hosts", "domain", "server"]) || name == "ip" {
        Suggestion::Host
    } else if ends(&["id", "ids", "uuid", "slug", "branch", "table"]) {
        Suggestion::Identifier
    } else if said.contains("absolute path")
        || said.contains("file path")
        || said.contains("path to the file")
    {
        return Some((Suggestion::Path, "its description"));
    } else if said.contains("sql query") || said.contains("sql statement") || said.contains("select query") {
        return Some((Suggestion::Sql, "its description"));
    } else if said.contains("shell command") {
        return Some((Suggestion::Command, "its description"));
    } else {
        return None;
    };
    Some((by_name, "its name"))
}

/// `baseUrl`, `base_url` and `base-url` in words.
fn words(name: &str) -> Vec<String> {
    let mut words = Vec::from([String::new()]);
    let mut before = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        before = c.is_lowercase() || c.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    words
}
