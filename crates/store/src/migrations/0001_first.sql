-- Times are milliseconds since 1970; digests are the 32 bytes of SHA-256; lists are JSON text.

CREATE TABLE keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    roles       TEXT    NOT NULL,
    servers     TEXT,                                            -- NULL: every server
    kind        TEXT    NOT NULL CHECK (kind IN ('service', 'user', 'anonymous')),
    created     INTEGER NOT NULL,
    expires     INTEGER,
    revoked     INTEGER,
    revoked_by  TEXT,
    created_by  TEXT    NOT NULL
) STRICT;

CREATE TABLE revisions (
    sequence    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    digest      BLOB    NOT NULL CHECK (length(digest) = 32),
    parent      BLOB    CHECK (length(parent) = 32),
    author      TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    UNIQUE (kind, name, digest)
) STRICT;

CREATE TABLE heads (
    kind        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    slot        TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    moved_at    INTEGER NOT NULL,
    moved_by    TEXT    NOT NULL,
    PRIMARY KEY (kind, name, slot),
    FOREIGN KEY (kind, name, digest) REFERENCES revisions (kind, name, digest)
) STRICT, WITHOUT ROWID;

-- One row at most: the last checkpoint of the ledger that was signed.
CREATE TABLE checkpoint (
    only        INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    note        TEXT    NOT NULL
) STRICT;

-- A revision is never changed, not even by a slip of ours.
CREATE TRIGGER revisions_are_never_changed BEFORE UPDATE ON revisions
BEGIN SELECT RAISE(ABORT, 'a revision is never changed'); END;

CREATE TRIGGER revisions_are_never_removed BEFORE DELETE ON revisions
BEGIN SELECT RAISE(ABORT, 'a revision is never removed'); END;

-- Nor is a key's secret or what it may do; only a revocation is added, once.
CREATE TRIGGER keys_are_only_revoked BEFORE UPDATE ON keys
WHEN OLD.revoked IS NOT NULL OR NEW.revoked IS NULL
  OR (NEW.id, NEW.name, NEW.hash, NEW.roles, NEW.kind, NEW.created, NEW.created_by)
     IS NOT (OLD.id, OLD.name, OLD.hash, OLD.roles, OLD.kind, OLD.created, OLD.created_by)
  OR NEW.servers IS NOT OLD.servers OR NEW.expires IS NOT OLD.expires
BEGIN SELECT RAISE(ABORT, 'a key is only ever revoked'); END;
