//! Calls as the ledger has them, put to policies again, and the least that would have allowed them.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write as _;

use portcullis_core::{Action, Approval, Caller, Scope, Target, TargetKind, Timestamp};
use serde_json::Value;

use crate::{
    Label, Labels, Pattern, Policies, RequestContext, Role, Rule, Verdict, case, pattern::literal_pattern,
};

/// A decision about a call, as the ledger has it. Arguments, claims and scopes are not in the ledger.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Index of the entry.
    pub index: u64,
    /// Who.
    pub caller: Caller,
    /// What for.
    pub action: Action,
    /// On what.
    pub target: Target,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Whether people had to say yes to it.
    pub approved: bool,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The code of the refusal.
    pub code: Option<String>,
    /// What the candidate said, where it said something else, in a word, and its policies.
    pub shadow: Option<(String, Vec<String>)>,
    /// Digest of the rules then in force.
    pub rules: String,
    /// When, as it is written.
    pub at: String,
    source_ip: Option<core::net::IpAddr>,
    era: String,
    thread: (String, String),
    /// Labels that the session had seen, as far as the entry has them.
    pub seen: Labels,
}

impl Recorded {
    /// Reads an entry; nothing where it is no decision of policy about a call.
    #[must_use]
    pub fn of(index: u64, entry: &Value) -> Option<Self> {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
        let texts = |pointer: &str| -> Vec<String> {
            let items = entry.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(ToString::to_string).collect()
        };
        let code = text("/code").map(ToString::to_string);
        let refused = text("/event") == Some("call.refused")
            && entry.get("intent").is_none()
            && code.as_ref().is_some_and(|code| code.starts_with("policy."));
        let allowed = text("/event") == Some("call.intent");
        if !allowed && !refused {
            return None;
        }
        let id = text("/actor/id")?;
        let caller = Caller {
            id: id.into(),
            kind: case::kind_named(text("/actor/kind")?).ok()?,
            proof: case::proof_named(text("/actor/proof")?, id).ok()?,
            roles: texts("/actor/roles").into(),
            servers: Scope::All,
            scopes: Vec::new(),
            claims: None,
            actors: texts("/data/actors").into(),
            expires: None,
        };
        let item = match (text("/target/kind").and_then(TargetKind::named), text("/target/name")) {
            (Some(kind), Some(name)) => Some((kind, name.into())),
            (None, _) | (_, None) => None,
        };
        let shadow = entry.pointer("/data/shadow/effect").and_then(Value::as_str);
        let trace = text("/trace").and_then(|trace| trace.split('-').nth(1)).unwrap_or_default();
        Some(Self {
            index,
            action: case::action_named(text("/action")?).ok()?,
            target: Target { server: text("/target/server")?.into(), item, digest: None },
            allowed,
            approved: allowed && text("/data/approval").is_some(),
            policies: texts("/decision/policies"),
            code,
            shadow: shadow.map(|effect| (effect.to_string(), texts("/data/shadow/policies"))),
            rules: text("/rules").unwrap_or_default().to_string(),
            at: text("/at")?.to_string(),
            source_ip: text("/source").and_then(|source| source.parse().ok()),
            era: text("/era").unwrap_or("2025-11-25").to_string(),
            thread: (id.to_string(), text("/session").unwrap_or(trace).to_string()),
            seen: texts("/data/seen").iter().filter_map(|name| Label::named(name)).collect(),
            caller,
        })
    }

    /// How it was decided, in a word.
    #[must_use]
    pub fn effect(&self) -> &'static str {
        match (self.allowed, self.approved) {
            (true, false) => "allow",
            (true, true) => "approval",
            (false, _) => "deny",
        }
    }
}

/// Calls that would be decided another way.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shift {
    /// Whose.
    pub caller: String,
    /// What for.
    pub action: &'static str,
    /// On what.
    pub target: String,
    /// `allow`, `approval` or `deny`.
    pub recorded: &'static str,
    /// What the candidate says.
    pub candidate: Verdict,
    /// How many.
    pub calls: u64,
    /// Index of the first of them.
    pub first: u64,
    /// Index of the last of them.
    pub last: u64,
}

/// What would have been decided another way.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Simulation {
    /// Decisions looked at.
    pub calls: u64,
    /// Those that stay as they were.
    pub same: u64,
    /// Those that change, and those that cannot be told without what the ledger does not keep.
    pub shifts: Vec<Shift>,
}

type Threads = BTreeMap<(String, String), Labels>;

