//! The pages on which a caller connects to a server with an account of its own. The gateway stands between the user and an
//! authorization server that trusts the gateway, so whoever opens a link proves to be the caller that it was made for, in
//! one browser, from the page that was shown to the answer that comes back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};
use hyper::body::Incoming;
use portcullis_authorize::{Answer, Consent, Failure, Outgoing, Ticket, page};
use portcullis_core::{Caller, Code, Refusal, Secret, Target};
use portcullis_net::{body::read_bounded, listen::PeerInfo, tls::PeerCertificate};
use portcullis_upstream::Verb;
use url::form_urlencoded;

use crate::{
    body::{self, Body},
    gateway::{self, Gateway},
    head::Head,
    rules::Rules,
    stages::{accept, alive, authenticate, record, throttle},
    trail::{Stage, Trail},
};

/// Bytes of a form that is sent back.
const FORM_BYTES_MAX: usize = 65_536;

/// A page, and what is sent beside it.
struct Shown {
    status: StatusCode,
    text: String,
    more: Vec<(&'static str, String)>,
}

impl Shown {
    const fn page(text: String) -> Self {
        Self { status: StatusCode::OK, text, more: Vec::new() }
    }
}

/// Answers a request below `/connect/`.
pub(crate) async fn answer(gateway: &Arc<Gateway>, parts: request::Parts, body: Incoming) -> Response<Body> {
    let rules = gateway.rules.load_full();
    if !rules.servers.values().any(|server| server.authorization.is_some()) {
        return gateway.nowhere(&parts).await;
    }
    let mut trail = Trail::new(Arc::clone(&gateway.clock));
    trail.rules = Some(rules.digest);
    trail.source = parts.extensions.get::<PeerInfo>().map(|peer| peer.addr.ip());
    match page_for(gateway, &rules, &parts, body, &mut trail).await {
        Ok(shown) => response(shown),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.shown.status()).unwrap_or(StatusCode::BAD_REQUEST);
            // What is no page anywhere else is none here: a person sees it.
            let status = if status.is_success() { StatusCode::BAD_REQUEST } else { status };
            let flood = refusal.code == Code::LimitRate && refusal.private.is_empty();
            if !flood {
                gateway::log(&refusal, &trail);
                record::refusal(gateway, &refusal, None, status.as_u16(), &trail).await;
            }
            gateway.count(&trail, Some(refusal.code));
            let text = page::message("That did not work", &format!("{}.", refusal.public));
            response(Shown { status, text, more: Vec::new() })
        }
    }
}

async fn page_for(
    gateway: &Arc<Gateway>,
    rules: &Rules,
    parts: &request::Parts,
    body: Incoming,
    trail: &mut Trail,
) -> Result<Shown, Refusal> {
    let source =
        trail.source.ok_or_else(|| Refusal::new(Code::Internal, "a connection without an address"))?;
    let source = throttle::key(source);
    trail.keep(Stage::Throttle, throttle::source(gateway, &source, rules))?;
    trail.keep(Stage::Accept, accept::place(&parts.uri, &parts.headers, rules))?;
    let path = parts.uri.path().strip_prefix("/connect/").unwrap_or_default();
    match (&parts.method, path) {
        (&Method::GET, "client.json") => Ok(Shown {
            more: vec![("content-type", "application/json".into())],
            ..Shown::page(page::client_document(&rules.public_url))
        }),
        (&Method::GET, "callback") => arrived(gateway, rules, parts, trail).await,
        (&Method::GET, name) => {
            let text = parameter(parts.uri.query().unwrap_or_default().as_bytes(), "ticket");
            let (outgoing, ticket) = opened(rules, name, &text, trail)?;
            ask(gateway, outgoing, &ticket, &text, false).await
        }
        (&Method::POST, name) => {
            let wait = Duration::from_millis(rules.limits.request_timeout_ms);
            let form = read_bounded(body, FORM_BYTES_MAX, wait).await;
            let form = form.map_err(|error| Refusal::new(Code::RequestInvalid, error.to_string()))?;
            let text = parameter(&form, "ticket");
            let (outgoing, ticket) = opened(rules, name, &text, trail)?;
            same_place(&parts.headers, rules)?;
            let form = Form { ticket, text, bytes: &form, source: &source };
            consented(gateway, rules, outgoing, parts, form, trail).await
        }
        (method, _) => Err(Refusal::new(Code::MethodNotAllowed, format!("HTTP method {method}"))),
    }
}

/// What came back with a form.
struct Form<'a> {
    ticket: Ticket,
    text: String,
    bytes: &'a [u8],
    source: &'a str,
}

