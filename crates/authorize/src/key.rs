//! Keys with which the gateway proves to a token endpoint which client it is (`private_key_jwt`).

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_core::Secret;
use zeroize::Zeroizing;

/// The key of a client that proves itself with assertions.
pub(crate) enum SigningKey {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// A key as PKCS #8 in PEM.
    pub(crate) fn of(pem: &Secret<String>) -> Option<Self> {
        let lines = pem.expose().lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let text = Zeroizing::new(lines.collect::<String>());
        let der = Zeroizing::new(STANDARD.decode(text.as_bytes()).ok()?);
        let ecdsa = || EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok().map(Self::Ecdsa);
        let ed25519 = || Ed25519KeyPair::from_pkcs8(&der).ok().map(Self::Ed25519);
        let rsa = || RsaKeyPair::from_pkcs8(&der).ok().map(|key| Self::Rsa(Box::new(key)));
        ecdsa().or_else(ed25519).or_else(rsa)
    }

    /// What tokens call its algorithm.
    pub(crate) const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ecdsa(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    /// A signature, as tokens have it.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(key) => Some(key.sign(&random, bytes).ok()?.as_ref().to_vec()),
            Self::Ed25519(key) => Some(key.sign(bytes).as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

/// Whether a text is a key that assertions can be signed with.
pub(crate) fn is_signing_key(pem: &Secret<String>) -> bool {
    SigningKey::of(pem).is_some()
}
