//! The token with which Vault is asked: obtained, renewed before its end, replaced where it is not taken any more.

use std::{sync::Arc, time::Duration};

use http::Method;
use portcullis_core::Secret;
use serde_json::{Value, json};

use super::{Question, Vault};
use crate::source::Failure;

/// A token that is refused so soon after it was obtained is not the reason.
const FRESH_US: u64 = 5_000_000;

/// A token.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: Secret<String>,
    /// Whether it came of a login, so that it may be given back.
    pub(super) own: bool,
    renewable: bool,
    since_us: u64,
    /// When it is renewed or replaced.
    renew_us: u64,
    /// When it ends.
    end_us: u64,
}

impl Session {
    fn new(token: Secret<String>, own: bool, (lasts, renewable): (u64, bool), now_us: u64) -> Self {
        // Without an end there is nothing to renew.
        let lasts_us = if lasts == 0 { u64::MAX / 4 } else { lasts.saturating_mul(1_000_000) };
        let (renew_us, end_us) = (now_us.saturating_add(lasts_us / 3 * 2), now_us.saturating_add(lasts_us));
        Self { token, own, renewable, since_us: now_us, renew_us, end_us }
    }
}

/// For how many seconds a token lasts, and whether it can be renewed.
fn life(auth: &Value, lasts: &str) -> (u64, bool) {
    let number = auth.get(lasts).and_then(Value::as_u64).unwrap_or(0);
    (number, auth.get("renewable").and_then(Value::as_bool).unwrap_or(false))
}

impl Vault {
    /// The token to ask with.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut held = self.session.lock().await;
        let now = self.clock.ticks_us();
        if let Some(session) = &*held {
            if now < session.renew_us {
                return Ok(Arc::clone(session));
            }
            match self.renewed(session).await {
                Ok(renewed) => return Ok(Arc::clone(held.insert(Arc::new(renewed)))),
                // Still good: the login below may fail as well, and then it is used to its end.
                Err(failure) if now < session.end_us && failure.passing() => return Ok(Arc::clone(session)),
                Err(_) => {}
            }
        }
        let session = Arc::new(self.begin().await?);
        Ok(Arc::clone(held.insert(session)))
    }

    /// A token in the place of one that was refused; nothing where another one would be refused as well.
    pub(super) async fn anew(&self, refused: &Arc<Session>) -> Result<Option<Arc<Session>>, Failure> {
        let mut held = self.session.lock().await;
        if let Some(other) = held.as_ref().filter(|other| !Arc::ptr_eq(other, refused)) {
            return Ok(Some(Arc::clone(other)));
        }
        if self.clock.ticks_us() < refused.since_us.saturating_add(FRESH_US) {
            return Ok(None);
        }
        let session = Arc::new(self.begin().await?);
        Ok(Some(Arc::clone(held.insert(session))))
    }

    async fn begin(&self) -> Result<Session, Failure> {
        let now = self.clock.ticks_us();
        match self.log_in().await? {
            Ok(answer) => {
                let auth = answer.get("auth").filter(|auth| auth.is_object());
                let token = auth.and_then(|auth| auth.get("client_token")).and_then(Value::as_str);
                let (Some(auth), Some(token)) = (auth, token) else {
                    return Err(Failure::Unavailable("Vault answers a login without a token".into()));
                };
                let life = life(auth, "lease_duration");
                Ok(Session::new(Secret::new(token.to_owned()), true, life, now))
            }
            Err(token) => {
                let question = Question {
                    method: &Method::GET,
                    path: &["auth", "token", "lookup-self"],
                    query: None,
                    body: None,
                    token: Some(&token),
                    repeatable: true,
                };
                let life = match self.ask(question).await {
                    Ok(answer) => answer.get("data").map(|data| life(data, "ttl")).unwrap_or_default(),
                    // A policy may keep a token from looking at itself; it is good all the same.
                    Err(Failure::Forbidden(_) | Failure::Absent(_)) => (0, false),
                    Err(failure @ Failure::Unavailable(_)) => return Err(failure),
                };
                Ok(Session::new(token, false, life, now))
            }
        }
    }

    async fn renewed(&self, session: &Session) -> Result<Session, Failure> {
        if !session.renewable {
            return Err(Failure::Forbidden("the token cannot be renewed".into()));
        }
        let now = self.clock.ticks_us();
        let body = json!({});
        let question = Question {
            method: &Method::POST,
            path: &["auth", "token", "renew-self"],
            query: None,
            body: Some(&body),
            token: Some(&session.token),
            repeatable: true,
        };
        let answer = self.ask(question).await?;
        let (lasts, renewable) =
            answer.get("auth").map(|auth| life(auth, "lease_duration")).unwrap_or_default();
        // Near the end of the longest time that it may have, renewing gives less and less.
        let before = Duration::from_micros(session.end_us.saturating_sub(session.since_us)).as_secs();
        if lasts > 0 && lasts < before / 2 {
            return Err(Failure::Forbidden("the token is near the end of its longest time".into()));
        }
        Ok(Session::new(session.token.clone(), session.own, (lasts, renewable), now))
    }
}
