//! Runs the real gateway binary in a folder of its own, and can kill, restart, reload and search it.

mod builder;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Client, Fault, Outcome, Reply, files_containing};

pub use builder::GatewayBuilder;

/// How long a gateway may take until it answers.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a gateway may take to stop after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A running gateway. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct Gateway {
    folder: PathBuf,
    // Held so that the folder lives as long as the gateway; absent when the caller chose the folder.
    _owned: Option<TempDir>,
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    address: SocketAddr,
    admin: SocketAddr,
    tls: bool,
    key: Option<String>,
}

impl Gateway {
    /// A gateway to be configured.
    #[must_use]
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder::default()
    }

    /// Starts a gateway with this `portcullis.yaml`.
    ///
    /// # Errors
    /// See [`GatewayBuilder::start`].
    pub async fn start(yaml: &str) -> Outcome<Self> {
        Self::builder().config(yaml).start().await
    }

    /// The endpoint of one server.
    #[must_use]
    pub fn url(&self, server: &str) -> String {
        format!("{}/mcp/{server}", self.base())
    }

    /// The data plane without a path.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// The admin API without a path.
    #[must_use]
    pub fn admin_base(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Where the data plane listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin API listens.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The API key that the first start printed.
    ///
    /// # Errors
    /// None was printed.
    pub fn key(&self) -> Outcome<&str> {
        self.key.as_deref().ok_or_else(|| Fault::from(format!("no key was printed:\n{}", self.output())))
    }

    /// The token of the admin API, from the data folder.
    ///
    /// # Errors
    /// The file is not there.
    pub fn admin_token(&self) -> Outcome<String> {
        Ok(fs::read_to_string(self.data().join("admin.token"))?.trim().to_owned())
    }

    /// One GET on the admin API with its token.
    ///
    /// # Errors
    /// No answer.
    pub async fn admin_get(&self, path: &str) -> Outcome<Reply> {
        let authorization = format!("Bearer {}", self.admin_token()?);
        let url = format!("{}{path}", self.admin_base());
        Client::default().get(&url, &[("authorization", &authorization)]).await
    }

    /// The program that is run.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The run's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("portcullis-data")
    }

    /// The process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// True while the process runs.
    pub fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What all starts printed so far, standard output first.
    #[must_use]
    pub fn output(&self) -> String {
        let read = |name: &str| {
            let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        format!("{}{}", read("stdout.log"), read("stderr.log"))
    }

    /// Every file of the run (output, log, store, ledger, configuration) that contains these bytes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn files_with(&self, canary: &str) -> Outcome<Vec<PathBuf>> {
        files_containing(&self.folder, canary.as_bytes())
    }

    /// Runs another command of the same binary in the run's folder, to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn command(&self, arguments: &[&str]) -> Outcome<Output> {
        Ok(self.prepared().args(arguments).stdin(Stdio::null()).output()?)
    }

    /// Kills the process as a power cut would: no signal handler runs.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> Outcome {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the process to stop and waits for it.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    pub async fn stop(&mut self) -> Outcome<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Waits until the process ends, whoever asked it to.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    pub async fn wait(&mut self) -> Outcome<ExitStatus> {
        let status = self.ended(STOP_MAX).await?;
        self.child = None;
        Ok(status)
    }

    /// Asks the process to reload its configuration.
    ///
    /// # Errors
    /// It does not run.
    pub fn reload(&self) -> Outcome {
        self.signal(Signal::HUP)
    }

    /// Stops the process without ending it, so that it answers nothing until [`Gateway::thaw`]. Returns when every one of
    /// its threads stands still: on a busy machine that is some time after the signal.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    pub fn freeze(&self) -> Outcome {
        self.signal(Signal::STOP)?;
        let tasks = format!("/proc/{}/task", self.pid().ok_or("the gateway does not run")?);
        let due = Instant::now() + STOP_MAX;
        let stopped = |task: fs::DirEntry| {
            // The state follows the name, which is in brackets.
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
        };
        while !fs::read_dir(&tasks)?.all(|task| task.is_ok_and(stopped)) {
            if Instant::now() > due {
                return Err("not every thread stopped".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets a frozen process run again.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Outcome {
        self.signal(Signal::CONT)
    }

    /// Replaces `portcullis.yaml` as an editor would: a new file, moved into place.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn rewrite(&self, change: impl FnOnce(&str) -> String) -> Outcome {
        let path = self.folder.join("portcullis.yaml");
        let next = self.folder.join("portcullis.yaml.next");
        fs::write(&next, change(&fs::read_to_string(&path)?))?;
        Ok(fs::rename(next, path)?)
    }

    /// Starts again on the same folder after [`Gateway::kill`] or [`Gateway::stop`].
    ///
    /// # Errors
    /// See [`GatewayBuilder::start`].
    pub async fn start_again(&mut self) -> Outcome {
        self.kill()?;
        self.spawn()?;
        self.ready().await
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// The process does not run.
    pub fn rss_bytes(&self) -> Outcome<u64> {
        let pid = self.pid().ok_or("the gateway does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    fn prepared(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.folder);
        command.envs(self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        command
    }

    fn spawn(&mut self) -> Outcome {
        let append = |name: &str| -> Outcome<File> {
            Ok(File::options().create(true).append(true).open(self.folder.join(name))?)
        };
        // Files, not pipes: a test that never reads cannot block the gateway, and a canary can be searched for.
        let (output, errors) = (append("stdout.log")?, append("stderr.log")?);
        let mut command = self.prepared();
        command.arg("run").args(["--config", "portcullis.yaml"]).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    async fn ready(&mut self) -> Outcome {
        let patient = Client::with_patience(Duration::from_secs(2));
        let health = format!("{}/healthz", self.admin_base());
        let due = Instant::now() + READY_MAX;
        loop {
            if !self.running() {
                return Err(format!("the gateway ended:\n{}", self.output()).into());
            }
            // Any status will do: a gateway with a broken upstream is ready to say so.
            let listens = tokio::net::TcpStream::connect(self.address).await.is_ok();
            if listens && patient.get(&health, &[]).await.is_ok() {
                break;
            }
            if Instant::now() > due {
                return Err(format!("not ready in {READY_MAX:?}:\n{}", self.output()).into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if self.key.is_none() {
            self.key = printed_key(&self.output());
        }
        Ok(())
    }

    async fn ended(&mut self, patience: Duration) -> Outcome<ExitStatus> {
        let due = Instant::now() + patience;
        while Instant::now() < due {
            let child = self.child.as_mut().ok_or("the gateway does not run")?;
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("still running after {patience:?}:\n{}", self.output()).into())
    }

    fn signal(&self, signal: Signal) -> Outcome {
        let child = self.child.as_ref().ok_or("the gateway does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).ok_or("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A drop cannot report; a gateway that is gone already is as good as killed.
        let _gone = self.kill();
    }
}

/// An API key is `pcl_`, an id, `_` and the secret; the first that stands in the text.
fn printed_key(text: &str) -> Option<String> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '-'))
        .find(|word| word.starts_with("pcl_") && word.len() > 40)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_key_is_found_in_prose_and_in_json() {
        let key = format!("pcl_abcdefghijkl_{}", "a-_9".repeat(11));
        assert_eq!(printed_key(&format!("key:  {key}\n")), Some(key.clone()));
        assert_eq!(printed_key(&format!("{{\"Authorization\": \"Bearer {key}\"}}")), Some(key));
        assert_eq!(printed_key("pcl_short"), None);
    }

    #[tokio::test]
    async fn a_gateway_that_ends_at_once_is_an_error_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("fake");
        fs::write(&binary, "#!/bin/sh\necho no such luck >&2\nexit 5\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&binary, mode).unwrap();
        let fault = Gateway::builder().binary(&binary).start().await.unwrap_err();
        assert!(fault.to_string().contains("no such luck"), "{fault}");
        let (status, words) = Gateway::builder().binary(&binary).refused().await.unwrap();
        assert_eq!(status.code(), Some(5));
        assert!(words.contains("no such luck"));
    }
}
