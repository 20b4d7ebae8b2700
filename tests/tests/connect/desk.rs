//! What an MCP server keeps of each of its users: notes, tasks and sessions. Whoever asks for those of another, with
//! whatever token, is noted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::provider::{Answered, respond};

/// The server behind the tokens.
#[derive(Debug, Default)]
pub struct Desk {
    sessions: BTreeMap<String, String>,
    tasks: BTreeMap<String, String>,
    next: u64,
    /// Requests in which something of one user came with the token of another.
    pub violations: Vec<String>,
    /// How many calls of tools, reads and questions about tasks were answered.
    pub answered: u64,
}

impl Desk {
    /// Answers a message of `login`.
    pub fn answer(&mut self, message: &Value, login: &str, session: &str, legacy: bool) -> Answered {
        let method = message["method"].as_str().unwrap_or_default();
        if legacy && !session.is_empty() && self.sessions.get(session).is_none_or(|owner| owner != login) {
            self.violations.push(format!("{login} in the session {session}: {message}"));
            return respond(404, &[], &Value::Null);
        }
        if message.get("id").is_none() {
            return respond(if message.is_null() { 405 } else { 202 }, &[], &Value::Null);
        }
        let (id, mut headers) = (&message["id"], Vec::new());
        let opened = format!("session-{}", self.next + 1);
        let result = match (method, legacy) {
            ("initialize", true) => {
                self.next += 1;
                self.sessions.insert(opened.clone(), login.to_owned());
                headers.push(("mcp-session-id", &*opened));
                json!({
                    "protocolVersion": "2025-11-25", "capabilities": { "tools": {}, "resources": {} },
                    "serverInfo": { "name": "provider", "version": "1" },
                })
            }
            ("server/discover", false) => json!({
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 60_000,
                "capabilities": { "tools": {}, "resources": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } },
                "serverInfo": { "name": "provider", "version": "1" }, "cacheScope": "private",
            }),
            ("server/discover", true) | ("initialize", false) => return unknown(id),
            _ => match self.result(method, message, login) {
                Some(result) => result,
                None => return unknown(id),
            },
        };
        respond(200, &headers, &json!({ "jsonrpc": "2.0", "id": id, "result": result }))
    }

    fn result(&mut self, method: &str, message: &Value, login: &str) -> Option<Value> {
        let params = &message["params"];
        let note = params["arguments"]["note"].as_str().unwrap_or_default();
        let name = params["name"].as_str().unwrap_or_default();
        self.answered += u64::from(matches!(method, "tools/call" | "resources/read" | "tasks/get"));
        Some(match (method, name) {
            ("tools/list", _) => {
                let tool = |name| json!({ "name": name, "inputSchema": { "type": "object" } });
                json!({
                    "resultType": "complete", "ttlMs": 60_000, "cacheScope": "private",
                    "tools": [tool("job"), tool("whoami")],
                })
            }
            ("resources/list", _) => json!({
                "resultType": "complete", "ttlMs": 60_000, "cacheScope": "public",
                "resources": [{ "uri": format!("note://{login}"), "name": login }],
            }),
            ("resources/templates/list", _) => json!({
                "resultType": "complete", "ttlMs": 60_000, "cacheScope": "public",
                "resourceTemplates": [{ "uriTemplate": "note://{name}", "name": "note" }],
            }),
            ("tools/call", "job") => {
                self.next += 1;
                let id = format!("job-{}", self.next);
                self.tasks.insert(id.clone(), login.to_owned());
                task(&id, "task")
            }
            ("tools/call", _) => {
                let text = format!("{login} {note}");
                let text = text.trim_end();
                json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }] })
            }
            // It says that everybody may share it, which is a lie.
            ("resources/read", _) => json!({
                "resultType": "complete", "ttlMs": 3_600_000, "cacheScope": "public",
                "contents": [{ "uri": params["uri"], "text": login }],
            }),
            ("tasks/get", _) => {
                let id = params["taskId"].as_str().unwrap_or_default();
                if self.tasks.get(id).is_none_or(|owner| owner != login) {
                    self.violations.push(format!("{login} asked for the task {id}"));
                    return None;
                }
                let mut result = task(id, "complete");
                result["statusMessage"] = login.into();
                result
            }
            _ => return None,
        })
    }
}

fn task(id: &str, kind: &str) -> Value {
    let now = "2026-11-22T00:00:00Z";
    json!({
        "resultType": kind, "taskId": id, "status": "working", "createdAt": now, "lastUpdatedAt": now, "ttl": 3_600_000,
    })
}

fn unknown(id: &Value) -> Answered {
    let error =
        json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "no such method" } });
    respond(404, &[], &error)
}
