//! Key sets of issuers (RFC 7517). A key we cannot use is passed over, as the standard asks; a set we cannot read is
//! refused whole. Which key verifies a token follows from the token's key id and the key's own words, never from
//! the token's algorithm alone.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use portcullis_core::{Digest, Limits};
use serde_json::{Map, Value};

use crate::auth::{
    AuthError,
    jwt::{
        Alg,
        compact::{Compact, is_key_id},
        json,
    },
};

/// Bytes of an RSA modulus: 2048 to 8192 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Bytes of an HMAC key at least (RFC 7518, section 3.2).
const HMAC_KEY_BYTES_MIN: usize = 32;
/// Bytes of an HMAC key at most.
const HMAC_KEY_BYTES_MAX: usize = 1024;

/// The keys of an issuer at one time.
#[derive(Debug)]
pub(in crate::auth) struct KeySet {
    keys: Vec<Key>,
    /// Counts the sets of this issuer; another content is another generation.
    pub(in crate::auth) generation: u64,
}

/// One key that verifies signatures.
pub(in crate::auth) struct Key {
    kid: Option<String>,
    /// The only algorithm it is for, where it says so.
    alg: Option<Alg>,
    thumbprints: [Option<String>; 2],
    material: Material,
}

/// Shows no key; one kind of them is secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("alg", &self.alg).finish_non_exhaustive()
    }
}

enum Material {
    Ed25519([u8; 32]),
    Hmac(DecodingKey),
    P256(DecodingKey),
    P384(DecodingKey),
    Rsa(DecodingKey),
}

/// No key of the set verifies the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum NoKey {
    /// More than one would do, and choosing would be guessing.
    Ambiguous,
    /// The key of that id is for something else.
    Unfit,
    /// There is no key of that id.
    Unknown,
}

impl NoKey {
    pub(in crate::auth) const fn text(self) -> &'static str {
        match self {
            Self::Ambiguous => "more than one key of the issuer fits the token",
            Self::Unfit => "the issuer's key is not for the token's algorithm or certificate",
            Self::Unknown => "the issuer has no key of the token's key id",
        }
    }
}

impl KeySet {
    /// Reads a set. `secret`: it comes from a place that may hold HMAC keys.
    pub(in crate::auth) fn parse(
        bytes: &[u8],
        generation: u64,
        secret: bool,
        limits: &Limits,
    ) -> Result<Self, String> {
        let set = json::object(bytes).ok_or("not a JSON object of unique names")?;
        let Some(Value::Array(items)) = set.get("keys") else {
            return Err("no list of keys".into());
        };
        if items.len() as u64 > limits.jwks_keys_max {
            return Err(format!("{} keys exceed `limits.jwks_keys_max`", items.len()));
        }
        let keys = items.iter().filter_map(|item| Key::read(item.as_object()?, secret)).collect();
        Ok(Self { keys, generation })
    }

    /// How many of its keys can be used.
    pub(in crate::auth) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key that has to have signed the token.
    pub(in crate::auth) fn choose(&self, token: &Compact<'_>) -> Result<&Key, NoKey> {
        let of_id = |key: &&Key| token.kid.is_none() || key.kid == token.kid;
        let mut fitting = self.keys.iter().filter(of_id).filter(|key| key.fits(token));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) if self.keys.iter().any(|key| of_id(&key)) => Err(NoKey::Unfit),
            (None, _) => Err(NoKey::Unknown),
        }
    }
}

