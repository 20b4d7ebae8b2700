//! `portcullis secret`: the references of the configuration, and whether they can be followed. Never a value.

use std::{collections::BTreeMap, io::Read as _, sync::Arc};

use clap::Subcommand;
use portcullis_admin::api::{
    LocalSecret, LocalSecretChanged, LocalSecretList, NamedSecret, PutSecret, RemoveSecret, RenewSecret,
    RenewedSecrets, SecretUses,
};
use portcullis_config::{Config, Overrides};
use portcullis_core::Clock;
use portcullis_secrets::{Broker, Place, Reference, State, WATCHED_BYTES_MIN};
use serde::Serialize;

use super::{
    Common, Failure,
    canaries::{self, Canary},
    client::{Client, NONE},
    output::{Output, table},
};
use crate::wire::{SystemClock, secrets};

/// Bytes of a value.
const VALUE_BYTES_MAX: u64 = 65_536;

/// Secrets that the configuration names by reference.
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Follow every reference now, and say where it leads; never the value
    #[command(after_help = "Examples:
  portcullis secret check
  portcullis secret check --caller key:k3jd92mfp01x    also those that differ by caller

Exit code 1 where one cannot be followed.")]
    Check {
        /// The caller for references with `{caller.id}`
        #[arg(long, value_name = "ID")]
        caller: Option<String>,
    },
    /// List the references and where they stand, without following them
    #[command(after_help = "Examples:
  portcullis secret list --json
  portcullis secret list --aws                         what AWS Secrets Manager has")]
    List {
        /// The names that AWS Secrets Manager lists instead
        #[arg(long)]
        aws: bool,
    },
    /// Keep a secret in the gateway, sealed, as `local:NAME`; a value that is there already is replaced
    #[command(after_help = "Examples:
  portcullis secret put files-token < token.txt
  printenv TOKEN | portcullis secret put files-token

The value comes from standard input, so that no list of processes and no history of a shell has it. Line breaks at its
end do not count. Calls use it within five seconds.")]
    Put {
        /// Its name
        name: String,
    },
    /// Take a secret out of the gateway's keeping
    #[command(visible_alias = "rm", after_help = "Example:\n  portcullis secret remove files-token")]
    Remove {
        /// Its name
        name: String,
    },
    /// Say who a secret is for, from the policy and the configuration; never its value
    #[command(after_help = "Examples:
  portcullis secret get --who-can vault:secret/files#token
  portcullis secret get --who-can servers.files.headers.Authorization

Names every API key and every role to whose calls the secret would be joined: `allow`, `approval` once people agree, `depends` on
arguments, claims, time or place, `connect` where only a connection may be opened.")]
    Get {
        /// A reference (also without its field), or the key in the configuration under which it stands
        #[arg(long, value_name = "NAME")]
        who_can: String,
    },
    /// Fetch a secret anew now, or give one that the gateway keeps a new value
    #[command(after_help = "Examples:
  portcullis secret rotate vault:secret/files#token            after a new value was put there
  portcullis secret rotate vault:database/creds/app#password   new credentials under a new lease
  portcullis secret rotate aws:prod/app --at-source            the rotation that AWS has for it
  portcullis secret rotate vault:database/static-creds/app#password --at-source
  portcullis secret rotate local:files-token < token.txt

No call fails: those that run finish with the old value, and children that were given it are replaced once their calls have
finished.")]
    Rotate {
        /// A reference (also without its field), or the key in the configuration under which it stands
        name: String,
        /// Have the source make a new value first
        #[arg(long)]
        at_source: bool,
    },
    /// Plant credentials that nobody has a reason to use, and hear when somebody does
    #[command(subcommand)]
    Canary(Canary),
    /// List the secrets that the gateway keeps, without their values
    #[command(after_help = "Example:\n  portcullis secret kept --json")]
    Kept,
}

/// One reference.
#[derive(Debug, Serialize)]
struct Row {
    /// Where it stands in the configuration.
    key: String,
    reference: String,
    source: &'static str,
    /// Whether it could be followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// When the source got its value (RFC 3339), where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
    /// Whether it is long enough to be looked for in what comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    watched: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usable_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leased: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn carry_out(common: &Common, command: Secret, output: &Output) -> Result<(), Failure> {
    match command {
        Secret::Put { name } => put(common, name, output),
        Secret::Remove { name } => {
            let client = Client::connect(common)?;
            let done: LocalSecretChanged =
                client.ask("remove_secret", "", NONE, Some(&RemoveSecret { name }))?;
            output.show(&done, |done| format!("removed {}; ledger entry {}", done.name, done.entry));
            Ok(())
        }
        Secret::Kept => {
            output.show(&kept(common)?, |list| {
                let row = |one: &LocalSecret| vec![one.name.clone(), one.changed.clone(), one.by.clone()];
                table(&["name", "changed", "by"], &list.secrets.iter().map(row).collect::<Vec<_>>())
            });
            Ok(())
        }
        Secret::Get { who_can } => who(common, who_can, output),
        Secret::Rotate { name, at_source } => rotate(common, name, at_source, output),
        Secret::Canary(command) => canaries::carry_out(common, command, output),
        Secret::Check { caller } => check(common, caller.as_deref(), output),
        Secret::List { aws } => list(common, aws, output),
    }
}

