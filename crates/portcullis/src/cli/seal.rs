//! `portcullis seal`: encryption at rest. Keys are rotated while the gateway serves.

use std::time::{Duration, Instant};

use clap::Subcommand;
use portcullis_admin::api::{SealKey, SealRotate, SealRotated, SealShred, SealStatus};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, table},
};

/// How long a new data key may take until it seals, and how often that is looked at.
const SEALS_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is sealed at rest, and with which key.
#[derive(Debug, Subcommand)]
pub(crate) enum Seal {
    /// Show the data keys, what wraps them, and what the newest has not sealed yet
    #[command(after_help = "Example:\n  portcullis seal status --json")]
    Status,
    /// Wrap the data keys anew with the key-encryption key of the configuration
    #[command(after_help = "Example:
  portcullis seal rewrap

Run it after `encryption.key` was changed and the gateway restarted (with the key before under `encryption.former`), and after the
key-encryption key got a new version in Vault or KMS. Nothing that is sealed changes.")]
    Rewrap,
    /// Make a new data key, and seal everything that is kept anew with it
    #[command(after_help = "Examples:
  portcullis seal rotate
  portcullis seal rotate --retire                      then destroy the older data keys

Calls go on meanwhile. A rotation that was interrupted goes on where it stopped when this is run again.")]
    Rotate {
        /// Destroy older data keys in the end: ids of tasks, links and questions that they sealed open no more
        #[arg(long)]
        retire: bool,
    },
    /// Destroy every data key: what is sealed can never be read again, and no API key counts any more
    #[command(
        after_help = "Example:\n  portcullis seal shred --instance portcullis.local --reason 'contract ended'"
    )]
    Shred {
        /// The name of the gateway, as `portcullis seal status` shows it
        #[arg(long, value_name = "NAME")]
        instance: String,
        /// Why; kept in the ledger
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

pub(super) fn carry_out(common: &Common, command: Seal, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Seal::Status => output.show(&status(&client)?, shown),
        Seal::Rewrap => {
            let done = step(&client, "rewrap")?;
            let entry = done.entry.unwrap_or_default();
            output.show(&done, |done| format!("wrapped {} data keys anew; ledger entry {entry}", done.done));
        }
        Seal::Rotate { retire } => rotate(&client, retire, output)?,
        Seal::Shred { instance, reason } => {
            let question = SealShred { instance, reason };
            let done: SealRotated = client.ask("shred_everything", "", NONE, Some(&question))?;
            let entry = done.entry.unwrap_or_default();
            output.show(&done, |done| {
                format!(
                    "destroyed {} data keys; ledger entry {entry}. Restart the gateway: it makes new ones, and starts empty",
                    done.done
                )
            });
        }
    }
    Ok(())
}

fn status(client: &Client) -> Result<SealStatus, Failure> {
    client.ask("seal_status", "", NONE, NONE)
}

fn step(client: &Client, what: &str) -> Result<SealRotated, Failure> {
    client.ask("rotate_seal_keys", "", NONE, Some(&SealRotate { what: what.to_owned() }))
}

fn shown(status: &SealStatus) -> String {
    let row = |key: &SealKey| {
        let seals = if key.seals { "seals" } else { "" };
        vec![
            key.name.clone(),
            key.version.to_string(),
            key.kek.clone(),
            key.created.clone(),
            seals.to_owned(),
        ]
    };
    let keys: Vec<_> = status.keys.iter().map(row).collect();
    let state = match &status.why {
        None => format!("gateway {}: open; key-encryption key {}", status.gateway, status.kek),
        Some(why) => format!("gateway {}: CLOSED: {why}", status.gateway),
    };
    let behind = match status.behind {
        0 => String::new(),
        count => format!(", {count} of them not with the newest key: `portcullis seal rotate` goes on"),
    };
    let table = table(&["key", "version", "wrapped by", "made", ""], &keys);
    format!("{state}\n{} things are sealed{behind}\n\n{table}", status.rows)
}

/// What `rotate` came to.
#[derive(Debug, serde::Serialize)]
struct Rotation {
    version: u64,
    resealed: u64,
    lost: u64,
    retired: u64,
}

fn newest(status: &SealStatus) -> Option<&SealKey> {
    status.keys.iter().filter(|key| key.name == "data").max_by_key(|key| key.version)
}

fn rotate(client: &Client, retire: bool, output: &Output) -> Result<(), Failure> {
    let before = status(client)?;
    let several = before.keys.iter().filter(|key| key.name == "data").count() > 1;
    let unfinished = several && (before.behind > 0 || newest(&before).is_some_and(|key| !key.seals));
    if unfinished {
        output.note("a rotation was not finished; it goes on");
    } else {
        step(client, "add")?;
    }
    let version = seals(client, output)?;
    let mut rotation = Rotation { version, resealed: 0, lost: 0, retired: 0 };
    let mut left = u64::MAX;
    loop {
        let batch = step(client, "reseal")?;
        rotation.resealed = batch.done;
        rotation.lost = batch.lost;
        output.note(&format!("sealed {} of {}", batch.done, batch.done.saturating_add(batch.left)));
        // What no key opens stays as it is.
        if batch.left == 0 || batch.left == left {
            break;
        }
        left = batch.left;
    }
    if retire && rotation.lost == 0 {
        rotation.retired = step(client, "retire")?.done;
    }
    output.show(&rotation, |done| {
        let lost = match done.lost {
            0 => String::new(),
            count => format!("; {count} things open with no key and were left as they are"),
        };
        let retired = match done.retired {
            0 => String::new(),
            count => format!("; destroyed {count} older data keys"),
        };
        format!("data key {} seals; {} things are sealed with it{lost}{retired}", done.version, done.resealed)
    });
    Ok(())
}

/// Waits until the newest data key seals; its version.
fn seals(client: &Client, output: &Output) -> Result<u64, Failure> {
    let began = Instant::now();
    output.note("waiting until every gateway on the store knows the new data key");
    loop {
        let now = status(client)?;
        match newest(&now) {
            Some(key) if key.seals => return Ok(key.version),
            Some(_) | None if began.elapsed() > SEALS_WITHIN => {
                return Err(Failure::refused("the new data key does not seal yet; `portcullis seal status`"));
            }
            Some(_) | None => std::thread::sleep(LOOK_EVERY),
        }
    }
}
