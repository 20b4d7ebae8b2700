//! How a secret is named: one grammar wherever a secret may stand.
//!
//! ```text
//! reference = [ words SP ] place
//! place     = "env:" NAME
//!           | "file:" PATH
//!           | "local:" NAME
//!           | "vault:" MOUNT "/" PATH [ "?version=" NUMBER ] "#" FIELD
//!           | "aws:" NAME-or-ARN [ "?stage=" LABEL | "?version=" ID ] [ "#" FIELD ]
//! ```
//!
//! The words before it are written as they stand, as in `Bearer env:NAME`. In names of `vault:` and `aws:` the text
//! `{caller.id}` stands for the caller on whose behalf the secret is used.

use std::{fmt, path::PathBuf};

use portcullis_core::Secret;

use crate::{source::WHOLE, template::Template};

/// Bytes of a reference.
const REFERENCE_BYTES_MAX: usize = 1_024;

/// A value, or the name of the place where it is.
#[derive(Clone)]
pub struct Reference {
    prefix: Secret<String>,
    place: Place,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Literal,
    /// A variable of the gateway's environment.
    Env(String),
    /// A file; the line breaks at its end are not part of it.
    File(PathBuf),
    /// What the gateway keeps itself, sealed.
    Local(String),
    /// A field of a document in Vault or OpenBao.
    Vault {
        /// Mount and path.
        path: Template,
        /// Version of the document (KV version 2); the newest where none is named.
        version: Option<u64>,
        /// Member of the document.
        field: String,
    },
    /// A secret of AWS Secrets Manager.
    Aws {
        /// Name or ARN.
        name: Template,
        /// Which of its values.
        which: AwsValue,
        /// Member of the JSON text; the whole text where none is named.
        field: Option<String>,
    },
}

/// Which value of a secret in AWS Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsValue {
    /// The one with this staging label, such as `AWSCURRENT`.
    Stage(String),
    /// The one with this id.
    Version(String),
}

/// Why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; hint: {hint}")]
pub struct Mistake {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: &'static str,
}

fn mistake(message: impl Into<String>, hint: &'static str) -> Mistake {
    Mistake { message: message.into(), hint }
}

impl Reference {
    /// Reads a reference; a text that names no place is the value itself.
    ///
    /// # Errors
    /// What is wrong with the name of a place, and what to write.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let (prefix, word) = match text.rsplit_once(' ') {
            Some((before, word)) => (format!("{before} "), word),
            None => (String::new(), text),
        };
        let Some((scheme, rest)) = word.split_once(':') else { return Ok(Self::literal(text)) };
        let place = match scheme {
            "env" => env(rest)?,
            "file" if rest.is_empty() => {
                return Err(mistake("`file:` must be followed by a path", "write `file:PATH`"));
            }
            "file" => Place::File(PathBuf::from(rest)),
            "local" => local(rest)?,
            "vault" => vault(rest)?,
            "aws" => aws(rest)?,
            _ => return Ok(Self::literal(text)),
        };
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(mistake("a reference of more than 1,024 bytes", "shorten the name of the secret"));
        }
        Ok(Self { prefix: Secret::new(prefix), place })
    }

    /// The value itself.
    #[must_use]
    pub fn literal(value: &str) -> Self {
        Self { prefix: Secret::new(value.to_owned()), place: Place::Literal }
    }

    /// Where the value is.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// What stands before the value; of a literal all of it.
    pub(crate) fn prefix(&self) -> &str {
        self.prefix.expose()
    }

    /// The value, where it stands here.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        matches!(self.place, Place::Literal).then(|| self.prefix.expose().as_str())
    }

    /// The same, with a path of a file starting at `base`.
    #[must_use]
    pub fn relative_to(mut self, base: &std::path::Path) -> Self {
        if let Place::File(path) = &mut self.place {
            *path = base.join(&*path);
        }
        self
    }

    /// Whether it is what it was when the gateway started: nobody needs to look again.
    #[must_use]
    pub const fn fixed(&self) -> bool {
        matches!(self.place, Place::Literal | Place::Env(_))
    }

    /// Whether it is kept elsewhere than in the surroundings of this process, so that it has to be fetched, and its first use
    /// by each caller is recorded.
    #[must_use]
    pub const fn kept_elsewhere(&self) -> bool {
        match self.place {
            Place::Local(_) | Place::Vault { .. } | Place::Aws { .. } => true,
            Place::Literal | Place::Env(_) | Place::File(_) => false,
        }
    }

    /// The member of the document that it names.
    pub(crate) fn field(&self) -> &str {
        match &self.place {
            Place::Vault { field, .. } => field,
            Place::Aws { field, .. } => field.as_deref().unwrap_or(WHOLE),
            Place::Literal | Place::Env(_) | Place::File(_) | Place::Local(_) => WHOLE,
        }
    }

    /// Whether the value differs by caller.
    #[must_use]
    pub fn personal(&self) -> bool {
        match &self.place {
            Place::Vault { path: name, .. } | Place::Aws { name, .. } => name.personal(),
            Place::Literal | Place::Env(_) | Place::File(_) | Place::Local(_) => false,
        }
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place && self.prefix.expose() == other.prefix.expose()
    }
}

