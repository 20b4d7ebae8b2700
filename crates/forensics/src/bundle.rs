//! Evidence for somebody who has nothing else of ours: entries as they were hashed, the proof of each, the key, and how
//! all of it is checked with programs of others.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use portcullis_core::Digest;
use portcullis_proof::{Checkpoint, VerifierKey, proof_file::ProofFile};
use serde_json::{Value, json};

use crate::Hit;

/// The form of a bundle.
const FORMAT: &str = "portcullis-evidence/1";
/// Bytes of one file of a bundle that is checked.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a bundle is made of.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'e> {
    /// The entries.
    pub hits: &'e [Hit],
    /// The proof of each, in the same order (C2SP tlog-proof).
    pub proofs: &'e [String],
    /// The signed checkpoint up to which the search was complete.
    pub checkpoint: &'e str,
    /// The key of the log.
    pub key: &'e VerifierKey,
    /// What was looked for.
    pub search: &'e Value,
    /// For how many entries the search was complete.
    pub complete: u64,
    /// When, who, with what: what the chain of custody begins with.
    pub custody: &'e Custody<'e>,
    /// A report, where one was asked for.
    pub report: Option<&'e str>,
}

/// Where a bundle comes from.
#[derive(Clone, Copy, Debug)]
pub struct Custody<'c> {
    /// The case.
    pub case: &'c str,
    /// When it was made (RFC 3339).
    pub at: &'c str,
    /// Who made it.
    pub by: &'c str,
    /// Which program made it.
    pub program: &'c str,
    /// Index of the ledger entry about the search, where there is one.
    pub entry: Option<u64>,
}

/// A bundle that holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sound {
    /// Entries with a proof that holds.
    pub entries: u64,
    /// The size of the largest checkpoint under which one of them is.
    pub size: u64,
    /// The log.
    pub origin: String,
}

/// The bytes of an entry: canonical JSON, which is what was hashed.
fn bytes(entry: &Value) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(entry).unwrap_or_default()
}

impl Evidence<'_> {
    /// Writes the bundle into a folder that is not there yet, readable by its owner alone, and checks it.
    ///
    /// # Errors
    /// The folder is there or cannot be written, or a proof does not hold.
    pub fn write(&self, folder: &Path) -> Result<Sound, String> {
        let failed = |error: io::Error| format!("`{}` cannot be written: {error}", folder.display());
        for name in ["", "entries", "proofs"] {
            DirBuilder::new().mode(0o700).create(folder.join(name)).map_err(failed)?;
        }
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut put = |name: &str, bytes: &[u8]| {
            files.insert(name.to_owned(), Digest::of(bytes).to_string());
            written(&folder.join(name), bytes).map_err(failed)
        };
        let mut lines = Vec::new();
        for (hit, proof) in self.hits.iter().zip(self.proofs) {
            let entry = bytes(&hit.entry);
            lines.extend(format!("{{\"index\":{},\"entry\":", hit.index).into_bytes());
            lines.extend(&entry);
            lines.extend(b"}\n");
            put(&format!("entries/{}.json", hit.index), &entry)?;
            put(&format!("proofs/{}.tlog-proof", hit.index), proof.as_bytes())?;
        }
        put("entries.ndjson", &lines)?;
        put("checkpoint", self.checkpoint.as_bytes())?;
        put("key.pub", format!("{}\n", self.key).as_bytes())?;
        put("README.md", README.as_bytes())?;
        put("custody.md", self.custody().as_bytes())?;
        if let Some(report) = self.report {
            put("report.md", report.as_bytes())?;
        }
        let Custody { case, at, by, program, entry } = self.custody;
        let manifest = json!({
            "format": FORMAT, "case": case, "made_at": at, "made_by": by, "program": program, "search": self.search,
            "search_on_record_as_entry": entry, "entries": self.hits.len(), "complete_for_entries": self.complete,
            "log_key": self.key.to_string(), "files": files,
        });
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        written(&folder.join("manifest.json"), &text).map_err(failed)?;
        verify(folder, self.key)
    }

    fn custody(&self) -> String {
        let Custody { case, at, by, program, entry } = self.custody;
        let record = entry.map_or_else(
            || "the search was made in files and is not on record in the ledger".to_owned(),
            |entry| format!("the search is entry {entry} of the ledger itself"),
        );
        format!(
            "# Chain of custody\n\nCase: {case}\n\n\
             `manifest.json` names every file with its SHA-256. Its own SHA-256 belongs into each line below; \
             `sha256sum manifest.json` prints it.\n\n\
             | when (UTC) | who | what | SHA-256 of manifest.json | signature |\n|---|---|---|---|---|\n\
             | {at} | {by} | made with {program}; {record} | | |\n| | | handed over to | | |\n| | | received, checked | | |\n"
        )
    }
}

