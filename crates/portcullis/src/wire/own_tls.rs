//! `--tls`: a self-signed certificate of our own, for who has none yet. Made once, kept in the data directory.

use std::path::Path;

use anyhow::Context as _;
use portcullis_config::{Config, OWN_CERTIFICATE, Tls};
use portcullis_core::Secret;
use portcullis_store::DataDir;

/// Whether this is our own certificate, and `run` has yet to make it.
pub(super) fn is_unmade(tls: &Tls) -> bool {
    own(tls).is_some_and(|(certificate, key)| !(certificate.exists() && key.exists()))
}

/// Certificate and key, where they are our own.
fn own(tls: &Tls) -> Option<(&Path, &Path)> {
    let (certificate, key) = (tls.certificate.as_deref()?, tls.key.as_deref()?);
    certificate.file_name().is_some_and(|name| name == OWN_CERTIFICATE).then_some((certificate, key))
}

/// Makes certificate and key where `--tls` asks for them and they are not there yet.
pub(super) fn make(dir: &DataDir, config: &Config) -> anyhow::Result<()> {
    let Some(tls) = &config.settings.listen.tls else { return Ok(()) };
    let Some((certificate, key)) = own(tls).filter(|_| is_unmade(tls)) else { return Ok(()) };
    let made = rcgen::generate_simple_self_signed(names(config)).context("a certificate cannot be made")?;
    // A key without its certificate would be no use, so an old half is replaced.
    let _ = std::fs::remove_file(key);
    dir.secret(key, || Secret::new(made.signing_key.serialize_pem().into_bytes()))?;
    write(certificate, &made.cert.pem())
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
