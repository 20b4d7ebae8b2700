//! Routes over several servers: what cannot be told apart, or leads nowhere.

use std::collections::BTreeMap;

use portcullis_mcp::alias::{Prefix, ROOT};

use crate::{
    aggregate::Aggregate,
    decode::place,
    mistake::ConfigMistake,
    sections::Settings,
    values::{NAME_HINT, is_name},
    yaml::Node,
};

/// Routes that could be taken for each other, and selections of nothing.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: String, hint: &str| {
        out.push(ConfigMistake::new(place(root, key), key, message, hint));
    };
    let aggregate = &settings.aggregate;
    if aggregate.enabled && settings.servers.contains_key(ROOT) {
        let message = format!("`{ROOT}` is the name of the route `/mcp`");
        refuse(&format!("servers.{ROOT}"), message, "choose another name for the server");
    }
    for (name, one) in &settings.virtual_servers {
        let key = format!("virtual_servers.{name}");
        if !is_name(name) {
            refuse(&key, format!("`{name}` cannot name a server: the name is part of its URL"), NAME_HINT);
        } else if name == ROOT {
            refuse(&key, format!("`{ROOT}` is the name of the route `/mcp`"), "choose another name");
        } else if settings.servers.contains_key(name) {
            refuse(&key, format!("`{name}` is a server already"), "choose another name");
        }
        if one.servers().is_empty() {
            refuse(&key, String::from("selects nothing"), "name tools: `tools: {SERVER: [NAME, …]}`");
        }
        shared_prefix(aggregate, &one.servers(), &key, &mut refuse);
    }
    let all: Vec<&str> = settings.servers.keys().map(String::as_str).collect();
    let named: Vec<&str> = aggregate.servers.iter().map(String::as_str).collect();
    if aggregate.enabled {
        shared_prefix(aggregate, if named.is_empty() { &all } else { &named }, "aggregate", &mut refuse);
    }
    out
}

fn shared_prefix(
    aggregate: &Aggregate,
    servers: &[&str],
    key: &str,
    refuse: &mut impl FnMut(&str, String, &str),
) {
    let mut seen: BTreeMap<Prefix, &str> = BTreeMap::new();
    for server in servers {
        if let Some(other) = seen.insert(aggregate.prefix(server), server).filter(|other| other != server) {
            let message = format!("`{other}` and `{server}` have one prefix");
            refuse(key, message, "give each its own under `aggregate.prefixes`");
        }
    }
}
