//! Lists of a route over several servers: the pinned catalogues one behind the other, each under its prefix, with only
//! what the caller may use. What is shared between callers is made before anybody is asked who asks.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use portcullis_catalog::{List, Made};
use portcullis_connect::cursor::{Holder, Position};
use portcullis_core::{Action, Caller, Code, Limits, Refusal, Target, TargetKind};
use portcullis_mcp::json::quote;
use portcullis_policy::RequestContext;
use tokio::time::timeout;

use super::{
    Armed, Exchange,
    list::{Page, UNSTATED_MS, render},
};
use crate::{
    aggregate::{Exposed, Face, Group, Member},
    gateway::Gateway,
    rules::{Rules, Server},
    stages::authorize,
};

pub(super) async fn answer(
    gateway: &Gateway,
    rules: &Rules,
    armed: &Armed,
    group: &Group,
    kind: TargetKind,
) -> Result<Exchange, Refusal> {
    let request = armed.message().ok_or_else(|| Refusal::new(Code::Internal, "a list without a message"))?;
    let caller = &armed.recorded.inspected.permitted.caller;
    let holder = Holder { caller: &caller.id, route: &armed.server().name, kind };
    let now = gateway.clock.now();
    let unknown = || {
        Refusal::new(Code::RequestMeta, "a cursor that was not given to this caller, or long ago")
            .saying("unknown cursor")
    };
    let cursor = request.params().and_then(|params| params.get("cursor")).filter(|cursor| !cursor.is_null());
    let from = match cursor {
        None => None,
        Some(cursor) => {
            let text = cursor.as_str().ok_or_else(unknown)?;
            Some(group.cursors.open(holder, &text, now).ok_or_else(unknown)?)
        }
    };
    let down = ask(rules, group, kind).await;
    for server in group.members().iter().filter_map(|member| rules.servers.get(&*member.server)) {
        server.catalog.judge_again(rules.limits.definition_entries_max).await?;
    }
    let call = &armed.recorded.inspected.permitted.valid.aimed.call;
    let context = call.context(now);
    let seen: Vec<Option<Seen>> = group
        .members()
        .iter()
        .map(|member| {
            let server = rules.servers.get(&*member.server)?;
            let face = member.face(&server.catalog, group.bounds.name_bytes_max);
            let shown = authorize::shown(rules, caller, kind, (&server.name, face.state()), &context);
            Some(Seen { face, shown })
        })
        .collect();
    let down = down.iter().filter(|name| connects(rules, caller, name, &context)).map(|name| quote(name));
    let made = Made {
        kind,
        era: armed.era(),
        ttl_ms: ttl_ms(rules, group, kind),
        down: down.collect(),
        parts: seen
            .iter()
            .flatten()
            .map(|seen| (Arc::clone(seen.face.state()), Arc::clone(&seen.shown)))
            .collect(),
    };
    let seal = |position: &Position| group.cursors.seal(holder, position, now);
    let id = request.id().map(|id| id.raw().clone()).unwrap_or_default();
    // Only what is complete on one page is the same for everybody who is shown the same.
    let complete =
        from.is_none() && seen.iter().flatten().map(Seen::count).sum::<usize>() <= group.bounds.page_size;
    let page = || page(group, kind, &seen, from.as_ref(), seal);
    let list = if complete {
        armed.server().catalog.lists.of(made, |made| render(made, &page().unwrap_or_default()))
    } else {
        let rest = render(&made, &page().ok_or_else(unknown)?);
        Arc::new(List::new(made, rest))
    };
    Ok(Exchange::list(&id, list))
}

/// What one server of the route exposes, and what of it a caller is shown.
struct Seen {
    face: Arc<Face>,
    shown: Arc<[bool]>,
}

impl Seen {
    fn shows(&self, entry: &Exposed) -> bool {
        self.shown.get(entry.place).copied().unwrap_or(false)
    }

    fn count(&self) -> usize {
        self.shown.iter().filter(|shown| **shown).count()
    }
}

