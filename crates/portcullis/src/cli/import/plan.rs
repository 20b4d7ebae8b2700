//! From what clients declare to sections of `portcullis.yaml`: names that fit, secrets as references, `trust: review`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use portcullis_config::{Config, Overrides, Server, fragment, is_name};
use portcullis_hosts::{
    Found,
    entry::{Entry, Reach},
    placeholder::{Piece, Text, identifier},
};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    confine::{self, Surroundings},
    secrets::{Detective, Moved},
};

/// What becomes of a declared server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It would be added.
    New,
    /// The same is in the configuration, or was read from another file.
    Present,
    /// It cannot be put behind the gateway as it stands.
    NotTaken,
}

impl State {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Present => "already there",
            Self::NotTaken => "not taken",
        }
    }
}

/// A declared server and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Planned {
    /// Its name behind the gateway.
    pub(super) name: String,
    /// Its name in the client's file.
    pub(super) declared: String,
    pub(super) client: &'static str,
    pub(super) file: String,
    pub(super) state: State,
    /// The section of the configuration.
    pub(super) section: Value,
    pub(super) moved: Vec<Moved>,
    pub(super) notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// Servers of the same name that are told apart.
const SAME_NAME_MAX: usize = 100;

/// Plans one server after the other.
pub(super) struct Planner<'c> {
    config: &'c Config,
    path: &'c Path,
    secrets: PathBuf,
    around: Surroundings,
    detective: Detective,
    pub(super) planned: Vec<Planned>,
}

/// A section under construction.
#[derive(Debug, Default)]
struct Draft {
    env: BTreeMap<String, String>,
    moved: Vec<Moved>,
}

impl<'c> Planner<'c> {
    /// For servers that join `config` in the file `path`, with secrets kept in the folder `secrets`.
    pub(super) fn new(
        config: &'c Config,
        path: &'c Path,
        secrets: PathBuf,
        around: Surroundings,
    ) -> Result<Self, String> {
        Ok(Self { config, path, secrets, around, detective: Detective::new()?, planned: Vec::new() })
    }

    /// Takes one declared server.
    pub(super) fn add(&mut self, found: &Found, entry: &Entry) {
        let mut planned = Planned {
            name: entry.name.clone(),
            declared: entry.name.clone(),
            client: found.format,
            file: found.file.display().to_string(),
            state: State::NotTaken,
            section: json!({}),
            moved: Vec::new(),
            notes: entry.notes.clone(),
            reason: None,
        };
        let placed = match &entry.reach {
            Ok(reach) => self.place(&entry.name, reach, &mut planned),
            Err(reason) => Err(reason.clone()),
        };
        if let Err(reason) = placed {
            planned.moved.clear();
            planned.reason = Some(reason);
        }
        self.planned.push(planned);
    }

    /// Finds a name that is free, or under which the same server is there already.
    fn place(&self, declared: &str, reach: &Reach, planned: &mut Planned) -> Result<(), String> {
        let base = fitting(declared);
        for number in 1..=SAME_NAME_MAX {
            let name = if number == 1 { base.clone() } else { format!("{base}-{number}") };
            let (section, moved) = self.section(&name, reach)?;
            let server = self.read(&name, &section)?;
            let twin = self.planned.iter().find(|other| other.state == State::New && other.name == name);
            let same = match (self.config.settings.servers.get(&name), twin) {
                (Some(there), _) => Some(there.upstream == server.upstream),
                (None, Some(twin)) => Some(twin.section == section && twin.moved == moved),
                (None, None) => None,
            };
            planned.state = match same {
                Some(false) => continue,
                Some(true) => State::Present,
                None => State::New,
            };
            (planned.name, planned.section, planned.moved) = (name, section, moved);
            return Ok(());
        }
        Err(format!("has the same name as {SAME_NAME_MAX} others"))
    }

    /// The section as the gateway will read it.
    fn read(&self, name: &str, section: &Value) -> Result<Server, String> {
        let text = fragment(&[(name.to_owned(), section.clone())]);
        let parsed = Config::parse(&text, self.config.path.as_deref(), &Overrides::default());
        let read = |mistakes: Vec<portcullis_config::ConfigMistake>| {
            let reasons: Vec<String> =
                mistakes.iter().map(|mistake| format!("{}: {}", mistake.key, mistake.message)).collect();
            reasons.join("; ")
        };
        let mut config = parsed.map_err(read)?;
        config.settings.servers.remove(name).ok_or_else(|| String::from("cannot be read back"))
    }

    fn section(&self, name: &str, reach: &Reach) -> Result<(Value, Vec<Moved>), String> {
        let mut draft = Draft::default();
        let mut section = json!({});
        let Some(members) = section.as_object_mut() else { return Err(String::new()) };
        match reach {
            Reach::Http { url, older, headers } => {
                let text = url.literal().ok_or("has a variable in its URL; write it out")?;
                let url = Url::parse(&text).map_err(|error| format!("has a URL that is none: {error}"))?;
                if !matches!(url.scheme(), "http" | "https") {
                    return Err(format!(
                        "is reached over `{}`, which is neither http nor https",
                        url.scheme()
                    ));
                }
                if self.detective.in_url(&url) {
                    return Err(String::from(
                        "has a credential in its URL, where logs show it; use a header",
                    ));
                }
                members.insert("url".into(), json!(text));
                if *older {
                    members.insert("transport".into(), json!("legacy_sse"));
                }
                let mut references = BTreeMap::new();
                for (header, value) in headers {
                    let value = self.value(name, "headers", header, value, &mut draft)?;
                    references.insert(header.clone(), value);
                }
                if !references.is_empty() {
                    members.insert("headers".into(), json!(references));
                }
            }
            Reach::Stdio { command, env, cwd } => {
                for (variable, value) in env {
                    let value = self.value(name, "env", variable, value, &mut draft)?;
                    draft.env.insert(variable.clone(), value);
                }
                let words = self.words(name, command, &mut draft)?;
                members.insert("command".into(), json!(words));
                if !draft.env.is_empty() {
                    members.insert("env".into(), json!(draft.env));
                }
                if let Some(cwd) = cwd {
                    members.insert("cwd".into(), json!(cwd.display().to_string()));
                }
                let literals: Vec<String> =
                    command.iter().map(|word| word.literal().unwrap_or_default()).collect();
                members.insert("sandbox".into(), confine::section(&literals, &self.around));
            }
        }
        members.insert("trust".into(), json!("review"));
        Ok((section, draft.moved))
    }

