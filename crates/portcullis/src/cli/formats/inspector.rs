//! The MCP Inspector: `mcp.json` with `mcpServers`, whose entries may carry a `protocolEra`.

use serde_json::Value;

use super::{Format, document::Dialect, entry};

pub(super) const FORMAT: Format = Format {
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
    read: |value, origin| entry::under(value, "mcpServers", &origin.expansion(false)),
};