/// Only who may know of a server is told that it cannot be reached.
fn connects(rules: &Rules, caller: &Caller, name: &Arc<str>, context: &RequestContext<'_>) -> bool {
    let target = Target { server: Arc::clone(name), item: None, digest: None };
    rules.policy.may_see(caller, Action::Connect, &target, context)
}

/// The entries behind `from`; nothing when its server is no part of the route any more.
fn page(
    group: &Group,
    kind: TargetKind,
    seen: &[Option<Seen>],
    from: Option<&Position>,
    seal: impl Fn(&Position) -> String,
) -> Option<Page> {
    let members = group.members();
    let first = match from {
        None => 0,
        Some(from) => members.iter().position(|member| member.prefix.as_str() == from.prefix)?,
    };
    let mut page = Page::default();
    let mut last = None;
    for (place, (member, seen)) in members.iter().zip(seen).enumerate().skip(first) {
        let Some(seen) = seen else { continue };
        let entries = seen.face.list(kind);
        let resumes = from.filter(|_| place == first);
        let skipped = resumes.map_or(0, |from| {
            let named = |entry: &Exposed| from.names(&entry.name);
            entries.iter().position(named).map_or(from.index, |index| index + 1)
        });
        for (index, entry) in entries.iter().enumerate().skip(skipped).filter(|(_, entry)| seen.shows(entry))
        {
            if page.items.len() >= group.bounds.page_size {
                page.next = last.map(|(member, index, entry): (&Member, usize, Arc<str>)| {
                    seal(&Position::new(member.prefix.as_str(), index, &entry))
                });
                return Some(page);
            }
            page.items.push(entry.bytes.clone());
            if page.items.len() == group.bounds.page_size {
                last = Some((member, index, Arc::clone(&entry.name)));
            }
        }
    }
    Some(page)
}

/// Asks again every server whose listing is too old, all at once. Returns those that could not be asked in time: their
/// pinned definitions stand in.
async fn ask(rules: &Rules, group: &Group, kind: TargetKind) -> Vec<Arc<str>> {
    let members = group.members().iter().filter(|member| member.selection.any(kind));
    let wait = Duration::from_millis(group.bounds.member_timeout_ms);
    let asked = members.filter_map(|member| {
        let server = rules.servers.get(&*member.server)?;
        Some(ask_one(member, server, kind, &rules.limits, wait))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask_one(
    member: &Member,
    server: &Arc<Server>,
    kind: TargetKind,
    limits: &Limits,
    wait: Duration,
) -> Option<Arc<str>> {
    if server.catalog.is_fresh(kind, UNSTATED_MS, limits.catalog_refresh_ms) {
        report(member, false, "");
        return None;
    }
    // The task outlives a call that waits no longer, so that a slow server is heard in the end; there is one at a time.
    if let Ok(asking) = Arc::clone(&member.asking).try_lock_owned() {
        let (server, limits) = (Arc::clone(server), limits.clone());
        tokio::spawn(async move {
            let _ = server.catalog.refresh(&server.upstream, TargetKind::ALL, &limits).await;
            drop(asking);
        });
    }
    // Whom it kept waiting before, it does not keep waiting again.
    let wait = if member.is_down() { Duration::ZERO } else { wait };
    let in_time = timeout(wait, member.asking.lock()).await.is_ok();
    let error = if in_time { server.catalog.error() } else { Some("no answer in time".to_owned()) };
    report(member, error.is_some(), error.as_deref().unwrap_or_default());
    error.map(|_| Arc::clone(&member.server))
}

fn report(member: &Member, down: bool, error: &str) {
    if !member.reports(down) {
        return;
    }
    let server = &*member.server;
    if down {
        tracing::warn!(
            server,
            error,
            "a server of a route over several cannot be asked; its pinned definitions stand in"
        );
    } else {
        tracing::info!(server, "a server of a route over several can be asked again");
    }
}

/// The least of what the servers state.
fn ttl_ms(rules: &Rules, group: &Group, kind: TargetKind) -> u64 {
    let servers = group.members().iter().filter_map(|member| rules.servers.get(&*member.server));
    let stated = servers.map(|server| server.catalog.ttl_ms(kind, UNSTATED_MS));
    stated.chain([rules.limits.catalog_refresh_ms]).min().unwrap_or_default()
}
