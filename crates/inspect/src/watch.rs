//! Values that must not be in a message, whatever detectors are switched on: secrets that the gateway handed out, and bait.

use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;

use portcullis_core::{Digest, Direction, Treatment};

/// The kind of finding for a secret that the gateway handed out, and that comes back.
pub const ARMED: &str = "secret.armed";
/// The kind of finding for a credential that was planted.
pub const CANARY: &str = "secret.canary";

/// What looks for them.
pub trait Watch: core::fmt::Debug + Send + Sync {
    /// Whether anything is looked for in what travels that way.
    fn looks(&self, direction: Direction) -> bool;

    /// Whether the JSON text may hold such a value in one of its strings. False is certain, unless visible ASCII is
    /// written as escapes.
    fn may_hold(&self, raw: &[u8]) -> bool;

    /// The values in a decoded text that travels that way, in order and without overlap.
    fn find(&self, direction: Direction, text: &str) -> Vec<Watched>;

    /// What the value is called whose [`Watched::id`] that is.
    fn name(&self, id: Digest) -> Option<Arc<str>>;

    /// How often what is looked for has changed.
    fn changes(&self) -> u64;
}

/// A value where it must not be.
#[derive(Clone, Debug)]
pub struct Watched {
    /// [`ARMED`] or [`CANARY`].
    pub kind: &'static str,
    /// Names the value, and tells nothing about it.
    pub id: Digest,
    /// What is done about it.
    pub treatment: Treatment,
    /// Bytes of the text.
    pub range: Range<usize>,
}
