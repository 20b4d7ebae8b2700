//! The compact form of a signed token (RFC 7515, section 3.1): three segments, each in the one canonical base64url
//! spelling, the first two JSON objects. Whatever points at keys or asks for unknown rules is refused here, before
//! any key is looked at.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::auth::{
    AuthError,
    jwt::{Alg, json},
};

/// Bytes of a key's id at most.
pub(in crate::auth) const KEY_ID_BYTES_MAX: usize = 256;

/// Header members under which the bearer would choose key, rule or form: keys and their addresses, critical
/// extensions, unencoded payloads, encryption, nesting.
const REFUSED: [&str; 14] =
    ["b64", "crit", "cty", "enc", "epk", "iss", "jku", "jwk", "p2c", "p2s", "x5c", "x5u", "zip", "aud"];

/// A token, taken apart and not yet believed.
pub(in crate::auth) struct Compact<'a> {
    /// What is signed.
    pub(in crate::auth) signed: &'a str,
    /// The signature as the token spells it.
    pub(in crate::auth) signature_text: &'a str,
    /// The signature.
    pub(in crate::auth) signature: Vec<u8>,
    pub(in crate::auth) alg: Alg,
    pub(in crate::auth) kid: Option<String>,
    /// Thumbprints of a certificate that goes with the key: `x5t`, `x5t#S256`.
    pub(in crate::auth) thumbprints: [Option<String>; 2],
    pub(in crate::auth) typ: Option<String>,
    /// Empty where the payload is no JSON object; then `issuer` finds none.
    pub(in crate::auth) claims: Map<String, Value>,
}

impl<'a> Compact<'a> {
    pub(in crate::auth) fn parse(token: &'a str) -> Result<Self, AuthError> {
        Self::read(token, None).map(|(token, _)| token)
    }

    /// The same for a proof of possession, which brings its own key along.
    pub(in crate::auth) fn with_key(proof: &'a str) -> Result<(Self, Map<String, Value>), AuthError> {
        match Self::read(proof, Some("jwk"))? {
            (proof, Some(Value::Object(jwk))) => Ok((proof, jwk)),
            _ => Err(AuthError::invalid("the header has no key")),
        }
    }

    /// `own`: the one member of the header that is taken out and not refused.
    fn read(token: &'a str, own: Option<&str>) -> Result<(Self, Option<Value>), AuthError> {
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature_text), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(AuthError::invalid("the token has not three segments"));
        };
        let signed = token.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        let decode = |segment: &str| {
            URL_SAFE_NO_PAD
                .decode(segment)
                .map_err(|_| AuthError::invalid("a segment is not canonical base64url"))
        };
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature_text)?);
        if signature.is_empty() {
            return Err(AuthError::invalid("the token is not signed"));
        }
        let mut header = json::object(&header)
            .ok_or(AuthError::invalid("the header is not a JSON object of unique names"))?;
        let own = own.and_then(|name| header.remove(name));
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            return Err(AuthError::invalid("the header has a member that tokens here must not have"));
        }
        let alg = text(&mut header, "alg")?.and_then(|name| Alg::named(&name));
        let alg = alg.ok_or(AuthError::invalid("the header names no supported algorithm"))?;
        let kid = text(&mut header, "kid")?;
        if kid.as_deref().is_some_and(|kid| !is_key_id(kid)) {
            return Err(AuthError::invalid("the key id is empty, too long or not printable"));
        }
        let token = Self {
            signed,
            signature_text,
            signature,
            alg,
            kid,
            thumbprints: [text(&mut header, "x5t")?, text(&mut header, "x5t#S256")?],
            typ: text(&mut header, "typ")?,
            claims: json::object(&payload).unwrap_or_default(),
        };
        Ok((token, own))
    }

    /// Whose token it claims to be.
    pub(in crate::auth) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

/// Whether `text` can be the id of a key.
pub(in crate::auth) fn is_key_id(text: &str) -> bool {
    (1..=KEY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// A header member that has to be a string where it is there.
fn text(header: &mut Map<String, Value>, name: &str) -> Result<Option<String>, AuthError> {
    match header.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(AuthError::invalid("a member of the header has the wrong type")),
    }
}
