//! VS Code: `mcp.json` in `.vscode` or in the user's profile, with `servers` and with `inputs` that it asks for.

use super::{Format, document::Dialect, entry};

pub(super) const FORMAT: Format = Format {
    name: "vscode",
    title: "VS Code",
    dialect: Dialect::Jsonc,
    files: |places| {
        let user = "Code/User/mcp.json";
        vec![
            places.config.join(user),
            places.home.join("Library/Application Support").join(user),
            places.project.join(".vscode/mcp.json"),
        ]
    },
    fits: |_, value| value.get("servers").is_some_and(serde_json::Value::is_object),
    read: |value, origin| entry::under(value, "servers", &origin.expansion(false)),
};