/// The server of a link, and what the link says. An expired link and one that was never made look the same.
fn opened<'a>(
    rules: &'a Rules,
    name: &str,
    text: &str,
    trail: &mut Trail,
) -> Result<(&'a Arc<Outgoing>, Ticket), Refusal> {
    let what = "this link is not valid, was used already or has expired; try again in your MCP client to get a new one";
    let unknown = || Refusal::new(Code::RequestInvalid, "a link that does not open").saying(what);
    let server = rules.servers.get(name).ok_or_else(unknown)?;
    let outgoing = server.authorization.as_ref().ok_or_else(unknown)?;
    let ticket = outgoing.ticket(text).ok_or_else(unknown)?;
    trail.target = Some(Target { server: Arc::clone(&server.name), item: None, digest: None });
    Ok((outgoing, ticket))
}

/// The page that asks, in a browser that gets a new cookie with it.
async fn ask(
    gateway: &Gateway,
    outgoing: &Outgoing,
    ticket: &Ticket,
    text: &str,
    wrong: bool,
) -> Result<Shown, Refusal> {
    let consent = outgoing.consent(ticket).await?;
    let mut random = [0; 32];
    gateway.entropy.fill(&mut random);
    let cookie: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let page = outgoing.page(ticket, text, &consent, &cookie, wrong);
    let page = page.ok_or_else(|| Refusal::new(Code::Internal, "the page cannot be sealed"))?;
    Ok(Shown { more: vec![("set-cookie", page::set_cookie(&cookie))], ..Shown::page(page) })
}

/// A form of another site is not ours, whatever it holds.
fn same_place(headers: &HeaderMap, rules: &Rules) -> Result<(), Refusal> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (origin, more) = (origins.next().and_then(|origin| origin.to_str().ok()), origins.next());
    if origin == Some(&rules.public_url) && more.is_none() {
        return Ok(());
    }
    Err(Refusal::new(Code::RequestOrigin, format!("a form from `{}`", origin.unwrap_or_default())))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    page::cookie(headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()))
}

/// A form with the user's yes: it is the caller of the link, in the browser that was shown the page, and yes to exactly
/// what the page showed.
async fn consented(
    gateway: &Arc<Gateway>,
    rules: &Rules,
    outgoing: &Outgoing,
    parts: &request::Parts,
    form: Form<'_>,
    trail: &mut Trail,
) -> Result<Shown, Refusal> {
    let seal = parameter(form.bytes, "seal");
    let shown = cookie(&parts.headers).and_then(|cookie| outgoing.shown(&form.ticket, &seal, cookie));
    let consent: Consent = shown.ok_or_else(|| {
        Refusal::new(Code::RequestOrigin, "a form that was not shown in this browser")
            .saying("this form was not shown in this browser, or its cookies are off; open the link again")
    })?;
    let credential = Secret::new(parameter(form.bytes, "credential"));
    let caller = who(gateway, rules, (outgoing.server(), form.source), parts, &credential, trail).await;
    let caller = match caller {
        Err(refusal) if is_wrong(&refusal) => {
            gateway::log(&refusal, trail);
            record::refusal(gateway, &refusal, None, 200, trail).await;
            return ask(gateway, outgoing, &form.ticket, &form.text, true).await;
        }
        caller => caller?,
    };
    if *caller.id != *form.ticket.caller {
        let what =
            "this link was made for another caller; whoever sent it to you would have used your account";
        return Err(Refusal::new(Code::RequestOrigin, "a link of another caller").saying(what));
    }
    if !caller.actors.is_empty() {
        // An agent could give the user an account of its own, and read there what the user writes.
        let what =
            "a token with which somebody acts for this caller connects nobody; use one of the caller's own";
        return Err(Refusal::new(Code::RequestOrigin, "a link opened by somebody who acts for its caller")
            .saying(what));
    }
    let departure = outgoing.depart(&form.ticket, &consent).await.map_err(failed)?;
    let more = page::departure(&departure).into();
    // After a form this status, and no other, makes every browser ask without the form's content.
    Ok(Shown { status: StatusCode::SEE_OTHER, text: String::new(), more })
}

/// Whether another credential may do better.
const fn is_wrong(refusal: &Refusal) -> bool {
    matches!(refusal.code, Code::AuthInvalid | Code::AuthMissing | Code::AuthNonce | Code::AuthProof)
}

