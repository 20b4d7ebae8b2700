//! What it costs to know who is asking when their token is seen for the first time.

use std::hint::black_box;

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_connect::auth::Route;
use portcullis_core::Limits;
use serde_json::{Value, json};

use crate::governed::{ISSUER, NOW, ROUTE, authenticator, credentials};

/// An algorithm that issuers sign with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signature {
    Es256,
    Rs256,
}

/// One judgement of a good token that nobody has shown before.
pub(crate) fn first_seen(signature: Signature) -> Result<Box<dyn FnMut()>> {
    let (key, token) = signed(signature)?;
    let folder = tempfile::tempdir()?;
    let auth = authenticator(&Limits::default(), folder.path(), &key, Vec::new())?;
    let route = Route::at(ROUTE);
    let judge = move || {
        auth.forget();
        auth.try_now(black_box(&credentials(&token)), &route)
    };
    let caller = judge().context("a key set in a file takes no wait")?.map_err(|error| anyhow!("{error}"))?;
    ensure!(
        caller.roles.iter().any(|role| role == "role7"),
        "the token of the bench brings {:?}",
        caller.roles
    );
    Ok(Box::new(move || {
        // The key set was read; the folder goes with the last run.
        let _folder = &folder;
        drop(black_box(judge()));
    }))
}

type Sign = Box<dyn Fn(&[u8]) -> Result<Vec<u8>>>;

/// A public key, and a token as large as those of identity providers that it verifies.
fn signed(signature: Signature) -> Result<(Value, String)> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let random = SystemRandom::new();
    let (alg, key, sign): (_, _, Sign) = match signature {
        Signature::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
            let point = pair.public_key().as_ref().get(1..).context("no point")?;
            let (x, y) = point.split_at_checked(32).context("no point")?;
            let key = json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": encode(x), "y": encode(y), "alg": "ES256"});
            ("ES256", key, Box::new(move |text| Ok(pair.sign(&random, text)?.as_ref().to_vec())))
        }
        Signature::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
            let public = pair.public_key();
            let n = encode(public.modulus().big_endian_without_leading_zero());
            let e = encode(public.exponent().big_endian_without_leading_zero());
            let key = json!({"kty": "RSA", "kid": "k", "n": n, "e": e, "alg": "RS256"});
            let sign = move |text: &[u8]| {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut out)?;
                Ok(out)
            };
            ("RS256", key, Box::new(sign))
        }
    };
    let head = json!({"alg": alg, "typ": "at+jwt", "kid": "k"});
    let now = NOW.seconds();
    let claims = json!({
        "iss": ISSUER, "aud": ROUTE, "sub": "0f3c2a86-95a1-4c58-9c0b-2f3e6f4d7a11", "iat": now, "exp": now + 600,
        "client_id": "desktop", "jti": "8c0d7cbb-6f0a-4bfa-9b8e-13a8a7b6a0ce", "scope": "mcp files:read",
        "groups": ["seven", "everyone"], "email": "ada@login.example", "name": "Ada", "preferred_username": "ada",
    });
    let text = format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = sign(text.as_bytes())?;
    Ok((key, format!("{text}.{}", encode(&signature))))
}
