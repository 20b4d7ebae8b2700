//! `@approval` on policies: what is asked for, by whom it is answered, and what cannot take effect.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeSet;

use portcullis_core::{Action, Approval, Caller, Limits, Target, TargetKind, Timestamp};
use portcullis_policy::{
    Label, Labels, Permit, Policies, PolicySource, RequestContext, Role, Rule, ServerFacts, builtin_roles,
};

fn roles() -> Vec<Role> {
    let empty = |name: &str| Role { name: name.into(), doc: None, inherits: vec![], rules: vec![] };
    let mut roles = builtin_roles();
    roles.extend([empty("lead"), empty("security")]);
    roles
}

fn source(cedar: &str) -> PolicySource {
    let labels = [("send", [Label::WritesExternal].into_iter().collect::<Labels>())]
        .map(|(name, labels)| (name.parse().unwrap(), labels));
    let facts = ServerFacts { labels: labels.into(), ..ServerFacts::default() };
    PolicySource {
        roles: roles(),
        cedar: vec![("extra.cedar".into(), cedar.into())],
        servers: [("s".to_owned(), facts)].into(),
        ..PolicySource::default()
    }
}

fn compile(source: &PolicySource) -> Policies {
    match Policies::compile(source, &Limits::default()) {
        Ok(policies) => policies,
        Err(errors) => panic!("{errors:#?}"),
    }
}

fn asked(policies: &Policies, roles: &[&str], tool: &str, seen: Labels) -> Result<Permit, String> {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let caller = Caller::local("a", 1, roles.into());
    let target = Target { server: "s".into(), item: Some((TargetKind::Tool, tool.into())), digest: None };
    let context = RequestContext { seen, ..RequestContext::new(Timestamp(0), "2026-07-28") };
    let permit = policies.permit(&caller, Action::CallTool, &target, None, &context);
    permit.map_err(|denial| denial.code.name().to_owned())
}

fn approval(policies: &Policies, roles: &[&str], tool: &str, seen: Labels) -> Option<Approval> {
    asked(policies, roles, tool, seen).unwrap().obligations().approval.clone()
}

fn sets(roles: &[&[&str]]) -> BTreeSet<BTreeSet<String>> {
    roles.iter().map(|any| any.iter().map(|role| (*role).to_owned()).collect()).collect()
}

const TOOL: &str = "permit (principal, action == Action::\"call_tool\", resource)";

#[test]
fn a_permit_can_ask_for_people_and_several_that_apply_ask_for_what_satisfies_all() {
    let cedar = format!(
        r#"@approval("2 people") @approval_roles("lead, security") @approval_expires_s("60")
           {TOOL} when {{ resource has name && resource.name == "one" }};
           @approval("1") @approval_roles("security")
           permit (principal, action in [Action::"call_tool", Action::"get_prompt"], resource)
               when {{ resource has name && resource.name == "one" }};
           @approval("1 person") @approval_by_caller
           {TOOL} when {{ resource has name && resource.name == "two" }};
           {TOOL} when {{ resource has name && resource.name == "three" }};"#
    );
    let policies = compile(&source(&cedar));
    let one = approval(&policies, &[], "one", Labels::NONE).unwrap();
    assert_eq!((one.people, one.expires_s, one.by_caller), (2, 60, false));
    assert_eq!(one.roles, sets(&[&["lead", "security"], &["security"]]));
    let two = approval(&policies, &[], "two", Labels::NONE).unwrap();
    assert_eq!((two.people, two.expires_s, two.by_caller), (1, 3_600, true));
    assert!(two.roles.is_empty() && approval(&policies, &[], "three", Labels::NONE).is_none());
    // A further permit adds nothing to be had without asking.
    let both = approval(&policies, &["admin"], "one", Labels::NONE).unwrap();
    assert_eq!(both, one);
}

#[test]
fn a_rule_of_a_role_asks_as_a_policy_does_and_the_digest_of_the_policy_knows_it() {
    let with = |approval: Option<Approval>| {
        let rule = Rule { actions: vec![Action::CallTool], approval, ..Rule::permit() };
        let role = Role { name: "r".into(), doc: None, inherits: vec![], rules: vec![rule] };
        let mut source = source("");
        source.roles.push(role);
        compile(&source)
    };
    let demand = Approval { people: 1, roles: sets(&[&["lead"]]), expires_s: 5, by_caller: true };
    let policies = with(Some(demand.clone()));
    assert_eq!(approval(&policies, &["r"], "x", Labels::NONE), Some(demand.clone()));
    assert!(approval(&with(None), &["r"], "x", Labels::NONE).is_none());
    assert_ne!(with(None).digest(), policies.digest());
    assert_ne!(with(Some(Approval { people: 2, by_caller: false, ..demand })).digest(), policies.digest());
}