/// Who answers a form: judged as a call to the server with that credential.
async fn who(
    gateway: &Arc<Gateway>,
    rules: &Rules,
    (server, source): (&str, &str),
    parts: &request::Parts,
    credential: &Secret<String>,
    trail: &mut Trail,
) -> Result<Arc<Caller>, Refusal> {
    let invalid = || Refusal::new(Code::AuthInvalid, "a credential that no header can hold");
    let mut headers = HeaderMap::new();
    if !credential.expose().trim().is_empty() {
        let bearer = HeaderValue::try_from(format!("Bearer {}", credential.expose().trim()));
        let mut bearer = bearer.map_err(|_| invalid())?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    let address = parts.extensions.get::<PeerInfo>().map(|peer| peer.addr.ip());
    let address = address.ok_or_else(|| Refusal::new(Code::Internal, "a connection without an address"))?;
    let certificate = parts.extensions.get::<PeerCertificate>().cloned();
    let head = Head { verb: Verb::Post, server: server.to_owned(), source: address, headers, certificate };
    let route = rules.access(server);
    let caller = trail.keep(Stage::Authenticate, authenticate::caller(&head, &route, rules).await);
    let caller = caller.inspect_err(|refusal| {
        if matches!(refusal.code, Code::AuthInvalid | Code::AuthProof) {
            throttle::charge_failure(gateway, source);
        }
    })?;
    trail.caller = Some(Arc::clone(&caller));
    trail.keep(Stage::Throttle, throttle::caller(gateway, &caller, rules))?;
    trail.keep(Stage::Authorize, going_on(gateway, &caller.id, server))?;
    Ok(caller)
}

/// Whether neither the caller nor the server was stopped by an operator: nobody connects to what is stopped.
fn going_on(gateway: &Gateway, caller: &str, server: &str) -> Result<(), Refusal> {
    if alive::reaches(gateway, caller, server) {
        return Ok(());
    }
    Err(Refusal::new(Code::Killed, "the caller or the server of a link was killed"))
}

/// The browser is back from the authorization server.
async fn arrived(
    gateway: &Gateway,
    rules: &Rules,
    parts: &request::Parts,
    trail: &mut Trail,
) -> Result<Shown, Refusal> {
    let any = rules.servers.values().find_map(|server| server.authorization.as_ref());
    let authorizer = any.map(|outgoing| outgoing.authorizer());
    let authorizer = authorizer.ok_or_else(|| Refusal::new(Code::RequestInvalid, "nothing to connect to"))?;
    let answer = Answer::of(parts.uri.query().unwrap_or_default())
        .ok_or_else(|| Refusal::new(Code::RequestInvalid, "a parameter of the answer is there twice"))?;
    let taken = authorizer.take(&answer, cookie(&parts.headers)).map_err(failed)?;
    going_on(gateway, taken.caller(), taken.server())?;
    let gone = || Refusal::new(Code::ServerUnknown, "the server is not there any more");
    let server = rules.servers.get(taken.server()).ok_or_else(gone)?;
    trail.target = Some(Target { server: Arc::clone(&server.name), item: None, digest: None });
    let outgoing = server.authorization.as_ref().ok_or_else(gone)?;
    outgoing.arrive(taken, answer).await.map_err(failed)?;
    let text = format!("You are connected to {}. Go back to your MCP client and try again.", server.name);
    let more = vec![("set-cookie", page::unset_cookie())];
    Ok(Shown { more, ..Shown::page(page::message("Connected", &text)) })
}

/// What a user is told of a failure: what may be an attack is named, what others say is not repeated.
fn failed(failure: Failure) -> Refusal {
    let said = match &failure {
        Failure::Refused(code) if code == "access_denied" => {
            "the authorization server says that access was refused"
        }
        Failure::Refused(_) => "the authorization server refused; try again in your MCP client",
        Failure::Unavailable(_) => "the authorization server cannot be used now; try again later",
        Failure::Untrusted(_) => {
            "something does not belong together, and nothing was connected; begin again in your MCP client, and tell an \
             operator if you did not begin this yourself"
        }
        Failure::Ours(_) => "the gateway could not do its part; an operator finds the reason in its log",
    };
    Refusal::from(failure).saying(said)
}

/// A parameter of a form or query; one that is there twice is none.
fn parameter(bytes: &[u8], name: &str) -> String {
    let mut values = form_urlencoded::parse(bytes).filter(|(found, _)| found == name);
    let value = values.next().map(|(_, value)| value.into_owned()).unwrap_or_default();
    if values.next().is_some() { String::new() } else { value }
}

fn response(shown: Shown) -> Response<Body> {
    let mut response = Response::new(body::full(Bytes::from(shown.text)));
    *response.status_mut() = shown.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let fixed = page::HEADERS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in fixed.chain(shown.more) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
