//! An MCP server on stdio that tries whatever a call asks of it: files, processes, sockets, signals. It says in each
//! answer how that went, so that a test sees what a sandbox let it do.

use std::{
    fs::File,
    io::{BufRead as _, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

type Tried = Result<String, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    if std::env::args().any(|argument| argument == "--sleep") {
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let message: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        let Some(id) = message.get("id") else { continue };
        let answer = match result(&message) {
            Some(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            None => json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "not found"}}),
        };
        let mut out = std::io::stdout().lock();
        if out.write_all(format!("{answer}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn result(message: &Value) -> Option<Value> {
    let info = json!({"name": "hostile-child", "version": "1"});
    match message.get("method").and_then(Value::as_str)? {
        "server/discover" => Some(json!({"resultType": "complete", "serverInfo": info,
            "supportedVersions": ["2026-07-28", "2025-11-25"], "capabilities": {"tools": {}},
            "ttlMs": 0, "cacheScope": "private"})),
        "initialize" => {
            let version = message.pointer("/params/protocolVersion").cloned();
            Some(json!({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}))
        }
        "tools/list" => {
            let tools = json!([{"name": "try", "inputSchema": {"type": "object"}}]);
            Some(json!({"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}))
        }
        "tools/call" => {
            let argument = |name: &str| {
                message
                    .pointer(&format!("/params/arguments/{name}"))
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let text = match attempt(argument("what"), argument("on")) {
                Ok(text) => format!("done: {text}"),
                Err(error) => format!("failed: {error}"),
            };
            Some(json!({"content": [{"type": "text", "text": text}], "resultType": "complete"}))
        }
        _ => None,
    }
}

fn attempt(what: &str, on: &str) -> Tried {
    match what {
        "read" => Ok(std::fs::read_to_string(on)?),
        "list" => Ok(std::fs::read_dir(on)?.count().to_string()),
        "write" => Ok(std::fs::write(on, "written").map(|()| String::new())?),
        "append" => Ok(File::options().append(true).open(on)?.write_all(b"more").map(|()| String::new())?),
        "remove" => Ok(std::fs::remove_file(on).map(|()| String::new())?),
        "fork" => fork_endlessly(),
        "run" => {
            let output = Command::new(on).stdin(Stdio::null()).output()?;
            Ok(output.status.to_string())
        }
        "tcp" => {
            let address = on.parse()?;
            Ok(TcpStream::connect_timeout(&address, PATIENCE).map(|_| String::new())?)
        }
        "listen" => Ok(TcpListener::bind(on)?.local_addr()?.to_string()),
        "udp" => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            Ok(socket.send_to(b"out", on)?.to_string())
        }
        "unix" => Ok(UnixStream::connect(on).map(|_| String::new())?),
        "tunnel" => through_proxy("HTTPS_PROXY", &format!("CONNECT {on} HTTP/1.1\r\nHost: {on}\r\n")),
        "get" => through_proxy(
            "HTTP_PROXY",
            &format!("GET {on} HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n"),
        ),
        "stranger" => {
            let (place, _) = proxy("HTTPS_PROXY")?;
            exchange(&place, &format!("CONNECT {on} HTTP/1.1\r\nHost: {on}\r\n"), "Y2hpbGQ6Z3Vlc3NlZA==")
        }
        "signal" => {
            let pid = rustix::process::Pid::from_raw(on.parse()?).ok_or("no pid")?;
            Ok(rustix::process::test_kill_process(pid).map(|()| String::new())?)
        }
        "group" => Ok(rustix::process::setsid().map(|_| String::new())?),
        "namespace" => {
            let file = File::open("/proc/self/ns/net").or_else(|_| File::open("/dev/null"))?;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), None)?;
            Ok(String::new())
        }
        "limits" => {
            use rustix::process::{Resource, Rlimit, prlimit};
            let pid = rustix::process::Pid::from_raw(on.parse()?).ok_or("no pid")?;
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            Ok(prlimit(Some(pid), Resource::Fsize, none).map(|_| String::new())?)
        }
        "mode" => {
            use std::os::unix::fs::PermissionsExt as _;
            Ok(std::fs::set_permissions(on, std::fs::Permissions::from_mode(0o644))
                .map(|()| String::new())?)
        }
        "say" => {
            let words = format!("saying {}\n", std::env::var(on)?);
            Ok(std::io::stderr().write_all(words.as_bytes()).map(|()| String::new())?)
        }
        "environment" => Ok(std::env::var(on)?),
        _ => Err(format!("nobody knows how to {what}").into()),
    }
}

/// Starts processes that stay, until it may not any more.
fn fork_endlessly() -> Tried {
    let ourselves = std::env::current_exe()?;
    for count in 0.. {
        let child =
            Command::new(&ourselves).arg("--sleep").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        if let Err(error) = child {
            return Err(format!("after {count}: {error}").into());
        }
    }
    Ok(String::new())
}

/// Address and credential in a variable of the form `http://USER:SECRET@HOST:PORT`.
fn proxy(variable: &str) -> Result<(String, String), Box<dyn std::error::Error>> {
    let url = std::env::var(variable)?;
    let (credential, place) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('@')).ok_or("no proxy")?;
    Ok((place.to_owned(), credential.to_owned()))
}

fn through_proxy(variable: &str, head: &str) -> Tried {
    use base64::Engine as _;
    let (place, credential) = proxy(variable)?;
    exchange(&place, head, &base64::engine::general_purpose::STANDARD.encode(credential))
}

/// What the proxy answers, and after a tunnel is made, what comes back through it.
fn exchange(place: &str, head: &str, credential: &str) -> Tried {
    let mut stream = TcpStream::connect_timeout(&place.parse()?, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{head}Proxy-Authorization: Basic {credential}\r\n\r\n").as_bytes())?;
    let mut buffer = [0; 4_096];
    let mut text = String::new();
    if head.starts_with("CONNECT") {
        let read = stream.read(&mut buffer)?;
        text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned();
        if !text.starts_with("HTTP/1.1 200") {
            return Ok(text);
        }
        stream.write_all(b"GET / HTTP/1.1\r\nHost: inside\r\nConnection: close\r\n\r\n")?;
    }
    stream.read_to_string(&mut text)?;
    Ok(text)
}
