//! Encryption at rest: how the data keys stand, and their rotation. No key ever comes out.

use std::collections::BTreeMap;

use portcullis_core::Event;
use portcullis_seal::{KekError, Progress, StatusKey};
use serde_json::json;

use super::Control;
use crate::{problem::Problem, wire::wire};

wire! { answer
    /// A data key.
    SealKey {
        /// What it is for: `index` for digests that are looked up, `data` for what is sealed.
        name: String,
        /// Which of that name.
        version: u64,
        /// What wraps it.
        kek: String,
        /// When it was made (RFC 3339).
        created: String,
        /// Whether it seals now.
        seals: bool,
    }
}

wire! { answer
    /// How encryption at rest stands.
    SealStatus {
        /// The name of this gateway, as in the ledger.
        gateway: String,
        /// Whether the data keys are open.
        open: bool,
        /// Why not.
        why: Option<String>,
        /// The key-encryption key of the configuration.
        kek: String,
        /// Every data key.
        keys: Vec<SealKey>,
        /// Everything in the store that is sealed.
        rows: u64,
        /// What of it the newest data key has not sealed.
        behind: u64,
    }
}

wire! { question
    /// A step of a rotation.
    SealRotate {
        /// `rewrap`: the key-encryption key of the configuration wraps every data key anew. `add`: a new data key, which seals
        /// ten seconds later. `reseal`: up to 200 rows are sealed anew with the newest one. `retire`: older data keys are destroyed.
        what: String,
    }
}

wire! { answer
    /// What a step came to.
    SealRotated {
        /// Which step.
        what: String,
        /// Keys that were wrapped or destroyed, or the version that was added; with `reseal` the rows that are done.
        done: u64,
        /// Rows that are left, with `reseal`.
        left: u64,
        /// Rows of this batch that no key opens, with `reseal`.
        lost: u64,
        /// Index of the ledger entry; none with `reseal`.
        entry: Option<u64>,
    }
}

wire! { question
    /// Everything that is sealed is to be unreadable for ever.
    SealShred {
        /// The name of this gateway, so that nobody does it by accident.
        instance: String,
        /// Why; kept in the ledger.
        reason: String,
    }
}

fn failed(error: KekError) -> Problem {
    Problem::Store(error.to_string())
}

fn key(key: StatusKey) -> SealKey {
    let StatusKey { name, version, kek, created, seals } = key;
    SealKey { name, version: version.into(), kek, created: created.to_string(), seals }
}

impl Control {
    pub(super) async fn sealing(&self) -> Result<SealStatus, Problem> {
        let status = self.parts.keyring.status().await.map_err(failed)?;
        Ok(SealStatus {
            gateway: self.parts.info.instance.clone(),
            open: status.open,
            why: status.why,
            kek: status.kek,
            keys: status.keys.into_iter().map(key).collect(),
            rows: status.rows,
            behind: status.behind,
        })
    }

    pub(super) async fn rotate_seal(&self, question: SealRotate) -> Result<SealRotated, Problem> {
        let what = question.what;
        let keyring = &self.parts.keyring;
        if !keyring.ring().is_open() {
            return Err(Problem::Store(
                "the data keys are not open; `portcullis seal status` says why".into(),
            ));
        }
        if what == "reseal" {
            let Progress { done, left, lost } = keyring.reseal().await.map_err(failed)?;
            return Ok(SealRotated { what, done, left, lost, entry: None });
        }
        if !["add", "retire", "rewrap"].contains(&&*what) {
            return Err(Problem::invalid(
                format!("unknown step `{}`", what.escape_default()),
                "write `rewrap`, `add`, `reseal` or `retire`",
            ));
        }
        let _changing = self.changing.lock().await;
        if what == "retire" && keyring.status().await.map_err(failed)?.behind > 0 {
            let hint = "`portcullis seal rotate` goes on where it stopped";
            let message = "something is still sealed with an older key".to_owned();
            return Err(Problem::Conflict { message, hint });
        }
        let data = BTreeMap::from([("what", json!(what)), ("kek", json!(keyring.kek()))]);
        let entry = self.record(Event::SealRotated, None, data).await?;
        let done = match &*what {
            "add" => keyring.add().await.map(u64::from),
            "retire" => keyring.retire().await,
            _ => keyring.rewrap().await,
        };
        Ok(SealRotated { what, done: done.map_err(failed)?, left: 0, lost: 0, entry: Some(entry) })
    }

    pub(super) async fn shred(&self, question: SealShred) -> Result<SealRotated, Problem> {
        let SealShred { instance, reason } = question;
        if instance != self.parts.info.instance {
            let message = format!("this gateway is not called `{}`", instance.escape_default());
            return Err(Problem::invalid(message, "`portcullis seal status` shows its name"));
        }
        let _changing = self.changing.lock().await;
        let entry =
            self.record(Event::SealShredded, None, BTreeMap::from([("reason", json!(reason))])).await?;
        let done = self.parts.keyring.shred().await.map_err(failed)?;
        Ok(SealRotated { what: "shred".to_owned(), done, left: 0, lost: 0, entry: Some(entry) })
    }
}
