//! `portcullis kill` and `unkill`: the kill switch.

use clap::{Args, Subcommand};
use portcullis_admin::api::{Kill as KillView, KillChanged, KillList, KillQuestion};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, table},
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis kill caller key:k3jd92mfp01x --reason 'key leaked'
  portcullis kill tool files/delete_file
  portcullis kill everything --reason 'incident 42'
  portcullis unkill everything";

/// Stop something at once.
#[derive(Debug, Subcommand)]
pub(crate) enum Kill {
    /// Stop a caller, by its id as in the ledger
    #[command(after_help = "Example:\n  portcullis kill caller key:k3jd92mfp01x --reason 'key leaked'")]
    Caller(Named),
    /// Stop a session: its digest as in the ledger, its id, or a W3C trace id
    #[command(after_help = "Example:\n  portcullis kill session 0af7651916cd43dd8448eb211c80319c")]
    Session(Named),
    /// Stop a server, or a route over several
    #[command(after_help = "Example:\n  portcullis kill server files --reason 'acts oddly'")]
    Server(Named),
    /// Stop one tool, named SERVER/TOOL
    #[command(after_help = "Example:\n  portcullis kill tool files/delete_file")]
    Tool(Named),
    /// Stop all calls of everybody
    #[command(after_help = "Example:\n  portcullis kill everything --reason 'incident 42'")]
    Everything(Why),
    /// List what is stopped, by whom and why
    #[command(after_help = "Example:\n  portcullis kill list --json")]
    List,
}

/// Let something go on.
#[derive(Debug, Subcommand)]
pub(crate) enum Unkill {
    /// Let a caller go on
    #[command(after_help = "Example:\n  portcullis unkill caller key:k3jd92mfp01x")]
    Caller(Named),
    /// Let a session go on
    #[command(after_help = "Example:\n  portcullis unkill session 0af7651916cd43dd8448eb211c80319c")]
    Session(Named),
    /// Let a server go on, or a route over several
    #[command(after_help = "Example:\n  portcullis unkill server files --reason 'mended'")]
    Server(Named),
    /// Let a tool go on, named SERVER/TOOL
    #[command(after_help = "Example:\n  portcullis unkill tool files/delete_file")]
    Tool(Named),
    /// Take back `kill everything`; what else is stopped stays so
    #[command(after_help = "Example:\n  portcullis unkill everything")]
    Everything(Why),
}

/// Something with a name.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// Which one
    name: String,
    #[command(flatten)]
    why: Why,
}

/// A reason.
#[derive(Args, Debug)]
pub(crate) struct Why {
    /// Why; kept in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn named(kind: &str, Named { name, why }: Named) -> KillQuestion {
    KillQuestion { kind: kind.to_owned(), name: Some(name), reason: why.reason }
}

fn everything(why: Why) -> KillQuestion {
    KillQuestion { kind: String::from("everything"), name: None, reason: why.reason }
}

pub(super) fn kill(common: &Common, command: Kill, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    let question = match command {
        Kill::Caller(named_) => named("caller", named_),
        Kill::Session(named_) => named("session", named_),
        Kill::Server(named_) => named("server", named_),
        Kill::Tool(named_) => named("tool", named_),
        Kill::Everything(why) => everything(why),
        Kill::List => {
            let list: KillList = client.ask("list_kills", "", NONE, NONE)?;
            output.show(&list, |list| {
                let rows: Vec<Vec<String>> = list.kills.iter().map(row).collect();
                table(&["what", "name", "by", "at", "reason"], &rows)
            });
            return Ok(());
        }
    };
    let changed: KillChanged = client.ask("kill", "", NONE, Some(&question))?;
    if !changed.known {
        output.note("note: nothing of that name is known at the moment; it is stopped in case it appears");
    }
    output.show(&changed, |changed| {
        let (what, KillView { by, at, .. }) = (what(&changed.kill), &changed.kill);
        match changed.entry {
            Some(entry) => format!("killed {what}; ledger entry {entry}"),
            None => format!("{what} was killed already, by {by} at {at}"),
        }
    });
    Ok(())
}

pub(super) fn unkill(common: &Common, command: Unkill, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    let question = match command {
        Unkill::Caller(named_) => named("caller", named_),
        Unkill::Session(named_) => named("session", named_),
        Unkill::Server(named_) => named("server", named_),
        Unkill::Tool(named_) => named("tool", named_),
        Unkill::Everything(why) => everything(why),
    };
    let changed: KillChanged = client.ask("unkill", "", NONE, Some(&question))?;
    output.show(&changed, |changed| format!("{} goes on", what(&changed.kill)));
    Ok(())
}

fn what(kill: &KillView) -> String {
    if kill.name.is_empty() { kill.kind.clone() } else { format!("{} {}", kill.kind, kill.name) }
}

fn row(kill: &KillView) -> Vec<String> {
    let KillView { kind, name, by, at, reason } = kill;
    vec![kind.clone(), name.clone(), by.clone(), at.clone(), reason.clone()]
}
