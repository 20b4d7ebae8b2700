-- Calls that wait for people. Times are milliseconds since 1970.
CREATE TABLE approvals (
    id              TEXT    NOT NULL PRIMARY KEY,
    -- Digest over caller, target, message, definition and policy: what exactly is approved.
    call            BLOB    NOT NULL CHECK (length(call) = 32),
    -- The same without what a client adds in later rounds of the same call.
    first           BLOB    NOT NULL CHECK (length(first) = 32),
    caller          TEXT    NOT NULL,
    -- Whoever asks or acts for who asks, as a JSON list: none of them can answer.
    askers          TEXT    NOT NULL,
    -- What people are shown, as JSON.
    question        TEXT    NOT NULL,
    -- Whom to ask, as JSON.
    demand          TEXT    NOT NULL,
    people          INTEGER NOT NULL CHECK (people > 0),
    created         INTEGER NOT NULL,
    expires         INTEGER NOT NULL CHECK (expires > created),
    state           TEXT    NOT NULL CHECK (state IN ('open', 'approved', 'denied', 'redeemed', 'expired')),
    redeemed        INTEGER,
    -- The state with which the server wants the call again, until then: one further round.
    round           BLOB,
    round_expires   INTEGER
) STRICT;

-- One question for a call at a time, whichever gateway asks it.
CREATE UNIQUE INDEX one_question_for_a_call ON approvals (call) WHERE state IN ('open', 'approved', 'denied');
CREATE INDEX approvals_by_caller ON approvals (caller, state);
CREATE INDEX approvals_by_first ON approvals (first) WHERE round IS NOT NULL;

CREATE TRIGGER what_is_asked_never_changes BEFORE UPDATE ON approvals
WHEN (NEW.id, NEW.call, NEW.first, NEW.caller, NEW.askers, NEW.question, NEW.demand, NEW.people, NEW.created, NEW.expires)
     IS NOT (OLD.id, OLD.call, OLD.first, OLD.caller, OLD.askers, OLD.question, OLD.demand, OLD.people, OLD.created, OLD.expires)
BEGIN SELECT RAISE(ABORT, 'what is asked never changes'); END;

-- Each person says yes once, and may say no later.
CREATE TABLE approval_answers (
    approval    TEXT    NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    by          TEXT    NOT NULL,
    yes         INTEGER NOT NULL CHECK (yes IN (0, 1)),
    via         TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (approval, by)
) STRICT, WITHOUT ROWID;
