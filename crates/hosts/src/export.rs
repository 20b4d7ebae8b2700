//! Puts servers of a gateway into the file of a client. Everything else in the file stays as it is written, comments
//! included; the key stays out of it.

use std::path::PathBuf;

use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};

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
    /// Where it looks for the servers that an administrator prescribes, if it does.
    pub managed: Option<&'static str>,
    dialect: Dialect,
    /// The member under which servers stand.
    member: &'static str,
    /// Where the client takes the key from.
    key: &'static str,
    /// Whether it wants to be told that a URL is one.
    typed: bool,
    /// Whether it asks for the key, and remembers it.
    asks: bool,
}

const CLAUDE_CODE: Client = Client {
    name: "claude-code",
    file: |places| places.project.join(".mcp.json"),
    managed: Some("/etc/claude-code/managed-mcp.json"),
    dialect: Dialect::Json,
    member: "mcpServers",
    key: "Bearer ${PORTCULLIS_KEY}",
    typed: true,
    asks: false,
};

/// Every client, in the order of help.
pub const CLIENTS: &[Client] = &[
    CLAUDE_CODE,
    Client {
        name: "copilot",
        file: |places| places.home.join(".copilot/mcp-config.json"),
        managed: None,
        ..CLAUDE_CODE
    },
    Client {
        name: "cursor",
        file: |places| places.project.join(".cursor/mcp.json"),
        managed: None,
        dialect: Dialect::Jsonc,
        key: "Bearer ${env:PORTCULLIS_KEY}",
        typed: false,
        ..CLAUDE_CODE
    },
    Client {
        name: "vscode",
        file: |places| places.project.join(".vscode/mcp.json"),
        managed: None,
        dialect: Dialect::Jsonc,
        member: "servers",
        key: "Bearer ${input:portcullis-key}",
        typed: true,
        asks: true,
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
        replace: bool,
    ) -> Result<String, String> {
        let text = before.filter(|text| !text.trim().is_empty()).unwrap_or("{}\n");
        document::parse(text, self.dialect)?;
        let root = CstRootNode::parse(text, &self.dialect.options()).map_err(|error| error.to_string())?;
        let object = root.object_value_or_create().ok_or("is no object")?;
        let place = object.object_value_or_create(self.member);
        let place = place.ok_or_else(|| format!("has a member `{}` that is no object", self.member))?;
        for (name, url) in servers {
            match place.get(name) {
                Some(entry) if replace || points_at(&entry, url) => entry.set_value(self.entry(url)),
                Some(_) => {
                    return Err(format!(
                        "has a server `{name}` already; --replace puts the gateway in its place"
                    ));
                }
                None => drop(place.append(name, self.entry(url))),
            }
        }
        if self.asks {
            input(&object)?;
        }
        let after = root.to_string();
        // What is written must be what its client reads.
        document::parse(&after, self.dialect)?;
        Ok(after)
    }

    fn entry(&self, url: &str) -> CstInputValue {
        let headers = CstInputValue::Object(vec![("Authorization".to_owned(), text(self.key))]);
        let mut members = vec![("url".to_owned(), text(url)), ("headers".to_owned(), headers)];
        if self.typed {
            members.insert(0, ("type".to_owned(), text("http")));
        }
        CstInputValue::Object(members)
    }
}

fn text(text: &str) -> CstInputValue {
    CstInputValue::String(text.to_owned())
}

/// Whether an entry is the gateway's own already.
fn points_at(entry: &jsonc_parser::cst::CstObjectProp, url: &str) -> bool {
    entry
        .object_value()
        .and_then(|entry| entry.get("url")?.value()?.as_string_lit()?.decoded_value().ok())
        .is_some_and(|own| own == url)
}

/// VS Code asks for the key once and keeps it.
fn input(object: &CstObject) -> Result<(), String> {
    let inputs = object.array_value_or_create("inputs").ok_or("has a member `inputs` that is no list")?;
    let ours = |node: &jsonc_parser::cst::CstNode| {
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
