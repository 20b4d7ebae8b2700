//! What can be wrong with a thing that should prove something.

use alloc::string::String;

/// Why a key, note, proof or record is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text of a checkpoint is not in the form of c2sp.org/tlog-checkpoint.
    #[error("malformed checkpoint: {0}")]
    Checkpoint(&'static str),
    /// The text of a key is not in the form of c2sp.org/signed-note.
    #[error("malformed key: {0}")]
    Key(&'static str),
    /// An entry is not what the writer of this crate makes.
    #[error("malformed entry: {0}")]
    Entry(String),
    /// A Merkle proof does not lead to the root.
    #[error("the proof does not lead to the root of the checkpoint")]
    Mismatch,
    /// The origin is not the one the key was made for.
    #[error("the checkpoint is of `{found}`, not of `{expected}`")]
    Origin {
        /// The key's name.
        expected: String,
        /// The origin line.
        found: String,
    },
    /// The text of a proof is not in the form of c2sp.org/tlog-proof.
    #[error("malformed proof: {0}")]
    Proof(&'static str),
    /// No signature of the key verifies.
    #[error("no valid signature of `{0}`")]
    Signature(String),
    /// A tile that the proof needs is missing or too short.
    #[error("`{0}` is missing or too short")]
    Tile(String),
}
