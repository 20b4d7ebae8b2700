//! Routes over several servers: `/mcp` and the virtual servers, from configuration to what the data plane serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use portcullis_catalog::{Catalog, Trust};
use portcullis_config::{PatternText, Settings, VirtualServer};
use portcullis_connect::cursor::Cursors;
use portcullis_core::Digest;
use portcullis_mcp::alias::Prefix;
use portcullis_net::tls::ClientTls;
use portcullis_policy::Pattern;
use portcullis_proxy::{
    aggregate::{Bounds, Group, Member, ROOT, Selection},
    rules::Server,
    settings::{OutputSchema, ServerSettings, Transport},
};
use portcullis_upstream::Upstream;

use super::{
    compile::{World, catalog_parts},
    judge::{Found, mistake},
};

/// The names of the routes over several servers.
pub(crate) fn names(settings: &Settings) -> impl Iterator<Item = &str> {
    let root = settings.aggregate.enabled.then_some(ROOT);
    settings.virtual_servers.keys().map(String::as_str).chain(root)
}

/// Compiles them.
///
/// # Errors
/// A server that was added at run time has the name of one of them.
pub(super) fn groups(
    settings: &Settings,
    world: &World,
    servers: &BTreeMap<String, Arc<Server>>,
) -> Result<BTreeMap<String, Arc<Server>>, Found> {
    let taken = names(settings).filter(|name| servers.contains_key(*name)).map(|name| {
        let message = format!("`{name}` is a server already, added at run time");
        mistake(format!("virtual_servers.{name}"), message, "choose another name, or remove the server")
    });
    let taken: Found = taken.collect();
    if !taken.is_empty() {
        return Err(taken);
    }
    let mut groups = BTreeMap::new();
    for (name, section) in &settings.virtual_servers {
        let members = section.servers().into_iter().map(|server| (server, selection(section, server)));
        groups.insert(
            name.clone(),
            group(name, section.description.clone(), members.collect(), settings, world, servers),
        );
    }
    if settings.aggregate.enabled {
        let named = &settings.aggregate.servers;
        let named: BTreeSet<&str> = named.iter().map(String::as_str).collect();
        let all = || servers.keys().map(String::as_str).collect();
        let members = if named.is_empty() { all() } else { named };
        let members = members.into_iter().map(|server| (server, everything())).collect();
        let description = settings.aggregate.description.clone();
        groups.insert(ROOT.to_owned(), group(ROOT, description, members, settings, world, servers));
    }
    Ok(groups)
}

fn group(
    name: &str,
    description: Option<String>,
    selected: Vec<(&str, Selection)>,
    settings: &Settings,
    world: &World,
    servers: &BTreeMap<String, Arc<Server>>,
) -> Arc<Server> {
    let mut seen = BTreeSet::<Prefix>::new();
    let mut members = Vec::new();
    for (server, selection) in selected {
        if !servers.contains_key(server) {
            tracing::warn!(route = name, server, "a route over several servers names one that is not there");
        }
        let prefix = settings.aggregate.prefix(server);
        // The file was checked for this; a server that was added at run time is left out, loudly.
        if !seen.insert(prefix.clone()) {
            tracing::error!(route = name, server, %prefix, "another server of the route has the prefix: left out");
            continue;
        }
        members.push(Member::new(Arc::from(server), prefix, selection));
    }
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let bounds = Bounds {
        page_size: size(settings.aggregate.page_size.0),
        name_bytes_max: size(settings.aggregate.name_bytes_max.0),
        member_timeout_ms: settings.aggregate.member_timeout_ms.0,
    };
    let cursors = Cursors::new(world.index().expose());
    let name: Arc<str> = Arc::from(name);
    Arc::new(Server {
        settings: ServerSettings {
            tls: ClientTls::default(),
            transport: Transport::Group,
            trust: Trust::Review,
            // What comes outside of a call is no server's business to ask.
            server_requests: BTreeSet::new(),
            // Beyond the specification a method has one server that answers it: it has its own route.
            methods: BTreeSet::new(),
            extensions: BTreeSet::new(),
            output_schema: OutputSchema::Refuse,
            digest: Digest::of(name.as_bytes()),
        },
        upstream: Upstream::Group,
        catalog: Catalog::new(Arc::clone(&name), Trust::Review, catalog_parts(world)),
        authorization: None,
        group: Some(Box::new(Group::new(description, bounds, cursors, members))),
        name,
    })
}

fn selection(section: &VirtualServer, server: &str) -> Selection {
    let patterns = |part: &BTreeMap<String, Vec<PatternText>>| {
        let texts = part.get(server).into_iter().flatten();
        texts.filter_map(|text| text.0.parse::<Pattern>().ok()).collect()
    };
    Selection {
        tools: patterns(&section.tools),
        prompts: patterns(&section.prompts),
        resources: patterns(&section.resources),
    }
}

fn everything() -> Selection {
    let all = || "*".parse::<Pattern>().into_iter().collect::<Vec<_>>();
    Selection { tools: all(), prompts: all(), resources: all() }
}
