//! Confines a child process. The gateway starts itself again as `confine`, which takes away its own rights (Landlock,
//! seccomp, resource limits, no new privileges) and then becomes the server's program: what it gave up, the program
//! never had. No code runs between fork and exec, which would need `unsafe`.

#[cfg(target_os = "linux")]
mod apply;
mod crowd;
mod disk;
pub mod files;
#[cfg(target_os = "linux")]
mod rights;
#[cfg(target_os = "linux")]
mod syscalls;
#[cfg(target_os = "linux")]
mod watch;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use thiserror::Error;

#[cfg(target_os = "linux")]
pub(crate) use self::watch::Watch;
pub(crate) use self::{crowd::overcrowded, disk::overfull};
use crate::{
    egress::{AllowedHost, EgressProxy, Lease},
    incident::Report,
};

/// Exit code of `confine` when it could not do what was asked, so that the program was not started.
pub const NOT_CONFINED: u8 = 125;

/// What a child may reach over the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// These hosts, through the egress proxy.
    Allow(Vec<AllowedHost>),
    /// Nothing.
    #[default]
    Off,
    /// Everything.
    Open,
}

/// Bounds of one child. `None` leaves the system's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Processes of the child and its descendants at once.
    pub processes_max: Option<u64>,
    /// Files open at once, per process.
    pub files_max: Option<u64>,
    /// Bytes of private memory, per process.
    pub memory_bytes_max: Option<u64>,
    /// Seconds of processor time, per process.
    pub cpu_s_max: Option<u64>,
    /// Bytes of one file that is written.
    pub file_bytes_max: Option<u64>,
    /// Bytes in the private temporary folder.
    pub temp_bytes_max: Option<u64>,
}

/// What the operator declares about the confinement of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Paths that may be read and executed, beside the usual ones and those of the program itself.
    pub read: Vec<PathBuf>,
    /// Paths that may be read and written, beside the private temporary folder.
    pub write: Vec<PathBuf>,
    /// What it may reach.
    pub network: Network,
    /// It may connect to sockets in the file system, such as those of databases and container engines.
    pub unix_sockets: bool,
    /// A socket that it may not have ends it; otherwise the call fails.
    pub strict: bool,
    /// Its bounds.
    pub bounds: Bounds,
    /// What it tries and may not is refused, and nobody is told.
    pub unwatched: bool,
    /// Do not start it where the kernel lacks something.
    pub required: bool,
}

/// What all confined children of a gateway share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The program that understands `confine POLICY -- COMMAND…`.
    pub confine: PathBuf,
    /// Folder in which private temporary folders are made.
    pub temp: PathBuf,
    /// The gateway's own files, which no path that is merely implied may uncover.
    pub hidden: Vec<PathBuf>,
    /// The way out.
    pub egress: EgressProxy,
    /// Where incidents go.
    pub report: Report,
}

/// How one server is confined.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// What was declared.
    pub confinement: Confinement,
    /// What is the same for all.
    pub surroundings: Surroundings,
}

/// What `confine` is told: everything is decided, nothing is looked up any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    read: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    network: Sockets,
    unix_sockets: bool,
    strict: bool,
    bounds: Bounds,
    required: bool,
    /// Name of the socket where somebody waits who watches it.
    watcher: Option<String>,
}

/// Which sockets a child may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sockets {
    None,
    /// TCP to this port, where the egress proxy listens.
    Proxy(u16),
    Any,
}

/// Why a child is not started.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The kernel cannot do all that is required.
    #[error("the child must be confined, and this kernel lacks: {0}")]
    Lacking(String),
    /// Something around the child could not be made.
    #[error("the sandbox cannot be made: {0}")]
    Os(#[from] io::Error),
}

/// The words of a command that is to be confined.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The program.
    pub program: &'a str,
    /// Its arguments.
    pub args: &'a [String],
    /// Its working directory, where one is declared.
    pub cwd: Option<&'a Path>,
    /// Its `PATH`.
    pub path: Option<&'a OsStr>,
    /// Its `HOME`.
    pub home: Option<&'a OsStr>,
}

