//! Start reading here. Takes one client message through every check, in the order that is this process's security
//! policy, and its answer back.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Response, request};
use portcullis_connect::auth::Route;
use portcullis_core::{Caller, Code, Refusal, Target};
use portcullis_net::{departure::Departure, listen::PeerInfo, tls::PeerCertificate};

use crate::{
    body::{Body, Inbound},
    gateway::{self, Gateway, Held},
    head::Head,
    metrics::Metrics,
    pending::Pending,
    refusal::{self, Asked},
    relay::Relay,
    rules::Rules,
    stages::{
        accept, alarm, alive, approve,
        arm::{self, Armed},
        authenticate, authorize, inspect,
        inspect::Inspected,
        parse,
        parse::Call,
        read, record,
        resolve::{self, replica},
        throttle, validate,
    },
    trail::{Measured, Stage, Trail},
};
use portcullis_upstream::Verb;

impl Gateway {
    /// Answers one HTTP request to `/mcp/{server}`, or to `/mcp` under the name of that route.
    pub async fn answer(
        self: Arc<Self>,
        server: &str,
        head: request::Parts,
        body: Inbound,
    ) -> Response<Body> {
        self.metrics.in_flight(1);
        let _in_flight = InFlight(&self.metrics);
        let rules = self.rules.load_full();
        let mut trail = Trail::new(Arc::clone(&self.clock));
        trail.rules = Some(rules.digest);
        let route = rules.access(server);
        let dpop = authenticate::Scheme::of(&head.headers) == Some(authenticate::Scheme::Dpop);
        let mut asked = Asked { route: Some(Arc::clone(&route)), dpop, ..Asked::default() };
        let mut held = Held::default();
        let departure = head.extensions.get::<Departure>().cloned().unwrap_or_default();
        let admitted = AssertUnwindSafe(
            self.admit(&rules, server, &route, head, body, &mut trail, &mut asked, &mut held),
        )
        .catch_unwind();
        match admitted.await.unwrap_or_else(|_panic| Err(panicked())) {
            Err(refusal) => {
                alarm::refused(&self, &rules, &mut trail).await;
                asked.nonce = (refusal.code == Code::AuthNonce).then(|| rules.auth.dpop_nonce()).flatten();
                self.refuse(&refusal, &asked, &mut trail).await
            }
            Ok(armed) => {
                let pending = Pending::new(&self, &armed, trail, held, departure);
                let gateway = Arc::clone(&self);
                self.relay(Relay { gateway, rules, armed, asked, pending, unfit: false, ticket: None }).await
            }
        }
    }

