//! What is asked about policies beside a single decision: cases, differences, replays, proposals, warnings.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails may panic"
)]

use std::{collections::BTreeSet, sync::Arc};

use portcullis_core::{Action, Approval, Caller, Limits, Target, TargetKind, Timestamp};
use portcullis_policy::{
    Agent, By, Case, Label, Policies, PolicySource, Recorded, RequestContext, Role, Rule, ServerFacts,
    Verdict, builtin_roles, compare, learn, lint, simulate, to_yaml,
};
use serde_json::{Value, json};

fn role(name: &str, inherits: &[&str], rules: Vec<Rule>) -> Role {
    let inherits = inherits.iter().map(|name| (*name).to_owned()).collect();
    Role { name: name.to_owned(), doc: None, inherits, rules }
}

fn compile(source: &PolicySource) -> Policies {
    match Policies::compile(source, &Limits::default()) {
        Ok(policies) => policies,
        Err(errors) => panic!("{errors:#?}"),
    }
}

fn tool_rule(tools: &[&str]) -> Rule {
    let items = tools.iter().map(|name| name.parse().unwrap()).collect();
    Rule { actions: vec![Action::CallTool], kinds: vec![TargetKind::Tool], items, ..Rule::permit() }
}

fn facts() -> ServerFacts {
    let labels =
        [("read*", Label::ReadsPrivate), ("web", Label::SeesUntrusted), ("send", Label::WritesExternal)];
    let labels =
        labels.into_iter().map(|(name, label)| (name.parse().unwrap(), [label].into_iter().collect()));
    ServerFacts { environment: Some("production".into()), labels: labels.collect(), ..ServerFacts::default() }
}

fn source(roles: Vec<Role>, cedar: &str) -> PolicySource {
    let cedar = vec![("extra.cedar".to_owned(), cedar.to_owned())];
    PolicySource { roles, cedar, servers: [("s".to_owned(), facts())].into(), ..PolicySource::default() }
}

