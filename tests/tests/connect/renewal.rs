//! Gateways that share a store, before an authorization server that takes each refresh token once and ends every grant of a
//! user whose refresh token comes a second time.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use portcullis_authorize::{Answer, Authorizer, ClientAuth, ClientSettings, Mode, Outgoing, Parts, Settings};
use portcullis_core::{Clock, Digest, Entropy, Limits, Secret, Timestamp};
use portcullis_net::guard::EgressPolicy;
use portcullis_proof::SigningKey;
use portcullis_seal::{Ring, Sealer};
use portcullis_store::{Connections as _, FileLedger, FileLedgerOptions, Sqlite};
use portcullis_testkit::{Client, Outcome};
use portcullis_tests::pair::soon;
use portcullis_upstream::{Behalf, Tokens as _, Unauthorized};

use crate::provider::Provider;

/// Time that goes on when a test says so.
#[derive(Debug)]
pub struct Hand(pub AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn ticks_us(&self) -> u64 {
        self.now().0 * 1_000
    }
}

#[derive(Debug)]
pub struct Chance;

impl Entropy for Chance {
    fn fill(&self, out: &mut [u8]) {
        SystemRandom::new().fill(out).expect("chance");
    }
}

/// What gateways share.
struct Shared {
    provider: Provider,
    clock: Arc<Hand>,
    folder: tempfile::TempDir,
}

impl Shared {
    async fn new() -> Outcome<Self> {
        let (provider, clock) = (Provider::start().await?, Arc::new(Hand(AtomicU64::new(1_000_000))));
        provider.state().add_client("shared", "secret");
        Ok(Self { provider, clock, folder: tempfile::tempdir()? })
    }

