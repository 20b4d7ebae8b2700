//! Start reading here. Takes one client message through every check, in the order that is this process's security
//! policy, and its answer back.

use std::{panic::AssertUnwindSafe, sync::Arc};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use http::{Response, request};
use hyper::body::Incoming;
use portcullis_core::{Caller, Clock, Code, Entropy, Level, Refusal};
use portcullis_mcp::jsonrpc::Message;
use portcullis_net::listen::PeerInfo;
use portcullis_store::Ledger;

use crate::{
    body::Body,
    head::Verb,
    metrics::Metrics,
    refusal::{self, Asked},
    relay::Relay,
    rules::{Rules, Server},
    session::Sessions,
    stages::{
        accept,
        arm::{self, Armed},
        authenticate, authorize, inspect, parse,
        parse::Call,
        read,
        record::{self, Outcome},
        resolve, throttle, validate,
    },
    throttle::{Counts, Hold, Rates},
    trace,
    trail::{Measured, Stage, Trail},
};

/// The data plane of one node.
#[derive(Debug)]
pub struct Gateway {
    /// The rules in force.
    pub rules: ArcSwap<Rules>,
    /// Sessions of revision 2025-11-25.
    pub sessions: Sessions,
    /// Where every call is recorded.
    pub ledger: Arc<dyn Ledger>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Which gateway this is, in entries.
    pub instance: Arc<str>,
    /// Where finished calls go for tracing, if anywhere.
    pub tracer: Option<Arc<dyn trace::Tracer>>,
    /// Rates by source address.
    pub sources: Rates,
    /// Rates by caller.
    pub callers: Rates,
    /// Running calls by caller.
    pub caller_calls: Counts,
    /// Running calls by server.
    pub server_calls: Counts,
    /// Open streams by caller.
    pub caller_streams: Counts,
    /// Open streams by server.
    pub server_streams: Counts,
}

/// What a call holds until its answer is out.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<Hold>);

impl Gateway {
    /// Answers one HTTP request to `/mcp/{server}`.
    pub async fn answer(
        self: Arc<Self>,
        server: &str,
        head: request::Parts,
        body: Incoming,
    ) -> Response<Body> {
        self.metrics.in_flight(1);
        let _in_flight = InFlight(&self.metrics);
        let rules = self.rules.load_full();
        let mut trail = Trail::new(Arc::clone(&self.clock));
        trail.under(&rules);
        let mut asked = Asked { metadata_url: Some(rules.metadata_url(server)), ..Asked::default() };
        let mut held = Held::default();
        let admitted =
            AssertUnwindSafe(self.admit(&rules, server, head, body, &mut trail, &mut asked, &mut held))
                .catch_unwind();
        match admitted.await.unwrap_or_else(|_panic| Err(panicked())) {
            Err(refusal) => self.refuse(&refusal, &asked, &mut trail).await,
            Ok(armed) => {
                let pending = Pending::new(&self, &armed, trail, held);
                self.relay(Relay { gateway: Arc::clone(&self), rules, armed, asked, pending }).await
            }
        }
    }

    /// Answers one HTTP request to a path that does not exist: whoever looks for one is throttled and recorded too.
    pub(crate) async fn nowhere(&self, parts: &request::Parts) -> Response<Body> {
        let rules = self.rules.load_full();
        let mut trail = Trail::new(Arc::clone(&self.clock));
        trail.under(&rules);
        trail.source = parts.extensions.get::<PeerInfo>().map(|peer| peer.addr.ip());
        let source = trail.source.map(|source| source.to_string()).unwrap_or_default();
        let throttled = trail.keep(Stage::Throttle, throttle::source(self, &source, &rules));
        let path: String = parts.uri.path().chars().take(128).collect();
        let no_path =
            |()| Refusal::new(Code::ServerUnknown, format!("no such path: {} {path}", parts.method));
        let refusal = throttled.map_or_else(|refusal| refusal, no_path);
        self.refuse(&refusal, &Asked::default(), &mut trail).await
    }