impl Key {
    /// The key, if it is one that verifies signatures and that we understand.
    pub(in crate::auth) fn read(jwk: &Map<String, Value>, secret: bool) -> Option<Self> {
        let text = |name: &str| jwk.get(name).map(Value::as_str);
        let signs = text("use").is_none_or(|value| value == Some("sig"))
            && jwk.get("key_ops").is_none_or(|ops| {
                ops.as_array().is_some_and(|ops| ops.iter().any(|op| op.as_str() == Some("verify")))
            });
        let kid = text("kid").map(|kid| kid.filter(|kid| is_key_id(kid)));
        // A private key in a published set is no longer anybody's own.
        let disclosed = ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| jwk.contains_key(*name));
        if !signs || disclosed || kid == Some(None) {
            return None;
        }
        let alg = match text("alg") {
            None => None,
            Some(name) => Some(match name? {
                "Ed25519" => Alg::EdDsa,
                name => Alg::named(name)?,
            }),
        };
        let key = Self {
            kid: kid.flatten().map(Into::into),
            alg,
            thumbprints: ["x5t", "x5t#S256"].map(|name| text(name).flatten().map(Into::into)),
            material: Material::read(jwk, secret)?,
        };
        // A key that says it is for an algorithm it cannot be for is a mistake; nobody knows which half is right.
        alg.is_none_or(|alg| key.material.can(alg)).then_some(key)
    }

    /// Whether it can have signed the token.
    pub(in crate::auth) fn fits(&self, token: &Compact<'_>) -> bool {
        let same = |(ours, theirs): (&Option<String>, &Option<String>)| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, _) | (_, None) => true,
        };
        self.alg.is_none_or(|alg| alg == token.alg)
            && self.material.can(token.alg)
            && self.thumbprints.iter().zip(&token.thumbprints).all(same)
    }

    /// Whether this key signed the token.
    pub(in crate::auth) fn verify(&self, token: &Compact<'_>) -> Result<(), AuthError> {
        let key = match &self.material {
            Material::Ed25519(key) => {
                let holds =
                    portcullis_proof::key::verify_strict(key, token.signed.as_bytes(), &token.signature);
                return if holds { Ok(()) } else { Err(wrong_signature()) };
            }
            Material::Hmac(key) | Material::P256(key) | Material::P384(key) | Material::Rsa(key) => key,
        };
        let alg = algorithm(token.alg);
        match jsonwebtoken::crypto::verify(token.signature_text, token.signed.as_bytes(), key, alg) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(wrong_signature()),
        }
    }
}

/// The thumbprint of a public key (RFC 7638): the digest of its required members, in order.
pub(in crate::auth) fn thumbprint(jwk: &Map<String, Value>) -> Option<Digest> {
    let names: &[&str] = match jwk.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let members =
        names.iter().map(|name| Some(format!("\"{name}\":{}", Value::from(jwk.get(*name)?.as_str()?))));
    let members = members.collect::<Option<Vec<_>>>()?;
    Some(Digest::of(format!("{{{}}}", members.join(",")).as_bytes()))
}

fn wrong_signature() -> AuthError {
    AuthError::invalid("the signature is wrong")
}

impl Material {
    fn read(jwk: &Map<String, Value>, secret: bool) -> Option<Self> {
        let text = |name: &str| jwk.get(name)?.as_str();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        match (text("kty")?, text("crv")) {
            ("EC", Some("P-256")) if bytes("x")?.len() == 32 && bytes("y")?.len() == 32 => {
                DecodingKey::from_ec_components(text("x")?, text("y")?).ok().map(Self::P256)
            }
            ("EC", Some("P-384")) if bytes("x")?.len() == 48 && bytes("y")?.len() == 48 => {
                DecodingKey::from_ec_components(text("x")?, text("y")?).ok().map(Self::P384)
            }
            ("OKP", Some("Ed25519")) => Some(Self::Ed25519(bytes("x")?.try_into().ok()?)),
            ("RSA", None) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                let odd = exponent.last().is_some_and(|byte| byte & 1 == 1) && exponent != [1];
                let sound = RSA_MODULUS_BYTES.contains(&modulus.len()) && modulus.first() != Some(&0) && odd;
                sound.then(|| Self::Rsa(DecodingKey::from_rsa_raw_components(&modulus, &exponent)))
            }
            ("oct", None) if secret => {
                let key = zeroize::Zeroizing::new(bytes("k")?);
                let sound = (HMAC_KEY_BYTES_MIN..=HMAC_KEY_BYTES_MAX).contains(&key.len());
                sound.then(|| Self::Hmac(DecodingKey::from_secret(&key)))
            }
            _ => None,
        }
    }

    const fn can(&self, alg: Alg) -> bool {
        match self {
            Self::Ed25519(_) => matches!(alg, Alg::EdDsa),
            Self::Hmac(_) => matches!(alg, Alg::Hs256),
            Self::P256(_) => matches!(alg, Alg::Es256),
            Self::P384(_) => matches!(alg, Alg::Es384),
            Self::Rsa(_) => {
                matches!(alg, Alg::Ps256 | Alg::Ps384 | Alg::Ps512 | Alg::Rs256 | Alg::Rs384 | Alg::Rs512)
            }
        }
    }
}

const fn algorithm(alg: Alg) -> Algorithm {
    match alg {
        Alg::Es256 => Algorithm::ES256,
        Alg::Es384 => Algorithm::ES384,
        Alg::EdDsa => Algorithm::EdDSA,
        Alg::Hs256 => Algorithm::HS256,
        Alg::Ps256 => Algorithm::PS256,
        Alg::Ps384 => Algorithm::PS384,
        Alg::Ps512 => Algorithm::PS512,
        Alg::Rs256 => Algorithm::RS256,
        Alg::Rs384 => Algorithm::RS384,
        Alg::Rs512 => Algorithm::RS512,
    }
}
