//! What is refused although it is well-formed: settings that would expose the gateway. `check` and `run` share it.

mod aggregate;
mod certificates;
mod dangers;
mod governance;
mod identities;
mod privacy;
mod recognisers;
mod secrets;
mod sinks;

use super::{
    authorization::AuthorizationSection,
    decode::{Setting, Walk, place},
    identities::Identities,
    mistake::ConfigMistake,
    sections::{Admin, Listen, Settings},
    values::is_local,
    yaml::{Key, Node, Value},
};

/// Everything that would expose the gateway.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: String, hint: &str| {
        out.push(ConfigMistake::new(place(root, key), key, message, hint));
    };
    let address = settings.listen.address;
    let open = !address.ip().is_loopback();
    if open && settings.listen.tls.is_none() {
        let message = format!("`{address}` is not a loopback address, and there is no TLS");
        refuse(
            "listen.address",
            message,
            "set `listen.tls` (or --tls-cert and --tls-key), or listen on 127.0.0.1",
        );
    }
    if open && settings.identities.anonymous.is_some() {
        let message = format!("`{address}` is not a loopback address, and anonymous callers are let in");
        refuse("identities.anonymous", message, "remove `identities.anonymous`, or listen on 127.0.0.1");
    }
    for (name, role) in &settings.roles {
        for (index, rule) in role.deny.iter().enumerate() {
            let named = [&rule.warn, &rule.ask, &rule.mask, &rule.drop, &rule.refuse, &rule.restore];
            let said = named.iter().any(|names| !names.is_empty());
            if said || rule.approval.is_some() {
                let message = String::from(
                    "a denial lets nothing through that could be marked, asked about, masked, refused or approved",
                );
                refuse(
                    &format!("roles.{name}.deny[{index}]"),
                    message,
                    "move `warn`, `ask`, `mask`, `drop`, `refuse`, `restore` and `approval` to a rule under `allow`",
                );
            }
        }
    }
    let admin = settings.admin.address;
    if !admin.ip().is_loopback() {
        let message = format!("`{admin}` is not a loopback address");
        refuse("admin.address", message, "listen on 127.0.0.1; reach it from elsewhere through SSH");
    }
    if admin == address && admin.port() != 0 {
        refuse("admin.address", format!("`{admin}` is the clients' address too"), "choose another port");
    }
    out.extend(identities::mistakes(settings, root));
    out.extend(
        [
            aggregate::mistakes(settings, root),
            certificates::mistakes(settings, root),
            governance::mistakes(settings, root),
            privacy::mistakes(settings, root),
            recognisers::mistakes(settings, root),
            secrets::mistakes(settings, root),
            sinks::mistakes(settings, root),
            connecting(settings, root),
            exchanging(settings, root),
        ]
        .concat(),
    );
    out
}

/// Users who connect to a server do so in a browser, with a cookie and a credential that nobody else may see.
fn connecting(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let public = settings.listen.public_url.as_ref();
    if public.is_none_or(|url| url.scheme() == "https" || is_local(url)) {
        return Vec::new();
    }
    let of_users = settings.servers.iter().filter(|(_, server)| server.of_users());
    let mistake = |name: &String| {
        let key = format!("servers.{name}.authorization");
        let message =
            "users connect in a browser, and `listen.public_url` is neither `https` nor on this machine";
        let hint = "set `listen.public_url` to the `https` URL under which browsers reach the gateway";
        ConfigMistake::new(place(root, &key), key, message, hint)
    };
    of_users.map(|(name, _)| mistake(name)).collect()
}

/// Tokens of callers can be exchanged where callers come with tokens of those issuers.
fn exchanging(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let known = |issuers: &[&str]| settings.identities.jwt.iter().any(|jwt| issuers.contains(&&*jwt.issuer));
    let never = settings.servers.iter().filter(|(_, server)| {
        let issuers = server.authorization().and_then(AuthorizationSection::exchanged_issuers);
        issuers.is_some_and(|issuers| !known(&issuers))
    });
    let mistake = |name: &String| {
        let key = format!("servers.{name}.authorization");
        let message =
            "no caller comes with a token that could be exchanged: `identities.jwt` has none of its issuers";
        let hint = "declare the issuer in `identities.jwt`, or write `subject_token`";
        ConfigMistake::new(place(root, &key), key, message, hint)
    };
    never.map(|(name, _)| mistake(name)).collect()
}

/// The sections that [`mistakes`] judges, as far as they can be read; the rest at its default.
pub(super) fn readable(root: &Node, walk: &Walk) -> Option<Settings> {
    let scratch = || Walk::new(walk.base.clone(), walk.roles.clone(), walk.recognisers.clone());
    let mut sections = Vec::new();
    for name in ["listen", "admin", "identities"] {
        let Some((key, Node { at, value: Value::Map(pairs) })) = root.get(name) else { continue };
        let part = |pairs: Vec<(Key, Node)>| Node { at: *at, value: Value::Map(pairs) };
        let good = |pair: &&(Key, Node)| {
            let (one, mut walk) = (part(vec![(*pair).clone()]), scratch());
            match name {
                "listen" => Listen::read(&one, &mut walk).is_some(),
                "admin" => Admin::read(&one, &mut walk).is_some(),
                _ => Identities::read(&one, &mut walk).is_some(),
            }
        };
        sections.push((key.clone(), part(pairs.iter().filter(good).cloned().collect())));
    }
    let pairs = sections;
    Settings::read(&Node { at: root.at, value: Value::Map(pairs) }, &mut scratch())
}
