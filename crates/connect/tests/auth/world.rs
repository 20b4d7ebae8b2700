//! A gateway's authentication with everything around it: a clock to turn, an identity provider that signs, a server
//! for its keys that behaves as told.

use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    hmac,
    rand::{SecureRandom as _, SystemRandom},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_connect::auth::{
    Alg, AuthError, AuthSettings, Authenticator, Credentials, IssuerDown, JwksSource, JwtIssuer, Parts,
    ProofMemory, Route,
};
use portcullis_core::{Caller, Clock, Code, Entropy, Limits, Secret, Timestamp};
use portcullis_store::Sqlite;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const AUDIENCE: &str = "https://gateway.example/mcp/files";
/// When every world begins.
pub(crate) const START_S: u64 = 1_790_000_000;

/// A clock that is turned by hand.
#[derive(Debug)]
pub(crate) struct HandClock {
    now_ms: AtomicU64,
    ticks_us: AtomicU64,
}

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicU64::new(START_S * 1000), ticks_us: AtomicU64::new(1_000_000) })
    }

    pub(crate) fn advance_ms(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.ticks_us.fetch_add(ms * 1000, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_ms.load(Ordering::SeqCst))
    }

    fn ticks_us(&self) -> u64 {
        self.ticks_us.load(Ordering::SeqCst)
    }
}

/// The system's randomness.
#[derive(Debug)]
pub(crate) struct Chance;

impl Entropy for Chance {
    fn fill(&self, out: &mut [u8]) {
        SystemRandom::new().fill(out).unwrap();
    }
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An identity provider: one key of each kind.
pub(crate) struct Idp {
    pub(crate) rsa: RsaKeyPair,
    pub(crate) p256: EcdsaKeyPair,
    pub(crate) p384: EcdsaKeyPair,
    pub(crate) ed: Ed25519KeyPair,
}

static IDP: LazyLock<Idp> = LazyLock::new(Idp::new);
static STRANGER: LazyLock<Idp> = LazyLock::new(Idp::new);

/// The provider that worlds trust.
pub(crate) fn idp() -> &'static Idp {
    &IDP
}

/// A provider that nobody trusts.
pub(crate) fn stranger() -> &'static Idp {
    &STRANGER
}

impl Idp {
    pub(crate) fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    pub(crate) fn rsa_jwk(&self) -> Value {
        let key = self.rsa.public_key();
        let bytes = |number: &[u8]| b64(number);
        json!({"kty": "RSA", "kid": "rsa", "n": bytes(key.modulus().big_endian_without_leading_zero()),
               "e": bytes(key.exponent().big_endian_without_leading_zero())})
    }

    pub(crate) fn rsa_spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.rsa.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    fn ec_jwk(pair: &EcdsaKeyPair, kid: &str, curve: &str, bytes: usize) -> Value {
        let point = &pair.public_key().as_ref()[1..];
        json!({"kty": "EC", "crv": curve, "kid": kid, "x": b64(&point[..bytes]), "y": b64(&point[bytes..])})
    }

    pub(crate) fn p256_jwk(&self) -> Value {
        Self::ec_jwk(&self.p256, "p256", "P-256", 32)
    }

    pub(crate) fn ed_jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(self.ed.public_key())})
    }

    pub(crate) fn jwks(&self) -> Value {
        let p384 = Self::ec_jwk(&self.p384, "p384", "P-384", 48);
        json!({"keys": [self.rsa_jwk(), self.p256_jwk(), p384, self.ed_jwk()]})
    }

    fn rsa_sign(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    pub(crate) fn sign(&self, with: &str, message: &[u8]) -> Vec<u8> {
        let chance = SystemRandom::new();
        match with {
            "RS256" => self.rsa_sign(&RSA_PKCS1_SHA256, message),
            "RS512" => self.rsa_sign(&RSA_PKCS1_SHA512, message),
            "PS256" => self.rsa_sign(&RSA_PSS_SHA256, message),
            "ES256" => self.p256.sign(&chance, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&chance, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            _ => panic!("no such algorithm: {with}"),
        }
    }

    /// A token of these texts, signed.
    pub(crate) fn raw(&self, with: &str, header: &str, payload: impl AsRef<[u8]>) -> String {
        let signed = format!("{}.{}", b64(header), b64(payload));
        let signature = self.sign(with, signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }

    /// A token with these claims and the plain header that goes with the algorithm.
    pub(crate) fn token(&self, with: &str, claims: &Value) -> String {
        self.raw(with, &header(with).to_string(), claims.to_string())
    }
}

/// The plain header that goes with an algorithm.
pub(crate) fn header(alg: &str) -> Value {
    let kid = match alg {
        "ES256" => "p256",
        "ES384" => "p384",
        "EdDSA" => "ed",
        _ => "rsa",
    };
    json!({"alg": alg, "typ": "JWT", "kid": kid})
}

/// Claims that are accepted.
pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": START_S + 600, "iat": START_S})
}

/// Those claims with some replaced; `null` removes one.
pub(crate) fn claims_with(changes: Value) -> Value {
    changed(claims(), changes)
}

pub(crate) fn changed(mut object: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => drop(object.as_object_mut().unwrap().insert(name.clone(), value.clone())),
        }
    }
    object
}

pub(crate) fn hs256(key: &[u8], header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    format!("{signed}.{}", b64(tag))
}

/// How a server answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This status line, these headers, this body.
    Reply(&'static str, String, Vec<u8>),
    /// Half of what it announces.
    Truncated,
    /// Never.
    Silence,
    /// Bytes without end.
    Endless,
    /// The connection is closed at once.
    Closed,
    /// This body, as soon as it is let go.
    Held(Arc<tokio::sync::Notify>, Vec<u8>),
    /// One byte now and then.
    Trickle(Vec<u8>),
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Reply("200 OK", "content-type: application/json\r\n".into(), value.to_string().into_bytes())
    }
}

