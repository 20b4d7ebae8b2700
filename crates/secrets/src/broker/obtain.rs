//! Where a document comes from: each kind of source asked once.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Address, Broker,
    slot::{Held, Slot},
};
use crate::{
    local,
    reference::{AwsValue, Reference},
    source::{Document, Failure, Lease, WHOLE},
};

/// How long a file is believed.
const FILE_LASTS: Duration = Duration::from_secs(5);
/// How long a secret of our own is believed: another gateway on the same store may have put a new one there.
const OWN_LASTS: Duration = Duration::from_secs(5);

impl Broker {
    /// A document: what is held under a renewed lease, or a new one.
    pub(super) async fn obtain(&self, slot: &Slot, held: Option<&Held>) -> Result<Document, Failure> {
        match &slot.address {
            Address::File(_) => self.read_file(slot).await,
            Address::Local(name) => self.read_local(name).await,
            Address::Vault { path, version } => {
                let vault = self.vault.as_ref().ok_or_else(|| undeclared("secrets.vault"))?;
                if let Some(held) = held
                    && let Lease::Held { id, lasts, renewable: true } = &held.document.lease
                    && self.clock.ticks_us() < held.dead_us
                    && let Ok(lease @ Lease::Held { lasts: now, .. }) = vault.renew(id, *lasts).await
                    // Near the end of its longest time a lease gets shorter with each renewal.
                    && now >= *lasts / 2
                {
                    return Ok(Document { lease, ..held.document.clone() });
                }
                vault.read(path, *version).await
            }
            Address::Aws { name, stage, version } => {
                let aws = self.aws.as_ref().ok_or_else(|| undeclared("secrets.aws"))?;
                let which = match (stage, version) {
                    (Some(stage), _) => AwsValue::Stage(stage.clone()),
                    (None, version) => AwsValue::Version(version.clone().unwrap_or_default()),
                };
                aws.read(name, &which).await
            }
        }
    }

    async fn read_local(&self, name: &str) -> Result<Document, Failure> {
        let keeper = self.keeper.as_ref().ok_or_else(|| {
            Failure::Unavailable(format!(
                "`local:{name}` is kept by the gateway, and this is another program"
            ))
        })?;
        let (value, version) = keeper.read(name).await?.ok_or_else(|| {
            Failure::Absent(format!("no secret is called `{name}`; `portcullis secret put {name}` keeps one"))
        })?;
        let fields = BTreeMap::from([(WHOLE.to_owned(), value)]);
        Ok(Document { fields, version: Some(version), lease: Lease::Until(OWN_LASTS), created: None })
    }

    async fn read_file(&self, slot: &Slot) -> Result<Document, Failure> {
        let reference = Reference::parse(&slot.address.to_string())
            .map_err(|mistake| Failure::Absent(mistake.message))?;
        let variables = self.variables.clone();
        let read = move || (local::changed(&reference), local::read(&reference, &variables));
        let read = tokio::task::spawn_blocking(read).await;
        let (created, value) = read.map_err(|error| Failure::Unavailable(error.to_string()))?;
        let fields = BTreeMap::from([(WHOLE.to_owned(), value.map_err(Failure::Unavailable)?)]);
        Ok(Document { fields, version: None, lease: Lease::Until(FILE_LASTS), created })
    }
}

pub(super) fn undeclared(section: &str) -> Failure {
    Failure::Unavailable(format!("`{section}` is not configured"))
}
