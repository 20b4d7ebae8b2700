//! What happened, one step after the other: what was asked, what was decided by which policy under which rules, with
//! which version of the tool, what detectors saw, what came of it, and what was changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Hit;

/// Events that change what is decided or done, as a filter of a search.
pub const CHANGES: &str = "config.*|definition.*|definitions.*|server.added|server.removed|key.created|key.revoked|grant.*|\
kill.*|secret.rotated|secret.put|secret.removed|connection.granted|connection.revoked|seal.*|gateway.*|ledger.recovered|canary.*";

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A call, with what came of it where that is known.
    Call,
    /// Something was changed.
    Change,
    /// Something else happened.
    Event,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Index of the entry.
    pub index: u64,
    /// Why it was no good answer.
    pub error: Option<String>,
    /// Why the answer was refused.
    pub code: Option<String>,
    /// Digest of the answer.
    pub output: Option<String>,
    /// Time between the intent and this, in microseconds.
    pub latency_us: Option<u64>,
    /// What detectors saw in the answer.
    pub findings: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Step {
    /// Index of the entry.
    pub index: u64,
    /// When.
    pub at: String,
    /// What it is.
    pub kind: Kind,
    /// The event.
    pub event: String,
    /// Who.
    pub who: Option<String>,
    /// What for, and on what.
    pub what: String,
    /// `allow` or `deny`, where policy decided.
    pub decision: Option<String>,
    /// By which policies.
    pub policies: Vec<String>,
    /// Why it was refused.
    pub code: Option<String>,
    /// Digest of the rules in force: configuration and policy.
    pub rules: Option<String>,
    /// Digest of the definition.
    pub definition: Option<String>,
    /// What detectors saw.
    pub findings: Vec<String>,
    /// Digest of the message.
    pub input: Option<String>,
    /// What came of it; nothing of an intent means that the process ended in between: it may have happened.
    pub outcome: Option<Outcome>,
    /// Members of their own.
    pub data: Option<Value>,
}

/// From where to where something was in use.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Used {
    /// Its digest.
    pub digest: String,
    /// Of what.
    pub of: String,
    /// Calls.
    pub calls: u64,
    /// Index of the first.
    pub first: u64,
    /// Index of the last.
    pub last: u64,
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Timeline {
    /// When the first step was.
    pub from: Option<String>,
    /// When the last step was.
    pub to: Option<String>,
    /// Calls.
    pub calls: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those of which no outcome is there.
    pub open: u64,
    /// Who called.
    pub callers: BTreeSet<String>,
    /// Under which rules.
    pub rules: Vec<Used>,
    /// With which definitions.
    pub definitions: Vec<Used>,
    /// In the order of the ledger.
    pub steps: Vec<Step>,
}

impl Timeline {
    /// Of what was looked for, and of what was changed in the same time.
    #[must_use]
    pub fn of(subject: &[Hit], changes: &[Hit]) -> Self {
        let mut out = Self::default();
        let mut steps: BTreeMap<u64, Step> = BTreeMap::new();
        let servers: BTreeSet<&str> =
            subject.iter().filter_map(|hit| text(&hit.entry, "/target/server")).collect();
        for hit in subject {
            let intent = hit.entry.get("intent").and_then(Value::as_u64);
            match intent.and_then(|intent| steps.get_mut(&intent)) {
                Some(step) => step.outcome = Some(outcome(hit)),
                None => {
                    steps.insert(hit.index, step(hit));
                }
            }
        }
        for hit in changes {
            let server = text(&hit.entry, "/target/server").or(text(&hit.entry, "/data/server"));
            // A definition of another server changed nothing here.
            let near = server.is_none_or(|server| servers.contains(server));
            if near {
                steps.entry(hit.index).or_insert_with(|| Step { kind: Kind::Change, ..step(hit) });
            }
        }
        let (mut rules, mut definitions) = (BTreeMap::new(), BTreeMap::new());
        for step in steps.values().filter(|step| step.kind == Kind::Call) {
            out.calls += 1;
            out.refused += u64::from(step.event == "call.refused");
            out.open += u64::from(step.event == "call.intent" && step.outcome.is_none());
            out.callers.extend(step.who.clone());
            note(&mut rules, step.rules.as_ref(), "the gateway", step.index);
            note(&mut definitions, step.definition.as_ref(), &step.what, step.index);
        }
        out.from = steps.values().next().map(|step| step.at.clone());
        out.to = steps.values().next_back().map(|step| step.at.clone());
        (out.rules, out.definitions) = (by_first(rules), by_first(definitions));
        out.steps = steps.into_values().collect();
        out
    }
}

fn note(all: &mut BTreeMap<String, Used>, digest: Option<&String>, of: &str, index: u64) {
    let Some(digest) = digest else { return };
    let fresh = || Used { digest: digest.clone(), of: of.to_owned(), calls: 0, first: index, last: index };
    let used = all.entry(digest.clone()).or_insert_with(fresh);
    (used.calls, used.last) = (used.calls + 1, index);
}

