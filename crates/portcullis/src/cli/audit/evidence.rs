//! `portcullis audit export`: evidence in a folder, with a proof of each entry, for somebody who has nothing else of ours.

use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_admin::api::{CheckpointNote, ProofText};
use portcullis_core::Clock as _;
use portcullis_forensics::{
    Graph, Timeline,
    bundle::{self, Custody, Evidence, Sound},
    report,
};
use portcullis_proof::VerifierKey;
use serde_json::Value;

use super::{
    query::{Asking, Files, Filter, Found, failure},
    timeline::changes,
};
use crate::{
    cli::{
        Common, Failure,
        client::NONE,
        exit,
        output::{Output, printable},
    },
    wire::SystemClock,
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis audit export -o case-17 --case 'IR-17 exfiltration' --caller key:k3jd92mfp01x --from yesterday --report
  portcullis audit export -o case-17 --ledger /backup/ledger --vkey ledger.vkey --trace 0af7651916cd43dd8448eb211c80319c
  portcullis audit verify --bundle case-17 --vkey ledger.vkey

The folder holds the entries as they were hashed, a proof of each, the checkpoint, the key, what was looked for, a chain of
custody, and a README that says how a stranger checks it with programs of others. --report adds an incident report with
the parts of NIST SP 800-61, filled as far as the ledger knows.";

/// What `audit export` takes.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Folder to make
    #[arg(long, short = 'o', value_name = "DIR")]
    folder: PathBuf,
    /// Name of the case
    #[arg(long, default_value = "unnamed")]
    case: String,
    /// Who makes it, for the chain of custody [default: the user that runs this command]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Write a report of the incident as well
    #[arg(long)]
    report: bool,
    #[command(flatten)]
    filter: Filter,
    /// At most so many entries
    #[arg(long, short = 'n', default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
    #[command(flatten)]
    files: Files,
}

pub(super) fn export(common: &Common, export: Export, output: &Output) -> Result<(), Failure> {
    let Export { folder, case, by, report: wanted, filter, limit, files } = export;
    if folder.exists() {
        let text = format!("`{}` is there already\nhint: name a folder that is not", folder.display());
        return Err(Failure::refused(text));
    }
    let mut asking = Asking::open(common, &files, output)?;
    let question = filter.question("export");
    let search = serde_json::to_value(&question).unwrap_or_default();
    let search = without_nothing(search);
    let found = asking.all(question, limit, output)?;
    if found.hits.is_empty() {
        return Err(Failure::refused(
            "nothing fits: there is nothing to export\nhint: `portcullis audit query` with the same filters",
        ));
    }
    let (key, proofs) = proven(&mut asking, &found)?;
    let clock = SystemClock::new();
    let custody = Custody {
        case: &case,
        at: &clock.now().to_string(),
        by: &by.unwrap_or_else(|| format!("user {}", rustix::process::geteuid().as_raw())),
        program: concat!("portcullis ", env!("CARGO_PKG_VERSION")),
        entry: (!files.wanted()).then_some(found.entry),
    };
    let text = match wanted {
        true => {
            let changes = changes(&mut asking, &found.hits, limit, output)?;
            let timeline = Timeline::of(&found.hits, &changes);
            Some(report(&custody, &timeline, &Graph::of(&found.hits)))
        }
        false => None,
    };
    let evidence = Evidence {
        hits: &found.hits,
        proofs: &proofs,
        checkpoint: found.checkpoint.as_deref().unwrap_or_default(),
        key: &key,
        search: &search,
        complete: found.complete,
        custody: &custody,
        report: text.as_deref(),
    };
    let sound = evidence.write(&folder).map_err(Failure::refused)?;
    tell(&folder, &sound, output);
    Ok(())
}

/// A proof of each entry, and the key that they are good for.
fn proven(asking: &mut Asking, found: &Found) -> Result<(VerifierKey, Vec<String>), Failure> {
    let indices = found.hits.iter().map(|hit| hit.index);
    match asking {
        Asking::Gateway(client) => {
            let note: CheckpointNote = client.ask("sign_checkpoint", "", NONE, NONE)?;
            let key =
                VerifierKey::from_text(&note.vkey).map_err(|error| Failure::refused(error.to_string()))?;
            let prove = |index: u64| {
                let proof: ProofText = client.ask("prove_entry", &index.to_string(), NONE, NONE)?;
                Ok(proof.proof)
            };
            indices.map(prove).collect::<Result<_, _>>().map(|proofs| (key, proofs))
        }
        Asking::Index(index) => {
            let shelf = index.shelf();
            let note = found.checkpoint.as_deref().unwrap_or_default();
            let prove = |index: u64| shelf.prove(index, note).map_err(|error| failure(&error));
            indices.map(prove).collect::<Result<_, _>>().map(|proofs| (shelf.key().clone(), proofs))
        }
        Asking::Every(_) => Err(Failure::refused("an export needs the index")),
    }
}

/// What was asked, without what was not.
fn without_nothing(question: Value) -> Value {
    match question {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

/// `audit verify --bundle`: a bundle, offline.
pub(super) fn check(folder: &Path, key: &VerifierKey, output: &Output) -> Result<(), Failure> {
    let sound = bundle::verify(folder, key).map_err(|wrong| Failure::of(exit::UNVERIFIED, wrong))?;
    tell(folder, &sound, output);
    Ok(())
}

fn tell(folder: &Path, sound: &Sound, output: &Output) {
    output.show(sound, |Sound { entries, size, origin }| {
        printable(&format!(
            "{}: {entries} entries, each proven to be in {origin} under a checkpoint over up to {size} entries",
            folder.display()
        ))
    });
}
