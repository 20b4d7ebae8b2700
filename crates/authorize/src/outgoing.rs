//! Tokens for one server: found, renewed, asked for, and forgotten when the server does not take them any more.

use std::sync::Arc;

use async_trait::async_trait;
use portcullis_core::{Event, Refusal, Secret, Timestamp};
use portcullis_upstream::{Tokens, Unauthorized};

use crate::{
    authorizer::{Authorizer, CONNECTIONS_MAX, Slot},
    challenge::Challenge,
    grant::Grant,
    identity::{self, Place},
    metadata::{self, Discovered},
    settings::{Mode, Settings},
    token::{Desk, Granted},
    web::{Failure, Web},
};

/// Under which name the gateway's own tokens are held.
const ITSELF: &str = "gateway";

/// Tokens for one server.
#[derive(Debug)]
pub struct Outgoing {
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) server: Arc<str>,
    pub(crate) settings: Settings,
    /// Scheme and authority under which browsers reach the gateway, where they do.
    pub(crate) public: Option<String>,
}

impl Outgoing {
    /// Tokens for `server`, which is declared as `settings` say.
    #[must_use]
    pub const fn new(
        authorizer: Arc<Authorizer>,
        server: Arc<str>,
        settings: Settings,
        public: Option<String>,
    ) -> Self {
        Self { authorizer, server, settings, public }
    }

    pub(crate) fn redirect(&self) -> String {
        format!("{}/connect/callback", self.public.as_deref().unwrap_or_default())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.authorizer.clock.now()
    }

    /// What is known of the caller's grant, read once. One for another server or issuer than is declared now is none.
    pub(crate) async fn load(&self, slot: &mut Slot, caller: &str) -> Result<(), Failure> {
        if slot.known {
            return Ok(());
        }
        if self.settings.mode == Mode::User {
            let kept = self.authorizer.vault.get(caller, &self.server).await?;
            slot.grant = kept.filter(|grant| {
                metadata::covers(&grant.resource, &self.settings.url)
                    && self.settings.issuer.as_ref().is_none_or(|issuer| *issuer == grant.issuer)
            });
        }
        slot.known = true;
        Ok(())
    }

