//! `portcullis grant` and `portcullis quota`: roles for a time, and what was used.

use clap::Subcommand;
use portcullis_admin::{
    QuotaState,
    api::{CreateGrant, Grant as GrantView, GrantList, QuotaList},
};

use super::{
    Common, Failure,
    client::{Client, NONE},
    keys::seconds,
    output::{Output, printable, table},
};

/// Roles for a time.
#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// Give a caller a role for a time
    #[command(after_help = "\
Examples:
  portcullis grant create key:k3jd92mfp01x --role deployer --for 2h --reason 'release 4.2, CHG-1311'
  portcullis grant create 'jwt:https://login.example#alice' --role admin --for 30m --break-glass --reason 'INC-77: orders stuck'

--break-glass: at most 8h; an alarm in log and ledger (grant.break_glass), and the grant in each entry of its calls.")]
    Create {
        /// Id of the caller, as the ledger has it
        #[arg(value_name = "CALLER")]
        caller: String,
        /// The role
        #[arg(long)]
        role: String,
        /// How long, like 2h or 30m
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        duration: u64,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// In an emergency
        #[arg(long)]
        break_glass: bool,
    },
    /// List all grants, ended ones too
    #[command(after_help = "Example:\n  portcullis grant list --json")]
    List,
    /// Revoke a grant, with effect on the next request
    #[command(after_help = "Example:\n  portcullis grant revoke vwx4cd3yennf")]
    Revoke {
        /// Its id, as `grant list` shows it
        id: String,
    },
}

/// What was used.
#[derive(Debug, Subcommand)]
pub(crate) enum Quota {
    /// List what was used of each quota in the window that runs
    #[command(after_help = "Example:\n  portcullis quota list --json")]
    List,
}

pub(super) fn carry_out(common: &Common, command: Grant, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Grant::Create { caller, role, duration, reason, break_glass } => {
            let break_glass = Some(break_glass);
            let question = CreateGrant { caller, role, for_s: duration, reason, break_glass };
            let grant: GrantView = client.ask("create_grant", "", NONE, Some(&question))?;
            output.show(&grant, |grant| {
                let text = format!("{} has role {} until {}", grant.caller, grant.role, grant.expires);
                printable(&format!("{text}\nid {}; `portcullis grant revoke {}` ends it", grant.id, grant.id))
            });
        }
        Grant::List => {
            let list: GrantList = client.ask("list_grants", "", NONE, NONE)?;
            output.show(&list, |list| {
                let rows: Vec<Vec<String>> = list.grants.iter().map(row).collect();
                let heads = ["id", "caller", "role", "state", "expires", "break-glass", "reason"];
                printable(&table(&heads, &rows))
            });
        }
        Grant::Revoke { id } => {
            let grant: GrantView = client.ask("revoke_grant", &id, NONE, NONE)?;
            output.show(&grant, |grant| printable(&format!("revoked {} ({})", grant.id, grant.caller)));
        }
    }
    Ok(())
}

pub(super) fn quotas(common: &Common, command: &Quota, output: &Output) -> Result<(), Failure> {
    let Quota::List = command;
    let list: QuotaList = Client::connect(common)?.ask("list_quotas", "", NONE, NONE)?;
    output.show(&list, |list| {
        let of = |used: u64, most: Option<u64>| {
            most.map_or_else(|| used.to_string(), |most| format!("{used} of {most}"))
        };
        let row = |one: &QuotaState| {
            let amounts =
                [of(one.calls, one.calls_max), of(one.bytes, one.bytes_max), of(one.cost, one.cost_max)];
            let mut row = vec![one.quota.clone(), one.per.clone(), one.sharer.clone()];
            row.extend(amounts);
            row.push(one.ends.clone());
            row
        };
        let rows: Vec<Vec<String>> = list.quotas.iter().map(row).collect();
        printable(&table(&["quota", "per", "who", "calls", "bytes", "cost", "until"], &rows))
    });
    Ok(())
}

fn row(grant: &GrantView) -> Vec<String> {
    let break_glass = if grant.break_glass { "yes" } else { "no" };
    let texts = [&grant.id, &grant.caller, &grant.role, &grant.state, &grant.expires];
    let mut row: Vec<String> = texts.into_iter().cloned().collect();
    row.extend([break_glass.to_owned(), grant.reason.clone()]);
    row
}
