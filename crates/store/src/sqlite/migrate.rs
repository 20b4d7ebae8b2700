//! The schema and its versions. A migration is never edited once released; the next one is a new file.

use rusqlite::{Connection, TransactionBehavior};

use crate::StoreError;

/// Marks the file as ours (`PRAGMA application_id`): "Ptcl".
const APPLICATION_ID: u32 = 0x5074_636c;

/// Number, name and statements of each migration, in order without gaps.
const MIGRATIONS: &[(u32, &str, &str)] = &[
    (1, "first", include_str!("../migrations/0001_first.sql")),
    (2, "grants_and_quotas", include_str!("../migrations/0002_grants_and_quotas.sql")),
    (3, "judged", include_str!("../migrations/0003_judged.sql")),
    (4, "connections", include_str!("../migrations/0004_connections.sql")),
    (5, "renewals", include_str!("../migrations/0005_renewals.sql")),
    (6, "approvals", include_str!("../migrations/0006_approvals.sql")),
    (7, "subjects", include_str!("../migrations/0007_subjects.sql")),
    (8, "data_keys", include_str!("../migrations/0008_data_keys.sql")),
    (9, "token_scopes", include_str!("../migrations/0009_token_scopes.sql")),
    (10, "seen_labels", include_str!("../migrations/0010_seen_labels.sql")),
    (11, "checkpoints", include_str!("../migrations/0011_checkpoints.sql")),
    (12, "sink_places", include_str!("../migrations/0012_sink_places.sql")),
    (13, "held_answers", include_str!("../migrations/0013_held_answers.sql")),
];

/// Refuses a database that another program made.
pub(super) fn check_ours(connection: &Connection) -> Result<(), StoreError> {
    // One look at both: in between, another process may be making this very database.
    let look = connection.unchecked_transaction()?;
    let tables: u32 = look.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let id: u32 = look.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    look.commit()?;
    if id == APPLICATION_ID || (id == 0 && tables == 0) { Ok(()) } else { Err(StoreError::NotOurs) }
}

/// The version of the newest migration.
fn known() -> u32 {
    MIGRATIONS.last().map_or(0, |(version, ..)| *version)
}

/// Whether nothing is missing. To find that out by writing would cost every start three flushes.
fn is_current(connection: &Connection) -> Result<bool, StoreError> {
    let id: u32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let listed = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'";
    if id != APPLICATION_ID || connection.query_row(listed, [], |row| row.get::<_, u32>(0))? == 0 {
        return Ok(false);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM migrations";
    Ok(connection.query_row(newest, [], |row| row.get::<_, u32>(0))? == known())
}

/// Applies what is missing, all in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if is_current(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
             version INTEGER NOT NULL PRIMARY KEY,
             name    TEXT    NOT NULL
         ) STRICT;",
    )?;
    let found: u32 =
        transaction.query_row("SELECT coalesce(max(version), 0) FROM migrations", [], |row| row.get(0))?;
    let known = known();
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, name, sql) in MIGRATIONS.iter().filter(|(version, ..)| *version > found) {
        transaction.execute_batch(sql)?;
        transaction.execute("INSERT INTO migrations (version, name) VALUES (?1, ?2)", (version, name))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one_without_gaps() {
        for (index, (version, ..)) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(*version).ok(), Some(index + 1));
        }
    }

    #[test]
    fn the_checkpoint_of_an_older_database_is_that_of_its_origin() {
        let mut connection = Connection::open_in_memory().unwrap();
        let old = MIGRATIONS.iter().take(10).map(|(.., sql)| *sql).collect::<String>();
        connection.execute_batch(&old).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL) STRICT;
                 INSERT INTO migrations VALUES (10, 'seen_labels');
                 INSERT INTO checkpoint VALUES (1, 'a.example/log
7
root
');",
            )
            .unwrap();
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        migrate(&mut connection).unwrap();
        let kept: String = connection
            .query_row("SELECT note FROM checkpoints WHERE origin = 'a.example/log'", [], |row| row.get(0))
            .unwrap();
        assert!(kept.starts_with("a.example/log\n7"), "{kept}");
    }

    #[test]
    fn what_an_older_database_holds_counts_as_judged() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0].2).unwrap();
        let put = "INSERT INTO revisions (kind, name, digest, author, reason, at, body)
                   VALUES ('tool', ?1, zeroblob(32), 'a', 'r', 1, x'00')";
        connection.execute(put, ["before"]).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE migrations (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL) STRICT;
                 INSERT INTO migrations VALUES (1, 'first');",
            )
            .unwrap();
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        migrate(&mut connection).unwrap();
        connection.execute(put, ["after"]).unwrap();
        let forget = |name: &str| connection.execute("DELETE FROM revisions WHERE name = ?1", [name]);
        assert!(forget("before").is_err());
        assert_eq!(forget("after"), Ok(1));
    }
}
