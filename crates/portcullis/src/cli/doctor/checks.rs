//! What a healthy set-up looks like: files that only its user reads, a listener that nobody reaches by accident, doors
//! that stay shut, a ledger that takes entries, a clock that agrees with it, servers that answer.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use portcullis_admin::api::{EntryList, EntryQuery, ServerList, Status};
use portcullis_config::{Config, OWN_CERTIFICATE, Overrides};
use portcullis_core::Timestamp;
use url::Url;

use super::{
    super::{
        Common, Failure, check,
        client::{Client, NONE, data_dir},
    },
    Finding, State,
    probe::{Answer, Door},
};

/// Entries ahead of the newest checkpoint that need no explanation.
const LAG_MAX: u64 = 10_000;
/// How far the clock may lie behind the newest entry.
const CLOCK_MS_MAX: u64 = 5_000;

/// A running gateway, and everything the checks need of it.
pub(super) struct Patient {
    pub(super) client: Client,
    pub(super) status: Status,
    pub(super) config: Config,
    pub(super) door: Door,
    pub(super) admin: Url,
    pub(super) runtime: tokio::runtime::Runtime,
}

impl Patient {
    /// Asks the gateway of the data directory who it is.
    pub(super) fn reach(common: &Common) -> Result<Self, Failure> {
        let client = Client::connect(common)?;
        let status: Status = client.ask("status", "", NONE, NONE)?;
        let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
        // What the gateway itself says it runs with; the file in this folder may be another.
        let named = status.config.as_deref().map(Path::new).filter(|path| path.exists());
        let config = Config::load(common.config.as_deref().or(named), &overrides);
        let config = match config {
            Ok(config) => config,
            Err(_) => Config::parse("", None, &overrides).map_err(|found| Failure::mistakes("", &found))?,
        };
        let refused = |reason: String| Failure::refused(reason);
        let url = Url::parse(&status.endpoint).map_err(|error| refused(error.to_string()))?;
        // Its own certificate, also where `--tls` made one.
        let own = Path::new(&status.data).join(OWN_CERTIFICATE);
        let certificate =
            config.settings.listen.tls.as_ref().and_then(|tls| tls.certificate.clone()).unwrap_or(own);
        let roots = std::fs::read(certificate).ok().into_iter().collect();
        let door = Door::new(&url, address(&config, &url), roots).map_err(refused)?;
        let admin = client.url().clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| refused(error.to_string()))?;
        Ok(Self { client, status, config, door, admin, runtime })
    }

    /// One exchange at the clients' door.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<Answer, String> {
        self.runtime.block_on(self.door.exchange(bytes))
    }
}

/// Where the listener is on this machine: the public URL may be that of a proxy in front.
fn address(config: &Config, url: &Url) -> SocketAddr {
    let configured = config.settings.listen.address;
    let literal = match url.host() {
        Some(url::Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(url::Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(url::Host::Domain(_)) | None => None,
    };
    match (literal, url.port_or_known_default()) {
        (Some(ip), Some(port)) if config.settings.listen.public_url.is_none() => SocketAddr::new(ip, port),
        _ if configured.ip().is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, configured.port())),
        _ => configured,
    }
}

/// What can be said without a running gateway.
pub(super) fn files(common: &Common) -> Vec<Finding> {
    let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
    let mut findings = vec![match check::load(common.config.as_deref(), &overrides) {
        Ok(config) => {
            let file =
                config.path.map_or_else(|| String::from("defaults"), |path| path.display().to_string());
            Finding::of("configuration", State::Good, file, "")
        }
        Err(failure) => Finding::of("configuration", State::Bad, failure.text, "portcullis check"),
    }];
    let data = data_dir(common);
    for (name, mode) in
        [("", 0o700), ("admin.token", 0o600), ("ledger.key", 0o600), ("kek", 0o600), ("secrets", 0o700)]
    {
        let path = if name.is_empty() { data.clone() } else { data.join(name) };
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        let own = metadata.permissions().mode() & 0o7777;
        let state = if own & !mode & 0o777 == 0 { State::Good } else { State::Bad };
        let fix = format!(
            "chmod {mode:o} '{}'; then make new secrets, since others could read them",
            path.display()
        );
        let name = if name.is_empty() { String::from("data directory") } else { format!("file {name}") };
        findings.push(Finding::of(&name, state, format!("mode {own:04o}"), &fix));
    }
    findings
}

