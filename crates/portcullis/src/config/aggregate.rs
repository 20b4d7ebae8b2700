//! Several servers behind one route: `/mcp`, and the virtual servers.

use std::collections::BTreeMap;

use portcullis_mcp::alias::Prefix;
use portcullis_mcp::alias::ROOT;

use super::{
    decode::section,
    mistake::ConfigMistake,
    primitives::Bounded,
    safety,
    sections::Settings,
    values::{NAME_HINT, PatternText, PrefixText, is_name},
    yaml::Node,
};

section! {
    /// Many servers as one: the route `/mcp`. Tools and prompts are called `PREFIX__NAME` there, URIs start with
    /// `mcp://PREFIX/`. Policy speaks about the real servers and tools, and about `connect` to the server `aggregate`.
    Aggregate {
        /// Serve `/mcp`. Off by default: each server has its own route, where nothing is rewritten.
        enabled: bool = false;
        /// What the route is for, told to clients as instructions.
        description: Option<String>;
        /// Names of the servers behind the route. Default: all.
        servers: Vec<String>;
        /// Prefixes by server name, here and on virtual servers. Default: the server's name, shortened where it is long.
        prefixes: BTreeMap<String, PrefixText>;
        /// Longest name of a tool or prompt, in bytes, here and on virtual servers: hosts put a prefix of their own in
        /// front and take 64 characters in all.
        name_bytes_max: Bounded<40, 128> = Bounded(46);
        /// Entries on one page of a list, here and on virtual servers.
        page_size: Bounded<1, 10_000> = Bounded(1_000);
        /// How long a list waits for a server that has to be asked again, here and on virtual servers. What is pinned
        /// stands in for one that takes longer.
        member_timeout_ms: Bounded<10, 60_000> = Bounded(2_000);
    }
}

section! {
    /// A selection of things of several servers, with a route of its own. Each part is by server name; `*` in a name
    /// stands for any text. Policy speaks about the real servers and tools, and about `connect` to this name.
    VirtualServer {
        /// What it is for, told to clients as instructions.
        description: Option<String>;
        /// Names of tools.
        tools: BTreeMap<String, Vec<PatternText>>;
        /// Names of prompts.
        prompts: BTreeMap<String, Vec<PatternText>>;
        /// Resource URIs and URI templates.
        resources: BTreeMap<String, Vec<PatternText>>;
    }
}

impl Aggregate {
    /// What the things of a server are exposed under.
    pub(crate) fn prefix(&self, server: &str) -> Prefix {
        let chosen = self.prefixes.get(server).and_then(|prefix| Prefix::new(&prefix.0));
        chosen.unwrap_or_else(|| Prefix::of_server(server))
    }
}

impl VirtualServer {
    /// The servers that it takes anything from.
    pub(crate) fn servers(&self) -> Vec<&str> {
        let parts = [&self.tools, &self.prompts, &self.resources];
        let mut names: Vec<&str> = parts.into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Routes that could be taken for each other, and selections of nothing.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: &str, message: String, hint: &str| {
        out.push(ConfigMistake::new(safety::place(root, key), key, message, hint));
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
