//! Tokens for one server: found, renewed, asked for, and forgotten when the server does not take them any more.

use std::sync::Arc;

use async_trait::async_trait;
use portcullis_core::{Event, Refusal, Secret, Timestamp};
use portcullis_upstream::{Behalf, Tokens, Unauthorized};
use tokio::sync::OwnedMutexGuard;
use tracing::Instrument as _;

use crate::{
    authorizer::{Authorizer, Slot},
    challenge::Challenge,
    grant::Grant,
    identity::{self, Client, Place},
    metadata::{self, Discovered},
    settings::{Mode, Settings, Subject},
    token::{Desk, Granted},
    web::{Failure, Web},
};

/// Under which name the gateway's own tokens are held.
pub(crate) const ITSELF: &str = "gateway";
/// For how long a failure is the answer to whoever asks next: those who waited for one attempt do not make it again.
const FAILED_MS: u64 = 1_000;
/// The same where the old token still lasts, so that nobody waits for a new one on every call.
const PATIENT_MS: u64 = 10_000;
/// A token of the gateway that is refused so soon after it was granted is not asked for anew.
const FRESH_MS: u64 = 10_000;

/// Tokens for one server.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) server: Arc<str>,
    pub(crate) settings: Arc<Settings>,
    /// Scheme and authority under which browsers reach the gateway, where they do.
    pub(crate) public: Option<String>,
}

impl Outgoing {
    /// Tokens for `server`, which is declared as `settings` say.
    #[must_use]
    pub fn new(
        authorizer: Arc<Authorizer>,
        server: Arc<str>,
        settings: Settings,
        public: Option<String>,
    ) -> Self {
        Self { authorizer, server, settings: Arc::new(settings), public }
    }

    pub(crate) fn redirect(&self) -> String {
        format!("{}/connect/callback", self.public.as_deref().unwrap_or_default())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.authorizer.clock.now()
    }

    /// Works with the grant of `owner`, one at a time, to its end, whoever still waits for it: what an issuer hands out
    /// once would be lost with a client that goes away.
    pub(crate) async fn with<T: Send + 'static, F: Future<Output = Result<T, Refusal>> + Send + 'static>(
        &self,
        owner: &str,
        work: impl FnOnce(Self, OwnedMutexGuard<Slot>) -> F,
    ) -> Result<T, Refusal> {
        let slot = self.authorizer.slot(&self.server, owner).lock_owned().await;
        let task = tokio::spawn(work(self.clone(), slot).in_current_span());
        task.await.unwrap_or_else(|error| Err(Failure::Ours(error.to_string()).into()))
    }

    /// What is known of the caller's grant, read once. One for another server or issuer than is declared now is none: a
    /// name may have been given to another server since the grant was made or read.
    pub(crate) async fn load(&self, slot: &mut Slot, caller: &str) -> Result<(), Failure> {
        let fits = |grant: &Grant| self.fits(grant);
        if slot.grant.as_ref().is_some_and(|grant| !fits(grant)) {
            (slot.grant, slot.known, slot.failed, slot.said) = (None, false, None, None);
        }
        // Where nothing was kept, another gateway on the same store may keep something since.
        if slot.known && (slot.grant.is_some() || self.settings.mode != Mode::User) {
            return Ok(());
        }
        let kept = match self.settings.mode {
            Mode::User => self.authorizer.vault.get(caller, &self.server).await?,
            Mode::ClientCredentials | Mode::Exchange | Mode::IdJag => None,
        };
        // What does not fit is looked at again: the declaration may come back.
        slot.known = kept.as_ref().is_none_or(fits);
        slot.grant = kept.filter(fits);
        Ok(())
    }

    /// Whether a grant is for the server and from the issuer that are declared now.
    pub(crate) fn fits(&self, grant: &Grant) -> bool {
        metadata::covers(&grant.resource, &self.settings.url)
            && self.settings.issuer.as_ref().is_none_or(|issuer| *issuer == grant.issuer)
    }