fn put(common: &Common, name: String, output: &Output) -> Result<(), Failure> {
    let value = given()?;
    let client = Client::connect(common)?;
    if value.len() < WATCHED_BYTES_MIN {
        output.note(&format!(
            "a value of less than {WATCHED_BYTES_MIN} bytes is not looked for in what comes back"
        ));
    }
    let question = PutSecret { name, value: (*value).clone() };
    let done: LocalSecretChanged = client.ask("put_secret", "", NONE, Some(&question))?;
    output.show(&done, |done| format!("kept as local:{}; ledger entry {}", done.name, done.entry));
    Ok(())
}

/// The value on standard input.
pub(super) fn given() -> Result<zeroize::Zeroizing<String>, Failure> {
    let mut value = zeroize::Zeroizing::new(String::new());
    let read = std::io::stdin().take(VALUE_BYTES_MAX).read_to_string(&mut value);
    read.map_err(|error| Failure::refused(format!("standard input: {error}")))?;
    let end = value.trim_end_matches(['\r', '\n']).len();
    value.truncate(end);
    Ok(value)
}

fn who(common: &Common, name: String, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    let told: SecretUses = client.ask("secret_uses", "", Some(&NamedSecret { name }), NONE)?;
    output.show(&told, |told| {
        let rows = told.uses.iter().flat_map(|place| {
            let of = |user: &portcullis_admin::api::SecretUser| {
                let name = user.name.clone().unwrap_or_default();
                vec![place.key.clone(), user.kind.clone(), user.id.clone(), name, user.verdict.clone()]
            };
            place.users.iter().map(of).collect::<Vec<_>>()
        });
        table(&["place", "who", "id", "name", "verdict"], &rows.collect::<Vec<_>>())
    });
    Ok(())
}

fn rotate(common: &Common, name: String, at_source: bool, output: &Output) -> Result<(), Failure> {
    let value = if name.starts_with("local:") { Some((*given()?).clone()) } else { None };
    let question = RenewSecret { name, value, at_source: at_source.then_some(true) };
    let done: RenewedSecrets = Client::connect(common)?.ask("renew_secret", "", NONE, Some(&question))?;
    output.show(&done, |done| {
        let line = |one: &portcullis_admin::api::RenewedSecret| {
            let what = match one.changed {
                Some(true) => "has another value",
                Some(false) => "still has the value that it had",
                None => "was fetched for the first time",
            };
            let version = one.version.as_ref().map(|version| format!(", version {version}"));
            format!("{} {what}{}\n", one.document, version.unwrap_or_default())
        };
        let lines: String = done.documents.iter().map(line).collect();
        format!("{lines}ledger entry {}", done.entry)
    });
    Ok(())
}

fn kept(common: &Common) -> Result<LocalSecretList, Failure> {
    Client::connect(common)?.ask("list_secrets", "", NONE, NONE)
}

/// The configuration, and what follows its references from here.
fn followed_from_here(common: &Common) -> Result<(Config, Arc<Broker>, tokio::runtime::Runtime), Failure> {
    let overrides = Overrides { data: common.data.clone(), ..Overrides::default() };
    let config = super::check::load(common.config.as_deref(), &overrides)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let broker =
        secrets::broker(Some(&config.settings.secrets), &clock, (None, Arc::new(secrets::Unrecorded)))
            .map_err(Failure::refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(error.to_string()))?;
    Ok((config, broker, runtime))
}

