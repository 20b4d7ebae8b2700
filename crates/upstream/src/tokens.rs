//! Credentials that differ by caller: obtained elsewhere, joined where a request is written to its connection, so that no
//! stage, session or entry ever holds one. A request only says on whose behalf it is made.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_core::{Refusal, Secret};

use crate::headers::secret_value;

/// On whose behalf a request is made. It is taken out before anything is sent.
const CALLER: HeaderName = HeaderName::from_static("portcullis-on-behalf-of");

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

    /// The token to send on behalf of `caller`; none when there is none.
    ///
    /// # Errors
    /// When there should be one and it cannot be had.
    async fn token(&self, caller: Option<&str>) -> Result<Option<Secret<String>>, Refusal>;

    /// The server did not authorize a request. A token with which it is worth another attempt, once; nothing where the
    /// token is not the reason.
    ///
    /// # Errors
    /// What the caller can do about it.
    async fn refused(
        &self,
        caller: Option<&str>,
        answer: Unauthorized<'_>,
    ) -> Result<Option<Secret<String>>, Refusal>;
}

/// Notes on whose behalf the request with these headers is made.
pub(crate) fn on_behalf_of(headers: &mut HeaderMap, caller: &str) {
    // Any text fits, since ids of callers may hold what headers may not.
    let hex: String = caller.bytes().map(|byte| format!("{byte:02x}")).collect();
    if let Ok(value) = HeaderValue::try_from(hex) {
        headers.insert(CALLER, value);
    }
}

/// Takes out on whose behalf the request is made.
pub(crate) fn take_caller(headers: &mut HeaderMap) -> Option<String> {
    let value = headers.remove(CALLER)?;
    let (pairs, _) = value.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
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
            let mut headers = HeaderMap::new();
            on_behalf_of(&mut headers, caller);
            assert_eq!(take_caller(&mut headers).as_deref(), Some(caller));
            assert!(headers.is_empty());
        }
        assert_eq!(take_caller(&mut HeaderMap::new()), None);
    }
}
