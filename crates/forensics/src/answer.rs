//! Finds the entries of a search, a page at a time. The index says where they may be; each is read from the ledger, held
//! against the hash under which it was indexed, and asked itself whether it fits.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use portcullis_proof::{
    merkle::leaf_hash,
    tile::{Entries, TILE_WIDTH},
};
use rusqlite::{OptionalExtension as _, params};
use serde_json::Value;

use crate::{
    ForensicsError, Index, Order, Search, Shelf, cursor,
    index::{LEAF_BYTES, leaf, signed, unsigned},
};

/// Entries on one page.
const PAGE_MAX: usize = 1_000;
/// Bytes of entries on one page.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Entries that are looked at for one page; the cursor says where to go on.
const LOOK_MAX: u64 = 100_000;
/// How long one page may take before it is handed out as it is.
const PAGE_TIME: Duration = Duration::from_secs(10);

/// Which page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// In which order.
    pub order: Order,
    /// At most so many entries; 1000 at most.
    pub limit: usize,
    /// Where the page before it ended.
    pub cursor: Option<String>,
}

/// An entry that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its index.
    pub index: u64,
    /// What it says.
    pub entry: Value,
}

/// Entries that fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// In the order that was asked for.
    pub hits: Vec<Hit>,
    /// Where to go on; nothing where there is no more.
    pub cursor: Option<String>,
    /// The answer is complete for the first so many entries of the ledger.
    pub complete: u64,
    /// The signed checkpoint over them.
    pub checkpoint: Option<String>,
    /// Entries that were read.
    pub read: u64,
}

impl Index {
    /// One page of a search.
    ///
    /// # Errors
    /// The cursor is of another search, the index is damaged, or an entry is not the one that was indexed.
    pub fn find(&self, search: &Search, paging: &Paging) -> Result<Page, ForensicsError> {
        let failed = |error: rusqlite::Error| ForensicsError::sqlite(&self.path, &error);
        // One view of state, bundles and words, whoever writes meanwhile.
        let _view = self.sql.unchecked_transaction().map_err(failed)?;
        let state = self.state()?;
        let mut finding = Finding::new(search, paging);
        let whole = span(search, paging, state.complete)?;
        let mut ranges = self.ranges(search, whole).map_err(failed)?;
        if paging.order == Order::Newest {
            ranges.reverse();
        }
        let expression = search.expression();
        for range in ranges {
            let more = if expression.is_empty() {
                let looked = |index: u64| self.look(&mut finding, index);
                match paging.order {
                    Order::Oldest => every(range, looked)?,
                    Order::Newest => every(range.rev(), looked)?,
                }
            } else {
                self.matches(&expression, range, &mut finding)?
            };
            if !more {
                break;
            }
        }
        Ok(finding.page(state.complete, state.note))
    }

