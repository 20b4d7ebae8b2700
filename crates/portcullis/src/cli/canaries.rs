//! `portcullis secret canary`: credentials that open nothing, left where a thief would look.

use clap::{Subcommand, ValueEnum};
use portcullis_admin::api::{
    Canary as Planted, CanaryChanged, CanaryList, CanaryValue, CreateCanary, CreatedCanary, RemoveCanary,
};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, table},
    secrets::given,
};

/// Credentials that were planted.
#[derive(Debug, Subcommand)]
pub(crate) enum Canary {
    /// Make a credential to be left where a thief would look, and watch for it everywhere
    #[command(after_help = "Examples:
  portcullis secret canary create wiki --kind aws >> .env       in a page, a file, a document of Vault
  portcullis secret canary create old-key --kind portcullis     an API key of this gateway that lets nobody in
  portcullis secret canary create theirs --own < token.txt      one that you have from elsewhere

It opens nothing. Where it appears in what callers send, in what servers answer or write on standard error, or as a credential
at the gateway itself, the message is refused or masked, and `canary.seen` is in the ledger, the log and the metrics.")]
    Create {
        /// What it is called, in the ledger and in alarms; best the place where you leave it
        name: String,
        /// What it looks like
        #[arg(long, value_enum, default_value_t, conflicts_with = "own")]
        kind: Kind,
        /// Watch for the value on standard input instead of making one
        #[arg(long)]
        own: bool,
    },
    /// List what is planted, without values
    #[command(after_help = "Example:\n  portcullis secret canary list --json")]
    List,
    /// Do not look for it any more
    #[command(visible_alias = "rm", after_help = "Example:\n  portcullis secret canary remove wiki")]
    Remove {
        /// Its name
        name: String,
    },
}

/// What a planted credential looks like.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Kind {
    /// API key
    Anthropic,
    /// Access key: id and secret
    Aws,
    /// URL of a PostgreSQL database with a password
    Database,
    /// Personal access token, with its checksum
    Github,
    /// Personal access token
    Gitlab,
    /// Token, with its checksum
    Npm,
    /// API key
    Openai,
    /// 24 letters and digits
    #[default]
    Password,
    /// API key of this gateway
    Portcullis,
    /// Token of a bot
    Slack,
    /// Secret key
    Stripe,
}

pub(super) fn carry_out(common: &Common, command: Canary, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Canary::Create { name, kind, own } => {
            let kind = kind.to_possible_value().map(|kind| kind.get_name().to_owned());
            let value = own.then(given).transpose()?.map(|value| (*value).clone());
            let question = CreateCanary { name, kind: kind.filter(|_| value.is_none()), value };
            let made: CreatedCanary = client.ask("create_canary", "", NONE, Some(&question))?;
            output.show(&made, |made| {
                let line = |value: &CanaryValue| format!("{}={}", value.variable, value.value);
                let own = || vec![format!("# watching for {}", made.name)];
                let lines: Vec<_> = made.values.iter().map(line).collect();
                if lines.is_empty() { own() } else { lines }.join("\n")
            });
        }
        Canary::List => {
            let list: CanaryList = client.ask("list_canaries", "", NONE, NONE)?;
            output.show(&list, |list| {
                let row = |one: &Planted| {
                    let kind = one.kind.clone().unwrap_or_else(|| "-".to_owned());
                    vec![one.name.clone(), kind, one.created.clone(), one.by.clone()]
                };
                let rows: Vec<_> = list.canaries.iter().map(row).collect();
                table(&["name", "kind", "planted", "by"], &rows)
            });
        }
        Canary::Remove { name } => {
            let done: CanaryChanged = client.ask("remove_canary", "", NONE, Some(&RemoveCanary { name }))?;
            output.show(&done, |done| format!("removed {}; ledger entry {}", done.name, done.entry));
        }
    }
    Ok(())
}