/// Everything about a gateway that runs.
pub(super) fn running(patient: &Patient) -> Vec<Finding> {
    let mut findings = vec![bind(patient)];
    findings.extend(shut_elsewhere(patient));
    findings.push(tls(patient));
    findings.extend(doors(patient));
    findings.push(ledger(patient));
    findings.push(clock(patient));
    findings.extend(servers(patient));
    findings
}

fn bind(patient: &Patient) -> Finding {
    let address = patient.config.settings.listen.address;
    let safe = patient.door.address.ip().is_loopback() && address.ip().is_loopback() || patient.door.tls();
    let state = if safe { State::Good } else { State::Bad };
    let detail = format!("{address}{}", if patient.door.tls() { " with TLS" } else { "" });
    Finding::of("bind", state, detail, "set `listen.tls`, or listen on 127.0.0.1; then portcullis check")
}

/// A loopback listener must not answer on the address that other machines see.
fn shut_elsewhere(patient: &Patient) -> Vec<Finding> {
    let Some(outer) = outer_address() else { return Vec::new() };
    let admin = patient.admin.port_or_known_default().map(|port| ("admin not on the network", port));
    let clients = patient.config.settings.listen.address.ip().is_loopback();
    let clients = clients.then(|| ("clients not on the network", patient.door.address.port()));
    admin
        .into_iter()
        .chain(clients)
        .map(|(name, port)| {
            let address = SocketAddr::new(outer, port);
            let open = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok();
            let state = if open { State::Bad } else { State::Good };
            let detail = format!("{address} {}", if open { "answers" } else { "does not answer" });
            Finding::of(name, state, detail, "listen on 127.0.0.1, and look for a forwarder on this port")
        })
        .collect()
}

/// The address of this machine that a packet to elsewhere would carry; none is sent.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn health(host: &str) -> Vec<u8> {
    format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn tls(patient: &Patient) -> Finding {
    if !patient.door.tls() {
        return Finding::of("TLS", State::Good, "none; only this machine reaches the listener", "");
    }
    let fix = "look at `listen.tls`: the certificate must be valid and name the host of the public URL";
    let request = health(&patient.door.host);
    match (patient.send(&request), patient.runtime.block_on(patient.door.in_clear(&request))) {
        (Err(error), _) => Finding::of("TLS", State::Bad, error, fix),
        (Ok(_), Ok(Answer { status: Some(status), .. })) => {
            Finding::of("TLS", State::Bad, format!("plain HTTP is answered with {status}"), fix)
        }
        (Ok(_), _) => {
            Finding::of("TLS", State::Good, "the certificate is trusted; plain HTTP is not answered", "")
        }
    }
}

