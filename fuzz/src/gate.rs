//! What an operator, an identity provider or an attacker writes: URLs, policies, configuration, credentials, text.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_config::{Config, Overrides};
use portcullis_connect::auth::{
    Alg, AuthSettings, Authenticator, Credentials, JwksSource, JwtIssuer, Parts, ProofMemory, Route,
};
use portcullis_core::{Clock, Digest, Direction, Entropy, Limits, Obligations, Secret, Timestamp};
use portcullis_inspect::{InspectSettings, Inspector, Match, Role, Subject, Verdict, Window, mask, verdict};
use portcullis_mcp::json::quote;
use portcullis_meaning::{Dialect, HostRule, Meaning, PathRule, SqlRule, UrlRule};
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

/// No text makes a meaning panic or take long; a path or URL that passes is what another reader takes it for.
pub fn meaning(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let path = PathRule::new(["/srv/docs"], true).expect("the folder is right");
    if Meaning::Path(path).check(&text).is_ok() && !text.contains(':') {
        let mut stack = vec!["srv", "docs"];
        if text.starts_with('/') {
            stack.clear();
        }
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(stack.pop()),
                other => stack.push(other),
            }
        }
        assert!(stack.starts_with(&["srv", "docs"]), "{text:?} leaves");
    }
    let hosts = HostRule::new(["*.example.com"], false).expect("the pattern is right");
    let schemes = vec!["https".to_owned()];
    if Meaning::Url(UrlRule { hosts, schemes, ports: Vec::new() }).check(&text).is_ok() {
        let parsed = url::Url::parse(&text).expect("a URL that passes is one");
        let host = parsed.host_str().expect("and has a host").trim_end_matches('.');
        assert!(host.ends_with(".example.com") && parsed.port().is_none(), "{text:?} leads to {host}");
        assert!(parsed.username().is_empty() && parsed.password().is_none());
    }
    for dialect in [Dialect::Generic, Dialect::MsSql, Dialect::MySql, Dialect::PostgreSql, Dialect::Sqlite] {
        let rule = SqlRule { dialect, tables: None, functions: None };
        if Meaning::Sql(rule).check(&text).is_ok() {
            let first = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';');
            let first: String = first.chars().take_while(char::is_ascii_alphabetic).collect();
            assert!(
                ["select", "table", "values", "with", "from"].contains(&first.to_ascii_lowercase().as_str()),
                "{text:?} is read as a query"
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
                INSPECTOR.quick(direction, quoted.as_bytes(), escapes),
                "{:?} was overlooked",
                found[0].finding.kind
            );
            assert!(
                INSPECTOR.quick(direction, format!("\"{escaped}\"").as_bytes(), true),
                "overlooked when escaped"
            );
        }
        for one in &found {
            assert!(
                text.get(one.range.clone()).is_some_and(|piece| !piece.is_empty()),
                "a match is a piece of text"
            );
            assert!(!one.finding.place.is_empty());
        }
        cut(&INSPECTOR, direction, &text, data.first().copied().unwrap_or_default());
        if verdict(direction, &mut found, &Obligations::default()) == Verdict::Mask {
            let masked = mask(&text, &found);
            assert_ne!(masked, text);
        }
    }
}

/// Wherever a stream is cut, what ends behind the cut is found as in the whole, as far as a window remembers.
fn cut(inspector: &Inspector, direction: Direction, text: &str, at: u8) {
    let at = usize::from(at) % (text.len() + 1);
    let Some((first, second)) = text.split_at_checked(at).filter(|_| text.len() <= Window::BYTES) else {
        return;
    };
    let (mut whole, mut window, mut found) = (Vec::new(), Window::default(), Vec::new());
    inspector.scan(direction, "/text", text, &mut whole);
    for text in [first, second] {
        found.clear();
        let subject = Subject { role: Role::of(direction, "/text"), place: "/text", text };
        inspector.scan_event(&subject, &mut window, &mut inspector.budget(), &mut found);
    }
    for one in whole.iter().filter(|one| one.range.end > at) {
        let part = one.range.start.saturating_sub(at)..one.range.end - at;
        let same = |other: &Match| {
            other.finding.kind == one.finding.kind
                && other.range.start < part.end
                && part.start < other.range.end
        };
        assert!(found.iter().any(same), "a cut hides {}", one.finding.kind);
    }
}

/// A configuration is accepted or every mistake has a place; never both, never neither.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parse = || Config::parse(text, None, &Overrides::default());
    match parse() {
        Ok(first) => assert_eq!(first.digest, parse().expect("the same text is accepted again").digest),
        Err(mistakes) => assert!(!mistakes.is_empty(), "a refusal has a reason"),
    }
}

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://gateway.example/mcp/one";
const SECRET: &[u8; 32] = b"thirty-two bytes, known to all!!";
const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A token of which the header and the claims are the input, rightly signed; and the input itself as a credential.
pub fn token(data: &[u8]) {
    static GATE: LazyLock<Gate> = LazyLock::new(|| Gate::new(&key_set()).expect("the key set is right"));
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(GATE.asks(&bearing(text)).is_err(), "nobody signed that");
        assert!(GATE.asks(&Credentials { api_key: Some(text), ..Credentials::default() }).is_err());
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
        assert!(gate.asks(&bearing(token)).is_err());
    }
}

