//! From the section `authorization` of a server to what asks for tokens.

use std::sync::Arc;

use portcullis_admin::{ConnectionBook, Pending, Revoked};
use portcullis_authorize::{
    Authorizer, ClientAuth, ClientSettings, Exchange, Mode, Outgoing, Settings, Subject,
};
use portcullis_config::{AuthorizationMode, AuthorizationSection, ExchangeSection, Reference};
use portcullis_core::Digest;
use portcullis_net::guard::EgressPolicy;
use portcullis_proxy::settings::{ServerSettings, Transport};
use portcullis_secrets::Broker;
use portcullis_store::ConnectionRow;
use url::Url;

use super::{compile::World, start::Core};

/// What the section means for the server at `url`; `parts` collects what a reload compares.
pub(super) fn settings(
    section: &AuthorizationSection,
    url: &Url,
    egress: EgressPolicy,
    (parts, broker): (&mut Vec<String>, &Arc<Broker>),
) -> Result<Settings, String> {
    let mut own = vec![format!("{url} {section:?}")];
    let named = (&section.client_secret, &section.client_key, &section.client_key_id);
    let auth = client(named, &mut own, broker)?;
    let exchange =
        section.exchange.as_ref().map(|section| exchange(section, egress, &mut own, broker)).transpose()?;
    let digest = Digest::of(own.join("\n").as_bytes());
    parts.append(&mut own);
    Ok(Settings {
        mode: match section.mode {
            AuthorizationMode::ClientCredentials => Mode::ClientCredentials,
            AuthorizationMode::Exchange => Mode::Exchange,
            AuthorizationMode::IdJag => Mode::IdJag,
            AuthorizationMode::User => Mode::User,
        },
        url: url.clone(),
        issuer: section.issuer.clone(),
        client: section.client_id.clone().map(|id| ClientSettings { id, auth }),
        metadata_url: section.client_metadata_url.clone(),
        scopes: section.scopes.clone(),
        egress,
        exchange: exchange.map(Arc::new),
        digest,
    })
}

/// How the gateway proves which client it is; `own` collects what a reload compares.
fn client(
    (secret, key, key_id): (&Option<Reference>, &Option<Reference>, &Option<String>),
    own: &mut Vec<String>,
    broker: &Broker,
) -> Result<ClientAuth, String> {
    let secret = secret.as_ref().map(|reference| broker.known(reference)).transpose()?;
    let key = key.as_ref().map(|reference| broker.known(reference)).transpose()?;
    own.extend(secret.iter().chain(&key).map(|secret| secret.expose().clone()));
    ClientAuth::of(secret, key, key_id.clone())
        .ok_or_else(|| "`client_key` is no key of a known kind; write it as PKCS #8 in PEM".to_owned())
}

fn exchange(
    section: &ExchangeSection,
    egress: EgressPolicy,
    own: &mut Vec<String>,
    broker: &Arc<Broker>,
) -> Result<Exchange, String> {
    let auth = client((&section.client_secret, &section.client_key, &section.client_key_id), own, broker)?;
    let subject = match section.subject_token.clone() {
        None => Subject::Caller,
        Some(reference) => {
            // What is not there now would be missed by the first call.
            broker.known(&reference)?;
            let broker = Arc::clone(broker);
            // Called where blocking is allowed.
            let read = move || {
                let value = broker.value(&reference, None);
                tokio::runtime::Handle::current().block_on(value).map_err(|failure| failure.to_string())
            };
            Subject::Reference(Arc::new(read))
        }
    };
    let places = [Url::parse(&section.issuer).ok(), section.token_endpoint.clone()];
    Ok(Exchange {
        issuer: section.issuer.clone(),
        token_endpoint: section.token_endpoint.clone(),
        client: ClientSettings { id: section.client_id.clone(), auth },
        subject,
        subject_kind: section.subject_token_type.word(),
        subject_issuers: section.subject_issuers.clone(),
        audience: section.audience.clone(),
        actor: section.actor,
        egress: places.iter().flatten().fold(egress, EgressPolicy::naming),
    })
}

/// Where the tokens for a server come from.
pub(super) fn outgoing(
    name: &Arc<str>,
    settings: &ServerSettings,
    world: &World,
    public_url: &str,
) -> Option<Arc<Outgoing>> {
    let Transport::Http { authorization: Some(authorization), .. } = &settings.transport else { return None };
    // Without a listener there is no page that a browser could open.
    let public = world.local.is_none().then(|| public_url.to_owned());
    let authorizer: Arc<Authorizer> = Arc::clone(&world.authorizer);
    Some(Arc::new(Outgoing::new(authorizer, Arc::clone(name), (**authorization).clone(), public)))
}

/// Who is connected to what, of a running gateway.
#[derive(Debug)]
pub(super) struct Book(pub(super) Arc<Core>);

impl ConnectionBook for Book {
    fn list(&self) -> Pending<Result<Vec<ConnectionRow>, String>> {
        let authorizer = Arc::clone(&self.0.world.authorizer);
        Box::pin(async move { authorizer.list().await.map_err(|failure| failure.to_string()) })
    }

    fn revoke(&self, caller: &str, server: &str, by: &str) -> Pending<Result<Revoked, String>> {
        let rules = self.0.gateway.rules.load_full();
        let authorizer = Arc::clone(&self.0.world.authorizer);
        let (caller, server, by) = (caller.to_owned(), server.to_owned(), by.to_owned());
        Box::pin(async move {
            let outgoing = rules.servers.get(&server).and_then(|server| server.authorization.as_ref());
            let revoked = match outgoing {
                Some(outgoing) => outgoing.revoke(&caller, &by).await,
                // The server is not declared any more: what is kept for it is forgotten all the same.
                None => authorizer.forget(&caller, &server, &by).await,
            };
            Ok(match revoked.map_err(|failure| failure.to_string())? {
                None => Revoked::Unknown,
                Some(Ok(())) => Revoked::Everywhere,
                Some(Err(failure)) => Revoked::Here(failure.to_string()),
            })
        })
    }
}
