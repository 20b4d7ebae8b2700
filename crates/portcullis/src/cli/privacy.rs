//! `portcullis privacy`: what is held about a person, and what was done with data.

use clap::Subcommand;
use portcullis_admin::api::{
    EntryList, EntryQuery, ErasePerson, ErasedPerson, HeldAbout, LedgerEntry, PersonQuestion,
};
use portcullis_config::Overrides;
use portcullis_privacy::{Flow, Processing, Records};
use serde_json::json;

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable, table},
};

/// Entries in one answer.
const PAGE: u64 = 1_000;
/// Entries about one person that are exported.
const EXPORTED_MAX: usize = 100_000;

/// Personal data: what is held, where it went.
#[derive(Debug, Subcommand)]
pub(crate) enum Privacy {
    /// Say what the gateway holds about a person; the search is recorded, without the person's name
    #[command(after_help = "\
Examples:
  portcullis privacy find --subject me@example.com
  portcullis privacy find --subject 'jwt:https://login.example#alice' --json")]
    Find {
        /// Id of a caller, or what else identifies a person: an address of mail, a number
        #[arg(long, value_name = "WHO")]
        subject: String,
    },
    /// The same with the entries of the ledger, as JSON, to be handed to the person
    #[command(
        after_help = "Example:\n  portcullis privacy export --subject 'jwt:https://login.example#alice' > alice.json"
    )]
    Export {
        /// As for `find`
        #[arg(long, value_name = "WHO")]
        subject: String,
    },
    /// Destroy the keys of a person's tokens and remove what is held; the ledger says that it was done
    #[command(
        after_help = "Example:\n  portcullis privacy erase --subject me@example.com --reason 'request 2026-117'"
    )]
    Erase {
        /// As for `find`
        #[arg(long, value_name = "WHO")]
        subject: String,
        /// Why: a ticket or the number of the request; never the person
        #[arg(long)]
        reason: String,
    },
    /// Records of processing (GDPR, Art. 30), from what the ledger says happened
    #[command(after_help = "Example:\n  portcullis privacy records --since 2026-11-01 --json")]
    Records {
        /// Not before (RFC 3339, UTC; a date alone will do)
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Before (RFC 3339, UTC)
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// The server
        #[arg(long, value_name = "SERVER")]
        server: Option<String>,
    },
}

pub(super) fn carry_out(common: &Common, command: Privacy, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Privacy::Find { subject } => {
            let held = find(&client, subject.clone())?;
            let entries = entries(&client, &subject)?.len();
            output.show(&json!({ "held": held, "ledger_entries": entries }), |_| summary(&held, entries));
        }
        Privacy::Export { subject } => {
            let held = find(&client, subject.clone())?;
            let entries = entries(&client, &subject)?;
            let all = json!({ "held": held, "ledger_entries": entries });
            output.show(&all, |all| serde_json::to_string_pretty(all).unwrap_or_default());
        }
        Privacy::Erase { subject, reason } => {
            let question = ErasePerson { subject, reason };
            let done: ErasedPerson = client.ask("erase_person", "", NONE, Some(&question))?;
            output.show(&done, erased);
        }
        Privacy::Records { since, until, server } => {
            let query = EntryQuery { since, until, server, ..all("call.*") };
            let mut records = Records::default();
            // As the file says it now, recognisers included; without one, as detectors come.
            let config = super::check::load(common.config.as_deref(), &Overrides::default());
            let known = config.map(|config| config.settings.compiled_inspect()).unwrap_or_default();
            pages(&client, query, |row| {
                records.note(&row.entry, |kind| known.labels_of(kind));
                true
            })?;
            let rows = records.rows();
            output.show(&json!({ "records": rows }), |_| processed(&rows));
        }
    }
    Ok(())
}

fn find(client: &Client, subject: String) -> Result<HeldAbout, Failure> {
    client.ask("find_person", "", NONE, Some(&PersonQuestion { subject }))
}

