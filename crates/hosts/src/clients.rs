//! The clients: one row each for where it keeps its files and how they are read.

use std::path::Path;

use serde_json::Value;

use crate::{
    Format, Places, Reading,
    document::Dialect,
    entry::{self, Entry, Origin},
};

/// Claude Desktop: stdio servers only.
pub(crate) const CLAUDE_DESKTOP: Format = Format {
    name: "claude-desktop",
    title: "Claude Desktop",
    dialect: Dialect::Json,
    files: |places| places.settings("Claude/claude_desktop_config.json"),
    fits: |file, value| {
        file.file_name().is_some_and(|name| name == "claude_desktop_config.json") && value.is_object()
    },
    reading: Reading::Servers { member: "mcpServers", plain: false },
};

/// Claude Code: `.mcp.json` of the project, `~/.claude.json` of the user with one section per project.
pub(crate) const CLAUDE_CODE: Format = Format {
    name: "claude-code",
    title: "Claude Code",
    dialect: Dialect::Json,
    files: |places| vec![places.home.join(".claude.json"), places.project.join(".mcp.json")],
    fits: |_, value| value.get("mcpServers").is_some() || value.get("projects").is_some_and(Value::is_object),
    reading: Reading::Own(claude_code),
};

/// GitHub Copilot outside VS Code. Its project file is `.mcp.json`, as for Claude Code.
pub(crate) const COPILOT: Format = Format {
    name: "copilot",
    title: "GitHub Copilot",
    dialect: Dialect::Json,
    files: |places| vec![places.home.join(".copilot/mcp-config.json")],
    fits: |file, value| within(file, ".copilot") && value.get("mcpServers").is_some(),
    reading: Reading::Servers { member: "mcpServers", plain: true },
};

/// Cursor: `mcp.json` in `.cursor`, of the user or of the project.
pub(crate) const CURSOR: Format = Format {
    name: "cursor",
    title: "Cursor",
    dialect: Dialect::Jsonc,
    files: |places| vec![places.home.join(".cursor/mcp.json"), places.project.join(".cursor/mcp.json")],
    fits: |file, value| within(file, ".cursor") && value.get("mcpServers").is_some(),
    reading: Reading::Servers { member: "mcpServers", plain: false },
};

/// The MCP Inspector: `mcp.json` whose entries may carry a `protocolEra`.
pub(crate) const INSPECTOR: Format = Format {
    name: "inspector",
    title: "MCP Inspector",
    dialect: Dialect::Json,
    files: |places| vec![places.project.join("mcp.json")],
    fits: |file, value| {
        let servers = value.get("mcpServers").and_then(Value::as_object);
        let own = |server: &Value| server.get("protocolEra").is_some();
        servers.is_some_and(|servers| {
            servers.values().any(own) || file.file_name().is_some_and(|name| name == "mcp.json")
        })
    },
    reading: Reading::Servers { member: "mcpServers", plain: false },
};

/// VS Code: `mcp.json` in `.vscode` or in the user's profile, with inputs that it asks for.
pub(crate) const VSCODE: Format = Format {
    name: "vscode",
    title: "VS Code",
    dialect: Dialect::Jsonc,
    files: |places| {
        let mut files = places.settings("Code/User/mcp.json");
        files.push(places.project.join(".vscode/mcp.json"));
        files
    },
    fits: |_, value| value.get("servers").is_some_and(Value::is_object),
    reading: Reading::Servers { member: "servers", plain: false },
};

impl Places {
    /// Where programs of this name keep a file of the user, on Linux and on macOS.
    fn settings(&self, name: &str) -> Vec<std::path::PathBuf> {
        vec![self.config.join(name), self.home.join("Library/Application Support").join(name)]
    }
}

/// Whether a path has a component of this name.
fn within(path: &Path, name: &str) -> bool {
    path.components().any(|component| component.as_os_str() == name)
}

/// The servers of the user, then those that belong to one project each.
fn claude_code(value: &Value, origin: &Origin) -> Result<Vec<Entry>, String> {
    let mut entries = entry::under(value, "mcpServers", &origin.expansion(true))?;
    if let Some(Value::Object(projects)) = value.get("projects") {
        for (folder, project) in projects {
            let mut expansion = origin.expansion(true);
            expansion.project = Some(folder.into());
            entries.extend(entry::under(project, "mcpServers", &expansion)?);
        }
    }
    Ok(entries)
}
