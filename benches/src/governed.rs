//! What it costs to be governed: 200 policies in 50 roles, and callers with tokens of an identity provider.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_connect::auth::{
    Alg, AuthSettings, Authenticator, Credentials, JwksSource, JwtIssuer, Parts, ProofMemory, Route,
};
use portcullis_core::{
    Action, Caller, Clock, Digest, Entropy, Limits, Secret, Target, TargetKind, Timestamp,
};
use portcullis_policy::{Policies, PolicySource, RequestContext, Role, Rule};
use portcullis_store::Sqlite;
use serde_json::json;

use crate::payload::TOOL;

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);
pub(crate) const ISSUER: &str = "https://login.example";
pub(crate) const ROUTE: &str = "https://gateway.example/mcp/bench";

/// Time stands still, so that a token stays valid.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn ticks_us(&self) -> u64 {
        1_000_000
    }
}

/// Nothing secret is made with it here.
#[derive(Debug)]
struct Constant;

impl Entropy for Constant {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// 200 policies in 50 roles; with `by_time` one of a role that the caller has asks for the time, so that nothing is
/// remembered.
fn policies(limits: &Limits, by_time: bool) -> Result<Policies> {
    let mut roles = Vec::new();
    for role in 0..50 {
        let names = [format!("tool{role}_*"), format!("read{role}"), TOOL.to_owned(), format!("{role}-list")];
        let rule = |name: String| -> Result<Rule> {
            let items = vec![name.parse().context("a pattern")?];
            Ok(Rule {
                actions: vec![Action::CallTool],
                kinds: vec![TargetKind::Tool],
                items,
                ..Rule::permit()
            })
        };
        let rules = names.into_iter().map(rule).collect::<Result<Vec<_>>>()?;
        roles.push(Role { name: format!("role{role}"), doc: None, inherits: Vec::new(), rules });
    }
    let timed = "forbid (principal in Role::\"role7\", action, resource) when { context.hour == 99 };";
    let cedar = if by_time { vec![("timed.cedar".to_owned(), timed.to_owned())] } else { Vec::new() };
    let source = PolicySource { roles, cedar, ..PolicySource::default() };
    let Ok(policies) = Policies::compile(&source, limits) else { bail!("the 200 policies do not compile") };
    Ok(policies)
}

/// Whose call is measured.
pub(crate) fn caller() -> Caller {
    Caller { id: "key:abcdefghijkm".into(), ..Caller::anonymous(Arc::from(["operator".to_owned()])) }
}

/// What is called.
pub(crate) fn target() -> Target {
    let item = Some((TargetKind::Tool, TOOL.into()));
    Target { server: "bench".into(), item, digest: Some(Digest::of(b"definition")) }
}

/// A caller with two of the 50 roles.
fn of_two() -> Caller {
    Caller { roles: Arc::from(["role7".to_owned(), "role8".to_owned()]), ..caller() }
}

/// One decision.
pub(crate) fn decide(limits: &Limits, by_time: bool) -> Result<Box<dyn FnMut()>> {
    let (policies, caller, target) = (policies(limits, by_time)?, of_two(), target());
    let context = RequestContext::new(NOW, "2025-11-25");
    ensure!(policies.decide(&caller, Action::CallTool, &target, None, &context).is_allowed());
    Ok(Box::new(move || {
        drop(black_box(policies.decide(black_box(&caller), Action::CallTool, &target, None, &context)));
    }))
}

/// Which of 500 tools are shown, each decided anew.
pub(crate) fn filter(limits: &Limits) -> Result<Box<dyn FnMut()>> {
    let (policies, caller) = (policies(limits, true)?, of_two());
    let context = RequestContext::new(NOW, "2025-11-25");
    let tool = |n: u32| {
        let item = Some((TargetKind::Tool, format!("tool{}_{n}", n % 50).into()));
        Target { server: "bench".into(), item, digest: None }
    };
    let tools: Vec<Target> = (0..500).map(tool).collect();
    let shown = move || {
        let sees = |tool: &&Target| policies.may_see(&caller, Action::CallTool, tool, &context);
        tools.iter().filter(sees).count()
    };
    ensure!(shown() == 20, "two of the 50 roles see ten tools each");
    Ok(Box::new(move || {
        black_box(shown());
    }))
}

/// A token that was seen before, and one decision about its caller.
pub(crate) fn authenticate_and_decide(limits: &Limits, by_time: bool) -> Result<Box<dyn FnMut()>> {
    let (policies, target) = (policies(limits, by_time)?, target());
    let folder = tempfile::tempdir()?;
    let (key, token) = shared();
    let authenticator = authenticator(limits, folder.path(), &key, vec![Alg::Hs256])?;
    let route = Route::at(ROUTE);
    let context = RequestContext::new(NOW, "2025-11-25");
    let known = |authenticator: &Authenticator| -> Option<Arc<Caller>> {
        authenticator.try_now(&credentials(&token), &route)?.ok()
    };
    let first = crate::single()?.block_on(authenticator.authenticate(&credentials(&token), &route));
    let Ok(first) = first else { bail!("the token is not accepted") };
    ensure!(policies.decide(&first, Action::CallTool, &target, None, &context).is_allowed());
    ensure!(known(&authenticator).is_some(), "the token is not remembered");
    Ok(Box::new(move || {
        // The key set is read again from its file now and then.
        let _ = &folder;
        let Some(Ok(caller)) = authenticator.try_now(&credentials(black_box(&token)), &route) else { return };
        drop(black_box(policies.decide(&caller, Action::CallTool, &target, None, &context)));
    }))
}

pub(crate) fn credentials(token: &str) -> Credentials<'_> {
    Credentials { bearer: Some(token), ..Credentials::default() }
}