fn check(common: &Common, caller: Option<&str>, output: &Output) -> Result<(), Failure> {
    let (config, broker, runtime) = followed_from_here(common)?;
    let now = SystemClock::new().now();
    let mut rows = runtime.block_on(async {
        let rows = followed(&config, &broker, caller).await;
        broker.close().await;
        rows
    });
    // What the gateway keeps it alone can open: here it is enough that it is there.
    if rows.iter().any(|row| row.reference.starts_with("local:")) {
        let known = kept(common).map_err(|failure| failure.text);
        for row in &mut rows {
            let Some(name) = row.reference.strip_prefix("local:") else { continue };
            row.error = match &known {
                Ok(list) if list.secrets.iter().any(|secret| secret.name == name) => None,
                Ok(_) => Some(format!("the gateway keeps no such secret; `portcullis secret put {name}`")),
                Err(reason) => Some(reason.clone()),
            };
            row.ok = Some(row.error.is_none());
            let listed =
                known.as_ref().ok().and_then(|list| list.secrets.iter().find(|one| one.name == name));
            if let Some(one) = listed {
                row.watched = one.watched;
                row.changed = Some(one.changed.clone());
                row.age_s = portcullis_core::Timestamp::parse(&one.changed)
                    .map(|at| now.seconds().saturating_sub(at.seconds()));
            }
        }
    }
    let failed = rows.iter().filter(|row| row.error.is_some()).count();
    show(output, &rows);
    match failed {
        0 => Ok(()),
        count => Err(Failure::refused(format!("{count} of {} references cannot be followed", rows.len()))),
    }
}

fn list(common: &Common, aws: bool, output: &Output) -> Result<(), Failure> {
    let (config, broker, runtime) = followed_from_here(common)?;
    if aws {
        let aws = broker.aws().ok_or_else(|| Failure::refused("`secrets.aws` is not configured"))?;
        let names = runtime.block_on(aws.list()).map_err(|failure| Failure::refused(failure.to_string()))?;
        output.show(&names, |names| names.join("\n"));
        return Ok(());
    }
    let rows: Vec<Row> = named(&config).into_iter().map(|(key, one)| row(key, one)).collect();
    show(output, &rows);
    Ok(())
}

/// The references, but values that are written out.
fn named(config: &Config) -> Vec<(String, &Reference)> {
    let mut all = config.settings.references();
    all.retain(|(_, reference)| reference.as_literal().is_none());
    all
}

fn row(key: String, reference: &Reference) -> Row {
    let source = match reference.place() {
        Place::Literal => "file of the configuration",
        Place::Env(_) => "environment",
        Place::File(_) => "file",
        Place::Local(_) => "gateway",
        Place::Vault { .. } => "vault",
        Place::Aws { .. } => "aws",
    };
    Row {
        key,
        reference: reference.to_string(),
        source,
        ok: None,
        version: None,
        changed: None,
        age_s: None,
        watched: None,
        usable_s: None,
        leased: None,
        error: None,
    }
}

async fn followed(config: &Config, broker: &Arc<Broker>, caller: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (key, reference) in named(config) {
        let mut row = row(key, reference);
        if reference.personal() && caller.is_none() {
            row.error = Some("differs by caller: name one with `--caller`".to_owned());
        } else {
            match broker.probe(reference, caller).await {
                Ok(watched) => row.watched = Some(watched),
                Err(failure) => row.error = Some(failure.to_string()),
            }
        }
        row.ok = Some(row.error.is_none());
        rows.push(row);
    }
    let states: BTreeMap<String, State> =
        broker.states().into_iter().map(|state| (state.document.clone(), state)).collect();
    for row in &mut rows {
        let document = row.reference.split('#').next().unwrap_or_default();
        // Of a personal one there is just the document of that caller.
        let state = states.get(document).or_else(|| {
            let head = document.split('{').next().filter(|_| document.contains('{'))?;
            states.values().find(|state| state.document.starts_with(head))
        });
        if let Some(state) = state {
            row.version.clone_from(&state.version);
            (row.usable_s, row.leased) = (Some(state.remaining_s), Some(state.leased));
            row.changed = state.created.map(|at| at.to_string());
            row.age_s = state.created.map(|at| state.since.seconds().saturating_sub(at.seconds()));
        }
    }
    rows
}

/// In the largest unit of which there are two.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn show(output: &Output, rows: &[Row]) {
    output.show(&rows, |rows| {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| String::from("-"));
        let cells = rows.iter().map(|row| {
            let time = row.usable_s.map(|seconds| {
                let lease = if row.leased == Some(true) { ", leased" } else { "" };
                format!("{seconds} s{lease}")
            });
            let state = match (&row.error, row.ok) {
                (Some(error), _) => error.clone(),
                (None, Some(_)) if row.watched == Some(false) => {
                    format!(
                        "ok; of less than {WATCHED_BYTES_MIN} bytes, so not looked for in what comes back"
                    )
                }
                (None, Some(_)) => String::from("ok"),
                (None, None) => String::from("-"),
            };
            vec![
                row.key.clone(),
                row.reference.clone(),
                row.source.to_owned(),
                or_none(row.version.clone()),
                or_none(row.age_s.map(age)),
                or_none(time),
                state,
            ]
        });
        table(
            &["key", "reference", "source", "version", "age", "usable for", "state"],
            &cells.collect::<Vec<_>>(),
        )
    });
}