    /// Every check, in order. What a later stage needs of an earlier one is inside the proof it is handed.
    #[expect(
        clippy::too_many_arguments,
        reason = "what outlives a refusal is lent, so that the refusal can be recorded and answered"
    )]
    async fn admit(
        &self,
        rules: &Rules,
        server: &str,
        parts: request::Parts,
        body: Incoming,
        trail: &mut Trail,
        asked: &mut Asked,
        held: &mut Held,
    ) -> Result<Armed, Refusal> {
        let peer = parts.extensions.get::<PeerInfo>().map(|peer| peer.addr.ip());
        let source = peer.ok_or_else(|| Refusal::new(Code::Internal, "a connection without an address"))?;
        (trail.source, trail.server) = (Some(source), Some(Arc::from(server)));
        let source_text = source.to_string();

        trail.keep(Stage::Throttle, throttle::source(self, &source_text, rules))?;
        let head = accept::head(&parts.method, &parts.uri, server, parts.headers, source, rules);
        let head = trail.keep(Stage::Accept, head)?;
        // Before authentication: a large or slow body must not cost a signature check first.
        let bytes = trail.keep(Stage::Read, read::bounded(body, &rules.limits).await)?;
        if head.verb == Verb::Post {
            trail.input = Some(Measured::of(&bytes));
        }
        let caller = trail.keep(Stage::Authenticate, authenticate::caller(&head, rules).await);
        let caller = caller.inspect_err(|refusal| {
            if refusal.code == Code::AuthInvalid {
                throttle::charge_failure(self, &source_text);
            }
        })?;
        trail.caller = Some(Arc::clone(&caller));
        held.0.push(trail.keep(Stage::Throttle, throttle::caller(self, &caller, rules))?);
        let call = parse::call(head, bytes, &caller, rules, &self.sessions, asked);
        let call = trail.keep(Stage::Parse, call)?;
        remember(trail, &call);
        let aimed = trail.keep(Stage::Resolve, resolve::target(self, call, &caller, rules).await)?;
        trail.target = Some(aimed.target().clone());
        if aimed.endless() {
            held.0.extend(trail.keep(Stage::Throttle, throttle::stream(self, &caller, server, rules))?);
        }
        let valid = trail.keep(Stage::Validate, validate::arguments(aimed, rules))?;
        let permitted = authorize::call(self, &caller, valid, rules, &mut trail.policies);
        let permitted = trail.keep(Stage::Authorize, permitted)?;
        trail.policies = permitted.policies().to_vec();
        let inspected = inspect::call(permitted, rules, &mut trail.findings);
        let inspected = trail.keep(Stage::Inspect, inspected)?;
        let recorded = record::intent(self, inspected, trail).await;
        let recorded = trail.keep(Stage::Record, recorded)?;
        trail.keep(Stage::Arm, arm::call(recorded))
    }

    /// Forwards an armed call. Under the older revision a lost client is no cancellation, so the call goes on
    /// without it; under the newer one it is, and dropping this future is what cancels.
    async fn relay(self: &Arc<Self>, relay: Relay) -> Response<Body> {
        let asked = relay.asked.clone();
        if relay.armed.era() == portcullis_mcp::revision::Era::Modern {
            let answered = AssertUnwindSafe(relay.run()).catch_unwind().await;
            return answered.unwrap_or_else(|_panic| refusal::reply(&panicked(), &asked));
        }
        let answered = tokio::spawn(relay.run()).await;
        answered.unwrap_or_else(|_panic| refusal::reply(&panicked(), &asked))
    }

    async fn refuse(&self, refusal: &Refusal, asked: &Asked, trail: &mut Trail) -> Response<Body> {
        let response = refusal::reply(refusal, asked);
        let flood = refusal.code == Code::LimitRate && refusal.private.is_empty();
        if flood {
            self.metrics.suppressed();
        } else {
            log(refusal, trail);
            record::refusal(self, refusal, None, response.status().as_u16(), trail).await;
        }
        self.count(trail, Some(refusal.code));
        response
    }

    /// Counts a call that is over.
    fn count(&self, trail: &Trail, refusal: Option<Code>) {
        // Only names from the configuration become labels: a guessed path must not grow the metrics.
        let server = trail.target.as_ref().map_or("unknown", |target| &target.server);
        self.metrics.call(server, trail.action, refusal);
        for (stage, us) in trail.spent_us() {
            self.metrics.stage(stage, us);
        }
        self.metrics.done(trail.elapsed_us());
        for finding in &trail.findings {
            self.metrics.finding(finding.kind, trace::treatment(finding.treatment));
        }
        if let Some(tracer) = &self.tracer {
            tracer.call(&trace::Span::of(trail, refusal));
        }
    }

    /// A notification of a server passed by: changed lists are fetched soon.
    pub(crate) fn noticed(self: &Arc<Self>, server: &Arc<Server>, message: &Message) {
        if !message.method_name().is_some_and(|name| name.ends_with("/list_changed")) {
            return;
        }
        let (gateway, server) = (Arc::clone(self), Arc::clone(server));
        tokio::spawn(async move {
            let limits = gateway.rules.load().limits.clone();
            let _ = server.catalog.refresh(&server.upstream, portcullis_core::TargetKind::ALL, &limits).await;
        });
    }
}

