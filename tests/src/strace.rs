//! System calls that fail or do nothing, by way of strace.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_testkit::{Gateway, Outcome};

use crate::pair::{SOON, soon};
use crate::process::gone;

/// A process whose system calls are tampered with, until this is dropped.
#[derive(Debug)]
pub struct Tampered(Child);

impl Tampered {
    /// Does to these calls what strace is told, like `error=EIO` or `retval=0`; nothing where strace is not installed
    /// or may not trace.
    ///
    /// # Errors
    /// The gateway does not run.
    pub async fn with(gateway: &Gateway, calls: &str, what: &str) -> Outcome<Option<Self>> {
        let pid = gateway.pid().ok_or("no process")?.to_string();
        let inject = format!("inject={calls}:{what}");
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-e",
            &format!("trace={calls}"),
            "-e",
            &inject,
            "-o",
            "/dev/null",
            "-p",
            &pid,
        ]);
        let Ok(mut child) = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn() else {
            return Ok(None);
        };
        let status = format!("/proc/{pid}/status");
        let traced = || fs::read_to_string(&status).is_ok_and(|text| !text.contains("TracerPid:\t0"));
        let due = Instant::now() + SOON;
        while !traced() {
            if child.try_wait()?.is_some() || Instant::now() > due {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Some(Self(child)))
    }

    /// Stops it; the process runs on undisturbed.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn end(mut self) -> Outcome {
        let pid = self.0.id();
        let raw = rustix::process::Pid::from_raw(i32::try_from(pid)?).ok_or("no pid")?;
        rustix::process::kill_process(raw, rustix::process::Signal::INT)?;
        soon("strace ends", || gone(pid)).await?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Tampered {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _collected = self.0.wait();
    }
}
