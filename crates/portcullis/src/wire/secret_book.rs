//! What the admin API asks about secrets: those that the gateway keeps itself, and those to which its configuration refers.

use std::sync::Arc;

use portcullis_admin::{Pending, RenewedSecret, SecretBook, SecretState, SecretUse};
use portcullis_core::Secret;
use portcullis_secrets::{Reference, Renewed, WATCHED_BYTES_MIN};
use portcullis_store::LocalSecret;
use zeroize::Zeroizing;

use super::{added, secrets::Own, start::Core};

/// What the admin API asks.
#[derive(Debug)]
pub(crate) struct OwnBook(pub(crate) Arc<Core>);

impl Own {
    fn state(&self, row: LocalSecret) -> SecretState {
        let opened = self.sealer.open_kept(self.secrets.purpose(), &[&row.name], &row.sealed);
        let watched = opened.map(|value| Zeroizing::new(value).len() >= WATCHED_BYTES_MIN);
        SecretState { name: row.name, changed: row.at, by: row.by, watched }
    }
}

/// The places of the configuration, and of servers that were added at run time, at which a reference stands that `wanted`
/// takes.
async fn places(
    core: &Core,
    wanted: impl Fn(&str, &Reference) -> bool,
) -> Result<Vec<(String, Reference)>, String> {
    let config = core.config.load_full();
    let mut servers = added::added(&core.world).await.map_err(|error| error.to_string())?;
    servers.extend(config.settings.servers.clone());
    let all = config.settings.references_with(&servers).into_iter();
    let all = all.filter(|(key, reference)| reference.as_literal().is_none() && wanted(key, reference));
    Ok(all.map(|(key, reference)| (key, reference.clone())).collect())
}

/// Whether it is called so: by its key, or by its reference with or without the field.
fn is_called(name: &str, key: &str, reference: &Reference) -> bool {
    let text = reference.to_string();
    key == name || text == name || text.split('#').next() == Some(name)
}

/// The server that is given what stands at a key.
fn server_at(key: &str) -> Option<String> {
    let rest = key.strip_prefix("servers.")?;
    let (server, _) = rest.split_once(".headers.").or_else(|| rest.split_once(".env."))?;
    Some(server.to_owned())
}

impl SecretBook for OwnBook {
    fn list(&self) -> Pending<Result<Vec<SecretState>, String>> {
        let own = Arc::clone(&self.0.world.own);
        Box::pin(async move {
            let rows = own.secrets.list().await.map_err(|error| error.to_string())?;
            Ok(rows.into_iter().map(|row| own.state(row)).collect())
        })
    }

    fn put(&self, name: &str, value: Secret<String>, by: &str) -> Pending<Result<(), String>> {
        let (core, name, by) = (Arc::clone(&self.0), name.to_owned(), by.to_owned());
        let own = Arc::clone(&core.world.own);
        Box::pin(async move {
            let (purpose, bytes) = (own.secrets.purpose(), value.expose().as_bytes());
            let sealed = own.sealer.seal(purpose, &[&name], bytes, &*own.entropy);
            let sealed = sealed.ok_or("the value cannot be sealed")?;
            let before = own.secrets.get(&name).await.map_err(|error| error.to_string())?;
            let before = before.map(|row| row.digest);
            let put = own.secrets.put(&name, sealed, before, (&by, own.clock.now())).await;
            match put.map_err(|error| error.to_string())? {
                true => {
                    core.world.broker.look_again();
                    core.rotated.notify_one();
                    Ok(())
                }
                false => Err("it was changed by somebody else meanwhile; look again, then repeat".to_owned()),
            }
        })
    }

    fn remove(&self, name: &str, by: &str) -> Pending<Result<(), String>> {
        let (core, name, by) = (Arc::clone(&self.0), name.to_owned(), by.to_owned());
        let own = Arc::clone(&core.world.own);
        Box::pin(async move {
            let Some(row) = own.secrets.get(&name).await.map_err(|error| error.to_string())? else {
                return Ok(());
            };
            let removed = own.secrets.remove(&row, (&by, own.clock.now())).await;
            core.world.broker.look_again();
            removed.map(drop).map_err(|error| error.to_string())
        })
    }

    fn uses(&self, name: &str) -> Pending<Result<Vec<SecretUse>, String>> {
        let (core, name) = (Arc::clone(&self.0), name.to_owned());
        Box::pin(async move {
            let places = places(&core, |key, reference| is_called(&name, key, reference)).await?.into_iter();
            let used = |(key, reference): (String, Reference)| SecretUse {
                server: server_at(&key),
                personal: reference.personal(),
                reference: reference.to_string(),
                key,
            };
            Ok(places.map(used).collect())
        })
    }

    fn renew(&self, key: &str, at_source: bool) -> Pending<Result<Vec<RenewedSecret>, String>> {
        let (core, wanted) = (Arc::clone(&self.0), key.to_owned());
        Box::pin(async move {
            let found = places(&core, |key, _| key == wanted).await?.into_iter().next();
            let (_, reference) = found.ok_or("nothing stands there any more")?;
            let renewed = core.world.broker.renew(&reference, at_source).await;
            core.rotated.notify_one();
            let told = |one: Renewed| RenewedSecret {
                document: one.document,
                changed: one.changed,
                version: one.version,
            };
            renewed.map(|all| all.into_iter().map(told).collect()).map_err(|failure| failure.to_string())
        })
    }
}
