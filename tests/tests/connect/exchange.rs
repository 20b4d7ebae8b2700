//! Tokens in exchange for those of callers: each for its caller, its token and its server, for as long as both count, and
//! from an authorization server that may lie.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
};

use portcullis_authorize::{
    Authorizer, ClientAuth, ClientSettings, Exchange, Mode, Outgoing, Parts, Settings, Subject,
};
use portcullis_core::{Caller, Clock as _, Code, Digest, Proof, Refusal, Secret};
use portcullis_net::guard::EgressPolicy;
use portcullis_seal::{Ring, Sealer};
use portcullis_store::{FileLedger, Ledger as _, Sqlite};
use portcullis_testkit::Outcome;
use portcullis_upstream::{Behalf, Tokens as _, Unauthorized};

use crate::{
    provider::Provider,
    renewal::{Chance, Hand, ledger},
};

/// A gateway that exchanges tokens at a provider, which also protects the server.
struct House {
    provider: Provider,
    outgoing: Outgoing,
    ledger: Arc<FileLedger>,
    clock: Arc<Hand>,
    _folder: tempfile::TempDir,
}

impl House {
    async fn new(mode: Mode) -> Outcome<Self> {
        Self::with(mode, |_| {}).await
    }

    async fn with(mode: Mode, change: impl FnOnce(&mut Exchange)) -> Outcome<Self> {
        let (provider, folder) = (Provider::start().await?, tempfile::tempdir()?);
        let clock = Arc::new(Hand(AtomicU64::new(1_000_000)));
        provider.state().add_client("exchanger", "secret");
        let ledger = Arc::new(ledger(folder.path())?);
        let authorizer = Authorizer::new(Parts {
            store: Arc::new(Sqlite::open(folder.path().join("portcullis.db"))?),
            sealer: Sealer::new(Ring::fixed(b"pepper")),
            ledger: Arc::clone(&ledger) as _,
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(Chance),
            instance: "test".into(),
        });
        let client =
            ClientSettings { id: "exchanger".into(), auth: ClientAuth::Secret(Secret::new("secret".into())) };
        let egress = EgressPolicy::of(true, false);
        let mut exchange = Exchange {
            issuer: provider.issuer(),
            token_endpoint: None,
            client: client.clone(),
            subject: Subject::Caller,
            subject_kind: "access_token",
            subject_issuers: Vec::new(),
            audience: None,
            actor: false,
            egress,
        };
        change(&mut exchange);
        let settings = Settings {
            mode,
            url: provider.url().parse()?,
            issuer: (mode == Mode::IdJag).then(|| provider.issuer()),
            client: (mode == Mode::IdJag).then_some(client),
            metadata_url: None,
            scopes: vec!["tools".into()],
            egress,
            exchange: Some(Arc::new(exchange)),
            digest: Digest::of(b"declared"),
        };
        let outgoing = Outgoing::new(Arc::new(authorizer), "s".into(), settings, None);
        Ok(Self { provider, outgoing, ledger, clock, _folder: folder })
    }

    /// A caller who comes with a token of the provider that lasts so long.
    fn comes(&self, login: &str, token: &str, scopes: &[&str], lasts_s: u64) -> Caller {
        self.provider.state().subjects.insert(token.to_owned(), login.to_owned());
        self.comes_from(&self.provider.issuer(), login, token, scopes, lasts_s)
    }

    fn comes_from(&self, issuer: &str, login: &str, token: &str, scopes: &[&str], lasts_s: u64) -> Caller {
        let caller = Caller {
            id: format!("jwt:{issuer}#{login}").into(),
            proof: Proof::Jwt { issuer: issuer.to_owned(), token: Digest::of(token.as_bytes()) },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            expires: Some(self.clock.now().plus_ms(lasts_s * 1_000)),
            ..Caller::anonymous(Arc::from([]))
        };
        self.outgoing.authorizer().presented_by(&caller, token);
        caller
    }

    async fn token(&self, behalf: &Behalf) -> Result<String, Refusal> {
        Ok(self.outgoing.token(Some(behalf)).await?.map(|token| token.expose().clone()).unwrap_or_default())
    }

    /// The server does not take that token.
    async fn refused(
        &self,
        caller: &Caller,
        token: &str,
        challenge: &str,
    ) -> Result<Option<String>, Refusal> {
        let token = Secret::new(token.to_owned());
        let status = if challenge.contains("insufficient_scope") { 403 } else { 401 };
        let answer = Unauthorized { status, challenges: vec![challenge], token: Some(&token), again: false };
        let other = self.outgoing.refused(Some(&Behalf::now(caller)), answer).await?;
        Ok(other.map(|token| token.expose().clone()))
    }

    fn exchanged(&self) -> usize {
        self.provider.state().exchanged.len()
    }

    fn later(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1_000, std::sync::atomic::Ordering::SeqCst);
    }

    async fn recorded(&self, event: &str) -> Outcome<usize> {
        let named = format!("\"{event}\"");
        let entries = self.ledger.read(0, 1_000).await?;
        let texts = entries.iter().map(|entry| String::from_utf8_lossy(&entry.bytes).into_owned());
        let texts: Vec<String> = texts.collect();
        assert!(!texts.join("").contains("access-"), "a token is in the ledger");
        Ok(texts.iter().filter(|text| text.contains(&named)).count())
    }
}