    /// A header or a variable as the configuration takes it: text, or a reference.
    fn value(
        &self,
        server: &str,
        member: &str,
        name: &str,
        value: &Text,
        draft: &mut Draft,
    ) -> Result<String, String> {
        if let Some(literal) = value.literal() {
            // Text that the configuration would take for a reference is kept like a secret: it must arrive as it is.
            let last = literal.rsplit(' ').next().unwrap_or_default();
            let reads_as_reference = last.starts_with("env:") || last.starts_with("file:");
            let why = match self.detective.named(name, &literal) {
                Some(_) if literal.is_empty() => {
                    return Ok(format!("env:{}", identifier(name)));
                }
                None if reads_as_reference => "it would be read as a reference",
                None => return Ok(literal),
                Some(why) => why,
            };
            let place = format!("{member} {name}");
            return self.moved(server, name, place, why, &literal, draft);
        }
        match value.0.as_slice() {
            [Piece::Variable(variable)] => reference("", variable),
            [Piece::Literal(before), Piece::Variable(variable)] if before.ends_with(' ') => {
                reference(before, variable)
            }
            _ => Err(format!(
                "mixes text and variables in `{name}`; only `WORD ${{VARIABLE}}` can be a reference"
            )),
        }
    }

    /// The command, with variables and secrets as placeholders for variables of the server.
    fn words(&self, server: &str, command: &[Text], draft: &mut Draft) -> Result<Vec<String>, String> {
        let mut words: Vec<String> = Vec::new();
        let mut literals = Vec::new();
        for text in command {
            let Some(literal) = text.literal() else {
                let mut word = String::new();
                for piece in &text.0 {
                    match piece {
                        Piece::Literal(literal) => word.push_str(literal),
                        Piece::Variable(variable) => {
                            let bound = bind(&mut draft.env, variable, &reference("", variable)?);
                            word.push_str(&format!("${{{bound}}}"));
                        }
                    }
                }
                words.push(word);
                continue;
            };
            let before = words.last().map(String::as_str).filter(|_| words.len() > 1);
            match self.detective.argument(before, &literal).filter(|_| !words.is_empty()) {
                Some((start, name, why)) => {
                    let (open, secret) = literal.split_at_checked(start).unwrap_or(("", &literal));
                    let name = free(&draft.env, &name);
                    let place = format!("argument {}", words.len());
                    let value = self.moved(server, &name, place, why, secret, draft)?;
                    draft.env.insert(name.clone(), value);
                    words.push(format!("{open}${{{name}}}"));
                }
                None => {
                    literals.push(literal.clone());
                    words.push(literal);
                }
            }
        }
        let misread =
            |literal: &&String| draft.env.keys().any(|name| literal.contains(&format!("${{{name}}}")));
        match literals.iter().find(misread) {
            Some(literal) => Err(format!("has an argument that would be read as a variable: `{literal}`")),
            None => Ok(words),
        }
    }

    /// Notes a secret that goes into a file of its own; gives the reference to it.
    fn moved(
        &self,
        server: &str,
        name: &str,
        place: String,
        why: &'static str,
        secret: &str,
        draft: &mut Draft,
    ) -> Result<String, String> {
        let file = self.secrets.join(format!("{server}.{name}"));
        let base = self.path.parent().unwrap_or(Path::new(""));
        let shown = file.strip_prefix(base).unwrap_or(&file).display().to_string();
        if shown.contains(char::is_whitespace) || name.contains(['/', '\0']) {
            return Err(format!(
                "needs a file for a secret, and `{shown}` cannot be referred to; choose another data directory with --data"
            ));
        }
        if secret.ends_with(['\r', '\n']) || secret.contains('\0') {
            return Err(format!("has a secret in {place} that ends with a line or has a NUL in it"));
        }
        let reference = format!("file:{shown}");
        draft.moved.push(Moved { place, reference: reference.clone(), why, file, secret: secret.to_owned() });
        Ok(reference)
    }
}

fn reference(before: &str, variable: &str) -> Result<String, String> {
    let good = !variable.is_empty() && variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good {
        Ok(format!("{before}env:{variable}"))
    } else {
        Err(format!("names a variable that cannot be one: `{variable}`"))
    }
}

/// A name that fits into URLs and policies.
fn fitting(declared: &str) -> String {
    if is_name(declared) {
        return declared.to_owned();
    }
    let letters =
        declared.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '-' });
    let name: String = letters.take(60).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { String::from("server") } else { name.to_owned() }
}

/// The variable that holds this value: `wanted` where that is free or holds it already.
fn bind(env: &mut BTreeMap<String, String>, wanted: &str, value: &str) -> String {
    if env.get(wanted).is_some_and(|there| there == value) {
        return wanted.to_owned();
    }
    let name = free(env, wanted);
    env.insert(name.clone(), value.to_owned());
    name
}

fn free(env: &BTreeMap<String, String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while env.contains_key(&name) {
        name.push_str("_ARG");
    }
    name
}
