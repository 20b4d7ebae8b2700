//! AWS Secrets Manager, over its JSON API (`x-amz-json-1.1`), and who the gateway is at AWS.

mod credentials;
mod sign;
mod sts;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use portcullis_core::{Clock, Secret, Timestamp};
use serde_json::{Value, json};

pub use credentials::{AssumeRole, AwsIdentity};
use credentials::{Chain, Credentials};
pub(crate) use sts::caller_identity;

use crate::{
    http::{Answer, Service},
    reference::AwsValue,
    source::{Document, Failure, Lease, WHOLE},
};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// Pauses before a question is asked anew; somewhere up to as long again is added by chance.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];
/// Pages of a listing.
const PAGES_MAX: usize = 1_000;

/// AWS Secrets Manager.
pub struct SecretsManager {
    identity: AwsIdentity,
    chain: Chain,
    clock: Arc<dyn Clock>,
    /// Milliseconds by which the service's clock is ahead of ours.
    ahead_ms: AtomicI64,
    services: std::sync::Mutex<BTreeMap<String, Service>>,
}

impl fmt::Debug for SecretsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManager").field("region", &self.identity.region).finish_non_exhaustive()
    }
}

impl SecretsManager {
    /// The service as the operator declared it. Nothing is connected yet.
    #[must_use]
    pub fn new(identity: AwsIdentity, clock: Arc<dyn Clock>) -> Self {
        let chain = Chain::new(identity.clone(), Arc::clone(&clock));
        Self { identity, chain, clock, ahead_ms: AtomicI64::new(0), services: Default::default() }
    }

    /// The value of a secret.
    pub(crate) async fn read(&self, name: &str, which: &AwsValue) -> Result<Document, Failure> {
        let mut body = json!({ "SecretId": name });
        let (member, value) = match which {
            AwsValue::Stage(stage) => ("VersionStage", stage),
            AwsValue::Version(version) => ("VersionId", version),
        };
        if let Some(members) = body.as_object_mut() {
            members.insert(member.to_owned(), Value::from(value.as_str()));
        }
        let answer = self.ask("GetSecretValue", self.region_of(name)?, &body).await?;
        document(name, &answer)
    }

