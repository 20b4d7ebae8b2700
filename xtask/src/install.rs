//! `cargo xtask install`: brings the counterparts of the tests (servers, clients, the conformance suite, runtimes)
//! into a cache folder outside the tree, each at the version that `xtask/counterparts.txt` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// How long one package manager may take.
const INSTALL_MAX: Duration = Duration::from_secs(12 * 60);
/// How long a counterpart may be built, beside the tests that run meanwhile.
const BUILD_MAX: Duration = Duration::from_secs(40 * 60);

/// A group of counterparts that is installed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Node and the packages that run on it.
    Npm,
    /// The authorization server, which runs on the Node of the other group.
    NpmOauth,
    /// The Python SDK of both revisions, and servers on it.
    Python,
    /// The Python SDK that knows only the old revision.
    PythonLegacy,
    /// AWS, as far as it can be had, with its client.
    PythonAws,
    /// A scanner of TLS.
    PythonTls,
    /// Servers that read what strangers write: pages, mail, rows.
    PythonReads,
    /// Receivers of ledger entries, and the judges of what they got.
    PythonSiem,
    /// A Go toolchain with the reference implementation of transparency logs.
    Go,
    /// A server of the Vault API, as far as one can be had.
    CargoVault,
}

impl Need {
    /// All, those that several suites wait for first.
    pub const ALL: [Self; 10] = [
        Self::Npm,
        Self::NpmOauth,
        Self::Python,
        Self::PythonLegacy,
        Self::PythonAws,
        Self::PythonTls,
        Self::PythonReads,
        Self::PythonSiem,
        Self::Go,
        Self::CargoVault,
    ];

    /// Its folder in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::NpmOauth => "npm-oauth",
            Self::Python => "pypi",
            Self::PythonLegacy => "pypi-legacy",
            Self::PythonAws => "pypi-aws",
            Self::PythonTls => "pypi-tls",
            Self::PythonReads => "pypi-reads",
            Self::PythonSiem => "pypi-siem",
            Self::Go => "go",
            Self::CargoVault => "cargo-vault",
        }
    }
}

/// Where counterparts are kept, and which.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The folder.
    pub folder: PathBuf,
    list: String,
}

impl Cache {
    /// The cache of this machine: `PORTCULLIS_CACHE`, or a folder in the user's cache.
    pub fn open(root: &Path) -> Result<Self> {
        let folder = match std::env::var_os("PORTCULLIS_CACHE") {
            Some(folder) => PathBuf::from(folder),
            None => {
                PathBuf::from(std::env::var_os("HOME").context("neither PORTCULLIS_CACHE nor HOME is set")?)
                    .join(".cache/portcullis")
            }
        };
        fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        let list = fs::read_to_string(root.join("xtask/counterparts.txt"))?;
        Ok(Self { folder: fs::canonicalize(folder)?, list })
    }

    /// The folder of one group.
    pub fn of(&self, need: Need) -> PathBuf {
        self.folder.join(need.name())
    }

