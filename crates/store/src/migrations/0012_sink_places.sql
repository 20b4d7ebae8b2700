-- How far each sink has come in a log.
CREATE TABLE sink_places (
    log  TEXT NOT NULL,
    sink TEXT NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (log, sink)
) STRICT, WITHOUT ROWID;
