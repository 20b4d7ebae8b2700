//! Tokens for a server in exchange for the caller's own (RFC 8693), at the authorization server that the operator declared
//! for that. By way of an assertion about the user (ID-JAG), where the server has an authorization server of its own that
//! trusts the one of the enterprise (RFC 7523).

use std::sync::Arc;

use portcullis_core::{Code, Event, Refusal, Secret, Timestamp};
use portcullis_upstream::Behalf;
use tokio::sync::OwnedMutexGuard;

use crate::{
    authorizer::{Slot, exchange_name},
    grant::Grant,
    identity::declared as declared_client,
    metadata::{self, Issuer},
    outgoing::{ITSELF, Outgoing, Said},
    presented::Missing,
    settings::{Exchange, Mode, Subject},
    token::{Desk, Granted, Kind},
    web::{Failure, Web},
};

/// RFC 8693.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 7523.
const ASSERTION: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
/// How long before its end a token is exchanged for anew.
const EARLY_MS: u64 = 10_000;
/// A token without an end is exchanged for anew after so long, so that what its user lost is lost here, too.
const LASTS_S: u64 = 300;
/// A token that is refused so soon after it was obtained is not exchanged for anew.
const FRESH_MS: u64 = 10_000;
/// For how long a failure is the answer to whoever asks next.
const FAILED_MS: u64 = 1_000;

/// What is exchanged.
struct Given {
    owner: String,
    /// Names it, so that what one token got is not for another.
    name: String,
    token: Secret<String>,
    expires: Option<Timestamp>,
}

impl Outgoing {
    /// The token in exchange for the one with which the caller came.
    pub(crate) async fn exchanged(
        &self,
        behalf: Option<&Behalf>,
        said: Option<Said>,
    ) -> Result<Option<Secret<String>>, Refusal> {
        let Some(declared) = self.settings.exchange.clone() else {
            return Err(Failure::Ours("nothing is declared to exchange tokens with".into()).into());
        };
        let Some(given) = self.given(behalf, &declared).await? else { return Ok(None) };
        // The server's, the caller's and the token's: nobody else gets what comes of it.
        let name = exchange_name(&given.owner, &given.name);
        self.with(&name, async move |own, mut slot: OwnedMutexGuard<Slot>| {
            own.settle_exchange(&mut slot, &given, &declared, said).await
        })
        .await
    }

    /// What there is to exchange; nothing for the gateway's own questions where each caller has a token of its own.
    async fn given(&self, behalf: Option<&Behalf>, declared: &Exchange) -> Result<Option<Given>, Refusal> {
        if let Subject::Reference(read) = &declared.subject {
            let read = Arc::clone(read);
            let token = tokio::task::spawn_blocking(move || read()).await;
            let token = token.map_err(|error| Failure::Ours(error.to_string()))?.map_err(Failure::Ours)?;
            let token = Secret::new(token.expose().trim().to_owned());
            let name = portcullis_core::Digest::of(token.expose().as_bytes()).to_string();
            return Ok(Some(Given { owner: ITSELF.to_owned(), name, token, expires: None }));
        }
        let Some(behalf) = behalf else { return Ok(None) };
        let held = self.authorizer.presented().find(behalf, self.now());
        let held = held.map_err(|missing| match missing {
            Missing::None => refused(
                Code::ExchangeToken,
                format!(
                    "the server `{}` takes a token in exchange for the caller's own; come with an access token of {}, \
                     which an API key, a certificate or an end of the token do not replace",
                    self.server, declared.issuer
                ),
            ),
            Missing::Several => refused(
                Code::ExchangeToken,
                "the caller comes with tokens that do not allow the same, and it is not known which one to exchange \
                 here; use one of them at a time"
                    .into(),
            ),
        })?;
        if held.issuer != declared.issuer && !declared.subject_issuers.contains(&held.issuer) {
            let why = format!("tokens of {} are not shown to {}", held.issuer, declared.issuer);
            return Err(refused(Code::ExchangeToken, why));
        }
        let (owner, name) = (behalf.caller.clone(), held.digest.to_string());
        Ok(Some(Given { owner, name, token: held.token, expires: held.expires }))
    }

