//! One order: the account, the names and how they are proven to be ours, a new key, the certificate.

use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use portcullis_core::Secret;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

use super::{
    Acme, Way,
    book::Proof,
    way::{Client, said},
};
use crate::held::Held;

/// What a server says of an account that it does not have any more.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
/// How long is waited for the server to look, and to sign.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_secs(90));

impl Acme {
    /// A certificate, from the account on.
    pub(super) async fn order(&self, way: &Client) -> Result<Held, String> {
        let account = self.account(way).await?;
        let outcome = match self.ordered(&account).await {
            Err(Failure::NoAccount) => {
                // Its end may have been a restart without a memory, or ours: another is made once.
                self.0.book.forget_account().await?;
                let account = self.account(way).await?;
                self.ordered(&account).await
            }
            outcome => outcome,
        };
        for name in &self.0.settings.domains {
            self.0.book.forget_proof(name).await;
        }
        outcome.map_err(|failure| match failure {
            Failure::NoAccount => "the server does not know the account that it has just made".to_owned(),
            Failure::Said(text) => text,
        })
    }

    async fn account(&self, way: &Client) -> Result<Account, String> {
        let builder = Account::builder_with_http(Box::new(way.clone()));
        let said = |error: Error| said(&error);
        if let Some(text) = self.0.book.account().await? {
            let kept: AccountCredentials =
                serde_json::from_slice(&text).map_err(|error| error.to_string())?;
            return builder.from_credentials(kept).await.map_err(said);
        }
        let settings = &self.0.settings;
        let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = settings.external.as_ref();
        let external = external.map(|one| ExternalAccountKey::new(one.id.clone(), one.key.expose()));
        let made = builder.create(&new, settings.directory.to_string(), external.as_ref()).await;
        let (account, credentials) = made.map_err(said)?;
        let text = serde_json::to_vec(&credentials).map(Zeroizing::new).map_err(|error| error.to_string())?;
        // Before it is used: an account that nobody remembers counts against the limits of the server.
        self.0.book.put_account(&text).await?;
        Ok(account)
    }

    async fn ordered(&self, account: &Account) -> Result<Held, Failure> {
        let domains = &self.0.settings.domains;
        let names: Vec<Identifier> = domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        self.prove(&mut order).await?;
        if order.poll_ready(&POLL).await? != OrderStatus::Ready {
            return Err(Failure::Said(refused(&mut order).await));
        }
        let made = || {
            let mut wanted = CertificateParams::new(domains.clone())?;
            wanted.distinguished_name = DistinguishedName::new();
            let key = KeyPair::generate()?;
            Ok::<_, rcgen::Error>((wanted.serialize_request(&key)?, Secret::new(key.serialize_pem())))
        };
        let (request, key) = made().map_err(|error| Failure::Said(error.to_string()))?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&POLL).await?;
        Held::new(chain, key, domains).map_err(Failure::Said)
    }

    /// Lets the server find what it looks for, then lets it look.
    async fn prove(&self, order: &mut Order) -> Result<(), Failure> {
        let kind = match self.0.settings.way {
            Way::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Way::Http01 => ChallengeType::Http01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let no_way = || Failure::Said(format!("the server offers no such challenge for `{name}`"));
            let mut challenge = authorization.challenge(kind.clone()).ok_or_else(no_way)?;
            let text = challenge.key_authorization().as_str().to_owned();
            let proof = Proof { token: challenge.token.clone(), text };
            self.0.book.put_proof(&name, &proof).await.map_err(Failure::Said)?;
            challenge.set_ready().await?;
        }
        Ok(())
    }
}

/// Why the server does not believe that the names are ours.
async fn refused(order: &mut Order) -> String {
    let mut why = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await {
            why.extend(state.challenges.iter().filter_map(|one| one.error.as_ref()).map(|one| said(one)));
        }
    }
    format!("the server does not find that the names are ours: {}", why.join("; "))
}

/// Why there is no certificate.
#[derive(Debug)]
enum Failure {
    /// The server does not know the account.
    NoAccount,
    /// Something else.
    Said(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(problem) if problem.r#type.as_deref() == Some(NO_ACCOUNT) => Self::NoAccount,
            _ => Self::Said(said(&error)),
        }
    }
}
