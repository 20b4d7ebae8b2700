-- Keys that seal what is sensitive in this store, each wrapped by a key that is kept elsewhere. Times are milliseconds since
-- 1970.

CREATE TABLE data_keys (
    name        TEXT    NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    wrapped     TEXT    NOT NULL,
    kek         TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    used_from   INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