    async fn settle_exchange(
        &self,
        slot: &mut Slot,
        given: &Given,
        declared: &Exchange,
        said: Option<Said>,
    ) -> Result<Option<Secret<String>>, Refusal> {
        let epoch = self.authorizer.epoch();
        if slot.epoch != epoch {
            (slot.grant, slot.failed, slot.epoch) = (None, None, epoch);
        }
        let now = self.now();
        let mut wanted = Vec::new();
        if let Some(said) = said {
            let held = slot.grant.as_ref().map(|grant| grant.access.expose());
            if held.is_some() && held != said.token.as_ref().map(Secret::expose) {
                // Somebody else was faster.
                return Ok(slot.grant.as_ref().map(|grant| grant.access.clone()).filter(|_| !said.again));
            }
            if said.again || fruitless(slot, &said, now) {
                return Ok(None);
            }
            wanted.clone_from(&said.challenge.scopes);
            slot.said = Some((said.challenge.resource_metadata, Vec::new()));
        } else if let Some(grant) = slot.grant.as_ref().filter(|grant| lasts(grant, given, now)) {
            return Ok(Some(grant.access.clone()));
        }
        if let Some((_, failure)) = slot.failed.as_ref().filter(|(at, _)| now < at.plus_ms(FAILED_MS)) {
            return Err(refusal(failure));
        }
        let obtained = self.obtain(slot, given, declared, &wanted).await;
        slot.failed = obtained.as_ref().err().map(|failure| (self.now(), failure.clone()));
        match obtained {
            Ok(grant) => Ok(Some(slot.grant.insert(grant).access.clone())),
            Err(failure) => Err(refusal(&failure)),
        }
    }

    async fn obtain(
        &self,
        slot: &Slot,
        given: &Given,
        declared: &Exchange,
        wanted: &[String],
    ) -> Result<Grant, Failure> {
        let before = slot.grant.as_ref().map(|grant| grant.requested.as_slice()).unwrap_or_default();
        let mut grant = match self.settings.mode {
            Mode::IdJag => {
                let hint = slot.said.as_ref().and_then(|(hint, _)| hint.as_deref());
                let discovered = metadata::discover(&self.settings, hint).await?;
                let scopes = self.scopes(&discovered, wanted, before, false);
                let target = Target {
                    kind: (ID_JAG, Kind::Assertion),
                    audience: Some(&discovered.issuer.name),
                    resource: Some(&discovered.resource),
                    scopes: &scopes,
                };
                let assertion = self.exchange(given, declared, &target).await?;
                let form = [
                    ("grant_type", ASSERTION),
                    ("assertion", assertion.access.expose().as_str()),
                    ("resource", &discovered.resource),
                ];
                let granted = self.desk(&discovered, async |desk| desk.request(&form).await).await?;
                self.granted(&discovered, granted, scopes)
            }
            Mode::ClientCredentials | Mode::Exchange | Mode::User => {
                let first = if wanted.is_empty() { &self.settings.scopes[..] } else { wanted };
                let mut scopes: Vec<String> = first.iter().chain(before).cloned().collect();
                scopes.sort();
                scopes.dedup();
                let resource = declared.audience.is_none().then(|| self.settings.url.to_string());
                let target = Target {
                    kind: (ACCESS_TOKEN, Kind::Exchanged),
                    audience: declared.audience.as_deref(),
                    resource: resource.as_deref(),
                    scopes: &scopes,
                };
                let granted = self.exchange(given, declared, &target).await?;
                let issued = (&*declared.issuer, self.settings.url.as_str());
                self.granted_by(issued, granted, scopes)
            }
        };
        // No refresh token is kept: what renews this one is the caller, who comes again.
        grant.refresh = None;
        let own = grant.expires.unwrap_or_else(|| self.now().plus_ms(LASTS_S * 1_000));
        grant.expires = Some(given.expires.map_or(own, |end| end.min(own)));
        let scopes = grant.scopes.join(" ");
        let names = [("issuer", grant.issuer.as_str()), ("scopes", &scopes), ("token", &given.name)];
        self.authorizer
            .record(Event::ConnectionExchanged, (&given.owner, &self.server), &names, None)
            .await?;
        Ok(grant)
    }

