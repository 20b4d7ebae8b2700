//! Where the certificate of the listener comes from: files, an ACME server, or a SPIFFE Workload API.

use crate::{
    decode::place,
    mistake::ConfigMistake,
    sections::Settings,
    transport_security::{AcmeChallenge, AcmeSection, ServerTlsSection},
    values::is_local,
    yaml::Node,
};

/// Names of one certificate; common servers sign no more.
const DOMAINS_MAX: usize = 100;

pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    spiffe(settings, root, &mut out);
    let Some(tls) = &settings.listen.tls else { return out };
    let files = tls.certificate.is_some() || tls.key.is_some() || tls.ocsp_response.is_some();
    let mut refuse = |key: &str, message: &str, hint: &str| {
        let key = format!("listen.tls{key}");
        out.push(ConfigMistake::new(place(root, &key), key, message, hint));
    };
    if tls.spiffe && (files || tls.acme.is_some()) {
        let hint = "remove `certificate`, `key`, `ocsp_response` and `acme`; further ones stand under `certificates`";
        refuse(".spiffe", "the certificate cannot come from elsewhere as well", hint);
    }
    let Some(acme) = &tls.acme else {
        if tls.spiffe {
            return out;
        }
        let hint = "write `certificate` and `key`, `acme` or `spiffe`";
        for (key, _) in
            [(".certificate", &tls.certificate), (".key", &tls.key)].iter().filter(|(_, file)| file.is_none())
        {
            refuse(key, "missing", hint);
        }
        return out;
    };
    if files {
        let hint = "remove `certificate`, `key` and `ocsp_response`; further ones stand under `certificates`";
        refuse(".acme", "the certificate cannot come from files as well", hint);
    }
    directory(acme, &mut refuse);
    names(acme, &mut refuse);
    if acme.external_account.as_ref().is_some_and(|account| account.key.as_literal().is_some()) {
        let hint =
            "keep it with `portcullis secret put NAME` and write `local:NAME`, or `env:NAME` or `file:PATH`";
        refuse(".acme.external_account.key", "a configuration file is no place for a key", hint);
    }
    match (acme.challenge, acme.http) {
        (AcmeChallenge::Http01, None) => {
            refuse(".acme.http", "missing", "write `0.0.0.0:80`, where the server's request arrives");
        }
        (AcmeChallenge::TlsAlpn01, Some(_)) => {
            refuse(
                ".acme.http",
                "is of use with `http-01` alone",
                "remove it, or write `challenge: http-01`",
            );
        }
        _ => {}
    }
    out
}

/// Whatever uses the Workload API needs its section.
fn spiffe(settings: &Settings, root: &Node, out: &mut Vec<ConfigMistake>) {
    let mut refuse = |key: String, message: &str, hint: &str| {
        out.push(ConfigMistake::new(place(root, &key), key, message, hint));
    };
    if let Some(section) = &settings.spiffe {
        let socket = section.socket.as_ref();
        if socket.is_some_and(|socket| !socket.starts_with("unix:/")) {
            refuse(
                "spiffe.socket".into(),
                "is no Unix socket",
                "write `unix:/run/spire/agent/public/api.sock`",
            );
        }
        if section.id.as_ref().is_some_and(|id| id.0.ends_with("/*")) {
            refuse("spiffe.id".into(), "stands for several IDs", "write one");
        }
        return;
    }
    let users = |tls: Option<&ServerTlsSection>| tls.is_some_and(|tls| !tls.spiffe.is_empty());
    let listener = settings.listen.tls.as_ref().is_some_and(|tls| tls.spiffe);
    let servers = settings.servers.iter().filter(|(_, one)| users(one.tls.as_deref()));
    let sinks = settings.sinks.iter().filter(|(_, one)| users(one.tls.as_ref()));
    let keys = listener.then(|| "listen.tls.spiffe".to_owned()).into_iter();
    let keys = keys.chain(servers.map(|(name, _)| format!("servers.{name}.tls.spiffe")));
    for key in keys.chain(sinks.map(|(name, _)| format!("sinks.{name}.tls.spiffe"))) {
        refuse(key, "there is no Workload API to ask", "write the section `spiffe`, or `spiffe: {}`");
    }
}

fn directory(acme: &AcmeSection, refuse: &mut impl FnMut(&str, &str, &str)) {
    let url = &acme.directory;
    if url.scheme() != "https"
        || url.host().is_none()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        refuse(".acme.directory", "is no `https` URL", "write the URL of the server's directory");
    } else if is_local(url) && acme.allow_private {
        refuse(".acme.allow_private", "the directory is on this machine", "remove it");
    }
    if !acme.agree_to_terms {
        let hint = "read the terms of service that the directory names, then write `agree_to_terms: true`";
        refuse(".acme.agree_to_terms", "the terms of service are not agreed to", hint);
    }
    if acme
        .contact
        .iter()
        .any(|one| !one.starts_with("mailto:") || !one.contains('@') || one.contains([',', '?']))
    {
        refuse(".acme.contact", "is no list of `mailto:` addresses", "write `mailto:ops@example.com`");
    }
}

fn names(acme: &AcmeSection, refuse: &mut impl FnMut(&str, &str, &str)) {
    let good = |name: &str| {
        let label = |label: &str| {
            let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        name.len() <= 253 && !number && name.split('.').all(label)
    };
    let hint = "write host names in small letters; a wildcard needs `dns-01`, which is not here";
    if acme.domains.is_empty() || acme.domains.len() > DOMAINS_MAX {
        refuse(".acme.domains", "names nothing, or more than a hundred hosts", hint);
    } else if let Some(bad) = acme.domains.iter().find(|name| !good(name)) {
        refuse(".acme.domains", &format!("`{bad}` is no host name"), hint);
    }
}
