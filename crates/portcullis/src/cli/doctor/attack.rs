//! Well-known attacks against one's own gateway. Each says which answers mean that it was stopped; a request that is
//! sound in every way is sent first, since nothing was stopped if nothing would have passed.

use std::fmt::Write as _;

use portcullis_admin::api::{CreateKey, CreatedKey, Key, ServerList};

use super::{
    super::{Failure, client::NONE},
    Finding, State,
    checks::Patient,
    probe::{Answer, Door},
};

/// How long the keys of the attacks are valid, in seconds.
const KEY_S: u64 = 600;

/// The `_meta` that a request of revision 2026-07-28 carries.
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// One attack: what is sent, and the answers that stop it. Closing the connection without an answer always does.
struct Attack {
    name: &'static str,
    request: Vec<u8>,
    stopped: &'static [u16],
}

/// Tries everything.
pub(super) fn all(patient: &Patient) -> Vec<Finding> {
    let servers: Result<ServerList, Failure> = patient.client.ask("list_servers", "", NONE, NONE);
    // A server that fails refuses attacks and sound requests alike.
    let well = |list: ServerList| list.servers.into_iter().min_by_key(|server| server.state == "failing");
    let server = servers.ok().and_then(well).map(|server| server.name);
    let Some(server) = server else { return vec![skipped("attacks", "there is no server to aim at")] };
    let (mut findings, mut keys) = (Vec::new(), Vec::new());
    for name in ["doctor-1", "doctor-2"] {
        match key(patient, name) {
            Ok(key) => keys.push(key),
            Err(failure) => findings.push(skipped("attacks", &failure.text)),
        }
    }
    if let [one, other] = keys.as_slice() {
        findings.extend(with_keys(patient, &server, &one.text, &other.text));
    }
    for key in &keys {
        let revoked: Result<Key, Failure> = patient.client.ask("revoke_key", &key.key.id, NONE, NONE);
        if let Err(failure) = revoked {
            findings.push(Finding::of(
                "revoke",
                State::Bad,
                failure.text,
                &format!("portcullis key revoke {}", key.key.id),
            ));
        }
    }
    findings
}

fn key(patient: &Patient, name: &str) -> Result<CreatedKey, Failure> {
    let question = CreateKey {
        name: name.to_owned(),
        roles: vec![String::from("reader")],
        servers: None,
        kind: None,
        expires_in_s: Some(KEY_S),
    };
    patient.client.ask("create_key", "", NONE, Some(&question))
}

fn skipped(name: &str, why: &str) -> Finding {
    Finding { attack: true, ..Finding::of(name, State::Skipped, why, "") }
}

fn with_keys(patient: &Patient, server: &str, key: &str, other: &str) -> Vec<Finding> {
    let craft = Craft { door: &patient.door, path: format!("/mcp/{server}"), key: key.to_owned() };
    let sound = patient.send(&craft.list());
    let passed = match &sound {
        Ok(Answer { status: Some(status), .. }) => !matches!(status, 401 | 403 | 404 | 429 | 500..),
        Ok(Answer { status: None, .. }) | Err(_) => false,
    };
    if !passed {
        let status = sound.map_or_else(
            |error| error,
            |answer| answer.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string()),
        );
        return vec![skipped("attacks", &format!("a sound request is not taken either: {status}"))];
    }
    let mut findings: Vec<Finding> =
        craft.attacks().into_iter().map(|attack| judge(&attack, patient.send(&attack.request))).collect();
    findings.push(session_of_another(patient, &craft, other));
    for attack in at_admin(patient) {
        let answer =
            admin_door(patient).and_then(|door| patient.runtime.block_on(door.exchange(&attack.request)));
        findings.push(judge(&attack, answer));
    }
    // Last: guessing costs its source dearly, and what is throttled tells nothing about the rest.
    for attack in craft.strangers() {
        findings.push(judge(&attack, patient.send(&attack.request)));
    }
    findings
}

