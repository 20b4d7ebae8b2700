//! `portcullis policy`: check policies offline, ask a running gateway who may do what and why.

use clap::{Args, Subcommand};
use portcullis_admin::api::{ExplainQuestion, Explained};
use portcullis_policy::Policies;
use serde_json::{Value, json};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable},
    tools::{Kind, word},
};
use crate::config::Overrides;

/// Policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Compile roles and policy files, offline, and print them as Cedar
    #[command(after_help = "Example:\n  portcullis policy check --config portcullis.yaml")]
    Check,
    /// Ask the running gateway who may do what, and which policy says so
    #[command(after_help = "\
Examples:
  portcullis policy explain files/read_file --key k3jd92mfp01x
  portcullis policy explain files/read_file --role reader --arguments '{\"path\": \"/etc/passwd\"}'
  portcullis policy explain files --role reader")]
    Explain(Box<Explain>),
}

/// What `policy explain` takes.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// Server and name, or only the server
    #[arg(value_name = "SERVER[/NAME]")]
    item: String,
    /// What the name names
    #[arg(long, default_value = "tool")]
    kind: Kind,
    /// The action [default: what the kind is for]
    #[arg(long)]
    action: Option<String>,
    /// The caller has this API key
    #[arg(long, value_name = "ID", conflicts_with_all = ["roles", "caller", "claims"])]
    key: Option<String>,
    /// A made-up caller with this role (repeat for several)
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Id of the made-up caller; `anonymous` for one without credential
    #[arg(long, value_name = "ID")]
    caller: Option<String>,
    /// Claims of the made-up caller, as JSON
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    claims: Option<Value>,
    /// Arguments of the call, as JSON
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    arguments: Option<Value>,
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(super) fn carry_out(common: &Common, command: Policy, output: &Output) -> Result<(), Failure> {
    match command {
        Policy::Check => check(common, output),
        Policy::Explain(explain) => explained(common, *explain, output),
    }
}

fn check(common: &Common, output: &Output) -> Result<(), Failure> {
    let config = super::check::load(common.config.as_deref(), &Overrides::default())?;
    let file = config.path.as_ref().map_or_else(String::new, |path| path.display().to_string());
    let source = config.policy_source().map_err(|mistakes| Failure::mistakes(&file, &mistakes))?;
    let policies = Policies::compile(&source, &config.settings.limits).map_err(|errors| {
        Failure::refused(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let summary = json!({ "ok": true, "digest": policies.digest(), "cedar": policies.to_cedar() });
    output.show(&summary, |_| format!("{}\n// ok: {}", policies.to_cedar().trim_end(), policies.digest()));
    Ok(())
}

fn explained(common: &Common, explain: Explain, output: &Output) -> Result<(), Failure> {
    let Explain { item, kind, action, key, roles, caller, claims, arguments } = explain;
    let (server, name) = match item.split_once('/') {
        Some((server, name)) => (server.to_owned(), Some(name.to_owned())),
        None => (item, None),
    };
    let roles = (!roles.is_empty()).then_some(roles);
    let question = ExplainQuestion {
        key,
        roles,
        caller,
        claims,
        action,
        server,
        kind: word(kind),
        name,
        arguments,
        era: None,
    };
    let client = Client::connect(common)?;
    let explained: Explained = client.ask("explain_policy", "", NONE, Some(&question))?;
    output.show(&explained, |explained| printable(&explained.text));
    Ok(())
}
