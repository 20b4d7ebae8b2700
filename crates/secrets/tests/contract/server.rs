//! A server that answers as it is told, and remembers what it was asked; a clock that stands still; a record.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use portcullis_core::{Clock, Timestamp};
use portcullis_net::guard::EgressPolicy;
use portcullis_secrets::{
    Broker, Failure, Keeping, Login, Parts, Reach, Reference, Variables, Vault, VaultSettings, Witness,
};
use serde_json::Value;
use url::Url;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn token(&self) -> &str {
        self.headers.get("x-vault-token").map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

type Answer = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

/// The server.
pub(crate) struct Server {
    pub(crate) url: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let answer: Arc<Answer> = Arc::new(answer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, heard) = (Arc::clone(&answer), Arc::clone(&heard));
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (answer, heard) = (Arc::clone(&answer), Arc::clone(&heard));
                        async move { Ok::<_, Infallible>(reply(request, &*answer, &heard).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often a path was asked for.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.asked().iter().filter(|asked| asked.target == target).count()
    }
}

async fn reply(
    request: Request<Incoming>,
    answer: &Answer,
    heard: &Mutex<Vec<Asked>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers = head.headers.iter();
    let asked = Asked {
        method: head.method.to_string(),
        target: head.uri.path_and_query().unwrap().to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    heard.lock().unwrap().push(asked.clone());
    let (status, body) = answer(&asked);
    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
}

/// Time that goes on when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Hands(AtomicU64);

impl Hands {
    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_449_600_000 + self.0.load(Ordering::SeqCst) / 1_000)
    }

    fn ticks_us(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What came on record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) used: Mutex<Vec<(String, Option<String>)>>,
    pub(crate) rotated: Mutex<Vec<String>>,
    pub(crate) leaked: Mutex<Vec<(String, String)>>,
    /// Nothing can be recorded.
    pub(crate) broken: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Witness for Record {
    async fn used(&self, reference: &str, caller: Option<&str>) -> Result<(), Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::Unavailable("no record".into()));
        }
        self.used.lock().unwrap().push((reference.to_owned(), caller.map(str::to_owned)));
        Ok(())
    }

    async fn rotated(&self, reference: &str, _version: Option<&str>) -> Result<(), Failure> {
        self.rotated.lock().unwrap().push(reference.to_owned());
        Ok(())
    }

    async fn leaked(&self, reference: &str, _canary: bool, server: &str) -> Result<(), Failure> {
        self.leaked.lock().unwrap().push((reference.to_owned(), server.to_owned()));
        Ok(())
    }
}

/// What follows references to some Vaults, with its clock and its record.
pub(crate) struct Rig {
    pub(crate) broker: Arc<Broker>,
    pub(crate) clock: Arc<Hands>,
    pub(crate) record: Arc<Record>,
}

pub(crate) fn variables() -> Variables {
    Variables::new(|name| {
        let known = [("TOKEN", "root"), ("ROLE", "role-1"), ("SECRET", "secret-1"), ("PASSWORD", "bob4ever")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

pub(crate) fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

pub(crate) fn settings(urls: &[&Url], login: Login) -> VaultSettings {
    VaultSettings {
        addresses: urls.iter().map(|url| (*url).clone()).collect(),
        namespace: None,
        login,
        reach: Reach {
            egress: EgressPolicy::of(true, false),
            roots_pem: Vec::new(),
            identity: None,
            timeout: Duration::from_secs(20),
        },
        kv_version: 2,
        variables: variables(),
    }
}

pub(crate) fn token() -> Login {
    Login::Token { token: reference("env:TOKEN"), wrapped: false }
}

pub(crate) fn rig(settings: VaultSettings, keeping: Keeping) -> Rig {
    let (clock, record) = (Arc::new(Hands::default()), Arc::new(Record::default()));
    let vault = Vault::new(settings, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let broker = Broker::new(Parts {
        vault: Some(vault),
        aws: None,
        keeper: None,
        variables: variables(),
        keeping,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        witness: Arc::clone(&record) as Arc<dyn Witness>,
    });
    Rig { broker, clock, record }
}

impl Rig {
    pub(crate) async fn get(&self, text: &str) -> Result<String, Failure> {
        self.get_for(text, None).await
    }

    pub(crate) async fn get_for(&self, text: &str, caller: Option<&str>) -> Result<String, Failure> {
        self.broker.value(&reference(text), caller).await.map(|value| value.expose().clone())
    }
}
