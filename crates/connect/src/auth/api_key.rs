//! API keys of ours: `pcl_`, a public id, `_`, a secret of 256 bits. The store holds a keyed hash; a key is valid
//! until it expires or is revoked, both with effect on the next request.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::{
    Caller, Clock, Entropy, Proof, Secret, Timestamp,
    kind::{Kind, KindError},
};
use portcullis_store::{KeyRow, Keys};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::auth::{AuthError, Bound, Building, Credentials, Route, Way};

pub(super) const KIND: Kind<Option<Box<dyn Way>>, Building> = Kind {
    name: "api_key",
    doc: "API keys issued by this gateway, in `Authorization: Bearer` or `X-API-Key`.",
    build,
};

const PREFIX: &str = "pcl_";
const ID_CHARS: usize = 12;
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 43;
/// Letters and digits that are hard to mistake for one another; 32, so that five random bits choose one.
const ID_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Makes a key: its full text, which is shown once, its public id, and the hash to store.
pub fn new_api_key(entropy: &dyn Entropy, pepper: &Secret<Vec<u8>>) -> (Secret<String>, String, [u8; 32]) {
    let mut chance = [0; ID_CHARS];
    entropy.fill(&mut chance);
    let letter =
        |byte: &u8| ID_ALPHABET.get(usize::from(byte & 31)).map_or('a', |letter| char::from(*letter));
    let id: String = chance.iter().map(letter).collect();
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    entropy.fill(secret.as_mut_slice());
    let text = Secret::new(format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret.as_slice())));
    let hash = hash(&hmac::Key::new(hmac::HMAC_SHA256, pepper.expose()), text.expose());
    (text, id, hash)
}

/// Of the whole text, so that a secret is bound to its id.
fn hash(pepper: &hmac::Key, text: &str) -> [u8; 32] {
    let tag = hmac::sign(pepper, text.as_bytes());
    let mut out = [0; 32];
    // The tag of HMAC-SHA-256 has 32 bytes.
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

/// The id in a key's text, if the text has the form of a key.
fn id_of(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(PREFIX)?;
    let (id, secret) = rest.split_at_checked(ID_CHARS)?;
    let secret = secret.strip_prefix('_')?;
    let well_formed = id.bytes().all(|byte| ID_ALPHABET.contains(&byte))
        && secret.len() == SECRET_CHARS
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    well_formed.then_some(id)
}

struct ApiKey {
    keys: Arc<dyn Keys>,
    /// Nothing while the keys of the store are not open.
    pepper: Option<hmac::Key>,
    clock: Arc<dyn Clock>,
    /// Callers made before, each with the row it was made from: a row that changed makes a new caller. Holds no
    /// more than the store holds keys.
    callers: RwLock<HashMap<String, Known>>,
}

/// A caller and what it was made from.
struct Known {
    row: Arc<KeyRow>,
    caller: Arc<Caller>,
}

fn build(building: &Building) -> Result<Option<Box<dyn Way>>, KindError> {
    if !building.settings.api_keys {
        return Ok(None);
    }
    let parts = &building.parts;
    if parts.pepper.as_ref().is_some_and(|pepper| pepper.expose().len() < 32) {
        return Err(KindError { name: KIND.name, reason: "the pepper has less than 32 bytes".into() });
    }
    Ok(Some(Box::new(ApiKey {
        keys: Arc::clone(&parts.keys),
        pepper: parts.pepper.as_ref().map(|pepper| hmac::Key::new(hmac::HMAC_SHA256, pepper.expose())),
        clock: Arc::clone(&parts.clock),
        callers: RwLock::default(),
    })))
}

impl ApiKey {
    fn verify(&self, credentials: &Credentials<'_>, route: &Route) -> Result<Arc<Caller>, AuthError> {
        if credentials.dpop_scheme || route.bound != Bound::Any {
            return Err(AuthError::invalid(
                "an API key is bound to nothing, and the route or the scheme asks for that",
            ));
        }
        let text = credentials.api_key.or(credentials.bearer).unwrap_or_default();
        let id = id_of(text).ok_or(AuthError::invalid("not of the form of an API key"))?;
        let pepper = self.pepper.as_ref().ok_or_else(|| {
            AuthError::unavailable(
                "the data keys of the store are not open, and API keys are judged with one of them",
            )
        })?;
        let row = self.keys.find(id);
        // An unknown id costs what a wrong secret costs: the same hash and the same comparison.
        let expected = row.as_ref().map_or([0; 32], |row| row.hash);
        let same = bool::from(hash(pepper, text).ct_eq(&expected));
        let row = match row {
            Some(row) if same => row,
            Some(_) => return Err(AuthError::invalid(format!("the secret of API key `{id}` is wrong"))),
            None => return Err(AuthError::invalid(format!("there is no API key `{id}`"))),
        };
        if row.revoked.is_some() {
            return Err(AuthError::invalid(format!("API key `{id}` was revoked")));
        }
        if !row.valid(self.clock.now()) {
            return Err(AuthError::invalid(format!("API key `{id}` has expired")));
        }
        Ok(self.caller(&row))
    }

    fn caller(&self, row: &Arc<KeyRow>) -> Arc<Caller> {
        let known = self.callers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&row.id)
            && Arc::ptr_eq(&found.row, row)
        {
            return Arc::clone(&found.caller);
        }
        drop(known);
        let caller = Arc::new(caller_of(row));
        let entry = Known { row: Arc::clone(row), caller: Arc::clone(&caller) };
        self.callers.write().unwrap_or_else(PoisonError::into_inner).insert(row.id.clone(), entry);
        caller
    }
}

/// The caller that a key is for, as far as the key is valid at `now`: for those who are known without showing it.
#[must_use]
pub fn key_holder(row: &KeyRow, now: Timestamp) -> Option<Caller> {
    (row.revoked.is_none() && row.valid(now)).then(|| caller_of(row))
}

fn caller_of(row: &KeyRow) -> Caller {
    let mut roles = row.roles.clone();
    roles.sort();
    roles.dedup();
    Caller {
        id: format!("key:{}", row.id).into(),
        kind: row.kind,
        proof: Proof::ApiKey { key_id: row.id.clone() },
        roles: roles.into(),
        servers: row.servers.clone(),
        scopes: Vec::new(),
        claims: None,
        actors: Arc::from([]),
        expires: row.expires,
    }
}

#[async_trait]
impl Way for ApiKey {
    fn claims(&self, credentials: &Credentials<'_>) -> bool {
        credentials.api_key.is_some() || credentials.bearer.is_some_and(|text| text.starts_with(PREFIX))
    }

    fn try_now(
        &self,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Option<Result<Arc<Caller>, AuthError>> {
        Some(self.verify(credentials, route))
    }

    async fn judge(&self, credentials: &Credentials<'_>, route: &Route) -> Result<Arc<Caller>, AuthError> {
        self.verify(credentials, route)
    }

    fn forget(&self) {
        self.callers.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").finish_non_exhaustive()
    }
}
