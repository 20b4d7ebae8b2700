//! The Security Token Service: credentials for a time, and the proof of who the gateway is.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use portcullis_core::{Clock, Secret, Timestamp};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::{
    credentials::{AwsIdentity, Chain, Credentials, end_of},
    sign,
};
use crate::source::Failure;

const VERSION: (&str, &str) = ("Version", "2011-06-15");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
const SERVER_ID: HeaderName = HeaderName::from_static("x-vault-aws-iam-server-id");

/// The text of the first element of that name. The answers of the service are flat; nothing else of XML is read.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    after.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

/// Asks for credentials of a role, signed where there is something to sign with.
pub(super) async fn assume(
    identity: &AwsIdentity,
    form: &[(&str, &str)],
    with: Option<&Credentials>,
    now: Timestamp,
) -> Result<Credentials, Failure> {
    let region = identity.region().unwrap_or_else(|| "us-east-1".to_owned());
    let service = identity.service("sts", &region)?;
    let body =
        form_urlencoded::Serializer::new(String::new()).extend_pairs([VERSION]).extend_pairs(form).finish();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, FORM);
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/xml"));
    if let Some(credentials) = with {
        let request = sign::Request { url: &service.url, headers: &mut headers, body: body.as_bytes() };
        sign::sign(request, credentials, (&region, "sts"), now).map_err(Failure::Unavailable)?;
    }
    let answer = service
        .ask(Method::POST, &service.url, headers, body.into_bytes())
        .await
        .map_err(|silent| Failure::Unavailable(format!("AWS at `{}`: {}", service.url, silent.reason)))?;
    let text = answer.text;
    let found = |name| element(&text, name).map(str::to_owned);
    match (found("AccessKeyId"), found("SecretAccessKey"), found("SessionToken")) {
        (Some(id), Some(secret), Some(token)) => Ok(Credentials {
            id,
            secret: Secret::new(secret),
            token: Some(Secret::new(token)),
            end: found("Expiration").and_then(|end| end_of(&end)),
        }),
        _ => {
            let (kind, message) = (found("Code").unwrap_or_default(), found("Message").unwrap_or_default());
            let said = format!("AWS says {} {kind}: {message}", answer.status.as_u16());
            Err(if answer.status.is_server_error() {
                Failure::Unavailable(said)
            } else {
                Failure::Forbidden(said)
            })
        }
    }
}

/// The body of a login to Vault: a question to AWS who we are, signed and not asked. Vault asks it for us.
pub(crate) async fn caller_identity(
    identity: &AwsIdentity,
    server_id: Option<&str>,
    clock: &dyn Clock,
) -> Result<Value, Failure> {
    let region = identity.region().unwrap_or_else(|| "us-east-1".to_owned());
    let service = identity.service("sts", &region)?;
    let credentials = Chain::find(identity, clock.now()).await?;
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, FORM);
    if let Some(id) = server_id {
        let value = HeaderValue::try_from(id);
        headers
            .insert(SERVER_ID, value.map_err(|_| Failure::Unavailable("the server id is no header".into()))?);
    }
    let request = sign::Request { url: &service.url, headers: &mut headers, body: body.as_bytes() };
    sign::sign(request, &credentials, (&region, "sts"), clock.now()).map_err(Failure::Unavailable)?;
    let mut signed = Map::new();
    for (name, value) in &headers {
        signed.insert(name.as_str().to_owned(), json!([value.to_str().unwrap_or_default()]));
    }
    let host = &service.url[url::Position::BeforeHost..url::Position::AfterPort];
    signed.insert("host".to_owned(), json!([host]));
    Ok(json!({
        "iam_http_request_method": "POST",
        "iam_request_url": STANDARD.encode(service.url.as_str()),
        "iam_request_body": STANDARD.encode(body),
        "iam_request_headers": STANDARD.encode(Value::Object(signed).to_string()),
    }))
}
