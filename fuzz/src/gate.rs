//! What an operator, an identity provider or an attacker writes: URLs, policies, configuration, credentials, text.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use portcullis_connect::Fetch;
use portcullis_connect::auth::{Alg, AuthSettings, Authenticator, Credentials, JwksSource, JwtIssuer, Parts};
use portcullis_core::{CallerKind, Clock, Direction, Limits, Obligations, Secret, Timestamp};
use portcullis_inspect::{InspectSettings, Inspector, Verdict, mask, verdict};
use portcullis_mcp::json::quote;
use portcullis_net::guard::{EgressPolicy, allowed, parse_url};
use portcullis_policy::{Policies, PolicySource};
use portcullis_store::{KeyRow, Keys, NewKey, StoreError};
use serde_json::Value;

/// A URL that is accepted means the same to a second reading, and a literal address in it is an allowed one.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
    let Ok(url) = parse_url(text, &policy) else { return };
    assert_eq!(parse_url(url.as_str(), &policy).as_ref(), Ok(&url), "what it prints is accepted too");
    let host = url.host_str().expect("an accepted URL has a host");
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        assert!(allowed(ip, &policy));
        assert!(!ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast(), "{ip}");
    }
    assert!(!host.eq_ignore_ascii_case("localhost"));
}

/// A policy text compiles or says where it is wrong; what compiles prints as Cedar and has a digest.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let source = PolicySource { cedar: vec![("fuzz.cedar".into(), text.into())], ..PolicySource::default() };
    match Policies::compile(&source, &Limits::default()) {
        Ok(policies) => {
            let again = Policies::compile(&source, &Limits::default()).expect("the same text compiles again");
            assert_eq!(policies.digest(), again.digest());
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "a refusal has a reason");
            let lines = text.split('\n').count() as u32;
            assert!(
                mistakes.iter().all(|mistake| mistake.line.is_none_or(|line| line >= 1 && line <= lines))
            );
        }
    }
}

/// The quick test may cry wolf, never the other way round; matches lie in the text, and masking removes them.
pub fn inspect(data: &[u8]) {
    static INSPECTOR: LazyLock<Inspector> =
        LazyLock::new(|| Inspector::new(&InspectSettings::default()).expect("the defaults are right"));
    let text = String::from_utf8_lossy(data);
    for direction in [Direction::Inward, Direction::Outward] {
        let mut found = Vec::new();
        INSPECTOR.scan(direction, "/text", &text, &mut found);
        let quoted = quote(&text);
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        if !found.is_empty() {
            let escapes = quoted.contains("\\u");
            assert!(
                INSPECTOR.quick(quoted.as_bytes(), escapes),
                "{:?} was overlooked",
                found[0].finding.kind
            );
            assert!(INSPECTOR.quick(format!("\"{escaped}\"").as_bytes(), true), "overlooked when escaped");
        }
        for one in &found {
            assert!(
                text.get(one.range.clone()).is_some_and(|piece| !piece.is_empty()),
                "a match is a piece of text"
            );
            assert!(!one.finding.place.is_empty());
        }
        if verdict(direction, &mut found, &Obligations::default()) == Verdict::Mask {
            let masked = mask(&text, &found);
            assert_ne!(masked, text);
        }
    }
}

/// A configuration is accepted or every mistake has a place; never both, never neither.
#[cfg(not(test))]
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parse = || crate::config::Config::parse(text, None, &crate::config::Overrides::default());
    match parse() {
        Ok(first) => assert_eq!(first.digest, parse().expect("the same text is accepted again").digest),
        Err(mistakes) => assert!(!mistakes.is_empty(), "a refusal has a reason"),
    }
}

/// The crate's own tests bring test crates along, so the module is left out where tests are built.
#[cfg(test)]
pub fn config(_: &[u8]) {}

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://gateway.example/mcp/one";
const SECRET: &[u8; 32] = b"thirty-two bytes, known to all!!";
const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A token of which the header and the claims are the input, rightly signed; and the input itself as a credential.
pub fn token(data: &[u8]) {
    static GATE: LazyLock<Gate> = LazyLock::new(|| Gate::new(&key_set()).expect("the key set is right"));
    if let Ok(text) = std::str::from_utf8(data) {
        let credentials = Credentials { bearer: Some(text), api_key: None };
        assert!(GATE.asks(&credentials).is_err(), "nobody signed that");
        assert!(GATE.asks(&Credentials { bearer: None, api_key: Some(text) }).is_err());
    }
    let Ok(caller) = GATE.asks_signed(data) else { return };
    let (header, claims) = crate::halves(data);
    let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
    let claims: Value = serde_json::from_slice(claims).expect("accepted claims are JSON");
    assert_eq!(header["alg"], "HS256");
    assert!(header.get("crit").is_none());
    assert_eq!(claims["iss"], ISSUER);
    let audiences = claims["aud"].as_array().cloned().unwrap_or_else(|| vec![claims["aud"].clone()]);
    assert!(audiences.iter().any(|audience| audience == AUDIENCE));
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp + 61.0 > NOW.seconds() as f64));
    let subject = claims["sub"].as_str().expect("a subject");
    assert!(caller.ends_with(subject));
}

