//! The certificate that the gateway gets by itself, from what the configuration says to what the listener shows.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_certs::{
    Acme, Counts, External, HttpAnswers, Ocsp, OcspParts, OcspSettings, Parts, Settings, Spiffe, SpiffeParts,
    SpiffeSettings, Svid, Way,
};
use portcullis_config::{AcmeChallenge, AcmeSection, Config};
use portcullis_core::{Clock, Entropy, Secret};
use portcullis_net::{
    guard::EgressPolicy,
    listen::{self, Bound, ListenOptions},
    tls::ServerTls,
};
use portcullis_seal::Sealer;
use portcullis_store::{Connections, Ledger};
use tokio::{sync::watch, task::JoinSet};

use super::{
    compile::World,
    reload,
    start::{Core, bind},
};

/// What gets a certificate.
pub(crate) enum Source {
    /// From an ACME server; and where its question arrives, if not at the listener.
    Acme(Acme, Option<Bound>),
    /// From a SPIFFE Workload API.
    Spiffe(Spiffe),
}

/// The Workload API of the configuration, with its first certificate.
pub(super) async fn spiffe(
    config: &Config,
    (ledger, counts): (&Arc<dyn Ledger>, &Counts),
    (clock, entropy, instance): (&Arc<dyn Clock>, &Arc<dyn Entropy>, &Arc<str>),
) -> anyhow::Result<Option<Spiffe>> {
    let Some(section) = &config.settings.spiffe else { return Ok(None) };
    let hint = "hint: is the agent running, and does it know this workload? Set `spiffe.socket` or SPIFFE_ENDPOINT_SOCKET";
    let socket = section.socket.clone().or_else(|| std::env::var("SPIFFE_ENDPOINT_SOCKET").ok());
    let socket = socket.with_context(|| format!("no socket of a SPIFFE Workload API is named; {hint}"))?;
    let settings = SpiffeSettings {
        socket,
        id: section.id.as_ref().map(|id| id.0.clone()),
        wait: Duration::from_secs(section.wait_s.0),
    };
    let parts = SpiffeParts {
        ledger: Arc::clone(ledger),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        instance: Arc::clone(instance),
        counts: counts.clone(),
    };
    let opened = Spiffe::open(settings, parts).await;
    opened.map(Some).map_err(|error| anyhow!("the SPIFFE Workload API at {error}; {hint}"))
}

/// What fetches OCSP answers, where the configuration wants that.
pub(super) fn ocsp(config: &Config, world: &World, counts: &Counts) -> Option<Ocsp> {
    let section = config.settings.listen.tls.as_ref()?.ocsp.as_ref()?;
    let egress = EgressPolicy::of(section.allow_loopback, section.allow_private);
    let egress = section.url.as_ref().map_or(egress, |url| egress.naming(url));
    let parts = OcspParts {
        ledger: Arc::clone(&world.ledger),
        clock: Arc::clone(&world.clock),
        instance: Arc::clone(&world.instance),
        counts: counts.clone(),
    };
    Some(Ocsp::new(OcspSettings { url: section.url.clone(), egress }, parts))
}

/// Keeps the certificates of a listener fresh until `stop`, and what is shown beside them.
pub(super) async fn follow(
    source: Option<Source>,
    core: Arc<Core>,
    tls: ServerTls,
    stop: watch::Receiver<bool>,
) {
    let answers = async {
        let Some(ocsp) = core.ocsp.clone() else { return };
        ocsp.run(|| reload::renew(&core, Some(&tls)), stop.clone()).await;
    };
    let certificates = async {
        let Some(source) = source else { return };
        source.follow(Arc::clone(&core), tls.clone(), stop.clone()).await;
    };
    tokio::join!(answers, certificates);
}

/// What the configuration asks for; the certificate of the last run is shown from the start.
pub(super) async fn source(
    core: &Core,
    registrations: Arc<dyn Connections>,
) -> anyhow::Result<Option<Source>> {
    let config = core.config.load();
    let Some(tls) = &config.settings.listen.tls else { return Ok(None) };
    if let Some(spiffe) = core.world.spiffe.as_ref().filter(|_| tls.spiffe) {
        core.obtained.store(spiffe.current().map(|svid| Arc::new(svid.identity.clone())));
        return Ok(Some(Source::Spiffe(spiffe.clone())));
    }
    let Some(section) = &tls.acme else { return Ok(None) };
    let acme = Acme::new(settings(section, core)?, parts(core, registrations));
    core.obtained.store(acme.kept().await.map(Arc::new));
    let answers = section.http.map(|address| bind(address, "listen.tls.acme.http")).transpose()?;
    Ok(Some(Source::Acme(acme, answers)))
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
        match self {
            Self::Acme(acme, _) => tls.with_challenges(Arc::new(acme.clone())),
            Self::Spiffe(_) => tls,
        }
    }

    async fn follow(self, core: Arc<Core>, tls: ServerTls, stop: watch::Receiver<bool>) {
        match self {
            Self::Acme(acme, answers) => ordered(acme, answers, core, (tls, stop)).await,
            Self::Spiffe(spiffe) => {
                let show = move |svid: Option<Arc<Svid>>| {
                    core.obtained.store(svid.map(|svid| Arc::new(svid.identity.clone())));
                    reload::renew(&core, Some(&tls));
                };
                spiffe.follow(show, stop).await;
            }
        }
    }
}

async fn ordered(
    acme: Acme,
    answers: Option<Bound>,
    core: Arc<Core>,
    (tls, stop): (ServerTls, watch::Receiver<bool>),
) {
    let mut tasks = JoinSet::new();
    if let Some(bound) = answers {
        let limits = core.gateway.rules.load().limits.clone();
        let (answers, stop) = (HttpAnswers(acme.clone()), stop.clone());
        let options = ListenOptions::new(None, &limits);
        tasks.spawn(async move {
            listen::serve(bound, options, answers, stop, Duration::from_secs(1)).await;
        });
    }
    let show = move |identity| {
        core.obtained.store(Some(Arc::new(identity)));
        reload::renew(&core, Some(&tls));
    };
    acme.run(show, stop).await;
    tasks.shutdown().await;
}