    /// The packages of one kind of line.
    fn packages(&self, kind: &str) -> Vec<String> {
        let lines = self.list.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(own, _)| *own == kind).map(|(_, package)| package.trim().to_owned()).collect()
    }

    /// Installs a group unless it is there at these versions. Returns true when something was done.
    pub fn install(&self, need: Need) -> Result<bool> {
        let packages = self.packages(need.name());
        ensure!(!packages.is_empty(), "xtask/counterparts.txt names nothing for `{}`", need.name());
        let wanted = packages.join("\n");
        let folder = self.of(need);
        let stamp = folder.join("installed.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(false);
        }
        // A half-done or older installation is no base to build on.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        match need {
            Need::Npm => {
                self.npm(&folder, need, &packages)?;
                Self::node(&folder)?;
            }
            Need::NpmOauth => self.npm(&folder, need, &packages)?,
            Need::Python
            | Need::PythonLegacy
            | Need::PythonAws
            | Need::PythonTls
            | Need::PythonReads
            | Need::PythonSiem => self.python(&folder, need, &packages)?,
            Need::Go => {
                self.python(&folder, need, &packages)?;
                self.go_modules(&folder)?;
            }
            Need::CargoVault => self.cargo(&folder, need, &packages)?,
        }
        fs::write(stamp, wanted)?;
        Ok(true)
    }

    fn npm(&self, folder: &Path, need: Need, packages: &[String]) -> Result<()> {
        let own = format!("node-{}-{}@", platform()?, architecture()?);
        let fits = |package: &&String| !package.starts_with("node-linux-") || package.starts_with(&own);
        let mut command = Command::new("npm");
        // No scripts: a package may bring files, not run code while it is installed.
        command.args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel",
            "error",
            "--prefix",
        ]);
        command.arg(folder).args(packages.iter().filter(fits)).current_dir(folder);
        self.step(need, "install", command)
    }

    /// One name for Node, whatever the machine.
    fn node(folder: &Path) -> Result<()> {
        let own = format!("node-{}-{}", platform()?, architecture()?);
        let node = folder.join("node_modules").join(own).join("bin/node");
        ensure!(node.is_file(), "`{}` is not there", node.display());
        let bin = folder.join("bin");
        fs::create_dir_all(&bin)?;
        std::os::unix::fs::symlink(node, bin.join("node"))?;
        Ok(())
    }

    fn python(&self, folder: &Path, need: Need, packages: &[String]) -> Result<()> {
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(folder);
        self.step(need, "venv", create)?;
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        install.args(packages);
        self.step(need, "pip", install)
    }

    /// The packages `note` and `tlog` of the Go project, from Debian, so that no module proxy is needed.
    fn go_modules(&self, folder: &Path) -> Result<()> {
        let source = Path::new("/usr/share/gocode/src/golang.org/x/mod/sumdb");
        if !source.is_dir() {
            let packages = self.packages("apt");
            self.debian(Need::Go, &packages.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        ensure!(source.is_dir(), "`{}` is not there", source.display());
        ensure!(folder.join("bin/go").exists(), "the Go toolchain is not there");
        Ok(())
    }

    /// Programs from the Rust registry, built behind everything else that wants the machine.
    fn cargo(&self, folder: &Path, need: Need, packages: &[String]) -> Result<()> {
        if !Path::new("/usr/include/openssl/ssl.h").is_file() {
            self.debian(need, &["libssl-dev", "pkg-config"])?;
        }
        let target = folder.join("target");
        let mut command = Command::new("nice");
        command.args(["-n", "10", "cargo", "install", "--debug", "--locked", "--quiet", "--root"]);
        command.arg(folder).arg("--target-dir").arg(&target).args(packages).current_dir(folder);
        // Nobody looks at its symbols, and they would be most of what is written.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
        self.step_within(need, "install", command, BUILD_MAX)?;
        fs::remove_dir_all(&target)?;
        Ok(())
    }

    /// Packages of Debian, which need root.
    fn debian(&self, need: Need, packages: &[&str]) -> Result<()> {
        let manager = process::find("apt-get")
            .with_context(|| format!("{} is not there, nor is apt-get", packages.join(", ")))?;
        let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
        for (name, arguments) in [("apt-update", vec!["update"]), ("apt-install", install)] {
            let mut command = Command::new(&manager);
            command.env("DEBIAN_FRONTEND", "noninteractive").args(&arguments);
            self.step(need, name, command)?;
        }
        Ok(())
    }

    fn step(&self, need: Need, name: &str, command: Command) -> Result<()> {
        self.step_within(need, name, command, INSTALL_MAX)
    }

    fn step_within(&self, need: Need, name: &str, command: Command, limit: Duration) -> Result<()> {
        let log = self.folder.join(format!("{}-{name}.log", need.name()));
        let ended = process::run(command, &log, limit)?;
        if !ended.success() {
            bail!(
                "{name} of `{}`: {} (see {})\n{}",
                need.name(),
                ended.reason(),
                log.display(),
                ended.tail(12)
            );
        }
        Ok(())
    }
}

fn platform() -> Result<&'static str> {
    match std::env::consts::OS {
        system @ ("linux" | "darwin") => Ok(system),
        "macos" => Ok("darwin"),
        other => bail!("no Node package is known for `{other}`"),
    }
}

fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("x64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no Node package is known for `{other}`"),
    }
}

/// Installs everything and says how long it took.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "usage: cargo xtask install");
    let cache = Cache::open(root)?;
    let mut code = ExitCode::SUCCESS;
    for need in Need::ALL {
        let started = Instant::now();
        match cache.install(need) {
            Ok(true) => println!("installed {} in {:.0} s", need.name(), started.elapsed().as_secs_f64()),
            Ok(false) => println!("{} is there", need.name()),
            Err(error) => {
                eprintln!("{}: {error:#}", need.name());
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
