//! Which eras a server speaks: a property of the server, learned by asking it, kept until it disappoints.

use std::sync::atomic::{AtomicU8, Ordering};

use portcullis_core::{Limits, Refusal};
use portcullis_mcp::revision::Era;

use super::Upstream;

/// What the gateway says of itself in `initialize`: it offers nothing, so the server can ask nothing.
pub(super) const INITIALIZE: &[u8] = br#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"portcullis","version":"0.1.0"}}"#;

/// How long a server gets to answer the question which era it speaks, before the older one is assumed.
pub(super) const PROBE_MS: u64 = 5_000;

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// What is known of the eras that a server speaks.
#[derive(Debug, Default)]
pub struct Spoken {
    modern: AtomicU8,
    legacy: AtomicU8,
}

impl Spoken {
    /// The server was asked for its offer and made it in this era.
    pub(super) fn offered(&self, era: Era) {
        let (modern, legacy) = match era {
            Era::Modern => (YES, UNKNOWN),
            Era::Legacy => (NO, YES),
        };
        self.modern.store(modern, Ordering::Relaxed);
        if legacy != UNKNOWN {
            self.legacy.store(legacy, Ordering::Relaxed);
        }
    }

    /// The server refused `initialize`.
    pub fn refused_initialize(&self) {
        self.legacy.store(NO, Ordering::Relaxed);
    }

    /// Whether the server speaks revision 2026-07-28, as far as is known.
    #[must_use]
    pub fn modern(&self) -> Option<bool> {
        known(&self.modern)
    }

    /// Whether the server speaks the older revisions, as far as is known. A server of the newer one is only known to
    /// do so or not once a client has tried.
    #[must_use]
    pub fn legacy(&self) -> Option<bool> {
        known(&self.legacy)
    }

    /// Another answer is thinkable from now on: the server is asked again when it matters.
    pub(super) fn doubt(&self) {
        self.legacy.store(UNKNOWN, Ordering::Relaxed);
    }
}

/// What is known of a route over several servers: each of them is asked for itself.
static NOBODY: Spoken = Spoken { modern: AtomicU8::new(UNKNOWN), legacy: AtomicU8::new(UNKNOWN) };

fn known(flag: &AtomicU8) -> Option<bool> {
    match flag.load(Ordering::Relaxed) {
        YES => Some(true),
        NO => Some(false),
        _ => None,
    }
}

impl Upstream {
    /// What is known of the eras the server speaks.
    #[must_use]
    pub fn spoken(&self) -> &Spoken {
        match self {
            Self::Group => &NOBODY,
            Self::Http(peer) => &peer.spoken,
            Self::Stdio(peer) => &peer.spoken,
        }
    }

    /// Whether the server speaks revision 2026-07-28; asks it on behalf of `caller` when that is not known.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn speaks_modern(&self, caller: &crate::Behalf, limits: &Limits) -> Result<bool, Refusal> {
        if let Some(modern) = self.spoken().modern() {
            return Ok(modern);
        }
        match self {
            Self::Group | Self::Http(_) => Ok(self.offer(Some(caller), limits).await?.era == Era::Modern),
            Self::Stdio(peer) => peer.speaks_modern(limits).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_the_newer_era_may_speak_the_older_one_until_it_refuses_to() {
        let spoken = Spoken::default();
        assert_eq!((spoken.modern(), spoken.legacy()), (None, None));
        spoken.offered(Era::Modern);
        assert_eq!((spoken.modern(), spoken.legacy()), (Some(true), None));
        spoken.refused_initialize();
        spoken.offered(Era::Modern);
        assert_eq!((spoken.modern(), spoken.legacy()), (Some(true), Some(false)));
        spoken.doubt();
        assert_eq!(spoken.legacy(), None);
        spoken.offered(Era::Legacy);
        assert_eq!((spoken.modern(), spoken.legacy()), (Some(false), Some(true)));
    }
}