fn remember(trail: &mut Trail, call: &Call) {
    trail.era = Some(call.era().revision());
    trail.method = Some(call.method());
    trail.action = Some(call.action());
    trail.session = call.session().map(|session| session.digest());
    trail.trace = trace::id_of(call);
}

fn log(refusal: &Refusal, trail: &Trail) {
    let caller = trail.caller.as_deref().map_or("", |caller: &Caller| &caller.id);
    let target = trail.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let (code, detail) = (refusal.code.name(), &refusal.private);
    match refusal.code.level() {
        Level::Error => tracing::error!(code, detail, caller, target, hint = refusal.code.hint(), "refused"),
        Level::Warn => tracing::warn!(code, detail, caller, target, "refused"),
        Level::Info => tracing::info!(code, detail, caller, target, "refused"),
    }
}

fn panicked() -> Refusal {
    Refusal::new(Code::Internal, "a task panicked; the log has the place")
}

struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight(-1);
    }
}

/// A forwarded call whose outcome is not recorded yet. Dropped without one, the client is gone or a task died: that
/// is an outcome too.
#[derive(Debug)]
pub(crate) struct Pending {
    gateway: Arc<Gateway>,
    intent: u64,
    open: Option<(Box<Trail>, Held)>,
    spare: Box<Trail>,
}

impl Pending {
    fn new(gateway: &Arc<Gateway>, armed: &Armed, trail: Trail, held: Held) -> Self {
        let spare = Box::new(Trail::new(Arc::clone(&gateway.clock)));
        let open = Some((Box::new(trail), held));
        Self { gateway: Arc::clone(gateway), intent: armed.index(), open, spare }
    }

    /// What the call has left behind so far.
    pub(crate) fn trail(&mut self) -> &mut Trail {
        match &mut self.open {
            Some((trail, _)) => trail,
            None => &mut self.spare,
        }
    }

    /// Records the outcome; the answer may be released when this is through.
    pub(crate) async fn done(
        &mut self,
        status: u16,
        output: Option<Measured>,
        error: Option<&'static str>,
    ) -> Result<(), Refusal> {
        let Some((mut trail, _held)) = self.open.take() else { return Ok(()) };
        let outcome = Outcome { intent: self.intent, status, output, error, detail: None };
        let recorded = record::outcome(&self.gateway, outcome, &trail).await;
        let recorded = trail.keep(Stage::RecordOutcome, recorded);
        self.gateway.count(&trail, recorded.as_ref().err().map(|refusal| refusal.code));
        recorded.map(|_| ())
    }

    /// Records that the call was refused on its way back.
    pub(crate) async fn refused(&mut self, refusal: &Refusal, status: u16) {
        let Some((trail, _held)) = self.open.take() else { return };
        log(refusal, &trail);
        record::refusal(&self.gateway, refusal, Some(self.intent), status, &trail).await;
        self.gateway.count(&trail, Some(refusal.code));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some((trail, held)) = self.open.take() else { return };
        let (gateway, intent) = (Arc::clone(&self.gateway), self.intent);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let outcome =
                Outcome { intent, status: 499, output: None, error: Some("cancelled"), detail: None };
            if let Err(refusal) = record::outcome(&gateway, outcome, &trail).await {
                tracing::error!(intent, %refusal, "the outcome of a cancelled call could not be recorded");
            }
            gateway.count(&trail, None);
            drop(held);
        });
    }
}
