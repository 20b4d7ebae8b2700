//! A user's way to a connection and out of it: the link, what is asked, the departure to the authorization server, the
//! arrival with its answer, and the end.

use portcullis_core::{Code, Event, Refusal, Timestamp};
use serde_json::json;

use crate::{
    authorizer::{Authorizer, CONNECTIONS_MAX, Taken},
    challenge::Challenge,
    chance::random,
    flow::{Answer, Begun, Consent, Departure, Flow, LASTS_MS, Ticket},
    grant::Grant,
    identity::{self, Place},
    metadata::{self, Discovered},
    outgoing::Outgoing,
    token::Desk,
    web::{Failure, Web},
};

/// How often a user is asked again for what was asked for already.
const FRUITLESS_MAX: u8 = 1;
const TICKET: &str = "connect ticket";
/// Bytes of the link, as clients take it.
const LINK_BYTES_MAX: usize = 2_048;

impl Outgoing {
    /// The refusal that has the link by which `caller` connects.
    pub(crate) fn link(&self, caller: &str, challenge: &Challenge, grant: Option<&Grant>) -> Refusal {
        let failed = |why: &'static str| Refusal::new(Code::ConnectionFailed, why).saying(why);
        let Some(public) = &self.public else {
            return failed("the server wants a user to connect, and this gateway has no page for that");
        };
        if caller == "anonymous" {
            return failed("the server wants a token of its user, and nobody knows who is asking");
        }
        let before = grant.map(|grant| grant.requested.as_slice()).unwrap_or_default();
        let mut scopes: Vec<String> = challenge.scopes.iter().chain(before).cloned().collect();
        scopes.sort();
        scopes.dedup();
        let fruitless = match grant {
            Some(grant) if scopes == before => grant.fruitless + 1,
            Some(_) | None => 0,
        };
        if fruitless > FRUITLESS_MAX {
            let why = "the server wants more scopes than its authorization server grants; \
                       an operator can end the connection with `portcullis connection revoke`";
            return failed(why);
        }
        let ticket = Ticket {
            caller: caller.to_owned(),
            nonce: random(&*self.authorizer.entropy),
            expires: self.now().plus_ms(LASTS_MS),
            hint: challenge.resource_metadata.clone(),
            scopes,
            fruitless,
        };
        let declared = self.settings.digest.to_string();
        let sealed = serde_json::to_vec(&ticket)
            .ok()
            .and_then(|plain| self.authorizer.vault.seal(TICKET, &[&self.server, &declared], &plain));
        let url = sealed.map(|sealed| format!("{public}/connect/{}?ticket={sealed}", self.server));
        let Some(url) = url.filter(|url| url.len() <= LINK_BYTES_MAX) else {
            return failed("what the server asks for is too long for a link");
        };
        let message = format!("Connect your account at the server `{}` to go on.", self.server);
        let data = json!({
            "code": Code::ConnectionRequired.name(),
            "elicitations": [{
                "mode": "url", "elicitationId": ticket.nonce, "url": url, "message": message,
            }],
        });
        Refusal::new(Code::ConnectionRequired, format!("`{caller}` is not connected to `{}`", self.server))
            .saying(format!("{message} Open {url} in a browser, then try again"))
            .with_data(data.to_string())
    }

    /// What a link of this server says, if it is one that still opens.
    #[must_use]
    pub fn ticket(&self, text: &str) -> Option<Ticket> {
        let declared = self.settings.digest.to_string();
        let plain = self.authorizer.vault.open(TICKET, &[&self.server, &declared], text)?;
        let ticket: Ticket = serde_json::from_slice(&plain).ok()?;
        // Nobody knows any more which of those were used that were made before a restart.
        let made = ticket.expires.0.saturating_sub(LASTS_MS);
        let known = made >= self.authorizer.started.0;
        let open = known && ticket.expires > self.now() && !self.authorizer.flows().is_spent(&ticket);
        open.then_some(ticket)
    }

