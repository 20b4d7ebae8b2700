//! Calls whose server waits for an answer of the client. A client of the newer revision answers by calling again; until
//! then the call is held here, on this node, under a name that only its caller was given, sealed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use portcullis_core::{Clock, Code, Digest, Entropy, Limits, Refusal};

use super::modern_client::Call;
use portcullis_seal::Sealer;

/// What states are sealed for.
const PURPOSE: &str = "bridge";

/// First byte of what is sealed: a call waits, here and nowhere else.
const WAITS: u8 = 1;
/// First byte of what is sealed: the call is to be made again, wherever that is.
const AGAIN: u8 = 2;
const NAME_BYTES: usize = 16;

/// A call that waits for its client's answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: Box<Call>,
    /// The id of the server's question (JSON text).
    pub(super) question: Bytes,
    caller: Arc<str>,
    until_us: u64,
}

/// What a state says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The server waits for nothing: the call is made again.
    Again,
    /// The call of this name waits for its answer.
    Waits([u8; NAME_BYTES]),
}

/// Calls that wait.
#[derive(Debug)]
pub(super) struct Held {
    calls: Mutex<HashMap<[u8; NAME_BYTES], Waiting>>,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Held {
    pub(super) fn new(sealer: Sealer, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { calls: Mutex::default(), sealer, clock, entropy }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; NAME_BYTES], Waiting>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a call until its caller answers `question`; returns the state that names it.
    pub(super) fn hold(&self, call: Box<Call>, question: Bytes, limits: &Limits) -> Result<String, Refusal> {
        let mut name = [0; NAME_BYTES];
        self.entropy.fill(&mut name);
        let sealed = self.seal(&call, WAITS, name, limits)?;
        let caller = Arc::clone(&call.caller);
        let until_us = self.clock.ticks_us().saturating_add(limits.total_timeout_ms.saturating_mul(1000));
        let mut calls = self.calls();
        let own = calls.values().filter(|waiting| waiting.caller == caller).count() as u64;
        if own >= limits.caller_calls_max || calls.len() as u64 >= limits.sessions_max {
            return Err(Refusal::new(
                Code::LimitConcurrency,
                "too many calls wait for their callers' answers",
            ));
        }
        calls.insert(name, Waiting { call, question, caller, until_us });
        Ok(sealed)
    }

    /// A state with which the client makes the same call again.
    pub(super) fn again(&self, call: &Call, limits: &Limits) -> Result<String, Refusal> {
        self.seal(call, AGAIN, [0; NAME_BYTES], limits)
    }

    fn seal(
        &self,
        call: &Call,
        kind: u8,
        name: [u8; NAME_BYTES],
        limits: &Limits,
    ) -> Result<String, Refusal> {
        let until_ms = self.clock.now().0.saturating_add(limits.total_timeout_ms);
        let plain = [&[kind][..], &until_ms.to_be_bytes(), &name, &call.same.0].concat();
        let bound = [&*call.request.link.server.name, &*call.caller];
        let sealed = self.sealer.seal(PURPOSE, &bound, &plain, &*self.entropy);
        sealed.ok_or_else(|| Refusal::new(Code::Internal, "a state could not be sealed"))
    }

    /// What a caller's state says about its request.
    pub(super) fn open(
        &self,
        server: &str,
        caller: &str,
        state: &str,
        same: Digest,
    ) -> Result<State, Refusal> {
        let unusable = |why: &str| Refusal::new(Code::BridgeState, why);
        let plain = self.sealer.open(PURPOSE, &[server, caller], state);
        let plain = plain.ok_or_else(|| unusable("not sealed for this caller on this server, or damaged"))?;
        let (state, until_ms, sealed_same) = read(&plain).ok_or_else(|| unusable("of another format"))?;
        if sealed_same != same.0 {
            return Err(unusable("sealed for another request"));
        }
        if self.clock.now().0 > until_ms {
            return Err(unusable("expired"));
        }
        Ok(state)
    }

    /// The call of that name, once.
    pub(super) fn take(&self, name: [u8; NAME_BYTES]) -> Result<Waiting, Refusal> {
        let waiting = self.calls().remove(&name);
        waiting.ok_or_else(|| {
            Refusal::new(
                Code::BridgeElsewhere,
                "answered already, or the call waits on another node or ended",
            )
        })
    }

    /// Gives up calls whose callers did not answer in time.
    pub(super) fn sweep(&self) {
        let now = self.clock.ticks_us();
        self.drop_where(|waiting| waiting.until_us < now);
    }

    /// Gives up calls of which `stopped` says so, by caller and server.
    pub(super) fn give_up(&self, stopped: impl Fn(&str, &str) -> bool) {
        self.drop_where(|waiting| stopped(&waiting.caller, &waiting.call.request.link.server.name));
    }

    fn drop_where(&self, over: impl Fn(&Waiting) -> bool) {
        let given_up: Vec<Waiting> = {
            let mut calls = self.calls();
            calls.extract_if(|_, waiting| over(waiting)).map(|(_, waiting)| waiting).collect()
        };
        // Beyond the lock: giving up a call tells its server.
        drop(given_up);
    }
}

fn read(plain: &[u8]) -> Option<(State, u64, [u8; 32])> {
    let (kind, rest) = plain.split_first()?;
    let (until, rest) = rest.split_first_chunk::<8>()?;
    let (name, same) = rest.split_first_chunk::<NAME_BYTES>()?;
    let state = match *kind {
        AGAIN => State::Again,
        WAITS => State::Waits(*name),
        _ => return None,
    };
    Some((state, u64::from_be_bytes(*until), same.try_into().ok()?))
}