    /// What keeps the tokens with which callers come, where one of these servers takes one in exchange.
    pub fn exchanging<'a>(mut all: impl Iterator<Item = &'a Arc<Self>>) -> Option<Arc<Authorizer>> {
        all.find(|own| own.exchanges()).map(|own| Arc::clone(&own.authorizer))
    }

    /// Whether the tokens with which callers come are exchanged for those that the server gets.
    #[must_use]
    pub fn exchanges(&self) -> bool {
        let exchange = self.settings.exchange.as_ref();
        exchange.is_some_and(|exchange| matches!(exchange.subject, Subject::Caller))
    }

    /// Whose grant a request needs.
    fn owner<'a>(&self, caller: Option<&'a str>) -> Option<&'a str> {
        match self.settings.mode {
            Mode::User => caller,
            Mode::ClientCredentials => Some(ITSELF),
            Mode::Exchange | Mode::IdJag => None,
        }
    }

    pub(crate) async fn desk<T>(
        &self,
        discovered: &Discovered,
        work: impl AsyncFnOnce(Desk<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let redirect = self.redirect();
        let place = Place { public: self.public.as_deref().unwrap_or_default(), redirect: &redirect };
        let Authorizer { vault, entropy, .. } = &*self.authorizer;
        let client = identity::settle(&self.settings, &discovered.issuer, place, vault, self.now()).await?;
        let (web, issuer) = (Web::new(self.settings.egress), &discovered.issuer);
        let done = work(Desk { web, issuer, client: &client, entropy: &**entropy, now: self.now() }).await;
        self.registered_still(&done, &client, &issuer.name).await?;
        done
    }

    /// Where the gateway registered itself and is not known any more, the next attempt begins with a new registration.
    pub(crate) async fn registered_still<T>(
        &self,
        done: &Result<T, Failure>,
        client: &Client,
        issuer: &str,
    ) -> Result<(), Failure> {
        match done {
            Err(Failure::Refused(code)) if code == "invalid_client" && client.own => {
                self.authorizer.vault.forget_registered(issuer, &self.redirect()).await
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn granted(&self, discovered: &Discovered, granted: Granted, requested: Vec<String>) -> Grant {
        self.granted_by((&discovered.issuer.name, &discovered.resource), granted, requested)
    }

    /// The same, where nothing else is known of who issued it and for what.
    pub(crate) fn granted_by(
        &self,
        (issuer, resource): (&str, &str),
        granted: Granted,
        requested: Vec<String>,
    ) -> Grant {
        let now = self.now();
        Grant {
            issuer: issuer.to_owned(),
            resource: resource.to_owned(),
            access: granted.access,
            refresh: granted.refresh,
            expires: granted.lasts_s.map(|seconds| now.plus_ms(seconds.saturating_mul(1_000))),
            scopes: granted.scopes.unwrap_or_else(|| requested.clone()),
            requested,
            granted: now,
            refreshed: None,
            fruitless: 0,
            hint: None,
            revision: String::new(),
        }
    }

    /// Renews a grant that is about to end. One that cannot be renewed now is used for as long as it lasts.
    async fn renew(&self, slot: &mut Slot, caller: &str) -> Result<(), Failure> {
        let now = self.now();
        let due = slot.grant.as_ref().filter(|grant| grant.is_due(now) && grant.refresh.is_some());
        let Some(grant) = due else { return Ok(()) };
        let (issuer, lasts, hint) = (grant.issuer.clone(), grant.lasts(now), grant.hint.clone());
        if lasts && slot.failed.as_ref().is_some_and(|(at, _)| now < at.plus_ms(PATIENT_MS)) {
            return Ok(());
        }
        let renewed = match metadata::discover(&self.settings, hint.as_deref()).await {
            Ok(discovered) if discovered.issuer.name == issuer => {
                self.refresh(slot, caller, (&discovered, !lasts)).await
            }
            Ok(_) => Err(Failure::Refused("the server has another authorization server now".into())),
            Err(failure) => Err(failure),
        };
        match renewed {
            Err(Failure::Refused(why)) => self.forget(slot, caller, &why).await,
            Err(failure) if lasts => {
                tracing::warn!(server = %self.server, caller, %failure, "a token could not be renewed yet");
                slot.failed = Some((self.now(), failure));
                Ok(())
            }
            // What lay at the server's side or ours passes; the server itself says whether the token still counts.
            Err(failure) => Err(failure),
            Ok(()) => Ok(()),
        }
    }

    /// The same for the gateway's own token.
    async fn renew_own(&self, slot: &mut Slot) -> Result<(), Failure> {
        let now = self.now();
        let Some(grant) = slot.grant.as_ref().filter(|grant| grant.is_due(now)) else { return Ok(()) };
        let lasts = grant.lasts(now);
        if lasts && slot.failed.as_ref().is_some_and(|(at, _)| now < at.plus_ms(PATIENT_MS)) {
            return Ok(());
        }
        match self.own(slot).await {
            Err(failure) if lasts => {
                tracing::warn!(server = %self.server, %failure, "the gateway's token could not be renewed yet");
                slot.failed = Some((self.now(), failure));
                Ok(())
            }
            renewed => renewed,
        }
    }

    async fn forget(&self, slot: &mut Slot, caller: &str, why: &str) -> Result<(), Failure> {
        // What another gateway has stored meanwhile is not what failed.
        if self.overtaken(slot, caller).await? {
            return Ok(());
        }
        let Some(grant) = slot.grant.take() else { return Ok(()) };
        let names = [("issuer", grant.issuer.as_str())];
        self.authorizer.record(Event::ConnectionFailed, (caller, &self.server), &names, Some(why)).await?;
        self.authorizer.vault.forget_seen(self.seen(caller, &grant)).await.map(drop)
    }

    /// The gateway's own token, asked for with what the server said that it wants.
    async fn own(&self, slot: &mut Slot) -> Result<(), Failure> {
        let Some((hint, scopes)) = slot.said.clone() else { return Ok(()) };
        let again = slot.grant.as_ref().map(|grant| grant.requested.clone());
        let discovered = metadata::discover(&self.settings, hint.as_deref()).await?;
        let scopes = self.scopes(&discovered, &scopes, again.as_deref().unwrap_or_default(), false);
        let (text, resource) = (scopes.join(" "), discovered.resource.clone());
        let granted = self
            .desk(&discovered, async |desk| {
                let mut form = vec![("grant_type", "client_credentials"), ("resource", &*resource)];
                if !text.is_empty() {
                    form.push(("scope", &text));
                }
                desk.request(&form).await
            })
            .await?;
        let mut grant = self.granted(&discovered, granted, scopes);
        grant.hint = hint;
        let (event, granted) = match again {
            Some(_) => (Event::ConnectionRefreshed, grant.scopes.join(" ")),
            None => (Event::ConnectionGranted, grant.scopes.join(" ")),
        };
        let names = [("issuer", grant.issuer.as_str()), ("scopes", granted.as_str())];
        self.authorizer.record(event, (ITSELF, &self.server), &names, None).await?;
        slot.grant = Some(grant);
        Ok(())
    }

    /// What to ask for: what the server wants, else what is configured, else what it knows of; and what was granted before.
    pub(crate) fn scopes(
        &self,
        discovered: &Discovered,
        wanted: &[String],
        before: &[String],
        lasting: bool,
    ) -> Vec<String> {
        let first = [wanted, &self.settings.scopes, discovered.scopes.as_deref().unwrap_or_default()];
        let first = first.into_iter().find(|scopes| !scopes.is_empty()).unwrap_or_default();
        let mut scopes: Vec<String> = first.iter().chain(before).cloned().collect();
        if lasting && discovered.issuer.offline_access {
            scopes.push("offline_access".into());
        }
        scopes.sort();
        scopes.dedup();
        scopes
    }
}

#[async_trait]
impl Tokens for Outgoing {
    fn personal(&self) -> bool {
        match self.settings.mode {
            Mode::User => true,
            Mode::ClientCredentials => false,
            Mode::Exchange | Mode::IdJag => self.exchanges(),
        }
    }

    fn per_token(&self) -> bool {
        self.exchanges()
    }

    async fn token(&self, behalf: Option<&Behalf>) -> Result<Option<Secret<String>>, Refusal> {
        if self.settings.exchange.is_some() {
            return self.exchanged(behalf, None).await;
        }
        let caller = behalf.map(|behalf| behalf.caller.as_str());
        let Some(owner) = self.owner(caller).map(str::to_owned) else { return Ok(None) };
        self.with(&owner.clone(), async move |own, mut slot| own.held(&mut slot, &owner).await).await
    }

    async fn refused(
        &self,
        behalf: Option<&Behalf>,
        answer: Unauthorized<'_>,
    ) -> Result<Option<Secret<String>>, Refusal> {
        let challenge = Challenge::of(answer.challenges.iter().copied());
        if answer.status == 403 && !challenge.wants_more_scope() {
            return Ok(None);
        }
        let said =
            Said { token: answer.token.cloned(), more: answer.status == 403, again: answer.again, challenge };
        if self.settings.exchange.is_some() {
            return self.exchanged(behalf, Some(said)).await;
        }
        let caller = behalf.map(|behalf| behalf.caller.as_str());
        let Some(owner) = self.owner(caller).map(str::to_owned) else { return Ok(None) };
        self.with(&owner.clone(), async move |own, mut slot| own.another(&mut slot, &owner, said).await).await
    }
}

/// What a server answered to a request that it did not authorize.
pub(crate) struct Said {
    pub(crate) token: Option<Secret<String>>,
    /// The token counts, and is not enough.
    pub(crate) more: bool,
    pub(crate) again: bool,
    pub(crate) challenge: Challenge,
}

impl Outgoing {
    /// The token that is held, renewed where it is time to.
    async fn held(&self, slot: &mut Slot, owner: &str) -> Result<Option<Secret<String>>, Refusal> {
        self.load(slot, owner).await?;
        self.not_again(slot)?;
        let kept = match self.settings.mode {
            Mode::User => self.renew(slot, owner).await,
            Mode::ClientCredentials => self.renew_own(slot).await,
            Mode::Exchange | Mode::IdJag => Ok(()),
        };
        self.remembered(slot, kept)?;
        Ok(slot.grant.as_ref().map(|grant| grant.access.clone()))
    }

    /// The token in the place of one that the server did not take.
    async fn another(
        &self,
        slot: &mut Slot,
        owner: &str,
        said: Said,
    ) -> Result<Option<Secret<String>>, Refusal> {
        self.load(slot, owner).await?;
        let held = slot.grant.as_ref().map(|grant| &grant.access);
        if held.is_some() && held.map(Secret::expose) != said.token.as_ref().map(Secret::expose) {
            // Somebody else was faster.
            return Ok(held.cloned().filter(|_| !said.again));
        }
        if self.settings.mode == Mode::User {
            return self.refused_user(slot, owner, said).await;
        }
        if said.again || self.is_fruitless(slot, &said) {
            return Ok(None);
        }
        self.not_again(slot)?;
        slot.said = Some((said.challenge.resource_metadata, said.challenge.scopes));
        let asked = self.own(slot).await;
        self.remembered(slot, asked)?;
        Ok(slot.grant.as_ref().map(|grant| grant.access.clone()))
    }

    /// Whether nothing would come of asking for a token of the gateway once more.
    fn is_fruitless(&self, slot: &Slot, Said { more, challenge, .. }: &Said) -> bool {
        slot.grant.as_ref().is_some_and(|grant| {
            let asked = challenge.scopes.iter().all(|scope| grant.requested.contains(scope));
            asked && (*more || self.now() < grant.granted.plus_ms(FRESH_MS))
        })
    }

    /// What failed a moment ago has failed for whoever waited meanwhile, too.
    fn not_again(&self, slot: &Slot) -> Result<(), Failure> {
        let lasts = slot.grant.as_ref().is_some_and(|grant| grant.lasts(self.now()));
        match &slot.failed {
            Some((at, failure)) if !lasts && self.now() < at.plus_ms(FAILED_MS) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    fn remembered<T>(&self, slot: &mut Slot, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &outcome {
            slot.failed = Some((self.now(), failure.clone()));
        }
        outcome
    }

    async fn refused_user(
        &self,
        slot: &mut Slot,
        caller: &str,
        Said { more, again, challenge, .. }: Said,
    ) -> Result<Option<Secret<String>>, Refusal> {
        if more {
            return Err(self.link(caller, &challenge, slot.grant.as_ref()));
        }
        let renewable = slot.grant.as_ref().filter(|grant| !again && grant.refresh.is_some());
        if let Some(issuer) = renewable.map(|grant| grant.issuer.clone()) {
            if let Some((_, failure)) =
                slot.failed.as_ref().filter(|(at, _)| self.now() < at.plus_ms(FAILED_MS))
            {
                return Err(failure.clone().into());
            }
            // The server may have moved to another authorization server, which must not see what is for the old one.
            let discovered = metadata::discover(&self.settings, challenge.resource_metadata.as_deref()).await;
            let discovered = self.remembered(slot, discovered)?;
            if discovered.issuer.name == issuer {
                match self.refresh(slot, caller, (&discovered, true)).await {
                    Ok(()) if slot.grant.is_some() => {
                        return Ok(slot.grant.as_ref().map(|grant| grant.access.clone()));
                    }
                    // Another gateway ended it, or the issuer did.
                    Ok(()) | Err(Failure::Refused(_)) => {}
                    failed @ Err(_) => self.remembered(slot, failed)?,
                }
            }
        }
        if slot.grant.is_some() {
            self.forget(slot, caller, "the server does not take the token any more").await?;
        }
        if let Some(grant) = slot.grant.as_ref().filter(|_| !again) {
            return Ok(Some(grant.access.clone()));
        }
        Err(self.link(caller, &challenge, None))
    }
}
