//! A Vault that is sealed, slow, forgetful or somebody else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis_secrets::{Failure, Keeping, Login};
use serde_json::json;

use super::server::{Asked, Server, reference, rig, settings, token};

fn document(value: &str) -> (u16, String) {
    (200, json!({ "data": { "data": { "f": value }, "metadata": { "version": 1 } } }).to_string())
}

fn says(status: u16, error: &str) -> (u16, String) {
    (status, json!({ "errors": [error] }).to_string())
}

#[tokio::test]
async fn a_sealed_node_is_passed_over_and_a_busy_one_asked_again() {
    let sealed = Server::start(|_| says(503, "Vault is sealed")).await;
    let busy = AtomicUsize::new(0);
    let good = Server::start(move |asked: &Asked| {
        if busy.fetch_add(1, Ordering::SeqCst) < 2 {
            return says(429, "too many requests");
        }
        if asked.target == "/v1/secret/data/app" { document("v") } else { says(404, "") }
    })
    .await;
    let rig = rig(settings(&[&sealed.url, &good.url], token()), Keeping::default());
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v");
    assert!(!sealed.asked().is_empty());
    let before = sealed.asked().len();
    rig.clock.advance(Duration::from_secs(400));
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v");
    assert_eq!(sealed.asked().len(), before, "the node that answered is asked first");
}

#[tokio::test]
async fn a_vault_that_is_sealed_everywhere_refuses_with_its_own_words() {
    let sealed = Server::start(|_| says(503, "Vault is sealed")).await;
    let rig = rig(settings(&[&sealed.url], token()), Keeping::default());
    let failure = rig.get("vault:secret/app#f").await.unwrap_err();
    assert!(matches!(&failure, Failure::Unavailable(text) if text.contains("Vault is sealed")), "{failure}");
    // A moment later nobody waits for the same answer again.
    let before = sealed.asked().len();
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap_err(), failure);
    assert_eq!(sealed.asked().len(), before);
}

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_by_a_new_login_and_the_call_does_not_fail() {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&logins);
    let server = Server::start(move |asked: &Asked| {
        if asked.target == "/v1/auth/approle/login" {
            let token = format!("s.{}", count.fetch_add(1, Ordering::SeqCst) + 1);
            let auth = json!({ "client_token": token, "lease_duration": 3600, "renewable": true });
            return (200, json!({ "auth": auth }).to_string());
        }
        match (asked.target.as_str(), asked.token()) {
            ("/v1/secret/data/app", "s.1") if count.load(Ordering::SeqCst) == 1 => document("first"),
            ("/v1/secret/data/app", "s.2") => document("second"),
            _ => says(403, "permission denied"),
        }
    })
    .await;
    let login = Login::AppRole {
        mount: "approle".into(),
        role_id: reference("env:ROLE"),
        secret_id: Some(reference("env:SECRET")),
        wrapped: false,
    };
    let rig = rig(settings(&[&server.url], login), Keeping::default());
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "first");
    // Somebody revokes the token.
    logins.store(1, Ordering::SeqCst);
    rig.clock.advance(Duration::from_secs(301));
    // `s.1` is taken for the document only while there was one login: now it is refused, and a new one is made.
    let server_refuses = rig.get("vault:secret/other#f").await.unwrap_err();
    assert!(matches!(server_refuses, Failure::Forbidden(_)), "{server_refuses}");
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "second");
}

#[tokio::test]
async fn a_wrapping_token_that_was_used_before_says_so() {
    let server = Server::start(|_| says(400, "wrapping token is not valid or does not exist")).await;
    let login = Login::Token { token: reference("env:TOKEN"), wrapped: true };
    let rig = rig(settings(&[&server.url], login), Keeping::default());
    let failure = rig.get("vault:secret/app#f").await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Forbidden(text) if text.contains("somebody else may have used it")),
        "{failure}"
    );
    assert_eq!(server.count("/v1/sys/wrapping/unwrap"), 1, "what may be used once is sent once");
}

#[tokio::test]
async fn credentials_with_a_lease_are_renewed_replaced_near_the_end_and_given_back() {
    let made = Arc::new(AtomicUsize::new(0));
    let short = Arc::new(AtomicBool::new(false));
    let (count, ending) = (Arc::clone(&made), Arc::clone(&short));
    let server = Server::start(move |asked: &Asked| match asked.target.as_str() {
        "/v1/database/creds/app" => {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let data = json!({ "username": format!("u{number}"), "password": format!("p{number}") });
            let lease = format!("database/creds/app/{number}");
            (
                200,
                json!({ "lease_id": lease, "lease_duration": 300, "renewable": true, "data": data })
                    .to_string(),
            )
        }
        "/v1/sys/leases/renew" => {
            let lasts = if ending.load(Ordering::SeqCst) { 10 } else { 300 };
            let lease = asked.json()["lease_id"].clone();
            (200, json!({ "lease_id": lease, "lease_duration": lasts, "renewable": true }).to_string())
        }
        target if target.starts_with("/v1/sys/internal/ui/mounts/") => {
            (200, json!({ "data": { "path": "database/", "type": "database" } }).to_string())
        }
        _ => (200, json!({ "data": {} }).to_string()),
    })
    .await;
    let rig = rig(settings(&[&server.url], token()), Keeping::default());
    let both = async || {
        let user = rig.get("vault:database/creds/app#username").await.unwrap();
        (user, rig.get("vault:database/creds/app#password").await.unwrap())
    };
    assert_eq!(both().await, ("u1".into(), "p1".into()), "name and password are of one lease");
    for _ in 0..3 {
        rig.clock.advance(Duration::from_secs(250));
        let before = server.count("/v1/sys/leases/renew");
        assert_eq!(both().await, ("u1".into(), "p1".into()));
        until(|| server.count("/v1/sys/leases/renew") > before).await;
        // The renewed lease is in force once its time counts from now.
        until(|| rig.broker.states().iter().any(|state| state.leased && state.remaining_s > 200)).await;
    }
    // The longest time is near: the server gives less than was asked for.
    short.store(true, Ordering::SeqCst);
    rig.clock.advance(Duration::from_secs(250));
    assert_eq!(both().await, ("u1".into(), "p1".into()), "the old one is good to its end");
    until(|| made.load(Ordering::SeqCst) == 2).await;
    until(|| !rig.record.rotated.lock().unwrap().is_empty()).await;
    until_value(&rig, "u2").await;
    rig.broker.close().await;
    let revoked = |number: usize| {
        let lease = format!("database/creds/app/{number}");
        server
            .asked()
            .iter()
            .any(|asked| asked.target == "/v1/sys/leases/revoke" && asked.json()["lease_id"] == *lease)
    };
    assert!(revoked(2), "what is in force is given back at the end");
}

