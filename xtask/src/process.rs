//! Runs commands with a deadline and a log, and leaves no child behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How a command ended.
pub struct Ended {
    /// Its status; nothing when it ran into the deadline.
    pub status: Option<ExitStatus>,
    /// All it printed.
    pub output: String,
    /// Where that is kept.
    pub log: PathBuf,
}

impl Ended {
    /// True for exit code 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// One sentence on a failure.
    pub fn reason(&self) -> String {
        match self.status {
            None => "ran out of time".to_owned(),
            Some(status) => format!("{status}"),
        }
    }

    /// The last lines printed.
    pub fn tail(&self, lines: usize) -> String {
        let all = self.output.lines().collect::<Vec<_>>();
        let from = all.len().saturating_sub(lines);
        all.iter().skip(from).map(|line| format!("    | {line}\n")).collect()
    }
}

/// Runs `command` to its end, or kills it and all its descendants after `deadline`. Both outputs go to `log`.
pub fn run(mut command: Command, log: &Path, deadline: Duration) -> Result<Ended> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    let mut guard = Guard { child };
    let status = guard.wait(deadline)?;
    drop(guard);
    let output = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    Ok(Ended { status, output, log: log.to_path_buf() })
}

/// Runs `command` with our own input and output.
pub fn run_visibly(mut command: Command) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.status().with_context(|| format!("cannot start `{name}`"))
}

/// Runs `command` and returns what it printed on standard output; an error when it fails.
pub fn output(mut command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{name}`"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(anyhow!("`{name}`: {}\n{errors}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first folder of PATH that holds this program.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Kills the child and what it started, however we leave.
struct Guard {
    child: Child,
}

impl Guard {
    fn wait(&mut self, deadline: Duration) -> Result<Option<ExitStatus>> {
        let due = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= due {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // The child shares our process group, so that an interrupt at the terminal reaches it; its descendants
        // are therefore found by their parents.
        let victims = descendants(self.child.id());
        // Nothing can be reported here; what is gone already is as good as killed.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        if !victims.is_empty() {
            let pids = victims.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            let kill = format!("kill -KILL {pids} 2>/dev/null");
            let _ended = Command::new("sh").args(["-c", &kill]).status();
        }
    }
}

/// All processes below `pid`, from /proc; none where there is no /proc.
fn descendants(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(own) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may hold anything; state and parent follow it.
        let after = stat.rsplit(')').next().unwrap_or_default();
        if let Some(parent) = after.split_whitespace().nth(1).and_then(|word| word.parse().ok()) {
            children.entry(parent).or_default().push(own);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            found.push(child);
            open.push(child);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let folder = std::env::temp_dir().join(format!("xtask-process-{}", std::process::id()));
        let log = folder.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; sleep 61.5 & sleep 61.5; wait"]);
        let started = Instant::now();
        let ended = run(command, &log, Duration::from_secs(3)).unwrap();
        assert!(!ended.success());
        assert_eq!(ended.output, "started\n");
        assert_eq!(ended.reason(), "ran out of time");
        assert!(started.elapsed() < Duration::from_secs(30));
        let left = || {
            fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
                fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0061.5\0")
            })
        };
        // Killed is not gone: the kernel takes a moment, on a busy machine a long one.
        let gone = (0..500).any(|_| {
            let gone = !left();
            if !gone {
                std::thread::sleep(Duration::from_millis(20));
            }
            gone
        });
        assert!(gone, "a grandchild lives on");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_a_command_prints_and_returns_is_kept() {
        let folder = std::env::temp_dir().join(format!("xtask-output-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = run(command, &folder.join("log"), Duration::from_secs(10)).unwrap();
        assert_eq!(ended.status.and_then(|status| status.code()), Some(3));
        assert!(ended.output.contains("out") && ended.output.contains("err"));
        fs::remove_dir_all(folder).unwrap();
    }
}
