//! What an operator asks of a secret: another value, and whether it is one that can be watched.

use std::sync::Arc;

use super::{Address, Broker, Why, obtain::undeclared, slot::differs};
use crate::{
    reference::{AwsValue, Place, Reference},
    source::Failure,
    watch::is_watchable,
};

/// What came of it for one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The reference without its field.
    pub document: String,
    /// Whether the value is another one; nothing was held before where this says nothing.
    pub changed: Option<bool>,
    /// What the source calls this state of it.
    pub version: Option<String>,
}

impl Broker {
    /// Fetches a secret anew, whatever is held of it; credentials with a lease are made anew. Of one that differs by caller
    /// those that are held. With `at_source` the source is told to make a new value first.
    ///
    /// # Errors
    /// Why there is no other one.
    pub async fn renew(
        self: &Arc<Self>,
        reference: &Reference,
        at_source: bool,
    ) -> Result<Vec<Renewed>, Failure> {
        let slots = match reference.personal() {
            true => {
                let fits = |address: &Address| match (address, reference.place()) {
                    (Address::Vault { path: found, .. }, Place::Vault { path: name, .. })
                    | (Address::Aws { name: found, .. }, Place::Aws { name, .. }) => name.fits(found),
                    _ => false,
                };
                self.lock().values().filter(|slot| fits(&slot.address)).cloned().collect()
            }
            false if reference.fixed() => {
                return Err(Failure::Absent(format!(
                    "`{reference}` is read when the gateway starts: change it there, and restart"
                )));
            }
            false => vec![self.slot(reference, None)?],
        };
        if at_source {
            self.rotate_at_source(reference).await?;
        }
        let mut done = Vec::new();
        for slot in slots {
            let before = slot.held();
            let held = self.fetch(&slot, Why::Asked).await?;
            done.push(Renewed {
                document: slot.address.to_string(),
                changed: before.map(|before| differs(&before.document, &held.document)),
                version: held.document.version.clone(),
            });
        }
        Ok(done)
    }

    async fn rotate_at_source(&self, reference: &Reference) -> Result<(), Failure> {
        let personal =
            || Failure::Absent(format!("`{reference}` differs by caller: rotate each at its source"));
        match reference.place() {
            Place::Vault { path, .. } => {
                let vault = self.vault.as_ref().ok_or_else(|| undeclared("secrets.vault"))?;
                vault.rotate(&path.filled(None).ok_or_else(personal)?).await
            }
            Place::Aws { name, which: AwsValue::Stage(_), .. } => {
                let aws = self.aws.as_ref().ok_or_else(|| undeclared("secrets.aws"))?;
                aws.rotate(&name.filled(None).ok_or_else(personal)?).await
            }
            Place::Aws { .. } => Err(Failure::Absent(format!("`{reference}` names one version of a secret"))),
            Place::Literal | Place::Env(_) | Place::File(_) | Place::Local(_) => {
                Err(Failure::Absent(format!("`{reference}` has no source that could make a new value")))
            }
        }
    }

    /// Follows a reference, and says whether its value is long enough to be looked for in what comes back.
    ///
    /// # Errors
    /// As [`Broker::value`].
    pub async fn probe(
        self: &Arc<Self>,
        reference: &Reference,
        caller: Option<&str>,
    ) -> Result<bool, Failure> {
        let value = self.value(reference, caller).await?;
        Ok(is_watchable(value.expose().strip_prefix(reference.prefix()).unwrap_or_default()))
    }
}
