//! `portcullis tls`: certificates for first runs, and pins of public keys.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Subcommand;
use portcullis_config::Pin;
use portcullis_hosts::replace;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::{Failure, output::Output};

/// How long an authority of ours is good for.
const AUTHORITY_DAYS: u16 = 3_650;

/// Certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Tls {
    /// Make an authority of your own, and certificates of it for the gateway and for clients
    #[command(after_help = "Examples:
  portcullis tls dev-ca --name gateway.lan --name 192.168.1.7
  portcullis tls dev-ca --client alice                 a certificate for a client of mutual TLS
  portcullis run --listen 0.0.0.0:7300 --public-url https://gateway.lan:7300 --tls-cert tls/server.crt --tls-key tls/server.key

For development and for networks of your own. The authority is made once and kept: clients trust `ca.crt`; `ca.key` stays secret.")]
    DevCa {
        /// A host name or an address of the gateway; may be repeated. Default: localhost and its addresses
        #[arg(long, value_name = "HOST")]
        name: Vec<String>,
        /// A certificate for a client of that name instead
        #[arg(long, value_name = "NAME", conflicts_with = "name")]
        client: Option<String>,
        /// How long the certificate is good for; made anew before, the running gateway takes it over
        #[arg(long, value_name = "DAYS", default_value_t = 397, value_parser = clap::value_parser!(u16).range(1..=825))]
        days: u16,
        /// The folder
        #[arg(long, value_name = "DIR", default_value = "tls")]
        out: PathBuf,
    },
    /// Print the pin of a certificate's public key, for `servers.NAME.tls.pins`
    #[command(after_help = "Example:
  openssl s_client -connect files.example:443 </dev/null | portcullis tls pin -")]
    Pin {
        /// PEM file; `-` is standard input
        file: PathBuf,
    },
}

/// What was written.
#[derive(Debug, Serialize)]
struct Made {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    /// Whether the authority is new.
    new_authority: bool,
}

pub(super) fn carry_out(command: Tls, output: &Output) -> Result<(), Failure> {
    match command {
        Tls::Pin { file } => {
            let text = match file.to_str() {
                Some("-") => std::io::read_to_string(std::io::stdin()).map(String::into_bytes),
                _ => std::fs::read(&file),
            };
            let text = text.map_err(|error| Failure::refused(format!("`{}`: {error}", file.display())))?;
            let pin = portcullis_net::tls::pin_of(&text);
            let pin = Pin(pin.map_err(|error| Failure::refused(format!("`{}`: {error}", file.display())))?);
            output.show(&pin.text(), Clone::clone);
        }
        Tls::DevCa { name, client, days, out } => {
            let made =
                make(name, client, days, &out).map_err(|error| Failure::refused(format!("{error:#}")))?;
            output.show(&made, |made| {
                let (new, place) = (if made.new_authority { "made" } else { "used" }, made.ca.display());
                let (certificate, key) = (made.certificate.display(), made.key.display());
                format!("{new} the authority {place}; wrote {certificate} and {key}")
            });
        }
    }
    Ok(())
}

fn make(names: Vec<String>, client: Option<String>, days: u16, out: &Path) -> anyhow::Result<Made> {
    std::fs::create_dir_all(out)?;
    let (ca, ca_key) = (out.join("ca.crt"), out.join("ca.key"));
    let new_authority = !ca.exists();
    if new_authority {
        let key = KeyPair::generate()?;
        secret(&ca_key, &key)?;
        let mut own = authority()?;
        (own.not_before, own.not_after) = valid_for(AUTHORITY_DAYS)?;
        std::fs::write(&ca, own.self_signed(&key)?.pem())?;
    }
    let issuer = Issuer::new(authority()?, KeyPair::from_pem(&std::fs::read_to_string(&ca_key)?)?);
    let (file, mut leaf) = match &client {
        Some(name) => (name.as_str(), params(std::slice::from_ref(name), name)?),
        None if names.is_empty() => {
            ("server", params(&["localhost", "127.0.0.1", "::1"].map(str::to_owned), "localhost")?)
        }
        None => ("server", params(&names, names.first().map_or("", String::as_str))?),
    };
    anyhow::ensure!(
        file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
            && !file.starts_with('.'),
        "`{file}` cannot name a file; use letters, digits, `.`, `_`, `-` and `@`"
    );
    anyhow::ensure!(file != "ca", "`ca` is the authority");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let purpose = match &client {
        Some(_) => ExtendedKeyUsagePurpose::ClientAuth,
        None => ExtendedKeyUsagePurpose::ServerAuth,
    };
    leaf.extended_key_usages = vec![purpose];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = valid_for(days)?;
    let key_pair = KeyPair::generate()?;
    let (certificate, key) = (out.join(format!("{file}.crt")), out.join(format!("{file}.key")));
    secret(&key, &key_pair)?;
    let signed = leaf.signed_by(&key_pair, &issuer)?.pem();
    std::fs::write(&certificate, format!("{signed}{}", std::fs::read_to_string(&ca)?))?;
    Ok(Made { ca, certificate, key, new_authority })
}

/// The same each time: what it signs names it by its key.
fn authority() -> anyhow::Result<CertificateParams> {
    let mut authority = params(&[], "Portcullis development authority")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(authority)
}

/// From an hour ago, since clocks differ, to so many days from now.
fn valid_for(days: u16) -> anyhow::Result<(OffsetDateTime, OffsetDateTime)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let now = OffsetDateTime::from_unix_timestamp(i64::try_from(now)?)?;
    Ok((now - Duration::hours(1), now + Duration::days(i64::from(days))))
}

fn params(names: &[String], common: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common);
    params.distinguished_name = subject;
    Ok(params)
}

/// Nobody else may read it; another one of that name is replaced, whoever could read that one.
fn secret(path: &Path, key: &KeyPair) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    Ok(replace::write_new(path, key.serialize_pem().as_bytes(), 0o600)?)
}
