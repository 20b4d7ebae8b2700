-- Keys of the people whose data became tokens. `subject` is a keyed digest of who it is and never the identifier; `sealed`
-- opens with a key of the data directory. Without its key a token is noise for ever: that is how a person is erased. A person
-- has several keys where several gateways met it at once. Times are milliseconds since 1970.

CREATE TABLE subject_keys (
    id          INTEGER NOT NULL PRIMARY KEY,
    subject     BLOB    NOT NULL CHECK (length(subject) = 32),
    sealed      TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    expires     INTEGER NOT NULL CHECK (expires > created)
) STRICT;

CREATE INDEX subject_keys_by_subject ON subject_keys (subject);
CREATE INDEX subject_keys_by_end ON subject_keys (expires);
