//! Proofs of possession (DPoP, RFC 9449): a signed statement, made for one request, by the key that a token is bound to.
//! Each is taken once. What was seen is remembered for as long as a proof could come again, within a bound for all keys
//! and a share of it for each, so that one client cannot crowd out the others.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::{Clock, Code, Digest, Entropy, Limits};
use serde_json::{Map, Value};
use url::Url;
use zeroize::Zeroizing;

use crate::auth::{
    Alg, AuthError, Credentials, Parts,
    jwt::{
        claims::seconds,
        compact::Compact,
        jwks::{Key, thumbprint},
    },
};

/// Algorithms that proofs may be signed with.
pub(in crate::auth) const ALGS: [Alg; 5] = [Alg::Es256, Alg::Es384, Alg::EdDsa, Alg::Ps256, Alg::Rs256];

/// Bytes of the id of a proof at most.
const ID_BYTES_MAX: usize = 256;
/// How long a nonce of ours is taken back, in seconds.
const NONCE_LIFE_S: u64 = 300;
/// Bytes of the tag of a nonce.
const TAG_BYTES: usize = 16;
/// One key may hold this part of what is remembered.
const SHARE: usize = 8;

/// What outlives a reload of the configuration: which proofs were seen, and the secret behind nonces. It ends with the
/// process, and then no nonce of the old one is taken any more.
pub struct ProofMemory {
    nonces: hmac::Key,
    seen: Mutex<Seen>,
}

impl ProofMemory {
    /// Empty, with fresh randomness from `entropy`.
    #[must_use]
    pub fn new(entropy: &dyn Entropy) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut_slice());
        Self { nonces: hmac::Key::new(hmac::HMAC_SHA256, secret.as_slice()), seen: Mutex::default() }
    }
}

impl fmt::Debug for ProofMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofMemory")
    }
}

/// Judges proofs and remembers them.
#[derive(Debug)]
pub(in crate::auth) struct Proofs {
    clock: Arc<dyn Clock>,
    limits: Limits,
    /// Whether nonces are demanded.
    nonces: bool,
    memory: Arc<ProofMemory>,
}

#[derive(Default)]
struct Seen {
    /// When each was seen, and by which key.
    order: VecDeque<(u64, Digest, Digest)>,
    proofs: HashSet<Digest>,
    by_key: HashMap<Digest, usize>,
}

fn wrong(detail: &'static str) -> AuthError {
    AuthError { code: Code::AuthProof, detail: detail.into() }
}

impl Proofs {
    pub(in crate::auth) fn new(parts: &Parts, nonces: bool) -> Self {
        Self {
            clock: Arc::clone(&parts.clock),
            limits: parts.limits.clone(),
            nonces,
            memory: Arc::clone(&parts.proofs),
        }
    }

    /// A nonce for the next proof, where they are demanded.
    pub(in crate::auth) fn nonce(&self) -> Option<String> {
        self.nonces.then(|| nonce(&self.memory.nonces, self.clock.now().seconds()))
    }

    /// Whether the request shows that its sender holds `key`, for `token` and this resource. The token was judged before.
    pub(in crate::auth) fn verify(
        &self,
        credentials: &Credentials<'_>,
        token: &str,
        key: &Digest,
        resource: &str,
    ) -> Result<(), AuthError> {
        let text = credentials.dpop.ok_or(wrong("there is not one DPoP header"))?;
        if text.len() as u64 > self.limits.token_bytes_max {
            return Err(wrong("the proof exceeds `limits.token_bytes_max`"));
        }
        let (proof, jwk) = Compact::with_key(text).map_err(|_| wrong("the proof is not well-formed"))?;
        if proof.typ.as_deref() != Some("dpop+jwt") || !ALGS.contains(&proof.alg) {
            return Err(wrong("the proof is of another type or algorithm"));
        }
        if thumbprint(&jwk) != Some(*key) {
            return Err(wrong("the proof is of another key than the token"));
        }
        let public = Key::read(&jwk, false).filter(|key| key.fits(&proof));
        let public = public.ok_or(wrong("the proof's key cannot be used"))?;
        public.verify(&proof).map_err(|_| wrong("the proof's signature is wrong"))?;
        self.claims(&proof.claims, credentials.method, token, resource)?;
        let id = proof.claims.get("jti").and_then(Value::as_str).unwrap_or_default();
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(wrong("the proof's `jti` is missing or too long"));
        }
        self.take(Digest::of_parts(&[&key.0, id.as_bytes()]), *key)
    }

    fn claims(
        &self,
        claims: &Map<String, Value>,
        method: &str,
        token: &str,
        resource: &str,
    ) -> Result<(), AuthError> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("htm") != method {
            return Err(wrong("the proof is for another HTTP method"));
        }
        if !same_target(text("htu"), resource) {
            return Err(wrong("the proof is for another URL"));
        }
        if text("ath") != URL_SAFE_NO_PAD.encode(Digest::of(token.as_bytes()).0) {
            return Err(wrong("the proof is for another token"));
        }
        let (now, age) = (self.clock.now().seconds(), self.limits.dpop_proof_age_s);
        let issued = seconds(claims, "iat").ok().flatten().ok_or(wrong("the proof has no `iat`"))?;
        if now.abs_diff(issued) > age {
            return Err(wrong("the proof is too old, or from the future"));
        }
        if self.nonces && !known(&self.memory.nonces, text("nonce"), now) {
            let detail = "the proof has no nonce of ours, or an old one".into();
            return Err(AuthError { code: Code::AuthNonce, detail });
        }
        Ok(())
    }

    /// Takes a proof, once.
    fn take(&self, proof: Digest, key: Digest) -> Result<(), AuthError> {
        let now_us = self.clock.ticks_us();
        // Its `iat` may lie ahead as far as behind, so it can come again for twice the age.
        let life_us = self.limits.dpop_proof_age_s.saturating_mul(2_000_000).saturating_add(1_000_000);
        let most = usize::try_from(self.limits.dpop_proofs_max).unwrap_or(usize::MAX);
        let mut seen = self.memory.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget(now_us.saturating_sub(life_us));
        if seen.proofs.contains(&proof) {
            return Err(wrong("the proof was used before"));
        }
        let held = seen.by_key.get(&key).copied().unwrap_or(0);
        if seen.order.len() >= most || held >= (most / SHARE).max(1) {
            return Err(AuthError::unavailable(
                "no more proofs can be remembered (`limits.dpop_proofs_max`)",
            ));
        }
        seen.order.push_back((now_us, proof, key));
        seen.proofs.insert(proof);
        *seen.by_key.entry(key).or_default() += 1;
        Ok(())
    }
}

