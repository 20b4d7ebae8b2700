//! Policies and detectors of a configuration: compiled, and judged beyond what compiles.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use portcullis_certs::{Ocsp, Spiffe};
use portcullis_config::{self as config, Config, ConfigMistake, Place};
use portcullis_core::{Action, Limits, Secret};
use portcullis_inspect::Inspector;
use portcullis_net::tls::{ClientAuth, ServerIdentity, ServerTls, ServerTlsOptions};
use portcullis_policy::{Lint, Policies, PolicySource};

use super::own_tls;

/// Name of the server that is there when none is declared.
pub(crate) const SAMPLE: &str = "sample";

pub(super) type Found = Vec<ConfigMistake>;

pub(super) fn mistake(key: impl Into<String>, message: impl Into<String>, hint: &str) -> ConfigMistake {
    ConfigMistake::new(Place::START, key, message, hint)
}

/// Compiles what can be compiled without a running gateway: policies and detectors.
///
/// # Errors
/// Every mistake.
pub(crate) fn check(config: &Config) -> Result<Checked, Found> {
    check_with(config, &config.settings.servers)
}

/// What compiles without a running gateway.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) policy: Arc<Policies>,
    pub(crate) shadow: Option<Arc<Policies>>,
    pub(crate) inspector: Inspector,
    /// What is well-formed, still wrong, and no reason not to start.
    pub(crate) warnings: Vec<Lint>,
}

/// As [`check`], with servers that were added at run time.
pub(super) fn check_with(
    config: &Config,
    servers: &BTreeMap<String, config::Server>,
) -> Result<Checked, Found> {
    let mut found = Found::new();
    let (mut warnings, mut stopping) = (Vec::new(), Found::new());
    let policy = source(config, servers).and_then(|source| {
        let policies = policies(&source, &config.settings.limits)?;
        for lint in portcullis_policy::lint(&source, &policies, &config.claims()) {
            if lint.stops {
                stopping.push(mistake("policies", lint.to_string(), &lint.hint));
            } else {
                warnings.push(lint);
            }
        }
        Ok(policies)
    });
    found.append(&mut stopping);
    let shadow = shadow(config, servers).map_err(|mistakes| found.extend(mistakes)).ok().flatten();
    let policy = policy.map_err(|mistakes| found.extend(mistakes)).ok();
    if let Some(policy) = &policy {
        let names = config.settings.compiled_inspect().names();
        let known = |name: &String| names.contains(&name.as_str());
        for name in policy.detectors().into_iter().filter(|name| !known(name)) {
            let hint = "docs/reference/config.md lists the detectors";
            found.push(mistake(
                "policies",
                format!("`@mask`, `@refuse` or `@restore` names no detector: `{name}`"),
                hint,
            ));
        }
    }
    let inspector = Inspector::new(&config.settings.compiled_inspect())
        .map(|inspector| inspector.bounded(config.settings.limits.inspect_bytes_max))
        .map_err(|error| found.push(mistake("inspect", error.to_string(), "see docs/reference/config.md")))
        .ok();
    found.extend(super::sinks::check(config));
    if let Err(error) = tls(config) {
        found.push(mistake("listen.tls", format!("{error:#}"), "name a PEM certificate chain and its key"));
    }
    match (policy, inspector) {
        (Some(policy), Some(inspector)) if found.is_empty() => {
            Ok(Checked { policy, shadow, inspector, warnings })
        }
        _ => Err(found),
    }
}

/// The candidate that decides beside the policies in force: roles and policies of another file, and what this one says
/// about servers.
fn shadow(
    config: &Config,
    servers: &BTreeMap<String, config::Server>,
) -> Result<Option<Arc<Policies>>, Found> {
    let Some(path) = &config.settings.shadow else { return Ok(None) };
    let place = |found: Found| -> Found {
        let text = |one: ConfigMistake| {
            mistake("shadow", format!("{}: {one}", path.display()), "correct the candidate")
        };
        found.into_iter().map(text).collect()
    };
    let candidate = Config::load(Some(path), &config::Overrides::default()).map_err(place)?;
    let source = candidate.policy_source(servers).map_err(place)?;
    policies(&source, &config.settings.limits).map(Some).map_err(place)
}

