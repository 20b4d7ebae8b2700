//! Servers that were added at run time, as the store has them.

use std::collections::BTreeMap;

use portcullis_admin::{SERVER_KIND, SERVER_SLOT};
use portcullis_config as config;
use serde_json::Value;

use super::compile::World;

/// Servers that were added at run time.
pub(super) async fn added(
    world: &World,
) -> Result<BTreeMap<String, config::Server>, portcullis_store::StoreError> {
    let mut servers = BTreeMap::new();
    for (head, revision) in world.revisions.heads_with_bodies(SERVER_KIND).await? {
        if head.slot != SERVER_SLOT {
            continue;
        }
        let json: Value = serde_json::from_slice(&revision.body).unwrap_or_default();
        // What was accepted once and is not any more must not keep the gateway from starting: it is left out, loudly.
        match config::Server::from_json(&head.name, &json) {
            Ok(server) => drop(servers.insert(head.name, server)),
            Err(mistakes) => {
                tracing::error!(server = head.name, ?mistakes, "a server added at run time cannot be used")
            }
        }
    }
    Ok(servers)
}