impl Seen {
    fn forget(&mut self, before_us: u64) {
        while let Some((_, proof, key)) = self.order.pop_front_if(|(seen_us, _, _)| *seen_us < before_us) {
            self.proofs.remove(&proof);
            if let Some(count) = self.by_key.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.by_key.remove(&key);
                }
            }
        }
    }
}

/// Whether `htu` names `resource`; query and fragment do not count (RFC 9449, section 4.3).
fn same_target(htu: &str, resource: &str) -> bool {
    if htu.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return false;
    }
    let read = |text: &str| {
        let mut url = Url::parse(text).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        Some(url)
    };
    read(htu).is_some_and(|url| Some(url) == read(resource))
}

/// The moment and a tag on it: nothing has to be remembered.
fn nonce(key: &hmac::Key, now_s: u64) -> String {
    let moment = now_s.to_be_bytes();
    let tag = hmac::sign(key, &moment);
    URL_SAFE_NO_PAD.encode([moment.as_slice(), tag.as_ref().get(..TAG_BYTES).unwrap_or_default()].concat())
}

fn known(key: &hmac::Key, text: &str, now_s: u64) -> bool {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return false };
    let Some((moment, _)) = bytes.split_first_chunk::<8>() else { return false };
    let moment = u64::from_be_bytes(*moment);
    let ours = subtle::ConstantTimeEq::ct_eq(text.as_bytes(), nonce(key, moment).as_bytes());
    bool::from(ours) && moment <= now_s && now_s - moment <= NONCE_LIFE_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_url_whatever_its_query() {
        let route = "https://g.example/mcp/a";
        for (htu, same) in [
            (route, true),
            ("https://g.example:443/mcp/a?x=1#y", true),
            ("HTTPS://G.example/mcp/a", true),
            ("https://g.example/mcp/a/", false),
            ("https://g.example/mcp/b", false),
            ("http://g.example/mcp/a", false),
            ("https://g.example:8443/mcp/a", false),
            ("https://g.example/mcp/a\t", false),
            ("https:\\\\g.example/mcp/a", false),
            ("/mcp/a", false),
            ("", false),
        ] {
            assert_eq!(same_target(htu, route), same, "{htu}");
        }
    }

    #[test]
    fn a_nonce_is_ours_and_fresh_or_worth_nothing() {
        let (key, other) =
            (hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), hmac::Key::new(hmac::HMAC_SHA256, &[2; 32]));
        let made = nonce(&key, 1000);
        assert!(known(&key, &made, 1000) && known(&key, &made, 1000 + NONCE_LIFE_S));
        assert!(!known(&key, &made, 1001 + NONCE_LIFE_S), "old");
        assert!(!known(&key, &made, 999), "from the future");
        assert!(!known(&other, &made, 1000), "of another gateway");
        let (first, rest) = made.split_at(1);
        for text in ["", "AAAA", rest, &format!("{made}A"), &made.replace(first, "B")] {
            assert!(!known(&key, text, 1000), "{text}");
        }
    }
}
