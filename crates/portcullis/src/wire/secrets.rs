//! From the section `secrets` to what follows references, and the record of it.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use portcullis_config::{AwsSection, SecretsSection, VaultLogin, VaultMethod, VaultSection, is_local};
use portcullis_core::{Clock, Entropy, Event, Secret, Target};
use portcullis_net::{guard::EgressPolicy, tls::ClientIdentity};
use portcullis_proof::{Actor, Entry};
use portcullis_seal::{Ring, Sealer};
use portcullis_secrets::{
    AssumeRole, AwsIdentity, Broker, Failure, Keeper, Keeping, Login, Parts, Reach, Reference,
    SecretsManager, Variables, Vault, VaultSettings, Witness,
};
use portcullis_store::{Ledger, LocalSecrets, Revisions, Sqlite};
use serde_json::json;

/// The token of a pod's service account.
const POD_TOKEN: &str = "file:/var/run/secrets/kubernetes.io/serviceaccount/token";

/// For one request to AWS, where nothing is declared.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The environment of this process.
pub(crate) fn variables() -> Variables {
    Variables::new(|name| std::env::var(name).ok())
}

/// What follows the references of a configuration.
///
/// # Errors
/// What cannot be used of the section.
pub(crate) fn broker(
    section: Option<&SecretsSection>,
    clock: &Arc<dyn Clock>,
    (keeper, witness): (Option<Arc<dyn Keeper>>, Arc<dyn Witness>),
) -> Result<Arc<Broker>, String> {
    let declared = section.and_then(|section| section.aws.as_ref());
    let vault = section.and_then(|section| section.vault.as_ref()).map(|vault| {
        let settings = vault_settings(vault, declared)?;
        Vault::new(settings, Arc::clone(clock)).map_err(|error| format!("`secrets.vault`: {error}"))
    });
    let aws =
        declared.map(|aws| Ok::<_, String>(SecretsManager::new(identity(Some(aws))?, Arc::clone(clock))));
    Ok(Broker::new(Parts {
        vault: vault.transpose()?,
        aws: aws.transpose()?,
        keeper,
        variables: variables(),
        keeping: section.map(keeping).unwrap_or_default(),
        clock: Arc::clone(clock),
        witness,
    }))
}

/// The secrets that a gateway keeps itself, and what follows its references.
pub(crate) fn open(
    section: &SecretsSection,
    (store, ledger): (&Arc<Sqlite>, &Arc<dyn Ledger>),
    (clock, entropy, instance): (&Arc<dyn Clock>, &Arc<dyn Entropy>, &Arc<str>),
    ring: &Arc<Ring>,
) -> anyhow::Result<(Arc<Own>, Arc<Broker>)> {
    let own = Arc::new(Own {
        secrets: LocalSecrets::new(Arc::clone(store) as Arc<dyn Revisions>),
        sealer: Sealer::new(Arc::clone(ring)),
        entropy: Arc::clone(entropy),
        clock: Arc::clone(clock),
    });
    let recorder =
        Recorder { ledger: Arc::clone(ledger), clock: Arc::clone(clock), instance: Arc::clone(instance) };
    let keeper = Arc::clone(&own) as Arc<dyn Keeper>;
    let broker = broker(Some(section), clock, (Some(keeper), Arc::new(recorder)));
    Ok((own, broker.map_err(anyhow::Error::msg)?))
}

