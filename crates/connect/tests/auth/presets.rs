//! Tokens as well-known providers make them, signed by a provider of our own: each with what its preset is for, and each
//! without.

use portcullis_connect::auth::{Alg, AuthSettings, JwtIssuer, Preset};
use serde_json::{Value, json};

use crate::world::{AUDIENCE, START_S, Server, World, changed, idp, issuer, limits};

/// A provider, as it is configured and as its tokens look.
struct Provider {
    preset: Preset,
    issuer: &'static str,
    audiences: &'static [&'static str],
    claims: Value,
    /// A value of its roles claim, or a scope.
    role: &'static str,
    id: &'static str,
}

fn providers() -> Vec<Provider> {
    vec![
        Provider {
            preset: Preset::Keycloak,
            issuer: "https://kc.example/realms/main",
            audiences: &[],
            claims: json!({"aud": [AUDIENCE, "account"], "sub": "f3a1", "typ": "Bearer", "azp": "client", "jti": "onrtac:1",
                "realm_access": {"roles": ["dev", "offline_access"]}, "scope": "openid mcp", "sid": "1",
                "preferred_username": "ada", "exp": START_S + 300, "iat": START_S, "acr": "1"}),
            role: "dev",
            id: "jwt:https://kc.example/realms/main#f3a1",
        },
        Provider {
            preset: Preset::Entra,
            issuer: "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
            audiences: &["9f1c0000-0000-0000-0000-000000000000"],
            claims: json!({"aud": "9f1c0000-0000-0000-0000-000000000000", "sub": "pairwise", "oid": "o", "tid": "t",
                "roles": ["Tools.Use"], "scp": "mcp.access", "ver": "2.0", "uti": "x", "azp": "client", "azpacr": "1",
                "exp": START_S + 4000, "iat": START_S, "nbf": START_S}),
            role: "Tools.Use",
            id: "jwt:https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0#pairwise",
        },
        Provider {
            preset: Preset::Okta,
            issuer: "https://dev.okta.example/oauth2/default",
            audiences: &[],
            claims: json!({"ver": 1, "jti": "AT.x", "aud": AUDIENCE, "cid": "client", "uid": "00u1", "sub": "ada@example.org",
                "scp": ["openid", "mcp"], "groups": ["Everyone", "dev"], "exp": START_S + 3600, "iat": START_S,
                "auth_time": START_S}),
            role: "dev",
            id: "jwt:https://dev.okta.example/oauth2/default#ada@example.org",
        },
        Provider {
            preset: Preset::Auth0,
            issuer: "https://tenant.auth0.example/",
            audiences: &[],
            claims: json!({"aud": [AUDIENCE, "https://tenant.auth0.example/userinfo"], "sub": "auth0|123", "azp": "client",
                "scope": "openid mcp", "permissions": ["use:tools"], "gty": "password", "exp": START_S + 86_400,
                "iat": START_S}),
            role: "use:tools",
            id: "jwt:https://tenant.auth0.example/#auth0|123",
        },
        Provider {
            preset: Preset::Google,
            issuer: "https://accounts.google.com",
            audiences: &[],
            claims: json!({"aud": AUDIENCE, "azp": "1", "sub": "1122334455", "email": "ci@p.iam.gserviceaccount.com",
                "email_verified": true, "exp": START_S + 3600, "iat": START_S}),
            role: "ci@p.iam.gserviceaccount.com",
            id: "jwt:https://accounts.google.com#1122334455",
        },
    ]
}

fn settings(provider: &Provider, server: &Server) -> JwtIssuer {
    JwtIssuer {
        issuer: provider.issuer.into(),
        audiences: provider.audiences.iter().map(|&audience| audience.into()).collect(),
        algorithms: vec![Alg::Rs256],
        preset: Some(provider.preset),
        roles_claim: Some(provider.preset.roles_claim().into()),
        role_map: [(provider.role.to_owned(), vec!["operator".to_owned()])].into(),
        default_roles: Vec::new(),
        ..issuer(&server.url)
    }
}

fn token(provider: &Provider, changes: Value) -> String {
    let claims = changed(provider.claims.clone(), json!({"iss": provider.issuer}));
    idp().token("RS256", &changed(claims, changes))
}

#[tokio::test]
async fn a_token_of_each_known_provider_brings_the_roles_that_its_own_claim_holds() {
    let (_world, server) = World::plain().await;
    for provider in providers() {
        let world = World::of(settings(&provider, &server));
        let name = format!("{:?}", provider.preset);
        let caller = world.accepts(&name, &token(&provider, json!({}))).await;
        assert_eq!((&*caller.id, &*caller.roles), (provider.id, &["operator".to_owned()][..]), "{name}");
        let claim = provider.preset.roles_claim().split('.').next().unwrap();
        let caller = world.accepts(&name, &token(&provider, json!({claim: null}))).await;
        assert!(caller.roles.is_empty(), "{name}: without the claim there is no role");
        for (what, changes) in [
            ("another audience", json!({"aud": "https://elsewhere.example"})),
            ("another tenant", json!({"iss": format!("{}x", provider.issuer)})),
            ("no subject", json!({"sub": null})),
            ("expired", json!({"exp": START_S - 100})),
        ] {
            world.refuses(&format!("{name}: {what}"), &token(&provider, changes)).await;
        }
    }
}

#[tokio::test]
async fn what_is_peculiar_about_a_provider_is_judged_so() {
    let (_world, server) = World::plain().await;
    for provider in providers() {
        let world = World::of(settings(&provider, &server));
        let wrong: &[(&str, Value)] = match provider.preset {
            Preset::Keycloak => &[
                ("an ID token", json!({"typ": "ID"})),
                ("a refresh token", json!({"typ": "Refresh"})),
                ("a kind that comes later", json!({"typ": "Future"})),
            ],
            Preset::Google => &[
                ("an address that nobody verified", json!({"email_verified": false})),
                ("an address that nobody speaks of", json!({"email_verified": null})),
                ("verified in words", json!({"email_verified": "true"})),
            ],
            Preset::Entra => &[("two lists of scopes that differ", json!({"scope": "other"}))],
            Preset::Auth0 | Preset::Okta => &[("permissions of a wrong type", {
                let claim = provider.preset.roles_claim();
                json!({claim: {"a": 1}})
            })],
        };
        for (what, changes) in wrong {
            world
                .refuses(&format!("{:?}: {what}", provider.preset), &token(&provider, changes.clone()))
                .await;
        }
    }
}

#[tokio::test]
async fn settings_that_cannot_work_with_a_provider_stop_the_start() {
    let (_world, server) = World::plain().await;
    for (preset, wrong) in [
        (Preset::Auth0, "https://tenant.auth0.example"),
        (Preset::Entra, "https://login.microsoftonline.com/common/v2.0"),
        (Preset::Entra, "https://login.microsoftonline.com/organizations/v2.0"),
        (Preset::Entra, "https://sts.windows.net/11111111-2222-3333-4444-555555555555"),
        (Preset::Google, "accounts.google.com"),
        (Preset::Google, "https://accounts.google.com/"),
        (Preset::Keycloak, "https://kc.example/auth"),
        (Preset::Okta, "https://dev.okta.example"),
    ] {
        let with = |preset| {
            let one = JwtIssuer { issuer: wrong.into(), preset, ..issuer(&server.url) };
            World::try_new(AuthSettings { issuers: vec![one], ..AuthSettings::default() }, limits()).map(drop)
        };
        assert!(with(Some(preset)).is_err(), "{preset:?}: {wrong}");
        assert!(with(None).is_ok(), "without the preset {wrong} is an issuer like any other");
    }
}
