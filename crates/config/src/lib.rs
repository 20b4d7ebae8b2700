//! `portcullis.yaml`: read once, checked whole, all mistakes reported at once with line, key and hint.
//!
//! The text becomes a tree that remembers places (`yaml`), the tree becomes typed sections through one table per
//! section (`decode`, `sections`, `server`, `values`), and `safety` refuses what would expose the gateway. The same
//! tables make the JSON schema and the reference page (`reference`).

mod aggregate;
mod authorization;
mod decode;
mod encryption;
mod exchange;
mod governance;
mod identities;
mod insert;
mod mapping;
mod meaning;
mod primitives;
mod privacy;
mod recognisers;
mod reference;
mod safety;
mod sandbox;
mod secrets;
mod sections;
mod server;
mod sinks;
#[cfg(test)]
mod tests;
mod transport_security;
mod values;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use portcullis_core::Digest;
use portcullis_yaml::{self as yaml, mistake};
use url::Url;

pub use self::{
    aggregate::VirtualServer,
    authorization::{AuthorizationMode, AuthorizationSection},
    encryption::{EncryptionSection, Unavailable},
    exchange::ExchangeSection,
    identities::{
        BoundTokens, Introspected, Introspection, IssuerDown, Jwt, JwtKind, Preset, ScopeText, StepUp,
    },
    insert::{fragment, with_servers},
    mistake::{ConfigMistake, Place},
    privacy::TokenScope,
    reference::{markdown, schema},
    secrets::{AwsSection, Leaks, SecretsSection, VaultLogin, VaultMethod, VaultSection},
    sections::{ClientCertificates, Log, LogFormat, Otlp, Rule, Settings, Tls},
    server::{Isolation, OutputSchema, Server, ServerRequest, Transport, Trust, Upstream},
    sinks::{FieldKeep, Receiver, SinkGrade, SinkSection, SinkStart},
    transport_security::{
        AcmeChallenge, AcmeSection, CertificateSection, ExternalAccount, OcspSection, Pin, ServerTlsSection,
        SpiffeSection, TlsVersion,
    },
    values::{Form, PatternText, Reference, RoleName, is_local, is_name, looks_secret, names_a_secret},
};
use self::{
    decode::{Setting, Walk},
    yaml::Node,
};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "portcullis.yaml";

/// The certificate that `--tls` makes, in the data directory.
pub const OWN_CERTIFICATE: &str = "tls.crt";

