//! An identity provider that signs what a test wants signed.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::Digest;
use portcullis_testkit::Outcome;
use serde_json::{Value, json};

/// The issuer and its one key.
#[derive(Debug)]
pub struct Issuer {
    kid: String,
    key: Ed25519KeyPair,
}

impl Issuer {
    /// With a fresh key of this name.
    ///
    /// # Errors
    /// No randomness.
    pub fn new(kid: &str) -> Outcome<Self> {
        let key = Ed25519KeyPair::generate().map_err(|_| "no key")?;
        Ok(Self { kid: kid.to_owned(), key })
    }

    /// Its key set.
    #[must_use]
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x}]})
            .to_string()
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    /// Good claims of `ada`, in the group `dev`, for ten minutes.
    #[must_use]
    pub fn claims(&self, issuer: &str, audience: &str) -> Value {
        let now = self.now();
        json!({"iss": issuer, "aud": audience, "sub": "ada", "iat": now, "exp": now + 600, "groups": ["dev"]})
    }

    /// The claims, signed; members that are null are left out.
    ///
    /// # Errors
    /// None in practice.
    pub fn token(&self, claims: &Value) -> Outcome<String> {
        let input = self.input("EdDSA", claims);
        let signature = self.key.sign(input.as_bytes());
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// The claims under `alg: none`.
    #[must_use]
    pub fn unsigned(&self, claims: &Value) -> String {
        format!("{}.", self.input("none", claims))
    }

    /// Its public key, as a client shows it in a proof of possession.
    fn public(&self) -> Value {
        json!({"crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(self.key.public_key().as_ref())})
    }

    /// The thumbprint of its key (RFC 7638), to which tokens can be bound.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Digest::of(self.public().to_string().as_bytes()).0)
    }

    /// A proof of possession for one request (RFC 9449).
    ///
    /// # Errors
    /// None in practice.
    pub fn proof(&self, method: &str, url: &str, token: &str, id: &str) -> Outcome<String> {
        let head = json!({"alg": "EdDSA", "typ": "dpop+jwt", "jwk": self.public()});
        let ath = URL_SAFE_NO_PAD.encode(Digest::of(token.as_bytes()).0);
        let claims = json!({"htm": method, "htu": url, "iat": self.now(), "jti": id, "ath": ath});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", encode(&head), encode(&claims));
        let signature = self.key.sign(input.as_bytes());
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    fn input(&self, alg: &str, claims: &Value) -> String {
        let mut claims = claims.clone();
        if let Some(members) = claims.as_object_mut() {
            members.retain(|_, value| !value.is_null());
        }
        let head = json!({"alg": alg, "typ": "JWT", "kid": self.kid});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", encode(&head), encode(&claims))
    }
}
