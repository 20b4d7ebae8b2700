//! Several servers behind one route: `/mcp`, and the virtual servers.

use std::collections::BTreeMap;

use portcullis_mcp::alias::Prefix;

use super::{
    decode::section,
    primitives::Bounded,
    values::{PatternText, PrefixText},
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
    pub fn prefix(&self, server: &str) -> Prefix {
        let chosen = self.prefixes.get(server).and_then(|prefix| Prefix::new(&prefix.0));
        chosen.unwrap_or_else(|| Prefix::of_server(server))
    }
}

impl VirtualServer {
    /// The servers that it takes anything from.
    pub fn servers(&self) -> Vec<&str> {
        let parts = [&self.tools, &self.prompts, &self.resources];
        let mut names: Vec<&str> = parts.into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
