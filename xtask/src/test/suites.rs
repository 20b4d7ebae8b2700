//! The list of suites: what each runs, what it needs, and how long it may take.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::count::Format;
use crate::install::{Cache, Need};
use crate::{process, style};

/// Where a suite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the lane of cargo, one after the other.
    Cargo,
    /// Beside others, once the gateway is built and the counterparts are there.
    Beside,
}

/// One suite.
pub struct Suite {
    /// Its name for `--only`.
    pub name: &'static str,
    /// What it tests.
    pub doc: &'static str,
    /// Where it runs.
    pub place: Where,
    /// Left out by `--fast`.
    pub slow: bool,
    /// Tried once more when it fails: it races processes of others. Never so where one failure in many tries would be a
    /// fault of ours, such as an answer for somebody else.
    pub again: bool,
    /// What must be installed.
    pub needs: &'static [Need],
    /// Its commands.
    pub steps: fn(&Path, &Cache) -> Result<Vec<Step>>,
}

/// One command of a suite.
pub struct Step {
    /// The command.
    pub command: Command,
    /// How its tests are counted.
    pub format: Format,
    /// When it is killed.
    pub deadline: Duration,
}

/// All suites, quick complaints first.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "style",
        doc: "formatting, lints and what `tidy` holds",
        place: Where::Cargo,
        slow: false,
        again: false,
        needs: &[],
        steps: style_steps,
    },
    Suite {
        name: "unit",
        doc: "tests of every crate and end-to-end tests of the gateway, by nextest where it is there",
        place: Where::Cargo,
        slow: false,
        again: false,
        needs: &[],
        steps: unit,
    },
    Suite {
        name: "doc",
        doc: "examples in documentation, also those that must not compile",
        place: Where::Cargo,
        slow: false,
        again: false,
        needs: &[],
        steps: doc,
    },
    Suite {
        name: "fuzz",
        doc: "every fuzz target over its seeds and their mutations, for a moment each",
        place: Where::Cargo,
        slow: true,
        again: false,
        needs: &[],
        steps: fuzz,
    },
    Suite {
        name: "conformance",
        doc: "the official conformance suite: its client against a fixture server, its servers against a client",
        place: Where::Beside,
        slow: true,
        again: true,
        needs: &[Need::Npm, Need::Python],
        steps: conformance,
    },
    Suite {
        name: "clients",
        doc: "official clients of both revisions with real servers behind the gateway, and every method between any two revisions",
        place: Where::Beside,
        slow: true,
        again: true,
        needs: &[Need::Npm, Need::Python, Need::PythonLegacy],
        steps: clients,
    },
    Suite {
        name: "oauth",
        doc: "official clients that find their way to a certified authorization server, and its tokens of every kind",
        place: Where::Beside,
        slow: true,
        again: true,
        needs: &[Need::Npm, Need::NpmOauth, Need::Python],
        steps: oauth,
    },
    Suite {
        name: "secrets",
        doc: "secrets of AWS Secrets Manager, which checks signatures and permissions, and of a server of the Vault API",
        place: Where::Beside,
        slow: true,
        again: false,
        needs: &[Need::Python, Need::PythonAws, Need::CargoVault],
        steps: secrets,
    },
    Suite {
        name: "seal",
        doc: "data keys wrapped by AWS KMS, which checks signatures and permissions, and by an HSM behind PKCS#11",
        place: Where::Beside,
        slow: true,
        again: false,
        needs: &[Need::Python, Need::PythonAws],
        steps: seal,
    },
    Suite {
        name: "tls",
        doc: "scanners of TLS and a load of HTTP/2, its key exchange with another library, and certificates of an ACME server",
        place: Where::Beside,
        slow: true,
        again: true,
        needs: &[Need::Npm, Need::PythonTls],
        steps: tls,
    },
    Suite {
        name: "reads",
        doc: "hidden instructions and personal data in a page, a letter and a row, as real servers read them for a model",
        place: Where::Beside,
        slow: true,
        again: false,
        needs: &[Need::PythonReads],
        steps: reads,
    },
    Suite {
        name: "siem",
        doc: "ledger entries at rsyslog, NATS, an OpenTelemetry collector and others, which are killed in the middle",
        place: Where::Beside,
        slow: true,
        again: false,
        needs: &[Need::Python, Need::PythonSiem],
        steps: siem,
    },
    Suite {
        name: "verifier",
        doc: "the ledger judged by the Go project's own implementation of transparency logs",
        place: Where::Beside,
        slow: true,
        again: false,
        needs: &[Need::Go, Need::PythonSiem],
        steps: verifier,
    },
    Suite {
        name: "interleaved",
        doc: "a hundred thousand calls of two users of one server, who must never see anything of each other",
        place: Where::Beside,
        slow: true,
        again: false,
        needs: &[],
        steps: interleaved,
    },
];

/// What the suites beside cargo need when `unit` does not run.
pub const BUILD: Suite = Suite {
    name: "build",
    doc: "the gateway",
    place: Where::Cargo,
    slow: false,
    again: false,
    needs: &[],
    steps: |root, _| Ok(vec![build(root)]),
};

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(arguments).env("CARGO_TERM_COLOR", "never");
    command
}

fn build(root: &Path) -> Step {
    let command = cargo(root, &["build", "--locked", "--package", "portcullis"]);
    Step { command, format: Format::Exit, deadline: minutes(25) }
}

