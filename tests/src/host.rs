//! An MCP host that runs `portcullis wrap` and speaks with it over pipes, and what the ledger it leaves behind says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use portcullis_testkit::{Fault, Gateway, Outcome};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::pair::SOON;

/// A folder with the data of wrapped servers and what they print, and the binary.
#[derive(Debug)]
pub struct Home {
    gateway: Gateway,
}

impl Home {
    /// An empty one.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn new() -> Outcome<Self> {
        Ok(Self { gateway: Gateway::builder().prepare()? })
    }

    /// The program under test.
    #[must_use]
    pub fn binary(&self) -> &Path {
        self.gateway.binary()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.gateway.folder()
    }

    /// Writes a file into it.
    ///
    /// # Errors
    /// The disk.
    pub fn file(&self, name: &str, text: &str) -> Outcome<String> {
        let path = self.folder().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn command(&self, options: &[&str], target: &[&str]) -> Command {
        let mut command = Command::new(self.binary());
        command.arg("wrap").arg("--data").arg(self.folder().join("data")).args(options);
        if !target.is_empty() {
            command.arg("--").args(target);
        }
        command.current_dir(self.folder()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts a wrapped server.
    ///
    /// # Errors
    /// The binary cannot be run.
    pub fn start(&self, options: &[&str], target: &[&str]) -> Outcome<Host> {
        self.start_with(options, target, &[])
    }

    /// Starts a wrapped server with these variables.
    ///
    /// # Errors
    /// The binary cannot be run.
    pub fn start_with(&self, options: &[&str], target: &[&str], variables: &[(&str, &str)]) -> Outcome<Host> {
        let log = tempfile::NamedTempFile::new_in(self.folder())?.into_temp_path().keep()?;
        let mut command = self.command(options, target);
        command.envs(variables.iter().copied()).stderr(fs::File::create(&log)?);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Host { child, input, lines: BufReader::new(output).lines(), early: Vec::new(), log })
    }

    /// The data directory of a wrapped server.
    ///
    /// # Errors
    /// It is not told.
    pub async fn data(&self, options: &[&str], target: &[&str]) -> Outcome<PathBuf> {
        let mut options = options.to_vec();
        options.push("--where");
        let output = self.command(&options, target).output().await?;
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
    }

    /// The entries of the ledger in a data directory, after `portcullis audit verify` found nothing wrong with it.
    ///
    /// # Errors
    /// It does not verify.
    pub async fn verified(&self, data: &Path) -> Outcome<Vec<Value>> {
        let mut command = Command::new(self.binary());
        let output = command.args(["audit", "verify", "--data"]).arg(data).output().await?;
        if !output.status.success() {
            return Err(Fault::from(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let mut bundles: Vec<(PathBuf, u32, PathBuf)> = Vec::new();
        files(&data.join("ledger/tile/entries"), &mut |path| {
            let parent = path.parent().unwrap_or(path);
            match parent.extension() {
                // A bundle that is not full yet, by how many entries it has.
                Some(extension) if extension == "p" => {
                    let width = path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or(0);
                    bundles.push((parent.with_extension(""), width, path.to_owned()));
                }
                _ => bundles.push((path.to_owned(), u32::MAX, path.to_owned())),
            }
        })?;
        bundles.sort();
        let mut entries = Vec::new();
        while let Some((bundle, _, path)) = bundles.pop() {
            bundles.retain(|(other, ..)| *other != bundle);
            let bytes = fs::read(path)?;
            let mut rest = bytes.as_slice();
            let mut found = Vec::new();
            while let Some((length, after)) = rest.split_first_chunk::<2>() {
                let (entry, after) =
                    after.split_at_checked(u16::from_be_bytes(*length).into()).ok_or("cut")?;
                found.push(serde_json::from_slice(entry)?);
                rest = after;
            }
            entries.splice(0..0, found);
        }
        Ok(entries)
    }
}

fn files(folder: &Path, found: &mut impl FnMut(&Path)) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found(&path) }
    }
    Ok(())
}

/// Every intent among `entries` has exactly one outcome or refusal. Returns how many there are.
///
/// # Errors
/// One has none, or two.
pub fn settled(entries: &[Value]) -> Outcome<usize> {
    let mut count = 0;
    for (index, entry) in entries.iter().enumerate() {
        if entry.get("event") != Some(&json!("call.intent")) {
            continue;
        }
        let ends = |other: &&Value| {
            let event = other.get("event").and_then(Value::as_str).unwrap_or_default();
            other.get("intent") == Some(&json!(index)) && matches!(event, "call.outcome" | "call.refused")
        };
        let ends = entries.iter().filter(ends).count();
        if ends != 1 {
            return Err(format!("{ends} ends of {index}: {entry}").into());
        }
        count += 1;
    }
    Ok(count)
}

/// A running `portcullis wrap`.
#[derive(Debug)]
pub struct Host {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// Messages that came before the one that was waited for.
    pub early: Vec<Value>,
    log: PathBuf,
}

/// The `_meta` of requests of revision 2026-07-28.
#[must_use]
pub fn modern(params: Value) -> Value {
    let mut params = params;
    if let Some(members) = params.as_object_mut() {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        members.insert("_meta".into(), meta);
    }
    params
}

impl Host {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What was written to standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Nobody reads.
    pub async fn write(&mut self, bytes: &[u8]) -> Outcome {
        let input = self.input.as_mut().ok_or("the input is closed")?;
        input.write_all(bytes).await?;
        Ok(input.flush().await?)
    }

    /// Writes a message.
    ///
    /// # Errors
    /// Nobody reads.
    pub async fn send(&mut self, message: &Value) -> Outcome {
        self.write(format!("{message}\n").as_bytes()).await
    }

    /// The next message; every line must be one.
    ///
    /// # Errors
    /// None comes.
    pub async fn next(&mut self) -> Outcome<Value> {
        let line = timeout(SOON, self.lines.next_line()).await.map_err(|_| Fault::from("nothing comes"))?;
        let line = line?.ok_or_else(|| Fault::from(format!("the output ended: {}", self.errors())))?;
        let message: Value = serde_json::from_str(&line)?;
        if message.get("jsonrpc") == Some(&json!("2.0")) { Ok(message) } else { Err(line.into()) }
    }

    /// The first message that fits; those before it are kept in `early`.
    ///
    /// # Errors
    /// None comes.
    pub async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Outcome<Value> {
        if let Some(at) = self.early.iter().position(&fits) {
            return Ok(self.early.remove(at));
        }
        loop {
            let message = self.next().await?;
            if fits(&message) {
                return Ok(message);
            }
            self.early.push(message);
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// None comes.
    pub async fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Outcome<Value> {
        let id = id.into();
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        self.until(|message| message.get("id") == Some(&id) && message.get("method").is_none()).await
    }

    /// Opens a session of 2025-11-25.
    ///
    /// # Errors
    /// It is refused.
    pub async fn initialize(&mut self) -> Outcome<Value> {
        let capabilities = json!({"elicitation": {}, "roots": {"listChanged": true}});
        let client = json!({"name": "host", "version": "1"});
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client});
        let answer = self.ask("open", "initialize", params).await?;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        if answer.get("result").is_some() { Ok(answer) } else { Err(answer.to_string().into()) }
    }

    /// Closes the input and waits for the end.
    ///
    /// # Errors
    /// It does not end.
    pub async fn close(&mut self) -> Outcome<ExitStatus> {
        self.input = None;
        self.ended().await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// It does not end.
    pub async fn ended(&mut self) -> Outcome<ExitStatus> {
        let ended = timeout(SOON + Duration::from_secs(5), self.child.wait()).await;
        Ok(ended.map_err(|_| Fault::from("it does not end"))??)
    }
}
