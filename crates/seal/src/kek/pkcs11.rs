//! A key-encryption key in a token that speaks PKCS#11 (OASIS PKCS #11 3.0): an HSM, or a module like one. The key never leaves
//! the token; what it wraps is encrypted there with `CKM_AES_GCM`.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use portcullis_core::{Entropy, Secret};
use zeroize::Zeroizing;

use super::{Kek, KekError, file::exact};
use crate::{Key, reference::Pkcs11Uri, sealer::binding};

const NONCE_BYTES: usize = 12;
const TAG_BITS: u64 = 128;
const OF_KEY: &str = "data key";

/// A key in a token.
pub struct Pkcs11Kek {
    id: String,
    token: Arc<Token>,
    entropy: Arc<dyn Entropy>,
}

struct Token {
    library: Pkcs11,
    uri: Pkcs11Uri,
    pin: Option<Secret<String>>,
}

impl fmt::Debug for Pkcs11Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pkcs11Kek").field(&self.id).finish()
    }
}

fn failed(what: &str, error: &Error) -> KekError {
    let text = format!("the token: {what}: {error}");
    match error {
        Error::Pkcs11(
            RvError::PinIncorrect
            | RvError::PinLocked
            | RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::KeyFunctionNotPermitted
            | RvError::MechanismInvalid
            | RvError::GeneralError,
            _,
        ) => KekError::Refused(text),
        _ => KekError::Unavailable(text),
    }
}

impl Pkcs11Kek {
    /// A key in a token, which is asked with `pin`. Loads the library.
    ///
    /// # Errors
    /// When the library cannot be loaded.
    pub fn new(
        id: String,
        uri: Pkcs11Uri,
        pin: Option<Secret<String>>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, KekError> {
        let library = Pkcs11::new(&uri.module)
            .map_err(|error| KekError::Refused(format!("`{}`: {error}", uri.module.display())))?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Two keys in one token: the library is one.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(failed("it does not start", &error)),
        }
        Ok(Self { id, token: Arc::new(Token { library, uri, pin }), entropy })
    }

    /// Asks the token away from what waits for nothing.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session, ObjectHandle) -> Result<T, KekError> + Send + 'static,
    ) -> Result<T, KekError> {
        let token = Arc::clone(&self.token);
        let asked = tokio::task::spawn_blocking(move || {
            let session = token.session()?;
            let key = token.key(&session)?;
            work(&session, key)
        });
        asked.await.map_err(|_| KekError::Unavailable("the token's library failed".into()))?
    }
}

impl Token {
    fn session(&self) -> Result<Session, KekError> {
        let slots = self.library.get_slots_with_initialized_token();
        let slots = slots.map_err(|error| failed("its slots", &error))?;
        let ours = slots
            .into_iter()
            .find(|slot| self.library.get_token_info(*slot).is_ok_and(|info| info.label() == self.uri.token));
        let absent = || KekError::Unavailable(format!("there is no token `{}`", self.uri.token));
        let session = self.library.open_ro_session(ours.ok_or_else(absent)?);
        let session = session.map_err(|error| failed("no session", &error))?;
        let pin = self.pin.as_ref().map(|pin| AuthPin::new(pin.expose().clone().into()));
        match session.login(UserType::User, pin.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(failed("it lets nobody in", &error)),
        }
    }

    fn key(&self, session: &Session) -> Result<ObjectHandle, KekError> {
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(self.uri.object.clone().into_bytes()),
        ];
        let found = session.find_objects(&wanted).map_err(|error| failed("its keys", &error))?;
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(KekError::Refused(format!("the token has no AES key `{}`", self.uri.object))),
            _ => Err(KekError::Refused(format!("the token has several AES keys `{}`", self.uri.object))),
        }
    }
}

#[async_trait]
impl Kek for Pkcs11Kek {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, key: &Key, context: &str) -> Result<String, KekError> {
        let mut nonce = [0; NONCE_BYTES];
        self.entropy.fill(&mut nonce);
        let (key, bound) = (key.clone(), binding(OF_KEY, &[context]));
        self.ask(move |session, kek| {
            let mut used = nonce;
            let parameters = GcmParams::new(&mut used, &bound, TAG_BITS.into());
            let parameters = parameters.map_err(|error| failed("parameters", &error))?;
            let sealed = session.encrypt(&Mechanism::AesGcm(parameters), kek, key.as_slice());
            let sealed = sealed.map_err(|error| failed("it does not encrypt", &error))?;
            // Some tokens choose the nonce themselves, and write it here.
            Ok(URL_SAFE_NO_PAD.encode([used.as_slice(), &sealed].concat()))
        })
        .await
    }

    async fn unwrap(&self, wrapped: &str, context: &str) -> Result<Key, KekError> {
        let whole = URL_SAFE_NO_PAD.decode(wrapped).unwrap_or_default();
        let bound = binding(OF_KEY, &[context]);
        self.ask(move |session, kek| {
            let (nonce, sealed) = whole
                .split_first_chunk::<NONCE_BYTES>()
                .map_or((None, [].as_slice()), |(n, s)| (Some(*n), s));
            let Some(mut nonce) = nonce else { return exact(None) };
            let parameters = GcmParams::new(&mut nonce, &bound, TAG_BITS.into());
            let parameters = parameters.map_err(|error| failed("parameters", &error))?;
            let plain = session.decrypt(&Mechanism::AesGcm(parameters), kek, sealed);
            let plain = plain.map_err(|error| failed("it does not decrypt", &error))?;
            exact(Some(Zeroizing::new(plain)))
        })
        .await
    }
}