/// A child that is about to be confined: what to start instead of it, and what must live as long as it does.
#[derive(Debug)]
pub struct Prepared {
    /// The program to start.
    pub program: PathBuf,
    /// What stands before the program and its arguments.
    pub before: Vec<String>,
    /// Variables on top of its environment.
    pub env: Vec<(&'static str, String)>,
    /// The private temporary folder; removed when dropped.
    pub temp: TempDir,
    /// The way out; closed when dropped.
    pub lease: Option<Lease>,
    /// Who will watch it.
    #[cfg(target_os = "linux")]
    pub(crate) watch: Option<Watch>,
}

impl Sandbox {
    /// Makes what the child needs.
    ///
    /// # Errors
    /// The kernel lacks something that is required, or a folder or the proxy cannot be made.
    pub fn prepare(&self, server: &Arc<str>, words: &Words<'_>) -> Result<Prepared, SandboxError> {
        let (confinement, around) = (&self.confinement, &self.surroundings);
        let support = Support::detect();
        let lacking = support.lacking(confinement);
        if confinement.required && !lacking.is_empty() {
            return Err(SandboxError::Lacking(lacking.join(", ")));
        }
        let temp = tempfile::Builder::new().prefix("portcullis-").tempdir_in(&around.temp)?;
        let temp_path = temp.path().canonicalize()?;
        let mut env = vec![("TMPDIR", temp_path.display().to_string())];
        let (network, lease) = match &confinement.network {
            Network::Off => (Sockets::None, None),
            Network::Open => (Sockets::Any, None),
            Network::Allow(hosts) => {
                let lease = around.egress.lease(server, hosts.clone(), around.report.clone())?;
                env.extend(lease.variables());
                (Sockets::Proxy(lease.port()), Some(lease))
            }
        };
        let mut read = files::usual();
        read.extend(files::implied(words, &around.hidden));
        read.extend(confinement.read.iter().cloned());
        let mut write = BTreeSet::from([temp_path]);
        write.extend(confinement.write.iter().cloned());
        let policy = Policy {
            read,
            write,
            network,
            unix_sockets: confinement.unix_sockets,
            strict: confinement.strict,
            bounds: confinement.bounds,
            required: confinement.required,
            watcher: (support.watch && !confinement.unwatched).then(|| socket_name(temp.path())),
        };
        #[cfg(target_os = "linux")]
        let watch = policy.watcher.as_ref().map(|name| Watch::new(policy.clone(), name)).transpose()?;
        let policy = serde_json::to_string(&policy).map_err(io::Error::other)?;
        let before = vec!["confine".to_owned(), policy, "--".to_owned()];
        Ok(Prepared {
            program: around.confine.clone(),
            before,
            env,
            temp,
            lease,
            #[cfg(target_os = "linux")]
            watch,
        })
    }
}

/// As hard to guess, and as much a child's own, as the name of its temporary folder.
fn socket_name(temp: &Path) -> String {
    let name = temp.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{name}-{}", std::process::id())
}

impl Policy {
    /// Reads what [`Sandbox::prepare`] wrote.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Takes the rights of the calling thread away for good. To be called where there is no other thread.
    ///
    /// # Errors
    /// What could not be done. Then the program must not be started.
    pub fn apply(&self) -> Result<(), String> {
        #[cfg(target_os = "linux")]
        return apply::apply(self);
        #[cfg(not(target_os = "linux"))]
        return if self.required { Err("this system has no Landlock".to_owned()) } else { Ok(()) };
    }
}

/// What this kernel can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// Landlock: which files are read and written.
    pub files: bool,
    /// Landlock: which TCP ports are connected to.
    pub tcp: bool,
    /// Landlock: no signals to, and no abstract sockets of, processes outside.
    pub scope: bool,
    /// seccomp filters.
    pub seccomp: bool,
    /// seccomp's user notification, and memory of our children that we may read: what they try is recorded.
    pub watch: bool,
}

impl Support {
    /// Asks the kernel.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_os = "linux")]
        return apply::support();
        #[cfg(not(target_os = "linux"))]
        return Self::default();
    }

    /// What a child with this confinement would lack; empty where everything is there.
    #[must_use]
    pub fn lacking(&self, confinement: &Confinement) -> Vec<&'static str> {
        let ports = matches!(confinement.network, Network::Allow(_));
        let rows = [
            (self.files, "Landlock file rules (Linux 6.2)"),
            (self.tcp || !ports, "Landlock TCP rules (Linux 6.7)"),
            (self.scope, "Landlock scopes for signals and abstract sockets (Linux 6.12)"),
            (self.seccomp, "seccomp filters"),
            (
                self.watch || confinement.unwatched,
                "a record of each attempt (seccomp user notification, Linux 5.5; `kernel.yama.ptrace_scope` below 2)",
            ),
        ];
        rows.into_iter().filter(|(there, _)| !there).map(|(_, what)| what).collect()
    }
}
