//! What the stages leave behind for the ledger and the metrics. Write-only for them: no stage can read another's
//! side effects.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr, sync::Arc};

use bytes::Bytes;
use portcullis_approve::Used;
use portcullis_core::{Action, Caller, Clock, Digest, Event, Finding, Labels, Refusal, Target};
use portcullis_policy::{Denial, Permit, Places};
use portcullis_proof::entry::{Actor, Content, Decision, Entry, Output};

use crate::metrics::STAGES;

/// Digest and size of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// SHA-256.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Measured {
    /// Measures `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    /// The output member of an entry.
    #[must_use]
    pub const fn entry(self, error: Option<&str>) -> Output<'_> {
        Output { digest: self.digest, size: self.size, error }
    }
}

/// What a candidate policy says of a call, where it is not what the policy in force says.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// Whether it would have allowed it.
    pub allow: bool,
    asks: bool,
    /// Whether that is the opposite, and not only with or without the yes of people.
    pub opposite: bool,
    policies: Vec<String>,
}

impl Shadow {
    /// The candidate's decision, beside whether the call is allowed.
    #[must_use]
    pub fn of(decided: Result<&Permit, &Denial>, allowed: bool) -> Self {
        let opposite = decided.is_ok() != allowed;
        match decided {
            Ok(permit) => {
                Self { allow: true, asks: permit.asks(), opposite, policies: permit.policies().to_vec() }
            }
            Err(denial) => Self { allow: false, asks: false, opposite, policies: denial.policies.to_vec() },
        }
    }

    fn json(&self) -> serde_json::Value {
        let effect = match (self.allow, self.asks) {
            (true, false) => "allow",
            (true, true) => "approval",
            (false, _) => "deny",
        };
        serde_json::json!({ "effect": effect, "policies": self.policies })
    }
}

/// What one message leaves behind.
#[derive(Debug)]
pub struct Trail {
    clock: Arc<dyn Clock>,
    started_us: u64,
    stage_us: u64,
    spent_us: [u32; STAGES.len()],
    /// The address the message came from.
    pub source: Option<IpAddr>,
    /// The server of the route, where there is one of that name: what a message is aimed at until it is resolved.
    pub server: Option<Target>,
    /// Who asks.
    pub caller: Option<Arc<Caller>>,
    /// The era, as the ledger names it.
    pub era: Option<&'static str>,
    /// The method.
    pub method: Option<Cow<'static, str>>,
    /// What it asks for.
    pub action: Option<Action>,
    /// What it is aimed at.
    pub target: Option<Target>,
    /// The session, by digest.
    pub session: Option<Digest>,
    /// The W3C trace id.
    pub trace: Option<String>,
    /// Policies that decided.
    pub policies: Vec<String>,
    /// What the candidate policy says, where it says something else.
    pub shadow: Option<Shadow>,
    /// Who answers for the program that is asking.
    pub owner: Option<String>,
    /// Grants that gave the caller roles.
    pub grants: Vec<String>,
    /// The approval that it used up.
    pub approval: Option<Used>,
    /// Labels of what the session had seen before.
    pub seen: Labels,
    /// What other gateways must know of it before the call goes on.
    pub news: Option<portcullis_usage::News>,
    /// Labels of what the call brings, as far as it is known.
    pub labels: Labels,
    /// Where the two ends are, as far as it is known.
    pub places: Places,
    /// Digest of the rules in force.
    pub rules: Option<Digest>,
    /// The message.
    pub input: Option<Measured>,
    /// What detectors saw, in both directions.
    pub findings: Vec<Finding>,
    /// Secrets of which somebody was told, as findings name them.
    pub alarms: BTreeSet<Digest>,
    /// What the caller sent, until it was inspected.
    pub unseen: Option<Bytes>,
}

/// A stage, by its place in [`STAGES`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is named after its stage")]
pub enum Stage {
    Accept,
    Throttle,
    Read,
    Authenticate,
    Parse,
    Resolve,
    Validate,
    Authorize,
    Inspect,
    Approve,
    Record,
    Arm,
    Forward,
    InspectAnswer,
    RecordOutcome,
}

impl Trail {
    /// A trail that starts now.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.ticks_us();
        Self {
            clock,
            started_us: now,
            stage_us: now,
            spent_us: [0; STAGES.len()],
            source: None,
            server: None,
            caller: None,
            era: None,
            method: None,
            action: None,
            target: None,
            session: None,
            trace: None,
            policies: Vec::new(),
            shadow: None,
            owner: None,
            grants: Vec::new(),
            approval: None,
            seen: Labels::NONE,
            news: None,
            labels: Labels::NONE,
            places: Places::default(),
            rules: None,
            input: None,
            findings: Vec::new(),
            alarms: BTreeSet::new(),
            unseen: None,
        }
    }

    /// A stage is over; hands its result on. Time since the last stage is booked to it.
    pub fn keep<T>(&mut self, stage: Stage, result: Result<T, Refusal>) -> Result<T, Refusal> {
        let now = self.clock.ticks_us();
        if let Some(spent) = self.spent_us.get_mut(stage as usize) {
            *spent += u32::try_from(now.saturating_sub(self.stage_us)).unwrap_or(u32::MAX);
        }
        self.stage_us = now;
        result
    }

    /// Microseconds since the message arrived.
    #[must_use]
    pub fn elapsed_us(&self) -> u64 {
        self.clock.ticks_us().saturating_sub(self.started_us)
    }

    /// Time spent in each stage that ran, by place in [`STAGES`].
    pub fn spent_us(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.spent_us.iter().enumerate().filter(|(_, us)| **us > 0).map(|(stage, us)| (stage, u64::from(*us)))
    }

    /// The ledger entry of an event at this point.
    #[must_use]
    pub fn entry<'a>(&'a self, event: Event, instance: &'a str) -> Entry<'a> {
        let mut entry = Entry::new(event, self.clock.now(), instance);
        entry.actor = self.caller.as_deref().map(Actor::of);
        entry.source = self.source;
        entry.era = self.era;
        entry.method = self.method.as_deref();
        entry.action = self.action;
        entry.target = self.target.as_ref().or(self.server.as_ref());
        entry.session = self.session;
        entry.trace = self.trace.as_deref();
        entry.rules = self.rules;
        entry.input = self.input.map(|input| Content { digest: input.digest, size: input.size });
        entry.findings = &self.findings;
        if let Some(shadow) = &self.shadow {
            entry.data.insert("shadow", shadow.json());
        }
        if let Some(caller) = self.caller.as_ref().filter(|caller| !caller.actors.is_empty()) {
            entry.data.insert("actors", serde_json::json!(*caller.actors));
        }
        if let Some(owner) = &self.owner {
            entry.data.insert("owner", owner.as_str().into());
        }
        if let Some(approval) = &self.approval {
            entry.data.insert("approval", (*approval.id).into());
        }
        if let Some(region) = &self.places.server {
            entry.data.insert("server_region", region.as_str().into());
        }
        if !self.places.caller.is_empty() {
            entry.data.insert("caller_regions", self.places.caller.as_slice().into());
        }
        for (name, labels) in [("seen", self.seen), ("labels", self.labels)] {
            if !labels.is_empty() {
                entry.data.insert(name, labels.names().into());
            }
        }
        if !self.grants.is_empty() {
            entry.data.insert("grants", self.grants.as_slice().into());
        }
        entry
    }

    /// The decision member of an entry.
    #[must_use]
    pub fn decision(&self, allow: bool) -> Decision<'_> {
        Decision { allow, policies: &self.policies }
    }
}
