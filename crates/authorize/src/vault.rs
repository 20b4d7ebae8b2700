//! Grants and registrations at rest: sealed for whom they belong to, so that a row that was copied to another caller,
//! server or issuer opens for nobody.

use std::{fmt, sync::Arc};

use portcullis_core::{Entropy, Timestamp};
use portcullis_seal::Sealer;
use portcullis_store::{Claim, ConnectionRow, Connections, SealedTable, Seen};
use zeroize::Zeroizing;

use crate::{chance::random, grant::Grant, registered::Registered, web::Failure};

const CONNECTION: &str = SealedTable::Connections.purpose();
const REGISTRATION: &str = SealedTable::Registrations.purpose();

/// Grants and registrations, sealed.
pub(crate) struct Vault {
    store: Arc<dyn Connections>,
    sealer: Sealer,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(****)")
    }
}

fn store(error: portcullis_store::StoreError) -> Failure {
    Failure::Ours(error.to_string())
}

fn unsealed() -> Failure {
    Failure::Ours("a text cannot be sealed".into())
}

impl Vault {
    pub(crate) fn new(store: Arc<dyn Connections>, sealer: Sealer, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, sealer, entropy }
    }

    /// Keeps a grant in the place of whatever was kept.
    pub(crate) async fn put(
        &self,
        caller: &str,
        server: &str,
        grant: &mut Grant,
        max: u64,
    ) -> Result<(), Failure> {
        let row = self.row(caller, server, grant)?;
        let revision = row.revision.clone();
        self.store.put_connection(row, max).await.map_err(store)?;
        grant.revision = revision;
        Ok(())
    }

    /// Keeps a grant in the place of the state that it was renewed from; false when the store has another one by now.
    pub(crate) async fn replace(
        &self,
        caller: &str,
        server: &str,
        grant: &mut Grant,
    ) -> Result<bool, Failure> {
        let row = self.row(caller, server, grant)?;
        let revision = row.revision.clone();
        let replaced = self.store.replace_connection(row, &grant.revision).await.map_err(store)?;
        if replaced {
            grant.revision = revision;
        }
        Ok(replaced)
    }

    /// Claims the renewal of a state of a grant.
    pub(crate) async fn claim(
        &self,
        seen: Seen,
        holder: &str,
        (now, until): (Timestamp, Timestamp),
    ) -> Result<Claim, Failure> {
        self.store.claim_connection(seen, holder, now, until).await.map_err(store)
    }

    /// Gives a claim back.
    pub(crate) async fn release(&self, seen: Seen, holder: &str) -> Result<(), Failure> {
        self.store.release_connection(seen, holder).await.map_err(store)
    }

    fn row(&self, caller: &str, server: &str, grant: &Grant) -> Result<ConnectionRow, Failure> {
        let bytes = grant.to_bytes().ok_or_else(unsealed)?;
        let bound = [caller, server, &grant.issuer];
        let sealed = self.sealer.seal(CONNECTION, &bound, &bytes, &*self.entropy).ok_or_else(unsealed)?;
        Ok(ConnectionRow {
            caller: caller.to_owned(),
            server: server.to_owned(),
            issuer: grant.issuer.clone(),
            scopes: grant.scopes.join(" "),
            granted: grant.granted,
            refreshed: grant.refreshed,
            expires: grant.expires,
            sealed,
            revision: random(&*self.entropy),
        })
    }

    /// What was kept; nothing where it does not open, as after the key was lost.
    pub(crate) async fn get(&self, caller: &str, server: &str) -> Result<Option<Grant>, Failure> {
        let Some(row) = self.store.connection(caller, server).await.map_err(store)? else { return Ok(None) };
        let bound = [&*row.caller, &*row.server, &*row.issuer];
        let opened = self.sealer.open_kept(CONNECTION, &bound, &row.sealed);
        let grant = opened
            .map(Zeroizing::new)
            .and_then(|bytes| Grant::of_bytes((&row.issuer, &row.revision), &bytes));
        if grant.is_none() {
            tracing::warn!(caller, server, "a stored connection does not open and is not used");
        }
        Ok(grant)
    }

    pub(crate) async fn forget(&self, caller: &str, server: &str) -> Result<bool, Failure> {
        self.store.forget_connection(caller, server).await.map_err(store)
    }

    /// Forgets that state of a grant, and no other.
    pub(crate) async fn forget_seen(&self, seen: Seen) -> Result<bool, Failure> {
        self.store.forget_seen(seen).await.map_err(store)
    }

    /// Whether there is a connection, whether or not it opens.
    pub(crate) async fn has(&self, caller: &str, server: &str) -> Result<bool, Failure> {
        Ok(self.store.connection(caller, server).await.map_err(store)?.is_some())
    }

    pub(crate) async fn list(&self) -> Result<Vec<ConnectionRow>, Failure> {
        self.store.connections().await.map_err(store)
    }

    pub(crate) async fn put_registered(
        &self,
        issuer: &str,
        redirect: &str,
        registered: &Registered,
    ) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(registered).map(Zeroizing::new).map_err(|_| unsealed())?;
        let sealed = self.sealer.seal(REGISTRATION, &[issuer, redirect], &bytes, &*self.entropy);
        self.store.put_registration(issuer, redirect, &sealed.ok_or_else(unsealed)?).await.map_err(store)
    }

    pub(crate) async fn registered(
        &self,
        issuer: &str,
        redirect: &str,
    ) -> Result<Option<Registered>, Failure> {
        let Some(sealed) = self.store.registration(issuer, redirect).await.map_err(store)? else {
            return Ok(None);
        };
        let opened = self.sealer.open_kept(REGISTRATION, &[issuer, redirect], &sealed);
        Ok(opened.map(Zeroizing::new).and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(crate) async fn forget_registered(&self, issuer: &str, redirect: &str) -> Result<(), Failure> {
        self.store.forget_registration(issuer, redirect).await.map_err(store)
    }

    pub(crate) fn seal(&self, purpose: &str, bound: &[&str], plain: &[u8]) -> Option<String> {
        self.sealer.seal(purpose, bound, plain, &*self.entropy)
    }

    pub(crate) fn open(&self, purpose: &str, bound: &[&str], text: &str) -> Option<Vec<u8>> {
        self.sealer.open(purpose, bound, text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use portcullis_core::Secret;
    use portcullis_seal::Ring;
    use portcullis_store::Sqlite;

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn grant() -> Grant {
        Grant {
            issuer: "https://i.example".into(),
            resource: "https://s.example/mcp".into(),
            access: Secret::new("the access token".into()),
            refresh: Some(Secret::new("the refresh token".into())),
            expires: Some(Timestamp(9)),
            requested: vec!["a".into()],
            scopes: vec!["a".into()],
            granted: Timestamp(1),
            refreshed: None,
            fruitless: 0,
            hint: None,
            revision: String::new(),
        }
    }

    #[tokio::test]
    async fn a_stored_grant_opens_for_its_own_caller_server_and_issuer_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(folder.path().join("s.db")).unwrap());
        let vault = |key: &[u8]| {
            Vault::new(Arc::clone(&store) as _, Sealer::new(Ring::fixed(key)), Arc::new(Counting::default()))
        };
        let ours = vault(b"key");
        ours.put("alice", "s", &mut grant(), 2).await.unwrap();
        let back = ours.get("alice", "s").await.unwrap().unwrap();
        assert_eq!(back.access.expose(), "the access token");
        assert_eq!(back.refresh.unwrap().expose(), "the refresh token");
        let row = store.connection("alice", "s").await.unwrap().unwrap();
        assert!(!format!("{row:?}").contains("token"), "{row:?}");
        assert!(vault(b"another key").get("alice", "s").await.unwrap().is_none());
        for (caller, server, issuer) in [
            ("bob", "s", "https://i.example"),
            ("alice", "t", "https://i.example"),
            ("alice", "s", "https://j.example"),
        ] {
            let (caller, server, issuer) = (caller.to_owned(), server.to_owned(), issuer.to_owned());
            let moved =
                ConnectionRow { caller: caller.clone(), server: server.clone(), issuer, ..row.clone() };
            store.put_connection(moved, 9).await.unwrap();
            assert!(ours.get(&caller, &server).await.unwrap().is_none(), "{caller} {server}");
        }
    }

    #[tokio::test]
    async fn connections_have_a_limit_that_a_renewal_does_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(folder.path().join("s.db")).unwrap());
        let vault = Vault::new(store, Sealer::new(Ring::fixed(b"key")), Arc::new(Counting::default()));
        vault.put("a", "s", &mut grant(), 2).await.unwrap();
        vault.put("b", "s", &mut grant(), 2).await.unwrap();
        assert!(vault.put("c", "s", &mut grant(), 2).await.is_err());
        vault.put("a", "s", &mut grant(), 2).await.unwrap();
        assert!(vault.forget("a", "s").await.unwrap() && !vault.forget("a", "s").await.unwrap());
        vault.put("c", "s", &mut grant(), 2).await.unwrap();
        let names: Vec<_> = vault.list().await.unwrap().into_iter().map(|row| row.caller).collect();
        assert_eq!(names, ["b", "c"]);
    }
}
