//! What is refused although it is well-formed: settings that would expose the gateway. `check` and `run` share it.

use super::{
    decode::{Setting, Walk},
    mistake::{ConfigMistake, Place},
    sections::{Admin, Identities, Listen, Settings},
    yaml::{Node, Value},
};

/// The place of a dotted key, or of the nearest parent that is written.
fn place(root: &Node, path: &str) -> Place {
    let mut node = root;
    let mut at = Place::START;
    for key in path.split('.') {
        let Some((found, value)) = node.get(key) else { break };
        at = found.at;
        node = value;
    }
    at
}

/// Everything that would expose the gateway.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: String, hint: &str| {
        out.push(ConfigMistake::new(place(root, key), key, message, hint));
    };
    let address = settings.listen.address;
    let open = !address.ip().is_loopback();
    let identities = &settings.identities;
    if open && settings.listen.tls.is_none() {
        let message = format!("`{address}` is not a loopback address, and there is no TLS");
        refuse(
            "listen.address",
            message,
            "set `listen.tls` (or --tls-cert and --tls-key), or listen on 127.0.0.1",
        );
    }
    if open && identities.anonymous.is_some() {
        let message = format!("`{address}` is not a loopback address, and anonymous callers are let in");
        refuse("identities.anonymous", message, "remove `identities.anonymous`, or listen on 127.0.0.1");
    }
    if !identities.api_keys && identities.jwt.is_empty() && identities.anonymous.is_none() {
        let message = String::from("nobody can prove who they are: there is no way to authenticate");
        refuse(
            "identities",
            message,
            "set `identities.api_keys: true` or add an issuer under `identities.jwt`",
        );
    }
    let admin = settings.admin.address;
    if !admin.ip().is_loopback() {
        let message = format!("`{admin}` is not a loopback address");
        refuse("admin.address", message, "listen on 127.0.0.1; reach it from elsewhere through SSH");
    }
    if admin == address && admin.port() != 0 {
        refuse("admin.address", format!("`{admin}` is the clients' address too"), "choose another port");
    }
    out
}

/// The sections that [`mistakes`] judges, as far as they can be read; the rest at its default.
pub(super) fn readable(root: &Node, walk: &Walk) -> Option<Settings> {
    let scratch = || Walk::new(walk.base.clone(), walk.roles.clone());
    let mut pairs = Vec::new();
    for name in ["listen", "admin", "identities"] {
        let Some((key, node)) = root.get(name) else { continue };
        let mut walk = scratch();
        let good = match name {
            "listen" => Listen::read(node, &mut walk).is_some(),
            "admin" => Admin::read(node, &mut walk).is_some(),
            _ => Identities::read(node, &mut walk).is_some(),
        };
        if good {
            pairs.push((key.clone(), node.clone()));
        }
    }
    Settings::read(&Node { at: root.at, value: Value::Map(pairs) }, &mut scratch())
}