    /// One exchange.
    async fn exchange(
        &self,
        given: &Given,
        declared: &Exchange,
        target: &Target<'_>,
    ) -> Result<Granted, Failure> {
        let web = Web::new(declared.egress);
        let issuer = match &declared.token_endpoint {
            Some(endpoint) => Issuer::at(&declared.issuer, endpoint.clone()),
            None => metadata::of_issuer(&web, &declared.issuer, false).await?,
        };
        let client = declared_client(&declared.client, &issuer);
        let desk = Desk {
            web,
            issuer: &issuer,
            client: &client,
            entropy: &*self.authorizer.entropy,
            now: self.now(),
        };
        let actor = if declared.actor { Some(self.actor(&desk).await?) } else { None };
        let (scope, (kind, expected)) = (target.scopes.join(" "), target.kind);
        let subject_kind = format!("urn:ietf:params:oauth:token-type:{}", declared.subject_kind);
        let mut form = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", given.token.expose().as_str()),
            ("subject_token_type", &subject_kind),
            ("requested_token_type", kind),
        ];
        form.extend(target.audience.map(|audience| ("audience", audience)));
        form.extend(target.resource.map(|resource| ("resource", resource)));
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        if let Some(actor) = &actor {
            form.push(("actor_token", actor.expose()));
            form.push(("actor_token_type", ACCESS_TOKEN));
        }
        desk.tokens(&form, expected).await
    }

    /// The gateway's own token at the authorization server where it exchanges, which says who acts for the caller.
    async fn actor(&self, desk: &Desk<'_>) -> Result<Secret<String>, Failure> {
        let slot = self.authorizer.slot(&self.server, ITSELF);
        let mut slot = slot.lock().await;
        let now = self.now();
        if let Some(grant) = slot.grant.as_ref().filter(|grant| grant.lasts(now) && !grant.is_due(now)) {
            return Ok(grant.access.clone());
        }
        let mut granted = desk.request(&[("grant_type", "client_credentials")]).await?;
        granted.lasts_s = Some(granted.lasts_s.unwrap_or(LASTS_S));
        let grant = self.granted_by((&desk.issuer.name, self.settings.url.as_str()), granted, Vec::new());
        Ok(slot.grant.insert(grant).access.clone())
    }
}

/// What a token is asked for.
struct Target<'a> {
    kind: (&'static str, Kind),
    audience: Option<&'a str>,
    resource: Option<&'a str>,
    scopes: &'a [String],
}

/// Whether a token is sent once more, and not exchanged for anew. One that ends with the caller's own is used to its end.
fn lasts(grant: &Grant, given: &Given, now: Timestamp) -> bool {
    let early = if grant.expires == given.expires { 0 } else { EARLY_MS };
    let life_ms = grant.expires.map_or(0, |end| end.0.saturating_sub(grant.granted.0));
    grant.expires.is_some_and(|end| now.plus_ms(early.min(life_ms / 4)) < end)
}

/// Whether nothing would come of another exchange.
fn fruitless(slot: &Slot, said: &Said, now: Timestamp) -> bool {
    slot.grant.as_ref().is_some_and(|grant| {
        let asked = said.challenge.scopes.iter().all(|scope| grant.requested.contains(scope));
        asked && (said.more || now < grant.granted.plus_ms(FRESH_MS))
    })
}

fn refused(code: Code, why: String) -> Refusal {
    Refusal::new(code, why.clone()).saying(why)
}

/// What the caller is told of an exchange that failed.
fn refusal(failure: &Failure) -> Refusal {
    match failure {
        Failure::Refused(code) => refused(
            Code::ExchangeRefused,
            format!("the authorization server did not exchange the caller's token for this server: {code}"),
        ),
        Failure::Ours(_) | Failure::Unavailable(_) | Failure::Untrusted(_) => failure.clone().into(),
    }
}
