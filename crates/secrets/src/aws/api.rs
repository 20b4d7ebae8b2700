//! Requests to the JSON services of AWS: signed, in a region, asked again where that may help.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use portcullis_core::{Clock, Timestamp};
use serde_json::Value;

use super::{
    AwsIdentity,
    credentials::{Chain, Credentials},
    sign, sts,
};
use crate::{
    http::{Answer, Service},
    source::Failure,
};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// Pauses before a question is asked anew; somewhere up to as long again is added by chance.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];

/// One service.
pub(super) struct Api {
    /// As hosts, scopes of signatures and ARNs name it.
    name: &'static str,
    /// What goes before the action in `X-Amz-Target`.
    target: &'static str,
    identity: AwsIdentity,
    chain: Chain,
    clock: Arc<dyn Clock>,
    /// Milliseconds by which the service's clock is ahead of ours.
    ahead_ms: AtomicI64,
    services: std::sync::Mutex<BTreeMap<String, Service>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("name", &self.name)
            .field("region", &self.identity.region)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// A service as the operator declared it. Nothing is connected yet.
    pub(super) fn new(
        (name, target): (&'static str, &'static str),
        identity: AwsIdentity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let chain = Chain::new(identity.clone(), Arc::clone(&clock));
        let (ahead_ms, services) = (AtomicI64::new(0), std::sync::Mutex::default());
        Self { name, target, identity, chain, clock, ahead_ms, services }
    }

    /// An ARN says where its thing is; a name is looked for in the declared region.
    pub(super) fn region_of(&self, name: &str) -> Result<String, Failure> {
        let mut parts = name.split(':');
        let named = match (parts.next(), parts.next(), parts.next()) {
            (Some("arn"), Some(_), Some(service)) if service == self.name => parts.next(),
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
        let service = self.identity.service(self.name, region)?;
        services.insert(region.to_owned(), service.clone());
        Ok(service)
    }

    /// Asks, again where the service wants patience, where our clock is wrong, or where our credentials have ended.
    pub(super) async fn ask(&self, action: &str, region: String, body: &Value) -> Result<Value, Failure> {
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
        let target = HeaderValue::try_from(format!("{}.{action}", self.target));
        headers.insert(TARGET, target.map_err(|error| error.to_string())?);
        let now = Timestamp(self.clock.now().0.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed)));
        let request = sign::Request { url: &service.url, headers: &mut headers, body: &body };
        sign::sign(request, credentials, (region, self.name), now)?;
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
