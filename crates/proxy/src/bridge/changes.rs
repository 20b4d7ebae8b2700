//! The stream of changes of a session of the older revision, on a `subscriptions/listen` of the newer one. What the
//! session subscribes to can change meanwhile; then the server is asked anew.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::{
    bridge::{Filter, Round, for_session, request_to_modern},
    jsonrpc::{Message, Shape},
    sse,
};
use tokio::sync::watch;

use super::{BridgedSession, Unwanted, modern_headers, parse, send_modern};
use crate::rules::Server;
use portcullis_upstream::{Bridged, Events, NextEvent, Reply};

const METHOD: &str = "subscriptions/listen";

/// Opens the stream; the server is asked once there is something to be told.
pub(super) fn open(
    server: &Arc<Server>,
    caller: &str,
    armed: &HeaderMap,
    session: &Arc<BridgedSession>,
    unwanted: &Arc<Unwanted>,
) -> Reply {
    let mut filter = session.filter.subscribe();
    filter.mark_changed();
    let (server, session) = (Arc::clone(server), Arc::clone(session));
    let (caller, armed, unwanted) = (caller.to_owned(), armed.clone(), Arc::clone(unwanted));
    let changes = Changes { server, caller, armed, session, filter, events: None, unwanted };
    Reply::Stream { events: Events::Bridged(Box::new(changes)), session: None }
}

#[derive(Debug)]
struct Changes {
    server: Arc<Server>,
    caller: String,
    armed: HeaderMap,
    session: Arc<BridgedSession>,
    filter: watch::Receiver<Option<Filter>>,
    events: Option<Events>,
    unwanted: Arc<Unwanted>,
}

impl Changes {
    /// Asks the server for what the session wants to be told. False where it tells nothing.
    async fn listen(&mut self, filter: &Filter, limits: &Limits) -> Result<bool, Refusal> {
        let params = String::from_utf8_lossy(&filter.to_json()).into_owned();
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{METHOD}","params":{{"notifications":{params}}}}}"#
        );
        let message = parse(Bytes::from(text), limits)?;
        let bytes = request_to_modern(&message, 1, &self.session.declared(), &Round::default());
        let headers = modern_headers(&self.armed, METHOD, None, Vec::new())?;
        let reply = send_modern(&self.server, &self.caller, headers, bytes, limits).await?;
        self.events = match reply {
            Reply::Stream { events, .. } => Some(events),
            Reply::Accepted | Reply::Unary { .. } => None,
        };
        Ok(self.events.is_some())
    }

    async fn advance(&mut self, limits: &Limits) -> Result<Option<sse::Event>, Refusal> {
        loop {
            // Read without marking it as seen: a look that is given up must not be the last one.
            if self.events.is_none() {
                let Some(filter) = self.filter.borrow().clone() else { return Ok(None) };
                if filter == Filter::default() || !self.listen(&filter, limits).await? {
                    self.filter.mark_unchanged();
                    if self.filter.changed().await.is_err() {
                        return Ok(None);
                    }
                    continue;
                }
                self.filter.mark_unchanged();
                if self.filter.borrow().as_ref() != Some(&filter) {
                    self.events = None;
                    continue;
                }
            }
            let Some(events) = self.events.as_mut() else { continue };
            let event = tokio::select! {
                changed = self.filter.changed() => {
                    self.events = None;
                    if changed.is_err() {
                        return Ok(None);
                    }
                    continue;
                }
                event = events.next(limits, true) => event?,
            };
            let Some(event) = event else { return Ok(None) };
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            let message = parse(data, limits)?;
            match message.shape() {
                Shape::Notification => match for_session(&message) {
                    Some(bytes) => return Ok(Some(sse::Event::message(bytes))),
                    None if about_listening(&message) => {}
                    None => self.unwanted.note(&message, Code::BridgeUnwanted),
                },
                // The orderly end: a client of the older revision opens another stream.
                Shape::Error | Shape::Request | Shape::Response => return Ok(None),
            }
        }
    }
}

/// Whether a notification is about the listening itself, of which a client of the older revision knows nothing.
fn about_listening(message: &Message) -> bool {
    let name = message.method_name();
    matches!(name.as_deref(), Some("notifications/cancelled" | "notifications/subscriptions/acknowledged"))
}

impl Bridged for Changes {
    fn next<'a>(&'a mut self, limits: &'a Limits) -> NextEvent<'a> {
        Box::pin(self.advance(limits))
    }
}
