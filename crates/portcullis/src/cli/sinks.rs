//! `portcullis sink`: where ledger entries go beside the ledger.

use clap::Subcommand;
use portcullis_admin::api::{EntryList, EntryQuery, MoveSink, Sink as Row, SinkChanged, SinkList, TestSink};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, table},
};

/// Receivers of ledger entries.
#[derive(Debug, Subcommand)]
pub(crate) enum Sink {
    /// Show each sink: where it is in the ledger, and what is wrong
    #[command(visible_alias = "ls", after_help = "Example:\n  portcullis sink list --json")]
    List,
    /// Send an entry to a sink and wait until it has it
    #[command(after_help = "Example:
  portcullis sink test splunk

Exit code 1 where the entry was not delivered. A sink that is behind gets everything before it first.")]
    Test {
        /// The sink
        name: String,
    },
    /// Deliver entries again, from one on or from a time on
    #[command(after_help = "Examples:
  portcullis sink backfill splunk --from 0
  portcullis sink backfill splunk --since 2026-11-01

Every message has the same id as before, so that the receiver can tell what it has already.")]
    Backfill {
        /// The sink
        name: String,
        /// Index of the first entry
        #[arg(long, value_name = "INDEX", required_unless_present = "since")]
        from: Option<u64>,
        /// Time of the first entry (RFC 3339, UTC; a date alone will do)
        #[arg(long, value_name = "TIME", conflicts_with = "from")]
        since: Option<String>,
    },
}

pub(super) fn carry_out(common: &Common, command: Sink, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Sink::List => {
            let list: SinkList = client.ask("list_sinks", "", NONE, NONE)?;
            output.show(&list, |list| shown(&list.sinks));
        }
        Sink::Test { name } => {
            let done: SinkChanged = client.ask("test_sink", "", NONE, Some(&TestSink { name }))?;
            if let Some(error) = &done.error {
                let hint = "`portcullis sink list` shows how far it is";
                return Err(Failure::refused(format!("sink `{}`: {error}; hint: {hint}", done.name)));
            }
            output
                .show(&done, |done| format!("sink {} has entry {} and all before it", done.name, done.entry));
        }
        Sink::Backfill { name, from, since } => {
            let next = match from {
                Some(index) => index,
                None => first(&client, since)?,
            };
            let question = MoveSink { name, next };
            let done: SinkChanged = client.ask("move_sink", "", NONE, Some(&question))?;
            output.show(&done, |done| {
                format!("sink {} goes on at entry {next}; ledger entry {}", done.name, done.entry)
            });
        }
    }
    Ok(())
}

/// The first entry not before a time.
fn first(client: &Client, since: Option<String>) -> Result<u64, Failure> {
    let mut query = EntryQuery {
        from: Some(0),
        last: None,
        limit: Some(1),
        event: None,
        caller: None,
        server: None,
        tool: None,
        code: None,
        since,
        until: None,
        wait_ms: None,
    };
    loop {
        let list: EntryList = client.ask("list_entries", "", Some(&query), NONE)?;
        if let Some(entry) = list.entries.first() {
            return Ok(entry.index);
        }
        if list.next >= list.size || query.from == Some(list.next) {
            return Err(Failure::refused("no entry is as late as that".to_owned()));
        }
        query.from = Some(list.next);
    }
}

fn shown(sinks: &[Row]) -> String {
    if sinks.is_empty() {
        return "no sinks; `sinks` in portcullis.yaml names them".to_owned();
    }
    let row = |sink: &Row| {
        let state = match (&sink.error, sink.lag) {
            (Some(error), _) => format!("FAILING: {error}"),
            (None, 0) => "up to date".to_owned(),
            (None, lag) => format!("{lag} behind"),
        };
        let plain = if sink.plain_text { " IN THE CLEAR" } else { "" };
        vec![
            sink.name.clone(),
            format!("{} {}{plain}", sink.kind, sink.format),
            sink.next.to_string(),
            sink.delivered.to_string(),
            sink.skipped.to_string(),
            sink.last.clone().unwrap_or_default(),
            state,
        ]
    };
    let rows: Vec<_> = sinks.iter().map(row).collect();
    table(&["sink", "kind", "next", "delivered", "skipped", "last", ""], &rows)
}