fn style_steps(root: &Path, _: &Cache) -> Result<Vec<Step>> {
    let mut clippy = cargo(root, &["clippy", "--locked", "--workspace", "--all-targets"]);
    clippy.args(["--", "--deny", "warnings"]);
    let mut tidy = Command::new(std::env::current_exe()?);
    tidy.current_dir(root).arg("tidy");
    Ok(vec![
        Step { command: style::command(root, true)?, format: Format::Exit, deadline: minutes(2) },
        Step { command: clippy, format: Format::Exit, deadline: minutes(25) },
        Step { command: tidy, format: Format::Lines, deadline: minutes(25) },
    ])
}

fn unit(root: &Path, _: &Cache) -> Result<Vec<Step>> {
    // End-to-end tests start the binary, which a test build alone does not bring.
    let mut steps = vec![packages("strace promtool", "strace prometheus")];
    let mut binary = build(root);
    binary.command.args(["--bins"]);
    let tests = if process::find("cargo-nextest").is_some() {
        let mut command = cargo(root, &["nextest", "run", "--locked", "--workspace", "--no-fail-fast"]);
        command.args(["--no-tests", "pass", "--color", "never", "--success-output", "immediate"]);
        command.env("NEXTEST_HIDE_PROGRESS_BAR", "1");
        Step { command, format: Format::Nextest, deadline: minutes(30) }
    } else {
        let mut command = cargo(root, &["test", "--locked", "--workspace", "--no-fail-fast"]);
        command.args(["--lib", "--bins", "--tests"]);
        Step { command, format: Format::Libtest, deadline: minutes(30) }
    };
    steps.push(binary);
    steps.push(tests);
    Ok(steps)
}

/// Programs that some tests use, from Debian's packages, where they can be had; a test without its program says that it did
/// not run, and is counted as skipped.
fn packages(programs: &str, packages: &str) -> Step {
    // Two suites may want the package manager at once.
    let script = format!(
        "missing=; for one in {programs}; do command -v $one >/dev/null || missing=1; done; [ $missing ] || exit 0; \
        [ \"$(id -u)\" = 0 ] && command -v apt-get >/dev/null || exit 0; \
        apt-get -o DPkg::Lock::Timeout=240 update -qq; \
        apt-get -o DPkg::Lock::Timeout=240 install -y --no-install-recommends -qq {packages}; exit 0"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("DEBIAN_FRONTEND", "noninteractive");
    Step { command, format: Format::Preparation, deadline: minutes(5) }
}

/// The test that `unit` runs for a moment, as long as the promise asks for. The whole workspace is named, or cargo would
/// build dependencies anew with fewer features.
fn interleaved(root: &Path, _: &Cache) -> Result<Vec<Step>> {
    let name = "interleaved::two_users_on_one_server_never_see_anything_of_each_other";
    let mut command =
        cargo(root, &["test", "--locked", "--workspace", "--test", "connect", "--", "--exact", name]);
    command.env("PORTCULLIS_INTERLEAVED_CALLS", "100000");
    Ok(vec![Step { command, format: Format::Libtest, deadline: minutes(25) }])
}

fn doc(root: &Path, _: &Cache) -> Result<Vec<Step>> {
    let command = cargo(root, &["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    Ok(vec![Step { command, format: Format::Libtest, deadline: minutes(15) }])
}

fn fuzz(root: &Path, _: &Cache) -> Result<Vec<Step>> {
    // The fuzz targets are no member of the workspace, but are built from the same dependencies.
    let mut command = cargo(root, &["run", "--manifest-path", "fuzz/Cargo.toml", "--bin", "smoke"]);
    command.env("CARGO_TARGET_DIR", root.join("target/fuzz")).args(["--", "--seconds", "2"]);
    Ok(vec![Step { command, format: Format::Lines, deadline: minutes(25) }])
}

/// A script of `tests/peers`, told where the counterparts and the gateway are.
fn peers(root: &Path, cache: &Cache, script: &str, deadline: Duration) -> Step {
    let mut command = Command::new("python3");
    command.current_dir(root).arg(root.join("tests/peers").join(script));
    command.env("PEERS_CACHE", &cache.folder).env("PEERS_GATEWAY", root.join("target/debug/portcullis"));
    command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    Step { command, format: Format::Lines, deadline }
}

fn conformance(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![peers(root, cache, "conformance/run.py", minutes(10))])
}

fn clients(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    let scripts = ["clients/run.py", "clients/cells.py"];
    Ok(scripts.map(|script| peers(root, cache, script, minutes(10))).into())
}

fn oauth(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![peers(root, cache, "oauth/run.py", minutes(10))])
}

fn secrets(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![
        peers(root, cache, "secrets/run.py", minutes(10)),
        peers(root, cache, "secrets/vault.py", minutes(5)),
    ])
}

fn seal(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![
        packages("softhsm2-util pkcs11-tool", "softhsm2 opensc"),
        peers(root, cache, "seal/run.py", minutes(10)),
    ])
}

fn tls(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![
        packages("testssl h2load pebble", "testssl.sh nghttp2-client pebble"),
        peers(root, cache, "tls/run.py", minutes(10)),
        peers(root, cache, "tls/acme.py", minutes(10)),
        peers(root, cache, "tls/workload.py", minutes(3)),
    ])
}

fn reads(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![peers(root, cache, "reads/run.py", minutes(10))])
}

fn siem(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![
        packages("rsyslogd nats-server", "rsyslog rsyslog-openssl nats-server"),
        peers(root, cache, "siem/run.py", minutes(10)),
    ])
}

fn verifier(root: &Path, cache: &Cache) -> Result<Vec<Step>> {
    Ok(vec![peers(root, cache, "verifier/run.py", minutes(10))])
}
