//! `portcullis policy`: check policies offline, ask a running gateway who may do what and why.

mod files;
mod recorded;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use portcullis_admin::api::{ExplainQuestion, Explained};
use portcullis_config::Overrides;
use portcullis_policy::Policies;
use serde_json::{Value, json};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable},
    tools::{Kind, word},
};

/// Policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Compile roles and policy files, offline, and print them as Cedar
    #[command(after_help = "Example:\n  portcullis policy check --config portcullis.yaml")]
    Check,
    /// Print the Cedar schema: the words that policies may use
    #[command(after_help = "Example:\n  portcullis policy schema > portcullis.cedarschema")]
    Schema,
    /// Run cases from files against roles and policies, offline; exit code 1 when one fails
    #[command(after_help = files::TEST_HELP)]
    Test {
        /// Files of cases
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Compare the roles and policies of two configurations, offline: what changes for whom
    #[command(after_help = "\
Examples:
  portcullis policy diff portcullis.yaml candidate.yaml
  portcullis policy diff portcullis.yaml candidate.yaml --exit-code   # 1 where they differ, for CI")]
    Diff {
        /// The configuration in force
        #[arg(value_name = "BEFORE")]
        before: PathBuf,
        /// The candidate
        #[arg(value_name = "AFTER")]
        after: PathBuf,
        /// Exit with 1 where something changes
        #[arg(long)]
        exit_code: bool,
    },
    /// Put recorded calls to a candidate: what would have been decided another way
    #[command(after_help = "\
Examples:
  portcullis policy simulate candidate.yaml --since 2026-11-16
  portcullis policy simulate candidate.yaml --caller key:k3jd92mfp01x --json

The ledger keeps no arguments, claims and scopes: where the candidate asks for them the answer is `depends`.")]
    Simulate {
        /// Configuration whose roles and policies are the candidate
        #[arg(value_name = "FILE")]
        candidate: PathBuf,
        #[command(flatten)]
        span: recorded::Span,
    },
    /// Propose the least that would have allowed what was recorded, as roles
    #[command(after_help = "\
Examples:
  portcullis policy learn --since 2026-11-01                 # each role, narrowed to what was used
  portcullis policy learn --by caller --caller key:k3jd92mfp01x")]
    Learn {
        /// Narrow each role, or make one for each caller
        #[arg(long, value_enum, default_value = "role")]
        by: recorded::By,
        #[command(flatten)]
        span: recorded::Span,
    },
    /// Report where the candidate under `shadow` decided another way than what is in force
    #[command(after_help = "Example:\n  portcullis policy shadow --since 2026-11-16")]
    Shadow {
        #[command(flatten)]
        span: recorded::Span,
    },
    /// Ask the running gateway who may do what, and which policy says so
    #[command(after_help = "\
Examples:
  portcullis policy explain files/read_file --key k3jd92mfp01x
  portcullis policy explain files/read_file --role reader --arguments '{\"path\": \"/etc/passwd\"}'
  portcullis policy explain files --role reader
  portcullis policy explain --index 4711            # a decision of the past")]
    Explain(Box<Explain>),
}

/// What `policy explain` takes.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// Server and name, or only the server
    #[arg(value_name = "SERVER[/NAME]", required_unless_present = "index")]
    item: Option<String>,
    /// Index of a ledger entry: explain that decision, and ask the policies of today again
    #[arg(long, value_name = "INDEX", conflicts_with_all = ["item", "key", "roles", "caller", "claims", "action"])]
    index: Option<u64>,
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
    /// Id of who acts for the made-up caller, the nearest first (repeat for several)
    #[arg(long = "actor", value_name = "ID")]
    actors: Vec<String>,
    /// Label of what the session has used before (repeat for several)
    #[arg(long = "seen", value_name = "LABEL")]
    seen: Vec<String>,
    /// Address that the call comes from
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<String>,
    /// When (RFC 3339, UTC) [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A recorded call, decided again.
pub(super) fn replay(
    common: &Common,
    index: u64,
    candidate: Option<&std::path::Path>,
    output: &Output,
) -> Result<(), Failure> {
    recorded::replay(common, index, candidate, output)
}

pub(super) fn carry_out(common: &Common, command: Policy, output: &Output) -> Result<(), Failure> {
    match command {
        Policy::Check => check(common, output),
        Policy::Schema => schema(output),
        Policy::Test { files } => files::test(common, &files, output),
        Policy::Diff { before, after, exit_code } => files::diff(&before, &after, exit_code, output),
        Policy::Simulate { candidate, span } => recorded::simulate(common, &candidate, span, output),
        Policy::Learn { by, span } => recorded::learn(common, by, span, output),
        Policy::Shadow { span } => recorded::shadow(common, span, output),
        Policy::Explain(explain) => explained(common, *explain, output),
    }
}

fn check(common: &Common, output: &Output) -> Result<(), Failure> {
    let config = super::check::load(common.config.as_deref(), &Overrides::default())?;
    let (source, policies) = files::compiled(&config)?;
    let warnings = portcullis_policy::lint(&source, &policies, &config.claims());
    let (cedar, digest) = (policies.to_cedar(), policies.digest());
    let summary = json!({ "ok": true, "digest": digest, "cedar": cedar, "warnings": warnings });
    output.show(&summary, |_| {
        let warn = |lint: &portcullis_policy::Lint| format!("// warning: {lint}\n//   hint: {}\n", lint.hint);
        let warnings: String = warnings.iter().map(warn).collect();
        format!("{}\n{warnings}// ok: {digest}", cedar.trim_end())
    });
    Ok(())
}

fn schema(output: &Output) -> Result<(), Failure> {
    let (version, schema) = (Policies::SCHEMA_VERSION, Policies::schema());
    let digest = portcullis_core::Digest::of(schema.as_bytes());
    output.show(&json!({ "version": version, "digest": digest, "schema": schema }), |_| schema.to_owned());
    Ok(())
}

fn explained(common: &Common, explain: Explain, output: &Output) -> Result<(), Failure> {
    let Explain {
        item,
        index,
        kind,
        action,
        key,
        roles,
        caller,
        claims,
        actors,
        arguments,
        seen,
        source_ip,
        at,
    } = explain;
    if let Some(index) = index {
        return recorded::explain(common, index, arguments, output);
    }
    let item = item.unwrap_or_default();
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
        caller_kind: None,
        at,
        source_ip,
        actors: (!actors.is_empty()).then_some(actors),
        seen: (!seen.is_empty()).then_some(seen),
    };
    let client = Client::connect(common)?;
    let explained: Explained = client.ask("explain_policy", "", NONE, Some(&question))?;
    output.show(&explained, |explained| printable(&explained.text));
    Ok(())
}
