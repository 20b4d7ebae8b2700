//! The data keys of a store: made once, opened at the start, rotated, destroyed. Gateways on one store have the same.
//!
//! There is one key `index`, which makes digests that are looked up and therefore never changes, and versions of the key
//! `data`, the newest of which seals. A new version seals ten seconds after it was made: until then every gateway on the
//! store has read it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use portcullis_core::{Clock, Entropy, Secret, Timestamp};
use portcullis_store::{DataKeyRow, DataKeys, LocalSecrets, StoreError};

use crate::{
    Key,
    kek::{Kek, KekError},
    ring::{DataKey, Keys, Ring},
};

/// The key of digests.
const INDEX: &str = "index";
/// The key that seals.
pub(crate) const DATA: &str = "data";
/// How long a new version waits before it seals.
const SPREADS_MS: u64 = 10_000;

/// What a keyring works with.
#[derive(Debug)]
pub struct Parts {
    /// Where the keys are kept, wrapped, and what is sealed with them.
    pub store: Arc<dyn DataKeys>,
    /// What the gateway keeps itself beside tables: secrets and planted credentials, which are sealed with them too.
    pub kept: Vec<LocalSecrets>,
    /// What wraps new keys.
    pub kek: Arc<dyn Kek>,
    /// What wrapped keys before, and may unwrap them.
    pub former: Vec<Arc<dyn Kek>>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from.
    pub entropy: Arc<dyn Entropy>,
}

/// The data keys of a store.
pub struct Keyring {
    pub(crate) parts: Parts,
    ring: Arc<Ring>,
    /// What was opened, so that no key is unwrapped twice.
    opened: tokio::sync::Mutex<BTreeMap<(String, u32), Key>>,
    /// Why the ring is closed.
    why: Mutex<Option<String>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("kek", &self.parts.kek)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the keys are open.
    pub open: bool,
    /// Why not.
    pub why: Option<String>,
    /// What wraps new keys.
    pub kek: String,
    /// Every key.
    pub keys: Vec<StatusKey>,
    /// Sealed rows that are not sealed with the newest key.
    pub behind: u64,
    /// All sealed rows.
    pub rows: u64,
}

/// A data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusKey {
    /// What it is for.
    pub name: String,
    /// Which of that name.
    pub version: u32,
    /// What wrapped it.
    pub kek: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it seals now.
    pub seals: bool,
}

fn store(error: &StoreError) -> KekError {
    KekError::Unavailable(error.to_string())
}

/// What a wrapped key is bound to.
fn context(name: &str, version: u32) -> String {
    format!("portcullis/{name}/{version}")
}

