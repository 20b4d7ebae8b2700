//! An authorization server and the MCP server that it protects, on one port of loopback: as strict as RFC 6749, 7636, 8707
//! and 9207 ask for, and hostile where a test says so.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use portcullis_testkit::Outcome;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::desk::Desk;

/// What a grant is worth.
#[derive(Clone, Debug)]
pub struct Access {
    pub login: String,
    pub scope: String,
    pub resource: String,
    /// How often the token was shown.
    pub uses: u32,
}

#[derive(Clone, Debug)]
struct Code {
    access: Access,
    client: String,
    redirect: String,
    challenge: String,
}

/// What the provider does differently from a good one.
#[derive(Clone, Debug, Default)]
pub struct Knobs {
    /// Members of the authorization server's metadata that are replaced; null removes.
    pub metadata: BTreeMap<String, Value>,
    /// Members of the resource's metadata that are replaced.
    pub resource: BTreeMap<String, Value>,
    /// `iss` of the redirect instead of its own; empty: none.
    pub iss: Option<String>,
    /// Seconds that tokens last.
    pub lasts_s: Option<u64>,
    /// Scope that `tools/call` needs.
    pub needs: Option<String>,
    /// Scopes that it never grants.
    pub withholds: Option<String>,
    /// Where the challenge says that the metadata is.
    pub hint: Option<String>,
    /// Answers every token request with this status.
    pub token_status: Option<u16>,
    /// Keeps back its answers to token requests for so long, after it has carried them out.
    pub token_delay: Duration,
    /// `issued_token_type` of what is exchanged; empty: none.
    pub issued: Option<String>,
    /// Holds requests to the token endpoint for so long before it carries them out.
    pub token_hold: Duration,
    /// Keeps back its answers to refreshes for as long as this is set, after it has carried them out.
    pub refreshes_gated: bool,
    /// The server speaks 2025-11-25 alone.
    pub legacy: bool,
    /// Nothing that is received is kept.
    pub quiet: bool,
    /// The metadata of the resource is nowhere but where the challenge says.
    pub hidden: bool,
}

#[derive(Debug, Default)]
pub struct State {
    pub knobs: Knobs,
    codes: BTreeMap<String, Code>,
    /// Access tokens that count.
    pub tokens: BTreeMap<String, Access>,
    refreshes: BTreeMap<String, (Access, String)>,
    /// Refresh tokens that were used, and whose they are.
    used: BTreeMap<String, String>,
    /// Refresh tokens that were used again, each of which cost its user every grant (RFC 9700 section 4.14.2).
    pub reused: Vec<String>,
    clients: BTreeMap<String, String>,
    assertions: BTreeMap<String, Access>,
    next: u64,
    /// Method, target, headers and body of everything received.
    pub received: Vec<String>,
    /// Queries of requests to the authorization endpoint.
    pub asked: Vec<BTreeMap<String, String>>,
    /// `grant_type` of requests to the token endpoint.
    pub grants: Vec<String>,
    pub revoked: Vec<String>,
    /// Tokens that can be exchanged, and whose they are.
    pub subjects: BTreeMap<String, String>,
    /// What was asked to be exchanged.
    pub exchanged: Vec<BTreeMap<String, String>>,
    /// Requests to the token endpoint that were held.
    pub held: u32,
    /// What the server keeps of its users.
    pub desk: Desk,
    /// Texts that must never come here.
    pub forbidden: Vec<String>,
}

/// The provider.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    pub async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| answer(request, address, Arc::clone(&shared)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { address, state, task })
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn issuer(&self) -> String {
        format!("{}/as", self.base())
    }

    pub fn url(&self) -> String {
        format!("{}/mcp", self.base())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.state().knobs);
    }

    /// Access tokens that were shown so often stop counting.
    pub fn expire_used(&self, uses: u32) {
        self.state().tokens.retain(|_, access| access.uses < uses);
    }

    /// Every access token but the newest stops counting.
    pub fn expire_all_but_newest(&self) {
        let mut state = self.state();
        let number = |token: &String| token.trim_start_matches("access-").parse::<u64>().unwrap_or(0);
        let newest = state.tokens.keys().map(number).max();
        state.tokens.retain(|token, _| Some(number(token)) == newest);
    }

    /// Every access token stops counting, as when a session ends at the server.
    pub fn expire_all(&self) {
        self.state().tokens.clear();
    }
}

pub type Answered = Response<Full<Bytes>>;

pub fn respond(status: u16, headers: &[(&str, &str)], body: &Value) -> Answered {
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    response.body(Full::new(Bytes::from(text))).unwrap_or_default()
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v))).collect()
}

/// What a query or a form says for a text.
pub fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let pair = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                out.push(u8::from_str_radix(&String::from_utf8_lossy(&pair), 16).unwrap_or(b'?'));
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How a text stands in a query or a form.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn changed(mut document: Value, changes: &BTreeMap<String, Value>) -> Value {
    for (name, value) in changes {
        if value.is_null() {
            document.as_object_mut().map(|members| members.remove(name));
        } else {
            document[name] = value.clone();
        }
    }
    document
}