#[tokio::test]
async fn what_one_token_is_exchanged_for_is_for_its_caller_and_itself_alone() -> Outcome {
    let house = House::new(Mode::Exchange).await?;
    let wide = house.comes("alice", "wide", &["tools", "admin"], 3_600);
    let narrow = house.comes("alice", "narrow", &["tools"], 3_600);
    let bob = house.comes("bob", "bobs", &["tools"], 3_600);
    let mut seen = BTreeSet::new();
    for caller in [&wide, &narrow, &bob] {
        let own = house.token(&Behalf::now(caller)).await?;
        for _ in 0..3 {
            assert_eq!(house.token(&Behalf::now(caller)).await?, own, "not exchanged once");
        }
        seen.insert(own);
    }
    assert_eq!((seen.len(), house.exchanged()), (3, 3));
    let asked = house.provider.state().exchanged[0].clone();
    for (name, value) in [
        ("subject_token", "wide"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("resource", &house.provider.url()),
        ("scope", "tools"),
    ] {
        assert_eq!(asked[name], value, "{name}");
    }
    // Where it is not known with which token a request came, none is taken for another.
    let unknown = house.token(&Behalf::of(&wide.id)).await.expect_err("one of two");
    assert_eq!(unknown.code, Code::ExchangeToken);
    assert!(house.token(&Behalf::of(&bob.id)).await.is_ok_and(|token| seen.contains(&token)));
    // Who names the token of another gets nothing for it.
    let stolen = Behalf { caller: bob.id.to_string(), token: Some(Digest::of(b"wide")) };
    assert_eq!(house.token(&stolen).await.expect_err("another's").code, Code::ExchangeToken);
    assert_eq!(house.recorded("connection.exchanged").await?, 3);
    // Nobody's token serves in the background.
    assert!(house.outgoing.token(None).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn what_is_exchanged_ends_with_the_shorter_of_both_tokens_and_with_a_kill_or_a_revocation() -> Outcome {
    let house = House::new(Mode::Exchange).await?;
    house.provider.set(|knobs| knobs.lasts_s = Some(100));
    let alice = house.comes("alice", "lasting", &[], 1_000);
    let first = house.token(&Behalf::now(&alice)).await?;
    house.later(80);
    assert_eq!(house.token(&Behalf::now(&alice)).await?, first);
    house.later(15);
    let second = house.token(&Behalf::now(&alice)).await?;
    assert_ne!(second, first, "used to its very end");
    house.outgoing.authorizer().exchange_anew();
    let third = house.token(&Behalf::now(&alice)).await?;
    assert_ne!(third, second, "what was before a kill is used after it");
    assert!(house.outgoing.revoke(&alice.id, "operator").await?.is_some());
    assert!(house.outgoing.revoke(&alice.id, "operator").await?.is_none(), "revoked twice");
    assert_eq!(house.recorded("connection.revoked").await?, 1);
    assert_ne!(house.token(&Behalf::now(&alice)).await?, third);
    // Exchanged for a token that lasts longer than the caller's own.
    let brief = house.comes("bob", "brief", &[], 20);
    let own = house.token(&Behalf::now(&brief)).await?;
    house.later(19);
    assert_eq!(house.token(&Behalf::now(&brief)).await?, own);
    house.later(1);
    let over = house.token(&Behalf::now(&brief)).await.expect_err("over");
    assert_eq!(over.code, Code::ExchangeToken);
    Ok(())
}

#[tokio::test]
async fn only_the_declared_authorization_server_sees_a_token_and_only_of_declared_issuers() -> Outcome {
    let house = House::new(Mode::Exchange).await?;
    let key = Caller {
        id: "key:a".into(),
        proof: Proof::ApiKey { key_id: "a".into() },
        ..house.comes("x", "x", &[], 9)
    };
    let refusal = house.token(&Behalf::now(&key)).await.expect_err("an API key");
    assert_eq!(refusal.code, Code::ExchangeToken);
    assert!(refusal.public.contains(&house.provider.issuer()), "no next step: {}", refusal.public);
    let other = house.comes_from("https://other.example", "alice", "foreign", &[], 3_600);
    let refusal = house.token(&Behalf::now(&other)).await.expect_err("another issuer's");
    assert_eq!(refusal.code, Code::ExchangeToken);
    assert!(house.provider.state().received.is_empty(), "it was asked");
    let known = "https://other.example".to_owned();
    let house = House::with(Mode::Exchange, |exchange| exchange.subject_issuers = vec![known]).await?;
    house.provider.state().subjects.insert("foreign".into(), "alice".into());
    let other = house.comes_from("https://other.example", "alice", "foreign", &[], 3_600);
    assert!(house.token(&Behalf::now(&other)).await?.starts_with("access-"));
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_none_gives_no_token_and_is_not_asked_for_by_everybody_who_waits() -> Outcome {
    let house = House::new(Mode::Exchange).await?;
    let alice = house.comes("alice", "hers", &[], 3_600);
    let access = "urn:ietf:params:oauth:token-type:";
    for issued in [
        "",
        "urn:ietf:params:oauth:token-type:id-jag",
        "urn:ietf:params:oauth:token-type:refresh_token",
        "access_token",
        access,
    ] {
        house.provider.set(|knobs| knobs.issued = Some(issued.to_owned()));
        let refusal = house.token(&Behalf::now(&alice)).await.expect_err(issued);
        assert_eq!(refusal.code, Code::ConnectionFailed, "{issued}");
        house.later(2);
    }
    house.provider.set(|knobs| knobs.issued = None);
    let stranger = house.comes_from(&house.provider.issuer(), "eve", "unknown there", &[], 3_600);
    let before = house.exchanged();
    let behalf = Behalf::now(&stranger);
    for refused in futures_util::future::join_all((0..20).map(|_| house.token(&behalf))).await {
        let refusal = refused.expect_err("refused");
        assert_eq!(refusal.code, Code::ExchangeRefused);
        assert!(refusal.public.contains("invalid_grant"), "{}", refusal.public);
    }
    assert_eq!(house.exchanged(), before + 1);
    house.provider.set(|knobs| knobs.token_status = Some(503));
    house.later(2);
    assert_eq!(house.token(&Behalf::now(&alice)).await.expect_err("an outage").code, Code::ConnectionFailed);
    house.provider.set(|knobs| knobs.token_status = None);
    house.later(2);
    assert!(house.token(&Behalf::now(&alice)).await?.starts_with("access-"));
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_what_was_exchanged_makes_no_storm_of_exchanges() -> Outcome {
    let house = House::new(Mode::Exchange).await?;
    let alice = house.comes("alice", "hers", &[], 3_600);
    let first = house.token(&Behalf::now(&alice)).await?;
    assert_eq!(
        house.refused(&alice, &first, "Bearer").await?,
        None,
        "it is new, and another would be the same"
    );
    house.later(60);
    let second = house.refused(&alice, &first, "Bearer").await?.ok_or("nothing")?;
    assert_ne!(second, first);
    // Who was slower gets what the faster one has got.
    assert_eq!(house.refused(&alice, &first, "Bearer").await?.as_deref(), Some(&*second));
    let more = "Bearer error=\"insufficient_scope\", scope=\"admin\"";
    let third = house.refused(&alice, &second, more).await?.ok_or("nothing")?;
    assert_eq!(house.provider.state().exchanged.last().ok_or("none")?["scope"], "admin tools");
    assert_eq!(house.refused(&alice, &third, more).await?, None, "asked for already");
    assert_eq!(house.exchanged(), 3);
    Ok(())
}

#[tokio::test]
async fn an_assertion_about_the_user_is_exchanged_and_presented_to_the_servers_own_authorization_server()
-> Outcome {
    let house = House::with(Mode::IdJag, |exchange| exchange.actor = true).await?;
    let alice = house.comes("alice", "hers", &[], 3_600);
    let token = house.token(&Behalf::now(&alice)).await?;
    assert!(token.starts_with("access-"), "{token}");
    assert_eq!(house.provider.state().tokens[&token].login, "alice");
    let asked = house.provider.state().exchanged[0].clone();
    assert_eq!(asked["requested_token_type"], "urn:ietf:params:oauth:token-type:id-jag");
    assert_eq!((&asked["audience"], &asked["resource"]), (&house.provider.issuer(), &house.provider.url()));
    assert!(asked["actor_token"].starts_with("access-"));
    // An access token in the place of an assertion is presented to nobody.
    let access = "urn:ietf:params:oauth:token-type:access_token".to_owned();
    house.provider.set(|knobs| knobs.issued = Some(access));
    let bob = house.comes("bob", "his", &[], 3_600);
    assert_eq!(house.token(&Behalf::now(&bob)).await.expect_err("no assertion").code, Code::ConnectionFailed);
    let presented =
        house.provider.state().grants.iter().filter(|grant| grant.ends_with(":jwt-bearer")).count();
    assert_eq!(presented, 1);
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_declared_is_read_anew_for_every_exchange_and_is_everybodys() -> Outcome {
    let at = Arc::new(AtomicU64::new(1));
    let read = Arc::clone(&at);
    let subject = Subject::Reference(Arc::new(move || {
        Ok(Secret::new(format!("workload-{}\n", read.load(std::sync::atomic::Ordering::SeqCst))))
    }));
    let house = House::with(Mode::Exchange, |exchange| exchange.subject = subject).await?;
    for number in 1..3 {
        house.provider.state().subjects.insert(format!("workload-{number}"), format!("workload {number}"));
    }
    assert!(!house.outgoing.personal() && !house.outgoing.exchanges());
    let first = house.outgoing.token(None).await?.ok_or("none")?;
    let key = Behalf::of("key:a");
    assert_eq!(house.token(&key).await?, *first.expose());
    at.store(2, std::sync::atomic::Ordering::SeqCst);
    let second = house.token(&key).await?;
    assert_ne!(second, *first.expose());
    assert_eq!(house.provider.state().tokens[&second].login, "workload 2");
    Ok(())
}