fn judge(attack: &Attack, answer: Result<Answer, String>) -> Finding {
    let (state, detail) = match answer {
        Err(error) => (State::Skipped, error),
        Ok(Answer { status: None, .. }) => (State::Good, String::from("the connection was closed")),
        Ok(Answer { status: Some(429), .. }) => {
            (State::Skipped, String::from("throttled; try again in a minute"))
        }
        Ok(Answer { status: Some(status), .. }) if attack.stopped.contains(&status) => {
            (State::Good, format!("refused with {status}"))
        }
        Ok(Answer { status: Some(status), .. }) => (State::Bad, format!("answered with {status}")),
    };
    let fix = "portcullis check; where a proxy stands in front, attack the gateway itself";
    Finding { attack: true, ..Finding::of(attack.name, state, detail, fix) }
}

/// Writes requests.
struct Craft<'d> {
    door: &'d Door,
    path: String,
    key: String,
}

impl Craft<'_> {
    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.key)
    }

    /// A POST with this body; `head` stands before the length.
    fn post(&self, host: &str, head: &str, body: &str) -> Vec<u8> {
        let mut out = format!("POST {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n", self.path);
        out.push_str("Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n");
        let _ = write!(out, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        out.into_bytes()
    }

    fn body() -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{META}}}}}"#)
    }

    fn head(&self) -> String {
        format!("{}MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n", self.bearer())
    }

    /// Sound in every way.
    fn list(&self) -> Vec<u8> {
        self.post(&self.door.host, &self.head(), &Self::body())
    }

    /// The sound request with another body.
    fn with_body(&self, body: &str) -> Vec<u8> {
        self.post(&self.door.host, &self.head(), body)
    }

    /// The sound request with more headers.
    fn with_head(&self, more: &str) -> Vec<u8> {
        self.post(&self.door.host, &format!("{}{more}", self.head()), &Self::body())
    }

    fn with_path(&self, path: &str) -> Vec<u8> {
        Craft { door: self.door, path: path.to_owned(), key: self.key.clone() }.list()
    }

    /// Attacks of somebody who has a key.
    fn attacks(&self) -> Vec<Attack> {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}1{}}}"#,
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        let twice = Self::body().replacen("\"id\":1", "\"id\":1,\"\\u006dethod\":\"tools/call\"", 1);
        let unknown = Self::body().replace("tools/list", "doctor/unknown");
        let unknown_head = self.head().replace("tools/list", "doctor/unknown");
        let host = &self.door.host;
        let chunked = |value: &str| {
            let text = String::from_utf8_lossy(&self.list()).into_owned();
            text.replacen("\r\n\r\n", &format!("\r\nTransfer-Encoding: {value}\r\n\r\n0\r\n\r\n"), 1)
                .into_bytes()
        };
        let attack = |name, request, stopped| Attack { name, request, stopped };
        vec![
            attack("DNS rebinding: Host", self.post("evil.example", &self.head(), &Self::body()), &[403]),
            attack("two Host headers", self.with_head("Host: evil.example\r\n"), &[400, 403]),
            attack("cross-site: Origin", self.with_head("Origin: https://evil.example\r\n"), &[403]),
            attack("cross-site: Origin null", self.with_head("Origin: null\r\n"), &[403]),
            attack("body beyond the limit", self.oversized(), &[400, 413]),
            attack("deep JSON", self.with_body(&deep), &[400, 413]),
            attack("a member twice", self.with_body(&twice), &[400]),
            attack("two JSON texts", self.with_body(&format!("{}{}", Self::body(), Self::body())), &[400]),
            attack(
                "header against body",
                self.with_body(&Self::body().replace("tools/list", "tools/call")),
                &[400],
            ),
            attack("a header twice", self.with_head("Mcp-Method: tools/call\r\n"), &[400]),
            attack("method of no specification", self.post(host, &unknown_head, &unknown), &[400, 404]),
            attack(
                "text in UTF-7",
                self.with_head("Content-Type: application/json; charset=utf-7\r\n"),
                &[400, 415],
            ),
            attack("a form from a web page", self.as_form(), &[415]),
            attack("smuggling: both lengths", chunked("chunked"), &[400]),
            attack("smuggling: odd encoding", chunked("xchunked"), &[400, 501]),
            attack("smuggling: two lengths", self.with_head("Content-Length: 3\r\n"), &[400]),
            attack(
                "smuggling: space before colon",
                self.with_head("Transfer-Encoding : chunked\r\n"),
                &[400],
            ),
            attack("path: up and out", self.with_path("/mcp/../v1/status"), &[400, 401, 403, 404]),
            attack("path: encoded", self.with_path("/mcp/%2e%2e%2fv1%2fstatus"), &[400, 401, 403, 404]),
            attack("path: admin API at this door", self.with_path("/v1/status"), &[400, 401, 403, 404]),
            attack(
                "path: another machine",
                self.with_path("http://169.254.169.254/latest/meta-data/"),
                &[400, 403, 404],
            ),
        ]
    }

    /// More than the limit is promised; little of it is sent.
    fn oversized(&self) -> Vec<u8> {
        let sound = String::from_utf8_lossy(&self.list()).into_owned();
        let length = format!("Content-Length: {}\r\n", Self::body().len());
        sound.replacen(&length, "Content-Length: 999999999999\r\n", 1).into_bytes()
    }

    /// What a page can send without asking the browser.
    fn as_form(&self) -> Vec<u8> {
        let sound = String::from_utf8_lossy(&self.list()).into_owned();
        sound.replacen("Content-Type: application/json", "Content-Type: text/plain", 1).into_bytes()
    }

    /// Attacks of somebody who has none.
    fn strangers(&self) -> Vec<Attack> {
        let version = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n";
        let post = |head: &str| self.post(&self.door.host, &format!("{version}{head}"), &Self::body());
        let in_query = {
            let path = format!("{}?access_token={}", self.path, self.key);
            Craft { door: self.door, path, key: String::new() }.post(&self.door.host, version, &Self::body())
        };
        // The last letter decides nothing but whether the key is one.
        let wrong: String = self.key.chars().rev().map(|c| if c == 'a' { 'b' } else { c }).collect();
        let attack = |name, request| Attack { name, request, stopped: &[401] };
        vec![
            attack("no credential", post("")),
            attack("key in the query", in_query),
            attack("key in a cookie", post(&format!("Cookie: token={}\r\n", self.key))),
            attack("two credentials", post(&format!("{0}{0}", self.bearer()))),
            attack("wrong key", post(&format!("Authorization: Bearer {wrong}\r\n"))),
            attack(
                "unsigned token",
                post("Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.\r\n"),
            ),
        ]
    }
}

