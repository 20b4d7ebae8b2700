//! Puts servers of a gateway into the file of a client. Everything else in the file stays as it is written, comments
//! included; the key stays out of it.

use std::path::PathBuf;

use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};

use crate::{
    Places,
    document::{self, Dialect},
};

/// A client that can be pointed at a gateway.
#[derive(Debug)]
pub struct Client {
    /// On the command line.
    pub name: &'static str,
    /// Where it keeps the file of the project, or that of the user where it has no other.
    pub file: fn(&Places) -> PathBuf,
    /// Whether that file belongs to the project, where a stranger may have put something in its place.
    pub of_project: bool,
    /// What an administrator prescribes, if that is a file.
    pub managed: Option<Managed>,
    dialect: Dialect,
    /// The member under which servers stand.
    member: &'static str,
    entry: Entry,
    /// Whether it asks for the key, and remembers it.
    asks: bool,
}

/// A file by which an administrator prescribes what a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// With these servers and no others.
    Servers(&'static str),
    /// With a list of the URLs that servers may have.
    Allowed(&'static str),
}

impl Managed {
    /// The file on Linux.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Servers(file) | Self::Allowed(file) => file,
        }
    }
}

/// How a client declares one server.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// As a URL, with the word for its transport and the key as a header, where the client can look one up.
    Url { kind: Option<&'static str>, key: Option<&'static str> },
    /// As a command that speaks to the URL: the client knows no others.
    Command,
}

/// What stands between a client that only starts commands and a URL.
#[derive(Clone, Copy, Debug)]
pub struct Shim<'a> {
    /// This program.
    pub program: &'a str,
    /// A reference to the key.
    pub key: &'a str,
}

const CLAUDE_CODE: Client = Client {
    name: "claude-code",
    file: |places| places.project.join(".mcp.json"),
    of_project: true,
    managed: Some(Managed::Servers("/etc/claude-code/managed-mcp.json")),
    dialect: Dialect::Json,
    member: "mcpServers",
    entry: Entry::Url { kind: Some("http"), key: Some("Bearer ${PORTCULLIS_KEY}") },
    asks: false,
};

/// Read by Copilot and by VS Code alike.
const COPILOT_SETTINGS: Managed = Managed::Allowed("/etc/github-copilot/managed-settings.json");

/// Every client, in the order of help.
pub const CLIENTS: &[Client] = &[
    CLAUDE_CODE,
    Client {
        name: "claude-desktop",
        file: |places| {
            let name = "Claude/claude_desktop_config.json";
            let mac = places.home.join("Library/Application Support");
            if cfg!(target_os = "macos") { mac.join(name) } else { places.config.join(name) }
        },
        of_project: false,
        managed: None,
        entry: Entry::Command,
        ..CLAUDE_CODE
    },
    Client {
        name: "copilot",
        file: |places| places.home.join(".copilot/mcp-config.json"),
        of_project: false,
        managed: Some(COPILOT_SETTINGS),
        ..CLAUDE_CODE
    },
    Client {
        name: "cursor",
        file: |places| places.project.join(".cursor/mcp.json"),
        managed: None,
        dialect: Dialect::Jsonc,
        entry: Entry::Url { kind: None, key: Some("Bearer ${env:PORTCULLIS_KEY}") },
        ..CLAUDE_CODE
    },
    Client {
        name: "inspector",
        file: |places| places.project.join("mcp.json"),
        managed: None,
        entry: Entry::Url { kind: Some("streamable-http"), key: None },
        ..CLAUDE_CODE
    },
    Client {
        name: "vscode",
        file: |places| places.project.join(".vscode/mcp.json"),
        managed: Some(COPILOT_SETTINGS),
        dialect: Dialect::Jsonc,
        member: "servers",
        entry: Entry::Url { kind: Some("http"), key: Some("Bearer ${input:portcullis-key}") },
        asks: true,
        ..CLAUDE_CODE
    },
];

