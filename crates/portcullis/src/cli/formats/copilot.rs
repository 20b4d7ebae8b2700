//! GitHub Copilot outside VS Code: `~/.copilot/mcp-config.json`. Its project file is `.mcp.json`, as for Claude Code.

use super::{Format, document::Dialect, entry, within};

pub(super) const FORMAT: Format = Format {
    name: "copilot",
    title: "GitHub Copilot",
    dialect: Dialect::Json,
    files: |places| vec![places.home.join(".copilot/mcp-config.json")],
    fits: |file, value| within(file, ".copilot") && value.get("mcpServers").is_some(),
    read: |value, origin| entry::under(value, "mcpServers", &origin.expansion(true)),
};
