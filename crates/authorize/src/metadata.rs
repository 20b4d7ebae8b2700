//! Who issues tokens for a server: the metadata of the server (RFC 9728), then that of its authorization server (RFC 8414,
//! OpenID Connect Discovery). A document counts only if it names what it was asked for.

use serde::Deserialize;
use url::Url;

use crate::{
    challenge,
    settings::{Mode, Settings},
    web::{Failure, Web},
};

/// Bytes of the name of an issuer or a resource.
const NAME_BYTES_MAX: usize = 2_048;
/// Ways to prove to a token endpoint which client one is that are remembered; the known ones are fewer.
const METHODS_MAX: usize = 16;

/// Metadata of a protected resource.
#[derive(Debug, Deserialize)]
struct Resource {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    scopes_supported: Option<Vec<String>>,
}

/// Metadata of an authorization server, as it is written.
#[derive(Debug, Deserialize)]
struct Written {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// What is known of a server and of who issues tokens for it.
#[derive(Clone, Debug)]
pub(crate) struct Discovered {
    /// What tokens are for (RFC 8707).
    pub(crate) resource: String,
    /// Scopes that the server knows of, if it says so.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) issuer: Issuer,
}

/// An authorization server.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    /// Its name, byte for byte.
    pub(crate) name: String,
    pub(crate) authorization: Option<Url>,
    pub(crate) token: Url,
    pub(crate) registration: Option<Url>,
    pub(crate) revocation: Option<Url>,
    /// Ways to prove to its token endpoint which client one is; `None`: it does not say.
    pub(crate) auth_methods: Option<Vec<String>>,
    /// Takes the URL of a document as a client's name.
    pub(crate) takes_documents: bool,
    /// Names itself in its answers (RFC 9207).
    pub(crate) names_itself: bool,
    pub(crate) offline_access: bool,
}

impl Issuer {
    /// One of which only the token endpoint matters.
    pub(crate) fn at(name: &str, token: Url) -> Self {
        Self {
            name: name.to_owned(),
            authorization: None,
            token,
            registration: None,
            revocation: None,
            auth_methods: None,
            takes_documents: false,
            names_itself: false,
            offline_access: false,
        }
    }
}

/// Finds out who issues tokens for the server; `hint` is where its challenge says that its metadata is.
pub(crate) async fn discover(settings: &Settings, hint: Option<&str>) -> Result<Discovered, Failure> {
    let web = Web::new(settings.egress);
    let resource = resource(&web, &settings.url, hint).await?;
    if !covers(&resource.resource, &settings.url) {
        return Err(Failure::Untrusted(format!(
            "the metadata is of `{}`, the server is `{}`",
            clipped(&resource.resource),
            settings.url
        )));
    }
    let named = match &settings.issuer {
        Some(issuer) => resource.authorization_servers.iter().find(|named| *named == issuer),
        None => resource.authorization_servers.first(),
    };
    if named.is_some_and(|named| named.len() > NAME_BYTES_MAX) || resource.resource.len() > NAME_BYTES_MAX {
        return Err(Failure::Untrusted("the metadata of the server has names of no sensible length".into()));
    }
    let issuer = named.ok_or_else(|| {
        Failure::Untrusted(match &settings.issuer {
            Some(issuer) => format!("the server does not name `{issuer}` as its authorization server"),
            None => "the server names no authorization server".into(),
        })
    })?;
    // Where no browser is sent, there is no code that could be stolen.
    let browser = matches!(settings.mode, Mode::ClientCredentials | Mode::User);
    let issuer = of_issuer(&web, issuer, browser).await?;
    let scopes = resource.scopes_supported.map(|scopes| challenge::scopes(&scopes.join(" ")));
    Ok(Discovered { resource: resource.resource, scopes, issuer })
}

