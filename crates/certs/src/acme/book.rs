//! What is kept of an account, a certificate and an order, for every gateway on the store. Account, certificate and answers are
//! sealed; who orders is not.

use std::{fmt, sync::Arc};

use portcullis_core::{Digest, Entropy, Timestamp};
use portcullis_seal::Sealer;
use portcullis_store::{Batch, Connections, Head, Move, NewRevision, Revisions, SealedTable, StoreError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Settings, way::said};
use crate::held::Held;

/// What is sealed for: an account is a registration, and its certificate stands beside it.
const PURPOSE: &str = SealedTable::Registrations.purpose();
/// Revision kind of who orders.
const KIND: &str = "certificate-order";
/// The head of it.
const SLOT: &str = "current";
/// No claim and no pause lasts longer; one that does was made by a clock that has been put back.
const CLAIM_MS_MAX: u64 = 2 * 86_400_000;
/// Who changes what is kept.
const AUTHOR: &str = "portcullis run";

/// Who may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Whoever asked, after so many failures in a row.
    Ours(u32),
    /// Nobody before this time: another gateway is at it, or it failed a short time ago.
    Until(Timestamp),
}

/// How far an order is.
#[derive(Debug, Deserialize, Serialize)]
struct State {
    holder: String,
    until_ms: u64,
    failures: u32,
    /// Makes each state another one.
    at_ms: u64,
}

/// What the server must find, for one name.
#[derive(Deserialize, Serialize)]
pub(super) struct Proof {
    pub(super) token: String,
    pub(super) text: String,
}

/// What is kept of one certificate.
pub(super) struct Book {
    directory: String,
    /// The names of the certificate.
    names: String,
    registrations: Arc<dyn Connections>,
    revisions: Arc<dyn Revisions>,
    sealer: Sealer,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Book {
    pub(super) fn new(
        settings: &Settings,
        (registrations, revisions): (&Arc<dyn Connections>, &Arc<dyn Revisions>),
        (sealer, entropy): (&Sealer, &Arc<dyn Entropy>),
    ) -> Self {
        let mut names = settings.domains.clone();
        names.sort();
        Self {
            directory: settings.directory.to_string(),
            names: names.join(","),
            registrations: Arc::clone(registrations),
            revisions: Arc::clone(revisions),
            sealer: sealer.clone(),
            entropy: Arc::clone(entropy),
        }
    }

    async fn get(&self, what: &str) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let kept = self.registrations.registration(&self.directory, what).await.map_err(failed)?;
        let Some(sealed) = kept.filter(|_| self.sealer.is_open()) else { return Ok(None) };
        let opened = self.sealer.open_kept(PURPOSE, &[&self.directory, what], &sealed);
        opened.map(|plain| Some(Zeroizing::new(plain))).ok_or_else(|| format!("`{what}` does not open"))
    }

    async fn put(&self, what: &str, plain: &[u8]) -> Result<(), String> {
        let sealed = self.sealer.seal(PURPOSE, &[&self.directory, what], plain, &*self.entropy);
        let sealed = sealed.ok_or("the data keys of the store are not open")?;
        self.registrations.put_registration(&self.directory, what, &sealed).await.map_err(failed)
    }

    /// The credentials of our account.
    pub(super) async fn account(&self) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        self.get("acme:account").await
    }

    pub(super) async fn put_account(&self, credentials: &[u8]) -> Result<(), String> {
        self.put("acme:account", credentials).await
    }

    pub(super) async fn forget_account(&self) -> Result<(), String> {
        self.registrations.forget_registration(&self.directory, "acme:account").await.map_err(failed)
    }

    pub(super) async fn certificate(&self) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        self.get(&format!("acme:certificate:{}", self.names)).await
    }

    pub(super) async fn keep(&self, held: &Held) -> Result<(), String> {
        self.put(&format!("acme:certificate:{}", self.names), &held.text()).await
    }

    /// What the server must find for a name, while it is asked for.
    pub(super) async fn proof(&self, name: &str) -> Option<Proof> {
        let text = self.get(&format!("acme:proof:{name}")).await.ok()??;
        serde_json::from_slice(&text).ok()
    }

    pub(super) async fn put_proof(&self, name: &str, proof: &Proof) -> Result<(), String> {
        let text = serde_json::to_vec(proof).map_err(|error| error.to_string())?;
        self.put(&format!("acme:proof:{name}"), &text).await
    }

    pub(super) async fn forget_proof(&self, name: &str) {
        let what = format!("acme:proof:{name}");
        if let Err(error) = self.registrations.forget_registration(&self.directory, &what).await {
            tracing::warn!(%error, "the answer to a challenge that is over stays in the store");
        }
    }

    /// Names the order, whatever its names are.
    fn order(&self) -> String {
        Digest::of(format!("{}\n{}", self.directory, self.names).as_bytes()).hex()
    }

    async fn state(&self) -> Result<(Option<Head>, Option<State>), String> {
        let Some(head) = self.revisions.head(KIND, &self.order(), SLOT).await.map_err(failed)? else {
            return Ok((None, None));
        };
        let body = self.revisions.get(KIND, &self.order(), head.digest).await.map_err(failed)?;
        let state = body.and_then(|revision| serde_json::from_slice(&revision.body).ok());
        Ok((Some(head), state))
    }

    /// Claims the order from `now` until `until`, unless it is another's or failed a short time ago.
    pub(super) async fn claim(
        &self,
        holder: &str,
        (now, until): (Timestamp, Timestamp),
    ) -> Result<Claim, String> {
        let (head, state) = self.state().await?;
        if let Some(State { until_ms, .. }) = &state
            && *until_ms > now.0
            && *until_ms <= now.0.saturating_add(CLAIM_MS_MAX)
        {
            return Ok(Claim::Until(Timestamp(*until_ms)));
        }
        let failures = state.map_or(0, |state| state.failures);
        let state = State { holder: holder.to_owned(), until_ms: until.0, failures, at_ms: now.0 };
        // Whoever loses looks again soon.
        let ours = self.move_to(head, &state, now).await?;
        Ok(if ours { Claim::Ours(failures) } else { Claim::Until(now.plus_ms(1_000)) })
    }

    /// The order is over: the next one may be tried from `until` on.
    pub(super) async fn settle(
        &self,
        holder: &str,
        (failures, until): (u32, Timestamp),
        now: Timestamp,
    ) -> Result<(), String> {
        let (head, state) = self.state().await?;
        if state.is_some_and(|state| state.holder == holder) {
            let state = State { holder: String::new(), until_ms: until.0, failures, at_ms: now.0 };
            self.move_to(head, &state, now).await?;
        }
        Ok(())
    }

    async fn move_to(&self, head: Option<Head>, state: &State, at: Timestamp) -> Result<bool, String> {
        let body = serde_json::to_vec(state).map_err(|error| error.to_string())?;
        let (name, digest, expect) = (self.order(), Digest::of(&body), head.map(|head| head.digest));
        let put = NewRevision {
            kind: KIND.to_owned(),
            name: name.clone(),
            body,
            digest,
            parent: None,
            author: AUTHOR.to_owned(),
            reason: String::new(),
            at,
        };
        let to = Some(digest);
        let (kind, slot, by) = (KIND.to_owned(), SLOT.to_owned(), AUTHOR.to_owned());
        let moved = Move { kind, name, slot, expect, to, by, at };
        self.revisions.apply(Batch { puts: vec![put], moves: vec![moved] }).await.map_err(failed)
    }
}

