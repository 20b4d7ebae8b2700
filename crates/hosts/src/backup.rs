//! Keeps what stood in a file before an export wrote it, and brings it back.

use std::path::{Path, PathBuf};

use portcullis_core::Digest;
use serde_json::{Value, json};

use crate::{
    document::{self, Dialect},
    replace,
};

/// The file beside `file` that holds what was there before.
fn backup(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".before-portcullis");
    file.with_file_name(name)
}

/// Keeps what was there, and the digest of what comes, so that an undo never takes away what somebody wrote since.
///
/// # Errors
/// When it cannot be written.
pub fn keep(file: &Path, before: Option<&str>, after: &str) -> Result<(), String> {
    let kept = match held(file) {
        // A second export: what is to come back is what was there before the first.
        Ok((first, digest))
            if before.is_some_and(|before| Digest::of(before.as_bytes()).to_string() == digest) =>
        {
            first
        }
        Ok(_) | Err(_) => before.map(str::to_owned),
    };
    let record = json!({ "before": kept, "written": Digest::of(after.as_bytes()).to_string() }).to_string();
    replace::over(&backup(file), record.as_bytes(), 0o600).map_err(|error| format!("cannot be kept: {error}"))
}

fn held(file: &Path) -> Result<(Option<String>, String), String> {
    let text =
        document::read_text(&backup(file)).map_err(|_| String::from("was not written by an export"))?;
    let value = document::parse(&text, Dialect::Json)?;
    let written = value.get("written").and_then(Value::as_str).ok_or("has a damaged backup")?;
    Ok((value.get("before").and_then(Value::as_str).map(str::to_owned), written.to_owned()))
}

/// Brings back what was there before the last export.
///
/// # Errors
/// When nothing was kept, or the file was changed since.
pub fn undo(file: &Path) -> Result<(), String> {
    let (before, written) = held(file)?;
    let now = document::read_text(file)?;
    if Digest::of(now.as_bytes()).to_string() != written {
        return Err(format!("was changed since; what was there before is in `{}`", backup(file).display()));
    }
    let failed = |error: std::io::Error| format!("cannot be restored: {error}");
    match before {
        Some(before) => replace::replace(file, before.as_bytes(), 0o644).map_err(failed)?,
        None => std::fs::remove_file(file).map_err(failed)?,
    }
    std::fs::remove_file(backup(file)).map_err(failed)
}
