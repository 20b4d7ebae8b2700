//! HashiCorp Vault and OpenBao, over their HTTP API: KV version 1 and 2, and engines that make credentials with leases.
//!
//! Which engine answers under a path is asked of the server (`sys/internal/ui/mounts`, as its own command line does);
//! where a token may not ask, the first segment counts as the mount of a KV engine of the declared version.

mod login;
mod mount;
mod session;
mod transit;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis_core::{Clock, Secret, Timestamp};
use serde_json::{Value, json};
use url::Url;

pub use login::Login;
use mount::{Engine, Mounts};
use session::Session;
pub use transit::TransitKek;

use crate::{
    http::{Answer, Reach, Service, sensitive},
    local::Variables,
    source::{Document, Failure, Lease},
};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Pauses before a question is asked anew.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_200)];

/// What the operator declares about a Vault.
#[derive(Clone, Debug)]
pub struct VaultSettings {
    /// Addresses of its nodes; the next one is asked where one does not answer.
    pub addresses: Vec<Url>,
    /// The namespace of everything that is asked.
    pub namespace: Option<String>,
    /// How the gateway proves who it is.
    pub login: Login,
    /// How it is reached.
    pub reach: Reach,
    /// Version of the KV engine where the token may not ask.
    pub kv_version: u8,
    /// The environment, for what the login refers to.
    pub variables: Variables,
}

/// One Vault.
pub struct Vault {
    nodes: Vec<Service>,
    /// The node that answered last.
    good: AtomicUsize,
    settings: VaultSettings,
    clock: Arc<dyn Clock>,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    mounts: Mounts,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("addresses", &self.settings.addresses).finish_non_exhaustive()
    }
}

/// One question.
#[derive(Clone, Copy)]
struct Question<'a> {
    method: &'a Method,
    /// Segments behind `/v1`.
    path: &'a [&'a str],
    query: Option<(&'a str, &'a str)>,
    body: Option<&'a Value>,
    token: Option<&'a Secret<String>>,
    /// Asked again also where the first time may have had an effect.
    repeatable: bool,
}

