//! What must survive: ledger, keys, revisions, checkpoints.
