//! The certificate that the gateway gets by itself, from what the configuration says to what the listener shows.

use std::sync::Arc;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_certs::{Acme, External, HttpAnswers, Parts, Settings, Way};
use portcullis_config::{AcmeChallenge, AcmeSection};
use portcullis_core::Secret;
use portcullis_net::{
    guard::EgressPolicy,
    listen::{self, Bound, ListenOptions},
    tls::ServerTls,
};
use portcullis_seal::Sealer;
use portcullis_store::Connections;
use tokio::{sync::watch, task::JoinSet};

use super::{
    reload,
    start::{Core, bind},
};

/// What gets a certificate, and where the server's question arrives if not at the listener.
pub(crate) struct Source {
    acme: Acme,
    answers: Option<Bound>,
}

/// What the configuration asks for; the certificate of the last run is shown from the start.
pub(super) async fn source(
    core: &Core,
    registrations: Arc<dyn Connections>,
) -> anyhow::Result<Option<Source>> {
    let config = core.config.load();
    let Some(section) = config.settings.listen.tls.as_ref().and_then(|tls| tls.acme.as_ref()) else {
        return Ok(None);
    };
    let acme = Acme::new(settings(section, core)?, parts(core, registrations));
    core.obtained.store(acme.kept().await.map(Arc::new));
    let answers = section.http.map(|address| bind(address, "listen.tls.acme.http")).transpose()?;
    Ok(Some(Source { acme, answers }))
}

fn parts(core: &Core, registrations: Arc<dyn Connections>) -> Parts {
    let world = &core.world;
    Parts {
        registrations,
        revisions: Arc::clone(&world.revisions),
        sealer: Sealer::new(Arc::clone(world.keyring.ring())),
        ledger: Arc::clone(&world.ledger),
        clock: Arc::clone(&world.clock),
        entropy: Arc::clone(&world.entropy),
        instance: Arc::clone(&world.instance),
        counts: core.certificates.clone(),
    }
}

fn settings(section: &AcmeSection, core: &Core) -> anyhow::Result<Settings> {
    let read =
        |path: &std::path::PathBuf| std::fs::read(path).with_context(|| format!("`{}`", path.display()));
    let external = section.external_account.as_ref().map(|account| {
        let key = core.world.broker.known(&account.key).map_err(anyhow::Error::msg);
        let key = key.context("listen.tls.acme.external_account.key")?;
        let decoded = URL_SAFE_NO_PAD.decode(key.expose().trim().trim_end_matches('='));
        let key = Secret::new(decoded.ok().context("listen.tls.acme.external_account.key is no Base64url")?);
        Ok::<_, anyhow::Error>(External { id: account.id.clone(), key })
    });
    Ok(Settings {
        directory: section.directory.clone(),
        egress: EgressPolicy::of(false, section.allow_private).naming(&section.directory),
        roots_pem: section.ca.iter().map(read).collect::<Result<_, _>>().context("listen.tls.acme.ca")?,
        contact: section.contact.clone(),
        domains: section.domains.clone(),
        way: match section.challenge {
            AcmeChallenge::TlsAlpn01 => Way::TlsAlpn01,
            AcmeChallenge::Http01 => Way::Http01,
        },
        external: external.transpose()?,
    })
}

impl Source {
    /// TLS that also answers the server.
    pub(super) fn answering(&self, tls: ServerTls) -> ServerTls {
        tls.with_challenges(Arc::new(self.acme.clone()))
    }

    /// Keeps the certificate fresh until `stop`.
    pub(super) async fn follow(self, core: Arc<Core>, tls: ServerTls, stop: watch::Receiver<bool>) {
        let Self { acme, answers } = self;
        let mut tasks = JoinSet::new();
        if let Some(bound) = answers {
            let limits = core.gateway.rules.load().limits.clone();
            let (answers, stop) = (HttpAnswers(acme.clone()), stop.clone());
            let options = ListenOptions::new(None, &limits);
            tasks.spawn(async move {
                listen::serve(bound, options, answers, stop, std::time::Duration::from_secs(1)).await;
            });
        }
        let show = move |identity| {
            core.obtained.store(Some(Arc::new(identity)));
            reload::renew(&core, Some(&tls));
        };
        acme.run(show, stop).await;
        tasks.shutdown().await;
    }
}
