//! Single values with a form of their own: names, patterns, references to secrets, the words of the core.

use std::collections::BTreeMap;

use portcullis_connect::auth::Alg;
use portcullis_core::{Action, Limits};
pub use portcullis_secrets::Reference;
use serde_json::json;
use url::{Host as UrlHost, Url};

use super::{
    decode::{FieldShape, SectionShape, Setting, Shape, Walk, choice, nearest, one_of},
    primitives::integer,
    yaml::{Node, Value},
};

/// Declares a text with a rule of its own.
macro_rules! text {
    ($(#[doc = $doc:literal])+ $name:ident: $shape:literal, |$text:ident, $walk:ident, $node:ident| $check:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub String);

        impl Setting for $name {
            fn shape() -> Shape {
                Shape::Text($shape)
            }

            fn read($node: &Node, $walk: &mut Walk) -> Option<Self> {
                let $text = String::read($node, $walk)?;
                let good: bool = $check;
                good.then_some(Self($text))
            }

            fn json(&self) -> Option<serde_json::Value> {
                Some(json!(self.0))
            }
        }
    };
}

/// Whether `text` can name a server or a role: it stands in URLs, in policies and on command lines.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What [`is_name`] wants, as a hint.
pub(crate) const NAME_HINT: &str =
    "use up to 64 letters, digits, `.`, `_` and `-`, starting with a letter or digit";

text! {
    /// A role that is built in or declared under `roles`.
    RoleName: "role", |text, walk, node| {
        let known = walk.roles.contains(&text);
        if !known {
            let names: Vec<&str> = walk.roles.iter().map(String::as_str).collect();
            let hint = nearest(&text, &names)
                .map_or_else(|| format!("declare it under `roles`; known: {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
            walk.report(node, format!("unknown role `{text}`"), hint);
        }
        known
    }
}

text! {
    /// The name of a detector in the catalogue.
    DetectorName: "detector", |text, walk, node| {
        let names = detector_names(walk);
        let known = names.contains(&text);
        if !known {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let hint = nearest(&text, &names)
                .map_or_else(|| format!("known detectors: {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
            walk.report(node, format!("unknown detector `{text}`"), hint);
        }
        known
    }
}

text! {
    /// A name with `*` for any text.
    PatternText: "pattern", |text, walk, node| {
        let checked = text.parse::<portcullis_policy::Pattern>();
        if let Err(error) = &checked {
            walk.report(node, error.to_string(), "write a name; `*` stands for any text, `\\*` for a star");
        }
        checked.is_ok()
    }
}

text! {
    /// What the things of a server are exposed under where several are behind one route.
    PrefixText: "prefix", |text, walk, node| {
        let good = portcullis_mcp::alias::Prefix::new(&text).is_some();
        if !good {
            walk.report(node, format!("`{text}` cannot be a prefix"), "use up to 20 letters, digits, `.`, `_` and `-`, without `__`, and no `_` at the end");
        }
        good
    }
}

text! {
    /// A host name or address, with an optional port.
    Host: "host", |text, walk, node| {
        let good = !text.contains(['/', '@', '?', '#']) && Url::parse(&format!("http://{text}/")).is_ok();
        if !good {
            walk.report(node, format!("`{text}` is not a host name"), "write it as in the Host header: `gateway.example` or `gateway.example:8443`");
        }
        good
    }
}

text! {
    /// A web origin.
    Origin: "origin", |text, walk, node| {
        // `null` is the origin of every sandboxed page, so it cannot be listed either.
        let good = Url::parse(&text).is_ok_and(|url| url.origin().ascii_serialization() == text && text != "null");
        if !good {
            walk.report(node, format!("`{text}` is not an origin"), "write scheme, host and port only, like `https://app.example`");
        }
        good
    }
}

text! {
    /// The origin line of a checkpoint: also a key name of signed notes, so without spaces and plus signs.
    OriginName: "log origin", |text, walk, node| {
        let good = !text.is_empty() && text.len() <= 255 && !text.contains('+') && !text.contains(char::is_whitespace);
        if !good {
            walk.report(node, "a log origin has 1 to 255 bytes, no spaces and no `+`", "write something like `gateway.example/ledger`");
        }
        good
    }
}

text! {
    /// A filter of log lines.
    LogFilter: "log filter", |text, walk, node| {
        match tracing_subscriber::EnvFilter::builder().parse(&text) {
            Ok(_) => true,
            Err(error) => {
                walk.report(node, format!("`{text}` is not a log filter: {error}"), "write error, warn, info, debug or trace");
                false
            }
        }
    }
}

/// The detectors there are, and recognisers.
pub(crate) fn detector_names(walk: &Walk) -> Vec<String> {
    let own = walk.recognisers.iter().cloned();
    portcullis_inspect::CATALOG.iter().map(|kind| kind.name.to_owned()).chain(own).collect()
}

impl<T: Setting> Setting for BTreeMap<DetectorName, T> {
    fn shape() -> Shape {
        Shape::Section(SectionShape {
            name: "Detectors",
            doc: "Detectors and recognisers, by name.",
            more: Some(Box::new(T::shape())),
            fields: portcullis_inspect::CATALOG
                .iter()
                .map(|kind| FieldShape {
                    key: kind.name,
                    doc: kind.doc,
                    shape: T::shape(),
                    required: false,
                    default: None,
                })
                .collect(),
        })
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let names = detector_names(walk);
        let known = walk.only_keys(node, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let read: Vec<Option<(DetectorName, T)>> = walk
            .pairs(node)?
            .iter()
            .map(|(key, value)| {
                walk.key(&key.text, |walk| T::read(value, walk))
                    .map(|value| (DetectorName(key.text.clone()), value))
            })
            .collect();
        read.into_iter().collect::<Option<Self>>().filter(|_| known)
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl Setting for Ratio {
    fn shape() -> Shape {
        Shape::Text("ratio")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let hint = "write a number from 0 to 1, like `0.1`";
        let text = walk.scalar(node, "a number", hint)?;
        match text.parse::<f64>() {
            Ok(value) if (0.0..=1.0).contains(&value) => Some(Self(value)),
            Ok(_) | Err(_) => {
                walk.report(node, format!("`{text}` is not a number from 0 to 1"), hint);
                None
            }
        }
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self.0))
    }
}

impl Setting for Action {
    fn shape() -> Shape {
        Shape::Choice(Self::ALL.iter().map(|action| (action.name(), action.doc())).collect())
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let words: Vec<&str> = Self::ALL.iter().map(|action| action.name()).collect();
        one_of(node, walk, &words, Self::ALL)
    }
}

impl Setting for Alg {
    fn shape() -> Shape {
        Shape::Choice(Self::ALL.iter().map(|alg| (alg.name(), "")).collect())
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let words: Vec<&str> = Self::ALL.iter().map(|alg| alg.name()).collect();
        one_of(node, walk, &words, Self::ALL)
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(json!(self.name()))
    }
}

impl Setting for Limits {
    fn shape() -> Shape {
        Shape::Section(SectionShape {
            name: "Limits",
            doc: "Everything that can grow, with its bound. The unit is the last word of each key.",
            more: None,
            fields: Self::ROWS
                .iter()
                .map(|row| FieldShape {
                    key: row.key,
                    doc: row.doc,
                    shape: Shape::Integer { min: row.min, max: row.max },
                    required: false,
                    default: Some(json!(row.default)),
                })
                .collect(),
        })
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let keys: Vec<&str> = Self::ROWS.iter().map(|row| row.key).collect();
        let mut good = walk.only_keys(node, &keys);
        let mut limits = Self::default();
        for row in Self::ROWS {
            let Some((_, value)) = node.get(row.key).filter(|(_, value)| value.value != Value::Null) else {
                continue;
            };
            match walk.key(row.key, |walk| integer(value, walk, row.min, row.max)) {
                Some(value) => good &= limits.set(row.key, value),
                None => good = false,
            }
        }
        good.then_some(limits)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Setting for Reference {
    fn shape() -> Shape {
        Shape::Text("reference")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        match Self::parse(&text) {
            Err(mistake) => {
                walk.report(node, mistake.message, mistake.hint);
                None
            }
            Ok(reference) if reference.as_literal().is_some() && looks_secret(&text) => {
                let hint = "keep it with `portcullis secret put NAME` and write `local:NAME` (also after a word: `Bearer local:NAME`), or \
                            `env:NAME`, `file:PATH`, `vault:MOUNT/PATH#FIELD`, `aws:NAME#FIELD`";
                walk.report(
                    node,
                    "this looks like a secret, and a configuration file is no place for one",
                    hint,
                );
                None
            }
            Ok(reference) => Some(reference.relative_to(&walk.base)),
        }
    }
}

/// Whether a literal is obviously a credential: formats that providers publish, or an authorization scheme.
pub fn looks_secret(text: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "-----BEGIN",
        "AIza",
        "AKIA",
        "ASIA",
        "Basic ",
        "Bearer ",
        "eyJ",
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "glpat-",
        "pcl_",
        "sk-",
        "sk_live_",
        "sk_test_",
        "rk_live_",
        "xoxa-",
        "xoxb-",
        "xoxp-",
    ];
    PREFIXES.iter().any(|prefix| text.starts_with(prefix)) && text.len() > 12
}

/// Whether a header or variable of this name obviously carries a credential.
pub fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    ["authorization", "cookie", "api-key", "apikey", "secret", "token", "password", "passwd", "private-key"]
        .iter()
        .any(|word| name.contains(word))
}

/// Whether the URL points at this machine.
pub fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(UrlHost::Domain(name)) => name == "localhost",
        Some(UrlHost::Ipv4(ip)) => ip.is_loopback(),
        Some(UrlHost::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

choice! {
    /// What stands in the place of what is masked.
    Form {
        /// `[masked:email]`.
        Placeholder = "placeholder",
        /// Stars for letters and digits; of long ones the last four stay, of an address its domain.
        Stars = "stars",
        /// `[email:9f86d081884c7d65]`, always the same for the same value: who reads it can tell people apart, but not
        /// who they are. Still personal data (GDPR, Art. 4(5)).
        Pseudonym = "pseudonym",
        /// `<EMAIL_lbH0…>`: the value itself, sealed. Restored in arguments where a rule says `restore`, so that a model
        /// can work on data that it never sees.
        Token = "token",
        /// What is left is true of many: of dates the year, of postal codes the first three digits (of areas with few people
        /// `000`), of ages over 89 `90+`, of IP addresses the /24 or /48, of coordinates one decimal. A placeholder where
        /// nothing of it may be left.
        Generalise = "generalise",
    }
}