fn all(event: &str) -> EntryQuery {
    EntryQuery {
        from: Some(0),
        last: None,
        limit: Some(PAGE),
        event: Some(event.to_owned()),
        caller: None,
        server: None,
        tool: None,
        code: None,
        since: None,
        until: None,
        wait_ms: None,
    }
}

/// Entries whose actor is exactly this one.
fn entries(client: &Client, subject: &str) -> Result<Vec<LedgerEntry>, Failure> {
    let query = EntryQuery { caller: Some(subject.to_owned()), event: None, ..all("") };
    let mut out = Vec::new();
    pages(client, query, |row| {
        if row.entry.pointer("/actor/id").and_then(serde_json::Value::as_str) == Some(subject) {
            out.push(row);
        }
        out.len() < EXPORTED_MAX
    })?;
    if out.len() >= EXPORTED_MAX {
        let text = format!(
            "more than {EXPORTED_MAX} entries of the ledger are about this caller\nhint: `portcullis audit query --caller`, by time"
        );
        return Err(Failure::refused(text));
    }
    Ok(out)
}

/// Each entry that fits, as long as `tell` wants more.
fn pages(
    client: &Client,
    mut query: EntryQuery,
    mut tell: impl FnMut(LedgerEntry) -> bool,
) -> Result<(), Failure> {
    loop {
        let list: EntryList = client.ask("list_entries", "", Some(&query), NONE)?;
        for row in list.entries {
            if !tell(row) {
                return Ok(());
            }
        }
        let before = query.from.replace(list.next);
        if list.next >= list.size || before == Some(list.next) {
            return Ok(());
        }
    }
}

fn summary(held: &HeldAbout, entries: usize) -> String {
    let HeldAbout { subject, token_keys, connections, grants, approvals, api_key, sessions } = held;
    let rows: Vec<Vec<String>> = [
        ("keys of tokens", token_keys.len()),
        ("connections to servers", connections.len()),
        ("roles for a time", grants.len()),
        ("calls that waited for people", approvals.len()),
        ("API keys", usize::from(api_key.is_some())),
        ("open sessions", usize::try_from(*sessions).unwrap_or(usize::MAX)),
        ("entries of the ledger", entries),
    ]
    .into_iter()
    .map(|(what, count)| vec![what.to_owned(), count.to_string()])
    .collect();
    format!("{}\nin the ledger this search is about {subject}", table(&["held", "count"], &rows))
}

fn erased(done: &ErasedPerson) -> String {
    let kept: String = done.kept.iter().map(|what| format!("\nkept: {}", printable(what))).collect();
    format!(
        "erased {}: {} keys of tokens, {} connections, {} roles for a time, {} calls that waited for people, {} counts, {} sessions{kept}",
        done.subject,
        done.token_keys,
        done.connections,
        done.grants,
        done.approvals,
        done.quota_counts,
        done.sessions
    )
}

fn processed(rows: &[Processing]) -> String {
    let flows = |flows: &std::collections::BTreeMap<String, Flow>| {
        let one = |(kind, flow): (&String, &Flow)| {
            format!("{kind} {} passed, {} masked, {} refused", flow.passed, flow.masked, flow.refused)
        };
        flows.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let list =
        |texts: &std::collections::BTreeSet<String>| texts.iter().cloned().collect::<Vec<_>>().join(" ");
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.recipient.clone(),
                row.server_region.clone().unwrap_or_default(),
                row.purpose.clone(),
                row.calls.to_string(),
                list(&row.categories),
                flows(&row.to_server),
                flows(&row.to_callers),
                list(&row.caller_regions),
                row.first.clone(),
                row.last.clone(),
            ]
        })
        .collect();
    let heads = [
        "recipient",
        "region",
        "purpose",
        "calls",
        "data",
        "to the server",
        "to callers",
        "in",
        "first",
        "last",
    ];
    printable(&table(&heads, &rows))
}