/// A session is its caller's alone: one key opens it, the other one uses it.
fn session_of_another(patient: &Patient, craft: &Craft<'_>, other: &str) -> Finding {
    let name = "session of another caller";
    let open = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"doctor","version":"1"}}}"#;
    let opened = patient.send(&craft.post(&craft.door.host, &craft.bearer(), open));
    let session = match &opened {
        Ok(answer) => answer.header("mcp-session-id").map(str::to_owned),
        Err(_) => None,
    };
    let Some(session) = session else {
        return skipped(name, "no session could be opened (the server speaks 2026-07-28 alone?)");
    };
    let thief = Craft { door: craft.door, path: craft.path.clone(), key: other.to_owned() };
    let head = |craft: &Craft<'_>| {
        format!("{}MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n", craft.bearer())
    };
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    let request = thief.post(&craft.door.host, &head(&thief), ping);
    judge(&Attack { name, request: Vec::new(), stopped: &[404] }, patient.send(&request))
}

fn admin_door(patient: &Patient) -> Result<Door, String> {
    let addresses = patient.admin.socket_addrs(|| None).map_err(|error| error.to_string())?;
    let address = addresses.first().copied().ok_or("the admin API has no address")?;
    Door::new(&patient.admin, address, Vec::new())
}

/// The admin API as a web page or another program of this machine finds it.
fn at_admin(patient: &Patient) -> Vec<Attack> {
    let host = patient.admin.host_str().unwrap_or_default();
    let host = patient.admin.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let get = |host: &str, more: &str| {
        format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n").into_bytes()
    };
    let attack = |name, request| Attack { name, request, stopped: &[400, 401, 403] };
    vec![
        attack("admin API without a token", get(&host, "")),
        attack("admin API with a wrong token", get(&host, "Authorization: Bearer 00\r\n")),
        attack("admin API: DNS rebinding", get("evil.example", "")),
        attack("admin API from a web page", get(&host, "Origin: https://evil.example\r\n")),
    ]
}
