//! One authorization, from the link that a caller gets to the answer that its browser brings back. A link opens for one
//! caller and one server; an answer counts once, in the browser that began, from the server that was asked.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::{Digest, Entropy, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use url::Url;

use crate::{chance::random, identity::Client, metadata::Discovered, web::Failure};

/// How long a link opens, and how long the user may take at the authorization server.
pub(crate) const LASTS_MS: u64 = 600_000;
/// Authorizations of one caller that wait for their answer; its oldest is forgotten.
const CALLER_FLOWS_MAX: usize = 8;
/// Authorizations that wait for their answer. Beyond, none is begun.
const FLOWS_MAX: usize = 10_000;
/// Links that were used already and would open still.
const SPENT_MAX: usize = 100_000;

/// What a link says, sealed.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Ticket {
    /// Whom it is for.
    #[serde(rename = "c")]
    pub caller: String,
    /// Names the link, so that it is used once.
    #[serde(rename = "n")]
    pub(crate) nonce: String,
    #[serde(rename = "e")]
    pub(crate) expires: Timestamp,
    /// Where the server says that its metadata is.
    #[serde(rename = "m", skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The scopes that the server wants.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) scopes: Vec<String>,
    #[serde(rename = "f", default)]
    pub(crate) fruitless: u8,
}

/// What the user is asked, and consents to: exactly this, or nothing.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Consent {
    /// Who asks the user.
    pub issuer: String,
    /// What the token is for.
    pub resource: String,
    /// What it allows there.
    pub scopes: Vec<String>,
    /// What the gateway is called there.
    pub client: String,
    /// Where the browser comes back to.
    pub redirect: String,
}

/// What a browser brings back from an authorization server.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The code.
    pub code: Option<String>,
    /// Which authorization it answers.
    pub state: Option<String>,
    /// Who answers (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

impl Answer {
    /// Reads the query of the redirect. A parameter that is there twice is no answer (RFC 6749 section 3.1).
    #[must_use]
    pub fn of(query: &str) -> Option<Self> {
        let mut answer = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "code" => &mut answer.code,
                "state" => &mut answer.state,
                "iss" => &mut answer.iss,
                "error" => &mut answer.error,
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(answer)
    }
}

/// An authorization that waits for its answer.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) caller: String,
    pub(crate) server: String,
    /// Digest of the server's declaration.
    pub(crate) declared: Digest,
    pub(crate) discovered: Discovered,
    pub(crate) client: Client,
    pub(crate) consent: Consent,
    pub(crate) verifier: Secret<String>,
    /// Digest of what the browser holds.
    browser: Digest,
    pub(crate) fruitless: u8,
    pub(crate) hint: Option<String>,
    pub(crate) begun: Timestamp,
    expires: Timestamp,
}

/// What is needed to begin one.
pub(crate) struct Begun {
    pub(crate) caller: String,
    pub(crate) server: String,
    pub(crate) declared: Digest,
    pub(crate) discovered: Discovered,
    pub(crate) client: Client,
    pub(crate) consent: Consent,
    pub(crate) fruitless: u8,
    pub(crate) hint: Option<String>,
}

/// Where a browser is sent, and what it holds from then on.
#[derive(Clone, Debug)]
pub struct Departure {
    /// The authorization endpoint with its question.
    pub url: Url,
    /// The value of the cookie.
    pub cookie: Secret<String>,
}

/// Authorizations that wait for their answer, and links that were used.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    waiting: HashMap<String, Flow>,
    spent: HashMap<String, Timestamp>,
}

impl Flows {
    /// Whether a link was used already.
    pub(crate) fn is_spent(&self, ticket: &Ticket) -> bool {
        self.spent.contains_key(&ticket.nonce)
    }

