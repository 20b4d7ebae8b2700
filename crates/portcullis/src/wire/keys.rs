//! From the section `encryption` to data keys that are open, and what is done while they are not.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use portcullis_config::{Config, Unavailable, read_bounded};
use portcullis_core::{Clock, Entropy, Event, Secret};
use portcullis_seal::{FileKek, Kek, KekError, KeyReference, Keyring, Parts, Pkcs11Kek};
use portcullis_secrets::{KmsKek, TransitKek, Vault};
use portcullis_store::{DataDir, DataKeys, Keys as _, LocalSecrets, Revisions, Sqlite, read_secret};
use serde_json::json;
use tokio::sync::watch;

use super::{
    reload, secrets,
    start::{Core, record},
};

/// How often the key service is asked again, and keys of other gateways are looked for.
const AGAIN: Duration = Duration::from_secs(5);

/// The data keys of the store, open; or, where configuration bears that, closed for now.
///
/// # Errors
/// What keeps the keys closed.
pub(super) async fn open(
    (dir, config): (&DataDir, &Config),
    store: &Arc<Sqlite>,
    (clock, entropy): (&Arc<dyn Clock>, &Arc<dyn Entropy>),
) -> anyhow::Result<Arc<Keyring>> {
    let section = &config.settings.encryption;
    let fresh = store.data_keys().await?.is_empty();
    let own = KeyReference::File(dir.kek());
    let reference = section.key.as_ref().unwrap_or(&own);
    let making = Making { dir, config, clock, entropy, passphrase: passphrase(config)? };
    let kek = making.kek(reference, fresh).with_context(|| format!("`encryption.key`, {reference}"))?;
    let mut former = Vec::new();
    for reference in &section.former {
        former.push(making.former(reference).with_context(|| format!("`encryption.former`, {reference}"))?);
    }
    let keyring = Arc::new(Keyring::new(Parts {
        store: Arc::clone(store) as Arc<dyn DataKeys>,
        kept: LocalSecrets::all(&(Arc::clone(store) as Arc<dyn Revisions>)),
        kek,
        former,
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
    }));
    // Gateways had the key of digests in a file once.
    let before = if fresh { read_secret(&dir.pepper())? } else { None };
    match keyring.open(before.as_ref()).await {
        Ok(true) if before.is_some() => {
            std::fs::remove_file(dir.pepper()).context("the file `pepper` cannot be removed")?;
        }
        Ok(true) => missed(store).await?,
        Ok(false) => {}
        Err(KekError::Unavailable(reason)) if !fresh && section.unavailable == Unavailable::Degraded => {
            tracing::error!(
                reason,
                "the data keys are not open: what needs nothing that is sealed is served, everything else refused"
            );
        }
        Err(error) => return Err(anyhow!("the data keys of the store cannot be opened: {error}")),
    }
    Ok(keyring)
}

/// Says what is lost where keys were made anew, and anything was kept under others.
async fn missed(store: &Arc<Sqlite>) -> anyhow::Result<()> {
    let secrets = LocalSecrets::new(Arc::clone(store) as Arc<dyn Revisions>);
    if !store.list().await?.is_empty() || !secrets.list().await?.is_empty() {
        tracing::warn!(
            "the store had no data keys and they were made anew: no API key, connection, approval link or kept secret from \
             before counts any more; restore a backup of the store, or make new keys"
        );
    }
    Ok(())
}

fn passphrase(config: &Config) -> anyhow::Result<Option<Secret<String>>> {
    let reference = config.settings.encryption.passphrase.as_ref();
    let read = reference.map(|reference| portcullis_secrets::read(reference, &secrets::variables()));
    read.transpose().map_err(|reason| anyhow!("`encryption.passphrase`: {reason}"))
}

struct Making<'a> {
    dir: &'a DataDir,
    config: &'a Config,
    clock: &'a Arc<dyn Clock>,
    entropy: &'a Arc<dyn Entropy>,
    passphrase: Option<Secret<String>>,
}