    /// Answers one HTTP request to a path that does not exist: whoever looks for one is throttled and recorded too.
    pub(crate) async fn nowhere(&self, parts: &request::Parts) -> Response<Body> {
        let rules = self.rules.load_full();
        let mut trail = Trail::new(Arc::clone(&self.clock));
        trail.rules = Some(rules.digest);
        trail.source = parts.extensions.get::<PeerInfo>().map(|peer| peer.addr.ip());
        let source = trail.source.map(throttle::key).unwrap_or_default();
        let throttled = trail.keep(Stage::Throttle, throttle::source(self, &source, &rules));
        // The path itself stays out of the record: somebody may have put a credential into it.
        let no_path = |()| Refusal::new(Code::ServerUnknown, format!("{} of no such path", parts.method));
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
        route: &Route,
        parts: request::Parts,
        body: Inbound,
        trail: &mut Trail,
        asked: &mut Asked,
        held: &mut Held,
    ) -> Result<Armed, Refusal> {
        let peer = parts.extensions.get::<PeerInfo>().map(|peer| peer.addr.ip());
        let source = peer.ok_or_else(|| Refusal::new(Code::Internal, "a connection without an address"))?;
        trail.source = Some(source);
        let known = rules.route(server);
        trail.server =
            known.map(|known| Target { server: Arc::clone(&known.name), item: None, digest: None });
        let source_text = throttle::key(source);

        if self.stopping.load(Ordering::Relaxed) {
            return Err(Refusal::new(Code::ShuttingDown, "the gateway is stopping").retry_after_s(1));
        }
        trail.keep(Stage::Throttle, throttle::source(self, &source_text, rules))?;
        let head = accept::head(&parts.method, &parts.uri, server, parts.headers, source, rules);
        let mut head = trail.keep(Stage::Accept, head)?;
        head.certificate = parts.extensions.get::<PeerCertificate>().cloned();
        let caller = trail.keep(Stage::Authenticate, authenticate::caller(&head, route, rules).await);
        let caller = caller.inspect_err(|refusal| {
            alarm::presented(rules, &head, &mut trail.findings);
            if matches!(refusal.code, Code::AuthInvalid | Code::AuthProof) {
                throttle::charge_failure(self, &source_text);
            }
        })?;
        let (caller, grants) = portcullis_usage::granted(&*self.usage.grants, caller, self.clock.now());
        trail.grants = grants;
        trail.owner = rules.policy.owner(&caller).map(ToOwned::to_owned);
        trail.caller = Some(Arc::clone(&caller));
        held.0.push(trail.keep(Stage::Throttle, throttle::caller(self, &caller, rules))?);
        trail.keep(Stage::Authorize, alive::caller(self, &caller))?;
        // After authentication: who proves nothing makes us hold no bytes, and a slow body counts as its caller's call.
        let bytes = trail.keep(Stage::Read, read::bounded(body, &rules.limits).await)?;
        if head.verb == Verb::Post {
            trail.input = Some(Measured::of(&bytes));
            trail.unseen = Some(bytes.clone());
        }
        // Boxed: what is held while a call is judged need not be held while it is forwarded.
        let judged = self.judged(rules, server, &caller, (head, bytes), trail, asked, held);
        let inspected = Box::pin(judged).await?;
        let approved = approve::call(self, inspected, rules, trail, asked.fills_forms).await;
        let approved = trail.keep(Stage::Approve, approved)?;
        let recorded = record::intent(self, approved, trail).await;
        if recorded.is_err() {
            approve::unused(self, trail).await;
        }
        let recorded = trail.keep(Stage::Record, recorded)?;
        trail.keep(Stage::Arm, arm::call(recorded))
    }