async fn answer(
    request: Request<Incoming>,
    address: SocketAddr,
    shared: Arc<Mutex<State>>,
) -> Result<Answered, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let look = || shared.lock().unwrap_or_else(PoisonError::into_inner).knobs.clone();
    let Knobs { token_hold: hold, token_delay: delay, refreshes_gated: gated, .. } = look();
    if parts.uri.path() == "/as/token" && !hold.is_zero() {
        shared.lock().unwrap_or_else(PoisonError::into_inner).held += 1;
        tokio::time::sleep(hold).await;
    }
    let answered = judge(&parts, &body, address, &shared);
    let gated = gated && body.contains("grant_type=refresh_token");
    while gated && look().refreshes_gated {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if parts.uri.path() == "/as/token" && !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(answered)
}

fn judge(parts: &request::Parts, body: &str, address: SocketAddr, shared: &Mutex<State>) -> Answered {
    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let received = format!("{} {} {:?} {body}", parts.method, parts.uri, parts.headers);
    if state.forbidden.iter().any(|text| received.contains(text)) {
        state.desk.violations.push(received.clone());
    }
    if !state.knobs.quiet {
        state.received.push(received);
    }
    let header =
        |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (base, query) = (format!("http://{address}"), pairs(parts.uri.query().unwrap_or_default()));
    let issuer = format!("{base}/as");
    let well_known = "/.well-known/oauth-protected-resource/mcp";
    let metadata = if state.knobs.hidden { "/elsewhere/metadata" } else { well_known };
    match parts.uri.path() {
        path if path == metadata => {
            let document = json!({ "resource": format!("{base}/mcp"), "authorization_servers": [issuer] });
            respond(200, &[], &changed(document, &state.knobs.resource))
        }
        "/.well-known/oauth-authorization-server/as" => {
            let document = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "registration_endpoint": format!("{issuer}/register"),
                "revocation_endpoint": format!("{issuer}/revoke"),
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            });
            respond(200, &[], &changed(document, &state.knobs.metadata))
        }
        "/as/register" => {
            state.next += 1;
            let (id, secret) = (format!("client-{}", state.next), format!("secret-{}", state.next));
            state.clients.insert(id.clone(), secret.clone());
            respond(201, &[], &json!({ "client_id": id, "client_secret": secret }))
        }
        "/as/authorize" => state.authorize(&query, &header("x-login"), &issuer),
        "/as/token" => state.token(&pairs(body), &header("authorization")),
        "/as/revoke" => {
            let token = pairs(body).remove("token").unwrap_or_default();
            state.refreshes.remove(&token);
            state.tokens.remove(&token);
            state.revoked.push(token);
            respond(200, &[], &Value::Null)
        }
        "/mcp" => {
            let hint = format!("{base}{metadata}");
            state.mcp(body, (&header("authorization"), &header("mcp-session-id")), &hint)
        }
        _ => respond(404, &[], &Value::Null),
    }
}

impl State {
    /// A client that was registered by hand.
    pub fn add_client(&mut self, id: &str, secret: &str) {
        self.clients.insert(id.to_owned(), secret.to_owned());
    }

    /// Every client that registered itself is forgotten.
    pub fn forget_clients(&mut self) {
        self.clients.clear();
    }

    /// Every refresh token is forgotten.
    pub fn forget_refreshes(&mut self) {
        self.refreshes.clear();
    }

    fn authorize(&mut self, query: &BTreeMap<String, String>, login: &str, issuer: &str) -> Answered {
        self.asked.push(query.clone());
        let get = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (redirect, state) = (get("redirect_uri"), get("state"));
        if login.is_empty() || get("code_challenge_method") != "S256" || get("response_type") != "code" {
            return respond(400, &[], &Value::Null);
        }
        self.next += 1;
        let code = format!("code-{}", self.next);
        let mut scope: Vec<String> = get("scope").split(' ').map(str::to_owned).collect();
        scope.retain(|scope| Some(scope) != self.knobs.withholds.as_ref());
        let access =
            Access { login: login.to_owned(), scope: scope.join(" "), resource: get("resource"), uses: 0 };
        let (client, challenge) = (get("client_id"), get("code_challenge"));
        self.codes.insert(code.clone(), Code { access, client, redirect: redirect.clone(), challenge });
        let iss = self.knobs.iss.clone().unwrap_or_else(|| issuer.to_owned());
        let iss = if iss.is_empty() { iss } else { format!("&iss={}", encoded(&iss)) };
        let location = format!("{redirect}?code={code}&state={state}{iss}");
        respond(302, &[("location", &location)], &Value::Null)
    }

