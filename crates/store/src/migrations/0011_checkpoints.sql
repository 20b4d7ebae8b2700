-- The last checkpoint that was signed, of each ledger whose gateway uses this store: by its origin, the first line of the note.
CREATE TABLE checkpoints (
    origin  TEXT    NOT NULL PRIMARY KEY,
    note    TEXT    NOT NULL
) STRICT;
INSERT INTO checkpoints SELECT substr(note, 1, instr(note, char(10)) - 1), note FROM checkpoint;
DROP TABLE checkpoint;
