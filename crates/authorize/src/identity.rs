//! Who the gateway is at an authorization server: registered by hand, by the URL of a document about itself, or registered
//! by itself (RFC 7591). What one authorization server knows it by is never shown to another.

use portcullis_core::{Secret, Timestamp};
use serde_json::json;
use url::Url;

use crate::{
    metadata::Issuer,
    registered::Registered,
    settings::{ClientAuth, ClientSettings, Settings},
    vault::Vault,
    web::{Failure, Web},
};

const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";
const NONE: &str = "none";

/// How a secret is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentBy {
    Basic,
    Post,
}

/// How the gateway proves who it is at a token endpoint.
#[derive(Clone, Debug)]
pub(crate) enum ClientProof {
    None,
    Secret(SentBy, Secret<String>),
    Key { pem: Secret<String>, id: Option<String> },
}

/// The gateway at one authorization server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) proof: ClientProof,
    /// Whether the gateway registered itself, so that it may do so again.
    pub(crate) own: bool,
}

/// Where the gateway is reached by browsers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Scheme and authority of the gateway.
    pub(crate) public: &'a str,
    /// Where answers of authorization servers come.
    pub(crate) redirect: &'a str,
}

/// Finds out who the gateway is at `issuer`; registers it there if nothing else helps.
pub(crate) async fn settle(
    settings: &Settings,
    issuer: &Issuer,
    place: Place<'_>,
    vault: &Vault,
    now: Timestamp,
) -> Result<Client, Failure> {
    if let Some(client) = &settings.client {
        // The configuration wants `issuer` beside it; it is looked at again, since it must never be shown to another.
        if settings.issuer.as_deref() != Some(&*issuer.name) {
            return Err(Failure::Untrusted(
                "the gateway is registered at another authorization server".into(),
            ));
        }
        return Ok(declared(client, issuer));
    }
    if let Some(url) = document(settings, place.public).filter(|_| issuer.takes_documents) {
        return Ok(Client { id: url, proof: ClientProof::None, own: false });
    }
    let kept = vault.registered(&issuer.name, place.redirect).await?;
    let kept = kept
        .filter(|kept| kept.client_secret_expires_at == 0 || kept.client_secret_expires_at > now.seconds());
    let registered = match kept {
        Some(kept) => kept,
        None => {
            let registered = register(settings, issuer, place).await?;
            vault.put_registered(&issuer.name, place.redirect, &registered).await?;
            registered
        }
    };
    Ok(of_registration(issuer, registered))
}

/// The gateway as it was registered by hand.
pub(crate) fn declared(client: &ClientSettings, issuer: &Issuer) -> Client {
    let proof = match &client.auth {
        ClientAuth::None => ClientProof::None,
        ClientAuth::Secret(secret) => ClientProof::Secret(sent_by(issuer, None), secret.clone()),
        ClientAuth::Key { pem, id } => ClientProof::Key { pem: pem.clone(), id: id.clone() },
    };
    Client { id: client.id.clone(), proof, own: false }
}

/// The URL of the document about the gateway, which an authorization server has to be able to fetch.
fn document(settings: &Settings, public: &str) -> Option<String> {
    match &settings.metadata_url {
        Some(url) => Some(url.to_string()),
        None => public.starts_with("https://").then(|| document_url(public)),
    }
}

/// Where the gateway serves the document about itself.
pub(crate) fn document_url(public: &str) -> String {
    format!("{public}/connect/client.json")
}

/// What the gateway says about itself, to whoever registers it.
pub(crate) fn about(place: Place<'_>, auth_method: &str, id: Option<&str>) -> String {
    // A redirect to this machine is that of a program on it (SEP-837).
    let kind = if place.redirect.starts_with("https://") { "web" } else { "native" };
    let mut about = json!({
        "client_name": "Portcullis",
        "client_uri": place.public,
        "redirect_uris": [place.redirect],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": auth_method,
        "application_type": kind,
    });
    if let (Some(id), Some(members)) = (id, about.as_object_mut()) {
        members.insert("client_id".into(), id.into());
    }
    about.to_string()
}

async fn register(settings: &Settings, issuer: &Issuer, place: Place<'_>) -> Result<Registered, Failure> {
    let endpoint: &Url = issuer.registration.as_ref().ok_or_else(|| {
        Failure::Unavailable(format!(
            "`{}` registers nobody by itself; register the gateway there by hand and set `authorization.client_id`",
            issuer.name
        ))
    })?;
    let method = preferred(issuer);
    let answer = Web::new(settings.egress).json(endpoint, about(place, method, None)).await?;
    if !answer.status.is_success() {
        return Err(Failure::Refused(format!("the registration was answered with {}", answer.status)));
    }
    let registered: Registered = answer.read("the answer to the registration")?;
    let visible = |text: &str| {
        !text.is_empty() && text.len() <= 4_096 && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    if !visible(&registered.client_id) || !registered.client_secret.as_deref().is_none_or(visible) {
        return Err(Failure::Unavailable("the registration has a name or secret that cannot be sent".into()));
    }
    Ok(registered)
}

fn supports(issuer: &Issuer, method: &str) -> bool {
    match &issuer.auth_methods {
        Some(methods) => methods.iter().any(|offered| offered == method),
        // The default of RFC 8414.
        None => method == BASIC,
    }
}

fn preferred(issuer: &Issuer) -> &'static str {
    [BASIC, POST, NONE].into_iter().find(|method| supports(issuer, method)).unwrap_or(BASIC)
}

fn sent_by(issuer: &Issuer, registered: Option<&str>) -> SentBy {
    match registered {
        Some(POST) => SentBy::Post,
        Some(BASIC) => SentBy::Basic,
        _ if !supports(issuer, BASIC) && supports(issuer, POST) => SentBy::Post,
        _ => SentBy::Basic,
    }
}

fn of_registration(issuer: &Issuer, registered: Registered) -> Client {
    let method = registered.token_endpoint_auth_method.as_deref();
    let public = method == Some(NONE) || (method.is_none() && preferred(issuer) == NONE);
    let sent_by = sent_by(issuer, method);
    let proof = match registered.client_secret.filter(|_| !public) {
        Some(secret) => ClientProof::Secret(sent_by, Secret::new(secret)),
        None => ClientProof::None,
    };
    Client { id: registered.client_id, proof, own: true }
}