    fn later(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn store(&self) -> Outcome<Arc<Sqlite>> {
        Ok(Arc::new(Sqlite::open(self.folder.path().join("portcullis.db"))?))
    }

    /// A gateway with a ledger of its own and the store of all.
    fn gateway(&self, name: &str) -> Outcome<Outgoing> {
        let own = self.folder.path().join(name);
        std::fs::create_dir(&own)?;
        let authorizer = Authorizer::new(Parts {
            store: self.store()?,
            sealer: Sealer::new(Ring::fixed(b"the pepper of all")),
            ledger: Arc::new(ledger(&own)?),
            clock: Arc::clone(&self.clock) as _,
            entropy: Arc::new(Chance),
            instance: name.into(),
        });
        let settings = Settings {
            mode: Mode::User,
            url: self.provider.url().parse()?,
            issuer: Some(self.provider.issuer()),
            client: Some(ClientSettings {
                id: "shared".into(),
                auth: ClientAuth::Secret(Secret::new("secret".into())),
            }),
            metadata_url: None,
            scopes: Vec::new(),
            egress: EgressPolicy::of(true, false),
            exchange: None,
            digest: Digest::of(b"declared"),
        };
        let public = Some("http://127.0.0.1:1".to_owned());
        Ok(Outgoing::new(Arc::new(authorizer), "s".into(), settings, public))
    }

    fn refreshed(&self) -> usize {
        self.provider.state().grants.iter().filter(|grant| *grant == "refresh_token").count()
    }
}

pub fn ledger(folder: &Path) -> Outcome<FileLedger> {
    let keeper = Arc::new(Sqlite::open(folder.join("keeper.db"))?);
    let key = SigningKey::from_seed("test.example/1", [7; 32])?;
    let (ledger, _) =
        FileLedger::open(FileLedgerOptions::new(folder.join("ledger"), key, Limits::default(), keeper))?;
    Ok(ledger)
}

/// The server does not take that token, for what `challenge` says; the one in its place.
async fn refused(
    gateway: &Outgoing,
    token: Option<&str>,
    challenge: Option<&str>,
) -> Result<Option<String>, String> {
    let token = token.map(|token| Secret::new(token.to_owned()));
    let answer = Unauthorized {
        status: if challenge.is_some() { 403 } else { 401 },
        challenges: challenge.into_iter().collect(),
        token: token.as_ref(),
        again: false,
    };
    let other = gateway.refused(Some(&Behalf::of("alice")), answer).await;
    other
        .map(|token| token.map(|token| token.expose().clone()))
        .map_err(|refusal| refusal.public.into_owned())
}

async fn token(gateway: &Outgoing) -> Result<Option<String>, String> {
    let held = gateway.token(Some(&Behalf::of("alice"))).await;
    held.map(|token| token.map(|token| token.expose().clone())).map_err(|refusal| refusal.public.into_owned())
}

/// Connects alice at this gateway, who holds that token.
async fn connect(gateway: &Outgoing, held: Option<&str>) -> Outcome {
    let more = held.map(|_| "Bearer error=\"insufficient_scope\", scope=\"more\"");
    let told = refused(gateway, held, more).await.expect_err("a link");
    let ticket = told.split("ticket=").nth(1).and_then(|rest| rest.split(' ').next()).ok_or("no link")?;
    let ticket = gateway.ticket(ticket).ok_or("a link that does not open")?;
    let consent = gateway.consent(&ticket).await?;
    let departure = gateway.depart(&ticket, &consent).await?;
    let sent = Client::default().get(departure.url.as_str(), &[("x-login", "alice")]).await?;
    let query = sent.header("location").split_once('?').ok_or("no way back")?.1.to_owned();
    let answer = Answer::of(&query).ok_or("no answer")?;
    let taken = gateway.authorizer().take(&answer, Some(departure.cookie.expose()))?;
    Ok(gateway.arrive(taken, answer).await?)
}

/// Two gateways that hold the same grant.
async fn two(shared: &Shared) -> Outcome<(Outgoing, Outgoing)> {
    let (a, b) = (shared.gateway("a")?, shared.gateway("b")?);
    connect(&a, None).await?;
    assert_eq!(token(&a).await?, token(&b).await?);
    Ok((a, b))
}

#[tokio::test]
async fn gateways_that_renew_one_grant_at_the_same_moment_use_its_refresh_token_once() -> Outcome {
    let shared = Shared::new().await?;
    let (a, b) = two(&shared).await?;
    shared.provider.set(|knobs| knobs.token_delay = Duration::from_millis(150));
    for round in 1..=10 {
        // Its life is over for both, so that both need another one now.
        shared.later(3_600_000);
        let (mine, yours) = tokio::join!(token(&a), token(&b));
        assert_eq!((&mine, mine.is_ok()), (&yours, true), "round {round}");
        assert_eq!(shared.refreshed(), round, "a refresh token was used by both");
    }
    // It was taken for over before it was: both have shown it to the server, which wants another.
    let old = token(&a).await?;
    let (mine, yours) = tokio::join!(refused(&a, old.as_deref(), None), refused(&b, old.as_deref(), None));
    assert_eq!((&mine, mine.is_ok()), (&yours, true));
    assert_eq!((shared.refreshed(), shared.provider.state().reused.len()), (11, 0));
    Ok(())
}

#[tokio::test]
async fn while_another_gateway_renews_a_token_that_still_lasts_nobody_waits_for_it() -> Outcome {
    let shared = Shared::new().await?;
    let (a, b) = two(&shared).await?;
    let old = token(&b).await?;
    shared.provider.set(|knobs| knobs.refreshes_gated = true);
    shared.later(3_600_000 - 30_000);
    let renewing = tokio::spawn(async move { token(&a).await });
    soon("a refresh", || shared.refreshed() == 1).await?;
    assert_eq!(token(&b).await?, old);
    shared.provider.set(|knobs| knobs.refreshes_gated = false);
    let new = renewing.await??;
    assert!(new.is_some() && new != old);
    assert_eq!(token(&b).await?, new, "what the other one renewed counts here");
    assert_eq!(shared.refreshed(), 1);
    Ok(())
}

#[test]
fn a_gateway_that_crashes_in_the_middle_of_a_renewal_keeps_the_others_from_it_for_a_moment_only() -> Outcome {
    let one = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (world, crashing) = (one()?, one()?);
    let (shared, a, b) = world.block_on(async {
        let shared = Shared::new().await?;
        let (a, b) = two(&shared).await?;
        Ok::<_, portcullis_testkit::Fault>((shared, a, b))
    })?;
    // The issuer has the request and has not looked at it when the gateway dies.
    shared.provider.set(|knobs| knobs.token_hold = Duration::from_secs(3_600));
    shared.later(3_600_000);
    crashing.spawn(async move { token(&a).await });
    world.block_on(soon("a claim", || shared.provider.state().held == 1))?;
    crashing.shutdown_background();
    shared.provider.set(|knobs| knobs.token_hold = Duration::ZERO);
    world.block_on(async {
        let waiting = tokio::spawn(async move { token(&b).await });
        // A few looks at the claim, each of which would have been the use of a refresh token.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!waiting.is_finished(), "the claim of another counted for nothing");
        shared.later(15_000);
        assert!(waiting.await??.is_some());
        assert_eq!((shared.refreshed(), shared.provider.state().reused.len()), (1, 0));
        Ok(())
    })
}

#[tokio::test]
async fn what_is_ended_or_made_anew_while_another_gateway_renews_it_is_not_brought_back() -> Outcome {
    let shared = Shared::new().await?;
    let (a, b) = two(&shared).await?;
    let (a, b) = (Arc::new(a), Arc::new(b));
    let renew = || {
        let a = Arc::clone(&a);
        tokio::spawn(async move { token(&a).await })
    };
    shared.provider.set(|knobs| knobs.refreshes_gated = true);
    shared.later(3_600_000);
    let renewing = renew();
    soon("a refresh", || shared.refreshed() == 1).await?;
    // The other gateway holds the connection as it was.
    b.revoke("alice", "operator").await?.ok_or("no connection")?.ok();
    shared.provider.set(|knobs| knobs.refreshes_gated = false);
    assert_eq!(renewing.await??, None, "a connection came back");
    assert!(shared.store()?.connections().await?.is_empty());
    let revoked = shared.provider.state().revoked.clone();
    assert!(revoked.len() >= 2, "the tokens that came too late are not revoked: {revoked:?}");
    // The user connects anew at one, while the other renews what was before.
    connect(&a, None).await?;
    let held = token(&b).await?;
    shared.provider.set(|knobs| knobs.refreshes_gated = true);
    shared.later(3_600_000);
    let before = shared.refreshed();
    let renewing = renew();
    soon("a refresh", || shared.refreshed() == before + 1).await?;
    connect(&b, held.as_deref()).await?;
    let newest = token(&b).await?;
    assert!(newest.is_some());
    shared.provider.set(|knobs| knobs.refreshes_gated = false);
    assert_eq!(renewing.await??, newest, "what was renewed took the place of what is newer");
    assert_eq!(shared.provider.state().reused.len(), 0);
    Ok(())
}
