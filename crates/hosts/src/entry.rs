//! One server as a client's file declares it, before anything is decided about it; and the reader of the form that
//! most clients share.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::placeholder::{Expansion, Text, expand};

/// Servers in one file.
const SERVERS_MAX: usize = 1_000;

/// Where a file comes from, for what its placeholders mean.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The user's home.
    pub home: PathBuf,
    /// The project that the file belongs to; none for the files of a user.
    pub project: Option<PathBuf>,
    /// Where bundles are unpacked.
    pub bundles: PathBuf,
}

impl Origin {
    /// What placeholders mean in this file; `plain` says whether `${NAME}` is a variable of the environment.
    pub fn expansion(&self, plain: bool) -> Expansion {
        Expansion {
            home: self.home.clone(),
            project: self.project.clone(),
            package: None,
            plain,
            answers: std::collections::BTreeMap::new(),
        }
    }
}

/// One server as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name there.
    pub name: String,
    /// How it is reached, or why it cannot be put behind the gateway as it stands.
    pub reach: Result<Reach, String>,
    /// What a person should know beside.
    pub notes: Vec<String>,
}

/// How a declared server is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// Streamable HTTP, or the transport before it.
    Http {
        /// Where.
        url: Text,
        /// Whether it is HTTP+SSE of 2024-11-05.
        older: bool,
        /// With every request.
        headers: Vec<(String, Text)>,
    },
    /// A child process.
    Stdio {
        /// The program and its arguments.
        command: Vec<Text>,
        /// Variables that it gets.
        env: Vec<(String, Text)>,
        /// The folder that it starts in.
        cwd: Option<PathBuf>,
    },
}

/// The servers under `member` of `root`, in the form that most clients share. Without the member there are none.
pub fn under(root: &Value, member: &str, expansion: &Expansion) -> Result<Vec<Entry>, String> {
    match root.get(member) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(servers)) if servers.len() > SERVERS_MAX => {
            Err(format!("has more than {SERVERS_MAX} servers"))
        }
        Some(Value::Object(servers)) => {
            Ok(servers.iter().map(|(name, server)| entry(name, server, expansion)).collect())
        }
        Some(_) => Err(format!("has a member `{member}` that is no object")),
    }
}

/// One server in the form that most clients share.
fn entry(name: &str, server: &Value, expansion: &Expansion) -> Entry {
    let mut notes = Vec::new();
    let reach = match server {
        Value::Object(members) => reach(members, expansion, &mut notes),
        _ => Err(String::from("is no object")),
    };
    Entry { name: name.to_owned(), reach, notes }
}

fn reach(
    members: &Map<String, Value>,
    expansion: &Expansion,
    notes: &mut Vec<String>,
) -> Result<Reach, String> {
    let off = members.get("disabled") == Some(&Value::Bool(true))
        || members.get("enabled") == Some(&Value::Bool(false));
    if off {
        return Err(String::from("is switched off in the client"));
    }
    let kind = text(members, &["type", "transport"])?.unwrap_or_default();
    let url = text(members, &["url", "serverUrl"])?;
    for (member, note) in NOT_CARRIED {
        if members.contains_key(*member) {
            notes.push(format!("`{member}` is not carried over: {note}"));
        }
    }
    match (kind, url, text(members, &["command"])?) {
        ("" | "http" | "sse" | "streamable-http" | "streamableHttp" | "streamable_http", Some(url), None) => {
            let older = kind == "sse";
            notes.extend(older.then(|| OLDER.to_owned()));
            let headers = pairs(members, "headers", expansion)?;
            Ok(Reach::Http { url: expand(url, expansion)?, older, headers })
        }
        ("" | "stdio" | "local", None, Some(program)) => {
            let mut command = vec![program_of(program, expansion)?];
            for argument in strings(members, "args")? {
                command.push(expand(argument, expansion)?);
            }
            Ok(Reach::Stdio {
                command,
                env: pairs(members, "env", expansion)?,
                cwd: folder(text(members, &["cwd"])?, expansion)?,
            })
        }
        (_, Some(_), Some(_)) => Err(String::from("has both `command` and a URL")),
        (_, None, None) => Err(String::from("has neither `command` nor a URL")),
        (kind, _, _) => Err(format!("has a type that does not fit or is unknown: `{kind}`")),
    }
}

/// What a person should know of a server of the older transport.
pub(crate) const OLDER: &str =
    "it speaks the HTTP+SSE transport of 2024-11-05; ask its operator for a Streamable HTTP endpoint";

/// Members that mean something to the client and have no counterpart in `portcullis.yaml`.
const NOT_CARRIED: &[(&str, &str)] = &[
    ("auth", "log in to the server otherwise, or give the gateway a token as a header"),
    ("envFile", "put what the server needs under `env`"),
    ("headersHelper", "the gateway runs no command to make headers; put a token under `headers`"),
    ("oauth", "log in to the server otherwise, or give the gateway a token as a header"),
];

/// A program with a folder in its name is meant from the project.
fn program_of(program: &str, expansion: &Expansion) -> Result<Text, String> {
    let text = expand(program, expansion)?;
    Ok(match (text.literal(), &expansion.project) {
        (Some(path), Some(project)) if path.contains('/') && !Path::new(&path).is_absolute() => {
            Text::of(project.join(path).display().to_string())
        }
        _ => text,
    })
}

/// The folder that a program starts in: what the file says, else the project.
fn folder(cwd: Option<&str>, expansion: &Expansion) -> Result<Option<PathBuf>, String> {
    let Some(cwd) = cwd else { return Ok(expansion.project.clone()) };
    let path = expand(cwd, expansion)?.literal().ok_or("has a variable in `cwd`")?;
    Ok(Some(expansion.project.clone().unwrap_or_else(|| expansion.home.clone()).join(path)))
}

/// The text of the first of these members that is there.
fn text<'m>(members: &'m Map<String, Value>, names: &[&str]) -> Result<Option<&'m str>, String> {
    match names.iter().find_map(|name| Some((name, members.get(*name)?))) {
        None | Some((_, Value::Null)) => Ok(None),
        Some((_, Value::String(text))) => Ok(Some(text)),
        Some((name, _)) => Err(format!("has a member `{name}` that is no text")),
    }
}

fn strings<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Vec<&'m str>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().ok_or_else(|| format!("has something in `{name}` that is no text")))
            .collect(),
        Some(_) => Err(format!("has a member `{name}` that is no list")),
    }
}

fn pairs(
    members: &Map<String, Value>,
    name: &str,
    expansion: &Expansion,
) -> Result<Vec<(String, Text)>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(pairs)) => pairs
            .iter()
            .map(|(key, value)| {
                let text = match value {
                    Value::String(text) => expand(text, expansion)?,
                    Value::Number(number) => Text::of(number.to_string()),
                    Value::Bool(boolean) => Text::of(boolean.to_string()),
                    Value::Null | Value::Array(_) | Value::Object(_) => {
                        return Err(format!("has a value in `{name}` that is no text"));
                    }
                };
                Ok((key.clone(), text))
            })
            .collect(),
        Some(_) => Err(format!("has a member `{name}` that is no object")),
    }
}
