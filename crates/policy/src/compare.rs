//! What changes for whom between two sets of policies.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use portcullis_core::{Action, Caller, CallerKind, Target, TargetKind};

use crate::{Pattern, Policies, PolicySource, Verdict, entities};

/// Questions asked at most; more roles and things than this are not compared one by one.
const QUESTIONS_MAX: usize = 2_000_000;

/// One decision that changes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// Whose: ``role `NAME` ``, a caller by id, or nobody in particular.
    pub principal: String,
    /// What for.
    pub action: &'static str,
    /// On what; `…` stands for whatever no policy names.
    pub resource: String,
    /// What was said.
    pub before: Verdict,
    /// What is said now.
    pub after: Verdict,
}

/// What two sets of policies disagree about.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Comparison {
    /// Policies that only the new set has, by id.
    pub added: Vec<String>,
    /// Policies that only the old set has, by id.
    pub removed: Vec<String>,
    /// Policies of another text.
    pub changed: Vec<String>,
    /// Decisions that change.
    pub decisions: Vec<Change>,
    /// How many questions were put to both.
    pub questions: usize,
}

impl Comparison {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, changed, decisions, questions: _ } = self;
        added.is_empty() && removed.is_empty() && changed.is_empty() && decisions.is_empty()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sign, ids) in [("+", &self.added), ("-", &self.removed), ("~", &self.changed)] {
            for id in ids {
                writeln!(f, "{sign} policy `{id}`")?;
            }
        }
        for Change { principal, action, resource, before, after } in &self.decisions {
            writeln!(f, "{principal}: {action} `{resource}`: {} -> {}", word(before), word(after))?;
        }
        if self.is_empty() {
            writeln!(f, "no difference")?;
        }
        Ok(())
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow => "allow".to_string(),
        Verdict::Approval => "allow once people said yes".to_string(),
        Verdict::Deny => "deny".to_string(),
        Verdict::Depends(policies) => format!("depends on `{}`", policies.join("`, `")),
    }
}

/// Puts the same questions to both: for every role, every caller that a policy names and somebody without a role, on
/// every server and thing that either names, and one that neither does.
///
/// # Errors
/// There are too many of them.
pub fn compare(
    before: (&PolicySource, &Policies),
    after: (&PolicySource, &Policies),
) -> Result<Comparison, String> {
    let mut out = Comparison::default();
    let texts = |policies: &Policies| -> BTreeMap<String, String> {
        policies.policies.iter().map(|one| (one.id.clone(), one.text.clone())).collect()
    };
    let (old, new) = (texts(before.1), texts(after.1));
    out.added = new.keys().filter(|id| !old.contains_key(*id)).cloned().collect();
    out.removed = old.keys().filter(|id| !new.contains_key(*id)).cloned().collect();
    let differs = |id: &&String| new.get(*id).is_some_and(|text| old.get(*id) != Some(text));
    out.changed = old.keys().filter(differs).cloned().collect();
    let open = |verdict: &Verdict| match verdict {
        Verdict::Depends(ids) => ids.iter().any(|id| out.changed.contains(id)),
        Verdict::Allow | Verdict::Approval | Verdict::Deny => false,
    };
    let (who, what) = (principals(&[before, after]), resources(&[before, after]));
    if who.len().saturating_mul(what.len()).saturating_mul(Action::ALL.len()) > QUESTIONS_MAX {
        return Err(format!("{} callers and {} things are too many to compare", who.len(), what.len()));
    }
    let mut decisions = Vec::new();
    for (principal, caller) in &who {
        for target in &what {
            for action in Action::ALL.iter().copied().filter(|action| entities::applies(*action, target)) {
                out.questions += 1;
                let said =
                    [before, after].map(|(_, policies)| policies.verdict(caller, action, target, None));
                let [before, after] = said;
                if before != after || open(&before) {
                    let (principal, resource) = (principal.clone(), target.to_string());
                    decisions.push(Change { principal, action: action.name(), resource, before, after });
                }
            }
        }
    }
    out.decisions = decisions;
    Ok(out)
}

fn principals(sets: &[(&PolicySource, &Policies)]) -> Vec<(String, Caller)> {
    let user = |id: &str, roles: Vec<String>| Caller {
        id: id.into(),
        kind: CallerKind::User,
        ..Caller::anonymous(roles.into())
    };
    let mut out = alloc::vec![
        ("anonymous".to_string(), Caller::anonymous([].into())),
        ("somebody without a role".to_string(), user("…", Vec::new())),
    ];
    let roles: BTreeSet<&String> =
        sets.iter().flat_map(|(source, _)| &source.roles).map(|role| &role.name).collect();
    out.extend(
        roles.into_iter().map(|role| (format!("role `{role}`"), user("…", alloc::vec![role.clone()]))),
    );
    let mut named = BTreeMap::new();
    for (_, policies) in sets {
        for uid in policies.policies.iter().flat_map(|one| one.policy.entity_literals()) {
            if let Some(kind) = policies.words.caller_kind(&uid) {
                let id = uid.id().unescaped();
                named.insert((id.to_string(), kind as u8), Caller { kind, ..user(id, Vec::new()) });
            }
        }
    }
    out.extend(named.into_iter().map(|((id, _), caller)| (format!("`{id}`"), caller)));
    out
}

/// Each server with each thing: names as they are, one text for each pattern, and what no policy names.
fn resources(sets: &[(&PolicySource, &Policies)]) -> Vec<Target> {
    let mut servers = BTreeSet::from(["…".to_string()]);
    let mut items = BTreeSet::new();
    for kind in TargetKind::ALL {
        items.insert((*kind, "…".to_string()));
    }
    for (source, policies) in sets {
        servers.extend(source.servers.keys().cloned());
        servers.extend(policies.policies.iter().filter_map(|one| one.server.clone()));
        for rule in source.roles.iter().flat_map(|role| &role.rules) {
            servers.extend(rule.servers.iter().map(Pattern::example));
            let kinds = if rule.kinds.is_empty() { TargetKind::ALL } else { rule.kinds.as_slice() };
            for kind in kinds {
                items.extend(rule.items.iter().map(|pattern| (*kind, pattern.example())));
            }
        }
        for facts in source.servers.values() {
            let labelled = facts.labels.iter().map(|(pattern, _)| (TargetKind::Tool, pattern.example()));
            items.extend(labelled);
        }
        for uid in policies.policies.iter().flat_map(|one| one.policy.entity_literals()) {
            items.extend(policies.words.item(&uid));
        }
    }
    let mut out = Vec::new();
    for server in &servers {
        let on = |item| Target { server: server.as_str().into(), item, digest: None };
        out.push(on(None));
        out.extend(items.iter().map(|(kind, name)| on(Some((*kind, name.as_str().into())))));
    }
    out
}
