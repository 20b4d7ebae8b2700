//! Searches in the ledger: where its index is, and who may search.

use std::sync::Arc;

use portcullis_admin::Searching;
use portcullis_forensics::{Librarian, Place, Shelf};
use portcullis_proof::VerifierKey;

use super::start::Core;

/// The index in the data directory.
pub(crate) const INDEX_FILE: &str = "index.db";

/// What the admin API searches with; the index is not followed yet.
pub(super) fn searching(core: &Arc<Core>, vkey: &str) -> anyhow::Result<Searching> {
    let config = core.config.load();
    let ledger = &config.settings.ledger;
    let folder = ledger.directory.clone().unwrap_or_else(|| core.dir.ledger());
    let shelf = Shelf::new(folder, VerifierKey::from_text(vkey)?);
    let place = ledger.index.then(|| Place { index: core.dir.path().join(INDEX_FILE), shelf });
    let core = Arc::clone(core);
    Ok(Searching {
        librarian: Arc::new(Librarian::new(place)),
        readers: Arc::new(move || core.config.load().settings.ledger.readers.clone()),
    })
}
