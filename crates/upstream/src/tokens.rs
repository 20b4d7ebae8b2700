//! Credentials that differ by caller: obtained elsewhere, joined where a request is written to its connection, so that no
//! stage, session or entry ever holds one. A request only says on whose behalf it is made.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_core::{Caller, Digest, Proof, Refusal, Secret};

use crate::headers::secret_value;

/// On whose behalf a request is made. It is taken out before anything is sent.
const CALLER: HeaderName = HeaderName::from_static("portcullis-on-behalf-of");

/// On whose behalf a request is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Behalf {
    /// The id of the caller.
    pub caller: String,
    /// SHA-256 of the token with which it came, where that is known. The token itself is not here.
    pub token: Option<Digest>,
}

impl Behalf {
    /// Of a caller, with whatever it came.
    #[must_use]
    pub fn of(caller: &str) -> Self {
        Self { caller: caller.to_owned(), token: None }
    }

    /// Of a caller, with the token that it shows now.
    #[must_use]
    pub fn now(caller: &Caller) -> Self {
        let token = match &caller.proof {
            Proof::Introspected { token, .. } | Proof::Jwt { token, .. } => Some(*token),
            Proof::Anonymous | Proof::ApiKey { .. } | Proof::Certificate { .. } | Proof::Local { .. } => None,
        };
        Self { caller: caller.id.to_string(), token }
    }
}

/// What a server answered to a request that it did not authorize.
#[derive(Clone, Debug)]
pub struct Unauthorized<'a> {
    /// 401 or 403.
    pub status: u16,
    /// The values of `WWW-Authenticate`.
    pub challenges: Vec<&'a str>,
    /// The token that was sent.
    pub token: Option<&'a Secret<String>>,
    /// Whether this was the second attempt.
    pub again: bool,
}

/// Tokens for one server.
#[async_trait]
pub trait Tokens: Send + Sync + fmt::Debug {
    /// Whether each caller has its own, so that what one of them may see is not for another.
    fn personal(&self) -> bool;

    /// Whether it matters with which token a caller came, so that what is sent for one is not sent for another.
    fn per_token(&self) -> bool;

    /// The token to send on that behalf; none when there is none.
    ///
    /// # Errors
    /// When there should be one and it cannot be had.
    async fn token(&self, behalf: Option<&Behalf>) -> Result<Option<Secret<String>>, Refusal>;

    /// The server did not authorize a request. A token with which it is worth another attempt, once; nothing where the
    /// token is not the reason.
    ///
    /// # Errors
    /// What the caller can do about it.
    async fn refused(
        &self,
        behalf: Option<&Behalf>,
        answer: Unauthorized<'_>,
    ) -> Result<Option<Secret<String>>, Refusal>;
}

/// Notes on whose behalf the request with these headers is made.
pub(crate) fn on_behalf_of(headers: &mut HeaderMap, behalf: &Behalf) {
    // Any text fits, since ids of callers may hold what headers may not.
    let mut text: String = behalf.caller.bytes().map(|byte| format!("{byte:02x}")).collect();
    if let Some(Digest(bytes)) = behalf.token {
        text.push('.');
        text.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(CALLER, value);
    }
}

/// Takes out on whose behalf the request is made.
pub(crate) fn take_caller(headers: &mut HeaderMap) -> Option<Behalf> {
    let value = headers.remove(CALLER)?;
    let text = value.to_str().ok()?;
    let (caller, token) = text.split_once('.').map_or((text, None), |(caller, token)| (caller, Some(token)));
    let token = match token {
        Some(token) => Some(Digest(bytes(token)?.try_into().ok()?)),
        None => None,
    };
    Some(Behalf { caller: String::from_utf8(bytes(caller)?).ok()?, token })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Puts the token where servers look for it; never into a URL.
pub(crate) fn bear(headers: &mut HeaderMap, token: Option<&Secret<String>>) -> Result<(), Refusal> {
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, secret_value(&format!("Bearer {}", token.expose()))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_a_request_is_made_for_is_noted_and_taken_out_whole() {
        for caller in ["key:a", "", "jwt:https://i#пользователь\r\nX: y", "\u{0}"] {
            for token in [None, Some(Digest::of(caller.as_bytes()))] {
                let (mut headers, behalf) = (HeaderMap::new(), Behalf { caller: caller.into(), token });
                on_behalf_of(&mut headers, &behalf);
                assert_eq!(take_caller(&mut headers), Some(behalf));
                assert!(headers.is_empty());
            }
        }
        assert_eq!(take_caller(&mut HeaderMap::new()), None);
    }
}
