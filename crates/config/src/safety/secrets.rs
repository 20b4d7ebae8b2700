//! References that nobody could follow, and ways to secrets that others could listen on.

use std::collections::BTreeMap;

use portcullis_seal::KeyReference;
use portcullis_secrets::Place;

use crate::{
    decode::place,
    mistake::ConfigMistake,
    secrets::{VaultLogin, VaultMethod},
    sections::Settings,
    server::{Server, Upstream},
    values::{Reference, is_local},
    yaml::Node,
};

/// Everything under `secrets` that would show a secret or could not take effect, and references without a source.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: &str, hint: &str| {
        out.push(ConfigMistake::new(place(root, key), key, message, hint));
    };
    for (key, reference) in references(settings, &settings.servers) {
        let (source, there) = match reference.place() {
            Place::Vault { .. } => ("secrets.vault", settings.secrets.vault.is_some()),
            Place::Aws { .. } => ("secrets.aws", settings.secrets.aws.is_some()),
            Place::Literal | Place::Env(_) | Place::File(_) | Place::Local(_) => continue,
        };
        if !there {
            let message = format!("`{reference}` cannot be followed: there is no `{source}`");
            refuse(&key, &message, "say under `secrets` where the value is kept");
        }
        if reference.personal() && !key.starts_with("servers.") {
            refuse(
                &key,
                "differs by caller, and nobody calls here",
                "write a reference without `{caller.id}`",
            );
        }
    }
    encryption(settings, &mut refuse);
    for key in settings.secrets.outage_s.keys().filter(|key| *key != "*" && key.contains('#')) {
        let message = format!("`{key}` names a field; a document is kept as a whole");
        refuse("secrets.outage_s", &message, "write the reference without `#FIELD`");
    }
    if let Some(vault) = &settings.secrets.vault {
        if vault.addresses.is_empty() {
            refuse("secrets.vault.addresses", "names no address", "write `addresses: [https://HOST:8200]`");
        }
        for url in &vault.addresses {
            if url.scheme() != "https" && !is_local(url) && !vault.danger_plain_http {
                let message = format!("secrets would come from `{url}` in the clear");
                refuse("secrets.vault.addresses", &message, "use `https://`");
            }
        }
        if vault.client_certificate.is_some() != vault.client_key.is_some() {
            let message = "`client_certificate` and `client_key` go together";
            refuse("secrets.vault.client_key", message, "write both, or none");
        }
        let certificate = vault.client_certificate.is_some();
        login(&vault.login, certificate, &mut refuse);
    }
    if let Some(url) = settings.secrets.aws.as_ref().and_then(|aws| aws.endpoint.as_ref())
        && url.scheme() != "https"
        && !is_local(url)
    {
        refuse("secrets.aws.endpoint", "secrets would come in the clear", "use `https://`");
    }
    out
}

/// The key that opens everything else cannot stand behind what it opens.
fn encryption(settings: &Settings, refuse: &mut impl FnMut(&str, &str, &str)) {
    let section = &settings.encryption;
    for (place, reference) in std::iter::once(("encryption.key", section.key.as_ref()))
        .chain(section.former.iter().map(|one| ("encryption.former", Some(one))))
    {
        if matches!(reference, Some(KeyReference::Vault { .. })) && settings.secrets.vault.is_none() {
            refuse(
                place,
                "names a key in Vault, and there is no `secrets.vault`",
                "say there how Vault is reached",
            );
        }
    }
    let Some(passphrase) = &section.passphrase else { return };
    if !matches!(passphrase.place(), Place::Env(_) | Place::File(_)) {
        let message = "stands where the gateway cannot look before its keys are open, or in the open";
        refuse("encryption.passphrase", message, "write `env:NAME` or `file:PATH`");
    }
    let all = section.key.iter().chain(&section.former);
    let asked = |one: &KeyReference| matches!(one, KeyReference::File(_) | KeyReference::Pkcs11(_));
    if section.key.is_some() && !all.into_iter().any(asked) {
        let message = "is for a file or a token, and no such key is configured";
        refuse("encryption.passphrase", message, "remove it");
    }
}