    /// Whose grant a request needs.
    fn owner<'a>(&self, caller: Option<&'a str>) -> Option<&'a str> {
        match self.settings.mode {
            Mode::User => caller,
            Mode::ClientCredentials => Some(ITSELF),
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
        work(Desk { web, issuer, client: &client, entropy: &**entropy, now: self.now() }).await
    }

    pub(crate) fn granted(&self, discovered: &Discovered, granted: Granted, requested: Vec<String>) -> Grant {
        let now = self.now();
        Grant {
            issuer: discovered.issuer.name.clone(),
            resource: discovered.resource.clone(),
            access: granted.access,
            refresh: granted.refresh,
            expires: granted.lasts_s.map(|seconds| now.plus_ms(seconds.saturating_mul(1_000))),
            scopes: granted.scopes.unwrap_or_else(|| requested.clone()),
            requested,
            granted: now,
            refreshed: None,
            fruitless: 0,
        }
    }

    /// Renews a grant. The new refresh token takes the place of the old one before the access token is used.
    async fn refresh(&self, slot: &mut Slot, caller: &str, discovered: &Discovered) -> Result<(), Failure> {
        let Some(Grant { refresh: Some(refresh), .. }) = &slot.grant else {
            return Err(Failure::Refused("there is no refresh token".into()));
        };
        let (old, resource) = (refresh.clone(), discovered.resource.clone());
        let granted = self
            .desk(discovered, async |desk| {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", old.expose()),
                    ("resource", &resource),
                ];
                desk.request(&form).await
            })
            .await?;
        let Some(before) = slot.grant.take() else { return Ok(()) };
        let mut grant = self.granted(discovered, granted, before.requested);
        if grant.refresh.is_none() {
            grant.refresh = before.refresh;
        }
        grant.granted = before.granted;
        grant.refreshed = Some(self.now());
        grant.fruitless = before.fruitless;
        // The old one is used up at the issuer already: the new one is kept before anything can fail.
        let issuer = grant.issuer.clone();
        let kept = self.authorizer.vault.put(caller, &self.server, &grant, CONNECTIONS_MAX).await;
        slot.grant = Some(grant);
        kept?;
        let names = [("issuer", issuer.as_str())];
        self.authorizer.record(Event::ConnectionRefreshed, (caller, &self.server), &names, None).await
    }

    /// Renews a grant that is about to end. One that cannot be renewed now is used for as long as it lasts.
    async fn renew(&self, slot: &mut Slot, caller: &str) -> Result<(), Failure> {
        let now = self.now();
        let due = slot.grant.as_ref().filter(|grant| grant.is_due(now) && grant.refresh.is_some());
        let Some(grant) = due else { return Ok(()) };
        let (issuer, lasts) = (grant.issuer.clone(), grant.lasts(now));
        let renewed = match metadata::discover(&self.settings, None).await {
            Ok(discovered) if discovered.issuer.name == issuer => {
                self.refresh(slot, caller, &discovered).await
            }
            Ok(_) => Err(Failure::Refused("the server has another authorization server now".into())),
            Err(failure) => Err(failure),
        };
        match renewed {
            Err(Failure::Refused(why)) => self.forget(slot, caller, &why).await,
            Err(failure) if lasts => {
                tracing::warn!(server = %self.server, caller, %failure, "a token could not be renewed yet");
                Ok(())
            }
            // What lay at the server's side or ours passes; the server itself says whether the token still counts.
            Err(failure) => Err(failure),
            Ok(()) => Ok(()),
        }
    }

    async fn forget(&self, slot: &mut Slot, caller: &str, why: &str) -> Result<(), Failure> {
        let Some(grant) = slot.grant.take() else { return Ok(()) };
        let names = [("issuer", grant.issuer.as_str())];
        self.authorizer.record(Event::ConnectionFailed, (caller, &self.server), &names, Some(why)).await?;
        self.authorizer.vault.forget(caller, &self.server).await.map(drop)
    }

    /// The gateway's own token, asked for with what the server said that it wants.
    async fn own(&self, slot: &mut Slot) -> Result<(), Failure> {
        let Some((hint, scopes)) = slot.said.clone() else { return Ok(()) };
        let again = slot.grant.take().map(|grant| grant.requested);
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
        let grant = self.granted(&discovered, granted, scopes);
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
        self.settings.mode == Mode::User
    }

    async fn token(&self, caller: Option<&str>) -> Result<Option<Secret<String>>, Refusal> {
        let Some(owner) = self.owner(caller) else { return Ok(None) };
        let slot = self.authorizer.slot(&self.server, owner);
        let mut slot = slot.lock().await;
        self.load(&mut slot, owner).await?;
        match self.settings.mode {
            Mode::User => self.renew(&mut slot, owner).await?,
            Mode::ClientCredentials if slot.grant.as_ref().is_some_and(|grant| grant.is_due(self.now())) => {
                self.own(&mut slot).await?;
            }
            Mode::ClientCredentials => {}
        }
        Ok(slot.grant.as_ref().map(|grant| grant.access.clone()))
    }

    async fn refused(
        &self,
        caller: Option<&str>,
        answer: Unauthorized<'_>,
    ) -> Result<Option<Secret<String>>, Refusal> {
        let Some(owner) = self.owner(caller) else { return Ok(None) };
        let challenge = Challenge::of(answer.challenges.iter().copied());
        if answer.status == 403 && !challenge.wants_more_scope() {
            return Ok(None);
        }
        let slot = self.authorizer.slot(&self.server, owner);
        let mut slot = slot.lock().await;
        self.load(&mut slot, owner).await?;
        let held = slot.grant.as_ref().map(|grant| grant.access.expose().clone());
        if !answer.again && held.is_some() && held.as_ref() != answer.token.map(Secret::expose) {
            // Somebody else was faster.
            return Ok(held.map(Secret::new));
        }
        match self.settings.mode {
            Mode::ClientCredentials if answer.again => Ok(None),
            Mode::ClientCredentials => {
                slot.said = Some((challenge.resource_metadata, challenge.scopes));
                self.own(&mut slot).await?;
                Ok(slot.grant.as_ref().map(|grant| grant.access.clone()))
            }
            Mode::User => self.refused_user(&mut slot, owner, &answer, &challenge).await,
        }
    }
}

impl Outgoing {
    async fn refused_user(
        &self,
        slot: &mut Slot,
        caller: &str,
        answer: &Unauthorized<'_>,
        challenge: &Challenge,
    ) -> Result<Option<Secret<String>>, Refusal> {
        if answer.status == 403 {
            return Err(self.link(caller, challenge, slot.grant.as_ref()));
        }
        let renewable = slot.grant.as_ref().filter(|grant| !answer.again && grant.refresh.is_some());
        if let Some(issuer) = renewable.map(|grant| grant.issuer.clone()) {
            // The server may have moved to another authorization server, which must not see what is for the old one.
            let discovered =
                metadata::discover(&self.settings, challenge.resource_metadata.as_deref()).await?;
            if discovered.issuer.name == issuer {
                match self.refresh(slot, caller, &discovered).await {
                    Ok(()) => return Ok(slot.grant.as_ref().map(|grant| grant.access.clone())),
                    Err(Failure::Refused(_)) => {}
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
        if slot.grant.is_some() {
            self.forget(slot, caller, "the server does not take the token any more").await?;
        }
        Err(self.link(caller, challenge, None))
    }
}
