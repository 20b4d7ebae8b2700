//! Renewal of a grant by one of several gateways on one store. A refresh token counts once, so that whoever uses it claims
//! it before, and the others wait for what comes of it.

use std::time::Duration;

use portcullis_core::Event;
use portcullis_store::{Claim, Seen};

use crate::{
    authorizer::Slot,
    chance::random,
    grant::Grant,
    metadata::Discovered,
    outgoing::Outgoing,
    token::{Desk, Granted},
    web::Failure,
};

/// How long a claim counts, which is longer than a token request can take. A gateway that crashes in the middle of one
/// keeps the others from it for so long.
const CLAIM_MS: u64 = 15_000;
/// How often it is looked whether another gateway is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often at most: two claims of others, one after the other.
const LOOKS_MAX: u32 = 300;

impl Outgoing {
    /// A grant as it is held here.
    pub(crate) fn seen(&self, caller: &str, grant: &Grant) -> Seen {
        let (caller, server) = (caller.to_owned(), self.server.to_string());
        Seen { caller, server, revision: grant.revision.clone() }
    }

    /// Renews a grant, unless another gateway on the same store has done so. While another one is at it, `waits` says
    /// whether to wait for it; if not, the grant stays what it is.
    pub(crate) async fn refresh(
        &self,
        slot: &mut Slot,
        caller: &str,
        (discovered, waits): (&Discovered, bool),
    ) -> Result<(), Failure> {
        if self.overtaken(slot, caller).await? {
            return Ok(());
        }
        match self.refresh_here(slot, caller, (discovered, waits)).await {
            Ok(true) => Ok(()),
            Ok(false) => self.overtaken(slot, caller).await.map(drop),
            Err(Failure::Refused(_)) if self.overtaken(slot, caller).await? => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the store has another grant than the one that is held, or none any more, which is held from now on.
    pub(crate) async fn overtaken(&self, slot: &mut Slot, caller: &str) -> Result<bool, Failure> {
        let Some(held) = &slot.grant else { return Ok(false) };
        let kept = self.authorizer.vault.get(caller, &self.server).await?;
        let other = kept.as_ref().is_none_or(|kept| kept.revision != held.revision);
        if other {
            slot.grant = kept.filter(|kept| self.fits(kept));
        }
        Ok(other)
    }

    /// The new refresh token takes the place of the old one before the access token is used. False where another gateway
    /// does it or has done it.
    async fn refresh_here(
        &self,
        slot: &mut Slot,
        caller: &str,
        (discovered, waits): (&Discovered, bool),
    ) -> Result<bool, Failure> {
        let Some(held) = &slot.grant else { return Ok(false) };
        let Some(old) = held.refresh.clone() else {
            return Err(Failure::Refused("there is no refresh token".into()));
        };
        let (seen, holder) = (self.seen(caller, held), random(&*self.authorizer.entropy));
        let resource = discovered.resource.clone();
        let asked = self.desk(discovered, async |desk| {
            // Not before: from here to the answer it takes no longer than a claim counts.
            if !self.claimed(&seen, &holder, waits).await? {
                return Ok(None);
            }
            let form =
                [("grant_type", "refresh_token"), ("refresh_token", old.expose()), ("resource", &resource)];
            Ok(Some(self.renewed(slot, caller, (&desk, discovered), desk.request(&form).await?).await?))
        });
        let asked = asked.await;
        if asked.is_err()
            && let Err(failure) = self.authorizer.vault.release(seen, &holder).await
        {
            tracing::warn!(server = %self.server, caller, %failure, "a claim ends by itself, not now");
        }
        Ok(asked?.unwrap_or(false))
    }

    /// Whether the renewal is ours. What another has claimed is waited for, where it `waits`.
    async fn claimed(&self, seen: &Seen, holder: &str, waits: bool) -> Result<bool, Failure> {
        for _ in 0..LOOKS_MAX {
            let now = self.now();
            let claim = self.authorizer.vault.claim(seen.clone(), holder, (now, now.plus_ms(CLAIM_MS)));
            match claim.await? {
                Claim::Ours => return Ok(true),
                Claim::Changed => return Ok(false),
                Claim::Theirs if !waits => return Ok(false),
                Claim::Theirs => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        Err(Failure::Unavailable("other gateways renew the token again and again".into()))
    }

    /// Keeps what a renewal gave. False where the connection was ended or made anew meanwhile.
    async fn renewed(
        &self,
        slot: &mut Slot,
        caller: &str,
        (desk, discovered): (&Desk<'_>, &Discovered),
        granted: Granted,
    ) -> Result<bool, Failure> {
        let Some(before) = slot.grant.take() else { return Ok(false) };
        let granted = Granted { scopes: granted.scopes.or(Some(before.scopes)), ..granted };
        let mut grant = self.granted(discovered, granted, before.requested);
        if grant.refresh.is_none() {
            grant.refresh = before.refresh;
        }
        grant.hint = before.hint;
        grant.granted = before.granted;
        grant.refreshed = Some(self.now());
        grant.fruitless = before.fruitless;
        grant.revision = before.revision;
        // The old one is used up at the issuer already: the new one is kept before anything can fail.
        let issuer = grant.issuer.clone();
        let kept = self.authorizer.vault.replace(caller, &self.server, &mut grant).await;
        let (token, kind) = grant.revocable();
        let ended = matches!(kept, Ok(false)) && !self.authorizer.vault.has(caller, &self.server).await?;
        if ended && let Err(failure) = desk.revoke(token, kind).await {
            tracing::warn!(server = %self.server, %failure, "a token that nobody wants any more was not revoked");
        }
        slot.grant = Some(grant);
        if !kept? {
            return Ok(false);
        }
        let names = [("issuer", issuer.as_str())];
        self.authorizer.record(Event::ConnectionRefreshed, (caller, &self.server), &names, None).await?;
        Ok(true)
    }
}