impl Eq for Reference {}

/// The place without what stands before it; never a value.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Literal => f.write_str("****"),
            Place::Env(name) => write!(f, "env:{name}"),
            Place::File(path) => write!(f, "file:{}", path.display()),
            Place::Local(name) => write!(f, "local:{name}"),
            Place::Vault { path, version: None, field } => write!(f, "vault:{path}#{field}"),
            Place::Vault { path, version: Some(version), field } => {
                write!(f, "vault:{path}?version={version}#{field}")
            }
            Place::Aws { name, which, field } => {
                write!(f, "aws:{name}")?;
                match which {
                    AwsValue::Stage(stage) if stage == CURRENT => {}
                    AwsValue::Stage(stage) => write!(f, "?stage={stage}")?,
                    AwsValue::Version(version) => write!(f, "?version={version}")?,
                }
                field.as_ref().map_or(Ok(()), |field| write!(f, "#{field}"))
            }
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The label of the value in force.
const CURRENT: &str = "AWSCURRENT";

fn env(name: &str) -> Result<Place, Mistake> {
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !good {
        let message = "`env:` must be followed by the name of an environment variable";
        return Err(mistake(message, "write `env:NAME`"));
    }
    Ok(Place::Env(name.to_owned()))
}

fn local(name: &str) -> Result<Place, Mistake> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        let message = "`local:` must be followed by the name of a secret that the gateway keeps";
        return Err(mistake(message, "write `local:NAME`; `portcullis secret put NAME` keeps one"));
    }
    Ok(Place::Local(name.to_owned()))
}

fn vault(text: &str) -> Result<Place, Mistake> {
    const HINT: &str = "write `vault:MOUNT/PATH#FIELD`";
    let (address, field) = text.rsplit_once('#').unwrap_or((text, ""));
    if field.is_empty() {
        return Err(mistake("`vault:` names no field of the document", HINT));
    }
    let (path, version) = match address.split_once('?') {
        None => (address, None),
        Some((path, query)) => {
            let number = query.strip_prefix("version=").and_then(|number| number.parse::<u64>().ok());
            let number = number.filter(|number| *number > 0);
            let wrong = || mistake("after `?` stands no version of the document", "write `?version=NUMBER`");
            (path, Some(number.ok_or_else(wrong)?))
        }
    };
    let segments: Vec<&str> = path.split('/').collect();
    let plain = |segment: &&str| !matches!(*segment, "" | "." | "..");
    if segments.len() < 2 || !segments.iter().all(plain) || path.chars().any(char::is_control) {
        return Err(mistake("`vault:` must be followed by a mount and a path in it", HINT));
    }
    Ok(Place::Vault { path: template(path)?, version, field: field.to_owned() })
}

