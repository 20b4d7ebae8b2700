//! Lists are answered from the pinned catalogue, complete on one page, with only what the caller may use.

use std::sync::Arc;

use bytes::Bytes;
use portcullis_catalog::Made;
use portcullis_core::{Code, Refusal, TargetKind};
use portcullis_mcp::{answer::list_members, json::quote, revision::Era};

use super::{Armed, Exchange};
use crate::{gateway::Gateway, rules::Rules, stages::authorize};

/// How long the list of a server that states no `ttlMs` is served from the catalogue. Such a server says itself when
/// its list changed, or it is asked again soon.
pub(super) const UNSTATED_MS: u64 = 5_000;

pub(super) async fn answer(
    gateway: &Gateway,
    rules: &Rules,
    armed: &Armed,
    kind: TargetKind,
) -> Result<Exchange, Refusal> {
    let request = armed.message().ok_or_else(|| Refusal::new(Code::Internal, "a list without a message"))?;
    if request.params().is_some_and(|params| params.get("cursor").is_some_and(|cursor| !cursor.is_null())) {
        return Err(
            Refusal::new(Code::RequestMeta, "a cursor that was never given out").saying("unknown cursor")
        );
    }
    let (server, limits) = (armed.server(), &rules.limits);
    if !server.catalog.is_fresh(kind, UNSTATED_MS, limits.catalog_refresh_ms) {
        let kinds = std::slice::from_ref(&kind);
        server.catalog.freshen(&server.upstream, kinds, Some(&armed.behalf()), limits).await?;
    }
    server.catalog.judge_again(limits.definition_entries_max).await?;
    let caller = &armed.recorded.inspected.permitted.caller;
    let call = &armed.recorded.inspected.permitted.valid.aimed.call;
    let context = call.context(gateway.clock.now());
    let state = server.catalog.state();
    let shown = authorize::shown(rules, caller, kind, (&server.name, &state), &context);
    let made = Made {
        kind,
        era: armed.era(),
        ttl_ms: server.catalog.ttl_ms(kind, UNSTATED_MS).min(limits.catalog_refresh_ms),
        down: Vec::new(),
        parts: vec![(Arc::clone(&state), Arc::clone(&shown))],
    };
    let list = server.catalog.lists.of(made, |made| {
        let items = state.list(kind).zip(shown.iter()).filter(|(_, shown)| **shown);
        render(made, &Page { items: items.map(|(item, _)| item.raw.clone()).collect(), next: None })
    });
    let id = request.id().map(|id| id.raw().clone()).unwrap_or_default();
    Ok(Exchange::list(&id, list))
}

/// One page of a list.
#[derive(Default)]
pub(super) struct Page {
    pub(super) items: Vec<Bytes>,
    /// The cursor of the page behind it.
    pub(super) next: Option<String>,
}

/// The answer to a list, from behind the id of its request.
pub(super) fn render(Made { kind, era, ttl_ms, down, .. }: &Made, page: &Page) -> Bytes {
    let (member, _) = list_members(*kind);
    let mut out = Vec::with_capacity(256 + page.items.iter().map(|item| item.len() + 1).sum::<usize>());
    out.extend_from_slice(br#","result":{"#);
    if *era == Era::Modern {
        // Filtered per caller, so never to be shared between callers (2026-07-28, caching).
        out.extend_from_slice(
            format!(r#""resultType":"complete","ttlMs":{ttl_ms},"cacheScope":"private","#).as_bytes(),
        );
    }
    if !down.is_empty() {
        let down = format!(r#""_meta":{{"dev.portcullis/unavailable":[{}]}},"#, down.join(","));
        out.extend_from_slice(down.as_bytes());
    }
    if let Some(next) = &page.next {
        out.extend_from_slice(format!(r#""nextCursor":{},"#, quote(next)).as_bytes());
    }
    out.extend_from_slice(format!(r#""{member}":["#).as_bytes());
    for (index, item) in page.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.extend_from_slice(b"]}}");
    Bytes::from(out)
}