    /// Where entries of the search's time may be.
    fn ranges(&self, search: &Search, whole: Range<u64>) -> rusqlite::Result<Vec<Range<u64>>> {
        let (None, None) = (search.from, search.to) else {
            let from = search.from.map_or(0, |at| at.0);
            let to = search.to.map_or(u64::MAX, |at| at.0);
            let sql = "SELECT number FROM bundle WHERE last_at >= ?1 AND first_at < ?2 ORDER BY number";
            let mut statement = self.sql.prepare_cached(sql)?;
            let numbers =
                statement.query_map(params![signed(from), signed(to)], |row| row.get(0).map(unsigned))?;
            let mut ranges: Vec<Range<u64>> = Vec::new();
            for number in numbers {
                let start = number? * TILE_WIDTH;
                let range = start.max(whole.start)..(start + TILE_WIDTH).min(whole.end);
                if range.is_empty() {
                    continue;
                }
                match ranges.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => ranges.push(range),
                }
            }
            return Ok(ranges);
        };
        Ok(if whole.is_empty() { Vec::new() } else { vec![whole] })
    }

    /// Looks at what the index has in `range`; false where the page ends.
    fn matches(
        &self,
        expression: &str,
        range: Range<u64>,
        finding: &mut Finding<'_>,
    ) -> Result<bool, ForensicsError> {
        let failed = |error: rusqlite::Error| ForensicsError::sqlite(&self.path, &error);
        let sql = match finding.order {
            Order::Oldest => {
                "SELECT rowid FROM words WHERE words MATCH ?1 AND rowid >= ?2 AND rowid <= ?3 ORDER BY rowid"
            }
            Order::Newest => {
                "SELECT rowid FROM words WHERE words MATCH ?1 AND rowid >= ?2 AND rowid <= ?3 ORDER BY rowid DESC"
            }
        };
        let mut statement = self.sql.prepare_cached(sql).map_err(failed)?;
        let last = range.end.saturating_sub(1);
        let mut rows =
            statement.query(params![expression, signed(range.start), signed(last)]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let index = unsigned(row.get(0).map_err(failed)?);
            if !self.look(finding, index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at one entry; false where the page ends before it.
    fn look(&self, finding: &mut Finding<'_>, index: u64) -> Result<bool, ForensicsError> {
        if finding.full(index) {
            return Ok(false);
        }
        let number = index / TILE_WIDTH;
        if finding.bundle.as_ref().is_none_or(|held| held.number != number) {
            finding.bundle = Some(self.whole(number)?);
        }
        finding.see(index)?;
        Ok(true)
    }

    /// A bundle, and the hashes under which its entries were indexed.
    fn whole(&self, number: u64) -> Result<Bundle, ForensicsError> {
        let failed = |error: rusqlite::Error| ForensicsError::sqlite(&self.path, &error);
        let sql = "SELECT count, leaves FROM bundle WHERE number = ?1";
        let mut statement = self.sql.prepare_cached(sql).map_err(failed)?;
        let kept = statement
            .query_row([signed(number)], |row| Ok((row.get(0).map(unsigned)?, row.get::<_, Vec<u8>>(1)?)))
            .optional()
            .map_err(failed)?;
        let Some((count, leaves)) = kept else {
            let reason = format!("it has no bundle {number}");
            return Err(ForensicsError::Damaged { path: self.path.display().to_string(), reason });
        };
        let bytes = self.shelf().bundle(number, number * TILE_WIDTH + count)?;
        Ok(Bundle { number, bytes, leaves: Some(leaves) })
    }
}

/// The bundle that is at hand.
struct Bundle {
    number: u64,
    bytes: Vec<u8>,
    /// The hashes under which its entries were indexed; nothing where there is no index.
    leaves: Option<Vec<u8>>,
}

impl Bundle {
    /// The entry at `index`, which must be the one that was indexed.
    fn entry(&self, index: u64) -> Result<&[u8], ForensicsError> {
        let at = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
        let changed = || ForensicsError::Tampered(format!("entry {index} is not the one that was indexed"));
        let entry = Entries::of(&self.bytes).nth(at).ok_or_else(changed)?;
        let Some(leaves) = &self.leaves else { return Ok(entry) };
        let kept = leaves.chunks_exact(LEAF_BYTES).nth(at).ok_or_else(changed)?;
        if leaf(&leaf_hash(entry)).eq(kept.iter().copied()) { Ok(entry) } else { Err(changed()) }
    }
}

/// The same page without an index: every entry of the ledger is looked at, up to the checkpoint.
///
/// # Errors
/// The cursor is of another search, or the ledger cannot be read.
pub fn scan(shelf: &Shelf, search: &Search, paging: &Paging) -> Result<Page, ForensicsError> {
    let (checkpoint, note) = shelf.checkpoint()?;
    let mut finding = Finding { patient: true, ..Finding::new(search, paging) };
    let look = |index: u64| {
        if finding.full(index) {
            return Ok(false);
        }
        let number = index / TILE_WIDTH;
        if finding.bundle.as_ref().is_none_or(|held| held.number != number) {
            let bytes = shelf.bundle(number, checkpoint.size)?;
            finding.bundle = Some(Bundle { number, bytes, leaves: None });
        }
        finding.see(index)?;
        Ok(true)
    };
    let range = span(search, paging, checkpoint.size)?;
    match paging.order {
        Order::Oldest => every(range, look)?,
        Order::Newest => every(range.rev(), look)?,
    };
    Ok(finding.page(checkpoint.size, Some(note)))
}

fn every(
    indices: impl Iterator<Item = u64>,
    mut look: impl FnMut(u64) -> Result<bool, ForensicsError>,
) -> Result<bool, ForensicsError> {
    for index in indices {
        if !look(index)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is left to look at of the first `size` entries.
fn span(search: &Search, paging: &Paging, size: u64) -> Result<Range<u64>, ForensicsError> {
    let next = paging.cursor.as_deref().map(|text| cursor::read(search, paging.order, text)).transpose()?;
    Ok(match paging.order {
        Order::Oldest => next.unwrap_or(0).max(search.first)..size,
        Order::Newest => search.first..next.unwrap_or(size).min(size),
    })
}

/// A page that is being filled.
struct Finding<'s> {
    search: &'s Search,
    order: Order,
    limit: usize,
    until: Instant,
    /// Nobody waits: it looks at everything.
    patient: bool,
    read: u64,
    bytes: usize,
    bundle: Option<Bundle>,
    hits: Vec<Hit>,
    cursor: Option<String>,
}

impl<'s> Finding<'s> {
    fn new(search: &'s Search, paging: &Paging) -> Self {
        Self {
            search,
            order: paging.order,
            limit: paging.limit.clamp(1, PAGE_MAX),
            until: Instant::now() + PAGE_TIME,
            patient: false,
            read: 0,
            bytes: 0,
            bundle: None,
            hits: Vec::new(),
            cursor: None,
        }
    }

    /// Whether the page ends before the entry at `index`; then the cursor says so.
    fn full(&mut self, index: u64) -> bool {
        let tired = !self.patient && (self.read >= LOOK_MAX || Instant::now() >= self.until);
        let full = self.hits.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX || tired;
        if full {
            let next = match self.order {
                Order::Oldest => index,
                Order::Newest => index + 1,
            };
            self.cursor = Some(cursor::write(self.search, self.order, next));
        }
        full
    }

    /// Takes the entry of the bundle at hand where it fits.
    fn see(&mut self, index: u64) -> Result<(), ForensicsError> {
        self.read += 1;
        let Some(bundle) = &self.bundle else { return Ok(()) };
        let bytes = bundle.entry(index)?;
        let entry: Value = serde_json::from_slice(bytes).unwrap_or_default();
        if self.search.fits(index, &entry) {
            self.bytes += bytes.len();
            self.hits.push(Hit { index, entry });
        }
        Ok(())
    }

    fn page(self, complete: u64, checkpoint: Option<String>) -> Page {
        let Self { hits, cursor, read, .. } = self;
        Page { hits, cursor, complete, checkpoint, read }
    }
}
