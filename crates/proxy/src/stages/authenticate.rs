//! Who is asking.

use std::sync::Arc;

use http::{HeaderName, header};
use portcullis_connect::auth::Credentials;
use portcullis_core::{Caller, Code, Refusal};

use crate::{head::Head, rules::Rules};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Where credentials stand.
pub(super) const HEADERS: [HeaderName; 2] = [header::AUTHORIZATION, API_KEY];

/// Finds out who is asking, for the route of `head`.
///
/// # Errors
/// `auth.missing`, `auth.invalid`, `auth.unavailable`; `server.unknown` when the credential does not reach the
/// server, so that its existence stays hidden.
pub async fn caller(head: &Head, rules: &Rules) -> Result<Arc<Caller>, Refusal> {
    let credentials = Credentials { bearer: bearer(head)?, api_key: api_key(head)? };
    if credentials.bearer.is_some() && credentials.api_key.is_some() {
        return Err(Refusal::new(Code::AuthInvalid, "two credentials in one request"));
    }
    let audience = rules.resource(&head.server);
    let caller = match rules.auth.try_now(&credentials, &audience) {
        Some(result) => result?,
        None => rules.auth.authenticate(&credentials, &audience).await?,
    };
    if !caller.servers.reaches(&head.server) {
        return Err(Refusal::new(Code::ServerUnknown, "the credential does not reach this server"));
    }
    Ok(caller)
}

fn bearer(head: &Head) -> Result<Option<&str>, Refusal> {
    if !head.headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let unreadable = || Refusal::new(Code::AuthInvalid, "more than one Authorization header, or not text");
    let value = head.one(&header::AUTHORIZATION).ok_or_else(unreadable)?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::new(Code::AuthInvalid, "an Authorization scheme other than Bearer"));
    }
    Ok(Some(token.trim()))
}

fn api_key(head: &Head) -> Result<Option<&str>, Refusal> {
    if !head.headers.contains_key(&API_KEY) {
        return Ok(None);
    }
    head.one(&API_KEY)
        .map(Some)
        .ok_or_else(|| Refusal::new(Code::AuthInvalid, "more than one X-API-Key header, or not text"))
}