/// Puts recorded calls to `candidate`, in the order of the ledger.
#[must_use]
pub fn simulate(candidate: &Policies, records: &[Recorded]) -> Simulation {
    let mut out = Simulation::default();
    let mut seen = Threads::new();
    let mut shifts: BTreeMap<(String, Action, String, &'static str, String), Shift> = BTreeMap::new();
    for record in records {
        out.calls += 1;
        let thread = seen.entry(record.thread.clone()).or_default();
        let now = Timestamp::parse(&record.at).unwrap_or(Timestamp(0));
        let context = RequestContext {
            source_ip: record.source_ip,
            seen: thread.with(record.seen),
            ..RequestContext::new(now, &record.era)
        };
        // How fast the caller was is not in the entry.
        let context = (!candidate.is_paced()).then_some(&context);
        let said = candidate.verdict(&record.caller, record.action, &record.target, context);
        if record.allowed {
            *thread = thread.with(candidate.labels(&record.target));
        }
        let same = match &said {
            Verdict::Allow => record.allowed && !record.approved,
            Verdict::Approval => record.approved,
            Verdict::Deny => !record.allowed,
            // Not worth a word where the live policies asked the same.
            Verdict::Depends(policies) => policies.iter().any(|id| record.policies.contains(id)),
        };
        if same {
            out.same += 1;
            continue;
        }
        let target = record.target.to_string();
        let key = (
            record.caller.id.to_string(),
            record.action,
            target.clone(),
            record.effect(),
            format!("{said:?}"),
        );
        let shift = shifts.entry(key).or_insert_with(|| Shift {
            caller: record.caller.id.to_string(),
            action: record.action.name(),
            target,
            recorded: record.effect(),
            candidate: said,
            calls: 0,
            first: record.index,
            last: record.index,
        });
        shift.calls += 1;
        shift.last = record.index;
    }
    out.shifts = shifts.into_values().collect();
    out
}

/// Who a proposal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A role for each caller.
    Caller,
    /// A narrower version of each role.
    Role,
}

/// The least that would have allowed what was recorded: names as they were used, no pattern. What people said yes to
/// still wants people, of whom the ledger's entry of the call does not say who they must be.
#[must_use]
pub fn learn(records: &[Recorded], by: By) -> Vec<Role> {
    type Use = (Action, String, Option<TargetKind>, bool);
    type Used = BTreeMap<Use, BTreeSet<String>>;
    let mut roles: BTreeMap<String, Used> = BTreeMap::new();
    for record in records.iter().filter(|record| record.allowed) {
        let names: Vec<String> = match by {
            By::Caller => alloc::vec![record.caller.id.to_string()],
            By::Role => record.caller.roles.to_vec(),
        };
        let server = record.target.server.to_string();
        for name in names {
            let used = roles.entry(name).or_default();
            let (kind, item) = match &record.target.item {
                Some((kind, item)) => (Some(*kind), Some(item.to_string())),
                None => (None, None),
            };
            used.entry((record.action, server.clone(), kind, record.approved)).or_default().extend(item);
            used.entry((Action::Connect, server.clone(), None, false)).or_default();
        }
    }
    let nobody_yet =
        || Approval { people: 1, roles: BTreeSet::new(), expires_s: Approval::EXPIRES_S, by_caller: false };
    let rule = |((action, server, kind, approved), items): (Use, BTreeSet<String>)| Rule {
        actions: alloc::vec![action],
        servers: alloc::vec![literal_pattern(&server)],
        kinds: kind.into_iter().collect(),
        items: items.iter().map(|item| literal_pattern(item)).collect(),
        approval: approved.then(nobody_yet),
        ..Rule::permit()
    };
    let role = |(name, used): (String, Used)| Role {
        doc: Some(format!("what {name} used")),
        name,
        inherits: Vec::new(),
        rules: used.into_iter().map(rule).collect(),
    };
    roles.into_iter().map(role).collect()
}

/// Roles as the section `roles` of the configuration.
#[must_use]
pub fn to_yaml(roles: &[Role]) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let list = |patterns: &[Pattern]| {
        let texts: Vec<String> = patterns.iter().map(|pattern| quoted(&pattern.to_string())).collect();
        format!("[{}]", texts.join(", "))
    };
    let mut out = String::from("roles:\n");
    for role in roles {
        let name: String = role
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .take(64)
            .collect();
        let name = name.trim_start_matches(['.', '_', '-']);
        let _ = writeln!(out, "  {}:", quoted(name));
        if let Some(doc) = &role.doc {
            let _ = writeln!(out, "    description: {}", quoted(doc));
        }
        let _ = writeln!(out, "    allow:");
        for rule in &role.rules {
            let actions: Vec<&str> = rule.actions.iter().map(|action| action.name()).collect();
            let _ = writeln!(out, "      - actions: [{}]", actions.join(", "));
            let _ = writeln!(out, "        servers: {}", list(&rule.servers));
            if rule.approval.is_some() {
                let _ = writeln!(
                    out,
                    "        approval: {{}}  # people said yes to each of these; say here whom to ask"
                );
            }
            let section = match rule.kinds.first() {
                None => continue,
                Some(TargetKind::Tool) => "tools",
                Some(TargetKind::Prompt) => "prompts",
                Some(TargetKind::Resource | TargetKind::Template) => "resources",
            };
            let _ = writeln!(out, "        {section}: {}", list(&rule.items));
        }
    }
    out
}