fn by_first(all: BTreeMap<String, Used>) -> Vec<Used> {
    let mut all: Vec<Used> = all.into_values().collect();
    all.sort_by_key(|used| used.first);
    all
}

fn text<'v>(entry: &'v Value, pointer: &str) -> Option<&'v str> {
    entry.pointer(pointer).and_then(Value::as_str)
}

/// What a call or a change was aimed at.
pub(crate) fn target(entry: &Value) -> String {
    match (text(entry, "/target/server"), text(entry, "/target/name")) {
        (Some(server), Some(name)) => format!("{server}/{name}"),
        (Some(server), None) => server.to_owned(),
        (None, _) => text(entry, "/data/server").unwrap_or_default().to_owned(),
    }
}

fn findings(entry: &Value) -> Vec<String> {
    let all = entry.get("findings").and_then(Value::as_array).into_iter().flatten();
    let one = |finding: &Value| {
        let word = |name: &str| finding.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
        format!("{} ({}, {})", word("kind"), word("severity"), word("treatment"))
    };
    all.map(one).collect()
}

fn outcome(hit: &Hit) -> Outcome {
    let own = |pointer: &str| text(&hit.entry, pointer).map(str::to_owned);
    Outcome {
        index: hit.index,
        error: own("/output/error"),
        code: own("/code"),
        output: own("/output/digest"),
        latency_us: hit.entry.get("latency_us").and_then(Value::as_u64),
        findings: findings(&hit.entry),
    }
}

fn step(hit: &Hit) -> Step {
    let entry = &hit.entry;
    let own = |pointer: &str| text(entry, pointer).map(str::to_owned);
    let event = own("/event").unwrap_or_default();
    let policies = entry.pointer("/decision/policies").and_then(Value::as_array).into_iter().flatten();
    let what = [own("/action").or(own("/method")).unwrap_or_default(), target(entry)];
    Step {
        index: hit.index,
        at: own("/at").unwrap_or_default(),
        kind: if event.starts_with("call.") { Kind::Call } else { Kind::Event },
        who: own("/actor/id"),
        what: what.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" "),
        decision: own("/decision/effect"),
        policies: policies.filter_map(Value::as_str).map(str::to_owned).collect(),
        code: own("/code"),
        rules: own("/rules"),
        definition: own("/target/digest"),
        findings: findings(entry),
        input: own("/input/digest"),
        outcome: None,
        data: entry.get("data").cloned(),
        event,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hit(index: u64, entry: Value) -> Hit {
        Hit { index, entry }
    }

    #[test]
    fn calls_have_their_outcomes_and_what_changed_meanwhile_stands_between_them() {
        let call = |index: u64, rules: &str, definition: &str| {
            hit(
                index,
                json!({"event": "call.intent", "at": format!("t{index}"), "actor": {"id": "c"}, "rules": rules,
                "action": "call_tool", "target": {"server": "s", "name": "x", "digest": definition},
                "decision": {"effect": "allow", "policies": ["p"]}}),
            )
        };
        let subject = [
            call(1, "r1", "d1"),
            hit(
                2,
                json!({"event": "call.outcome", "at": "t2", "intent": 1, "latency_us": 5, "output": {"digest": "o"}}),
            ),
            call(5, "r2", "d2"),
            hit(
                7,
                json!({"event": "call.refused", "at": "t7", "code": "policy.denied", "actor": {"id": "c"}, "rules": "r2"}),
            ),
        ];
        let changes = [
            hit(3, json!({"event": "config.changed", "at": "t3"})),
            hit(
                4,
                json!({"event": "definition.changed", "at": "t4", "target": {"server": "s", "name": "x"}}),
            ),
            hit(
                6,
                json!({"event": "definition.changed", "at": "t6", "target": {"server": "elsewhere", "name": "x"}}),
            ),
        ];
        let timeline = Timeline::of(&subject, &changes);
        let steps: Vec<(u64, Kind)> = timeline.steps.iter().map(|step| (step.index, step.kind)).collect();
        assert_eq!(
            steps,
            [(1, Kind::Call), (3, Kind::Change), (4, Kind::Change), (5, Kind::Call), (7, Kind::Call)]
        );
        assert_eq!((timeline.calls, timeline.refused, timeline.open), (3, 1, 1));
        assert_eq!(timeline.steps[0].outcome.as_ref().map(|outcome| outcome.index), Some(2));
        assert_eq!(
            timeline.rules.iter().map(|used| (&*used.digest, used.calls)).collect::<Vec<_>>(),
            [("r1", 1), ("r2", 2)]
        );
        assert_eq!(timeline.definitions.len(), 2);
    }
}
