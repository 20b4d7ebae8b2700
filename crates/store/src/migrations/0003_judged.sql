-- What a server shows can change with each look at it, and nobody decided anything about most of that: such versions may
-- be forgotten. Every version that a head for anything but looking ever pointed at is kept.

CREATE TABLE judged (
    kind        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    PRIMARY KEY (kind, name, digest)
) STRICT, WITHOUT ROWID;

-- Of those that were there before nobody knows.
INSERT INTO judged (kind, name, digest) SELECT kind, name, digest FROM revisions;

CREATE TRIGGER a_new_head_judges AFTER INSERT ON heads WHEN NEW.slot <> 'observed'
BEGIN INSERT OR IGNORE INTO judged (kind, name, digest) VALUES (NEW.kind, NEW.name, NEW.digest); END;

CREATE TRIGGER a_moved_head_judges AFTER UPDATE ON heads WHEN NEW.slot <> 'observed'
BEGIN INSERT OR IGNORE INTO judged (kind, name, digest) VALUES (NEW.kind, NEW.name, NEW.digest); END;

CREATE TRIGGER a_judgement_is_never_changed BEFORE UPDATE ON judged
BEGIN SELECT RAISE(ABORT, 'a judgement is never changed'); END;

CREATE TRIGGER a_judgement_is_never_removed BEFORE DELETE ON judged
BEGIN SELECT RAISE(ABORT, 'a judgement is never removed'); END;

DROP TRIGGER revisions_are_never_removed;

CREATE TRIGGER revisions_that_were_judged_are_never_removed BEFORE DELETE ON revisions
WHEN EXISTS (
    SELECT 1 FROM judged WHERE kind = OLD.kind AND name = OLD.name AND digest = OLD.digest
)
BEGIN SELECT RAISE(ABORT, 'a revision that was judged is never removed'); END;
