//! File descriptors: every connection, child and ledger file needs one, and the usual soft limit is 1024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps to ourselves what we inherited: a descriptor that whoever started us left open, of a folder or a socket, must not
/// reach a server. What we open ourselves is never passed on.
pub fn keep() {
    #[cfg(target_os = "linux")]
    if let Err(error) = portcullis_sys::descriptors::close_on_exec() {
        tracing::warn!(%error, "servers may inherit open files of whoever started the gateway");
    }
}

/// Raises the soft limit of open files to the hard one, and returns what is in force; `None` means unlimited.
/// Connections must stay well below it, or a flood of them keeps the ledger from opening its files.
pub fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    }
}
