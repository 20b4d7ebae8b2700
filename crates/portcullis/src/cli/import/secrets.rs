//! What in a client's file is a secret, and where it is kept instead: a file of its own in the data directory that only
//! this user can read.

use std::path::{Path, PathBuf};

use portcullis_config::{looks_secret, names_a_secret};
use portcullis_core::{Direction, Severity};
use portcullis_hosts::{placeholder::identifier, replace};
use portcullis_inspect::{InspectSettings, Inspector};
use serde::Serialize;
use url::Url;

/// A secret on its way from a client's file into a file of its own.
#[derive(Clone, PartialEq, Serialize)]
pub(super) struct Moved {
    /// Where it stood.
    pub(super) place: String,
    /// What stands there now.
    pub(super) reference: String,
    /// How it was known.
    pub(super) why: &'static str,
    #[serde(skip)]
    pub(super) file: PathBuf,
    #[serde(skip)]
    pub(super) secret: String,
}

/// Without the secret.
impl std::fmt::Debug for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moved")
            .field("place", &self.place)
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

/// Knows secrets by the name they stand under and by their form.
#[derive(Debug)]
pub(in crate::cli) struct Detective(Inspector);

impl Detective {
    pub(in crate::cli) fn new() -> Result<Self, String> {
        Inspector::new(&InspectSettings::default()).map(Self).map_err(|error| error.to_string())
    }

    /// Why `value` is a secret, if it is one.
    pub(in crate::cli) fn form(&self, value: &str) -> Option<&'static str> {
        let mut found = Vec::new();
        self.0.scan(Direction::Inward, "", value, &mut found);
        let credential = found
            .iter()
            .any(|found| found.finding.kind == "credentials" && found.finding.severity >= Severity::Medium);
        (credential || looks_secret(value)).then_some("its form is that of a credential")
    }

    /// Why `value` under `name` is a secret, if it is one.
    pub(in crate::cli) fn named(&self, name: &str, value: &str) -> Option<&'static str> {
        if names_a_secret(name) { Some("its name is that of a credential") } else { self.form(value) }
    }

    /// The secret in an argument: where it starts, what to call it, and how it was known.
    pub(in crate::cli) fn argument(
        &self,
        before: Option<&str>,
        argument: &str,
    ) -> Option<(usize, String, &'static str)> {
        let by_name = "its name is that of a credential";
        if let Some(flag) =
            before.filter(|flag| flag.starts_with('-') && !flag.contains('=') && names_a_secret(flag))
            && !argument.starts_with('-')
        {
            return Some((0, identifier(flag), by_name));
        }
        for sign in ['=', ':'] {
            if let Some((name, value)) = argument.split_once(sign)
                && names_a_secret(name)
                && !name.contains(['/', ' ', '?'])
                && (sign == '=' || value.starts_with(' ') || matches!(before, Some("--header" | "-H")))
                && !value.trim().is_empty()
            {
                let start = argument.len() - value.trim_start().len();
                return Some((start, identifier(name), by_name));
            }
        }
        if Url::parse(argument).is_ok_and(|url| self.in_url(&url)) {
            return Some((0, String::from("URL"), "it is a URL that carries a credential"));
        }
        self.form(argument).map(|why| (0, String::from("SECRET"), why))
    }

    /// Whether a URL carries a credential.
    pub(in crate::cli) fn in_url(&self, url: &Url) -> bool {
        url.password().is_some()
            || url.query_pairs().any(|(name, value)| !value.is_empty() && self.named(&name, &value).is_some())
            || self.form(url.as_str()).is_some()
    }
}

/// Writes a secret into its file. One that is there already must hold the same.
pub(super) fn keep(moved: &Moved) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("`{}` cannot be written: {error}", moved.file.display());
    if let Some(folder) = moved.file.parent() {
        replace::private_folder(folder).map_err(failed)?;
    }
    match held(&moved.file)? {
        Some(same) if same == moved.secret => Ok(()),
        Some(_) => Err(format!("`{}` holds another secret; move it away first", moved.file.display())),
        None => replace::write_new(&moved.file, moved.secret.as_bytes(), 0o600).map_err(failed),
    }
}

fn held(file: &Path) -> Result<Option<String>, String> {
    let secret = portcullis_store::read_secret(file).map_err(|error| error.to_string())?;
    Ok(secret.map(|secret| String::from_utf8_lossy(secret.expose()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::Detective;

    #[test]
    fn secrets_in_arguments_are_found_by_name_and_by_form_and_ordinary_words_are_not() {
        let detective = Detective::new().unwrap();
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for (before, argument, secret, name) in [
            (Some("--api-key"), "abc", "abc", "API_KEY"),
            (None, "--token=abc", "abc", "TOKEN"),
            (Some("-e"), "DB_PASSWORD=abc", "abc", "DB_PASSWORD"),
            (Some("--header"), "Authorization:Bearer abc", "Bearer abc", "AUTHORIZATION"),
            (None, "Authorization: Bearer abc", "Bearer abc", "AUTHORIZATION"),
            (None, "postgres://u:pw@db/x", "postgres://u:pw@db/x", "URL"),
            (None, "https://a.example/?api_key=x", "https://a.example/?api_key=x", "URL"),
            (None, token.as_str(), token.as_str(), "SECRET"),
        ] {
            let (start, found, _) =
                detective.argument(before, argument).unwrap_or_else(|| panic!("{argument}"));
            assert_eq!((argument.get(start..), found.as_str()), (Some(secret), name), "{argument}");
        }
        for (before, argument) in [
            (None, "--token"),
            (Some("--token"), "--verbose"),
            (None, "--token="),
            (Some("-y"), "@scope/token-server"),
            (None, "https://a.example/mcp"),
            (Some("run"), "token-server:latest"),
            (None, "/srv/secrets"),
            (Some("--name"), "value"),
        ] {
            assert_eq!(detective.argument(before, argument), None, "{argument}");
        }
    }
}
