//! Every request is one that HashiCorp's description of the API knows, with members that it knows.

use std::{path::Path, sync::Arc, time::Duration};

use portcullis_seal::{Kek as _, Key};
use portcullis_secrets::{Keeping, Login, TransitKek, Vault};
use serde_json::{Value, json};

use super::server::{Asked, Server, reference, rig, settings};

/// The operation behind a request.
fn operation<'a>(description: &'a Value, asked: &Asked) -> Option<&'a Value> {
    let path = asked.target.split('?').next()?.strip_prefix("/v1")?;
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        // The last placeholder of a path takes whatever follows.
        let open = parts.last().is_some_and(|part| *part == "{path}" || *part == "{name}");
        let same = |(part, segment): (&&str, &&str)| part.starts_with('{') || part == segment;
        (parts.len() == segments.len() || (open && parts.len() < segments.len()))
            && parts.iter().zip(&segments).all(same)
    };
    // A mount is where Vault puts it by itself.
    let mounted = |template: &str, item: &Value| {
        let places = template.split('/').zip(&segments).filter(|(part, _)| part.ends_with("_mount_path}"));
        places.into_iter().all(|(part, segment)| {
            let name = part.trim_matches(['{', '}']);
            let parameter =
                item["parameters"].as_array().into_iter().flatten().find(|one| one["name"] == name);
            parameter.is_some_and(|one| one["schema"]["default"] == **segment)
        })
    };
    let method = asked.method.to_lowercase();
    let paths = description["paths"].as_object()?.iter();
    // The most particular one: with the fewest placeholders.
    let found = paths
        .filter(|(template, item)| fits(template) && mounted(template, item) && item.get(&method).is_some());
    let (_, item) = found.min_by_key(|(template, _)| template.matches('{').count())?;
    item.get(&method)
}

/// What is wrong with a request.
fn wrong(description: &Value, asked: &Asked) -> Option<String> {
    let Some(operation) = operation(description, asked) else {
        return Some(format!("{} {}: not in the description", asked.method, asked.target));
    };
    let sent = asked.json();
    let sent = sent.as_object()?;
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let named = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
    let schema = named.map_or(schema, |name| &description["components"]["schemas"][name]);
    let unknown: Vec<&String> =
        sent.keys().filter(|name| schema["properties"].get(name.as_str()).is_none()).collect();
    (!unknown.is_empty()).then(|| format!("{} {}: {unknown:?} unknown", asked.method, asked.target))
}

fn answer(asked: &Asked) -> (u16, String) {
    let path = asked.target.split('?').next().unwrap_or_default();
    let logs_in = path.ends_with("/login") || path.starts_with("/v1/auth/userpass/login/");
    let body = if logs_in || path == "/v1/auth/token/renew-self" {
        json!({ "auth": { "client_token": "s.1", "lease_duration": 60, "renewable": true } })
    } else if path == "/v1/sys/wrapping/unwrap" {
        json!({ "data": { "secret_id": "unwrapped" }, "auth": null })
    } else if path.starts_with("/v1/sys/internal/ui/mounts/kv-v2") {
        json!({ "data": { "path": "kv-v2/", "type": "kv", "options": { "version": "2" } } })
    } else if path.starts_with("/v1/sys/internal/ui/mounts/database") {
        json!({ "data": { "path": "database/", "type": "database", "options": null } })
    } else if path == "/v1/database/creds/app" {
        json!({ "lease_id": "database/creds/app/1", "lease_duration": 600, "renewable": true,
                "data": { "username": "u", "password": "p" } })
    } else if path == "/v1/sys/leases/renew" {
        json!({ "lease_id": "database/creds/app/1", "lease_duration": 600, "renewable": true })
    } else if path == "/v1/transit/encrypt/app" {
        json!({ "data": { "ciphertext": format!("vault:v1:{}", asked.json()["plaintext"].as_str().unwrap()), "key_version": 1 } })
    } else if path == "/v1/transit/decrypt/app" {
        let sealed = asked.json()["ciphertext"].as_str().unwrap().to_owned();
        json!({ "data": { "plaintext": sealed.strip_prefix("vault:v1:") } })
    } else if path == "/v1/kv-v2/data/app" {
        json!({ "data": { "data": { "token": "t" }, "metadata": { "version": 1 } } })
    } else {
        json!({ "data": {} })
    };
    (200, body.to_string())
}

#[tokio::test]
async fn every_request_is_one_that_the_published_description_knows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/vault/openapi.json");
    let description: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let token = reference("env:TOKEN");
    let ways = [
        Login::Token { token: token.clone(), wrapped: false },
        Login::AppRole {
            mount: "approle".into(),
            role_id: reference("env:ROLE"),
            secret_id: Some(reference("env:SECRET")),
            wrapped: true,
        },
        Login::Kubernetes { mount: "kubernetes".into(), role: "app".into(), jwt: token.clone() },
        Login::Jwt { mount: "jwt".into(), role: Some("app".into()), jwt: token.clone() },
        Login::Certificate { mount: "cert".into(), name: Some("app".into()) },
        Login::UserPass { mount: "userpass".into(), user: "alice".into(), password: token },
    ];
    let mut seen = 0;
    for login in ways {
        let server = Server::start(answer).await;
        let own = !matches!(login, Login::Token { .. });
        let rig = rig(settings(&[&server.url], login.clone()), Keeping::default());
        assert_eq!(rig.get("vault:kv-v2/app#token").await.unwrap(), "t");
        assert_eq!(rig.get("vault:database/creds/app#password").await.unwrap(), "p");
        // The token and the lease are renewed.
        rig.clock.advance(Duration::from_secs(410));
        assert_eq!(rig.get("vault:database/creds/app#username").await.unwrap(), "u");
        let renewed = || server.count("/v1/sys/leases/renew") > 0;
        for _ in 0..2_000 {
            if renewed() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(renewed(), "{login:?}: {:?}", server.asked());
        rig.broker.close().await;
        wraps(&server, login.clone(), &rig).await;
        assert_eq!(server.count("/v1/auth/token/revoke-self") > 0, own, "{login:?}");
        assert!(server.count("/v1/sys/leases/revoke") > 0, "{login:?}");
        for asked in server.asked() {
            assert_eq!(wrong(&description, &asked), None, "{login:?}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

/// A data key goes to transit and comes back, and nobody stays logged in.
async fn wraps(server: &Server, login: Login, rig: &super::server::Rig) {
    let vault = Vault::new(settings(&[&server.url], login), Arc::clone(&rig.clock) as _).unwrap();
    let kek = TransitKek::new(vault, "transit".into(), "app".into());
    let key = Key::new([7; 32]);
    let wrapped = kek.wrap(&key, "portcullis/data/1").await.unwrap();
    assert!(wrapped.starts_with("vault:v1:") && kek.id() == "vault:transit/app", "{wrapped}");
    assert_eq!(*kek.unwrap(&wrapped, "portcullis/data/1").await.unwrap(), *key);
    kek.close().await;
    let bound = json!("cG9ydGN1bGxpcy9kYXRhLzE=");
    for asked in server.asked().iter().filter(|asked| asked.target.contains("/transit/")) {
        assert_eq!(asked.json()["associated_data"], bound, "{asked:?}");
    }
}
