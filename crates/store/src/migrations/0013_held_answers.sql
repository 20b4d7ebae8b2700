-- Answers that wait for people, with the question about them; sealed.
CREATE TABLE held_answers (
    approval    TEXT    NOT NULL PRIMARY KEY REFERENCES approvals (id) ON DELETE CASCADE,
    answer      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