/// A proof of possession of which the header and the claims are the input, rightly signed with the key that the token is
/// bound to; and the input itself as a proof.
pub fn proof(data: &[u8]) {
    static HOLDER: LazyLock<Holder> = LazyLock::new(Holder::new);
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(HOLDER.shows(text).is_err(), "nobody signed that");
    }
    if HOLDER.shows(&HOLDER.signed(data)).is_err() {
        return;
    }
    let (header, claims) = crate::halves(data);
    let header: Value = serde_json::from_slice(header).expect("an accepted header is JSON");
    let claims: Value = serde_json::from_slice(claims).expect("accepted claims are JSON");
    assert_eq!((&header["typ"], &header["alg"]), (&"dpop+jwt".into(), &"EdDSA".into()));
    assert!(header.get("crit").is_none() && header["jwk"].get("d").is_none());
    assert_eq!(header["jwk"]["x"], URL_SAFE_NO_PAD.encode(HOLDER.key.public_key().as_ref()));
    assert_eq!(claims["htm"], "POST");
    let target = url::Url::parse(claims["htu"].as_str().expect("a target")).expect("a URL");
    assert_eq!((target.host_str(), target.path()), (Some("gateway.example"), "/mcp/one"));
    assert_eq!(claims["ath"], URL_SAFE_NO_PAD.encode(Digest::of(HOLDER.token.as_bytes()).0));
    assert!(claims["iat"].as_f64().is_some_and(|iat| (iat - NOW.seconds() as f64).abs() <= 60.0));
    assert!(claims["jti"].as_str().is_some_and(|id| !id.is_empty() && id.len() <= 256));
}

fn bearing(text: &str) -> Credentials<'_> {
    Credentials { bearer: Some(text), method: "POST", ..Credentials::default() }
}

/// Whoever holds a token, and the key that it is bound to.
struct Holder {
    gate: Gate,
    key: Ed25519KeyPair,
    token: String,
}

impl Holder {
    fn new() -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed makes a key");
        let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
        let thumbprint = Digest::of(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes());
        // As text: the seeds name the digest of the token.
        let claims = format!(
            r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"a","exp":1800000600,"cnf":{{"jkt":"{}"}}}}"#,
            URL_SAFE_NO_PAD.encode(thumbprint.0)
        );
        let token = tagged(br#"{"alg":"HS256","kid":"a"}"#, claims.as_bytes());
        Self { gate: Gate::new(&key_set()).expect("the key set is right"), key, token }
    }

    fn signed(&self, data: &[u8]) -> String {
        let (header, claims) = crate::halves(data);
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn shows(&self, proof: &str) -> Result<String, String> {
        self.gate.asks(&Credentials { dpop_scheme: true, dpop: Some(proof), ..bearing(&self.token) })
    }
}

fn tagged(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
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
            algorithms: vec![Alg::Hs256, Alg::Es256, Alg::EdDsa, Alg::Rs256],
            jwks: JwksSource::File(file.clone()),
            roles_claim: Some("realm.roles".into()),
            role_map: BTreeMap::from([("a".into(), vec!["reader".into()])]),
            claims: vec!["team".into()],
            max_lifetime_s: 1 << 40,
            ..JwtIssuer::default()
        };
        let settings = AuthSettings { api_keys: true, issuers: vec![issuer], ..AuthSettings::default() };
        let parts = Parts {
            keys: Arc::new(NoKeys),
            pepper: Some(Secret::new(vec![1; 32])),
            clock: Arc::new(Leaping::default()),
            proofs: Arc::new(ProofMemory::new(&Leaping::default())),
            // The clock leaps, and the file is gone.
            limits: Limits { token_cache_max: 0, jwks_refresh_ms: u64::MAX, ..Limits::default() },
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
        self.asks(&bearing(&tagged(header, claims)))
    }

    /// The caller's id, or why not.
    fn asks(&self, credentials: &Credentials<'_>) -> Result<String, String> {
        let caller =
            self.runtime.block_on(self.authenticator.authenticate(credentials, &Route::at(AUDIENCE)));
        caller.map(|caller| caller.id.to_string()).map_err(|error| error.to_string())
    }
}

/// Key sets are read from files.
fn file() -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("portcullis-fuzz-{}-{number}.json", std::process::id()))
}

/// Its wall clock stands, and its ticks leap further than a proof is remembered: mutations of one proof share its id.
#[derive(Debug, Default)]
struct Leaping(std::sync::atomic::AtomicU64);

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn ticks_us(&self) -> u64 {
        self.0.fetch_add(1_000_000_000, std::sync::atomic::Ordering::Relaxed)
    }
}

impl Entropy for Leaping {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
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
        let holder = Holder::new();
        for (file, right) in [("proof/right", true), ("proof/query", true), ("proof/private", false)] {
            let shown = holder.shows(&holder.signed(&seed(file)));
            assert_eq!(shown.is_ok(), right, "{file}: {shown:?}");
        }
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