impl Vault {
    /// A Vault. Nothing is connected yet.
    ///
    /// # Errors
    /// What cannot be used of the settings.
    pub fn new(settings: VaultSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let nodes = settings.addresses.iter().map(|url| Service::new(url, &settings.reach));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err("no address".to_owned());
        }
        let mounts = Mounts::new(settings.kv_version);
        Ok(Self { nodes, good: AtomicUsize::new(0), settings, clock, session: Default::default(), mounts })
    }

    /// The document at `path`, of a version or the newest.
    pub(crate) async fn read(&self, path: &str, version: Option<u64>) -> Result<Document, Failure> {
        let segments: Vec<&str> = path.split('/').collect();
        let engine = self.engine(&segments).await?;
        let number = version.map(|version| version.to_string());
        let mut target: Vec<&str> = segments.clone();
        if let Engine::Kv2 { depth } = engine {
            target.insert(depth, "data");
        }
        let query = number.as_deref().map(|number| ("version", number));
        if version.is_some() && !matches!(engine, Engine::Kv2 { .. }) {
            return Err(Failure::Absent(format!("`{path}` has no versions: its engine is not KV version 2")));
        }
        let method = Method::GET;
        let answer = self.authorized(&method, &target, query, None).await?;
        match engine {
            Engine::Kv2 { .. } => versioned(path, &answer),
            Engine::Other => unversioned(path, answer),
        }
    }

    /// Has the password of an account made anew that an engine keeps (`MOUNT/static-creds/NAME`).
    pub(crate) async fn rotate(&self, path: &str) -> Result<(), Failure> {
        let segments: Vec<&str> = path.split('/').collect();
        let [mount @ .., "static-creds" | "static-cred", name] = segments.as_slice() else {
            return Err(Failure::Absent(format!(
                "`vault:{path}` is no account whose password an engine keeps (`MOUNT/static-creds/NAME`): put a new value \
                 into Vault, then rotate without `--at-source`"
            )));
        };
        let target: Vec<&str> = mount.iter().copied().chain(["rotate-role", name]).collect();
        self.authorized(&Method::POST, &target, None, None).await.map(drop)
    }

    /// Renews a lease; for how long it lasts from now.
    pub(crate) async fn renew(&self, lease: &str, lasts: Duration) -> Result<Lease, Failure> {
        let body = json!({ "lease_id": lease, "increment": lasts.as_secs() });
        let answer = self.authorized(&Method::POST, &["sys", "leases", "renew"], None, Some(&body)).await?;
        lease_of(&answer).ok_or_else(|| Failure::Unavailable("a lease was renewed without an answer".into()))
    }

    /// Gives a lease back: what was made for it is of no use any more.
    pub(crate) async fn revoke(&self, lease: &str) -> Result<(), Failure> {
        let body = json!({ "lease_id": lease });
        self.authorized(&Method::POST, &["sys", "leases", "revoke"], None, Some(&body)).await.map(drop)
    }

    /// Gives back the token, where it was obtained by a login.
    pub(crate) async fn leave(&self) {
        let Some(session) = self.session.lock().await.take().filter(|session| session.own) else { return };
        let question = Question {
            method: &Method::POST,
            path: &["auth", "token", "revoke-self"],
            query: None,
            body: None,
            token: Some(&session.token),
            repeatable: true,
        };
        if let Err(error) = self.ask(question).await {
            tracing::debug!(%error, "the token could not be given back and ends by itself");
        }
    }

    /// Asks with a token of ours; once more with a new one, where the old one is not taken any more.
    async fn authorized(
        &self,
        method: &Method,
        path: &[&str],
        query: Option<(&str, &str)>,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let session = self.session().await?;
        let token = Some(&session.token);
        let question = Question { method, path, query, body, token, repeatable: true };
        match self.ask(question).await {
            Err(Failure::Forbidden(reason)) => {
                let Some(other) = self.anew(&session).await? else { return Err(Failure::Forbidden(reason)) };
                self.ask(Question { token: Some(&other.token), ..question }).await
            }
            answered => answered,
        }
    }

    /// Asks the nodes in turn, with pauses, until one of them answers for good.
    async fn ask(&self, question: Question<'_>) -> Result<Value, Failure> {
        let mut failure = Failure::Unavailable("it was not asked".into());
        for pause in std::iter::once(None).chain(PAUSES.iter().map(Some)) {
            if let Some(pause) = pause {
                tokio::time::sleep(*pause).await;
            }
            let first = self.good.load(Ordering::Relaxed);
            for offset in 0..self.nodes.len() {
                let at = (first + offset) % self.nodes.len();
                let Some(node) = self.nodes.get(at) else { continue };
                match self.ask_node(node, question).await {
                    Ok(answer) => {
                        self.good.store(at, Ordering::Relaxed);
                        return settled(question.path, answer);
                    }
                    Err((reason, again)) => {
                        failure = Failure::Unavailable(format!("Vault at `{}`: {reason}", node.url));
                        if !again {
                            return Err(failure);
                        }
                    }
                }
            }
        }
        Err(failure)
    }

    /// What a node answered for good; otherwise why not, and whether the question may be asked again.
    async fn ask_node(&self, node: &Service, question: Question<'_>) -> Result<Answer, (String, bool)> {
        let mut url = node.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(question.path);
        }
        if let Some((name, value)) = question.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let mut headers = HeaderMap::new();
        // Agents and proxies of Vault let nothing pass without it.
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.settings.namespace {
            let value = HeaderValue::try_from(namespace.as_str());
            headers.insert(NAMESPACE, value.map_err(|_| ("the namespace is no header".to_owned(), false))?);
        }
        if let Some(token) = question.token {
            let value = sensitive(token.expose()).ok_or(("the token is no header".to_owned(), false))?;
            headers.insert(TOKEN, value);
        }
        let body = question.body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        if !body.is_empty() {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let asked = node.ask(question.method.clone(), &url, headers, body).await;
        let answer = asked.map_err(|silent| (silent.reason, silent.nothing_sent || question.repeatable))?;
        match answer.status.as_u16() {
            // Too many questions, a replica that is behind, a standby, sealed, or out of order.
            412 | 429 | 472 | 473 | 500..=599 => {
                Err((format!("{} {}", answer.status.as_u16(), errors(&answer)), true))
            }
            _ => Ok(answer),
        }
    }
}

