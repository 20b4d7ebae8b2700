//! From sections of the configuration to what detectors and authentication take.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use portcullis_config::{self as config, Jwt, JwtKind, PatternText, RoleName, Settings};
use portcullis_connect::{
    Reach,
    auth::{self, AuthSettings, Bound, CertificateRule, IssuerDown, JwksSource, JwtIssuer, Preset, Route},
};
use portcullis_core::{CallerKind, TargetKind};
use portcullis_policy::{Pattern, ScopeRules, StepUp};
use portcullis_secrets::Broker;

/// Which ways to prove an identity are open. Reads the authorities of issuers and the secrets for them.
///
/// # Errors
/// What cannot be read.
pub(super) fn auth(settings: &Settings, broker: &Broker) -> Result<AuthSettings, String> {
    let identities = &settings.identities;
    let certificates = identities.certificates.iter().map(|one| CertificateRule {
        name: one.name.0.clone(),
        roles: roles(&one.roles),
        kind: kind(one.kind),
    });
    Ok(AuthSettings {
        api_keys: identities.api_keys,
        issuers: identities.jwt.iter().map(|jwt| issuer(jwt, broker)).collect::<Result<_, _>>()?,
        anonymous_roles: identities.anonymous.as_ref().map(|anonymous| roles(&anonymous.roles)),
        certificates: certificates.collect(),
        dpop_nonces: identities.dpop_nonces,
    })
}

fn issuer(section: &Jwt, broker: &Broker) -> Result<JwtIssuer, String> {
    let jwt = section.clone();
    let preset = jwt.preset.map(preset);
    let roots_pem = jwt.ca.as_deref().map(read).transpose()?.into_iter().collect();
    Ok(JwtIssuer {
        issuer: jwt.issuer,
        audiences: jwt.audiences,
        algorithms: jwt.algorithms,
        // At most one of the two is given; that was checked when the section was read.
        jwks: match (jwt.jwks_url, jwt.jwks_file) {
            (Some(url), _) => JwksSource::Url(url),
            (None, Some(file)) => JwksSource::File(file),
            (None, None) => JwksSource::Discovered,
        },
        roles_claim: jwt.roles_claim.or_else(|| preset.map(|preset| preset.roles_claim().to_owned())),
        role_map: jwt.role_map.into_iter().map(|(value, names)| (value, roles(&names))).collect(),
        default_roles: roles(&jwt.default_roles),
        kind: kind(jwt.kind),
        claims: jwt.claims,
        require_typ_at_jwt: jwt.require_typ_at_jwt,
        leeway_s: jwt.leeway_s.0,
        max_lifetime_s: jwt.max_lifetime_s.0,
        preset,
        introspection: jwt.introspection.as_ref().map(|asked| introspection(asked, broker)).transpose()?,
        reach: Reach { allow_private: jwt.allow_private, roots_pem },
    })
}

fn introspection(section: &config::Introspection, broker: &Broker) -> Result<auth::Introspection, String> {
    Ok(auth::Introspection {
        url: section.url.clone(),
        client_id: section.client_id.clone(),
        client_secret: broker.known(&section.client_secret)?,
        cache_s: section.cache_s.0,
        tokens: match section.tokens {
            config::Introspected::All => auth::Introspected::All,
            config::Introspected::Opaque => auth::Introspected::Opaque,
        },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    config::read_bounded(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}

const fn kind(kind: JwtKind) -> CallerKind {
    match kind {
        JwtKind::Service => CallerKind::Service,
        JwtKind::User => CallerKind::User,
    }
}

const fn preset(preset: config::Preset) -> Preset {
    match preset {
        config::Preset::Auth0 => Preset::Auth0,
        config::Preset::Entra => Preset::Entra,
        config::Preset::Google => Preset::Google,
        config::Preset::Keycloak => Preset::Keycloak,
        config::Preset::Okta => Preset::Okta,
    }
}

/// How routes let callers in, where that is not the default; `resource` says where each is.
///
/// # Errors
/// Routes on which an opaque token could be of more than one issuer.
pub(super) fn access(
    settings: &Settings,
    issuers: &[JwtIssuer],
    resource: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, Arc<Route>>, String> {
    let mut routes = BTreeMap::new();
    for (name, section) in &settings.identities.routes {
        let issuers = (!section.issuers.is_empty()).then(|| section.issuers.iter().cloned().collect());
        let route = Route {
            resource: resource(name),
            issuers,
            audiences: section.audiences.clone(),
            scopes: section.scopes.iter().map(|scope| scope.0.clone()).collect(),
            bound: match section.bound_tokens {
                config::BoundTokens::Any => Bound::Any,
                config::BoundTokens::Certificate => Bound::Certificate,
                config::BoundTokens::Dpop => Bound::Dpop,
                config::BoundTokens::Required => Bound::Required,
            },
            issuer_down: match section.issuer_down {
                config::IssuerDown::KnownKeys => IssuerDown::KnownKeys,
                config::IssuerDown::Refuse => IssuerDown::Refuse,
            },
        };
        routes.insert(name.clone(), Arc::new(route));
    }
    let default = Route::at("");
    let mut names: Vec<&str> = super::groups::names(settings).collect();
    names.extend(settings.servers.keys().map(String::as_str));
    if settings.servers.is_empty() {
        names.push(super::judge::SAMPLE);
    }
    for name in names {
        if auth::is_ambiguous(issuers, routes.get(name).map_or(&default, AsRef::as_ref)) {
            return Err(format!(
                "on route `{name}` an opaque token could be of more than one issuer, and must not be shown to another; \
                 name one of them in `identities.routes.{name}.issuers`"
            ));
        }
    }
    Ok(routes)
}

/// The scopes that calls need, by server or route.
pub(super) fn scopes(settings: &Settings) -> BTreeMap<String, ScopeRules> {
    let texts = |scopes: &[config::ScopeText]| scopes.iter().map(|scope| scope.0.clone()).collect::<Vec<_>>();
    let step = |section: &config::StepUp| {
        let part = |kind: TargetKind, names: &[PatternText]| {
            let patterns = names.iter().filter_map(|text| text.0.parse::<Pattern>().ok());
            patterns.map(move |pattern| (kind, pattern)).collect::<Vec<_>>()
        };
        let items = [
            part(TargetKind::Tool, &section.tools),
            part(TargetKind::Prompt, &section.prompts),
            part(TargetKind::Resource, &section.resources),
        ];
        StepUp { actions: section.actions.clone(), items: items.concat(), scopes: texts(&section.scopes) }
    };
    let sections = settings.identities.routes.iter();
    let with = sections.filter(|(_, access)| !access.scopes.is_empty() || !access.step_up.is_empty());
    with.map(|(name, access)| {
        let rules =
            ScopeRules { every: texts(&access.scopes), step_up: access.step_up.iter().map(step).collect() };
        (name.clone(), rules)
    })
    .collect()
}

fn roles(names: &[RoleName]) -> Vec<String> {
    names.iter().map(|name| name.0.clone()).collect()
}
