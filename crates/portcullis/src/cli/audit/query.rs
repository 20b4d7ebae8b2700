//! `portcullis audit query`: searches the ledger by its index, through the gateway or in its files.

use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_admin::api::{EntryList, EntryQuery, LedgerEntry, LedgerPage, LedgerSearch};
use portcullis_core::{Clock as _, Timestamp};
use portcullis_forensics::{ForensicsError, Hit, Index, Page, Paging, Search, Shelf, scan};
use serde_json::json;

use super::{WAIT_MS, print, verify};
use crate::{
    cli::{
        Common, Failure,
        client::{Client, NONE, data_dir},
        exit,
        output::Output,
    },
    wire::{INDEX_FILE, SystemClock},
};

/// Entries in one answer.
const PAGE: u64 = 1_000;
/// How often a long build of the index says how far it is.
const TELL_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis audit query --code policy.denied --from '2h ago'
  portcullis audit query --caller key:k3jd92mfp01x --newest --limit 50
  portcullis audit query --finding payment_card --from yesterday --to today --json
  portcullis audit query --text 'connection reset' --event 'call.*'
  portcullis audit query --ledger /backup/ledger --vkey ledger.vkey --trace 0af7651916cd43dd8448eb211c80319c

A trailing * stands for any rest of a name; of a digest the first eight digits will do. Times are UTC.
Standard error says up to which signed checkpoint the answer is complete, and the cursor of what follows.
A search that the gateway answers is an entry of the ledger itself. In files (--ledger, --offline) nobody records it.";

/// What `audit query` takes.
#[derive(Args, Debug)]
pub(crate) struct Query {
    #[command(flatten)]
    filter: Filter,
    /// At most so many entries
    #[arg(long, short = 'n', default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Where the answer before this one ended
    #[arg(long)]
    cursor: Option<String>,
    /// The newest first
    #[arg(long)]
    newest: bool,
    /// Wait for more
    #[arg(long, short, conflicts_with_all = ["newest", "offline", "ledger"])]
    follow: bool,
    /// Look at every entry instead of the index: slow, and nothing is relied upon but the ledger (in files alone)
    #[arg(long)]
    scan: bool,
    #[command(flatten)]
    files: Files,
}

/// A ledger in files.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Files {
    /// Search the files of the data directory, without the gateway
    #[arg(long)]
    offline: bool,
    /// Search the ledger in this folder, without the gateway
    #[arg(long, value_name = "DIR")]
    pub(super) ledger: Option<PathBuf>,
    /// Public key of that ledger, or a file with it [default: that of ledger.key in the data directory]
    #[arg(long, value_name = "KEY|FILE", requires = "ledger")]
    vkey: Option<String>,
    /// Its index [default: DIR.index.db beside the folder]
    #[arg(long, value_name = "FILE", requires = "ledger")]
    index: Option<PathBuf>,
}

impl Files {
    /// Whether files are to be read, and not the gateway asked.
    pub(super) const fn wanted(&self) -> bool {
        self.offline || self.ledger.is_some()
    }

    /// The ledger, and the place of its index.
    pub(super) fn find(&self, common: &Common) -> Result<(Shelf, PathBuf), Failure> {
        let (folder, key) = verify::files(common, self.ledger.as_ref(), self.vkey.as_deref())?;
        let index = match (&self.index, &self.ledger) {
            (Some(file), _) => file.clone(),
            (None, Some(_)) => beside(&folder),
            (None, None) => data_dir(common).join(INDEX_FILE),
        };
        Ok((Shelf::new(folder, key), index))
    }
}

/// The index of a ledger that is no gateway's.
fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_else(|| "ledger".as_ref()).to_owned();
    name.push(".index.db");
    folder.with_file_name(name)
}