fn keeping(section: &SecretsSection) -> Keeping {
    let outage = section.outage_s.iter();
    Keeping {
        lasts: Duration::from_secs(section.cache_s.0),
        outage: outage.map(|(name, s)| (name.clone(), Duration::from_secs(s.0))).collect(),
        watched: Duration::from_secs(section.watched_s.0),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    portcullis_config::read_bounded(path)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}

pub(super) fn vault_settings(
    section: &VaultSection,
    aws: Option<&AwsSection>,
) -> Result<VaultSettings, String> {
    let identity = match (&section.client_certificate, &section.client_key) {
        (Some(certificate), Some(key)) => {
            Some(ClientIdentity { cert_pem: read(certificate)?, key_pem: Secret::new(read(key)?) })
        }
        _ => None,
    };
    // A Vault stands in a private network, and whoever names it means it.
    let local = section.addresses.iter().any(is_local);
    let egress =
        EgressPolicy { allow_http: local || section.danger_plain_http, ..EgressPolicy::of(local, true) };
    Ok(VaultSettings {
        addresses: section.addresses.clone(),
        namespace: section.namespace.clone(),
        login: login(&section.login, aws)?,
        reach: Reach {
            egress,
            roots_pem: section.ca.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
            identity,
            timeout: Duration::from_millis(section.timeout_ms.0),
        },
        kv_version: u8::try_from(section.kv_version.0).unwrap_or(2),
        variables: variables(),
    })
}

fn login(section: &VaultLogin, aws: Option<&AwsSection>) -> Result<Login, String> {
    let mount = section.mount.clone().unwrap_or_else(|| {
        let own = match section.method {
            VaultMethod::Approle => "approle",
            VaultMethod::Aws => "aws",
            VaultMethod::Certificate => "cert",
            VaultMethod::Jwt => "jwt",
            VaultMethod::Kubernetes => "kubernetes",
            VaultMethod::Token => "token",
            VaultMethod::Userpass => "userpass",
        };
        own.to_owned()
    });
    // `check` has judged what each method needs.
    let wanted = |name: &str, reference: &Option<Reference>| {
        reference.clone().ok_or_else(|| format!("`secrets.vault.login.{name}` is missing"))
    };
    let wrapped = section.wrapped;
    Ok(match section.method {
        VaultMethod::Token => Login::Token { token: wanted("token", &section.token)?, wrapped },
        VaultMethod::Approle => Login::AppRole {
            mount,
            role_id: wanted("role_id", &section.role_id)?,
            secret_id: section.secret_id.clone(),
            wrapped,
        },
        VaultMethod::Kubernetes => Login::Kubernetes {
            mount,
            role: section.role.clone().unwrap_or_default(),
            jwt: match &section.jwt {
                Some(jwt) => jwt.clone(),
                None => Reference::parse(POD_TOKEN).map_err(|mistake| mistake.message)?,
            },
        },
        VaultMethod::Jwt => {
            Login::Jwt { mount, role: section.role.clone(), jwt: wanted("jwt", &section.jwt)? }
        }
        VaultMethod::Certificate => Login::Certificate { mount, name: section.name.clone() },
        VaultMethod::Aws => Login::Aws {
            mount,
            role: section.role.clone(),
            server_id: section.server_id.clone(),
            identity: Box::new(identity(aws)?),
        },
        VaultMethod::Userpass => Login::UserPass {
            mount,
            user: section.user.clone().unwrap_or_default(),
            password: wanted("password", &section.password)?,
        },
    })
}

/// Who the gateway is at AWS; what is not declared is found as the SDKs do.
pub(super) fn identity(section: Option<&AwsSection>) -> Result<AwsIdentity, String> {
    let role = section.and_then(|section| {
        Some(AssumeRole {
            arn: section.role_arn.clone()?,
            external_id: section.external_id.clone(),
            session_name: section.session_name.clone(),
        })
    });
    // Endpoints inside of a private network are common; plain HTTP to them is not.
    let endpoint = section.and_then(|section| section.endpoint.clone());
    let local = endpoint.as_ref().is_some_and(is_local);
    let ca = section.and_then(|section| section.ca.as_ref());
    Ok(AwsIdentity {
        region: section.and_then(|section| section.region.clone()),
        profile: section.and_then(|section| section.profile.clone()),
        role,
        endpoint,
        reach: Reach {
            egress: EgressPolicy { allow_http: local, ..EgressPolicy::of(local, true) },
            roots_pem: ca.iter().map(|path| read(path)).collect::<Result<_, _>>()?,
            identity: None,
            timeout: section.map_or(TIMEOUT, |section| Duration::from_millis(section.timeout_ms.0)),
        },
        variables: variables(),
    })
}

/// Puts on record what happens to secrets, before it does.
#[derive(Debug)]
struct Recorder {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
}

impl Recorder {
    async fn record(&self, mut entry: Entry<'_>, secret: &str) -> Result<(), Failure> {
        entry.data.insert("secret", json!(secret));
        self.append(&entry).await
    }

    async fn append(&self, entry: &Entry<'_>) -> Result<(), Failure> {
        let appended = self.ledger.append(entry.to_jcs()).await;
        appended
            .map(drop)
            .map_err(|error| Failure::Unavailable(format!("the ledger cannot be written: {error}")))
    }
}

#[async_trait]
impl Witness for Recorder {
    async fn used(&self, reference: &str, caller: Option<&str>) -> Result<(), Failure> {
        let mut entry = Entry::new(Event::SecretUsed, self.clock.now(), &self.instance);
        entry.actor = caller.map(|caller| Actor {
            id: caller,
            kind: portcullis_core::CallerKind::User,
            proof: "secret",
            roles: &[],
            issuer: None,
            token: None,
        });
        self.record(entry, reference).await
    }

    async fn rotated(&self, reference: &str, version: Option<&str>) -> Result<(), Failure> {
        tracing::info!(secret = reference, version, "a secret has a new value");
        let mut entry = Entry::new(Event::SecretRotated, self.clock.now(), &self.instance);
        if let Some(version) = version {
            entry.data.insert("version", json!(version));
        }
        self.record(entry, reference).await
    }

    async fn leaked(&self, reference: &str, canary: bool, server: &str) -> Result<(), Failure> {
        let event = if canary { Event::CanarySeen } else { Event::SecretLeaked };
        let mut entry = Entry::new(event, self.clock.now(), &self.instance);
        let target = Target { server: Arc::from(server), item: None, digest: None };
        entry.target = Some(&target);
        entry.data.insert("place", json!("standard error"));
        entry.data.insert(if canary { "canary" } else { "secret" }, json!(reference));
        self.append(&entry).await
    }
}

/// For commands that have no ledger and forward nothing.
#[derive(Debug)]
pub(crate) struct Unrecorded;

#[async_trait]
impl Witness for Unrecorded {
    async fn used(&self, _reference: &str, _caller: Option<&str>) -> Result<(), Failure> {
        Ok(())
    }

    async fn rotated(&self, _reference: &str, _version: Option<&str>) -> Result<(), Failure> {
        Ok(())
    }

    async fn leaked(&self, _reference: &str, _canary: bool, _server: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// The secrets that the gateway keeps itself, sealed.
pub(crate) struct Own {
    pub(super) secrets: LocalSecrets,
    pub(super) sealer: Sealer,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Own(****)")
    }
}

#[async_trait]
impl Keeper for Own {
    async fn read(&self, name: &str) -> Result<Option<(Secret<String>, String)>, Failure> {
        let row = self.secrets.get(name).await.map_err(|error| Failure::Unavailable(error.to_string()))?;
        let Some(row) = row else { return Ok(None) };
        let opened = self.sealer.open_kept(self.secrets.purpose(), &[name], &row.sealed);
        let value = opened.and_then(|bytes| String::from_utf8(bytes).ok()).map(Secret::new);
        let lost = || match self.sealer.is_open() {
            true => Failure::Forbidden(format!("`local:{name}` was sealed with another key; put it anew")),
            false => Failure::Unavailable(format!("`local:{name}`: the data keys of the store are not open")),
        };
        Ok(Some((value.ok_or_else(lost)?, row.digest.to_string())))
    }
}
