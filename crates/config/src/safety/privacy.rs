//! Rules about data that cannot take effect.

use portcullis_core::Label;

use crate::{decode::place, mistake::ConfigMistake, sections::Settings, yaml::Node};

impl Settings {
    /// Whether anything can ever be found or declared to be such data.
    fn can_be(&self, label: Label) -> bool {
        let declared = |all: &Vec<Label>| all.contains(&label);
        let inspect = self.compiled_inspect();
        let found = |name: &str| {
            inspect.labels_of(name).has(label)
                && inspect.detectors.get(name).is_none_or(|detector| detector.enabled)
        };
        inspect.names().into_iter().any(found)
            || self.servers.values().any(|server| server.facts.labels.values().any(declared))
    }
}

/// What is wrong with them.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: String, hint: &str| {
        out.push(ConfigMistake::new(place(root, key), key, message, hint));
    };
    for (label, section) in settings.privacy.residency.iter() {
        let key = format!("privacy.residency.{}", label.name());
        if section.regions.is_empty() {
            refuse(&key, "names no region, so that no server and no caller gets it".into(), "name `regions`");
        } else if !settings.can_be(label) {
            let message = format!(
                "cannot take effect: nothing finds {} data, and no tool is labelled so",
                label.name()
            );
            refuse(
                &key,
                message,
                "enable a detector under `inspect`, or label tools under `servers.NAME.labels`",
            );
        }
    }
    for (name, server) in &settings.servers {
        let key = format!("servers.{name}.replicas");
        for (index, replica) in server.replicas.iter().enumerate() {
            let other = settings.servers.get(replica);
            if replica == name || server.replicas.iter().take(index).any(|before| before == replica) {
                refuse(&key, format!("`{replica}` is named already"), "name each other server once");
            } else if other.is_none() {
                refuse(&key, format!("there is no server `{replica}`"), "declare it under `servers`");
            } else if other.is_some_and(|other| !other.replicas.is_empty()) {
                let hint = "name all replicas at one of the servers, and call that one";
                refuse(&key, format!("`{replica}` has replicas of its own"), hint);
            }
        }
    }
    let builtin = portcullis_policy::builtin_roles();
    let known =
        |role: &String| settings.roles.contains_key(role) || builtin.iter().any(|one| one.name == *role);
    for role in settings.privacy.caller_regions.keys().filter(|role| !known(role)) {
        let key = format!("privacy.caller_regions.{role}");
        refuse(&key, format!("unknown role `{role}`"), "declare it under `roles`");
    }
    let claims = settings.identities.jwt.iter().flat_map(|jwt| &jwt.claims);
    if let Some(claim) = &settings.privacy.region_claim
        && !claims.into_iter().any(|known| known == claim)
    {
        let message = format!("no issuer lets policies read the claim `{claim}`");
        refuse("privacy.region_claim", message, "list it under `identities.jwt[].claims`");
    }
    out
}
