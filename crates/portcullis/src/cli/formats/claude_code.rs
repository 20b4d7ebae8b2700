//! Claude Code: `.mcp.json` of the project, `~/.claude.json` of the user with one section per project.

use serde_json::Value;

use super::{
    Format,
    document::Dialect,
    entry::{self, Entry, Origin},
};

pub(super) const FORMAT: Format = Format {
    name: "claude-code",
    title: "Claude Code",
    dialect: Dialect::Json,
    files: |places| vec![places.home.join(".claude.json"), places.project.join(".mcp.json")],
    fits: |_, value| value.get("mcpServers").is_some() || value.get("projects").is_some_and(Value::is_object),
    read,
};

/// The servers of the user, then those that belong to one project each.
fn read(value: &Value, origin: &Origin) -> Result<Vec<Entry>, String> {
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
