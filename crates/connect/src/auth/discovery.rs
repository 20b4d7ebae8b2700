//! What an issuer says about itself (RFC 8414, OpenID Connect Discovery): where its keys are, and where to ask about its
//! tokens. A document counts only if it names the very issuer that it was asked for.

use portcullis_net::guard::{EgressPolicy, parse_url};
use serde_json::{Map, Value};
use url::Url;

use crate::{
    Reach,
    auth::jwt::json,
    fetch::{is_local, is_safe},
};

/// What is taken from the document of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::auth) struct Discovered {
    pub(in crate::auth) jwks_uri: Url,
    pub(in crate::auth) introspection: Option<Url>,
}

/// Whether documents of `issuer` can be looked for: a URL without query or fragment that nobody on the way can answer for.
pub(in crate::auth) fn discoverable(issuer: &str) -> Result<Url, String> {
    let url = Url::parse(issuer).map_err(|error| format!("`{issuer}` is not a URL: {error}"))?;
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if bare && is_safe(&url) {
        Ok(url)
    } else {
        Err(format!("`{issuer}` must be an https URL without query, its keys are looked for there"))
    }
}

/// The places where the document can be, in the order in which MCP clients try them.
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    let mut places = vec![
        at(format!("/.well-known/oauth-authorization-server{path}")),
        at(format!("/.well-known/openid-configuration{path}")),
        at(format!("{path}/.well-known/openid-configuration")),
    ];
    places.dedup();
    places
}

/// Asks the issuer.
///
/// # Errors
/// What every place answered, for the log.
pub(in crate::auth) async fn discover(
    issuer: &str,
    reach: &Reach,
    bytes_max: u64,
    timeout_ms: u64,
) -> Result<Discovered, String> {
    let url = discoverable(issuer)?;
    let local = is_local(&url);
    let mut reasons = Vec::new();
    for place in places(&url) {
        let outcome = match reach.get(&place, local, bytes_max, timeout_ms).await {
            Ok(bytes) => {
                read(&bytes, issuer, &reach.egress(local)).map_err(|reason| format!("`{place}`: {reason}"))
            }
            Err(reason) => Err(reason),
        };
        match outcome {
            Ok(discovered) => return Ok(discovered),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}

/// `egress`: what may be connected to on behalf of the issuer. This machine is there only if the issuer is.
fn read(bytes: &[u8], issuer: &str, egress: &EgressPolicy) -> Result<Discovered, String> {
    let document = json::object(bytes).ok_or("not a JSON object of unique names")?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("the document is of another issuer".into());
    }
    let jwks_uri = address(&document, "jwks_uri", egress)?.ok_or("it names no key set")?;
    Ok(Discovered { jwks_uri, introspection: address(&document, "introspection_endpoint", egress)? })
}

fn address(document: &Map<String, Value>, name: &str, egress: &EgressPolicy) -> Result<Option<Url>, String> {
    let Some(value) = document.get(name) else { return Ok(None) };
    // Whoever answers for the issuer must not turn us against what only we can reach.
    let url = value.as_str().and_then(|text| parse_url(text, egress).ok());
    let fine = url.filter(is_safe);
    fine.map(Some).ok_or_else(|| format!("`{name}` is no address that may be fetched"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_looked_for_where_clients_look() {
        let of = |issuer: &str| -> Vec<String> {
            places(&Url::parse(issuer).unwrap()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            of("https://a.example/t/v2.0"),
            [
                "https://a.example/.well-known/oauth-authorization-server/t/v2.0",
                "https://a.example/.well-known/openid-configuration/t/v2.0",
                "https://a.example/t/v2.0/.well-known/openid-configuration",
            ]
        );
        let root = [
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
        ];
        assert_eq!(of("https://a.example"), root);
        assert_eq!(of("https://a.example/"), root);
    }

    #[test]
    fn a_document_counts_for_its_own_issuer_and_names_only_what_may_be_fetched() {
        let document =
            |issuer: &str, jwks: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks}"}}"#).into_bytes();
        let (issuer, keys) = ("https://a.example", "https://keys.example/jwks");
        let read = |bytes: &[u8], local| read(bytes, issuer, &Reach::default().egress(local));
        assert!(read(&document(issuer, keys), false).is_ok());
        for (what, bytes, local) in [
            ("a slash more", document("https://a.example/", keys), false),
            ("another case", document("https://A.example", keys), false),
            ("another issuer", document("https://b.example", keys), false),
            ("no issuer", br#"{"jwks_uri":"https://keys.example/jwks"}"#.to_vec(), false),
            (
                "two issuers",
                br#"{"issuer":"https://b.example","issuer":"https://a.example"}"#.to_vec(),
                false,
            ),
            ("no keys", br#"{"issuer":"https://a.example"}"#.to_vec(), false),
            ("plain http", document(issuer, "http://keys.example/jwks"), false),
            ("this machine", document(issuer, "https://127.0.0.1/jwks"), false),
            ("this machine by name", document(issuer, "http://localhost/jwks"), false),
            ("a file", document(issuer, "file:///etc/passwd"), true),
            ("no URL", document(issuer, "keys"), true),
            ("a list", b"[]".to_vec(), false),
        ] {
            assert!(read(&bytes, local).is_err(), "{what}");
        }
        assert!(read(&document(issuer, "http://localhost/jwks"), true).is_ok());
        for wrong in
            ["http://a.example", "https://a.example?x=1", "https://a.example#x", "a", "https://u@a.example"]
        {
            assert!(discoverable(wrong).is_err(), "{wrong}");
        }
    }

    /// The 80 targets that a request forged on the server's side would like, and what plain names they hide behind.
    fn forbidden() -> Vec<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/own/ssrf-targets.json");
        let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        all["deny"].as_array().unwrap().iter().map(|case| case["url"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn no_address_that_an_issuer_or_its_document_names_leads_to_what_only_the_gateway_can_reach() {
        let (issuer, keys) = ("https://a.example", "https://keys.example/jwks");
        let all = forbidden();
        assert_eq!(all.len(), 80);
        for text in all.iter().flat_map(|text| [text.clone(), text.replacen("http:", "https:", 1)]) {
            for name in ["jwks_uri", "introspection_endpoint"] {
                let mut document = serde_json::json!({"issuer": issuer, "jwks_uri": keys});
                document[name] = text.as_str().into();
                let found = read(document.to_string().as_bytes(), issuer, &Reach::default().egress(false));
                assert!(found.is_err(), "{name} {text}");
            }
            // Written by the operator, or the issuer itself: what the guard knows as text is not even looked up. This machine is
            // reached where it is written in so many words.
            let Ok(url) = Url::parse(&text) else { continue };
            let known =
                portcullis_net::guard::check_url(&url, &Reach::default().egress(is_local(&url))).is_err();
            if known {
                let error = Reach::default().get(&url, is_local(&url), 1_000, 1_000).await.unwrap_err();
                assert!(error.contains("egress policy"), "{text}: {error}");
            }
        }
    }
}
