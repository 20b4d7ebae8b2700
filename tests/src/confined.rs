//! A gateway before a confined server that tries whatever a call asks of it, and questions about what it tried.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use portcullis_testkit::{Era, Gateway, McpClient, Outcome};
use serde_json::{Value, json};

use crate::pair::{SOON, entries, verdict};

/// A gateway and its server, which it knows as `s`.
#[derive(Debug)]
pub struct World {
    /// The gateway.
    pub gateway: Gateway,
    /// Holds what the server may see (`given`) and what it may not (`secret`), each with a `file`.
    pub folder: PathBuf,
    _temp: tempfile::TempDir,
}

/// A program that tries what it is asked.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it is written in.
    pub language: &'static str,
    /// Its words.
    pub command: Vec<String>,
}

impl Program {
    /// The one in Rust, by the path that cargo gives to tests.
    #[must_use]
    pub fn rust(path: &str) -> Self {
        Self { language: "rust", command: vec![path.to_owned()] }
    }

    /// The one in Python; `None` where there is no interpreter.
    #[must_use]
    pub fn python() -> Option<Self> {
        let ask = ["-c", "import sys; print(sys.executable)"];
        Self::script("python", "python3", &ask, "hostile_child.py")
    }

    /// The one in JavaScript; `None` where there is no Node.
    #[must_use]
    pub fn node() -> Option<Self> {
        let ask = ["-p", "process.execPath"];
        Self::script("node", "node", &ask, "hostile_child.mjs")
    }

    /// An interpreter is asked where it really lies: what is first in `PATH` may be a shell script.
    fn script(language: &'static str, interpreter: &str, ask: &[&str], file: &str) -> Option<Self> {
        let output =
            Command::new(interpreter).args(ask).output().ok().filter(|output| output.status.success())?;
        let interpreter = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("children").join(file);
        Some(Self { language, command: vec![interpreter, file.display().to_string()] })
    }
}

impl World {
    /// Starts both. `sandbox` writes the section, in flow style, and is told the folder `given`; `extra` follows the
    /// server.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn start(
        program: &Program,
        sandbox: impl FnOnce(&str) -> String,
        extra: &str,
    ) -> Outcome<Self> {
        // Not below the folder for temporary files, where a child's own folder lies.
        let test = std::env::current_exe()?;
        let target = test.ancestors().nth(3).ok_or("a test lies in target/PROFILE/deps")?;
        fs::create_dir_all(target.join("tmp"))?;
        let temp = tempfile::Builder::new().prefix("sandbox-").tempdir_in(target.join("tmp"))?;
        let folder = temp.path().canonicalize()?;
        for name in ["given", "secret"] {
            fs::create_dir(folder.join(name))?;
            fs::write(folder.join(name).join("file"), name)?;
        }
        let section = sandbox(&folder.join("given").display().to_string());
        let command = json!(program.command);
        let yaml = format!("servers:\n  s:\n    command: {command}\n    sandbox: {section}\n{extra}");
        let gateway = Gateway::start(&yaml).await?;
        Ok(Self { gateway, folder, _temp: temp })
    }

    /// A client of the first key.
    ///
    /// # Errors
    /// The gateway refuses.
    pub async fn client(&self) -> Outcome<McpClient> {
        McpClient::connect(&self.gateway.url("s"), Some(self.gateway.key()?), Era::Modern).await
    }

    /// Asks the server to try something; what it says about it.
    ///
    /// # Errors
    /// No answer.
    pub async fn attempt(&self, what: &str, on: &str) -> Outcome<String> {
        let answer = self.client().await?.call("try", json!({"what": what, "on": on})).await?;
        Ok(if answer.status() == 200 { answer.text() } else { format!("{:?}", verdict(&answer)) })
    }

    /// A path below the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// What the ledger has about incidents of this server now.
    ///
    /// # Errors
    /// No answer.
    pub async fn all_incidents(&self) -> Outcome<Vec<Value>> {
        let found = entries(&self.gateway, "event=sandbox.denied").await?;
        let data = found.into_iter().filter_map(|entry| entry.get("data").cloned());
        Ok(data.filter(|data| data["server"] == "s").collect())
    }

    /// What the ledger has about incidents of this kind, as soon as it has something.
    ///
    /// # Errors
    /// It has nothing.
    pub async fn incidents(&self, kind: &str) -> Outcome<Vec<Value>> {
        self.incidents_that(&format!("of kind {kind}"), |data| data["kind"] == kind).await
    }

    /// Waits until the ledger has this attempt.
    ///
    /// # Errors
    /// It has it not.
    pub async fn recorded(&self, kind: &str, target: &str) -> Outcome<Value> {
        let fits = |data: &Value| {
            data["kind"] == kind && data["target"].as_str().is_some_and(|text| text.contains(target))
        };
        let found = self.incidents_that(&format!("of kind {kind} on {target}"), fits).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    async fn incidents_that(&self, words: &str, fits: impl Fn(&Value) -> bool) -> Outcome<Vec<Value>> {
        let due = Instant::now() + SOON;
        loop {
            let all = self.all_incidents().await?;
            let found: Vec<Value> = all.iter().filter(|data| fits(data)).cloned().collect();
            if !found.is_empty() {
                return Ok(found);
            }
            if Instant::now() > due {
                return Err(format!("no incident {words} among {all:#?}; {}", self.gateway.output()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
