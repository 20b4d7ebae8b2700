//! Chat systems: questions are posted there, and answers of people come back, both signed. A post never holds a call
//! up, and an answer counts for the API key that configuration names for the user of the chat.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use portcullis_core::{Caller, Clock, Limits, Secret, Timestamp};
use portcullis_net::{
    client::{HttpUpstream, UpstreamOptions},
    guard::EgressPolicy,
    webhook::Key,
};
use portcullis_store::ApprovalRow;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use url::Url;

use crate::{
    counts::{Counts, Posted},
    signature::{Seen, Signature, SignatureError},
};

/// Questions of one hook that wait to be posted; beyond, one is not posted, and people find it by `approval list`.
const WAITING_MAX: usize = 256;
/// Posts of one hook at once.
const AT_ONCE_MAX: usize = 4;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// What is waited after each attempt but the last.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// Bytes of an answer to a post that are read.
const REPLY_BYTES_MAX: usize = 65_536;

/// A chat system, as configured.
#[derive(Debug)]
pub struct Hook {
    /// Where questions are posted.
    pub url: Url,
    /// What may be reached there.
    pub egress: EgressPolicy,
    /// What both sides sign with.
    pub secret: Secret<Vec<u8>>,
    /// Users of the chat, and the ids of the API keys for which their answers count.
    pub people: BTreeMap<String, String>,
}

/// Who holds the API key of that id: nobody where it is not valid now.
pub type Person = dyn Fn(&str) -> Option<Arc<Caller>> + Send + Sync;

struct Open {
    key: Key,
    people: BTreeMap<String, String>,
    waiting: mpsc::Sender<Post>,
}

struct Post {
    id: String,
    body: Bytes,
    expires: Timestamp,
}

/// All chat systems.
#[derive(Default)]
pub struct Hooks {
    open: BTreeMap<String, Open>,
    seen: Seen,
    person: std::sync::OnceLock<Box<Person>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.open.keys()).finish()
    }
}

impl Hooks {
    /// Starts to post to these, inside a runtime.
    #[must_use]
    pub fn start(hooks: BTreeMap<String, Hook>, clock: &Arc<dyn Clock>, counts: &Counts) -> Self {
        let mut open = BTreeMap::new();
        for (name, Hook { url, egress, secret, people }) in hooks {
            let key = Key::new(secret.expose());
            let (waiting, queue) = mpsc::channel(WAITING_MAX);
            let sender = Sender {
                name: name.clone(),
                url,
                egress,
                key: key.clone(),
                clock: Arc::clone(clock),
                counts: counts.clone(),
            };
            tokio::spawn(Arc::new(sender).run(queue));
            open.insert(name, Open { key, people, waiting });
        }
        Self { open, seen: Seen::default(), person: std::sync::OnceLock::new() }
    }

    /// From here on it is known who holds which key.
    pub fn know(&self, person: Box<Person>) {
        // The first stays: there is one gateway.
        let _known = self.person.set(person);
    }

    /// Who answers in that chat, if the message is of it, and of now, and comes for the first time.
    pub(crate) fn users(
        &self,
        name: &str,
        signed: &Signature,
        body: &[u8],
        now: Timestamp,
    ) -> Result<&BTreeMap<String, String>, SignatureError> {
        let hook = self.open.get(name).ok_or(SignatureError::Wrong)?;
        hook.key.verify(signed, body, now)?;
        self.seen.first(name, &signed.id, now)?;
        Ok(&hook.people)
    }

    pub(crate) fn person(&self, key: &str) -> Option<Arc<Caller>> {
        self.person.get().and_then(|person| person(key))
    }

    /// Posts a question to every chat in which somebody may answer it; others are not told of it.
    pub(crate) fn post(&self, row: &ApprovalRow, counts: &Counts, may: impl Fn(&Caller) -> bool) {
        for (name, hook) in &self.open {
            let anybody = hook.people.values().any(|key| self.person(key).is_some_and(|by| may(&by)));
            if !anybody {
                continue;
            }
            let body = Bytes::from(body(row, name));
            let post = Post { id: row.asked.id.clone(), body, expires: row.asked.expires };
            if hook.waiting.try_send(post).is_err() {
                tracing::warn!(hook = name, approval = row.asked.id, "too many questions wait to be posted");
                counts.posted(name, Posted::Dropped);
            }
        }
    }
}

/// What is posted: what people would be shown otherwise.
fn body(row: &ApprovalRow, hook: &str) -> String {
    let asked = &row.asked;
    let question: Value = serde_json::from_str(&asked.question).unwrap_or_default();
    json!({
        "kind": "approval.asked",
        "hook": hook,
        "approval": asked.id,
        "caller": asked.caller,
        "askers": asked.askers,
        "people": asked.demand.people,
        "roles": asked.demand.roles,
        "created": asked.created.to_string(),
        "expires": asked.expires.to_string(),
        "question": question,
    })
    .to_string()
}

struct Sender {
    name: String,
    url: Url,
    egress: EgressPolicy,
    key: Key,
    clock: Arc<dyn Clock>,
    counts: Counts,
}

impl Sender {
    async fn run(self: Arc<Self>, mut queue: mpsc::Receiver<Post>) {
        let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
        while let Some(post) = queue.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let sender = Arc::clone(&self);
            tokio::spawn(async move {
                sender.deliver(&post).await;
                drop(place);
            });
        }
    }

    async fn deliver(&self, post: &Post) {
        let mut pauses = PAUSES.into_iter();
        loop {
            let failure = match self.attempt(post).await {
                Ok(()) => return self.counts.posted(&self.name, Posted::Delivered),
                Err(failure) => failure,
            };
            tracing::warn!(hook = self.name, approval = post.id, failure, "a question was not posted");
            let pause = pauses.next().filter(|_| self.clock.now() < post.expires);
            let Some(pause) = pause else { return self.counts.posted(&self.name, Posted::Failed) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, post: &Post) -> Result<(), String> {
        let seconds = self.clock.now().seconds();
        let signature = self.key.sign(&post.id, seconds, &post.body);
        let mut options = UpstreamOptions::new(self.egress, &Limits::default());
        options.connect_timeout = ATTEMPT;
        options.first_byte_timeout = ATTEMPT;
        options.pool_idle_max = 0;
        let client = HttpUpstream::new(&self.url, &options).map_err(|error| error.to_string())?;
        let mut request = Request::new(Full::new(post.body.clone()));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("webhook-timestamp", HeaderValue::from(seconds));
        for (name, text) in [("webhook-id", &post.id), ("webhook-signature", &signature)] {
            headers.insert(name, HeaderValue::try_from(text).map_err(|error| error.to_string())?);
        }
        let fetched = tokio::time::timeout(ATTEMPT, client.fetch(request, REPLY_BYTES_MAX, ATTEMPT)).await;
        let (status, _) = fetched.map_err(|_| "no answer in time")?.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(()) } else { Err(format!("the answer is {status}")) }
    }
}