/// What an answer comes to.
fn settled(path: &[&str], answer: Answer) -> Result<Value, Failure> {
    let said =
        || format!("Vault says {} to `{}`: {}", answer.status.as_u16(), path.join("/"), errors(&answer));
    match answer.status.as_u16() {
        200..=299 => Ok(answer.body),
        400 | 401 | 403 => Err(Failure::Forbidden(said())),
        404 if answer.body.pointer("/data/metadata/version").is_some() => {
            let deleted = answer.body.pointer("/data/metadata/deletion_time").and_then(Value::as_str);
            let when = deleted.filter(|when| !when.is_empty()).unwrap_or("an unknown time");
            Err(Failure::Absent(format!("`{}`: this version was deleted at {when}", path.join("/"))))
        }
        404 => Err(Failure::Absent(format!(
            "there is nothing at `{}`, or the token may not see it",
            path.join("/")
        ))),
        _ => Err(Failure::Unavailable(said())),
    }
}

fn errors(answer: &Answer) -> String {
    let texts = answer.body.get("errors").and_then(Value::as_array).into_iter().flatten();
    // Servers that only speak its API say `error`.
    let texts: Vec<&str> = texts.chain(answer.body.get("error")).filter_map(Value::as_str).collect();
    let text = match (texts.is_empty(), answer.text.is_empty()) {
        (false, _) => texts.join("; "),
        (true, false) => (*answer.text).clone(),
        (true, true) => "no reason given".to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A document of KV version 2.
fn versioned(path: &str, answer: &Value) -> Result<Document, Failure> {
    let Some(data) = answer.pointer("/data/data").and_then(Value::as_object) else {
        return Err(Failure::Absent(format!("`{path}` was deleted, or holds nothing")));
    };
    let version = answer.pointer("/data/metadata/version").and_then(Value::as_u64);
    let fields = data.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let created = answer.pointer("/data/metadata/created_time").and_then(Value::as_str).and_then(moment);
    let version = version.map(|version| version.to_string());
    Ok(Document { fields, version, lease: Lease::Unstated, created })
}

/// What any other engine answers: KV version 1, or credentials made for this question.
fn unversioned(path: &str, answer: Value) -> Result<Document, Failure> {
    let lease = lease_of(&answer).unwrap_or_default();
    let fields: BTreeMap<_, _> = match answer.get("data") {
        Some(Value::Object(data)) => data.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        Some(_) | None => return Err(Failure::Absent(format!("`{path}` holds nothing"))),
    };
    // Of an account that is there for long.
    let rotated = answer.pointer("/data/last_vault_rotation").and_then(Value::as_str).and_then(moment);
    Ok(Document { fields, version: None, lease, created: rotated })
}

/// A moment as RFC 3339 writes it.
fn moment(text: &str) -> Option<Timestamp> {
    let moment = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp)
}

/// The lease of an answer.
fn lease_of(answer: &Value) -> Option<Lease> {
    let seconds = answer.get("lease_duration").and_then(Value::as_u64).filter(|seconds| *seconds > 0)?;
    let lasts = Duration::from_secs(seconds);
    let id = answer.get("lease_id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let renewable = answer.get("renewable").and_then(Value::as_bool).unwrap_or(false);
    Some(id.map_or(Lease::Until(lasts), |id| Lease::Held { id: id.to_owned(), lasts, renewable }))
}

/// A text as it is, everything else as JSON.
fn text(value: &Value) -> Secret<String> {
    Secret::new(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}
