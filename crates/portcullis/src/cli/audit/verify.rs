//! `portcullis audit verify`: the whole ledger, offline, from its files and its public key.

use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_config::{Config, Overrides};
use portcullis_proof::{
    Checkpoint, SigningKey, VerifierKey,
    verify::{Fault, Report},
};
use portcullis_store::{CheckpointKeeper as _, LogDir, Sqlite};
use serde_json::json;

use crate::cli::{
    Common, Failure,
    client::data_dir,
    exit,
    output::{Output, printable},
};

/// What `audit verify` takes.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Directory of the ledger [default: that of the data directory]
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
    /// Check a folder that `audit export` made instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ledger", "since"])]
    bundle: Option<PathBuf>,
    /// Public key, or a file with it [default: that of ledger.key in the data directory]
    #[arg(long, value_name = "KEY|FILE")]
    vkey: Option<String>,
    /// Checkpoint kept from an earlier time; the ledger must continue it
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
}

/// A checkpoint to compare with, and where it comes from.
struct Kept {
    checkpoint: Checkpoint,
    source: &'static str,
}

/// A ledger that verifies.
struct Sound {
    report: Report,
    key: VerifierKey,
    kept: Option<Kept>,
    unread: Option<String>,
}

pub(super) fn verify(common: &Common, options: &Verify, output: &Output) -> Result<(), Failure> {
    if let Some(folder) = &options.bundle {
        return super::evidence::check(folder, &key(options.vkey.as_deref(), &data_dir(common))?, output);
    }
    examine(common, options).map(|found| {
        sound(&found.report, &found.key, found.kept.as_ref(), found.unread.as_deref(), output);
    })
}

/// The entries of the ledger in the data directory, where it verifies.
///
/// # Errors
/// [`exit::UNVERIFIED`] where it does not; another code where it cannot be looked at.
pub(in crate::cli) fn entries(common: &Common) -> Result<u64, Failure> {
    examine(common, &Verify { ledger: None, bundle: None, vkey: None, since: None })
        .map(|found| found.report.size)
}

fn examine(common: &Common, options: &Verify) -> Result<Sound, Failure> {
    let config = config(common);
    let data = data_dir(common);
    let (ledger, key) = files(common, options.ledger.as_ref(), options.vkey.as_deref())?;
    let (kept, unread) = match &options.since {
        Some(file) => (Some(since(file, &key)?), None),
        // A ledger elsewhere is not the one that the store of this data directory knows.
        None if options.ledger.is_some() => (None, None),
        None => {
            let sqlite = config.as_ref().and_then(|config| config.settings.store.sqlite.clone());
            stored(&sqlite.unwrap_or_else(|| data.join("portcullis.db")), &key)
        }
    };
    let (mut faults, report) = match checked(&ledger, &key, kept.as_ref()) {
        Ok(report) => (Vec::new(), Some(report)),
        Err(faults) => (faults.iter().map(ToString::to_string).collect(), None),
    };
    faults.extend(other_key(&ledger, &key));
    match report {
        Some(report) if faults.is_empty() => Ok(Sound { report, key, kept, unread }),
        _ => Err(unsound(&ledger, &faults)),
    }
}

fn config(common: &Common) -> Option<Config> {
    let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
    Config::load(common.config.as_deref(), &overrides).ok()
}

/// Where the ledger is, and the key that signs it: those that were named, or those of the data directory.
pub(super) fn files(
    common: &Common,
    ledger: Option<&PathBuf>,
    vkey: Option<&str>,
) -> Result<(PathBuf, VerifierKey), Failure> {
    let data = data_dir(common);
    let configured = || config(common).and_then(|config| config.settings.ledger.directory);
    let ledger = ledger.cloned().or_else(configured).unwrap_or_else(|| data.join("ledger"));
    if !ledger.is_dir() {
        return Err(Failure::refused(format!(
            "`{}` is no directory\nhint: name it with --ledger",
            ledger.display()
        )));
    }
    Ok((ledger, key(vkey, &data)?))
}

/// The public key beside the log is for whoever gets the folder alone: another one there would mislead them.
fn other_key(ledger: &Path, key: &VerifierKey) -> Option<String> {
    let text = std::fs::read(ledger.join("key.pub")).ok()?;
    let differs = text.trim_ascii_end() != key.to_string().as_bytes();
    differs.then(|| "`key.pub` was changed: it is not the key that verifies this log".to_owned())
}