fn written(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Checks a bundle: every file is the one of the manifest, and every entry is in the log of `key`.
///
/// # Errors
/// What is wrong.
pub fn verify(folder: &Path, key: &VerifierKey) -> Result<Sound, String> {
    let read = |name: &str| -> Result<Vec<u8>, String> {
        let path = folder.join(name);
        let failed = |error: io::Error| format!("`{}` cannot be read: {error}", path.display());
        if fs::metadata(&path).map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(format!("`{}` is too large for a file of a bundle", path.display()));
        }
        fs::read(&path).map_err(failed)
    };
    let manifest: Value = serde_json::from_slice(&read("manifest.json")?)
        .map_err(|error| format!("`manifest.json`: {error}"))?;
    if manifest.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(format!("`manifest.json` is not of the form {FORMAT}"));
    }
    let files = manifest.get("files").and_then(Value::as_object).ok_or("`manifest.json` names no files")?;
    let (mut lines, mut sound) = (Vec::new(), Sound { entries: 0, size: 0, origin: key.name().to_owned() });
    let mut indices: Vec<u64> = Vec::new();
    for (name, digest) in files {
        let plain = name.split('/').all(|part| !part.is_empty() && part != "..");
        if !plain {
            return Err(format!("`{}` is no name of a file in a bundle", name.escape_default()));
        }
        let bytes = read(name)?;
        if digest.as_str() != Some(&Digest::of(&bytes).to_string()) {
            return Err(format!("`{name}` was changed: it is not the file of the manifest"));
        }
        let index = name.strip_prefix("entries/").and_then(|name| name.strip_suffix(".json"));
        if let Some(index) = index {
            indices.push(index.parse().map_err(|_| format!("`{name}` has no index"))?);
        }
    }
    indices.sort_unstable();
    for index in indices {
        let entry = read(&format!("entries/{index}.json"))?;
        let proof = String::from_utf8(read(&format!("proofs/{index}.tlog-proof"))?);
        let proof = proof.map_err(|_| format!("the proof of entry {index} is no text"))?;
        let proof =
            ProofFile::from_text(&proof).map_err(|error| format!("the proof of entry {index}: {error}"))?;
        if proof.index != index {
            return Err(format!("the proof of entry {index} is one of entry {}", proof.index));
        }
        let under =
            proof.verify(&entry, key).map_err(|error| format!("entry {index} is not proven: {error}"))?;
        (sound.entries, sound.size) = (sound.entries + 1, sound.size.max(under.size));
        lines.extend(format!("{{\"index\":{index},\"entry\":").into_bytes());
        lines.extend(&entry);
        lines.extend(b"}\n");
    }
    if read("entries.ndjson")? != lines {
        return Err("`entries.ndjson` does not hold the entries that are proven".to_owned());
    }
    if read("key.pub")?.trim_ascii_end() != key.to_string().as_bytes() {
        return Err("`key.pub` is not the key that this is checked with".to_owned());
    }
    let note = String::from_utf8_lossy(&read("checkpoint")?).into_owned();
    let checkpoint = Checkpoint::open(&note, key).map_err(|error| format!("`checkpoint`: {error}"))?;
    sound.size = sound.size.max(checkpoint.size);
    Ok(sound)
}

/// How a stranger checks a bundle.
const README: &str = "\
# Evidence from a transparency log

Every message that a gateway judged is an entry of a log, in the order in which it happened. The log is a Merkle tree (RFC 6962) whose
root the gateway signs (checkpoints, C2SP tlog-checkpoint). This folder holds some entries, and for each the proof that it is in the
log.

| file | what |
|---|---|
| `entries/N.json` | entry N, byte for byte as it was hashed (canonical JSON, RFC 8785) |
| `proofs/N.tlog-proof` | its index, the hashes from it to the root, and the signed root (C2SP tlog-proof) |
| `entries.ndjson` | the same entries in one file, for analysis |
| `checkpoint` | the signed root up to which the search was complete, with cosignatures where there are any |
| `key.pub` | the public key of the log (C2SP vkey) |
| `manifest.json` | what was looked for, and the SHA-256 of every file |
| `custody.md` | who had it when |

## Check it

1. **Get the key of the log from somewhere else** than this folder, and compare it with `key.pub`. Whoever made up the entries could have
   made up the key.
2. With a program of others: any verifier of C2SP tlog-proof. `golang.org/x/mod/sumdb` has all that is needed: `note.Open` with the key for the
   last part of a proof, then `tlog.CheckRecord(path, size, root, index, tlog.RecordHash(entry))`.
3. With the program that made it: `portcullis audit verify --bundle FOLDER --vkey KEY`.

## What it proves, and what it does not

- Each entry is in the log at its index: it was not changed, and not added to the log after the checkpoint was signed.
- The log says what the gateway saw. It holds digests of messages, not the messages: a message that was kept elsewhere can be held against them.
- A log that is signed by its operator alone does not show that the operator kept no second one. Compare the checkpoint with one that somebody
  else kept, or with cosignatures of witnesses.
- That nothing else fits the search is the statement of whoever made the search; it can be repeated with the whole log.
";