impl Client {
    /// The client of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CLIENTS.iter().find(|client| client.name == name)
    }

    /// The text of its file with these servers (name and URL) in it.
    ///
    /// # Errors
    /// A file that the client would not read, and an entry of that name that is not the gateway's, unless `replace`.
    pub fn with_servers(
        &self,
        before: Option<&str>,
        servers: &[(String, String)],
        shim: Shim<'_>,
        replace: bool,
    ) -> Result<String, String> {
        let (root, object) = open(before, self.dialect)?;
        let place = object.object_value_or_create(self.member);
        let place = place.ok_or_else(|| format!("has a member `{}` that is no object", self.member))?;
        for (name, url) in servers {
            let entry = self.declared(name, url, shim);
            match place.get(name) {
                Some(there) if replace || points_at(&there, url) => there.set_value(entry),
                Some(_) => {
                    return Err(format!(
                        "has a server `{name}` already; --replace puts the gateway in its place"
                    ));
                }
                None => drop(place.append(name, entry)),
            }
        }
        if self.asks {
            input(&object)?;
        }
        close(&root, self.dialect)
    }

    fn declared(&self, name: &str, url: &str, shim: Shim<'_>) -> CstInputValue {
        let mut members = Vec::new();
        match self.entry {
            Entry::Url { kind, key } => {
                members.extend(kind.map(|kind| ("type".to_owned(), text(kind))));
                members.push(("url".to_owned(), text(url)));
                let header = |key| CstInputValue::Object(vec![("Authorization".to_owned(), text(key))]);
                members.extend(key.map(|key| ("headers".to_owned(), header(key))));
            }
            Entry::Command => {
                let header = format!("Authorization=Bearer {}", shim.key);
                let words = ["wrap", "--name", name, "--url", url, "--header", &header];
                members.push(("command".to_owned(), text(shim.program)));
                members.push(("args".to_owned(), CstInputValue::Array(words.map(text).into())));
            }
        }
        CstInputValue::Object(members)
    }
}

/// The text of managed settings by which a client takes only servers with these URLs.
///
/// # Errors
/// Settings that the client would not read, and another list that is there already, unless `replace`.
pub fn with_allowed(
    before: Option<&str>,
    servers: &[(String, String)],
    replace: bool,
) -> Result<String, String> {
    let (root, object) = open(before, Dialect::Json)?;
    let allowed = |url: &String| CstInputValue::Object(vec![("serverUrl".to_owned(), text(url))]);
    let list = CstInputValue::Array(servers.iter().map(|(_, url)| allowed(url)).collect());
    match object.get(ALLOWED) {
        Some(there) if replace => there.set_value(list),
        Some(_) => {
            return Err(format!(
                "has a list `{ALLOWED}` already; --replace puts that of the gateway in its place"
            ));
        }
        None => drop(object.append(ALLOWED, list)),
    }
    close(&root, Dialect::Json)
}

/// The member with the URLs that servers may have.
const ALLOWED: &str = "allowedMcpServers";

/// The root of a file that may be empty or not be there, as its client would read it.
fn open(before: Option<&str>, dialect: Dialect) -> Result<(CstRootNode, CstObject), String> {
    let text = before.filter(|text| !text.trim().is_empty()).unwrap_or("{}\n");
    document::parse(text, dialect)?;
    let root = CstRootNode::parse(text, &dialect.options()).map_err(|error| error.to_string())?;
    let object = root.object_value_or_create().ok_or("is no object")?;
    Ok((root, object))
}

/// What is written must be what its client reads.
fn close(root: &CstRootNode, dialect: Dialect) -> Result<String, String> {
    let after = root.to_string();
    document::parse(&after, dialect)?;
    Ok(after)
}

fn text(text: &str) -> CstInputValue {
    CstInputValue::String(text.to_owned())
}

/// Whether an entry is the gateway's own already.
fn points_at(entry: &CstObjectProp, url: &str) -> bool {
    let is_url = |node: &CstNode| {
        node.as_string_lit().and_then(|text| text.decoded_value().ok()).is_some_and(|text| text == url)
    };
    entry.object_value().is_some_and(|entry| {
        let words = entry.array_value("args").map(|words| words.elements()).unwrap_or_default();
        entry.get("url").and_then(|member| member.value()).is_some_and(|value| is_url(&value))
            || words.iter().any(is_url)
    })
}

/// VS Code asks for the key once and keeps it.
fn input(object: &CstObject) -> Result<(), String> {
    let inputs = object.array_value_or_create("inputs").ok_or("has a member `inputs` that is no list")?;
    let ours = |node: &CstNode| {
        node.as_object()
            .and_then(|input| input.get("id")?.value()?.as_string_lit()?.decoded_value().ok())
            .is_some_and(|id| id == "portcullis-key")
    };
    if !inputs.elements().iter().any(ours) {
        inputs.append(CstInputValue::Object(vec![
            ("type".to_owned(), text("promptString")),
            ("id".to_owned(), text("portcullis-key")),
            ("description".to_owned(), text("API key of Portcullis")),
            ("password".to_owned(), CstInputValue::Bool(true)),
        ]));
    }
    Ok(())
}
