-- Roles given for a time. Times are milliseconds since 1970.
CREATE TABLE grants (
    id          TEXT    NOT NULL PRIMARY KEY,
    caller      TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    reason      TEXT    NOT NULL CHECK (length(reason) > 0),
    emergency   INTEGER NOT NULL CHECK (emergency IN (0, 1)),
    created     INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    expires     INTEGER NOT NULL CHECK (expires > created),
    revoked     INTEGER,
    revoked_by  TEXT
) STRICT;

CREATE INDEX grants_of_callers ON grants (caller);

-- What a grant gives is never changed; only a revocation is added, once.
CREATE TRIGGER grants_are_only_revoked BEFORE UPDATE ON grants
WHEN OLD.revoked IS NOT NULL OR NEW.revoked IS NULL
  OR (NEW.id, NEW.caller, NEW.role, NEW.reason, NEW.emergency, NEW.created, NEW.created_by, NEW.expires)
     IS NOT (OLD.id, OLD.caller, OLD.role, OLD.reason, OLD.emergency, OLD.created, OLD.created_by, OLD.expires)
BEGIN SELECT RAISE(ABORT, 'a grant is only ever revoked'); END;

-- Amounts that quotas count, by quota and by who shares the count, in the window that began then. What is written
-- here is at least what was used.
CREATE TABLE quota_counts (
    quota       TEXT    NOT NULL,
    sharer      TEXT    NOT NULL,
    began       INTEGER NOT NULL,
    ends        INTEGER NOT NULL,
    calls       INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    cost        INTEGER NOT NULL,
    PRIMARY KEY (quota, sharer)
) STRICT, WITHOUT ROWID;
