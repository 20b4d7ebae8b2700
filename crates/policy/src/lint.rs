//! What is well-formed and still wrong: rules that can never apply, roles that grant everything, and settings of
//! security that cannot take effect.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use crate::{
    Effect, Label, Pattern, Policies, PolicySource, Role, Rule, builtin_roles, compiled::Compiled,
    reads::Source, render,
};

/// Something that is well-formed and still wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lint {
    /// It stops the start: somebody relies on a protection that is not there. What only grants too much or too little
    /// is a warning.
    pub stops: bool,
    /// Where: a policy by id, a role, a server.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl Lint {
    fn new(stops: bool, place: String, message: String, hint: &str) -> Self {
        Self { stops, place, message, hint: hint.to_string() }
    }
}

/// What is wrong with policies that compile. `claims` are those that some way of authentication lets policy read.
#[must_use]
pub fn lint(source: &PolicySource, policies: &Policies, claims: &BTreeSet<String>) -> Vec<Lint> {
    let mut out = Vec::new();
    for role in &source.roles {
        of_role(role, source, &mut out);
    }
    for one in &policies.policies {
        of_policy(one, source, claims, &mut out);
    }
    out
}

fn of_role(role: &Role, source: &PolicySource, out: &mut Vec<Lint>) {
    let builtin = builtin_roles().contains(role);
    for (index, rule) in role.rules.iter().enumerate() {
        let place = || format!("policy `{}`", render::rule_id(&role.name, index));
        if !builtin && rule.effect == Effect::Permit && is_everything(rule) {
            let message = "grants every action on every server".to_string();
            out.push(Lint::new(
                false,
                place(),
                message,
                "name actions, servers or tools; or give the role `admin`",
            ));
        }
        let over = role.rules.iter().any(|other| other.effect == Effect::Forbid && covers(other, rule));
        if rule.effect == Effect::Permit && over {
            let message = "can never permit: a denial of the same role covers all of it".to_string();
            out.push(Lint::new(false, place(), message, "narrow the denial, or remove this rule"));
        }
        for pattern in &rule.servers {
            if !source.servers.is_empty() && !source.servers.keys().any(|name| pattern.matches(name)) {
                let message = format!("names `{pattern}`, and no server has such a name");
                let hint = "correct the name; it counts as soon as such a server is added at run time";
                out.push(Lint::new(false, place(), message, hint));
            }
        }
        let forbids = rule.effect == Effect::Forbid;
        for label in rule.labels.iter().filter(|label| !has_label(source, *label)) {
            let message = format!("is about things labelled `{}`, and no server has any", label.name());
            out.push(Lint::new(forbids, place(), message, "label tools under `servers.NAME.labels`"));
        }
        let known =
            |name: &&String| source.servers.values().any(|one| one.environment.as_ref() == Some(*name));
        for name in rule.environments.iter().filter(|name| !known(name)) {
            let message = format!("is about the environment `{name}`, and no server belongs to it");
            out.push(Lint::new(forbids, place(), message, "set `servers.NAME.environment`"));
        }
    }
}

fn of_policy(one: &Compiled, source: &PolicySource, claims: &BTreeSet<String>, out: &mut Vec<Lint>) {
    let place = || format!("policy `{}`", one.id);
    let forbids = one.effect == Effect::Forbid;
    if one.origin.is_none() && !forbids && one.is_unconditional() {
        let message = "permits everything to everybody, callers without credential included".to_string();
        out.push(Lint::new(false, place(), message, "name a role, or at least an action and a server"));
    }
    let unknown = |server: &&String| !source.servers.is_empty() && !source.servers.contains_key(*server);
    if let Some(server) = one.server.as_ref().filter(|_| one.origin.is_none()).filter(unknown) {
        let message = format!("is about server `{server}`, and there is none of that name");
        let hint = "correct the name; it counts as soon as such a server is added at run time";
        out.push(Lint::new(false, place(), message, hint));
    }
    let read = one.reads.values.iter().filter(|read| read.source == Source::Claims);
    let roots: BTreeSet<&str> = read.filter_map(|read| read.path.split('/').next()).collect();
    let roots = roots.into_iter().map(|name| name.replace("~1", "/").replace("~0", "~"));
    for claim in roots.filter(|claim| !claims.contains(claim)) {
        let message = format!("reads the claim `{claim}`, which no issuer lets policies read");
        out.push(Lint::new(forbids, place(), message, "list it under `claims` of the issuer"));
    }
}

fn has_label(source: &PolicySource, label: Label) -> bool {
    source.servers.values().any(|facts| facts.labels.iter().any(|(_, labels)| labels.closed().has(label)))
}

fn is_everything(rule: &Rule) -> bool {
    let Rule {
        effect: _,
        actions,
        servers,
        items,
        kinds,
        labels,
        seen,
        environments,
        warn: _,
        mask: _,
        ask: _,
        drop: _,
        refuse: _,
        restore: _,
        buffer: _,
        approval: _,
    } = rule;
    let any = |patterns: &[Pattern]| patterns.is_empty() || patterns.iter().any(Pattern::is_any);
    let labels = labels.with(*seen).is_empty();
    actions.is_empty() && any(servers) && any(items) && kinds.is_empty() && labels && environments.is_empty()
}

/// Whether `wide` applies wherever `narrow` does. May say no where it does: this only warns.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    fn within<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|one| wide.contains(one)))
    }
    let patterns = |wide: &[Pattern], narrow: &[Pattern]| {
        wide.iter().any(Pattern::is_any)
            || within(wide, narrow)
            || (!narrow.is_empty()
                && narrow.iter().all(|one| {
                    one.literal().is_some_and(|text| wide.iter().any(|pattern| pattern.matches(text)))
                }))
    };
    let labels: Vec<Label> = wide.labels.iter().collect();
    let narrow_labels: Vec<Label> = narrow.labels.iter().collect();
    within(&wide.actions, &narrow.actions)
        && patterns(&wide.servers, &narrow.servers)
        && patterns(&wide.items, &narrow.items)
        && within(&wide.kinds, &narrow.kinds)
        && within(&labels, &narrow_labels)
        && wide.seen.both(narrow.seen) == wide.seen
        && within(&wide.environments, &narrow.environments)
}