/// A running gateway keeps its newest checkpoint in the store a moment before it publishes it in the ledger, so an
/// older ledger is looked at again before it is called that.
fn checked(ledger: &Path, key: &VerifierKey, kept: Option<&Kept>) -> Result<Report, Vec<Fault>> {
    let files = LogDir::new(ledger);
    let since = kept.map(|kept| &kept.checkpoint);
    let mut tries = 0;
    loop {
        let checked = portcullis_proof::verify::verify(&files, key, since);
        tries += 1;
        if checked.is_ok() || tries == 3 {
            return checked;
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
}

fn key(given: Option<&str>, data: &Path) -> Result<VerifierKey, Failure> {
    let file = match given {
        Some(text) if text.contains('+') && !Path::new(text).exists() => {
            return VerifierKey::from_text(text.trim())
                .map_err(|error| Failure::refused(format!("--vkey: {error}")));
        }
        Some(file) => PathBuf::from(file),
        None => return own_key(&data.join("ledger.key")),
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Failure::refused(format!("`{}` cannot be read: {error}", file.display())))?;
    VerifierKey::from_text(text.trim())
        .map_err(|error| Failure::refused(format!("`{}`: {error}", file.display())))
}

/// The public half of the signing key in the data directory.
fn own_key(file: &Path) -> Result<VerifierKey, Failure> {
    let hint = "name the ledger's public key with --vkey";
    let failed = |reason: String| Failure::refused(format!("{reason}\nhint: {hint}"));
    match portcullis_store::read_secret(file) {
        Ok(Some(bytes)) => {
            let key = std::str::from_utf8(bytes.expose())
                .ok()
                .and_then(|text| SigningKey::from_text(text.trim()).ok());
            key.map(|key| key.verifier())
                .ok_or_else(|| failed(format!("`{}` is no signing key", file.display())))
        }
        Ok(None) => Err(failed(format!("`{}` does not exist", file.display()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn since(file: &Path, key: &VerifierKey) -> Result<Kept, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::refused(format!("`{}` cannot be read: {error}", file.display())))?;
    let checkpoint = Checkpoint::open(&text, key)
        .map_err(|error| Failure::of(exit::UNVERIFIED, format!("`{}`: {error}", file.display())))?;
    Ok(Kept { checkpoint, source: "--since" })
}

/// The checkpoint in the store, or why there is none to compare with.
fn stored(database: &Path, key: &VerifierKey) -> (Option<Kept>, Option<String>) {
    let why = |reason: String| (None, Some(reason));
    if !database.exists() {
        return why(format!("there is no `{}`", database.display()));
    }
    let note = match Sqlite::open(database)
        .map_err(|error| error.to_string())
        .and_then(|sqlite| sqlite.load(key.name()).map_err(|error| error.to_string()))
    {
        Ok(Some(note)) => note,
        Ok(None) => return why(String::from("no checkpoint is kept yet")),
        Err(reason) => return why(reason),
    };
    match Checkpoint::open(&note, key) {
        Ok(checkpoint) => (Some(Kept { checkpoint, source: "the store" }), None),
        Err(error) => why(format!("the kept checkpoint is not of this key: {error}")),
    }
}

fn sound(report: &Report, key: &VerifierKey, kept: Option<&Kept>, unread: Option<&str>, output: &Output) {
    let summary = json!({
        "ok": true,
        "size": report.size,
        "pending": report.pending,
        "origin": report.checkpoint.origin,
        "checkpoint": report.note,
        "vkey": key.to_string(),
        "compared_with": kept.map(|kept| json!({ "source": kept.source, "size": kept.checkpoint.size })),
        "not_compared": unread,
    });
    output.show(&summary, |_| {
        let mut text =
            format!("ok: {} entries under a valid checkpoint of {}", report.size, report.checkpoint.origin);
        if report.pending > 0 {
            text.push_str(&format!("; {} newer ones are whole but not signed yet", report.pending));
        }
        match (kept, unread) {
            (Some(kept), _) => text.push_str(&format!(
                "\nit continues the checkpoint over {} entries from {}",
                kept.checkpoint.size, kept.source
            )),
            (None, Some(reason)) => {
                text.push_str(&format!("\nnot compared with an earlier checkpoint: {reason}"))
            }
            (None, None) => text.push_str("\nnot compared with an earlier checkpoint; name one with --since"),
        }
        text.push_str(&format!("\npublic key: {key}"));
        text
    });
}

fn unsound(ledger: &Path, faults: &[String]) -> Failure {
    let lines: Vec<String> = faults.iter().map(|fault| printable(fault)).collect();
    let count = lines.len();
    let text = format!(
        "the ledger in `{}` does not verify ({count} fault{}):\n  {}",
        ledger.display(),
        if count == 1 { "" } else { "s" },
        lines.join("\n  ")
    );
    let mut failure = Failure::of(exit::UNVERIFIED, text);
    failure.json = json!({ "ok": false, "ledger": ledger.display().to_string(), "faults": lines });
    failure
}