fn aws(text: &str) -> Result<Place, Mistake> {
    const HINT: &str = "write `aws:NAME#FIELD`, `aws:NAME` or an ARN instead of the name";
    let (address, field) = match text.rsplit_once('#') {
        Some((_, "")) => return Err(mistake("`aws:` names no field after `#`", HINT)),
        Some((address, field)) => (address, Some(field.to_owned())),
        None => (text, None),
    };
    let (name, which) = match address.split_once('?') {
        None => (address, AwsValue::Stage(CURRENT.to_owned())),
        Some((name, query)) => match query.split_once('=') {
            Some(("stage", stage)) if !stage.is_empty() => (name, AwsValue::Stage(stage.to_owned())),
            Some(("version", id)) if !id.is_empty() => (name, AwsValue::Version(id.to_owned())),
            _ => {
                let message = "after `?` stands neither a stage nor a version";
                return Err(mistake(message, "write `?stage=LABEL` or `?version=ID`"));
            }
        },
    };
    // The characters that the service takes in names and ARNs, and those of what stands for the caller.
    let fits = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-:{}".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        return Err(mistake("`aws:` must be followed by the name or ARN of a secret", HINT));
    }
    Ok(Place::Aws { name: template(name)?, which, field })
}

fn template(text: &str) -> Result<Template, Mistake> {
    Template::parse(text)
        .map_err(|unknown| mistake(format!("`{{{unknown}}}` stands for nothing"), "write `{caller.id}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_read_and_printed_as_it_was_written() {
        for text in [
            "env:NAME",
            "file:/run/secrets/token",
            "local:team/token",
            "vault:secret/team/app#token",
            "vault:secret/team/app?version=3#token",
            "vault:users/{caller.id}/github#token",
            "vault:database/creds/readonly#password",
            "aws:prod/app",
            "aws:prod/app#password",
            "aws:prod/app?stage=AWSPREVIOUS#password",
            "aws:arn:aws:secretsmanager:eu-central-1:123456789012:secret:app-Ab12Cd#password",
            "aws:users/{caller.id}?version=0a1b",
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.personal(), text.contains("{caller.id}"), "{text}");
            let after = Reference::parse(&format!("Bearer {text}")).unwrap();
            assert_eq!((after.prefix(), after.place()), ("Bearer ", reference.place()));
        }
    }

    #[test]
    fn what_names_no_place_is_the_value_itself_and_is_never_printed() {
        for text in ["hello", "", "a b", "https://example.com/x", "urn:x", "a:b#c"] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.as_literal(), Some(text));
            assert_eq!(format!("{reference} {reference:?}"), "**** ****");
        }
    }

    #[test]
    fn a_wrong_reference_says_what_to_write() {
        for (text, hint) in [
            ("env:", "env:NAME"),
            ("env:a-b", "env:NAME"),
            ("file:", "file:PATH"),
            ("local:", "local:NAME"),
            ("local:a%b", "local:NAME"),
            ("vault:secret/app", "#FIELD"),
            ("vault:secret#field", "MOUNT/PATH"),
            ("vault:secret//app#f", "MOUNT/PATH"),
            ("vault:secret/../app#f", "MOUNT/PATH"),
            ("vault:/secret/app#f", "MOUNT/PATH"),
            ("vault:secret/app?version=0#f", "?version=NUMBER"),
            ("vault:secret/app?v=1#f", "?version=NUMBER"),
            ("vault:secret/{caller.name}#f", "{caller.id}"),
            ("vault:secret/{caller.id#f", "{caller.id}"),
            ("aws:", "aws:NAME"),
            ("aws:a b", "the value itself"),
            ("aws:name#", "aws:NAME"),
            ("aws:name?stage=", "?stage=LABEL"),
            ("aws:name%2f", "aws:NAME"),
        ] {
            match Reference::parse(text) {
                Err(mistake) => assert!(mistake.to_string().contains(hint), "{text}: {mistake}"),
                Ok(reference) => {
                    assert!(hint == "the value itself" && reference.as_literal().is_some(), "{text}")
                }
            }
        }
    }
}
