//! `@approval` on a policy: whom to ask before the call is made.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

use cedar_policy::{ActionConstraint, Policy};
use portcullis_core::{Action, Approval};

use crate::{Role, entities::Words};

/// The annotations, in the order in which they are written.
const ANNOTATIONS: [&str; 4] = ["approval", "approval_roles", "approval_expires_s", "approval_by_caller"];
/// What can wait for people: a call of its own, which can be made again.
const ACTIONS: [Action; 3] = [Action::CallTool, Action::GetPrompt, Action::ReadResource];

/// What is wrong, and what to do.
type Mistake = (String, &'static str);

/// What `policy` asks for. Of those that forbid, the flow rule alone may ask instead.
pub(crate) fn read(
    policy: &Policy,
    flow: bool,
    roles: &[Role],
    words: &Words,
) -> Result<Option<Approval>, Mistake> {
    for (name, _) in policy.annotations() {
        if name.starts_with("approv") && !ANNOTATIONS.contains(&name) {
            return Err((
                format!("there is no `@{name}`"),
                "write approval, approval_roles, approval_expires_s or approval_by_caller",
            ));
        }
    }
    let Some(people) = policy.annotation("approval") else {
        return match ANNOTATIONS.into_iter().find(|name| policy.annotation(name).is_some()) {
            Some(name) => Err((format!("`@{name}` without `@approval`"), "add `@approval(\"1\")`")),
            None => Ok(None),
        };
    };
    if policy.effect() == cedar_policy::Effect::Forbid && !flow {
        let message = "`@approval` on a `forbid` has no meaning: what is forbidden nobody can approve";
        return Err((message.to_string(), "put it on the `permit` that allows the call"));
    }
    if !can_wait(policy, words) {
        let message =
            "`@approval` on a policy about other actions than `call_tool`, `get_prompt` and `read_resource`";
        return Err((message.to_string(), "write `action == Action::\"call_tool\"`, or a list of the three"));
    }
    let approval = Approval {
        people: count(people)?,
        roles: one_of(policy.annotation("approval_roles"), roles)?,
        expires_s: expiry(policy.annotation("approval_expires_s"))?,
        by_caller: flag(policy.annotation("approval_by_caller"))?,
    };
    if approval.by_caller && approval.people > 1 {
        let message = "`@approval_by_caller` where several people are asked for";
        return Err((message.to_string(), "ask for one person, or take it away"));
    }
    if approval.roles.is_empty() && !approval.by_caller {
        let message = "`@approval` without `@approval_roles`: nobody could say yes";
        return Err((message.to_string(), "name the roles of which an approver must have one"));
    }
    Ok(Some(approval))
}

fn can_wait(policy: &Policy, words: &Words) -> bool {
    let named: Vec<_> = match policy.action_constraint() {
        ActionConstraint::Any => return false,
        ActionConstraint::Eq(uid) => alloc::vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    !named.is_empty() && named.iter().all(|uid| ACTIONS.iter().any(|action| words.action(*action) == *uid))
}

/// `2`, `2 people` or `1 person`.
fn count(text: &str) -> Result<u8, Mistake> {
    let number = text.trim().trim_end_matches(" people").trim_end_matches(" person").trim();
    let people = number.parse::<u8>().ok().filter(|people| (1..=Approval::PEOPLE_MAX).contains(people));
    people.ok_or_else(|| {
        (format!("`@approval(\"{text}\")` names no number of people"), "write `@approval(\"2\")`; 1 to 10")
    })
}

fn one_of(text: Option<&str>, known: &[Role]) -> Result<BTreeSet<BTreeSet<String>>, Mistake> {
    let Some(text) = text else { return Ok(BTreeSet::new()) };
    let names: BTreeSet<String> = text.split(',').map(|name| name.trim().to_string()).collect();
    match names.iter().find(|name| !known.iter().any(|role| role.name == **name)) {
        Some(name) => Err((
            format!("there is no role `{name}`"),
            "declare it under `roles`; it may have no rules there. Several are separated by commas",
        )),
        None => Ok(BTreeSet::from([names])),
    }
}

fn expiry(text: Option<&str>) -> Result<u32, Mistake> {
    let Some(text) = text else { return Ok(Approval::EXPIRES_S) };
    let seconds = text.trim().parse::<u32>().ok().filter(|s| (1..=Approval::EXPIRES_S_MAX).contains(s));
    seconds.ok_or_else(|| {
        (format!("`@approval_expires_s(\"{text}\")` is no number of seconds"), "write 1 to 604800")
    })
}

fn flag(text: Option<&str>) -> Result<bool, Mistake> {
    match text.map(str::trim) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(other) => {
            Err((format!("`@approval_by_caller(\"{other}\")` says neither yes nor no"), "write \"true\""))
        }
    }
}

/// The annotations that say `approval`, as [`read`] reads them.
pub(crate) fn annotations(approval: &Approval) -> Vec<(&'static str, String)> {
    let mut out = alloc::vec![("approval", approval.people.to_string())];
    for any in &approval.roles {
        out.push(("approval_roles", any.iter().cloned().collect::<Vec<_>>().join(",")));
    }
    out.push(("approval_expires_s", approval.expires_s.to_string()));
    if approval.by_caller {
        out.push(("approval_by_caller", "true".to_string()));
    }
    out
}

/// What is asked for, in words.
pub(crate) fn in_words(approval: &Approval) -> String {
    let who =
        if approval.people == 1 { "1 person".to_string() } else { format!("{} people", approval.people) };
    let of = |any: &BTreeSet<String>| format!("`{}`", any.iter().cloned().collect::<Vec<_>>().join("` or `"));
    let roles: Vec<String> = approval.roles.iter().map(of).collect();
    let others = format!("once {who} with role {} approve", roles.join(" and "));
    match (approval.by_caller, roles.is_empty()) {
        (false, _) => others,
        (true, true) => "once the caller confirms it".to_string(),
        (true, false) => format!("once the caller confirms it, or {others}"),
    }
}
