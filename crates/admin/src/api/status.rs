//! What runs, and how it is.

use serde_json::Value;

use super::{Control, Reply, ServerState};
use crate::{problem::Problem, wire::wire};

wire! { answer
    /// How the gateway is.
    Healthz {
        /// `ok`, or `degraded` while calls are refused.
        status: String,
        /// The ledger.
        ledger: LedgerHealth,
        /// The servers.
        servers: Vec<ServerState>,
    }
}

wire! { answer
    /// How the ledger is.
    LedgerHealth {
        /// Whether entries can be appended. Calls are refused while they cannot.
        healthy: bool,
        /// Entries accepted.
        size: u64,
        /// Entries that survive a crash.
        durable: u64,
        /// Entries under the last signed checkpoint.
        signed: u64,
        /// Durable entries that no checkpoint covers yet.
        lag: u64,
        /// What is wrong, while something is.
        error: Option<String>,
    }
}

wire! { answer
    /// What runs, and with what.
    Status {
        /// Version of the program.
        version: String,
        /// Which gateway this is.
        instance: String,
        /// When it started (RFC 3339).
        started: String,
        /// URL for clients, without the server's name.
        endpoint: String,
        /// The configuration file.
        config: Option<String>,
        /// Digest of the policies in force.
        rules: String,
        /// The data directory.
        data: String,
        /// Verifier key of the ledger.
        vkey: String,
        /// How it is.
        health: Healthz,
    }
}

wire! { answer
    /// What a reload put in force.
    Reloaded {
        /// In words.
        summary: String,
    }
}

impl Healthz {
    /// 200 or 503, so that a load balancer needs no JSON.
    pub(super) fn reply(self) -> Result<Reply, Problem> {
        let status = if self.status == "ok" { 200 } else { 503 };
        let body: Value = serde_json::to_value(&self).map_err(|error| Problem::Store(error.to_string()))?;
        Ok(Reply::Status(status, body))
    }
}

impl Control {
    pub(super) fn health(&self) -> Healthz {
        let ledger = self.parts.ledger.status();
        // One server that is down does not make the gateway unfit: the others still work.
        let fit = ledger.healthy && self.parts.health.ready();
        Healthz {
            status: if fit { "ok" } else { "degraded" }.to_owned(),
            ledger: LedgerHealth {
                healthy: ledger.healthy,
                size: ledger.size,
                durable: ledger.durable,
                signed: ledger.signed,
                lag: ledger.lag,
                error: ledger.error,
            },
            servers: self.parts.health.servers(),
        }
    }

    pub(super) fn facts(&self) -> Status {
        let info = &self.parts.info;
        Status {
            version: info.version.clone(),
            instance: info.instance.clone(),
            started: portcullis_core::Timestamp(info.started_ms).to_string(),
            endpoint: info.endpoint.clone(),
            config: info.config.clone(),
            rules: (self.parts.policies)().digest().to_string(),
            data: info.data.clone(),
            vkey: info.vkey.clone(),
            health: self.health(),
        }
    }
}
