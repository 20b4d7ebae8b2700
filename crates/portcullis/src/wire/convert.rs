//! From sections of the configuration to what detectors and authentication take.

use portcullis_connect::auth::{AuthSettings, JwksSource, JwtIssuer};
use portcullis_core::CallerKind;
use portcullis_inspect::InspectSettings;

use crate::config::{Jwt, JwtKind, RoleName, Settings, Treatment};

/// What each detector does: its own defaults, and what the file says instead.
pub(super) fn inspect(settings: &Settings) -> InspectSettings {
    let mut all = InspectSettings::default();
    for (name, section) in &settings.inspect {
        if let Some(detector) = all.detectors.get_mut(&name.0) {
            detector.enabled = section.enabled;
            detector.arguments = section.arguments.map_or(detector.arguments, treatment);
            detector.answers = section.answers.map_or(detector.answers, treatment);
        }
    }
    all
}

const fn treatment(treatment: Treatment) -> portcullis_core::Treatment {
    match treatment {
        Treatment::Mask => portcullis_core::Treatment::Mask,
        Treatment::Pass => portcullis_core::Treatment::Pass,
        Treatment::Refuse => portcullis_core::Treatment::Refuse,
    }
}

/// Which ways to prove an identity are open.
pub(super) fn auth(settings: &Settings) -> AuthSettings {
    let identities = &settings.identities;
    AuthSettings {
        api_keys: identities.api_keys,
        issuers: identities.jwt.iter().map(issuer).collect(),
        anonymous_roles: identities.anonymous.as_ref().map(|anonymous| roles(&anonymous.roles)),
    }
}

fn issuer(section: &Jwt) -> JwtIssuer {
    let jwt = section.clone();
    JwtIssuer {
        issuer: jwt.issuer,
        audiences: jwt.audiences,
        algorithms: jwt.algorithms,
        // Exactly one of the two is given; that was checked when the section was read.
        jwks: match (jwt.jwks_url, jwt.jwks_file) {
            (Some(url), _) => JwksSource::Url(url),
            (None, file) => JwksSource::File(file.unwrap_or_default()),
        },
        roles_claim: jwt.roles_claim,
        role_map: jwt.role_map.into_iter().map(|(value, names)| (value, roles(&names))).collect(),
        default_roles: roles(&jwt.default_roles),
        kind: match jwt.kind {
            JwtKind::Service => CallerKind::Service,
            JwtKind::User => CallerKind::User,
        },
        claims: jwt.claims,
        require_typ_at_jwt: jwt.require_typ_at_jwt,
        leeway_s: jwt.leeway_s.0,
        max_lifetime_s: jwt.max_lifetime_s.0,
    }
}

fn roles(names: &[RoleName]) -> Vec<String> {
    names.iter().map(|name| name.0.clone()).collect()
}