    async fn asked(&self, ticket: &Ticket) -> Result<(Discovered, identity::Client, Consent), Failure> {
        let discovered = metadata::discover(&self.settings, ticket.hint.as_deref()).await?;
        let redirect = self.redirect();
        let place = Place { public: self.public.as_deref().unwrap_or_default(), redirect: &redirect };
        let vault = &self.authorizer.vault;
        let client = identity::settle(&self.settings, &discovered.issuer, place, vault, self.now()).await?;
        let consent = Consent {
            issuer: discovered.issuer.name.clone(),
            resource: discovered.resource.clone(),
            scopes: self.scopes(&discovered, &ticket.scopes, &[], true),
            client: client.id.clone(),
            redirect,
        };
        Ok((discovered, client, consent))
    }

    /// What the user of a link is to be asked.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub async fn consent(&self, ticket: &Ticket) -> Result<Consent, Failure> {
        let asked = self.asked(ticket).await;
        self.noted(&ticket.caller, asked.map(|(_, _, consent)| consent)).await
    }

    /// Sends the user of a link to the authorization server, with what was consented to.
    ///
    /// # Errors
    /// When it is not what is asked now, or cannot be asked.
    pub async fn depart(&self, ticket: &Ticket, consent: &Consent) -> Result<Departure, Failure> {
        let departed = async {
            let (discovered, client, now) = self.asked(ticket).await?;
            if now != *consent {
                return Err(Failure::Untrusted("what is asked is not what was consented to".into()));
            }
            let begun = Begun {
                caller: ticket.caller.clone(),
                server: self.server.to_string(),
                declared: self.settings.digest,
                discovered,
                client,
                consent: now,
                fruitless: ticket.fruitless,
                hint: ticket.hint.clone(),
            };
            let Authorizer { entropy, clock, .. } = &*self.authorizer;
            self.authorizer.flows().begin(begun, ticket, clock.now(), &**entropy)
        };
        let departed = departed.await;
        self.noted(&ticket.caller, departed).await
    }

    /// A failure on the caller's way to a connection is recorded.
    async fn noted<T>(&self, caller: &str, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &outcome {
            let detail = failure.to_string();
            let who = (caller, &self.server);
            self.authorizer.record(Event::ConnectionFailed, who, &[], Some(&detail)).await?;
        }
        outcome
    }

    async fn redeem(&self, flow: &Flow, answer: &Answer) -> Result<(), Failure> {
        if flow.declared != self.settings.digest {
            return Err(Failure::Untrusted("the server was declared anew meanwhile".into()));
        }
        if let Some(error) = &answer.error {
            let code: String =
                error.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(64).collect();
            return Err(Failure::Refused(code));
        }
        let code = answer.code.as_deref().filter(|code| !code.is_empty());
        let code = code.ok_or_else(|| Failure::Untrusted("an answer without a code".into()))?;
        let Authorizer { vault, entropy, .. } = &*self.authorizer;
        let web = Web::new(self.settings.egress);
        let (issuer, client) = (&flow.discovered.issuer, &flow.client);
        let desk = Desk { web, issuer, client, entropy: &**entropy, now: self.now() };
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &flow.consent.redirect),
            ("code_verifier", flow.verifier.expose()),
            ("resource", &flow.consent.resource),
        ];
        // Held from here on, so that an end of the connection meanwhile is seen.
        let slot = self.authorizer.slot(&self.server, &flow.caller);
        let granted = desk.request(&form).await;
        self.registered_still(&granted, client, &issuer.name).await?;
        let mut grant = self.granted(&flow.discovered, granted?, flow.consent.scopes.clone());
        (grant.fruitless, grant.hint) = (flow.fruitless, flow.hint.clone());
        let mut slot = slot.lock().await;
        if slot.ended.is_some_and(|ended| ended >= flow.begun) {
            let (token, kind) = grant.revocable();
            if let Err(failure) = desk.revoke(token, kind).await {
                tracing::warn!(server = %self.server, %failure, "a token that nobody wants any more was not revoked");
            }
            return Err(Failure::Untrusted("the connection was ended meanwhile".into()));
        }
        let scopes = grant.scopes.join(" ");
        let names = [("issuer", grant.issuer.as_str()), ("scopes", &scopes)];
        self.authorizer.record(Event::ConnectionGranted, (&flow.caller, &self.server), &names, None).await?;
        vault.put(&flow.caller, &self.server, &mut grant, CONNECTIONS_MAX).await?;
        (slot.grant, slot.known, slot.failed) = (Some(grant), true, None);
        Ok(())
    }

    /// Takes what a browser brought back, and keeps the tokens.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn arrive(&self, taken: Taken, answer: Answer) -> Result<(), Failure> {
        let own = self.clone();
        // To its end, whether or not the browser waits: a code counts once.
        let arrived = tokio::spawn(async move {
            let redeemed = own.redeem(&taken.0, &answer).await;
            own.noted(&taken.0.caller, redeemed).await
        });
        arrived.await.unwrap_or_else(|error| Err(Failure::Ours(error.to_string())))
    }

    /// Whether an operator ended the connection of `caller` since `begun`: what was opened with it is over.
    #[must_use]
    pub fn ended_since(&self, caller: &str, begun: Timestamp) -> bool {
        self.authorizer.ended(&self.server, caller).is_some_and(|ended| ended >= begun)
    }

    /// Ends the connection of a caller: tells the authorization server, where it wants to know, and forgets the tokens.
    /// What the authorization server said when it did not revoke them is in the answer; nothing where there was none.
    ///
    /// # Errors
    /// When the ledger or the store does not take it.
    pub async fn revoke(&self, caller: &str, by: &str) -> Result<Option<Result<(), Failure>>, Failure> {
        let (own, caller, by) = (self.clone(), caller.to_owned(), by.to_owned());
        // To its end, whether or not somebody waits: what is recorded takes effect.
        let ended = tokio::spawn(async move { own.end(&caller, &by).await });
        ended.await.unwrap_or_else(|error| Err(Failure::Ours(error.to_string())))
    }

    async fn end(&self, caller: &str, by: &str) -> Result<Option<Result<(), Failure>>, Failure> {
        let slot = self.authorizer.slot(&self.server, caller);
        let mut slot = slot.lock().await;
        slot.ended = Some(self.now());
        self.authorizer.flows().end(caller, &self.server);
        if self.settings.exchange.is_some() && self.authorizer.holds_exchanged(&self.server, caller) {
            let names = [("by", by)];
            self.authorizer.record(Event::ConnectionRevoked, (caller, &self.server), &names, None).await?;
            self.authorizer.forget_exchanged(&self.server, caller);
            let why = "what was exchanged is forgotten, and the caller can exchange its token again: kill it, or end \
                       its session where the token is from";
            return Ok(Some(Err(Failure::Unavailable(why.into()))));
        }
        self.load(&mut slot, caller).await?;
        // What another gateway renewed is what the authorization server has to know of.
        self.overtaken(&mut slot, caller).await?;
        let Some(grant) = slot.grant.clone() else {
            // One that does not open, or is for another server now, is forgotten as well.
            return self.authorizer.forget(caller, &self.server, by).await;
        };
        let told = async {
            let discovered = metadata::discover(&self.settings, grant.hint.as_deref()).await?;
            if discovered.issuer.name != grant.issuer {
                return Err(Failure::Untrusted("the server has another authorization server now".into()));
            }
            let (token, kind) = grant.revocable();
            self.desk(&discovered, async |desk| desk.revoke(token, kind).await).await
        };
        let told = told.await;
        let names = [("issuer", grant.issuer.as_str()), ("by", by)];
        let detail = told.as_ref().err().map(ToString::to_string);
        let who = (caller, &self.server);
        self.authorizer.record(Event::ConnectionRevoked, who, &names, detail.as_deref()).await?;
        self.authorizer.vault.forget(caller, &self.server).await?;
        slot.grant = None;
        Ok(Some(told))
    }
}
