//! Roles as Cedar text.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use portcullis_core::TargetKind;

use crate::{Effect, Pattern, Role, Rule, source::escaped};

/// The id of the rule at `index` (from 0) of a role.
pub(crate) fn rule_id(role: &str, index: usize) -> String {
    format!("{role}#{}", index + 1)
}

/// One rule of `role` as one Cedar policy.
pub(crate) fn rule(role: &Role, index: usize, rule: &Rule) -> String {
    let mut out = String::new();
    annotate(&mut out, "id", &rule_id(&role.name, index));
    if !rule.mask.is_empty() {
        annotate(&mut out, "mask", &rule.mask.join(","));
    }
    if !rule.refuse.is_empty() {
        annotate(&mut out, "refuse", &rule.refuse.join(","));
    }
    let effect = match rule.effect {
        Effect::Forbid => "forbid",
        Effect::Permit => "permit",
    };
    let actions: Vec<String> = rule.actions.iter().map(|action| format!("Action::\"{action}\"")).collect();
    let action = match actions.as_slice() {
        [] => "action".to_string(),
        [one] => format!("action == {one}"),
        several => format!("action in [{}]", several.join(", ")),
    };
    let single = match rule.servers.as_slice() {
        [one] => one.literal(),
        _ => None,
    };
    let resource = match single {
        Some(server) => format!("resource in Server::\"{}\"", escaped(server)),
        None => "resource".to_string(),
    };
    out.push_str(&format!(
        "{effect} (\n  principal in Role::\"{}\",\n  {action},\n  {resource}\n)",
        escaped(&role.name)
    ));
    let mut conditions = Vec::new();
    if single.is_none() {
        conditions.extend(servers(&rule.servers));
    }
    conditions.extend(things(rule));
    if !conditions.is_empty() {
        out.push_str(&format!("\nwhen {{ {} }}", conditions.join(" && ")));
    }
    out.push(';');
    out
}

fn annotate(out: &mut String, name: &str, value: &str) {
    out.push_str(&format!("@{name}(\"{}\")\n", escaped(value)));
}

fn servers(patterns: &[Pattern]) -> Option<String> {
    alternatives(patterns, "resource.server")
}

/// What narrows a rule to things on a server. A permit of something on the server as a whole stays: whoever may use
/// an item must be able to connect where the rule's actions say so. A forbid of items must not cut that.
fn things(rule: &Rule) -> Option<String> {
    let kinds: Vec<String> =
        rule.kinds.iter().map(|kind| format!("resource is {}", entity_type(*kind))).collect();
    let kinds = (!kinds.is_empty()).then(|| format!("({})", kinds.join(" || ")));
    let items =
        alternatives(&rule.items, "resource.name").map(|items| format!("resource has name && {items}"));
    let both = match (kinds, items) {
        (None, None) => return None,
        (Some(one), None) | (None, Some(one)) => one,
        (Some(kinds), Some(items)) => format!("{kinds} && {items}"),
    };
    Some(match rule.effect {
        Effect::Permit => format!("(resource is Server || ({both}))"),
        Effect::Forbid => both,
    })
}

fn alternatives(patterns: &[Pattern], attribute: &str) -> Option<String> {
    if patterns.is_empty() || patterns.iter().any(Pattern::is_any) {
        return None;
    }
    let alternatives: Vec<String> = patterns
        .iter()
        .map(|pattern| match pattern.literal() {
            Some(text) => format!("{attribute} == \"{}\"", escaped(text)),
            None => format!("{attribute} like {}", pattern.to_cedar()),
        })
        .collect();
    Some(format!("({})", alternatives.join(" || ")))
}

const fn entity_type(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Prompt => "Prompt",
        TargetKind::Resource => "Resource",
        TargetKind::Template => "Template",
        TargetKind::Tool => "Tool",
    }
}