    fn token(&mut self, form: &BTreeMap<String, String>, authorization: &str) -> Answered {
        let get = |name: &str| form.get(name).cloned().unwrap_or_default();
        let refused = |error: &str| respond(400, &[], &json!({ "error": error }));
        self.grants.push(get("grant_type"));
        if let Some(status) = self.knobs.token_status {
            return respond(status, &[], &Value::Null);
        }
        let basic = authorization.strip_prefix("Basic ").unwrap_or_default();
        let basic = base64::engine::general_purpose::STANDARD.decode(basic).unwrap_or_default();
        let basic = String::from_utf8_lossy(&basic).into_owned();
        let (client, secret) = basic.split_once(':').unwrap_or_default();
        if self.clients.get(client).is_none_or(|kept| kept != secret) {
            return refused("invalid_client");
        }
        let access = match get("grant_type").as_str() {
            "authorization_code" => {
                // Once, whatever comes of it.
                let Some(code) = self.codes.remove(&get("code")) else { return refused("invalid_grant") };
                let verifier = get("code_verifier");
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
                let fits = URL_SAFE_NO_PAD.encode(digest) == code.challenge
                    && code.client == client
                    && code.redirect == get("redirect_uri")
                    && code.access.resource == get("resource");
                if !fits {
                    return refused("invalid_grant");
                }
                code.access
            }
            "refresh_token" => match self.refresh(&get("refresh_token"), client) {
                Some(access) => access,
                None => return refused("invalid_grant"),
            },
            "client_credentials" => {
                Access { login: client.to_owned(), scope: String::new(), resource: String::new(), uses: 0 }
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                self.exchanged.push(form.clone());
                let Some(login) = self.subjects.get(&get("subject_token")).cloned() else {
                    return refused("invalid_grant");
                };
                let kind = self.knobs.issued.clone().unwrap_or_else(|| get("requested_token_type"));
                return self
                    .issue(Access { login, scope: get("scope"), resource: get("resource"), uses: 0 }, &kind);
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                match self.assertions.remove(&get("assertion")) {
                    Some(access) if access.resource == get("resource") => access,
                    Some(_) | None => return refused("invalid_grant"),
                }
            }
            _ => return refused("unsupported_grant_type"),
        };
        self.next += 1;
        let (token, refresh) = (format!("access-{}", self.next), format!("refresh-{}", self.next));
        self.tokens.insert(token.clone(), Access { uses: 0, ..access.clone() });
        self.refreshes.insert(refresh.clone(), (access.clone(), client.to_owned()));
        let lasts = self.knobs.lasts_s.unwrap_or(3_600);
        let answer = json!({
            "access_token": token, "token_type": "Bearer", "refresh_token": refresh, "expires_in": lasts,
            "scope": access.scope,
        });
        respond(200, &[], &answer)
    }

    /// A token in exchange for another: an access token, or an assertion about its user.
    fn issue(&mut self, access: Access, kind: &str) -> Answered {
        self.next += 1;
        let jag = kind.ends_with(":id-jag");
        let token = format!("{}-{}", if jag { "assertion" } else { "access" }, self.next);
        let kept = if jag { &mut self.assertions } else { &mut self.tokens };
        kept.insert(token.clone(), access.clone());
        let mut answer = json!({
            "access_token": token, "token_type": if jag { "N_A" } else { "Bearer" }, "issued_token_type": kind,
            "expires_in": self.knobs.lasts_s.unwrap_or(3_600), "scope": access.scope, "refresh_token": "never-kept",
        });
        if kind.is_empty() {
            answer.as_object_mut().map(|members| members.remove("issued_token_type"));
        }
        respond(200, &[], &answer)
    }

    /// What a refresh token is worth, once. Shown again, it was stolen, and nothing counts any more that came of it.
    fn refresh(&mut self, token: &str, client: &str) -> Option<Access> {
        if let Some(login) = self.used.get(token).cloned() {
            self.reused.push(token.to_owned());
            self.refreshes.retain(|_, (access, _)| access.login != login);
            self.tokens.retain(|_, access| access.login != login);
            return None;
        }
        let (access, owner) = self.refreshes.remove(token)?;
        self.used.insert(token.to_owned(), access.login.clone());
        (owner == client).then_some(access)
    }

    fn mcp(&mut self, body: &str, (authorization, session): (&str, &str), hint: &str) -> Answered {
        let hint = self.knobs.hint.as_deref().unwrap_or(hint);
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        let access = self.tokens.get_mut(token).map(|access| {
            access.uses += 1;
            access.clone()
        });
        let Some(access) = access else {
            let challenge = format!("Bearer resource_metadata=\"{hint}\", scope=\"tools\"");
            return respond(401, &[("www-authenticate", &challenge)], &json!({ "error": "invalid_token" }));
        };
        let message: Value = serde_json::from_str(body).unwrap_or_default();
        let method = message["method"].as_str().unwrap_or_default();
        let needs = self.knobs.needs.as_ref().filter(|_| method == "tools/call");
        if let Some(scope) = needs.filter(|scope| !access.scope.split(' ').any(|has| has == *scope)) {
            let challenge = format!(
                "Bearer error=\"insufficient_scope\", scope=\"{scope}\", resource_metadata=\"{hint}\""
            );
            return respond(
                403,
                &[("www-authenticate", &challenge)],
                &json!({ "error": "insufficient_scope" }),
            );
        }
        self.desk.answer(&message, &access.login, session, self.knobs.legacy)
    }
}