/// Roles and policies; with the sample server comes a rule that shows a refusal.
pub(crate) fn source(
    config: &Config,
    servers: &BTreeMap<String, config::Server>,
) -> Result<PolicySource, Found> {
    let mut source = config.policy_source(servers)?;
    if config.settings.servers.is_empty() {
        for role in source.roles.iter_mut().filter(|role| role.name == "operator") {
            role.rules.push(portcullis_policy::Rule {
                actions: vec![Action::CallTool],
                servers: SAMPLE.parse().into_iter().collect(),
                items: "notes.delete".parse().into_iter().collect(),
                ..portcullis_policy::Rule::forbid()
            });
        }
    }
    Ok(source)
}

fn policies(source: &PolicySource, limits: &Limits) -> Result<Arc<Policies>, Found> {
    Policies::compile(source, limits).map(Arc::new).map_err(|errors| {
        errors
            .into_iter()
            .map(|error| {
                mistake("policies", error.to_string(), "`portcullis policy check` shows each with its place")
            })
            .collect()
    })
}

/// TLS of the data plane, if it is configured.
pub(crate) fn tls(config: &Config) -> anyhow::Result<Option<ServerTls>> {
    tls_with(config, (None, None), None)
}

/// The same with the certificate that was obtained, where it does not come from files.
pub(super) fn tls_with(
    config: &Config,
    (obtained, ocsp): (Option<ServerIdentity>, Option<&Ocsp>),
    spiffe: Option<&Spiffe>,
) -> anyhow::Result<Option<ServerTls>> {
    let Some(tls) = &config.settings.listen.tls else { return Ok(None) };
    if own_tls::is_unmade(tls) {
        return Ok(None);
    }
    let only_1_3 = tls.min_version == config::TlsVersion::V13;
    let clients = clients(tls, spiffe)?;
    let options = ServerTlsOptions { identities: identities(tls, obtained, ocsp)?, clients, only_1_3 };
    Ok(Some(ServerTls::of(&options)?))
}

fn file(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("`{}`", path.display()))
}

/// The certificates of the listener, the one without further ado first.
pub(super) fn identities(
    tls: &config::Tls,
    obtained: Option<ServerIdentity>,
    ocsp: Option<&Ocsp>,
) -> anyhow::Result<Vec<ServerIdentity>> {
    let files = tls.certificate.as_ref().zip(tls.key.as_ref());
    let first = files.map(|(certificate, key)| (certificate, key, tls.ocsp_response.as_ref()));
    let more = tls.certificates.iter().map(|one| (&one.certificate, &one.key, one.ocsp_response.as_ref()));
    let read = |(certificate, key, ocsp): (
        &std::path::PathBuf,
        &std::path::PathBuf,
        Option<&std::path::PathBuf>,
    )| {
        Ok(ServerIdentity {
            cert_pem: file(certificate)?,
            key_pem: Secret::new(file(key)?),
            ocsp: ocsp.map(|path| file(path)).transpose()?,
        })
    };
    let nobody = tls.spiffe.then(|| vec!["localhost".to_owned()]);
    let unmade = tls.acme.as_ref().map(|acme| acme.domains.clone()).or(nobody);
    let obtained = match (obtained, unmade) {
        (None, Some(names)) => Some(portcullis_certs::placeholder(&names).map_err(anyhow::Error::msg)?),
        (obtained, _) => obtained,
    };
    let all = obtained.map(Ok).into_iter().chain(first.into_iter().chain(more).map(read));
    let all = all.collect::<anyhow::Result<Vec<_>>>()?;
    let Some(ocsp) = ocsp else { return Ok(all) };
    let dressed = ocsp.dress(all);
    if dressed.is_empty() {
        let nobody = portcullis_certs::placeholder(&["localhost".to_owned()]);
        return Ok(vec![nobody.map_err(anyhow::Error::msg)?]);
    }
    Ok(dressed)
}

/// What is taken for a client's certificate, where clients are asked for one.
pub(super) fn clients(tls: &config::Tls, spiffe: Option<&Spiffe>) -> anyhow::Result<Option<ClientAuth>> {
    if !tls.asks() {
        return Ok(None);
    }
    // Once the time of what the Workload API gave is over, no domain vouches for anybody.
    let bundles = || spiffe.and_then(Spiffe::current).map(|svid| svid.bundles.clone()).unwrap_or_default();
    Ok(Some(ClientAuth {
        authorities_pem: tls.client_ca.as_ref().map(|path| file(path)).transpose()?.unwrap_or_default(),
        domains: tls.spiffe.then(bundles),
        revoked_pem: tls.client_crls.iter().map(|path| file(path)).collect::<Result<_, _>>()?,
        required: tls.client_certificates == config::ClientCertificates::Required,
    }))
}