    /// Begins an authorization with a link, which is used up by it.
    pub(crate) fn begin(
        &mut self,
        begun: Begun,
        ticket: &Ticket,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Departure, Failure> {
        self.sweep(now);
        if self.is_spent(ticket) {
            return Err(Failure::Untrusted("the link was used already".into()));
        }
        let own = self.waiting.iter().filter(|(_, flow)| flow.caller == begun.caller);
        let mut own: Vec<_> = own.map(|(state, flow)| (flow.expires, state.clone())).collect();
        own.sort();
        if let (true, Some((_, oldest))) = (own.len() >= CALLER_FLOWS_MAX, own.first()) {
            self.waiting.remove(oldest);
        }
        if self.waiting.len() >= FLOWS_MAX || self.spent.len() >= SPENT_MAX {
            return Err(Failure::Ours("too many users connect at once".into()));
        }
        let (state, verifier, cookie) = (random(entropy), random(entropy), random(entropy));
        let url = question(&begun, &state, &verifier)?;
        let flow = Flow {
            caller: begun.caller,
            server: begun.server,
            declared: begun.declared,
            discovered: begun.discovered,
            client: begun.client,
            consent: begun.consent,
            verifier: Secret::new(verifier),
            browser: Digest::of(cookie.as_bytes()),
            fruitless: begun.fruitless,
            hint: begun.hint,
            begun: now,
            expires: now.plus_ms(LASTS_MS),
        };
        self.spent.insert(ticket.nonce.clone(), ticket.expires);
        self.waiting.insert(state, flow);
        Ok(Departure { url, cookie: Secret::new(cookie) })
    }

    /// The authorization that an answer belongs to. Whatever comes of it, the answer counts once.
    pub(crate) fn take(
        &mut self,
        answer: &Answer,
        cookie: Option<&str>,
        now: Timestamp,
    ) -> Result<Flow, Failure> {
        let unknown =
            || Failure::Untrusted("the answer belongs to no authorization that was begun here".into());
        let flow = answer.state.as_ref().and_then(|state| self.waiting.remove(state)).ok_or_else(unknown)?;
        if flow.expires <= now {
            return Err(Failure::Untrusted("the answer came too late".into()));
        }
        let held = cookie.map(|cookie| Digest::of(cookie.as_bytes()));
        if !held.is_some_and(|held| bool::from(held.0.ct_eq(&flow.browser.0))) {
            return Err(Failure::Untrusted(
                "the answer came in another browser than the one that began".into(),
            ));
        }
        // Before anything else of the answer is looked at: what another server says is not shown to the user.
        let issuer = &flow.discovered.issuer;
        match &answer.iss {
            Some(iss) if *iss != issuer.name => {
                Err(Failure::Untrusted("another authorization server answered than was asked".into()))
            }
            None if issuer.names_itself => {
                Err(Failure::Untrusted("the authorization server did not name itself".into()))
            }
            Some(_) | None => Ok(flow),
        }
    }

    /// Forgets what `caller` began to connect to `server`.
    pub(crate) fn end(&mut self, caller: &str, server: &str) {
        self.waiting.retain(|_, flow| flow.caller != caller || flow.server != server);
    }

    /// Forgets what is over.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.waiting.retain(|_, flow| flow.expires > now);
        self.spent.retain(|_, expires| *expires > now);
    }
}

fn question(begun: &Begun, state: &str, verifier: &str) -> Result<Url, Failure> {
    let endpoint = begun.discovered.issuer.authorization.clone();
    let mut url = endpoint.ok_or_else(|| {
        Failure::Unavailable("the authorization server has no authorization endpoint".into())
    })?;
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let Consent { resource, scopes, client, redirect, .. } = &begun.consent;
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", client)
        .append_pair("redirect_uri", redirect)
        .append_pair("state", state)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        .append_pair("resource", resource);
    if !scopes.is_empty() {
        query.append_pair("scope", &scopes.join(" "));
    }
    if scopes.iter().any(|scope| scope == "offline_access") {
        // OpenID Connect Core section 11 gives no refresh token without it.
        query.append_pair("prompt", "consent");
    }
    drop(query);
    Ok(url)
}
