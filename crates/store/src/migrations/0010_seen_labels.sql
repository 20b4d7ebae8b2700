-- What sessions and traces have seen, by the labels of data, for every gateway on this store. An empty `caller` is everybody, an
-- empty `thread` all that a caller does: there counts what there is no room for. `labels` are names. Times are milliseconds
-- since 1970; what was not used for long is forgotten.
CREATE TABLE seen_labels (
    caller  TEXT    NOT NULL,
    thread  BLOB    NOT NULL CHECK (length(thread) IN (0, 32)),
    labels  TEXT    NOT NULL,
    used    INTEGER NOT NULL,
    PRIMARY KEY (caller, thread)
) STRICT, WITHOUT ROWID;

CREATE INDEX seen_labels_by_use ON seen_labels (used);

-- How often the keys of people changed, so that a gateway that hears of another change does not read them all again.
CREATE TABLE changes (
    what    TEXT    NOT NULL PRIMARY KEY,
    count   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO changes VALUES ('subject_keys', 0);

CREATE TRIGGER subject_keys_came AFTER INSERT ON subject_keys
BEGIN UPDATE changes SET count = count + 1 WHERE what = 'subject_keys'; END;
CREATE TRIGGER subject_keys_changed AFTER UPDATE ON subject_keys
BEGIN UPDATE changes SET count = count + 1 WHERE what = 'subject_keys'; END;
CREATE TRIGGER subject_keys_went AFTER DELETE ON subject_keys
BEGIN UPDATE changes SET count = count + 1 WHERE what = 'subject_keys'; END;
