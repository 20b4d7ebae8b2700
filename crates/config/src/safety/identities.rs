//! Doors: those that stay open, and those that nobody can pass.

use portcullis_mcp::alias::ROOT;
use url::Url;

use crate::{
    decode::place,
    identities::{Access, BoundTokens, IssuerDown, Jwt},
    mistake::ConfigMistake,
    sections::{ClientCertificates, Settings, Tls},
    values::is_local,
    yaml::Node,
};

/// Everything in it that would expose the gateway, or could not take effect.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: &str, hint: &str| {
        out.push(ConfigMistake::new(place(root, key), key, message, hint));
    };
    let identities = &settings.identities;
    let asked = settings.listen.tls.as_ref().is_some_and(Tls::asks);
    if !identities.api_keys
        && identities.jwt.is_empty()
        && identities.anonymous.is_none()
        && identities.certificates.is_empty()
    {
        let hint = "set `identities.api_keys: true` or add an issuer under `identities.jwt`";
        refuse("identities", "nobody can prove who they are: there is no way to authenticate", hint);
    }
    for (index, jwt) in identities.jwt.iter().enumerate() {
        issuer(jwt, &format!("identities.jwt[{index}]"), &mut refuse);
    }
    let clients =
        "name the authorities of client certificates in `listen.tls.client_ca`, or write `listen.tls.spiffe`";
    if !identities.certificates.is_empty() && !asked {
        refuse("identities.certificates", "clients are not asked for certificates", clients);
    }
    if let Some(tls) = settings.listen.tls.as_ref().filter(|tls| tls.client_ca.is_none()) {
        // No list is read for the certificates of SPIFFE, which are good for hours.
        if !tls.client_crls.is_empty() {
            refuse("listen.tls.client_crls", "clients are not asked for certificates", clients);
        }
        if tls.client_certificates == ClientCertificates::Required && !tls.asks() {
            refuse("listen.tls.client_certificates", "there is no authority to check them with", clients);
        }
    }
    for (name, access) in &identities.routes {
        let key = format!("identities.routes.{name}");
        if access.bound_tokens == BoundTokens::Certificate && !asked {
            refuse(&format!("{key}.bound_tokens"), "clients are not asked for certificates", clients);
        }
        route(settings, name, access, &key, &mut refuse);
    }
    laxer(settings, &mut refuse);
    out
}

fn issuer(jwt: &Jwt, key: &str, refuse: &mut impl FnMut(&str, &str, &str)) {
    let safe = |url: &Url| url.scheme() == "https" || is_local(url);
    match (&jwt.jwks_file, &jwt.jwks_url) {
        (Some(_), Some(_)) => refuse(key, "has both `jwks_file` and `jwks_url`", "keep one of the two"),
        (None, None) if !Url::parse(&jwt.issuer).is_ok_and(|url| safe(&url)) => {
            let hint = "name the issuer's key set, or its issuer by an https URL to have it looked for there";
            refuse(key, "has neither `jwks_file` nor `jwks_url`, and the issuer is no address to ask", hint);
        }
        (None, None) | (Some(_), None) => {}
        (None, Some(url)) if safe(url) => {}
        (None, Some(_)) => {
            let message = "keys fetched over plain HTTP can be replaced on the way";
            refuse(&format!("{key}.jwks_url"), message, "use `https://`");
        }
    }
    let Some(asked) = &jwt.introspection else { return };
    if asked.url.as_ref().is_some_and(|url| !safe(url)) {
        let message = "tokens and a secret would be sent over plain HTTP";
        refuse(&format!("{key}.introspection.url"), message, "use `https://`");
    }
    if asked.client_secret.as_literal().is_some() {
        let message = "this is the place of a secret, and a configuration file is not";
        refuse(&format!("{key}.introspection.client_secret"), message, "write `env:NAME` or `file:PATH`");
    }
}

/// What one route says must be about something that is there.
fn route(
    settings: &Settings,
    name: &str,
    access: &Access,
    key: &str,
    refuse: &mut impl FnMut(&str, &str, &str),
) {
    let sample = settings.servers.is_empty() && name == "sample";
    let there = settings.servers.contains_key(name)
        || settings.virtual_servers.contains_key(name)
        || (name == ROOT && settings.aggregate.enabled);
    if !there && !sample {
        refuse(
            key,
            "there is no such route in this file",
            "name a server or virtual server, or `aggregate` for `/mcp`",
        );
    }
    for (index, issuer) in access.issuers.iter().enumerate() {
        if !settings.identities.jwt.iter().any(|jwt| jwt.issuer == *issuer) {
            let key = format!("{key}.issuers[{index}]");
            refuse(
                &key,
                &format!("`{issuer}` is no issuer under `identities.jwt`"),
                "write it exactly as there",
            );
        }
    }
    for (index, step) in access.step_up.iter().enumerate() {
        if step.scopes.is_empty() {
            refuse(
                &format!("{key}.step_up[{index}]"),
                "asks for nothing",
                "name scopes: `scopes: [billing:write]`",
            );
        }
    }
}

/// A route over several servers is a door to each of them: it must not let in whom their own doors keep out.
fn laxer(settings: &Settings, refuse: &mut impl FnMut(&str, &str, &str)) {
    let routes = &settings.identities.routes;
    let all = || settings.servers.keys().map(String::as_str).collect::<Vec<_>>();
    let named: Vec<&str> = settings.aggregate.servers.iter().map(String::as_str).collect();
    let mut groups: Vec<(&str, Vec<&str>)> =
        settings.virtual_servers.iter().map(|(name, group)| (name.as_str(), group.servers())).collect();
    if settings.aggregate.enabled {
        groups.push((ROOT, if named.is_empty() { all() } else { named }));
    }
    for (group, members) in groups {
        let own = routes.get(group);
        for (member, strict) in members.iter().filter_map(|member| Some((member, routes.get(*member)?))) {
            let bound = own.map_or(BoundTokens::Any, |own| own.bound_tokens);
            let bound = match strict.bound_tokens {
                BoundTokens::Any => true,
                BoundTokens::Required => bound != BoundTokens::Any,
                BoundTokens::Certificate | BoundTokens::Dpop => bound == strict.bound_tokens,
            };
            let issuers = own.map_or(&[][..], |own| &own.issuers);
            let narrow = strict.issuers.is_empty()
                || (!issuers.is_empty() && issuers.iter().all(|issuer| strict.issuers.contains(issuer)));
            let closed = strict.issuer_down == IssuerDown::KnownKeys
                || own.is_none_or(|own| own.issuer_down == IssuerDown::Refuse);
            if !(bound && narrow && closed) {
                let message = format!("leads to `{member}` and is laxer than `identities.routes.{member}`");
                let hint = "give it `issuers`, `bound_tokens` and `issuer_down` that are as strict";
                refuse(&format!("identities.routes.{group}"), &message, hint);
            }
        }
    }
}
