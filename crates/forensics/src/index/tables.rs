//! The tables of the index.

/// The version of the tables.
pub(super) const FORMAT: i64 = 1;
/// What marks a database as an index of ours.
pub(super) const OURS: i64 = 0x7063_6978;

/// Bytes of the hash of an entry that are kept in `leaves`, one after the other: nobody finds another entry with the same.
pub(crate) const LEAF_BYTES: usize = 16;

/// The tables. `words` holds no text: it is contentless, and of a token only the entries that have it are kept.
pub(super) const TABLES: &str = "
BEGIN IMMEDIATE;
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    key TEXT NOT NULL,
    indexed INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    note TEXT,
    refused TEXT,
    edge BLOB NOT NULL
) STRICT;
INSERT INTO state VALUES (1, '', 0, 0, NULL, NULL, x'');
CREATE TABLE bundle (
    number INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    leaves BLOB NOT NULL
) STRICT;
CREATE VIRTUAL TABLE words USING fts5(tokens, content='', columnsize=0, detail=none, tokenize='ascii');
PRAGMA application_id = 1885563256;
PRAGMA user_version = 1;
COMMIT;
";

/// What is known of a bundle, which grows until it is full.
pub(super) const SHELVE: &str = "
INSERT INTO bundle(number, count, first_at, last_at, leaves) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT(number) DO UPDATE SET
    count = excluded.count,
    first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at),
    leaves = excluded.leaves
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_marked_as_ours_in_this_version() {
        assert!(TABLES.contains(&format!("application_id = {OURS};")));
        assert!(TABLES.contains(&format!("user_version = {FORMAT};")));
    }
}
