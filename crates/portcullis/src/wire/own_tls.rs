//! `--tls`: a self-signed certificate of our own, for who has none yet. Kept in the data directory, and made anew by a start shortly
//! before its end, with the same key.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use portcullis_config::{Config, OWN_CERTIFICATE, Tls};
use portcullis_core::{Secret, Timestamp};
use portcullis_net::certificate;
use portcullis_store::DataDir;
use rcgen::{CertificateParams, KeyPair};

const DAY: Duration = Duration::from_secs(86_400);
/// How long it is good for: some clients take none that is good for more than 398 days.
const GOOD_FOR: Duration = DAY.saturating_mul(397);
/// What is left of it when a start makes another one.
const ENDING: Duration = DAY.saturating_mul(30);

/// Whether this is our own certificate, and `run` has yet to make it.
pub(super) fn is_unmade(tls: &Tls) -> bool {
    own(tls).is_some_and(|(certificate, key)| !(certificate.exists() && key.exists()))
}

/// Certificate and key, where they are our own.
fn own(tls: &Tls) -> Option<(&Path, &Path)> {
    let (certificate, key) = (tls.certificate.as_deref()?, tls.key.as_deref()?);
    certificate.file_name().is_some_and(|name| name == OWN_CERTIFICATE).then_some((certificate, key))
}

/// Makes certificate and key where `--tls` asks for them and they are not there yet, and the certificate where it ends soon.
pub(super) fn make(dir: &DataDir, config: &Config, now: SystemTime) -> anyhow::Result<()> {
    let Some(tls) = &config.settings.listen.tls else { return Ok(()) };
    let Some((certificate, key)) = own(tls) else { return Ok(()) };
    let pair = if is_unmade(tls) {
        let pair = KeyPair::generate()?;
        // A key without its certificate would be no use, so an old half is replaced.
        let _ = std::fs::remove_file(key);
        dir.secret(key, || Secret::new(pair.serialize_pem().into_bytes()))?;
        pair
    } else if is_ending(certificate, now)? {
        tracing::warn!(
            certificate = %certificate.display(),
            "the self-signed certificate was made anew; clients that trust the file need the new one"
        );
        KeyPair::from_pem(&read(key)?).with_context(|| format!("`{}`", key.display()))?
    } else {
        return Ok(());
    };
    let mut wanted = CertificateParams::new(names(config)).context("a certificate cannot be made")?;
    // From an hour ago, since clocks differ.
    (wanted.not_before, wanted.not_after) = ((now - DAY / 24).into(), (now + GOOD_FOR).into());
    write(certificate, &wanted.self_signed(&pair)?.pem())
}

/// Whether little is left of its time.
fn is_ending(certificate: &Path, now: SystemTime) -> anyhow::Result<bool> {
    let pem = read(certificate)?.into_bytes();
    let at = Timestamp(u64::try_from(now.duration_since(UNIX_EPOCH)?.as_millis()).unwrap_or(u64::MAX));
    // One that cannot be read is refused with its reason where it is used.
    let look = certificate::look(&pem, "localhost", std::slice::from_ref(&pem), at);
    let soon = u64::try_from(ENDING.as_millis()).unwrap_or(u64::MAX);
    Ok(look.ok().and_then(|look| look.ends).is_some_and(|ends| ends.0 < at.0.saturating_add(soon)))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn write(path: &Path, pem: &str) -> anyhow::Result<()> {
    std::fs::write(path, pem).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Every name that the gateway is served under.
fn names(config: &Config) -> Vec<String> {
    let listen = &config.settings.listen;
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !listen.address.ip().is_unspecified() {
        names.push(listen.address.ip().to_string());
    }
    names.extend(listen.hosts.iter().map(|host| host.0.clone()));
    names.extend(
        listen.public_url.as_ref().and_then(|url| Some(url.host_str()?.trim_matches(['[', ']']).to_owned())),
    );
    names.sort();
    names.dedup();
    names
}