fn login(login: &VaultLogin, certificate: bool, refuse: &mut impl FnMut(&str, &str, &str)) {
    let at = |name: &str| format!("secrets.vault.login.{name}");
    let method = login.method.word();
    let wanted: &[(&str, bool)] = match login.method {
        VaultMethod::Approle => &[("role_id", login.role_id.is_some())],
        VaultMethod::Aws => &[],
        VaultMethod::Certificate => &[("method", certificate)],
        VaultMethod::Jwt => &[("jwt", login.jwt.is_some())],
        VaultMethod::Kubernetes => &[("role", login.role.is_some())],
        VaultMethod::Token => &[("token", login.token.is_some())],
        VaultMethod::Userpass => &[("user", login.user.is_some()), ("password", login.password.is_some())],
    };
    for (name, there) in wanted {
        if !there && *name == "method" {
            let hint = "write `client_certificate` and `client_key` under `secrets.vault`";
            refuse(&at(name), "there is no certificate to log in with", hint);
        } else if !there {
            let message = format!("`method: {method}` needs `{name}`");
            refuse(&at(name), &message, "write it; secrets as `env:NAME` or `file:PATH`");
        }
    }
    let secrets = [
        ("token", &login.token),
        ("role_id", &login.role_id),
        ("secret_id", &login.secret_id),
        ("jwt", &login.jwt),
        ("password", &login.password),
    ];
    for (name, reference) in secrets {
        let Some(reference) = reference else { continue };
        match reference.place() {
            Place::Env(_) | Place::File(_) => {}
            // The id of a role is no secret.
            Place::Literal if name == "role_id" => {}
            Place::Literal => {
                let message = "this is the place of a secret, and a configuration file is not";
                refuse(&at(name), message, "write `env:NAME` or `file:PATH`");
            }
            Place::Local(_) | Place::Vault { .. } | Place::Aws { .. } => {
                refuse(&at(name), "what opens Vault cannot be kept there", "write `env:NAME` or `file:PATH`");
            }
        }
    }
}

/// Every reference, with the key under which it stands; but those of logins.
fn references<'a>(
    settings: &'a Settings,
    servers: &'a BTreeMap<String, Server>,
) -> Vec<(String, &'a Reference)> {
    let mut out = Vec::new();
    for (name, server) in servers {
        match &server.upstream {
            Upstream::Http { headers, authorization, .. } => {
                let key = |header: &String| format!("servers.{name}.headers.{header}");
                out.extend(headers.iter().map(|(header, reference)| (key(header), reference)));
                for (key, reference) in authorization.iter().flat_map(|section| section.references()) {
                    out.push((format!("servers.{name}.authorization.{key}"), reference));
                }
            }
            Upstream::Stdio { env, .. } => {
                let key = |variable: &String| format!("servers.{name}.env.{variable}");
                out.extend(env.iter().map(|(variable, reference)| (key(variable), reference)));
            }
        }
    }
    for (index, jwt) in settings.identities.jwt.iter().enumerate() {
        let asked = jwt.introspection.iter();
        out.extend(asked.map(|asked| {
            (format!("identities.jwt[{index}].introspection.client_secret"), &asked.client_secret)
        }));
    }
    for (name, sink) in &settings.sinks {
        out.extend(sink.token.as_ref().map(|token| (format!("sinks.{name}.token"), token)));
    }
    for (name, hook) in &settings.approval_hooks {
        out.push((format!("approval_hooks.{name}.secret"), &hook.secret));
    }
    out
}

impl Settings {
    /// The references whose values are needed before the gateway serves: those that nobody can wait for later.
    pub fn early_references<'a>(
        &'a self,
        servers: &'a BTreeMap<String, Server>,
    ) -> Vec<(String, &'a Reference)> {
        let late =
            |key: &str| key.contains(".headers.") || key.contains(".env.") || key.starts_with("sinks.");
        references(self, servers).into_iter().filter(|(key, _)| !late(key)).collect()
    }

    /// Every reference to a secret with these servers, with the key under which it stands.
    pub fn references_with<'a>(
        &'a self,
        servers: &'a BTreeMap<String, Server>,
    ) -> Vec<(String, &'a Reference)> {
        references(self, servers)
    }

    /// Every reference to a secret, with the key under which it stands.
    pub fn references(&self) -> Vec<(String, &Reference)> {
        references(self, &self.servers)
    }
}