/// The configuration: settings with defaults filled in, and where they came from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file; `None` where there is none and everything is at its default.
    pub path: Option<PathBuf>,
    /// Folder that relative paths start from.
    pub base: PathBuf,
    /// Digest of the file's text: names the configuration in force in logs and ledger.
    pub digest: Digest,
    /// What it says.
    pub settings: Settings,
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--tls`: a certificate of our own, kept in the data directory, where none is configured
    pub own_tls: bool,
    /// `--public-url`
    pub public_url: Option<Url>,
    /// `--admin-listen`
    pub admin: Option<SocketAddr>,
    /// `--tls-cert`, `--tls-key`
    pub tls: Option<Tls>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
}

impl Overrides {
    fn apply(&self, settings: &mut Settings, base: &Path) {
        let Self { data, listen, own_tls, public_url, admin, tls, log_format } = self.clone();
        if data.is_some() {
            settings.data = data;
        }
        if let Some(address) = listen {
            settings.listen.address = address;
        }
        if public_url.is_some() {
            settings.listen.public_url = public_url;
        }
        if let Some(address) = admin {
            settings.admin.address = address;
        }
        if tls.is_some() {
            settings.listen.tls = tls;
        }
        if own_tls && settings.listen.tls.is_none() {
            let data = settings.data.clone().unwrap_or_else(|| base.join("portcullis-data"));
            settings.listen.tls = Some(Tls::of(data.join(OWN_CERTIFICATE), data.join("tls.key")));
        }
        if let Some(format) = log_format {
            settings.log.format = format;
        }
    }
}

impl Config {
    /// Reads `path`; without one, `portcullis.yaml` in the current folder where it exists, or else the defaults. The
    /// same function serves `run`, `check` and every reload.
    ///
    /// # Errors
    /// Every mistake in the file, and every setting that would expose the gateway.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Vec<ConfigMistake>> {
        let implied = Path::new(DEFAULT_FILE);
        let path = path.or_else(|| implied.exists().then_some(implied));
        let Some(path) = path else { return Self::parse("", None, overrides) };
        let unreadable = |reason: String| {
            vec![
                ConfigMistake::new(Place::START, "", reason, "name the file with --config")
                    .in_file(path.display().to_string()),
            ]
        };
        let bytes = read_bounded(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable(String::from("not UTF-8 text")))?;
        Self::parse(&text, Some(path), overrides)
    }

    /// Reads `text` as the contents of `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: Option<&Path>, overrides: &Overrides) -> Result<Self, Vec<ConfigMistake>> {
        let base = path.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
        let root = yaml::parse(text)?;
        let mut walk = Walk::new(base.clone(), role_names(&root), keys_of(&root, "recognisers"));
        let settings = Settings::read(&root, &mut walk);
        let mut mistakes = core::mem::take(&mut walk.mistakes);
        match settings {
            Some(mut settings) => {
                overrides.apply(&mut settings, &base);
                mistakes.extend(safety::mistakes(&settings, &root));
                if mistakes.is_empty() {
                    let path = path.map(Path::to_path_buf);
                    return Ok(Self { path, base, digest: Digest::of(text.as_bytes()), settings });
                }
            }
            None => {
                // What can be read is still judged, so that one typing error does not hide an open door.
                if let Some(mut partial) = safety::readable(&root, &walk) {
                    overrides.apply(&mut partial, &base);
                    mistakes.extend(safety::mistakes(&partial, &root));
                }
            }
        }
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        mistakes.dedup();
        Err(mistakes)
    }

    /// Claims that some issuer lets policies read.
    pub fn claims(&self) -> BTreeSet<String> {
        self.settings.identities.jwt.iter().flat_map(|jwt| &jwt.claims).cloned().collect()
    }

    /// Folder for database, ledger and generated secrets.
    pub fn data_dir(&self) -> PathBuf {
        self.settings.data.clone().unwrap_or_else(|| self.base.join("portcullis-data"))
    }
}

/// YAML without places, for files that are no configuration: the words `true`, `false`, `null` and numbers mean what they
/// do in JSON unless they are quoted.
///
/// # Errors
/// What is wrong with its form.
pub fn to_json(text: &str) -> Result<serde_json::Value, Vec<ConfigMistake>> {
    Ok(json_of(&yaml::parse(text)?))
}

fn json_of(node: &Node) -> serde_json::Value {
    use serde_json::Value;
    match &node.value {
        yaml::Value::Null => Value::Null,
        yaml::Value::List(items) => items.iter().map(json_of).collect(),
        yaml::Value::Map(pairs) => {
            pairs.iter().map(|(key, value)| (key.text.clone(), json_of(value))).collect()
        }
        yaml::Value::Scalar { text, plain } => {
            let read = serde_json::from_str::<Value>(text)
                .ok()
                .filter(|value| *plain && matches!(value, Value::Null | Value::Bool(_) | Value::Number(_)));
            read.unwrap_or_else(|| Value::String(text.clone()))
        }
    }
}

/// Reads a file of at most a few megabytes; a device or a pipe cannot make this endless.
pub fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(4_194_304).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The roles that may be named: built in, or declared in this file.
fn role_names(root: &Node) -> BTreeSet<String> {
    let builtin = portcullis_policy::builtin_roles().into_iter().map(|role| role.name);
    builtin.chain(keys_of(root, "roles")).collect()
}

/// The keys of a section, whatever stands under them.
fn keys_of(root: &Node, section: &str) -> BTreeSet<String> {
    match root.get(section).map(|(_, node)| &node.value) {
        Some(yaml::Value::Map(pairs)) => pairs.iter().map(|(key, _)| key.text.clone()).collect(),
        Some(yaml::Value::List(_) | yaml::Value::Null | yaml::Value::Scalar { .. }) | None => BTreeSet::new(),
    }
}

/// The sections of the file, for tests of the example.
#[cfg(test)]
fn sections_named() -> Vec<&'static str> {
    match Settings::shape() {
        decode::Shape::Section(section) => section.fields.iter().map(|field| field.key).collect(),
        _ => Vec::new(),
    }
}
