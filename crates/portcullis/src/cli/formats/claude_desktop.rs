//! Claude Desktop: `claude_desktop_config.json`, stdio servers only.

use super::{Format, document::Dialect, entry};

pub(super) const FORMAT: Format = Format {
    name: "claude-desktop",
    title: "Claude Desktop",
    dialect: Dialect::Json,
    files: |places| {
        let name = "Claude/claude_desktop_config.json";
        vec![places.config.join(name), places.home.join("Library/Application Support").join(name)]
    },
    fits: |file, value| {
        file.file_name().is_some_and(|name| name == "claude_desktop_config.json") && value.is_object()
    },
    read: |value, origin| entry::under(value, "mcpServers", &origin.expansion(false)),
};