async fn until_value(rig: &super::server::Rig, value: &str) {
    for _ in 0..2_000 {
        if rig.get("vault:database/creds/app#username").await.unwrap() == value {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {value}");
}

/// Waits for what comes in the background.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came");
}

#[tokio::test]
async fn a_vault_that_is_slow_is_given_up_in_time_and_a_held_value_is_used_meanwhile() {
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let server = Server::start(move |asked: &Asked| {
        if is_slow.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(400));
        }
        if asked.target == "/v1/secret/data/app" { document("v") } else { says(404, "") }
    })
    .await;
    let mut settings = settings(&[&server.url], token());
    settings.reach.timeout = Duration::from_millis(200);
    let rig = rig(settings, Keeping { lasts: Duration::from_secs(30), ..Keeping::default() });
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v");
    slow.store(true, Ordering::SeqCst);
    rig.clock.advance(Duration::from_secs(25));
    let begun = std::time::Instant::now();
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v");
    assert!(begun.elapsed() < Duration::from_millis(150), "nobody waits while what is held is good");
    rig.clock.advance(Duration::from_secs(25));
    let failure = rig.get("vault:secret/app#f").await.unwrap_err();
    assert!(failure.passing() && begun.elapsed() < Duration::from_secs(20), "{failure}");
}

#[tokio::test]
async fn a_vault_whose_certificate_nobody_vouches_for_is_told_nothing() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let (told, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (bytes, doors) = (Arc::clone(&told), Arc::clone(&heard));
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            doors.fetch_add(1, Ordering::SeqCst);
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut head = [0; 1_024];
                let read = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.unwrap_or(0);
                bytes.fetch_add(read, Ordering::SeqCst);
            }
        }
    });
    for (roots, trusted) in [(Vec::new(), false), (vec![made.cert.pem().into_bytes()], true)] {
        told.store(0, Ordering::SeqCst);
        let mut settings = settings(&[&url], token());
        settings.reach.roots_pem = roots;
        let rig = rig(settings, Keeping::default());
        let failure = rig.get("vault:secret/app#f").await.unwrap_err();
        assert!(failure.passing(), "{failure}");
        assert_eq!(told.load(Ordering::SeqCst) > 0, trusted, "{failure}");
    }
    assert!(heard.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn an_account_that_an_engine_keeps_gets_a_new_password_and_nothing_else_is_rotated_at_its_source() {
    let password = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&password);
    let server = Server::start(move |asked: &Asked| match (asked.method.as_str(), asked.target.as_str()) {
        ("POST", "/v1/database/rotate-role/app") => {
            now.fetch_add(1, Ordering::SeqCst);
            (204, String::new())
        }
        ("GET", "/v1/database/static-creds/app") => {
            let data = json!({"password": format!("p{}", now.load(Ordering::SeqCst)), "ttl": 300,
                "last_vault_rotation": "2026-11-23T15:00:00Z"});
            (200, json!({ "data": data, "lease_duration": 0, "lease_id": "" }).to_string())
        }
        ("GET", "/v1/sys/internal/ui/mounts/database/static-creds/app") => {
            (200, json!({"data": {"path": "database/", "type": "database"}}).to_string())
        }
        ("GET", "/v1/secret/data/app") => document("v"),
        _ => says(404, ""),
    })
    .await;
    let rig = rig(settings(&[&server.url], token()), Keeping::default());
    let account = reference("vault:database/static-creds/app#password");
    assert_eq!(rig.get("vault:database/static-creds/app#password").await.unwrap(), "p1");
    let renewed = rig.broker.renew(&account, true).await.unwrap();
    assert_eq!(renewed[0].changed, Some(true));
    assert_eq!(rig.get("vault:database/static-creds/app#password").await.unwrap(), "p2");
    assert_eq!(*rig.record.rotated.lock().unwrap(), ["vault:database/static-creds/app"]);
    let state = rig.broker.states().remove(0);
    assert_eq!(state.created.map(|at| at.to_string()), Some("2026-11-23T15:00:00.000Z".into()));
    let failure = rig.broker.renew(&reference("vault:secret/app#f"), true).await.unwrap_err();
    assert!(failure.to_string().contains("static-creds"), "{failure}");
    assert_eq!(server.count("/v1/secret/data/app"), 0, "what cannot be done is not half done");
    let personal = rig.broker.renew(&reference("vault:users/{caller.id}/x#f"), true).await.unwrap_err();
    assert!(personal.to_string().contains("differs by caller"), "{personal}");
}