#[test]
fn the_flow_rule_can_ask_instead_of_refusing_and_only_where_nothing_else_stands_in_the_way() {
    let seen: Labels = [Label::ReadsPrivate, Label::SeesUntrusted].into_iter().collect();
    let demand = Approval { people: 1, roles: sets(&[&["security"]]), expires_s: 60, by_caller: false };
    let ask = PolicySource { flow_approval: Some(demand.clone()), ..source("") };
    let (asking, refusing) = (compile(&ask), compile(&source("")));
    assert_eq!(asked(&refusing, &["admin"], "send", seen), Err("policy.flow".into()));
    let permit = asked(&asking, &["admin"], "send", seen).unwrap();
    assert_eq!(permit.obligations().approval, Some(demand));
    assert_eq!(permit.policies(), ["admin#1", "flow@s"]);
    assert!(
        approval(&asking, &["admin"], "send", Labels::NONE).is_none(),
        "nothing private, nothing strange"
    );
    for policies in [&asking, &refusing] {
        assert_eq!(
            asked(policies, &["lead"], "send", seen),
            Err("policy.denied".into()),
            "nothing permits it"
        );
    }
    let forbidding = PolicySource {
        cedar: vec![("f".into(), "forbid (principal, action == Action::\"call_tool\", resource);".into())],
        ..ask
    };
    assert_eq!(asked(&compile(&forbidding), &["admin"], "send", seen), Err("policy.denied".into()));
}

#[test]
fn an_approval_that_nobody_could_give_or_that_could_not_take_effect_stops_the_start() {
    for (annotations, policy, message) in [
        (r#"@approval("1")"#, TOOL, "nobody could say yes"),
        (r#"@approval_roles("lead")"#, TOOL, "without `@approval`"),
        (r#"@approval("0") @approval_roles("lead")"#, TOOL, "no number of people"),
        (r#"@approval("11") @approval_roles("lead")"#, TOOL, "no number of people"),
        (r#"@approval("lead") @approval_roles("lead")"#, TOOL, "no number of people"),
        (r#"@approval("1") @approval_roles("leads")"#, TOOL, "there is no role `leads`"),
        (r#"@approval("1") @approval_roles("lead,")"#, TOOL, "there is no role ``"),
        (r#"@approval("1") @approval_roles("lead") @approval_expires_s("0")"#, TOOL, "no number of seconds"),
        (r#"@approval("1") @approval_roles("lead") @approval_expires_s("1h")"#, TOOL, "no number of seconds"),
        (r#"@approval("2") @approval_roles("lead") @approval_by_caller"#, TOOL, "several people"),
        (r#"@approval("1") @approval_by_caller("maybe")"#, TOOL, "neither yes nor no"),
        (r#"@approval("1") @approval_role("lead")"#, TOOL, "there is no `@approval_role`"),
        (
            r#"@approval("1") @approval_roles("lead")"#,
            "forbid (principal, action == Action::\"call_tool\", resource)",
            "nobody can approve",
        ),
        (
            r#"@approval("1") @approval_roles("lead")"#,
            "permit (principal, action, resource)",
            "other actions",
        ),
        (
            r#"@approval("1") @approval_roles("lead")"#,
            "permit (principal, action in [Action::\"call_tool\", Action::\"connect\"], resource)",
            "other actions",
        ),
    ] {
        let errors = Policies::compile(&source(&format!("{annotations}\n{policy};")), &Limits::default());
        let errors = errors.unwrap_err();
        assert!(errors[0].message.contains(message), "{annotations} {policy}: {}", errors[0].message);
    }
}

#[test]
fn whoever_asks_why_is_told_who_must_approve() {
    let cedar = format!("@approval(\"2\") @approval_roles(\"lead,security\")\n{TOOL};");
    let policies = compile(&source(&cedar));
    let target = Target { server: "s".into(), item: Some((TargetKind::Tool, "x".into())), digest: None };
    let caller = Caller::local("a", 1, [].into());
    let context = RequestContext::new(Timestamp(0), "2026-07-28");
    let why = policies.explain(&caller, Action::CallTool, &target, None, &context);
    assert!(why.allowed);
    assert_eq!(why.approval.as_deref(), Some("once 2 people with role `lead` or `security` approve"));
    assert!(why.to_string().contains("once 2 people"));
}
