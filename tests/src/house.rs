//! A gateway before a server, with people who are asked for approvals.

use std::time::{Duration, Instant};

use portcullis_testkit::{Answer, Era, Gateway, HostileServer, McpClient, Outcome};
use serde_json::Value;

use crate::pair::{code_of, entries, known, new_key};

/// How long anything that must happen may take on a machine that does much else.
pub const SOON: Duration = Duration::from_secs(40);

/// A gateway before a server, a caller, and people with files that hold their keys.
#[derive(Debug)]
pub struct House {
    /// The gateway.
    pub gateway: Gateway,
    /// The server behind it, as `s`.
    pub server: HostileServer,
    /// The key of a caller with the role `caller`.
    pub key: String,
}

impl House {
    /// With these roles, and more of the server and what else there is.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn with(roles: &str, more: &str) -> Outcome<Self> {
        let server = HostileServer::start().await?;
        let yaml = format!("{roles}servers:\n  s:\n    url: {}\n{more}", server.url());
        let gateway = Gateway::start(&yaml).await?;
        known(&gateway, SOON).await?;
        let key = new_key(&gateway, "caller", "caller")?;
        Ok(Self { gateway, server, key })
    }

    /// A client of the caller that is ready to call.
    ///
    /// # Errors
    /// The gateway refuses.
    pub async fn client(&self, era: Era) -> Outcome<McpClient> {
        McpClient::connect(&self.gateway.url("s"), Some(&self.key), era).await
    }

    /// A person with these roles; the file with its key.
    ///
    /// # Errors
    /// The command fails.
    pub fn person(&self, name: &str, roles: &[&str]) -> Outcome<String> {
        self.key_file(name, roles, true)
    }

    /// A person or a program with these roles; the file with its key.
    ///
    /// # Errors
    /// The command fails.
    pub fn key_file(&self, name: &str, roles: &[&str], person: bool) -> Outcome<String> {
        let mut arguments = vec!["key", "create", name];
        roles.iter().for_each(|role| arguments.extend(["--role", role]));
        arguments.extend(person.then_some("--user"));
        let made = self.command(&arguments)?;
        let text = made["text"].as_str().ok_or("no text")?;
        let file = self.gateway.folder().join(format!("{name}.key"));
        std::fs::write(&file, text)?;
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// A command that must succeed; what it says as JSON.
    ///
    /// # Errors
    /// It fails.
    pub fn command(&self, arguments: &[&str]) -> Outcome<Value> {
        self.try_command(arguments)?.map_err(|said| format!("{arguments:?}: {said}").into())
    }

    /// What a command says, or why it fails.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn try_command(&self, arguments: &[&str]) -> Outcome<Result<Value, String>> {
        let output = self.gateway.command(&[arguments, &["--json"]].concat())?;
        if !output.status.success() {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(Ok(serde_json::from_slice(&output.stdout)?))
    }

    /// What comes of the answer of a person.
    ///
    /// # Errors
    /// It cannot be given.
    pub fn answer(&self, verb: &str, id: &str, person: &str) -> Outcome<Result<Value, String>> {
        self.try_command(&["approval", verb, id, "--key-file", person, "--reason", "a test"])
    }

    /// A person says yes.
    ///
    /// # Errors
    /// It does not count.
    pub fn approve(&self, id: &str, person: &str) -> Outcome<Value> {
        self.answer("approve", id, person)?.map_err(|said| format!("{id}: {said}").into())
    }
}

/// What a program finds in a refusal.
#[must_use]
pub fn answer_data(answer: &Answer) -> Value {
    let found = answer.messages.iter().find_map(|message| {
        message.pointer("/error/data").or_else(|| message.pointer("/result/_meta/dev.portcullis~1data"))
    });
    found.cloned().unwrap_or_default()
}

/// The name of the question for which a call must have been refused.
///
/// # Errors
/// It was not.
pub fn asked(answer: &Answer) -> Outcome<String> {
    if code_of(answer) != "approval.required" {
        return Err(format!("not asked: {}", answer.reply.text()).into());
    }
    Ok(answer_data(answer)["approval"].as_str().ok_or("no name")?.to_owned())
}

/// The events about a question, as they stand in the ledger.
///
/// # Errors
/// No answer.
pub async fn events(gateway: &Gateway, id: &str) -> Outcome<Vec<String>> {
    let all = entries(gateway, "").await?;
    let of = all.iter().filter(|entry| entry["data"]["approval"] == *id);
    Ok(of.filter_map(|entry| entry["event"].as_str().map(str::to_owned)).collect())
}

/// Asks again and again until it is so.
///
/// # Errors
/// It does not come to be so.
pub async fn until<F: Future<Output = Outcome<bool>>>(what: &str, so: impl Fn() -> F) -> Outcome {
    let due = Instant::now() + SOON;
    while !so().await? {
        if Instant::now() > due {
            return Err(what.into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
