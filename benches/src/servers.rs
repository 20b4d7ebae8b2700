//! Starting the processes under measurement, and being sure that they end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::payload::Era;

/// How long a process may take to be ready.
const START_MAX: Duration = Duration::from_secs(20);

/// A process of ours; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it answers.
    pub(crate) url: String,
    /// What a caller must present.
    pub(crate) token: Option<String>,
    /// Removed with the process.
    directory: Option<PathBuf>,
}

impl Server {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The cheap upstream of this program.
    pub(crate) fn upstream() -> Result<Self> {
        Self::own(&["upstream"])
    }

    /// The same with so many tools.
    pub(crate) fn upstream_of(tools: usize) -> Result<Self> {
        Self::own(&["upstream", "--tools", &tools.to_string()])
    }

    /// The same that speaks one revision alone.
    pub(crate) fn upstream_in(era: Era) -> Result<Self> {
        Self::own(&["upstream", "--era", if era == Era::Legacy { "legacy" } else { "modern" }])
    }

    /// The bare proxy of this program, before `upstream`.
    pub(crate) fn floor(upstream: &Self) -> Result<Self> {
        Self::own(&["floor", "--upstream", &upstream.url])
    }

    fn own(arguments: &[&str]) -> Result<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).args(arguments).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let mut server = Self { child, url: String::new(), token: None, directory: None };
        read.context("no output")??;
        let address = line.trim().strip_prefix("listening ").context("the process did not start")?;
        server.url = format!("http://{address}/mcp");
        Ok(server)
    }

    /// The gateway before `upstream`, with every stage on, a fresh data directory on disk and one API key.
    pub(crate) fn gateway(program: &Path, upstream: &Self, scratch: &Path) -> Result<Self> {
        Self::gateway_before(program, &[("bench".to_owned(), &upstream.url)], scratch)
    }

    /// The same before several, each on its own route; where there are many, also together on `/mcp`. Its URL is that
    /// of the first.
    pub(crate) fn gateway_before(
        program: &Path,
        upstreams: &[(String, &str)],
        scratch: &Path,
    ) -> Result<Self> {
        let directory = scratch.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let (data, admin) = (free_port()?, free_port()?);
        let config = directory.join("portcullis.yaml");
        fs::write(&config, configuration(data, admin, &directory, upstreams))?;
        let log = fs::File::create(directory.join("run.log"))?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .env("PORTCULLIS_WORKERS", "1")
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let first = upstreams.first().map_or("bench", |(name, _)| name);
        let url = format!("http://127.0.0.1:{data}/mcp/{first}");
        let mut server = Self { child, url, token: None, directory: Some(directory.clone()) };
        server.wait_for(data)?;
        server.wait_for(admin)?;
        // The address of the admin API may be in the middle of being written down.
        std::thread::sleep(Duration::from_millis(100));
        server.token = Some(new_key(program, &directory.join("data"))?);
        Ok(server)
    }

    /// How long the gateway takes from its start until it answers a request, in the directory of this one, which must
    /// have ended: as after a restart, or `fresh`, as on the first day.
    pub(crate) fn start_up(program: &Path, upstream: &Self, scratch: &Path, fresh: bool) -> Result<Duration> {
        let mut gateway = Self::gateway(program, upstream, scratch)?;
        let directory = gateway.directory.clone().context("no directory")?;
        gateway.child.kill()?;
        gateway.child.wait()?;
        if fresh {
            fs::remove_dir_all(directory.join("data"))?;
        }
        let log = fs::File::create(directory.join("again.log"))?;
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(directory.join("portcullis.yaml"));
        command.env("PORTCULLIS_WORKERS", "1").stdin(Stdio::null());
        gateway.child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let address = gateway.url.trim_start_matches("http://").trim_end_matches("/mcp/bench").to_owned();
        while !answers(&address) {
            ensure!(begun.elapsed() < START_MAX, "the gateway does not answer");
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(begun.elapsed())
    }

    /// Waits until something listens on the port.
    fn wait_for(&mut self, port: u16) -> Result<()> {
        let begun = Instant::now();
        while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the gateway ended with {status}: {}", self.log());
            }
            ensure!(begun.elapsed() < START_MAX, "the gateway does not listen on {port}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The end of what the gateway said.
    pub(crate) fn log(&self) -> String {
        let text = self.directory.as_ref().map(|directory| fs::read_to_string(directory.join("run.log")));
        let text = text.and_then(Result::ok).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Whether a request without a credential is answered, which only the data plane does.
fn answers(address: &str) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
    let asked = write!(stream, "GET /mcp/bench HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut start = [0; 12];
    asked.is_ok() && stream.read_exact(&mut start).is_ok() && start.starts_with(b"HTTP/1.1 4")
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Every stage on; the limits that count are raised out of the way, as one caller stands for many here.
fn configuration(data: u16, admin: u16, directory: &Path, upstreams: &[(String, &str)]) -> String {
    let server =
        |(name, url): &(String, &str)| format!("  {name}:\n    url: {url}\n    trust: trust_on_first_use\n");
    let servers: String = upstreams.iter().map(server).collect();
    let names: Vec<&str> = upstreams.iter().map(|(name, _)| name.as_str()).collect();
    let many = if names.len() > 1 { "aggregate:\n  enabled: true\n" } else { "" };
    let names = names.join(", ");
    format!(
        "listen:\n  address: 127.0.0.1:{data}\nadmin:\n  address: 127.0.0.1:{admin}\ndata: {}\nservers:\n{servers}{many}\
         identities:\n  api_keys: true\nroles:\n  bench:\n    \
         description: May call the one tool and mask what should be masked.\n    allow:\n      - actions: [connect]\n        \
         servers: [{names}, aggregate]\n      - actions: [call_tool]\n        servers: [{names}]\n        tools: [echo, 'echo_*']\nlimits:\n  \
         caller_rate_per_s: 1000000\n  caller_burst_max: 1000000\n  source_rate_per_s: 1000000\n  \
         source_burst_max: 1000000\n  sessions_max: 50000\n  caller_sessions_max: 50000\n  connections_max: 50000\n  \
         caller_calls_max: 50000\n  server_calls_max: 50000\n  caller_streams_max: 50000\n  \
         server_streams_max: 50000\nlog:\n  level: warn\n",
        directory.join("data").display()
    )
}

/// A key for the role `bench`, made the way an operator makes one.
fn new_key(program: &Path, data: &Path) -> Result<String> {
    let output = Command::new(program)
        .args(["key", "create", "bench", "--role", "bench", "--json", "--data"])
        .arg(data)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`key create` failed: {text}{said}");
    let word = text.split('"').find(|word| word.starts_with("pcl_") && word.len() > 30);
    Ok(word.with_context(|| format!("`key create` printed no key: {text}"))?.to_owned())
}