fn failed(error: StoreError) -> String {
    said(&error)
}

#[cfg(test)]
mod tests {
    use portcullis_core::Secret;
    use portcullis_net::guard::EgressPolicy;
    use portcullis_seal::Ring;
    use portcullis_store::Sqlite;

    use super::*;
    use crate::acme::Way;

    #[derive(Debug)]
    struct Chance(std::sync::atomic::AtomicU8);

    impl Entropy for Chance {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    /// A gateway with this key on a store.
    fn book(path: &std::path::Path, key: &[u8]) -> Book {
        let store = Arc::new(Sqlite::open(path).unwrap());
        let settings = Settings {
            directory: "https://acme.example/directory".parse().unwrap(),
            egress: EgressPolicy::default(),
            roots_pem: Vec::new(),
            contact: Vec::new(),
            domains: vec!["two.example".into(), "one.example".into()],
            way: Way::Http01,
            external: None,
        };
        let (connections, revisions): (Arc<dyn Connections>, Arc<dyn Revisions>) = (store.clone(), store);
        let entropy: Arc<dyn Entropy> = Arc::new(Chance(std::sync::atomic::AtomicU8::default()));
        Book::new(&settings, (&connections, &revisions), (&Sealer::new(Ring::fixed(key)), &entropy))
    }

    #[tokio::test]
    async fn of_gateways_on_one_store_one_orders_and_after_a_failure_all_of_them_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let (one, two) = (book(&path, b"key"), book(&path, b"key"));
        let at = |s: u64| Timestamp(1_800_000_000_000 + s * 1_000);
        assert_eq!(one.claim("one", (at(0), at(300))).await, Ok(Claim::Ours(0)));
        assert_eq!(two.claim("two", (at(1), at(301))).await, Ok(Claim::Until(at(300))));
        two.settle("two", (0, at(1)), at(1)).await.unwrap();
        assert_eq!(two.claim("two", (at(2), at(302))).await, Ok(Claim::Until(at(300))), "it was not theirs");
        one.settle("one", (1, at(60)), at(3)).await.unwrap();
        assert_eq!(two.claim("two", (at(59), at(359))).await, Ok(Claim::Until(at(60))), "after a failure");
        assert_eq!(two.claim("two", (at(60), at(360))).await, Ok(Claim::Ours(1)));
        // `two` crashed: its claim ends by itself.
        assert_eq!(one.claim("one", (at(361), at(661))).await, Ok(Claim::Ours(1)));
        // The clock was put back by a month; nobody waits for that.
        let before = Timestamp(at(0).0 - 30 * 86_400_000);
        assert_eq!(two.claim("two", (before, before.plus_ms(1))).await, Ok(Claim::Ours(1)));
    }

    #[tokio::test]
    async fn what_one_gateway_got_the_others_show_and_nobody_without_the_key_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let (one, two, other) = (book(&path, b"key"), book(&path, b"key"), book(&path, b"another key"));
        let made = rcgen::generate_simple_self_signed(["one.example".into(), "two.example".into()]).unwrap();
        let names = ["one.example".to_owned(), "two.example".to_owned()];
        let key = Secret::new(made.signing_key.serialize_pem());
        let held = Held::new(made.cert.pem(), key, &names).unwrap();
        assert!(two.certificate().await.unwrap().is_none());
        one.keep(&held).await.unwrap();
        let seen = Held::read(&two.certificate().await.unwrap().unwrap(), &names).unwrap();
        assert_eq!(seen.digest(), held.digest());
        assert!(other.certificate().await.is_err(), "another key opens it");
        let proof = Proof { token: "t".into(), text: "t.print".into() };
        one.put_proof("one.example", &proof).await.unwrap();
        assert_eq!(two.proof("one.example").await.unwrap().text, "t.print");
        assert!(two.proof("two.example").await.is_none());
        one.forget_proof("one.example").await;
        assert!(two.proof("one.example").await.is_none());
        drop((one, two, other));
        let bytes = std::fs::read(path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"));
    }
}