async fn resource(web: &Web, server: &Url, hint: Option<&str>) -> Result<Resource, Failure> {
    let places = match hint {
        Some(text) => vec![web.url("`resource_metadata` of the challenge", text)?],
        None => {
            let at = |path: &str| {
                let mut url = server.clone();
                url.set_query(None);
                url.set_path(&format!("/.well-known/oauth-protected-resource{path}"));
                url
            };
            let mut places = vec![at(server.path().trim_end_matches('/')), at("")];
            places.dedup();
            places
        }
    };
    let mut reasons = Vec::new();
    for place in places {
        match web.get(&place).await {
            Ok(answer) if answer.status.is_success() => return answer.read("the metadata of the server"),
            Ok(answer) => reasons.push(format!("`{place}` answered {}", answer.status)),
            Err(failure) => reasons.push(failure.to_string()),
        }
    }
    Err(Failure::Unavailable(format!("the server has no metadata: {}", reasons.join("; "))))
}

/// The places where the document of an issuer can be, in the order in which they are tried.
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

/// What an authorization server says of itself; whether a browser is to be sent there says how strict to be.
pub(crate) async fn of_issuer(web: &Web, name: &str, browser: bool) -> Result<Issuer, Failure> {
    let url = web.url("the issuer", name)?;
    if url.query().is_some() {
        return Err(Failure::Untrusted("the issuer has a query".into()));
    }
    let mut reasons = Vec::new();
    for place in places(&url) {
        match web.get(&place).await {
            // Whoever answers there is asked no further: what it says counts, or nothing does.
            Ok(answer) if answer.status.is_success() => {
                return judged(web, answer.read("the metadata of the issuer")?, name, browser);
            }
            Ok(answer) => reasons.push(format!("`{place}` answered {}", answer.status)),
            Err(failure) => reasons.push(failure.to_string()),
        }
    }
    Err(Failure::Unavailable(format!("`{name}` has no metadata: {}", reasons.join("; "))))
}

fn judged(web: &Web, written: Written, name: &str, browser: bool) -> Result<Issuer, Failure> {
    if written.issuer != name {
        let found = clipped(&written.issuer);
        return Err(Failure::Untrusted(format!("the metadata is of `{found}`, it was asked for `{name}`")));
    }
    let methods = written.code_challenge_methods_supported.unwrap_or_default();
    let authorization = written.authorization_endpoint.as_deref();
    // Without it nobody knows whether a stolen code can be used, so that nobody is sent there.
    if browser && authorization.is_some() && !methods.iter().any(|method| method == "S256") {
        return Err(Failure::Untrusted("the authorization server does not offer PKCE with S256".into()));
    }
    let address = |what: &str, text: Option<&str>| text.map(|text| web.url(what, text)).transpose();
    Ok(Issuer {
        name: name.to_owned(),
        authorization: address("`authorization_endpoint`", authorization)?,
        token: address("`token_endpoint`", written.token_endpoint.as_deref())?
            .ok_or_else(|| Failure::Unavailable("the authorization server has no token endpoint".into()))?,
        registration: address("`registration_endpoint`", written.registration_endpoint.as_deref())?,
        revocation: address("`revocation_endpoint`", written.revocation_endpoint.as_deref())?,
        auth_methods: written.token_endpoint_auth_methods_supported.map(short),
        takes_documents: written.client_id_metadata_document_supported,
        names_itself: written.authorization_response_iss_parameter_supported,
        offline_access: written
            .scopes_supported
            .is_some_and(|scopes| scopes.iter().any(|scope| scope == "offline_access")),
    })
}

/// Those of a list that a well-meaning server would send, so that what is remembered stays small.
fn short(mut list: Vec<String>) -> Vec<String> {
    list.retain(|text| text.len() <= 64);
    list.truncate(METHODS_MAX);
    list
}

