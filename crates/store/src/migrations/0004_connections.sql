-- Tokens of callers for servers, and registrations of the gateway at authorization servers. `sealed` opens with a key of
-- the data directory and for the names beside it alone.

CREATE TABLE connections (
    caller      TEXT    NOT NULL,
    server      TEXT    NOT NULL,
    issuer      TEXT    NOT NULL,
    scopes      TEXT    NOT NULL,
    granted     INTEGER NOT NULL,
    refreshed   INTEGER,
    expires     INTEGER,
    sealed      TEXT    NOT NULL,
    PRIMARY KEY (caller, server)
) STRICT, WITHOUT ROWID;

CREATE TABLE registrations (
    sequence    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    issuer      TEXT    NOT NULL,
    redirect    TEXT    NOT NULL,
    sealed      TEXT    NOT NULL,
    UNIQUE (issuer, redirect)
) STRICT;