/// A token of a provider with one shared key, and that key.
fn shared() -> (serde_json::Value, String) {
    let secret = [7; 32];
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let key = json!({"kty": "oct", "alg": "HS256", "kid": "k", "k": encode(&secret)});
    let head = json!({"alg": "HS256", "typ": "at+jwt", "kid": "k"});
    let now = NOW.seconds();
    let claims = json!({"iss": ISSUER, "aud": ROUTE, "sub": "ada", "iat": now - 60, "exp": now + 600, "client_id": "c",
        "jti": "1", "groups": ["seven", "eight"], "scope": "openid profile mcp", "email": "ada@corp.example"});
    let input = format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
    (key, format!("{input}.{}", encode(tag.as_ref())))
}

/// Who judges tokens of a provider with one key, which stays in `folder`; two groups bring one role each.
pub(crate) fn authenticator(
    limits: &Limits,
    folder: &Path,
    key: &serde_json::Value,
    algorithms: Vec<Alg>,
) -> Result<Authenticator> {
    let file = folder.join("keys.json");
    std::fs::write(&file, json!({"keys": [key]}).to_string())?;
    let role = |n: u32| vec![format!("role{n}")];
    let issuer = JwtIssuer {
        issuer: ISSUER.to_owned(),
        jwks: JwksSource::File(file),
        roles_claim: Some("groups".to_owned()),
        role_map: BTreeMap::from([("seven".to_owned(), role(7)), ("eight".to_owned(), role(8))]),
        ..JwtIssuer::default()
    };
    let issuer = if algorithms.is_empty() { issuer } else { JwtIssuer { algorithms, ..issuer } };
    let parts = Parts {
        keys: Arc::new(Sqlite::open(folder.join("portcullis.db"))?),
        pepper: Some(Secret::new(vec![1; 32])),
        clock: Arc::new(Still),
        proofs: Arc::new(ProofMemory::new(&Constant)),
        limits: limits.clone(),
    };
    let settings = AuthSettings { issuers: vec![issuer], ..AuthSettings::default() };
    Authenticator::new(settings, parts).map_err(|error| anyhow!("{error}"))
}
