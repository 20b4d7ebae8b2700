//! `subscriptions/listen` of a client of the newer revision, on the stream of a session of the older one.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::{
    bridge::{Filter, answer_to_server, for_listener},
    jsonrpc::Shape,
    sse,
};

use super::{
    Crossing, Unwanted,
    legacy_client::URI_BYTES_MAX,
    link::Link,
    parse,
    pool::{Pool, Said},
};
use portcullis_upstream::{Bridged, Events, NextEvent, Reply, Upstream};

/// Resources that one listener may name.
const URIS_MAX: usize = 256;

/// Opens a session for the listener, so that its changes are its own, and listens there.
pub(super) async fn listen(crossing: &Crossing<'_>, pool: &Pool) -> Result<Reply, Refusal> {
    let (id, limits) = (crossing.id(), crossing.limits);
    let asked = Filter::of(crossing.message.params());
    if asked.uris.len() > URIS_MAX || asked.uris.iter().any(|uri| uri.len() > URI_BYTES_MAX) {
        let what = format!("more than {URIS_MAX} resources in one subscription, or too long a URI");
        return Err(Refusal::new(Code::RequestTooLarge, what.clone()).saying(what));
    }
    // As its calls do, so that a process that is its own is the same one.
    let said = Said::of(crossing);
    let params = match &crossing.server.upstream {
        Upstream::Stdio(_) => pool.link(crossing, &said).await?.1.params.clone(),
        Upstream::Group | Upstream::Http(_) => said.params,
    };
    let link = Arc::new(Link::open(crossing.server, &crossing.behalf, "listener", &params, limits).await?);
    let capabilities = link.initialized.result().and_then(|result| result.get("capabilities"));
    let mut filter = capabilities.map(|offered| asked.offered(&offered)).unwrap_or_default();
    let events = link.changes(limits).await?;
    if events.is_none() {
        filter = Filter::default();
    }
    let mut told = Vec::new();
    for uri in &filter.uris {
        if link.subscribe(uri, limits).await? {
            told.push(uri.clone());
        }
    }
    filter.uris = told.into_iter().collect();
    let ready = VecDeque::from([filter.acknowledgement(&id)]);
    let listener = Listener { ready, events, filter, id, link, unwanted: Arc::clone(crossing.unwanted) };
    Ok(Reply::Stream { events: Events::Bridged(Box::new(listener)), session: None })
}

/// A listener.
#[derive(Debug)]
struct Listener {
    ready: VecDeque<Bytes>,
    events: Option<Events>,
    filter: Filter,
    /// The id of the listening request, which names the subscription (JSON text).
    id: Bytes,
    /// The session ends with its listener.
    link: Arc<Link>,
    unwanted: Arc<Unwanted>,
}

impl Listener {
    async fn advance(&mut self, limits: &Limits) -> Result<Option<sse::Event>, Refusal> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(sse::Event::message(bytes)));
            }
            let Some(events) = self.events.as_mut() else {
                // A server without a stream tells nothing, which was acknowledged.
                return std::future::pending().await;
            };
            let Some(event) = events.next(limits, true).await? else { return Ok(None) };
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            let message = parse(data, limits)?;
            match (message.shape(), message.id()) {
                (Shape::Request, Some(id)) if message.method_name().as_deref() == Some("ping") => {
                    self.link.answer(0, answer_to_server(id.raw(), b"{}")).await?;
                }
                (Shape::Request, Some(id)) => {
                    // Nobody here can be asked: a question belongs to a call.
                    self.unwanted.note(&message, Code::BridgeUntranslatable);
                    self.link.decline(0, id.raw()).await;
                }
                (Shape::Notification, _) => match for_listener(&message, &self.filter, &self.id) {
                    Some(bytes) => return Ok(Some(sse::Event::message(bytes))),
                    None => self.unwanted.note(&message, Code::BridgeUnwanted),
                },
                (Shape::Error | Shape::Request | Shape::Response, _) => {}
            }
        }
    }
}

impl Bridged for Listener {
    fn next<'a>(&'a mut self, limits: &'a Limits) -> NextEvent<'a> {
        Box::pin(self.advance(limits))
    }
}