/// Whether a token for `resource` is one for `server`: the same origin, and its path or one above it.
pub(crate) fn covers(resource: &str, server: &Url) -> bool {
    let Ok(url) = Url::parse(resource) else { return false };
    let above = url.path().trim_end_matches('/');
    let below = server.path().trim_end_matches('/').strip_prefix(above);
    url.origin() == server.origin()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && (url.query().is_none() || url.query() == server.query())
        && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn clipped(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use portcullis_net::guard::EgressPolicy;

    use super::*;

    #[test]
    fn documents_are_looked_for_where_the_specification_says() {
        let of = |issuer: &str| -> Vec<String> {
            places(&Url::parse(issuer).unwrap()).iter().map(ToString::to_string).collect()
        };
        let with_path = [
            "https://a.example/.well-known/oauth-authorization-server/t",
            "https://a.example/.well-known/openid-configuration/t",
            "https://a.example/t/.well-known/openid-configuration",
        ];
        assert_eq!(of("https://a.example/t"), with_path);
        assert_eq!(of("https://a.example/").len(), 2);
    }

    #[test]
    fn a_token_is_for_its_own_server_and_for_no_neighbour() {
        let server = Url::parse("https://a.example/api/mcp").unwrap();
        for fine in [
            "https://a.example/api/mcp",
            "https://a.example/api",
            "https://a.example",
            "https://A.example/api/",
        ] {
            assert!(covers(fine, &server), "{fine}");
        }
        for wrong in [
            "https://b.example/api/mcp",
            "http://a.example/api/mcp",
            "https://a.example:444/api/mcp",
            "https://a.example/api/mc",
            "https://a.example/api/mcp/x",
            "https://a.example/api/mcp#x",
            "https://a.example/api/mcp?x=1",
            "https://u@a.example/api/mcp",
            "a.example",
            "",
        ] {
            assert!(!covers(wrong, &server), "{wrong}");
        }
    }

    fn document(edit: impl FnOnce(&mut serde_json::Value)) -> Written {
        let mut document = serde_json::json!({
            "issuer": "https://a.example",
            "authorization_endpoint": "https://a.example/authorize",
            "token_endpoint": "https://a.example/token",
            "code_challenge_methods_supported": ["plain", "S256"],
        });
        edit(&mut document);
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn pkce_is_never_done_without_and_the_document_is_of_the_issuer_that_was_asked_for() {
        let web = Web::new(EgressPolicy::default());
        let judge = |written| judged(&web, written, "https://a.example", true);
        assert!(judge(document(|_| {})).is_ok());
        for (what, edit) in [
            ("downgraded", serde_json::json!({"code_challenge_methods_supported": ["plain"]})),
            ("silent", serde_json::json!({"code_challenge_methods_supported": null})),
            ("another issuer", serde_json::json!({"issuer": "https://a.example/"})),
            (
                "a token endpoint in the clear",
                serde_json::json!({"token_endpoint": "http://a.example/token"}),
            ),
            ("no token endpoint", serde_json::json!({"token_endpoint": null})),
        ] {
            let written = document(|document| {
                for (name, value) in edit.as_object().unwrap() {
                    document[name] = value.clone();
                }
            });
            assert!(judge(written).is_err(), "{what}");
        }
    }

    #[test]
    fn no_url_of_a_document_reaches_what_only_the_gateway_can_reach() {
        let web = Web::new(EgressPolicy::default());
        let members =
            ["authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"];
        for member in members {
            for url in [
                "http://a.example/x",
                "https://127.0.0.1/x",
                "https://[::1]/x",
                "https://[::ffff:169.254.169.254]/x",
                "https://169.254.169.254/latest/meta-data",
                "https://metadata.google.internal/x",
                "https://10.0.0.1/x",
                "https://localhost/x",
                "https://2130706433/x",
                "https://user:secret@a.example/x",
                "https://a.example/x#y",
                "https:\\\\a.example/x",
                "file:///etc/passwd",
                "javascript:alert(1)",
                "x",
            ] {
                let written = document(|document| document[member] = url.into());
                assert!(judged(&web, written, "https://a.example", true).is_err(), "{member}: {url}");
            }
        }
    }
}