/// A web server that behaves as told and counts.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    answer: Arc<Mutex<Answer>>,
    hits: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let this = Self { url, answer: Arc::new(Mutex::new(answer)), hits: Arc::default() };
        let server = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        this
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    async fn serve(self, mut stream: tokio::net::TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return;
            }
            request.push(byte[0]);
        }
        self.hits.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        let _gone = write(&mut stream, answer).await;
    }
}

async fn write(stream: &mut tokio::net::TcpStream, answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Reply(status, headers, body) => {
            let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await
        }
        Answer::Truncated => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n{\"keys\":[").await
        }
        Answer::Silence => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
            loop {
                stream.write_all(&[b' '; 65_536]).await?;
            }
        }
        Answer::Closed => Ok(()),
        Answer::Held(go, body) => {
            go.notified().await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await
        }
        Answer::Trickle(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await?;
            for byte in body {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
    }
}

/// Authentication with everything around it.
pub(crate) struct World {
    pub(crate) clock: Arc<HandClock>,
    pub(crate) store: Arc<Sqlite>,
    pub(crate) pepper: Secret<Vec<u8>>,
    pub(crate) proofs: Arc<ProofMemory>,
    pub(crate) auth: Authenticator,
    pub(crate) directory: tempfile::TempDir,
}

/// The usual limits, but nothing ends because the machine is slow.
pub(crate) fn limits() -> Limits {
    Limits { jwks_timeout_ms: 60_000, introspection_timeout_ms: 60_000, ..Limits::default() }
}

pub(crate) fn issuer(url: &str) -> JwtIssuer {
    JwtIssuer {
        issuer: ISSUER.into(),
        algorithms: vec![Alg::EdDsa, Alg::Es256, Alg::Es384, Alg::Ps256, Alg::Rs256, Alg::Rs512],
        jwks: JwksSource::Url(url.parse().unwrap()),
        default_roles: vec!["reader".into()],
        ..JwtIssuer::default()
    }
}

impl World {
    pub(crate) fn try_new(settings: AuthSettings, limits: Limits) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(directory.path().join("store.db")).unwrap());
        let (clock, pepper) = (HandClock::new(), Secret::new(vec![42; 32]));
        let proofs = Arc::new(ProofMemory::new(&Chance));
        let parts = Parts {
            keys: store.clone(),
            pepper: Some(pepper.clone()),
            clock: clock.clone(),
            proofs: proofs.clone(),
            limits,
        };
        let auth = Authenticator::new(settings, parts).map_err(|error| error.to_string())?;
        Ok(Self { clock, store, pepper, proofs, auth, directory })
    }

    /// The same gateway after a reload of its configuration.
    pub(crate) fn reload(&mut self, settings: AuthSettings) {
        let parts = Parts {
            keys: self.store.clone(),
            pepper: Some(self.pepper.clone()),
            clock: self.clock.clone(),
            proofs: self.proofs.clone(),
            limits: limits(),
        };
        self.auth = Authenticator::new(settings, parts).unwrap();
    }

    pub(crate) fn new(settings: AuthSettings, limits: Limits) -> Self {
        Self::try_new(settings, limits).unwrap()
    }

    /// One issuer, its keys on the server.
    pub(crate) fn of(issuer: JwtIssuer) -> Self {
        Self::new(AuthSettings { issuers: vec![issuer], ..AuthSettings::default() }, limits())
    }

    /// One issuer whose key set is these keys, served over HTTP.
    pub(crate) async fn with_keys(jwks: &Value) -> (Self, Server) {
        let server = Server::start(Answer::json(jwks)).await;
        (Self::of(issuer(&server.url)), server)
    }

    /// One issuer with the provider's keys.
    pub(crate) async fn plain() -> (Self, Server) {
        Self::with_keys(&idp().jwks()).await
    }

    pub(crate) async fn present(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        self.present_at(token, AUDIENCE).await
    }

    pub(crate) async fn present_at(&self, token: &str, audience: &str) -> Result<Arc<Caller>, AuthError> {
        let credentials = Credentials { bearer: Some(token), ..Credentials::default() };
        self.auth
            .authenticate(&credentials, &Route { issuer_down: IssuerDown::KnownKeys, ..Route::at(audience) })
            .await
    }

    pub(crate) async fn present_on(&self, token: &str, route: &Route) -> Result<Arc<Caller>, AuthError> {
        let credentials = Credentials { bearer: Some(token), ..Credentials::default() };
        self.auth.authenticate(&credentials, route).await
    }

    pub(crate) async fn accepts(&self, what: &str, token: &str) -> Arc<Caller> {
        match self.present(token).await {
            Ok(caller) => caller,
            Err(error) => panic!("{what} was refused: {error}"),
        }
    }

    pub(crate) fn clock_s(&self) -> u64 {
        self.clock.now().seconds()
    }

    /// Refused with 401, twice, quickly, and without a word of the token.
    pub(crate) async fn refuses(&self, what: &str, token: &str) {
        let start = Instant::now();
        for _ in 0..2 {
            let error = match self.present(token).await {
                Ok(caller) => panic!("{what} was accepted as {caller}"),
                Err(error) => error,
            };
            assert_eq!(error.code, Code::AuthInvalid, "{what}: {error}");
            let leaked = token.split('.').any(|part| part.len() > 8 && error.to_string().contains(part));
            assert!(!leaked, "{what}: the token is in the message");
            assert!(error.to_string().len() < 500, "{what}: {error}");
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what} took {:?}", start.elapsed());
    }
}
