//! Credentials that were planted: kept sealed in the store, and looked for in everything that passes.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::anyhow;
use portcullis_admin::{CanaryBook, CanaryState, CanaryValues, Pending};
use portcullis_core::{Clock, Entropy, Secret};
use portcullis_seal::Sealer;
use portcullis_secrets::{Bait, Broker, Watched};
use portcullis_store::{LocalSecret, LocalSecrets, Revisions, Sqlite};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// All of a store.
#[derive(Clone)]
pub(crate) struct Canaries {
    kept: LocalSecrets,
    sealer: Sealer,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    watched: Arc<Watched>,
}

impl std::fmt::Debug for Canaries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Canaries(****)")
    }
}

/// What is sealed of one.
#[derive(Deserialize, Serialize)]
struct Planted {
    kind: String,
    values: BTreeMap<String, String>,
}

impl Canaries {
    /// Those of a store, which are looked for from now on.
    pub(super) async fn open(
        store: &Arc<Sqlite>,
        sealer: &Sealer,
        (clock, entropy): (&Arc<dyn Clock>, &Arc<dyn Entropy>),
        broker: &Broker,
    ) -> anyhow::Result<Self> {
        let canaries = Self {
            kept: LocalSecrets::canaries(Arc::clone(store) as Arc<dyn Revisions>),
            sealer: sealer.clone(),
            entropy: Arc::clone(entropy),
            clock: Arc::clone(clock),
            watched: Arc::clone(broker.watched()),
        };
        canaries.look_for_all().await.map_err(|reason| anyhow!("planted credentials: {reason}"))?;
        Ok(canaries)
    }

    /// Looks for what the store has now. While its keys are not open that is nothing new.
    pub(super) async fn look_for_all(&self) -> Result<(), String> {
        if !self.sealer.is_open() {
            return Ok(());
        }
        let rows = self.kept.list().await.map_err(|error| error.to_string())?;
        let opened: Vec<_> = rows.iter().filter_map(|row| Some((&row.name, self.opened(row)?))).collect();
        let values = opened
            .iter()
            .flat_map(|(name, planted)| planted.values.values().map(|value| (name.as_str(), value.as_str())));
        self.watched.plant(values);
        Ok(())
    }

    fn opened(&self, row: &LocalSecret) -> Option<Planted> {
        let opened = self.sealer.open_kept(self.kept.purpose(), &[&row.name], &row.sealed)?;
        serde_json::from_slice(&Zeroizing::new(opened)).ok()
    }

    fn sealed(&self, name: &str, kind: &str, values: &CanaryValues) -> Option<String> {
        let values = values.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect();
        let planted = Planted { kind: kind.to_owned(), values };
        let text = serde_json::to_vec(&planted).map(Zeroizing::new).ok()?;
        self.sealer.seal(self.kept.purpose(), &[name], &text, &*self.entropy)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        std::mem::take(&mut self.values).into_values().for_each(|value| drop(Zeroizing::new(value)));
    }
}

impl CanaryBook for Canaries {
    fn list(&self) -> Pending<Result<Vec<CanaryState>, String>> {
        let own = self.clone();
        Box::pin(async move {
            let rows = own.kept.list().await.map_err(|error| error.to_string())?;
            let view = |row: LocalSecret| {
                let kind = own.opened(&row).map(|planted| planted.kind.clone());
                CanaryState { name: row.name, kind, created: row.at, by: row.by }
            };
            Ok(rows.into_iter().map(view).collect())
        })
    }

    fn make(&self, kind: &str) -> Option<CanaryValues> {
        let made = Bait::named(kind)?.make(&*self.entropy).into_iter();
        Some(made.map(|(name, value): (_, Secret<String>)| (name.to_owned(), value)).collect())
    }

    fn plant(&self, name: &str, kind: &str, values: &CanaryValues, by: &str) -> Pending<Result<(), String>> {
        let (own, name, by) = (self.clone(), name.to_owned(), by.to_owned());
        let sealed = self.sealed(&name, kind, values);
        Box::pin(async move {
            let sealed = sealed.ok_or("the credential cannot be sealed")?;
            let put = own.kept.put(&name, sealed, None, (&by, own.clock.now())).await;
            if !put.map_err(|error| error.to_string())? {
                return Err("somebody else planted it meanwhile; take another name".to_owned());
            }
            own.look_for_all().await
        })
    }

    fn remove(&self, name: &str, by: &str) -> Pending<Result<(), String>> {
        let (own, name, by) = (self.clone(), name.to_owned(), by.to_owned());
        Box::pin(async move {
            if let Some(row) = own.kept.get(&name).await.map_err(|error| error.to_string())? {
                let removed = own.kept.remove(&row, (&by, own.clock.now())).await;
                removed.map_err(|error| error.to_string())?;
            }
            own.look_for_all().await
        })
    }
}
