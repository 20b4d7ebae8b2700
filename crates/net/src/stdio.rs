//! Servers as child processes, spoken to by lines over their standard input and output. No shell, a clean environment,
//! a process group of their own, and nobody left behind: neither zombies nor grandchildren.
//!
//! A child whose gateway is killed outright sees the end of its standard input, which is how a server on stdio learns
//! that it is no longer needed. A stronger tie (`PR_SET_PDEATHSIG`) needs code between fork and exec, hence `unsafe`,
//! and is not used.

mod child;
mod confined;
mod lines;
mod stderr;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use portcullis_core::Limits;
use thiserror::Error;

use crate::sandbox::{Sandbox, SandboxError};

pub use child::Child;

/// What to run. Comes from the operator's configuration alone; nothing of it may depend on a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// The program, looked up in the child's `PATH` unless it contains a slash.
    pub program: String,
    /// Its arguments, passed as they are.
    pub args: Vec<String>,
    /// Variables on top of [`ChildOptions::base_env`]; may hold secrets and is never printed.
    pub env: BTreeMap<String, String>,
    /// Working directory, ours unless given.
    pub cwd: Option<PathBuf>,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and values may carry secrets; names of variables do not.
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .finish()
    }
}

/// The few variables that programs cannot do without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Names that are passed on from our own environment.
    pub const NAMES: [&'static str; 4] = ["HOME", "LANG", "PATH", "TMPDIR"];

    /// Picks [`Self::NAMES`] from the variables of this process, which the binary hands in.
    #[must_use]
    pub fn minimal(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(
            vars.into_iter()
                .filter(|(name, _)| Self::NAMES.iter().any(|kept| OsStr::new(kept) == name))
                .collect(),
        )
    }

    /// Everything that is handed in: for a command that its user already gave this environment.
    #[must_use]
    pub fn of(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(vars.into_iter().collect())
    }
}

/// Changes a line of standard error before it is logged, for example masks secrets in it.
pub type StderrFilter = Arc<dyn Fn(String) -> String + Send + Sync>;

/// Limits and surroundings of one child.
#[derive(Clone)]
pub struct ChildOptions {
    /// The server's configured name, for the log.
    pub name: Arc<str>,
    /// Bytes of one line in either direction; a child that writes a longer one is killed.
    pub line_bytes_max: usize,
    /// Bytes of standard error that are logged per second; the rest is counted and dropped.
    pub stderr_bytes_per_s: usize,
    /// Time to exit after standard input closes, and again after SIGTERM.
    pub grace: Duration,
    /// The environment under [`Command::env`].
    pub base_env: Environment,
    /// Applied to each line of standard error.
    pub stderr_filter: Option<StderrFilter>,
    /// How the child is confined, if it is.
    pub sandbox: Option<Sandbox>,
}

impl ChildOptions {
    /// The options that `limits` describe.
    #[must_use]
    pub fn new(name: Arc<str>, limits: &Limits, base_env: Environment) -> Self {
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            name,
            line_bytes_max: size(limits.answer_bytes_max.max(limits.body_bytes_max)),
            stderr_bytes_per_s: size(limits.stderr_bytes_per_s),
            grace: Duration::from_millis(limits.child_grace_ms),
            base_env,
            stderr_filter: None,
            sandbox: None,
        }
    }
}

impl fmt::Debug for ChildOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildOptions")
            .field("name", &self.name)
            .field("line_bytes_max", &self.line_bytes_max)
            .field("stderr_bytes_per_s", &self.stderr_bytes_per_s)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// What a child did that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It wrote a line longer than [`ChildOptions::line_bytes_max`].
    LineTooLong,
    /// It closed its standard output and stayed alive.
    StdoutClosed,
    /// It had more processes than its sandbox allows.
    TooManyProcesses,
    /// Its temporary folder held more than its sandbox allows.
    DiskFull,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What the kernel says.
    pub status: ExitStatus,
    /// Why we killed it, if we did for something it did.
    pub violation: Option<Violation>,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violation {
            None => write!(f, "{}", self.status),
            Some(Violation::LineTooLong) => f.write_str("killed: it wrote a line that is too long"),
            Some(Violation::StdoutClosed) => f.write_str("killed: it closed its standard output"),
            Some(Violation::TooManyProcesses) => f.write_str("killed: it had too many processes"),
            Some(Violation::DiskFull) => f.write_str("killed: it filled its temporary folder"),
        }
    }
}

/// Why a child could not be started.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// The operating system refused.
    #[error("cannot start `{program}`: {error}")]
    Os {
        /// The program as configured.
        program: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The kernel gave no pid or no pipes.
    #[error("cannot start `{program}`: it ended before it began")]
    Stillborn {
        /// The program as configured.
        program: String,
    },
    /// It must be confined and cannot be.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Why a line was not sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// The child is gone or shutting down.
    #[error("the child takes no more input")]
    Closed,
    /// The text contains a line break and would become two messages.
    #[error("a line must not contain a line break")]
    LineBreak,
    /// The line is longer than allowed.
    #[error("the line is too long")]
    TooLong,
}
