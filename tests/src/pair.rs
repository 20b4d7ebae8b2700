//! A gateway with one scripted server behind it, and questions to its ledger.

use std::time::{Duration, Instant};

use portcullis_testkit::{Answer, Era, Gateway, HostileServer, McpClient, Outcome};
use serde_json::Value;

/// How long anything that must happen may take, on a machine that has other things to do as well.
pub const SOON: Duration = Duration::from_secs(30);

/// A gateway and the server behind it, which the gateway knows as `s`.
#[derive(Debug)]
pub struct Pair {
    /// The gateway.
    pub gateway: Gateway,
    /// The server.
    pub server: HostileServer,
}

impl Pair {
    /// Starts both, with these limits; waits until the gateway knows the server's tools.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn start(limits: &[(&str, u64)]) -> Outcome<Self> {
        Self::with(HostileServer::start().await?, "", limits).await
    }

    /// The same before a server that was prepared; `extra` goes below the server, indented by four.
    ///
    /// # Errors
    /// The gateway does not start.
    pub async fn with(server: HostileServer, extra: &str, limits: &[(&str, u64)]) -> Outcome<Self> {
        let yaml = format!("servers:\n  s:\n    url: {}\n{extra}{}", server.url(), limits_yaml(limits));
        let pair = Self { gateway: Gateway::start(&yaml).await?, server };
        // All four lists were fetched once: from here on what the server receives is what clients caused. A hostile
        // server may keep them for ever.
        let _known = known(&pair.gateway, Duration::from_secs(8)).await;
        Ok(pair)
    }

    /// A client of the first key that is ready to call.
    ///
    /// # Errors
    /// The gateway refuses.
    pub async fn client(&self, era: Era) -> Outcome<McpClient> {
        McpClient::connect(&self.gateway.url("s"), Some(self.gateway.key()?), era).await
    }

    /// A modern client of the first key that has not spoken yet.
    ///
    /// # Errors
    /// No key was printed.
    pub fn modern(&self) -> Outcome<McpClient> {
        Ok(McpClient::new(&self.gateway.url("s"), Some(self.gateway.key()?), Era::Modern))
    }
}

/// Waits until the gateway has asked every server for its catalogue, with or without success.
///
/// # Errors
/// It has not within `patience`.
pub async fn known(gateway: &Gateway, patience: Duration) -> Outcome {
    let due = Instant::now() + patience;
    loop {
        let reply = gateway.admin_get("/v1/servers").await?;
        let list: Value = serde_json::from_slice(&reply.body).map_err(|_| reply.text())?;
        let servers = list.get("servers").and_then(Value::as_array).ok_or_else(|| reply.text())?;
        if servers.iter().all(|server| server.get("state").is_some_and(|state| state != "starting")) {
            return Ok(());
        }
        if Instant::now() > due {
            return Err(reply.text().into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The section `limits:`.
#[must_use]
pub fn limits_yaml(limits: &[(&str, u64)]) -> String {
    let rows: String = limits.iter().map(|(key, value)| format!("  {key}: {value}\n")).collect();
    if rows.is_empty() { rows } else { format!("limits:\n{rows}") }
}

/// Another API key, made as an operator makes it.
///
/// # Errors
/// The command fails.
pub fn new_key(gateway: &Gateway, name: &str, role: &str) -> Outcome<String> {
    let output = gateway.command(&["key", "create", name, "--role", role, "--json"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let made: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(made.get("text").and_then(Value::as_str).ok_or("no text")?.to_owned())
}

/// What a command prints with `--json`, which must succeed.
///
/// # Errors
/// It cannot be run, or prints something else.
///
/// # Panics
/// When it fails, with what it says.
pub fn asked(gateway: &Gateway, arguments: &[&str]) -> Outcome<Value> {
    let output = gateway.command(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Entries of the ledger, as the admin API gives them for this query.
///
/// # Errors
/// No answer.
pub async fn entries(gateway: &Gateway, query: &str) -> Outcome<Vec<Value>> {
    let reply = gateway.admin_get(&format!("/v1/ledger/entries?limit=1000&{query}")).await?;
    let list: Value = serde_json::from_slice(&reply.body).map_err(|_| reply.text())?;
    let list = list.get("entries").and_then(Value::as_array).ok_or_else(|| reply.text())?;
    Ok(list.iter().map(|row| row.get("entry").cloned().unwrap_or(Value::Null)).collect())
}

/// Refusals in the ledger with this code; waits until there are at least `least`, since a refusal on the way back
/// is recorded beside its answer.
///
/// # Errors
/// There are not.
pub async fn refusals(gateway: &Gateway, code: &str, least: usize) -> Outcome<Vec<Value>> {
    let due = Instant::now() + SOON;
    loop {
        let found = entries(gateway, &format!("event=call.refused&code={code}")).await?;
        if found.len() >= least {
            return Ok(found);
        }
        if Instant::now() > due {
            return Err(format!("{} of {least} entries with {code}", found.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The code of a refusal, wherever it stands: in the error, or in a tool result made for a model. Empty when the
/// answer is no refusal of ours.
#[must_use]
pub fn code_of(answer: &Answer) -> String {
    let code = answer.messages.iter().find_map(|message| {
        let in_error = message.pointer("/error/data/code");
        in_error.or_else(|| message.pointer("/result/_meta/dev.portcullis~1code"))?.as_str()
    });
    code.unwrap_or_default().to_owned()
}

/// Status and code of an answer.
#[must_use]
pub fn verdict(answer: &Answer) -> (u16, String) {
    (answer.status().as_u16(), code_of(answer))
}

/// Waits until `condition` holds.
///
/// # Errors
/// It does not within [`SOON`].
pub async fn soon(what: &str, mut condition: impl FnMut() -> bool) -> Outcome {
    let due = Instant::now() + SOON;
    while !condition() {
        if Instant::now() > due {
            return Err(format!("not so within {SOON:?}: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
