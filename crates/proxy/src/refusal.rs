//! The only function that turns a [`Refusal`] into HTTP and JSON-RPC.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use portcullis_connect::auth::{self, Bound, Challenge, Route};
use portcullis_core::{Code, Refusal};
use portcullis_mcp::{
    json::{View, quote},
    revision::Era,
};

use crate::body::{self, Body};

/// What is known about the message that is refused.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The era, once classified.
    pub era: Option<Era>,
    /// The raw bytes of the request id, once parsed.
    pub id: Option<Bytes>,
    /// Whether it is `tools/call`, whose refusals a model should learn from.
    pub tool_call: bool,
    /// Whether the client opens a URL for its user and calls again.
    pub opens_urls: bool,
    /// Whether the client shows its user a form and calls again.
    pub fills_forms: bool,
    /// The route, whose metadata a challenge names (RFC 9728).
    pub route: Option<Arc<Route>>,
    /// Whether the token came as a DPoP token.
    pub dpop: bool,
    /// A nonce for the next DPoP proof.
    pub nonce: Option<String>,
}

/// Codes that a model should see as a failed tool call rather than its host as a protocol error
/// (specification 2025-11-25, tools, "Error Handling").
const FOR_THE_MODEL: &[Code] = &[
    Code::AnswerRefused,
    Code::AnswerSchema,
    Code::ApprovalDenied,
    Code::ApprovalRequired,
    Code::ArgumentsInvalid,
    Code::ArgumentsMeaning,
    Code::ArgumentsRefused,
    Code::ResidencyRefused,
    Code::ConnectionFailed,
    Code::DefinitionChanged,
    Code::DefinitionUnreviewed,
    Code::ExchangeRefused,
    Code::ExchangeToken,
    Code::Killed,
    Code::LimitApprovals,
    Code::LimitInspection,
    Code::PolicyDenied,
    Code::PolicyError,
    Code::PolicyFlow,
    Code::ServerRequestDenied,
    Code::ServerRequestUrl,
];

/// The reply to a refused message.
#[must_use]
pub fn reply(refusal: &Refusal, asked: &Asked) -> Response<Body> {
    let code = refusal.shown;
    let question = asked
        .id
        .as_deref()
        .and_then(|id| connect(refusal, asked, id).or_else(|| confirm(refusal, asked, id)));
    let (status, text) = match &asked.id {
        Some(_) if question.is_some() => (200, question.unwrap_or_default()),
        Some(id) if asked.tool_call && FOR_THE_MODEL.contains(&code) => {
            (200, tool_result(refusal, asked, id))
        }
        id => (status(code, asked.era), error(refusal, id.as_deref())),
    };
    let mut response = Response::new(body::full(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = refusal.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == Code::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST, GET, DELETE"));
    }
    if let Some(challenge) = challenge(refusal, asked) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(nonce) = asked.nonce.as_deref().and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
        headers.insert(HeaderName::from_static("dpop-nonce"), nonce);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// The JSON-RPC message of a refusal, for a stream that is already open.
#[must_use]
pub fn message(refusal: &Refusal, asked: &Asked) -> Bytes {
    let text = match &asked.id {
        Some(id) if asked.tool_call && FOR_THE_MODEL.contains(&refusal.shown) => {
            tool_result(refusal, asked, id)
        }
        id => error(refusal, id.as_deref()),
    };
    Bytes::from(text)
}

/// Under which name a client is asked to connect its user to a server.
pub(crate) const CONNECT: &str = "dev.portcullis/connect";

/// Under which name the user of a client is asked to confirm a call.
pub(crate) const CONFIRM: &str = "dev.portcullis/confirm";
/// The one thing that the user is asked.
pub(crate) const CONFIRMED: &str = "make_the_call";

/// Asks the user to open a URL, where the client can be asked that.
fn connect(refusal: &Refusal, asked: &Asked, id: &[u8]) -> Option<String> {
    let data =
        refusal.data.as_deref().filter(|_| asked.opens_urls && refusal.shown == Code::ConnectionRequired)?;
    let params = View::of(data.as_bytes()).get("elicitations")?.elements().next()?;
    let (url, message) = (raw(params, "url"), raw(params, "message"));
    let params = format!("{{\"mode\":\"url\",\"url\":{url},\"message\":{message}}}");
    Some(input_required(id, CONNECT, &params, ""))
}

/// Asks the user to confirm the call, where the client can be asked that and policy lets it. The state is the name of
/// the question, which is about exactly this call of exactly this caller.
fn confirm(refusal: &Refusal, asked: &Asked, id: &[u8]) -> Option<String> {
    let data =
        refusal.data.as_deref().filter(|_| asked.fills_forms && refusal.shown == Code::ApprovalRequired)?;
    let data = View::of(data.as_bytes());
    data.get("confirm")?;
    let params = format!(
        "{{\"mode\":\"form\",\"message\":{},\"requestedSchema\":{{\"type\":\"object\",\"properties\":{{{}:\
         {{\"type\":\"boolean\",\"title\":\"Make this call\"}}}},\"required\":[{}]}}}}",
        raw(data, "confirm"),
        quote(CONFIRMED),
        quote(CONFIRMED),
    );
    let state = format!(",\"requestState\":{}", raw(data, "approval"));
    Some(input_required(id, CONFIRM, &params, &state))
}

fn raw(view: View<'_>, name: &str) -> String {
    view.get(name).map_or("null".into(), |view| String::from_utf8_lossy(view.raw()).into_owned())
}

/// Asks the user something; the client calls again afterwards (2026-07-28).
fn input_required(id: &[u8], name: &str, params: &str, state: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"resultType\":\"input_required\",\"inputRequests\":{{{}:\
         {{\"method\":\"elicitation/create\",\"params\":{params}}}}}{state}}}}}",
        String::from_utf8_lossy(id),
        quote(name),
    )
}

fn status(code: Code, era: Option<Era>) -> u16 {
    match era {
        Some(Era::Legacy) => code.legacy_status(),
        Some(Era::Modern) | None => code.status(),
    }
}

/// How to get in, or further: with the scopes that every call of the route needs, or those that this one does.
fn challenge(refusal: &Refusal, asked: &Asked) -> Option<HeaderValue> {
    let route = asked.route.as_deref()?;
    let every = route.scopes.join(" ");
    let challenge = Challenge {
        code: refusal.shown,
        metadata_url: &auth::metadata_url(&route.resource),
        scope: Some(refusal.scope.as_deref().unwrap_or(&every)),
        dpop: asked.dpop || route.bound == Bound::Dpop,
    };
    HeaderValue::try_from(challenge.value()?).ok()
}

fn error(refusal: &Refusal, id: Option<&[u8]>) -> String {
    let code = refusal.shown;
    let id = id.map_or_else(|| "null".into(), String::from_utf8_lossy);
    let data = match refusal.data.as_deref() {
        Some(data) => data.to_owned(),
        None => format!("{{\"code\":{}}}", quote(code.name())),
    };
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{},\"message\":{},\"data\":{data}}}}}",
        code.jsonrpc(),
        quote(&refusal.public),
    )
}