/// The door as a stranger finds it.
fn doors(patient: &Patient) -> Vec<Finding> {
    let host = patient.door.host.clone();
    let post = |host: &str, more: &str| {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        format!(
            "POST /mcp/doctor HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let anonymous = patient.config.settings.identities.anonymous.is_some();
    let mut findings = Vec::new();
    let large = format!("X-Large: {}\r\n", "x".repeat(200_000));
    for (name, request, expected, fix) in [
        ("authentication", post(&host, ""), 401, "remove `identities.anonymous`"),
        ("Origin", post(&host, "Origin: https://evil.example\r\n"), 403, "`listen.origins` lists too much"),
        ("Host", post("evil.example", ""), 403, "`listen.hosts` lists too much"),
        ("limits", post(&host, &large), 431, "lower `limits.header_bytes_max`"),
    ] {
        let finding = match patient.send(request.as_bytes()) {
            Err(error) => Finding::of(name, State::Bad, error, "portcullis audit tail"),
            Ok(Answer { status: Some(status), .. }) if status == expected => {
                Finding::of(name, State::Good, format!("refused with {status}"), "")
            }
            Ok(_) if name == "authentication" && anonymous => {
                Finding::of(name, State::Warn, "callers without a credential are let in", fix)
            }
            // Too much for the HTTP parser itself closes the connection.
            Ok(Answer { status: None, .. }) if name == "limits" => {
                Finding::of(name, State::Good, "the connection was closed", "")
            }
            Ok(Answer { status: Some(429), .. }) => {
                Finding::of(name, State::Skipped, "throttled; try again in a minute", "portcullis doctor")
            }
            Ok(answer) => {
                let status =
                    answer.status.map_or_else(|| String::from("nothing"), |status| status.to_string());
                Finding::of(name, State::Bad, format!("expected {expected}, got {status}"), fix)
            }
        };
        findings.push(finding);
    }
    findings
}

fn ledger(patient: &Patient) -> Finding {
    let ledger = &patient.status.health.ledger;
    let fix = "docs/operate/ledger-unavailable.md; then portcullis audit verify";
    if !ledger.healthy {
        let error = ledger.error.clone().unwrap_or_default();
        return Finding::of("ledger", State::Bad, format!("cannot be written: {error}"), fix);
    }
    let state = if ledger.lag > LAG_MAX { State::Warn } else { State::Good };
    Finding::of("ledger", state, format!("{} entries, {} not yet signed", ledger.durable, ledger.lag), fix)
}

/// Entries carry the gateway's time; if they lie ahead, the clock went backwards.
fn clock(patient: &Patient) -> Finding {
    let query = EntryQuery {
        from: None,
        last: Some(1),
        limit: None,
        event: None,
        caller: None,
        server: None,
        tool: None,
        code: None,
        since: None,
        until: None,
        wait_ms: None,
    };
    let list: Result<EntryList, Failure> = patient.client.ask("list_entries", "", Some(&query), NONE);
    let fix = "set the clock: timedatectl set-ntp true";
    let newest = match list {
        Ok(list) => list.entries.last().and_then(|row| Some(row.entry.get("at")?.as_str()?.to_owned())),
        Err(failure) => return Finding::of("clock", State::Skipped, failure.text, "portcullis audit tail"),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let latest = Timestamp(u64::try_from(now).unwrap_or(u64::MAX)).plus_ms(CLOCK_MS_MAX).to_string();
    match newest {
        // RFC 3339 in one form: the order of texts is that of times.
        Some(newest) if newest > latest => Finding::of(
            "clock",
            State::Bad,
            format!("the newest entry is of {newest}, which is to come"),
            fix,
        ),
        Some(newest) => Finding::of("clock", State::Good, format!("agrees with the ledger ({newest})"), ""),
        None => Finding::of("clock", State::Skipped, "the ledger has no entry with a time", fix),
    }
}

fn servers(patient: &Patient) -> Vec<Finding> {
    let list: Result<ServerList, Failure> = patient.client.ask("list_servers", "", NONE, NONE);
    let servers = match list {
        Ok(list) => list.servers,
        Err(failure) => {
            return vec![Finding::of("servers", State::Bad, failure.text, "portcullis server list")];
        }
    };
    let one = |server: &portcullis_admin::api::servers::ServerState| {
        let state = if server.state == "failing" { State::Bad } else { State::Good };
        let error = server.error.clone().map(|error| format!(": {error}")).unwrap_or_default();
        let fix =
            format!("look at the server's own log; portcullis server list; portcullis scan {}", server.place);
        Finding::of(&format!("server {}", server.name), state, format!("{}{error}", server.state), &fix)
    };
    servers.iter().map(one).collect()
}
