//! Roles as Cedar text.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use portcullis_core::{Approval, TargetKind};

use crate::{Effect, Label, Pattern, Role, Rule, approval, pattern::escaped};

/// What `@buffer` holds until it was judged: the answer, with what stands before it on its stream.
pub(crate) const BUFFERED: &str = "answer";

/// The id of the rule at `index` (from 0) of a role.
pub(crate) fn rule_id(role: &str, index: usize) -> String {
    format!("{role}#{}", index + 1)
}

/// One rule of `role` as one Cedar policy.
pub(crate) fn rule(role: &Role, index: usize, rule: &Rule) -> String {
    let mut out = String::new();
    annotate(&mut out, "id", &rule_id(&role.name, index));
    for (name, detectors) in [
        ("warn", &rule.warn),
        ("ask", &rule.ask),
        ("mask", &rule.mask),
        ("drop", &rule.drop),
        ("refuse", &rule.refuse),
        ("restore", &rule.restore),
    ] {
        if !detectors.is_empty() {
            annotate(&mut out, name, &detectors.join(","));
        }
    }
    if rule.buffer {
        annotate(&mut out, "buffer", BUFFERED);
    }
    demand(&mut out, rule.approval.as_ref());
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
    conditions.extend(environments(&rule.environments));
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

fn demand(out: &mut String, approval: Option<&Approval>) {
    for (name, value) in approval.iter().flat_map(|approval| approval::annotations(approval)) {
        annotate(out, name, &value);
    }
}

fn servers(patterns: &[Pattern]) -> Option<String> {
    alternatives(patterns, "resource.server")
}

fn environments(names: &[String]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let one = |name: &String| format!("resource.environment == \"{}\"", escaped(name));
    let names: Vec<String> = names.iter().map(one).collect();
    Some(format!("resource has environment && ({})", names.join(" || ")))
}

/// What narrows a rule to things on a server. A permit of something on the server as a whole stays: whoever may use
/// an item must be able to connect where the rule's actions say so. A forbid of items must not cut that.
fn things(rule: &Rule) -> Option<String> {
    let kinds: Vec<String> =
        rule.kinds.iter().map(|kind| format!("resource is {}", entity_type(*kind))).collect();
    let kinds = (!kinds.is_empty()).then(|| format!("({})", kinds.join(" || ")));
    let items =
        alternatives(&rule.items, "resource.name").map(|items| format!("resource has name && {items}"));
    let labels = labels(rule).map(|labels| format!("resource has labels && {labels}"));
    let seen = seen(rule);
    let parts: Vec<String> = [kinds, items, labels, seen].into_iter().flatten().collect();
    if parts.is_empty() {
        return None;
    }
    let both = parts.join(" && ");
    Some(match rule.effect {
        Effect::Permit => format!("(resource is Server || ({both}))"),
        Effect::Forbid => both,
    })
}

fn labels(rule: &Rule) -> Option<String> {
    let one = |label: Label| format!("resource.labels.contains(\"{}\")", label.name());
    let labels: Vec<String> = rule.labels.iter().map(one).collect();
    (!labels.is_empty()).then(|| format!("({})", labels.join(" || ")))
}

/// What the session must have seen, all of it.
fn seen(rule: &Rule) -> Option<String> {
    let one = |label: Label| format!("context.seen.contains(\"{}\")", label.name());
    let labels: Vec<String> = rule.seen.iter().map(one).collect();
    (!labels.is_empty()).then(|| labels.join(" && "))
}

/// The id of the flow rule on a server.
pub(crate) fn flow_id(server: &str) -> String {
    format!("flow@{server}")
}

/// What keeps a session that has private data and has seen what strangers wrote from carrying data out of `server`.
/// What the call itself does counts as done: it may read and write in one.
pub(crate) fn flow(server: &str, approval: Option<&Approval>) -> String {
    let mut out = String::new();
    annotate(&mut out, "id", &flow_id(server));
    demand(&mut out, approval);
    out.push_str(&format!(
        "forbid (\n  principal,\n  action == Action::\"call_tool\",\n  resource in Server::\"{}\"\n)\nwhen {{ \
         resource has labels && resource.labels.contains(\"writes_external\") && \
         (resource.labels.contains(\"reads_private\") || context.seen.contains(\"reads_private\")) && \
         (resource.labels.contains(\"sees_untrusted\") || context.seen.contains(\"sees_untrusted\")) }};",
        escaped(server)
    ));
    out
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