    /// The names of all secrets that the gateway may list, page by page.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub async fn list(&self) -> Result<Vec<String>, Failure> {
        let region = self.region_of("")?;
        let (mut names, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut body = json!({ "MaxResults": 100 });
            if let (Some(next), Some(members)) = (next.take(), body.as_object_mut()) {
                members.insert("NextToken".to_owned(), Value::from(next));
            }
            let answer = self.ask("ListSecrets", region.clone(), &body).await?;
            let page = answer.get("SecretList").and_then(Value::as_array).into_iter().flatten();
            names.extend(page.filter_map(|one| one.get("Name").and_then(Value::as_str)).map(str::to_owned));
            next = answer.get("NextToken").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() {
                return Ok(names);
            }
        }
        Err(Failure::Unavailable("the list of secrets has no end".into()))
    }

    /// An ARN says where its secret is; a name is looked for in the declared region.
    fn region_of(&self, name: &str) -> Result<String, Failure> {
        let mut parts = name.split(':');
        let named = match (parts.next(), parts.next(), parts.next()) {
            (Some("arn"), Some(_), Some("secretsmanager")) => parts.next(),
            _ => None,
        };
        let region = named.map(str::to_owned).or_else(|| self.identity.region());
        let region = region.filter(|region| {
            !region.is_empty()
                && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
        region.ok_or_else(|| {
            Failure::Unavailable("no region of AWS is known; set `secrets.aws.region` or AWS_REGION".into())
        })
    }

    fn service(&self, region: &str) -> Result<Service, Failure> {
        let mut services = self.services.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(service) = services.get(region) {
            return Ok(service.clone());
        }
        let service = self.identity.service("secretsmanager", region)?;
        services.insert(region.to_owned(), service.clone());
        Ok(service)
    }

    /// Asks, again where the service wants patience, where our clock is wrong, or where our credentials have ended.
    async fn ask(&self, action: &str, region: String, body: &Value) -> Result<Value, Failure> {
        let service = self.service(&region)?;
        let mut failure = Failure::Unavailable("it was not asked".into());
        let mut refused = None;
        for pause in std::iter::once(None).chain(PAUSES.iter().map(Some)) {
            if let Some(pause) = pause {
                tokio::time::sleep(*pause + jitter(*pause)).await;
            }
            let credentials = self.chain.credentials(refused.take()).await?;
            let asked = self.once(&service, action, &region, body, &credentials).await;
            let answer = match asked {
                Ok(answer) => answer,
                Err(reason) => {
                    failure = Failure::Unavailable(format!("AWS at `{}`: {reason}", service.url));
                    continue;
                }
            };
            let kind = kind(&answer);
            let said =
                format!("AWS says {} {kind} to {action}: {}", answer.status.as_u16(), message(&answer));
            match (answer.status.as_u16(), kind.as_str()) {
                (200, _) => return Ok(answer.body),
                (_, "ExpiredTokenException" | "ExpiredToken" | "UnrecognizedClientException") => {
                    failure = Failure::Forbidden(said);
                    refused = Some(credentials);
                }
                (_, "RequestTimeTooSkewed" | "InvalidSignatureException" | "SignatureDoesNotMatch")
                    if self.corrected(&answer) =>
                {
                    failure = Failure::Unavailable(said);
                }
                (429 | 500..=599, _)
                | (
                    _,
                    "ThrottlingException"
                    | "Throttling"
                    | "TooManyRequestsException"
                    | "RequestLimitExceeded",
                ) => {
                    failure = Failure::Unavailable(said);
                }
                (_, "ResourceNotFoundException") => return Err(Failure::Absent(said)),
                _ => return Err(Failure::Forbidden(said)),
            }
        }
        Err(failure)
    }

    async fn once(
        &self,
        service: &Service,
        action: &str,
        region: &str,
        body: &Value,
        credentials: &Credentials,
    ) -> Result<Answer, String> {
        let body = body.to_string().into_bytes();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        let target = HeaderValue::try_from(format!("secretsmanager.{action}"));
        headers.insert(TARGET, target.map_err(|error| error.to_string())?);
        let now = Timestamp(self.clock.now().0.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed)));
        let request = sign::Request { url: &service.url, headers: &mut headers, body: &body };
        sign::sign(request, credentials, (region, "secretsmanager"), now)?;
        let asked = service.ask(Method::POST, &service.url, headers, body).await;
        asked.map_err(|silent| silent.reason)
    }

    /// Whether the service's clock differs from ours by more than it bears; then it is followed from now on.
    fn corrected(&self, answer: &Answer) -> bool {
        let theirs = answer.date.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
        let theirs = theirs.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
        let Some(theirs) = theirs.and_then(|since| i64::try_from(since.as_millis()).ok()) else {
            return false;
        };
        let ours = i64::try_from(self.clock.now().0).unwrap_or(i64::MAX);
        let before = self.ahead_ms.swap(theirs.saturating_sub(ours), Ordering::Relaxed);
        theirs.saturating_sub(ours).abs_diff(before) > 60_000
    }
}

/// A document of a secret: the members of its JSON text, and the text itself.
fn document(name: &str, answer: &Value) -> Result<Document, Failure> {
    let text = match (answer.get("SecretString").and_then(Value::as_str), answer.get("SecretBinary")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(Value::String(binary))) => {
            // Bytes that are no text come as the service writes them.
            let bytes = STANDARD.decode(binary).ok();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| binary.clone())
        }
        _ => return Err(Failure::Absent(format!("`{name}` holds no value"))),
    };
    let mut fields: BTreeMap<String, Secret<String>> = match serde_json::from_str(&text) {
        Ok(Value::Object(members)) => members
            .into_iter()
            .map(|(name, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name, Secret::new(value))
            })
            .collect(),
        Ok(_) | Err(_) => BTreeMap::new(),
    };
    fields.insert(WHOLE.to_owned(), Secret::new(text));
    let version = answer.get("VersionId").and_then(Value::as_str).map(str::to_owned);
    Ok(Document { fields, version, lease: Lease::Unstated })
}

/// The name of an error, which comes as JSON, or as XML where the signature was not accepted.
fn kind(answer: &Answer) -> String {
    let json =
        answer.body.get("__type").and_then(Value::as_str).map(|kind| kind.rsplit('#').next().unwrap_or(kind));
    json.or_else(|| sts::element(&answer.text, "Code")).unwrap_or_default().to_owned()
}

fn message(answer: &Answer) -> String {
    let json = answer.body.get("message").or_else(|| answer.body.get("Message")).and_then(Value::as_str);
    let text = json.or_else(|| sts::element(&answer.text, "Message")).unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Up to `most`, so that many gateways do not come back at the same moment.
fn jitter(most: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without chance the pause is as long as it is.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    most.mul_f64(f64::from(byte[0]) / 255.0)
}
