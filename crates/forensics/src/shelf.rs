//! The ledger's files, read a bundle at a time.

use std::path::PathBuf;

use portcullis_proof::{
    Checkpoint, ProofError, VerifierKey,
    merkle::prove_inclusion,
    proof_file::ProofFile,
    tile::{Entries, TILE_WIDTH, Tile, TileNodes},
    verify::LogFiles as _,
};
use portcullis_store::LogDir;

use crate::ForensicsError;

/// How often files at the right edge, which the gateway replaces meanwhile, are looked for.
const TRIES: usize = 4;

/// A ledger in a directory, and the key that signs it.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: LogDir,
    key: VerifierKey,
}

impl Shelf {
    /// The ledger in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, key: VerifierKey) -> Self {
        Self { dir: LogDir::new(dir), key }
    }

    /// The key that signs it.
    #[must_use]
    pub const fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The checkpoint that is published now, and its text.
    ///
    /// # Errors
    /// There is none, or it is not signed by the key.
    pub fn checkpoint(&self) -> Result<(Checkpoint, String), ForensicsError> {
        let place = || self.dir.root().display().to_string();
        let bytes = self.dir.read("checkpoint");
        let bytes =
            bytes.ok_or_else(|| ForensicsError::Unavailable(format!("`{}` holds no checkpoint", place())))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let checkpoint = Checkpoint::open(&text, &self.key)
            .map_err(|error| ForensicsError::Tampered(format!("`{}/checkpoint`: {error}", place())))?;
        Ok((checkpoint, text))
    }

    /// The proof that an entry is under this checkpoint (C2SP tlog-proof).
    ///
    /// # Errors
    /// It is not, or hashes are missing.
    pub fn prove(&self, index: u64, note: &str) -> Result<String, ForensicsError> {
        let wrong = |error: ProofError| ForensicsError::Tampered(error.to_string());
        let checkpoint = Checkpoint::open(note, &self.key).map_err(wrong)?;
        let read = |path: &str| self.dir.read(path);
        let nodes = TileNodes::new(checkpoint.size, &read);
        let path = prove_inclusion(&nodes, index, checkpoint.size).map_err(wrong)?;
        Ok(ProofFile { index, path, checkpoint: note.to_owned() }.to_text())
    }

    /// Bundle `number`, which begins with the entries that are under a checkpoint over `size` entries.
    pub(crate) fn bundle(&self, number: u64, size: u64) -> Result<Vec<u8>, ForensicsError> {
        let width = size.saturating_sub(number * TILE_WIDTH).min(TILE_WIDTH);
        let wanted = usize::try_from(width).unwrap_or(usize::MAX);
        let mut path = String::new();
        for _ in 0..TRIES {
            for full in [Some(true), Some(false), None] {
                let width = match full {
                    Some(true) => TILE_WIDTH,
                    Some(false) => width,
                    // What was at the right edge may be wider by now.
                    None => self.checkpoint()?.0.size.saturating_sub(number * TILE_WIDTH).min(TILE_WIDTH),
                };
                let tile = Tile { level: None, index: number, width };
                path = tile.path();
                let Some(bytes) = self.dir.read(&path) else { continue };
                if Entries::of(&bytes).take(wanted).count() == wanted {
                    return Ok(bytes);
                }
                let reason = format!("`{path}` does not hold {wanted} entries");
                return Err(ForensicsError::Tampered(reason));
            }
        }
        Err(ForensicsError::Tampered(format!("`{path}` is missing")))
    }
}