fn tool_result(refusal: &Refusal, asked: &Asked, id: &[u8]) -> String {
    let kind = if asked.era == Some(Era::Modern) { "\"resultType\":\"complete\"," } else { "" };
    let data = refusal.data.as_deref().map(|data| format!(",\"dev.portcullis/data\":{data}"));
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{{kind}\"content\":[{{\"type\":\"text\",\"text\":{}}}],\
         \"isError\":true,\"_meta\":{{\"dev.portcullis/code\":{}{}}}}}}}",
        String::from_utf8_lossy(id),
        quote(&format!("Refused by the gateway: {}.", refusal.public)),
        quote(refusal.shown.name()),
        data.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(era: Era, tool_call: bool) -> Asked {
        Asked {
            era: Some(era),
            id: Some(Bytes::from_static(b"7")),
            tool_call,
            route: Some(Arc::new(Route::at("https://g.example/mcp/s"))),
            ..Asked::default()
        }
    }

    #[test]
    fn every_code_gives_valid_json_with_the_id_and_its_own_status_in_both_eras() {
        for code in Code::ALL {
            for era in [Era::Legacy, Era::Modern] {
                for tool_call in [false, true] {
                    let refusal = Refusal::new(*code, "unseen \"detail\"");
                    let text = message(&refusal, &asked(era, tool_call));
                    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
                    assert_eq!(value["id"], 7, "{}", code.name());
                    assert!(!String::from_utf8_lossy(&text).contains("unseen"), "{}", code.name());
                    assert!(reply(&refusal, &asked(era, tool_call)).status().as_u16() >= 200);
                }
            }
        }
    }

    #[test]
    fn a_missing_credential_is_answered_with_a_challenge_that_names_the_metadata() {
        let response = reply(&Refusal::new(Code::AuthMissing, ""), &asked(Era::Legacy, false));
        assert_eq!(response.status(), 401);
        let metadata = "https://g.example/.well-known/oauth-protected-resource/mcp/s";
        assert_eq!(
            response.headers()["www-authenticate"],
            format!("Bearer resource_metadata=\"{metadata}\"")
        );
    }
}