macro_rules! filter {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {
        /// Which entries: all of it must fit.
        #[derive(Args, Clone, Debug, Default)]
        pub(crate) struct Filter {
            $($(#[$doc])+ #[arg(long)] $name: Option<String>,)+
            /// Not before: 2026-11-01, '2026-11-01 08:30', yesterday, '2h ago'
            #[arg(long, value_name = "TIME", alias = "since")]
            from: Option<String>,
            /// Before
            #[arg(long, value_name = "TIME", alias = "until")]
            to: Option<String>,
            /// Not before this index
            #[arg(long, value_name = "INDEX")]
            first: Option<u64>,
        }

        impl Filter {
            /// The question, for `purpose`.
            pub(super) fn question(self, purpose: &str) -> LedgerSearch {
                let Self { $($name,)+ from, to, first } = self;
                LedgerSearch {
                    $($name,)+ from, to, first,
                    newest: None, limit: None, cursor: None, purpose: Some(purpose.to_owned()),
                }
            }
        }
    };
}

filter! {
    /// Event, like call.refused or 'call.*'
    event,
    /// Id of who asked or of whom the entry is about, or a whole word of it
    caller,
    /// The server
    server,
    /// Name of the tool, prompt or resource
    tool,
    /// What the message asked for, like call_tool
    action,
    /// The method of the message
    method,
    /// Code of the refusal, like policy.denied
    code,
    /// What policy decided: allow or deny
    decision,
    /// Id of a policy that decided
    policy,
    /// Role that the caller had
    role,
    /// Kind of a finding, like payment_card
    finding,
    /// How grave a finding is
    severity,
    /// Digest of what was found
    evidence,
    /// Trace id (W3C)
    trace,
    /// Digest of the session
    session,
    /// Digest of the definition: the version of a tool or model
    definition,
    /// Digest of the message that came in, arguments included
    input,
    /// Digest of the answer
    output,
    /// Digest of the rules in force
    rules,
    /// Digest of the token or certificate that proved who asked
    token,
    /// Id of the approval
    approval,
    /// Address the message came from
    source,
    /// Words of names, reasons and details
    text,
}

/// Why a search in files does not go on.
pub(super) fn failure(error: &ForensicsError) -> Failure {
    let code = match error {
        ForensicsError::Tampered(_) => exit::UNVERIFIED,
        _ => exit::REFUSED,
    };
    Failure::of(code, format!("{error}\nhint: {}", error.hint()))
}

pub(super) fn query(common: &Common, query: Query, output: &Output) -> Result<(), Failure> {
    let Query { filter, limit, cursor, newest, follow, scan, files } = query;
    if scan && !files.wanted() {
        return Err(Failure::refused("--scan looks into files\nhint: add --offline, or --ledger DIR"));
    }
    let mut question = filter.question("query");
    (question.cursor, question.newest) = (cursor, newest.then_some(true));
    let mut asking = if scan {
        Asking::files(common, &files, true, output)?
    } else {
        Asking::open(common, &files, output)?
    };
    let (mut left, mut count) = (limit, 0);
    let end = loop {
        question.limit = Some(left.min(PAGE));
        let page = asking.page(&question)?;
        page.entries.iter().for_each(|entry| print(entry, output));
        let got = page.entries.len() as u64;
        (left, count) = (left.saturating_sub(got), count + got);
        question.cursor.clone_from(&page.cursor);
        if left == 0 || page.cursor.is_none() {
            break page;
        }
    };
    tell(&end, count, files.wanted(), output);
    match (follow, asking) {
        (true, Asking::Gateway(client)) => follow_on(&client, &question, end.complete, output),
        _ => Ok(()),
    }
}

/// What a search found, all of it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) hits: Vec<Hit>,
    pub(super) complete: u64,
    pub(super) checkpoint: Option<String>,
    /// The ledger entry about the search; of no meaning in files.
    pub(super) entry: u64,
}

/// Who is asked.
pub(super) enum Asking {
    Gateway(Client),
    Index(Box<Index>),
    Every(Shelf),
}

impl Asking {
    /// The gateway, or the files that were named.
    pub(super) fn open(common: &Common, files: &Files, output: &Output) -> Result<Self, Failure> {
        if files.wanted() {
            return Self::files(common, files, false, output);
        }
        Client::connect(common).map(Self::Gateway)
    }

    /// Every entry of a search, in the order of the ledger; says so where there are more than `limit`.
    pub(super) fn all(
        &mut self,
        mut question: LedgerSearch,
        limit: u64,
        output: &Output,
    ) -> Result<Found, Failure> {
        let mut found = Found::default();
        loop {
            question.limit = Some(limit.saturating_sub(found.hits.len() as u64).min(PAGE));
            let page = self.page(&question)?;
            let hits = page.entries.into_iter().map(|LedgerEntry { index, entry }| Hit { index, entry });
            found.hits.extend(hits);
            (found.complete, found.checkpoint, found.entry) = (page.complete, page.checkpoint, page.entry);
            question.cursor = page.cursor;
            if question.cursor.is_none() {
                return Ok(found);
            }
            if found.hits.len() as u64 >= limit {
                output.note(&format!("only the first {limit} entries: choose fewer, or more with --limit"));
                return Ok(found);
            }
        }
    }

    fn files(common: &Common, files: &Files, scan: bool, output: &Output) -> Result<Self, Failure> {
        let (shelf, index) = files.find(common)?;
        if scan {
            return Ok(Self::Every(shelf));
        }
        let mut index = Index::open(index, shelf).map_err(|error| failure(&error))?;
        fill(&mut index, output)?;
        Ok(Self::Index(Box::new(index)))
    }

    fn page(&mut self, question: &LedgerSearch) -> Result<LedgerPage, Failure> {
        let found = |find: &dyn Fn(&Search, &Paging) -> Result<Page, ForensicsError>| {
            let (search, paging) = read(question)?;
            find(&search, &paging).map(view).map_err(|error| failure(&error))
        };
        match self {
            Self::Gateway(client) => client.ask("search_ledger", "", Some(question), NONE),
            Self::Index(index) => found(&|search, paging| index.find(search, paging)),
            Self::Every(shelf) => found(&|search, paging| scan(shelf, search, paging)),
        }
    }
}

fn read(question: &LedgerSearch) -> Result<(Search, Paging), Failure> {
    question.read(now()).map_err(|problem| Failure::refused(format!("{problem}\nhint: {}", problem.hint())))
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn view(page: Page) -> LedgerPage {
    let Page { hits, cursor, complete, checkpoint, .. } = page;
    let entries = hits.into_iter().map(LedgerEntry::from).collect();
    LedgerPage { entries, cursor, complete, checkpoint, size: complete, entry: 0 }
}

/// Brings an index in files to where its ledger is.
pub(super) fn fill(index: &mut Index, output: &Output) -> Result<(), Failure> {
    let signed = index.status().map_err(|error| failure(&error))?.signed;
    let mut told = std::time::Instant::now();
    let filled = index.catch_up(|indexed| {
        if told.elapsed() >= TELL_EVERY {
            told = std::time::Instant::now();
            output.note(&format!("{indexed} of {signed} entries indexed"));
        }
        true
    });
    filled.map_err(|error| failure(&error))
}

/// Says on standard error what the answer is worth.
fn tell(end: &LedgerPage, count: u64, files: bool, output: &Output) {
    let recorded = (!files).then_some(end.entry);
    if output.json {
        let facts = json!({ "count": count, "complete": end.complete, "size": end.size, "cursor": end.cursor, "entry": recorded });
        output.note(&facts.to_string());
        return;
    }
    let behind = end.size.saturating_sub(end.complete);
    let behind =
        if behind == 0 { String::new() } else { format!(" ({behind} behind; the index is catching up)") };
    let record = recorded.map(|entry| format!(", on record as entry {entry}")).unwrap_or_default();
    output.note(&format!("{count} found; complete for the first {} entries{behind}{record}", end.complete));
    if let Some(cursor) = &end.cursor {
        output.note(&format!("there may be more: --cursor {cursor}"));
    }
}

/// What comes after the answer, as it comes.
fn follow_on(client: &Client, question: &LedgerSearch, from: u64, output: &Output) -> Result<(), Failure> {
    let (search, _) = read(&LedgerSearch { cursor: None, ..question.clone() })?;
    let mut query = EntryQuery {
        from: Some(from),
        last: None,
        limit: Some(PAGE),
        event: None,
        caller: None,
        server: None,
        tool: None,
        code: None,
        since: None,
        until: None,
        wait_ms: Some(WAIT_MS),
    };
    loop {
        let list: EntryList = client.ask("list_entries", "", Some(&query), NONE)?;
        let fitting = list.entries.iter().filter(|entry| search.fits(entry.index, &entry.entry));
        fitting.for_each(|entry| print(entry, output));
        query.from = Some(list.next);
    }
}
