//! What a new user sees: the endpoint, a client configuration and a `curl` to paste, where the log is.

use portcullis_core::Secret;
use serde_json::json;

use super::start::Node;
use crate::output::Output;

/// Stands where the key was shown on the first start.
const KEY_PLACE: &str = "YOUR_API_KEY";

pub(crate) fn print(node: &Node, first_key: Option<&Secret<String>>, output: Output) -> anyhow::Result<()> {
    let config = node.core.config.load();
    let rules = node.core.gateway.rules.load();
    let server = rules.servers.keys().next().cloned().unwrap_or_else(|| "SERVER".to_owned());
    let endpoint = rules.resource(&server);
    let key = first_key.map_or(KEY_PLACE, |key| key.expose().as_str());
    let log = config
        .settings
        .log
        .file
        .as_ref()
        .map_or("standard error".to_owned(), |file| file.display().to_string());
    let client = json!({ "mcpServers": { &server: {
        "type": "http", "url": endpoint, "headers": { "Authorization": format!("Bearer {key}") } } } });
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let root = config
        .settings
        .listen
        .tls
        .as_ref()
        .and_then(|tls| tls.certificate.as_ref())
        .map(|file| format!(" --cacert {}", file.display()));
    let root = root.unwrap_or_default();
    let curl = format!(
        "curl -s{root} {endpoint} \\\n  -H 'Authorization: Bearer {key}' \\\n  -H 'Content-Type: application/json' \\\n  \
         -H 'Accept: application/json, text/event-stream' \\\n  -H 'MCP-Protocol-Version: 2026-07-28' \\\n  \
         -H 'Mcp-Method: tools/list' \\\n  -d '{body}'"
    );
    if output.json {
        let ready = json!({
            "endpoint": endpoint, "admin": format!("http://{}", node.admin.local_addr()), "servers": rules.servers.keys().collect::<Vec<_>>(),
            "key": first_key.map(|key| key.expose()), "client": client, "curl": curl, "log": log, "data": node.parts.info.data,
        });
        output.line(&ready.to_string());
        return Ok(());
    }
    let mut text = format!("Portcullis {} is ready.\n\n", env!("CARGO_PKG_VERSION"));
    for name in rules.servers.keys().chain(rules.groups.keys()) {
        text += &format!("  endpoint   {}\n", rules.resource(name));
    }
    text += &format!("  admin API  http://{}\n", node.admin.local_addr());
    text += &format!("  data       {}\n  log        {log}\n", node.parts.info.data);
    for (key, what) in config.settings.dangers() {
        text += &format!("  DANGER     {key}: {what}\n");
    }
    let tls = config.settings.listen.tls.as_ref();
    if let Some(acme) = tls.and_then(|tls| tls.acme.as_ref()) {
        text += &format!("  certificate by {} for {}\n", acme.directory, acme.domains.join(", "));
    }
    if let Some(certificate) = tls.and_then(|tls| tls.certificate.as_ref()) {
        text += &format!("  certificate {} (clients must trust it)\n", certificate.display());
    }
    text += &match first_key {
        Some(key) => format!(
            "\nAPI key (role operator; shown this once, only its hash is kept):\n\n  {}\n",
            key.expose()
        ),
        None => "\nAPI keys are kept; make another with `portcullis key create`.\n".to_owned(),
    };
    let pretty = serde_json::to_string_pretty(&client)?;
    text += &format!(
        "\nClient configuration:\n\n{pretty}\n\nOr ask it yourself:\n\n{curl}\n\nSee every call with `portcullis audit tail`. Stop with Ctrl-C."
    );
    output.line(&text);
    Ok(())
}