impl Keyring {
    /// A keyring that is closed.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            ring: Arc::new(Ring::default()),
            opened: tokio::sync::Mutex::default(),
            why: Mutex::default(),
        }
    }

    /// The keys, as far as they are open.
    #[must_use]
    pub const fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The key-encryption key of the configuration.
    #[must_use]
    pub fn kek(&self) -> &str {
        self.parts.kek.id()
    }

    /// Opens what the store has; where it has nothing, makes keys first, with `index` as that key where it is given. True
    /// where keys were made.
    ///
    /// # Errors
    /// [`KekError`]; the ring stays as it is.
    pub async fn open(&self, index: Option<&Secret<Vec<u8>>>) -> Result<bool, KekError> {
        let done = self.open_or_make(index).await;
        self.settled(done).await
    }

    /// Opens what the store has, and makes nothing.
    ///
    /// # Errors
    /// [`KekError`]; the ring stays as it is.
    pub async fn reopen(&self) -> Result<(), KekError> {
        let rows = self.parts.store.data_keys().await.map_err(|error| store(&error))?;
        let done = match rows.as_slice() {
            [] => Err(KekError::Refused("every data key was destroyed; a restart makes new ones".into())),
            rows => self.take(rows).await,
        };
        self.settled(done).await
    }

    /// Notes why the ring is closed, where it is.
    async fn settled<T>(&self, done: Result<T, KekError>) -> Result<T, KekError> {
        self.leave().await;
        let why = done.as_ref().err().map(ToString::to_string);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        done
    }

    /// Between its uses nobody is logged in at a key service.
    async fn leave(&self) {
        for kek in std::iter::once(&self.parts.kek).chain(&self.parts.former) {
            kek.close().await;
        }
    }

    async fn open_or_make(&self, index: Option<&Secret<Vec<u8>>>) -> Result<bool, KekError> {
        let rows = self.parts.store.data_keys().await.map_err(|error| store(&error))?;
        if !rows.is_empty() {
            self.take(&rows).await?;
            return Ok(false);
        }
        let now = self.parts.clock.now();
        let row = |name: &str, wrapped: String| DataKeyRow {
            name: name.to_owned(),
            version: 1,
            wrapped,
            kek: self.parts.kek.id().to_owned(),
            created: now,
            from: now,
        };
        let first = match index.and_then(|given| <&[u8; 32]>::try_from(given.expose().as_slice()).ok()) {
            Some(given) => self.parts.kek.wrap(&Key::new(*given), &context(INDEX, 1)).await?,
            None => self.parts.kek.make(&context(INDEX, 1), &*self.parts.entropy).await?.1,
        };
        let (_, second) = self.parts.kek.make(&context(DATA, 1), &*self.parts.entropy).await?;
        let rows = vec![row(INDEX, first), row(DATA, second)];
        // Another gateway may have been faster: then its keys are the keys.
        let made = self.parts.store.add_data_keys(rows).await.map_err(|error| store(&error))?;
        let rows = self.parts.store.data_keys().await.map_err(|error| store(&error))?;
        self.take(&rows).await?;
        Ok(made)
    }

    /// Takes up what another gateway changed, and lets a new version seal once it is time.
    ///
    /// # Errors
    /// [`KekError`]; the ring stays as it is.
    pub async fn follow(&self) -> Result<(), KekError> {
        if !self.ring.is_open() {
            return Ok(());
        }
        let rows = self.parts.store.data_keys().await.map_err(|error| store(&error))?;
        if rows.is_empty() {
            tracing::error!("every data key was destroyed: nothing that is sealed can be read any more");
            self.opened.lock().await.clear();
            self.ring.close();
            return Ok(());
        }
        let taken = self.take(&rows).await;
        self.leave().await;
        taken
    }

    /// Unwraps what is not open yet, and puts everything into the ring.
    async fn take(&self, rows: &[DataKeyRow]) -> Result<(), KekError> {
        let mut opened = self.opened.lock().await;
        opened
            .retain(|(name, version), _| rows.iter().any(|row| row.name == *name && row.version == *version));
        for row in rows {
            if let Entry::Vacant(place) = opened.entry((row.name.clone(), row.version)) {
                place.insert(self.unwrap(row).await?);
            }
        }
        let now = self.parts.clock.now();
        let damaged = || KekError::Refused("the keys of the store are not complete".into());
        let index = opened.get(&(INDEX.to_owned(), 1)).ok_or_else(damaged)?;
        let mut data = BTreeMap::new();
        for row in rows.iter().filter(|row| row.name == DATA) {
            let key = opened.get(&(row.name.clone(), row.version)).ok_or_else(damaged)?;
            data.insert(row.version, DataKey::new(key, row.from).ok_or_else(damaged)?);
        }
        let ready = data.iter().rev().find(|(_, key)| key.from <= now).or_else(|| data.first_key_value());
        let current = *ready.ok_or_else(damaged)?.0;
        self.ring.put(Keys { index: Secret::new(index.to_vec()), data, current });
        Ok(())
    }

    async fn unwrap(&self, row: &DataKeyRow) -> Result<Key, KekError> {
        let all = std::iter::once(&self.parts.kek).chain(&self.parts.former);
        let kek = all.into_iter().find(|kek| kek.id() == row.kek).ok_or_else(|| {
            KekError::Refused(format!(
                "the keys of the store are wrapped by `{}`, and `encryption.key` is `{}`; name the other one under \
                 `encryption.former`",
                row.kek,
                self.parts.kek.id()
            ))
        })?;
        kek.unwrap(&row.wrapped, &context(&row.name, row.version)).await
    }

    /// Wraps every key anew with the key-encryption key of the configuration, whether or not it wrapped it before: that
    /// one may have new versions of its own. How many were wrapped anew.
    ///
    /// # Errors
    /// [`KekError`]; what was done until then stays, and the next try goes on.
    pub async fn rewrap(&self) -> Result<u64, KekError> {
        let done = self.rewrap_all().await;
        self.leave().await;
        done
    }

    async fn rewrap_all(&self) -> Result<u64, KekError> {
        let mut done = 0;
        for row in self.parts.store.data_keys().await.map_err(|error| store(&error))? {
            let key = self.unwrap(&row).await?;
            let context = context(&row.name, row.version);
            let wrapped = self.parts.kek.wrap(&key, &context).await?;
            // Nothing is given up before the other way is seen to work.
            if *self.parts.kek.unwrap(&wrapped, &context).await? != *key {
                return Err(KekError::Refused(
                    "the key-encryption key gives back another key than it got".into(),
                ));
            }
            let kek = self.parts.kek.id().to_owned();
            let put = self.parts.store.rewrap_data_key(row, wrapped, kek).await;
            done += u64::from(put.map_err(|error| store(&error))?);
        }
        Ok(done)
    }

    /// Makes a new version of the key that seals, which seals in ten seconds. Its number.
    ///
    /// # Errors
    /// [`KekError`].
    pub async fn add(&self) -> Result<u32, KekError> {
        let rows = self.parts.store.data_keys().await.map_err(|error| store(&error))?;
        let newest = rows.iter().filter(|row| row.name == DATA).map(|row| row.version).max().unwrap_or(0);
        let version = newest.saturating_add(1);
        let made = self.parts.kek.make(&context(DATA, version), &*self.parts.entropy).await;
        self.leave().await;
        let (key, wrapped) = made?;
        let now = self.parts.clock.now();
        let row = DataKeyRow {
            name: DATA.to_owned(),
            version,
            wrapped,
            kek: self.parts.kek.id().to_owned(),
            created: now,
            from: now.plus_ms(SPREADS_MS),
        };
        if !self.parts.store.add_data_keys(vec![row]).await.map_err(|error| store(&error))? {
            return Err(KekError::Unavailable("another gateway is rotating the keys".into()));
        }
        self.opened.lock().await.insert((DATA.to_owned(), version), key);
        self.follow().await?;
        Ok(version)
    }

    /// Destroys the versions before the one that seals. What they sealed can never be read again.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn retire(&self) -> Result<u64, KekError> {
        let Some(keys) = self.ring.keys() else { return Ok(0) };
        let which = Some((DATA.to_owned(), keys.current));
        let gone = self.parts.store.destroy_data_keys(which).await.map_err(|error| store(&error))?;
        self.follow().await?;
        Ok(gone)
    }

    /// Destroys every key. What is sealed can never be read again, and no API key counts any more.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn shred(&self) -> Result<u64, KekError> {
        let gone = self.parts.store.destroy_data_keys(None).await.map_err(|error| store(&error))?;
        self.opened.lock().await.clear();
        self.ring.close();
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some("every key was destroyed".into());
        Ok(gone)
    }

    /// How things stand.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn status(&self) -> Result<Status, KekError> {
        let rows = self.parts.store.data_keys().await.map_err(|error| store(&error))?;
        let current = self.ring.keys().map(|keys| keys.current);
        let progress = self.behind().await.map_err(|error| store(&error))?;
        let keys = rows.into_iter().map(|row| StatusKey {
            seals: row.name == DATA && Some(row.version) == current,
            name: row.name,
            version: row.version,
            kek: row.kek,
            created: row.created,
        });
        Ok(Status {
            open: self.ring.is_open(),
            why: self.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            kek: self.parts.kek.id().to_owned(),
            keys: keys.collect(),
            behind: progress.left,
            rows: progress.done.saturating_add(progress.left),
        })
    }
}
