//! AWS Signature Version 4, as `Authorization` header: the few requests that are made here are posts without a query.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use portcullis_core::Timestamp;
use url::Url;

use super::credentials::Credentials;
use crate::http::sensitive;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A post to the path of `url`.
pub(super) struct Request<'a> {
    pub(super) url: &'a Url,
    pub(super) headers: &'a mut HeaderMap,
    pub(super) body: &'a [u8],
}

/// Signs all headers that are there, the host and the body, for a service in a region.
pub(super) fn sign(
    request: Request<'_>,
    credentials: &Credentials,
    (region, service): (&str, &str),
    now: Timestamp,
) -> Result<(), String> {
    let moment = basic(now);
    let day = moment.get(..8).unwrap_or_default();
    let unfit = |_| "a signed header cannot be written".to_owned();
    request.headers.insert(DATE, HeaderValue::try_from(moment.as_str()).map_err(unfit)?);
    if let Some(token) = &credentials.token {
        let value = sensitive(token.expose()).ok_or("the session token cannot be written")?;
        request.headers.insert(TOKEN, value);
    }
    let host = &request.url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut lines = vec![("host".to_owned(), host.to_owned())];
    for (name, value) in request.headers.iter() {
        let value = value.to_str().map_err(|_| "a signed header is no text")?;
        lines.push((name.as_str().to_owned(), value.trim().to_owned()));
    }
    lines.sort();
    let names = lines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let mut canonical = format!("POST\n{}\n\n", request.url.path());
    for (name, value) in &lines {
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let _ = write!(canonical, "\n{names}\n{}", hex(digest::digest(&digest::SHA256, request.body).as_ref()));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let whole = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{whole}");
    let mut key = mac(format!("AWS4{}", credentials.secret.expose()).as_bytes(), day);
    for part in [region, service, "aws4_request"] {
        key = mac(key.as_ref(), part);
    }
    let signature = hex(mac(key.as_ref(), &text).as_ref());
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.id
    );
    request
        .headers
        .insert(header::AUTHORIZATION, sensitive(&value).ok_or("the signature cannot be written")?);
    Ok(())
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// ISO 8601 in the basic form, in seconds: `20261123T160000Z`.
fn basic(now: Timestamp) -> String {
    let text = now.to_string();
    let seconds = text.get(..19).unwrap_or_default();
    seconds.chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect()
}

#[cfg(test)]
mod tests {
    use portcullis_core::Secret;

    use super::*;

    /// `post-x-www-form-urlencoded` and `post-vanilla` of the test suite that AWS publishes.
    #[test]
    fn the_published_examples_are_signed_as_published() {
        let credentials = Credentials {
            id: "AKIDEXAMPLE".into(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into()),
            token: None,
            end: None,
        };
        let url = Url::parse("https://example.amazonaws.com/").unwrap();
        // 2015-08-30T12:36:00Z
        let now = Timestamp(1_440_938_160_000);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        for (media, body, names, signature) in [
            (
                None,
                &b""[..],
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                Some(form),
                b"Param1=value1",
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let mut headers = HeaderMap::new();
            media.into_iter().for_each(|media| drop(headers.insert(header::CONTENT_TYPE, media)));
            let request = Request { url: &url, headers: &mut headers, body };
            sign(request, &credentials, ("us-east-1", "service"), now).unwrap();
            assert_eq!(headers[DATE], "20150830T123600Z");
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={names}, Signature={signature}"
            );
            assert_eq!(headers[header::AUTHORIZATION].to_str().unwrap(), expected);
        }
    }
}
