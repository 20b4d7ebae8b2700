//! Cursor: `mcp.json` in `.cursor`, of the user or of the project.

use super::{Format, document::Dialect, entry, within};

pub(super) const FORMAT: Format = Format {
    name: "cursor",
    title: "Cursor",
    dialect: Dialect::Jsonc,
    files: |places| vec![places.home.join(".cursor/mcp.json"), places.project.join(".cursor/mcp.json")],
    fits: |file, value| within(file, ".cursor") && value.get("mcpServers").is_some(),
    read: |value, origin| entry::under(value, "mcpServers", &origin.expansion(false)),
};