    /// The call, judged at its server, or at the first replica of it where it may be made. What the server itself says to it
    /// is said where it may be made nowhere.
    #[expect(
        clippy::too_many_arguments,
        reason = "what outlives a refusal is lent, so that the refusal can be recorded and answered"
    )]
    async fn judged(
        &self,
        rules: &Rules,
        server: &str,
        caller: &Arc<Caller>,
        (head, bytes): (Head, Bytes),
        trail: &mut Trail,
        asked: &mut Asked,
        held: &mut Held,
    ) -> Result<Inspected, Refusal> {
        if rules.replicas.is_empty() {
            return self.judge(rules, (server, 0), caller, (head, bytes), trail, asked, held).await;
        }
        let asks = (head.clone(), bytes.clone());
        let first = self.judge(rules, (server, 0), caller, asks, trail, asked, held).await;
        let Err(refusal) = first else { return first };
        let called = trail.target.as_ref().or(trail.server.as_ref()).map(|target| Arc::clone(&target.server));
        let replicas = called.and_then(|called| rules.replicas.get(&*called)).map_or(0, Vec::len);
        if !replica::may_pass_elsewhere(&refusal, trail.action) {
            return Err(refusal);
        }
        let (target, places) = (trail.target.clone(), trail.places.clone());
        let findings = std::mem::take(&mut trail.findings);
        for place in 1..=replicas {
            let again = (head.clone(), bytes.clone());
            let judged = self.judge(rules, (server, place), caller, again, trail, asked, held);
            match judged.await {
                Ok(inspected) => return Ok(inspected),
                Err(_elsewhere) => trail.findings.clear(),
            }
        }
        (trail.target, trail.places, trail.findings) = (target, places, findings);
        Err(refusal)
    }

    /// The checks of a call at one server.
    #[expect(
        clippy::too_many_arguments,
        reason = "what outlives a refusal is lent, so that the refusal can be recorded and answered"
    )]
    async fn judge(
        &self,
        rules: &Rules,
        (server, place): (&str, usize),
        caller: &Arc<Caller>,
        (head, bytes): (Head, Bytes),
        trail: &mut Trail,
        asked: &mut Asked,
        held: &mut Held,
    ) -> Result<Inspected, Refusal> {
        let call = parse::call(head, bytes, caller, rules, &self.sessions, asked);
        let call = trail.keep(Stage::Parse, call)?;
        remember(trail, &call);
        let aimed = trail.keep(Stage::Resolve, resolve::target(self, call, caller, (rules, place)).await)?;
        trail.target = Some(aimed.target().clone());
        if aimed.endless() {
            held.0.extend(trail.keep(Stage::Throttle, throttle::stream(self, caller, server, rules))?);
        }
        let valid = trail.keep(Stage::Validate, validate::arguments(aimed, rules))?;
        trail.keep(Stage::Authorize, authorize::learn(self, caller, &valid, rules).await)?;
        let permitted = authorize::call(self, caller, valid, rules, trail);
        let permitted = trail.keep(Stage::Authorize, permitted)?;
        let news = trail.news.take();
        trail.keep(Stage::Authorize, authorize::tell(self, news, rules).await)?;
        trail.policies = permitted.policies().to_vec();
        let alive = trail.keep(Stage::Authorize, alive::call(self, permitted))?;
        if !std::mem::replace(&mut held.2, true) {
            held.1 = trail.keep(Stage::Throttle, throttle::quota(self, caller, trail, rules).await)?;
            trail.keep(Stage::Throttle, throttle::alike(self, &alive, rules))?;
        }
        let inspected = inspect::call(alive, rules, &mut trail.findings);
        trail.unseen = None;
        alarm::raise(self, rules, None, trail).await;
        trail.keep(Stage::Inspect, inspected)
    }

    /// Forwards an armed call. Under the older revision a lost client is no cancellation, so the call goes on
    /// without it; under the newer one it is, and dropping this future is what cancels.
    async fn relay(self: &Arc<Self>, relay: Relay) -> Response<Body> {
        let asked = relay.asked.clone();
        let legacy = relay.armed.era() == portcullis_mcp::revision::Era::Legacy;
        let work = AssertUnwindSafe(relay.run()).catch_unwind();
        let answered = if legacy {
            self.running.finish(self.running.until_cut(work), |_answered| async {}).await
        } else {
            Some(Box::pin(work).await)
        };
        let stopped =
            || refusal::reply(&Refusal::new(Code::UpstreamUnavailable, "the gateway stops"), &asked);
        let answered =
            answered.map(|answer| answer.unwrap_or_else(|_panic| refusal::reply(&panicked(), &asked)));
        answered.unwrap_or_else(stopped)
    }

    async fn refuse(&self, refusal: &Refusal, asked: &Asked, trail: &mut Trail) -> Response<Body> {
        let response = refusal::reply(refusal, asked);
        let flood = refusal.code == Code::LimitRate && refusal.private.is_empty();
        if flood {
            self.metrics.suppressed();
        } else {
            gateway::log(refusal, trail);
            record::refusal(self, refusal, None, response.status().as_u16(), trail).await;
        }
        self.count(trail, Some(refusal.code));
        response
    }
}

fn remember(trail: &mut Trail, call: &Call) {
    trail.era = Some(call.era().revision());
    trail.method = Some(call.method());
    trail.action = Some(call.action());
    trail.session = call.session().map(|session| session.digest());
    trail.trace = call.trace_parent();
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
