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

-- Without `OR IGNORE`: in a trigger the statement that fired it decides about conflicts, and an upsert's does not ignore.
CREATE TRIGGER a_new_head_judges AFTER INSERT ON heads WHEN NEW.slot <> 'observed'
BEGIN
    INSERT INTO judged (kind, name, digest) SELECT NEW.kind, NEW.name, NEW.digest
    WHERE NOT EXISTS (SELECT 1 FROM judged WHERE kind = NEW.kind AND name = NEW.name AND digest = NEW.digest);
END;

CREATE TRIGGER a_moved_head_judges AFTER UPDATE ON heads WHEN NEW.slot <> 'observed'
BEGIN
    INSERT INTO judged (kind, name, digest) SELECT NEW.kind, NEW.name, NEW.digest
    WHERE NOT EXISTS (SELECT 1 FROM judged WHERE kind = NEW.kind AND name = NEW.name AND digest = NEW.digest);
END;

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