impl Making<'_> {
    /// The key; a file that is not there is made where there is nothing yet that another key wrapped.
    fn kek(&self, reference: &KeyReference, fresh: bool) -> anyhow::Result<Arc<dyn Kek>> {
        match reference {
            KeyReference::File(path) if fresh && !path.exists() => {
                let text = FileKek::text(self.passphrase.as_ref(), &**self.entropy);
                let text = text.context("no key can be made")?;
                let (text, _) = self.dir.secret(path, || text)?;
                tracing::info!(file = %path.display(), "made a key-encryption key; keep a copy apart from backups of the store");
                self.file(text.expose(), self.passphrase.as_ref())
            }
            _ => self.existing(reference, self.passphrase.as_ref()),
        }
    }

    /// A key of before may be under the same passphrase, or under none.
    fn former(&self, reference: &KeyReference) -> anyhow::Result<Arc<dyn Kek>> {
        self.existing(reference, self.passphrase.as_ref()).or_else(|error| match reference {
            KeyReference::File(_) if self.passphrase.is_some() => self.existing(reference, None),
            _ => Err(error),
        })
    }

    fn existing(
        &self,
        reference: &KeyReference,
        passphrase: Option<&Secret<String>>,
    ) -> anyhow::Result<Arc<dyn Kek>> {
        let section = &self.config.settings.secrets;
        Ok(match reference {
            KeyReference::File(path) => self.file(&self.read(path)?, passphrase)?,
            KeyReference::Vault { mount, key } => {
                let vault = section.vault.as_ref().context("there is no `secrets.vault`")?;
                let settings =
                    secrets::vault_settings(vault, section.aws.as_ref()).map_err(anyhow::Error::msg)?;
                let vault = Vault::new(settings, Arc::clone(self.clock)).map_err(anyhow::Error::msg)?;
                Arc::new(TransitKek::new(vault, mount.clone(), key.clone()))
            }
            KeyReference::Aws(key) => {
                let identity = secrets::identity(section.aws.as_ref()).map_err(anyhow::Error::msg)?;
                Arc::new(KmsKek::new(key.clone(), identity, Arc::clone(self.clock)))
            }
            KeyReference::Pkcs11(uri) => {
                let (pin, entropy) = (self.passphrase.clone(), Arc::clone(self.entropy));
                Arc::new(Pkcs11Kek::new(reference.to_string(), uri.clone(), pin, entropy)?)
            }
        })
    }

    /// In the data directory nobody else may read it; where it is elsewhere, platforms have rules of their own.
    fn read(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        let absent =
            "it is not there, and the data keys of the store are wrapped by it or another: restore it";
        if path == self.dir.kek() {
            return Ok(read_secret(path)?.context(absent)?.expose().clone());
        }
        read_bounded(path).with_context(|| if path.exists() { "it cannot be read" } else { absent })
    }

    fn file(&self, text: &[u8], passphrase: Option<&Secret<String>>) -> anyhow::Result<Arc<dyn Kek>> {
        Ok(Arc::new(FileKek::of_text(text, passphrase, Arc::clone(self.entropy))?))
    }
}

/// Until `stop`: opens what could not be opened at the start, and takes up what other gateways on the store rotate.
pub(crate) async fn follow(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut changed = core.revisions.changed();
    let mut open = core.world.keyring.ring().is_open();
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(AGAIN) => {}
            changed = changed.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
        let keyring = &core.world.keyring;
        if keyring.ring().is_open() {
            if let Err(error) = keyring.follow().await {
                tracing::error!(%error, "new data keys cannot be opened; the old ones stay");
            }
        } else if let Err(error) = keyring.reopen().await {
            tracing::debug!(%error, "the data keys are still not open");
        }
        // Those that were planted on another gateway, too.
        if let Err(error) = core.world.canaries.look_for_all().await {
            tracing::error!(%error, "planted credentials cannot be read; those that were are looked for");
        }
        let now = keyring.ring().is_open();
        if now != std::mem::replace(&mut open, now) {
            turned(&core, now).await;
        }
    }
}

/// What was compiled without the keys is compiled with them, and the other way round.
async fn turned(core: &Core, open: bool) {
    if open {
        tracing::info!("the data keys are open");
        let data = [("kek", json!(core.world.keyring.kek()))];
        if let Err(error) = record(core, Event::SealOpened, data).await {
            tracing::error!(%error, "that the data keys are open could not be recorded");
        }
    }
    if let Err(mistakes) = reload::reload(core).await {
        tracing::error!(
            mistakes = mistakes.join("; "),
            "the rules cannot be compiled anew; restart the gateway"
        );
    }
}