fn case(policies: &Policies, more: Value) -> String {
    let mut all = json!({"name": "x", "server": "s", "expect": "allow"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let outcome = serde_json::from_value::<Case>(all).unwrap().run(policies);
    if outcome.got.is_empty() { outcome.problem.unwrap_or_default() } else { outcome.got }
}

#[test]
fn a_role_has_what_it_inherits_however_far_away_and_a_ring_is_refused() {
    let roles = vec![
        role("a", &["b"], Vec::new()),
        role("b", &["c", "d"], Vec::new()),
        role("c", &[], vec![tool_rule(&["x", "y"])]),
        role("d", &[], vec![Rule { items: vec!["y".parse().unwrap()], ..Rule::forbid() }]),
    ];
    let policies = compile(&source(roles, ""));
    for (name, x, y) in [
        ("a", "allow", "policy.denied"),
        ("b", "allow", "policy.denied"),
        ("c", "allow", "allow"),
        ("d", "policy.denied", "policy.denied"),
    ] {
        assert_eq!(case(&policies, json!({"roles": [name], "tool": "x"})), x, "{name}");
        assert_eq!(
            case(&policies, json!({"roles": [name], "tool": "y"})),
            y,
            "{name}: a denial is inherited too"
        );
    }
    for ring in [&[("a", "a")][..], &[("a", "b"), ("b", "a")], &[("a", "b"), ("b", "c"), ("c", "a")]] {
        let roles = ring.iter().map(|(name, parent)| role(name, &[parent], Vec::new())).collect();
        let errors = Policies::compile(&source(roles, ""), &Limits::default()).unwrap_err();
        assert_eq!(errors.len(), ring.len(), "{errors:?}");
        assert!(errors.iter().all(|error| error.message.contains("inherits itself")), "{errors:?}");
    }
    let lost = Policies::compile(&source(vec![role("a", &["ghost"], Vec::new())], ""), &Limits::default());
    assert!(lost.unwrap_err()[0].message.contains("`ghost`, which is no role"));
}

#[test]
fn the_context_of_a_call_decides_where_a_policy_reads_it() {
    let table = [
        (
            "context.hour == 8 && context.weekday == 6",
            json!({"at": "2025-11-22T08:26:40Z"}),
            json!({"at": "2025-11-23T08:00:00Z"}),
        ),
        ("context.strength >= 2", json!({"proof": "jwt"}), json!({"proof": "api_key"})),
        (
            "context has auth_age_s && context.auth_age_s < 300",
            json!({"claims": {"auth_time": 1_767_225_500}}),
            json!({"claims": {"auth_time": 1_767_225_000}}),
        ),
        (
            "principal.actors.contains(\"agent-7\")",
            json!({"actors": ["x", "agent-7"]}),
            json!({"actors": ["x"]}),
        ),
        ("principal.scopes.contains(\"files:read\")", json!({"scopes": ["files:read"]}), json!({})),
        (
            "context.seen.contains(\"destructive\")",
            json!({"seen": ["destructive"]}),
            json!({"seen": ["reads_private"]}),
        ),
        ("context.calls_last_minute > 9", json!({"calls_last_minute": 10}), json!({"calls_last_minute": 9})),
        ("resource.labels.contains(\"reads_private\")", json!({"tool": "read_x"}), json!({"tool": "x"})),
        (
            "resource has environment && resource.environment == \"production\"",
            json!({}),
            json!({"server": "other"}),
        ),
        (
            "context has source_ip && context.source_ip.isInRange(ip(\"10.0.0.0/8\"))",
            json!({"source_ip": "10.1.2.3"}),
            json!({"source_ip": "11.1.2.3"}),
        ),
    ];
    for (condition, fits, fits_not) in table {
        let cedar =
            format!("permit (principal, action == Action::\"call_tool\", resource) when {{ {condition} }};");
        let agents =
            ["x", "agent-7"].map(|id| (id.to_owned(), Agent { owner: "team".to_owned(), roles: Vec::new() }));
        let policies = compile(&PolicySource { agents: agents.into(), ..source(Vec::new(), &cedar) });
        let ask = |more: Value| {
            let mut all = json!({"tool": "x"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            case(&policies, all)
        };
        assert_eq!(ask(fits), "allow", "{condition}");
        assert_eq!(ask(fits_not), "policy.denied", "{condition}");
    }
}

#[test]
fn the_flow_rule_is_about_private_data_strangers_words_and_a_way_out_together() {
    let policies = compile(&source(builtin_roles(), ""));
    let send = |seen: &[&str]| case(&policies, json!({"roles": ["admin"], "tool": "send", "seen": seen}));
    assert_eq!(send(&[]), "allow");
    assert_eq!(send(&["reads_private"]), "allow");
    assert_eq!(send(&["sees_untrusted", "destructive"]), "allow");
    assert_eq!(send(&["reads_private", "sees_untrusted"]), "policy.flow");
    let other = json!({"roles": ["admin"], "tool": "web", "seen": ["reads_private", "sees_untrusted"]});
    assert_eq!(case(&policies, other), "allow");
    let denied = json!({"tool": "send", "seen": ["reads_private", "sees_untrusted"]});
    let forbidding =
        compile(&source(builtin_roles(), "forbid (principal, action == Action::\"call_tool\", resource);"));
    assert_eq!(case(&forbidding, denied), "policy.denied", "something else stands in the way as well");
    let off = PolicySource { flow_off: true, ..source(builtin_roles(), "") };
    let all = json!({"roles": ["admin"], "tool": "send", "seen": ["reads_private", "sees_untrusted"]});
    assert_eq!(case(&compile(&off), all), "allow");
}

#[test]
fn times_are_read_as_they_are_printed_and_others_are_none() {
    for text in ["1970-01-01T00:00:00.000Z", "2000-02-29T23:59:59.999Z", "2026-11-23T04:30:00.000Z"] {
        assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(Timestamp::parse("2026-11-23"), Timestamp::parse("2026-11-23T00:00:00Z"));
    for wrong in [
        "",
        "2026",
        "2026-13-01",
        "2026-02-30",
        "2026-1-1",
        "2026-11-23T25:00:00Z",
        "1969-12-31",
        "x-11-23",
        "2026-11-23T01:02:03+01:00",
    ] {
        assert_eq!(Timestamp::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn who_acts_for_another_may_do_what_both_may_do_and_a_chain_only_narrows() {
    let agent = |roles: &[&str]| Agent {
        owner: "team".to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let mine = vec!["email".to_owned()];
    let masking = Rule { mask: mine.clone(), restore: mine, ..tool_rule(&["x", "z"]) };
    let roles = vec![
        role("wide", &[], vec![tool_rule(&["x", "y", "z"])]),
        role("narrow", &[], vec![masking]),
        role("other", &[], vec![tool_rule(&["w", "z"])]),
    ];
    let cedar = "@id(\"one\") forbid (principal == Service::\"jwt:i#bot\", action == Action::\"call_tool\", resource == Tool::\"s/z\");";
    let agents =
        [("jwt:i#bot", agent(&["narrow"])), ("jwt:i#relay", agent(&["wide"])), ("jwt:i#idle", agent(&[]))];
    let agents = agents.into_iter().map(|(id, agent)| (id.to_owned(), agent)).collect();
    let source = PolicySource { agents, ..source(roles, cedar) };
    let policies = compile(&source);
    for (roles, actors, x, y, z, w) in [
        (&["wide"][..], &[][..], true, true, true, false),
        (&["wide"], &["jwt:i#bot"], true, false, false, false),
        (&["wide"], &["jwt:i#relay"], true, true, true, false),
        (&["wide"], &["jwt:i#relay", "jwt:i#bot"], true, false, false, false),
        (&["wide"], &["jwt:i#idle"], false, false, false, false),
        (&["wide"], &["jwt:i#stranger"], false, false, false, false),
        (&["wide"], &["jwt:i#relay", "jwt:i#stranger"], false, false, false, false),
        // What the actor alone may do is no reason.
        (&["other"], &["jwt:i#relay"], false, false, true, false),
        (&[], &["jwt:i#relay"], false, false, false, false),
    ] {
        for (tool, expected) in [("x", x), ("y", y), ("z", z), ("w", w)] {
            let got = case(&policies, json!({"roles": roles, "actors": actors, "tool": tool}));
            assert_eq!(got == "allow", expected, "{roles:?} {actors:?} {tool}: {got}");
        }
    }
    let caller = Caller {
        actors: Arc::from(["jwt:i#bot".to_owned()]),
        ..Caller::anonymous(Arc::from(["wide".to_owned()]))
    };
    let target =
        |name: &str| Target { server: "s".into(), item: Some((TargetKind::Tool, name.into())), digest: None };
    let context = RequestContext::new(Timestamp(0), "2025-11-25");
    let permit = policies.permit(&caller, Action::CallTool, &target("x"), None, &context).unwrap();
    assert_eq!(permit.policies(), ["narrow#1", "wide#1"], "both decided");
    assert_eq!(permit.obligations().answers.len(), 1, "and what either demands is done");
    assert_eq!(permit.obligations().restore.len(), 0, "and only what both may is restored");
    assert_eq!(policies.owner(&caller), Some("team"));
    for name in ["x", "y", "z"] {
        let allowed = policies.decide(&caller, Action::CallTool, &target(name), None, &context).is_allowed();
        assert_eq!(policies.may_see(&caller, Action::CallTool, &target(name), &context), allowed, "{name}");
        let verdict = policies.verdict(&caller, Action::CallTool, &target(name), Some(&context));
        assert_eq!(verdict, if allowed { Verdict::Allow } else { Verdict::Deny }, "{name}");
    }
    assert_eq!(
        policies.audience(&caller, &target("x")),
        None,
        "a list is not shared with those who act for nobody"
    );
    let denial = policies.permit(&caller, Action::CallTool, &target("y"), None, &context).unwrap_err();
    assert!(denial.reason.contains("`jwt:i#bot`, who acts for `anonymous`"), "{}", denial.reason);
}

fn entry(index: u64, roles: &[&str], tool: &str, code: Option<&str>) -> Recorded {
    let (event, effect) = if code.is_some() { ("call.refused", "deny") } else { ("call.intent", "allow") };
    let mut entry = json!({
        "event": event, "at": "2026-11-23T04:30:00.000Z", "action": "call_tool", "session": "s1",
        "actor": {"id": "key:a", "kind": "service", "proof": "api_key", "roles": roles},
        "decision": {"effect": effect, "policies": []}, "target": {"server": "s", "kind": "tool", "name": tool},
    });
    if let Some(code) = code {
        entry["code"] = json!(code);
    }
    Recorded::of(index, &entry).unwrap()
}

#[test]
fn recorded_calls_are_decided_anew_with_what_their_session_had_seen() {
    let records = [
        entry(1, &["operator"], "send", None),
        entry(2, &["operator"], "read_a", None),
        entry(3, &["operator"], "web", None),
        entry(4, &["operator"], "send", None),
        entry(5, &["reader"], "web", Some("policy.denied")),
    ];
    let found = simulate(&compile(&source(builtin_roles(), "")), &records);
    assert_eq!((found.calls, found.same), (5, 4));
    assert_eq!((found.shifts[0].first, found.shifts[0].candidate.clone()), (4, Verdict::Deny));
    let asking = "permit (principal, action == Action::\"call_tool\", resource == Tool::\"s/web\") when { context.arguments.text.hasTag(\"q\") };";
    let found = simulate(&compile(&source(builtin_roles(), asking)), &records);
    let open = found.shifts.iter().find(|shift| shift.first == 5).unwrap();
    assert_eq!(open.candidate, Verdict::Depends(vec!["extra.cedar#1".into()]), "arguments are not recorded");
    for odd in [
        json!({}),
        json!({"event": "call.intent"}),
        json!({"event": "call.refused", "code": "limit.rate"}),
        json!([1]),
    ] {
        assert!(Recorded::of(0, &odd).is_none(), "{odd}");
    }
}

#[test]
fn a_proposal_allows_what_was_used_and_nothing_else() {
    let records = [
        entry(1, &["operator"], "a*b", None),
        entry(2, &["operator"], "web", None),
        entry(3, &["operator"], "refused", Some("policy.denied")),
    ];
    for by in [By::Role, By::Caller] {
        let roles = learn(&records, by);
        assert_eq!(roles.len(), 1);
        let name = roles[0].name.clone();
        let policies = compile(&source(roles.clone(), ""));
        for (tool, expected) in
            [("a*b", "allow"), ("web", "allow"), ("axb", "policy.denied"), ("refused", "policy.denied")]
        {
            assert_eq!(case(&policies, json!({"roles": [name], "tool": tool})), expected, "{tool}");
        }
        assert_eq!(case(&policies, json!({"roles": [name]})), "allow", "it can connect");
        assert!(to_yaml(&roles).contains("tools: [\"a\\\\*b\", \"web\"]"), "{}", to_yaml(&roles));
    }
}

/// A role that may call these tools, some of them only with the yes of people.
fn asking(free: &[&str], asked: &[&str]) -> Vec<Role> {
    let lead = BTreeSet::from([BTreeSet::from(["lead".to_owned()])]);
    let approval = Approval { people: 1, roles: lead, expires_s: Approval::EXPIRES_S, by_caller: false };
    let rules = vec![tool_rule(free), Rule { approval: Some(approval), ..tool_rule(asked) }];
    vec![role("a", &[], rules), role("lead", &[], Vec::new())]
}

#[test]
fn a_candidate_that_asks_no_people_any_more_or_asks_them_anew_decides_another_way() {
    let (old, new) = (source(asking(&["x"], &["y"]), ""), source(asking(&["y"], &["x"]), ""));
    let (before, after) = (compile(&old), compile(&new));
    let found = compare((&old, &before), (&new, &after)).unwrap();
    let of = |resource: &str| {
        let all =
            found.decisions.iter().filter(|one| one.resource == resource && one.principal == "role `a`");
        all.map(|one| (one.before.clone(), one.after.clone())).collect::<Vec<_>>()
    };
    assert_eq!(of("s/x"), [(Verdict::Allow, Verdict::Approval)]);
    assert_eq!(of("s/y"), [(Verdict::Approval, Verdict::Allow)]);

    let mut asked = entry(2, &["a"], "y", None);
    asked.approved = true;
    let records = [entry(1, &["a"], "x", None), asked];
    assert_eq!(simulate(&before, &records).same, 2);
    let shifts = simulate(&after, &records).shifts;
    let told: Vec<_> = shifts.iter().map(|one| (one.recorded, one.candidate.clone())).collect();
    assert_eq!(told, [("allow", Verdict::Approval), ("approval", Verdict::Allow)]);

    // And what is proposed from them asks as well, once somebody says whom.
    let mut roles = learn(&records, By::Role);
    let yaml = to_yaml(&roles);
    assert_eq!(yaml.matches("approval: {}").count(), 1, "{yaml}");
    assert!(Policies::compile(&source(roles.clone(), ""), &Limits::default()).is_err());
    for rule in roles.iter_mut().flat_map(|role| &mut role.rules) {
        if let Some(approval) = &mut rule.approval {
            approval.roles = BTreeSet::from([BTreeSet::from(["lead".to_owned()])]);
        }
    }
    roles.push(role("lead", &[], Vec::new()));
    let policies = compile(&source(roles, ""));
    let of = |tool: &str| {
        let item = Some((TargetKind::Tool, tool.into()));
        let target = Target { server: "s".into(), item, digest: None };
        let caller = Caller::anonymous(Arc::from(["a".to_owned()]));
        policies.verdict(&caller, Action::CallTool, &target, None)
    };
    assert_eq!([of("x"), of("y"), of("z")], [Verdict::Allow, Verdict::Approval, Verdict::Deny]);
}

#[test]
fn a_comparison_names_what_changes_for_whom_and_equal_sets_have_none() {
    let old = source(
        vec![role("a", &[], vec![tool_rule(&["x", "y*"])])],
        "@id(\"c\") permit (principal in Role::\"a\", action == Action::\"call_tool\", resource == Tool::\"s/z\") when { context.hour < 9 };",
    );
    let new = source(
        vec![role("a", &[], vec![tool_rule(&["x"])])],
        "@id(\"c\") permit (principal in Role::\"a\", action == Action::\"call_tool\", resource == Tool::\"s/z\") when { context.hour < 8 };",
    );
    let (before, after) = (compile(&old), compile(&new));
    assert!(compare((&old, &before), (&old, &before)).unwrap().is_empty());
    let found = compare((&old, &before), (&new, &after)).unwrap();
    assert_eq!(found.changed, ["a#1", "c"]);
    let of = |resource: &str| {
        let all: Vec<_> = found.decisions.iter().filter(|one| one.resource == resource).collect();
        assert!(all.iter().all(|one| one.principal == "role `a`" && one.action == "call_tool"), "{all:?}");
        all.into_iter().map(|one| (one.before.clone(), one.after.clone())).collect::<Vec<_>>()
    };
    assert_eq!(of("s/y…"), [(Verdict::Allow, Verdict::Deny)]);
    let open = Verdict::Depends(vec!["c".into()]);
    assert_eq!(of("s/z"), [(open.clone(), open)], "the condition is another");
    assert!(of("s/x").is_empty());
}

#[test]
fn what_can_never_apply_or_grants_everything_is_found() {
    let everything = role("all", &[], vec![Rule::permit()]);
    let never = role(
        "never",
        &[],
        vec![tool_rule(&["x"]), Rule { items: vec!["x*".parse().unwrap()], ..Rule::forbid() }],
    );
    let lost = role("lost", &[], vec![Rule { servers: vec!["t".parse().unwrap()], ..tool_rule(&["x"]) }]);
    let labelled = Rule { labels: [Label::Destructive].into_iter().collect(), ..Rule::forbid() };
    let guard = role("guard", &[], vec![labelled]);
    let mut roles = builtin_roles();
    roles.extend([everything, never, lost, guard]);
    let cedar = "permit (principal, action, resource);\nforbid (principal, action, resource) when { principal.claims.text.hasTag(\"group\") };";
    let source = source(roles, cedar);
    let found = lint(&source, &compile(&source), &BTreeSet::new());
    let of =
        |place: &str| found.iter().filter(|one| one.place == format!("policy `{place}`")).collect::<Vec<_>>();
    for (place, stops) in [
        ("all#1", false),
        ("never#1", false),
        ("lost#1", false),
        ("guard#1", true),
        ("extra.cedar#1", false),
        ("extra.cedar#2", true),
    ] {
        let all = of(place);
        assert_eq!((all.len(), all.first().map(|one| one.stops)), (1, Some(stops)), "{place}: {found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
    assert_eq!(lint(&source, &compile(&source), &["group".to_owned()].into()).len(), 5);
}
