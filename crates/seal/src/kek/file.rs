//! A key-encryption key in a file of its own, as it is or under a passphrase.
//!
//! The last line of the file is the key; lines that begin with `#` are for people:
//! `PORTCULLIS-KEK-1 BASE64URL` holds the 32 bytes, `PORTCULLIS-KEK-1-PASSPHRASE ITERATIONS SALT SEALED` holds them sealed with
//! AES-256-GCM-SIV under what PBKDF2-HMAC-SHA-256 makes of the passphrase.

use std::{fmt, num::NonZeroU32};

use async_trait::async_trait;
use aws_lc_rs::{digest, pbkdf2};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::{Entropy, Secret, Timestamp};
use zeroize::Zeroizing;

use super::{Kek, KekError};
use crate::{
    Key,
    ring::DataKey,
    sealer::{binding, open_bytes, seal_bytes},
};

const PLAIN: &str = "PORTCULLIS-KEK-1";
const PROTECTED: &str = "PORTCULLIS-KEK-1-PASSPHRASE";
/// As OWASP's Password Storage Cheat Sheet asks of PBKDF2-HMAC-SHA-256.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
/// What a file may ask for: a file that somebody else wrote must not hold up the start for ever.
const ITERATIONS_MAX: u32 = 20_000_000;
const SALT_BYTES: usize = 16;
/// Purposes.
const OF_FILE: &str = "kek file";
const OF_KEY: &str = "data key";

/// A key in a file.
pub struct FileKek {
    id: String,
    key: DataKey,
    entropy: std::sync::Arc<dyn Entropy>,
}

impl fmt::Debug for FileKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileKek").field(&self.id).finish()
    }
}

impl FileKek {
    /// The text of a file with a new key.
    #[must_use]
    pub fn text(passphrase: Option<&Secret<String>>, entropy: &dyn Entropy) -> Option<Secret<Vec<u8>>> {
        let mut key = Key::default();
        entropy.fill(key.as_mut_slice());
        let line = match passphrase {
            None => format!("{PLAIN} {}", *Zeroizing::new(URL_SAFE_NO_PAD.encode(key.as_slice()))),
            Some(passphrase) => {
                let mut salt = [0; SALT_BYTES];
                entropy.fill(&mut salt);
                let under = derived(passphrase, &salt, ITERATIONS)?;
                let sealed = seal_bytes(&under, &binding(OF_FILE, &[]), key.as_slice(), entropy)?;
                let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                format!("{PROTECTED} {ITERATIONS} {} {}", encode(&salt), encode(&sealed))
            }
        };
        let text = format!(
            "# The key-encryption key of a Portcullis gateway. Whoever has it and the store can read what is sealed there;\n\
             # without it nobody can. Keep a copy apart from the backups of the store.\n{line}\n"
        );
        Some(Secret::new(text.into_bytes()))
    }

    /// The key that the text of a file holds.
    ///
    /// # Errors
    /// When the text is none of a key, or the passphrase is wrong or missing.
    pub fn of_text(
        text: &[u8],
        passphrase: Option<&Secret<String>>,
        entropy: std::sync::Arc<dyn Entropy>,
    ) -> Result<Self, KekError> {
        let refused = |why: &str| KekError::Refused(why.to_owned());
        let text = std::str::from_utf8(text).map_err(|_| refused("it is not text"))?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(refused("it does not hold exactly one key"));
        };
        let damaged = || refused("the key in it is damaged");
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map(Zeroizing::new).map_err(|_| damaged());
        let parts: Vec<&str> = line.split_ascii_whitespace().collect();
        let bytes = match (parts.as_slice(), passphrase) {
            ([PLAIN, key], None) => decode(key)?,
            ([PLAIN, _], Some(_)) => {
                return Err(refused("a passphrase is configured, and the key is not under one"));
            }
            ([PROTECTED, ..], None) => {
                return Err(refused("it is under a passphrase; set `encryption.passphrase`"));
            }
            ([PROTECTED, iterations, salt, sealed], Some(passphrase)) => {
                let iterations = iterations.parse().ok().filter(|n: &NonZeroU32| n.get() <= ITERATIONS_MAX);
                let under = derived(passphrase, &decode(salt)?, iterations.ok_or_else(damaged)?);
                let under = under.ok_or_else(damaged)?;
                let opened = open_bytes(&under, &binding(OF_FILE, &[]), &decode(sealed)?);
                Zeroizing::new(
                    opened.ok_or_else(|| refused("the passphrase is wrong, or the file is damaged"))?,
                )
            }
            _ => return Err(refused("it does not hold a key of a form that is known here")),
        };
        let exact: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| damaged())?;
        let mark = digest::digest(&digest::SHA256, &[b"portcullis kek 1".as_slice(), exact].concat());
        let mark: String = mark.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let key = DataKey::new(&Key::new(*exact), Timestamp(0)).ok_or_else(damaged)?;
        Ok(Self { id: format!("file:{mark}"), key, entropy })
    }
}

fn derived(passphrase: &Secret<String>, salt: &[u8], iterations: NonZeroU32) -> Option<DataKey> {
    let mut key = Key::default();
    let passphrase = passphrase.expose().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, passphrase, key.as_mut_slice());
    DataKey::new(&key, Timestamp(0))
}

#[async_trait]
impl Kek for FileKek {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, key: &Key, context: &str) -> Result<String, KekError> {
        let sealed = seal_bytes(&self.key, &binding(OF_KEY, &[context]), key.as_slice(), &*self.entropy);
        let sealed = sealed.ok_or_else(|| KekError::Refused("the key cannot be wrapped".into()))?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    async fn unwrap(&self, wrapped: &str, context: &str) -> Result<Key, KekError> {
        let opened = URL_SAFE_NO_PAD.decode(wrapped).ok().and_then(|whole| {
            open_bytes(&self.key, &binding(OF_KEY, &[context]), &whole).map(Zeroizing::new)
        });
        exact(opened)
    }
}

/// 32 bytes, or none of our keys.
pub(super) fn exact(opened: Option<Zeroizing<Vec<u8>>>) -> Result<Key, KekError> {
    let bytes = opened.as_ref().and_then(|bytes| <&[u8; 32]>::try_from(bytes.as_slice()).ok());
    let foreign = || KekError::Refused("the wrapped key is damaged, or belongs elsewhere".into());
    bytes.map(|bytes| Key::new(*bytes)).ok_or_else(foreign)
}