/// Any bytes as a key set: it is read or refused, and afterwards a token without a key still gets nowhere.
pub fn jwks(data: &[u8]) {
    if let Some(gate) = Gate::new(data) {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA";
        assert!(gate.asks(&Credentials { bearer: Some(token), api_key: None }).is_err());
    }
}

fn key_set() -> Vec<u8> {
    let key = URL_SAFE_NO_PAD.encode(SECRET);
    format!(
        "{{\"keys\":[{{\"kty\":\"oct\",\"kid\":\"a\",\"alg\":\"HS256\",\"use\":\"sig\",\"k\":\"{key}\"}}]}}"
    )
    .into_bytes()
}

/// An authenticator over one issuer.
struct Gate {
    authenticator: Authenticator,
    runtime: tokio::runtime::Runtime,
}

impl Gate {
    fn new(key_set: &[u8]) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
        let file = file();
        std::fs::write(&file, key_set).ok()?;
        let issuer = JwtIssuer {
            issuer: ISSUER.into(),
            audiences: Vec::new(),
            algorithms: vec![Alg::Hs256, Alg::Es256, Alg::EdDsa, Alg::Rs256],
            jwks: JwksSource::File(file.clone()),
            roles_claim: Some("realm.roles".into()),
            role_map: BTreeMap::from([("a".into(), vec!["reader".into()])]),
            default_roles: Vec::new(),
            kind: CallerKind::User,
            claims: vec!["team".into()],
            require_typ_at_jwt: false,
            leeway_s: 60,
            max_lifetime_s: 1 << 40,
        };
        let settings = AuthSettings { api_keys: true, issuers: vec![issuer], anonymous_roles: None };
        let parts = Parts {
            keys: Arc::new(NoKeys),
            pepper: Secret::new(vec![1; 32]),
            clock: Arc::new(Stopped),
            fetch: Arc::new(NoNet),
            limits: Limits { token_cache_max: 0, ..Limits::default() },
        };
        let _inside = runtime.enter();
        let authenticator = Authenticator::new(settings, parts).ok();
        let _ = std::fs::remove_file(file);
        drop(_inside);
        Some(Self { authenticator: authenticator?, runtime })
    }

    /// As [`Self::asks`], with a token of the header and the claims in `data`.
    fn asks_signed(&self, data: &[u8]) -> Result<String, String> {
        let (header, claims) = crate::halves(data);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        self.asks(&Credentials { bearer: Some(&token), api_key: None })
    }

    /// The caller's id, or why not.
    fn asks(&self, credentials: &Credentials<'_>) -> Result<String, String> {
        let caller = self.runtime.block_on(self.authenticator.authenticate(credentials, AUDIENCE));
        caller.map(|caller| caller.id.to_string()).map_err(|error| error.to_string())
    }
}

/// Key sets are read from files.
fn file() -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("portcullis-fuzz-{}-{number}.json", std::process::id()))
}

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn ticks_us(&self) -> u64 {
        0
    }
}

#[derive(Debug)]
struct NoNet;

#[async_trait]
impl Fetch for NoNet {
    async fn get(&self, _: &::url::Url, _: u64, _: u64) -> Result<Bytes, String> {
        Err("no network here".into())
    }
}

#[derive(Debug)]
struct NoKeys;

#[async_trait]
impl Keys for NoKeys {
    async fn create(&self, _: NewKey) -> Result<Arc<KeyRow>, StoreError> {
        unreachable!("nothing here makes keys")
    }

    async fn list(&self) -> Result<Vec<Arc<KeyRow>>, StoreError> {
        Ok(Vec::new())
    }

    async fn revoke(&self, _: &str, _: &str, _: Timestamp) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn find(&self, _: &str) -> Option<Arc<KeyRow>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(file: &str) -> Vec<u8> {
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(file)).unwrap()
    }

    #[test]
    fn the_seeds_reach_beyond_the_first_refusal() {
        let gate = Gate::new(&key_set()).unwrap();
        for file in ["token/right", "token/list"] {
            let input = seed(file);
            assert!(gate.asks_signed(&input).is_ok(), "{file}: {:?}", gate.asks_signed(&input));
        }
        assert!(gate.asks_signed(&seed("token/crit")).is_err());
        for file in ["jwks/oct", "jwks/ec"] {
            assert!(Gate::new(&seed(file)).is_some(), "{file}");
        }
        let policy = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
        assert!(parse_url(std::str::from_utf8(&seed("url/plain")).unwrap(), &policy).is_ok());
        for file in ["policy/permit", "policy/sets"] {
            let text = String::from_utf8(seed(file)).unwrap();
            let source = PolicySource { cedar: vec![(file.into(), text)], ..PolicySource::default() };
            assert_eq!(Policies::compile(&source, &Limits::default()).err(), None, "{file}");
        }
        let inspector = Inspector::new(&InspectSettings::default()).unwrap();
        for file in ["inspect/email", "inspect/card", "inspect/credentials", "inspect/pem", "inspect/unicode"]
        {
            let mut found = Vec::new();
            inspector.scan(Direction::Outward, "/", &String::from_utf8(seed(file)).unwrap(), &mut found);
            assert!(!found.is_empty(), "{file}");
        }
    }
}
