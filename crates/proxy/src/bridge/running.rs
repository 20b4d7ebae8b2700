//! Running requests of clients of the newer revision, by what their clients call them, so that each can be cancelled.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use portcullis_core::{Code, Refusal};
use portcullis_mcp::jsonrpc::Message;
use tokio::sync::Notify;

use super::Crossing;
use portcullis_upstream::Reply;

/// Server, caller, and the id of the request (JSON text).
type Key = (Arc<str>, Arc<str>, Bytes);
type Map = HashMap<Key, Vec<Arc<Notify>>>;

/// The running requests of a node, as many as its calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Arc<Mutex<Map>>);

impl Requests {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins; it runs until this is dropped.
    pub(super) fn begin(&self, crossing: &Crossing<'_>) -> Begun {
        let key = (Arc::clone(&crossing.server.name), Arc::from(crossing.caller), crossing.id());
        let cancelled = Arc::new(Notify::new());
        self.map().entry(key.clone()).or_default().push(Arc::clone(&cancelled));
        Begun { requests: self.clone(), key, cancelled }
    }

    /// Cancels the request that a `notifications/cancelled` names. Ids belong to one client, and several clients may
    /// be one caller: what could be the request of either is not cancelled.
    ///
    /// # Errors
    /// `bridge.untranslatable` where it is not certain which request is meant.
    pub(super) fn cancel(&self, crossing: &Crossing<'_>, message: &Message) -> Result<Reply, Refusal> {
        let id = message.params().and_then(|params| params.get("requestId"));
        let id = id.map(|id| Bytes::copy_from_slice(id.raw())).unwrap_or_default();
        let key = (Arc::clone(&crossing.server.name), Arc::from(crossing.caller), id);
        match self.map().get(&key).map(Vec::as_slice) {
            // Answered meanwhile, or never asked: nothing is left to be cancelled.
            None | Some([]) => Ok(Reply::Accepted),
            Some([request]) => {
                request.notify_one();
                Ok(Reply::Accepted)
            }
            Some(_) => {
                let what =
                    "several requests of this caller run under that id; closing the stream of one cancels it";
                Err(Refusal::new(Code::BridgeUntranslatable, what).saying(what))
            }
        }
    }
}

/// A running request.
#[derive(Debug)]
pub(super) struct Begun {
    requests: Requests,
    key: Key,
    cancelled: Arc<Notify>,
}

impl Begun {
    /// Comes back when the client cancels the request.
    pub(super) async fn cancelled(&self) -> Refusal {
        self.cancelled.notified().await;
        Refusal::new(Code::RequestCancelled, "cancelled by the client")
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut map = self.requests.map();
        let Some(own) = map.get_mut(&self.key) else { return };
        own.retain(|other| !Arc::ptr_eq(other, &self.cancelled));
        if own.is_empty() {
            map.remove(&self.key);
        }
    }
}
