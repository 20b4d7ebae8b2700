//! What policies decide, through the door that the gateway uses.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use portcullis_core::{
    Action, Caller, CallerKind, Code, Digest, Limits, Proof, Scope, Target, TargetKind, Timestamp, Treatment,
};
use portcullis_policy::{Effect, Pattern, Policies, PolicySource, RequestContext, Role, Rule, builtin_roles};
use serde_json::{Value, json};

const CONTEXT: RequestContext<'static> = RequestContext::new(Timestamp(1_763_800_000_000), "2026-07-28");

fn caller(id: &str, roles: &[&str]) -> Caller {
    Caller {
        id: id.into(),
        kind: CallerKind::Service,
        proof: Proof::ApiKey { key_id: id.into() },
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        servers: Scope::All,
        scopes: Vec::new(),
        claims: None,
        actors: Arc::from([]),
        expires: None,
    }
}

fn on(server: &str, kind: TargetKind, name: &str) -> Target {
    Target { server: server.into(), item: Some((kind, name.into())), digest: None }
}

fn tool(server: &str, name: &str) -> Target {
    on(server, TargetKind::Tool, name)
}

fn server(name: &str) -> Target {
    Target { server: name.into(), item: None, digest: None }
}

fn compile(roles: Vec<Role>, cedar: &str) -> Policies {
    let cedar = vec![("extra.cedar".to_owned(), cedar.to_owned())];
    match Policies::compile(&PolicySource { roles, cedar, ..PolicySource::default() }, &Limits::default()) {
        Ok(policies) => policies,
        Err(errors) => panic!("{errors:#?}"),
    }
}

fn mistakes(roles: Vec<Role>, cedar: &str) -> Vec<String> {
    let cedar = vec![("extra.cedar".to_owned(), cedar.to_owned())];
    let errors =
        Policies::compile(&PolicySource { roles, cedar, ..PolicySource::default() }, &Limits::default())
            .err()
            .unwrap_or_default();
    for error in &errors {
        assert!(!error.hint.is_empty(), "{error}");
    }
    errors.iter().map(ToString::to_string).collect()
}

fn code(policies: &Policies, caller: &Caller, action: Action, target: &Target) -> Option<Code> {
    policies.permit(caller, action, target, None, &CONTEXT).err().map(|denial| denial.code)
}

fn call(policies: &Policies, arguments: &Value) -> Option<Code> {
    let arguments = || arguments.clone();
    let caller = caller("key:a", &["admin"]);
    let target = tool("bank", "pay");
    policies
        .permit(&caller, Action::CallTool, &target, Some(&arguments), &CONTEXT)
        .err()
        .map(|denial| denial.code)
}

fn role(name: &str, rules: Vec<Rule>) -> Role {
    Role { name: name.to_owned(), doc: None, inherits: Vec::new(), rules }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const DENIED: Option<Code> = Some(Code::PolicyDenied);
const ERROR: Option<Code> = Some(Code::PolicyError);

#[test]
fn the_builtin_roles_mean_what_they_say() {
    let policies = compile(builtin_roles(), "");
    let prompt = on("s", TargetKind::Prompt, "p");
    let resource = on("s", TargetKind::Resource, "file:///a");
    let template = on("s", TargetKind::Template, "file:///{a}");
    // action, target, then admin, operator, reader, nobody
    let table = [
        (Action::Connect, server("s"), [true, true, true, false]),
        (Action::CallTool, tool("s", "t"), [true, true, false, false]),
        (Action::GetPrompt, prompt.clone(), [true, true, true, false]),
        (Action::ReadResource, resource.clone(), [true, true, true, false]),
        (Action::ReadResource, template.clone(), [true, true, true, false]),
        (Action::SubscribeResource, resource, [true, true, true, false]),
        (Action::Complete, prompt, [true, true, true, false]),
        (Action::Complete, template, [true, true, true, false]),
        (Action::Answer, server("s"), [true, true, false, false]),
        (Action::Task, server("s"), [true, true, false, false]),
    ];
    for (action, target, expected) in table {
        for (role, allowed) in ["admin", "operator", "reader", "ghost"].into_iter().zip(expected) {
            let who = caller("key:a", &[role]);
            let got = code(&policies, &who, action, &target);
            assert_eq!(got, if allowed { None } else { DENIED }, "{role} {action} {target}");
            assert_eq!(
                policies.may_see(&who, action, &target, &CONTEXT),
                allowed,
                "{role} {action} {target}"
            );
        }
    }
}

#[test]
fn nothing_is_allowed_without_a_policy_and_not_even_anonymous_is_special() {
    let policies = compile(Vec::new(), "");
    let nobody = Caller::anonymous(Arc::from([]));
    assert_eq!(code(&policies, &nobody, Action::Connect, &server("s")), DENIED);
    let policies =
        compile(Vec::new(), "permit (principal is Anonymous, action == Action::\"connect\", resource);");
    assert_eq!(code(&policies, &nobody, Action::Connect, &server("s")), None);
    // The same id proven another way is somebody else.
    assert_eq!(code(&policies, &caller("anonymous", &[]), Action::Connect, &server("s")), DENIED);
}

#[test]
fn rules_narrow_by_server_item_and_kind() {
    let roles = vec![role(
        "dev",
        vec![
            Rule {
                servers: patterns(&["git*", "ci"]),
                items: patterns(&["read_*", "a\\*b"]),
                kinds: vec![TargetKind::Tool],
                ..Rule::permit()
            },
            Rule { items: patterns(&["*_secret"]), ..Rule::forbid() },
        ],
    )];
    let policies = compile(roles, "");
    let dev = caller("key:a", &["dev"]);
    for (action, target, expected) in [
        (Action::CallTool, tool("github", "read_file"), None),
        (Action::CallTool, tool("ci", "read_log"), None),
        (Action::CallTool, tool("ci2", "read_log"), DENIED),
        (Action::CallTool, tool("github", "write_file"), DENIED),
        (Action::CallTool, tool("github", "read_secret"), DENIED),
        (Action::CallTool, tool("github", "a*b"), None),
        (Action::CallTool, tool("github", "axb"), DENIED),
        (Action::GetPrompt, on("github", TargetKind::Prompt, "read_me"), DENIED),
        (Action::Connect, server("github"), None),
        (Action::Connect, server("mail"), DENIED),
    ] {
        assert_eq!(code(&policies, &dev, action, &target), expected, "{action} {target}");
    }
}

#[test]
fn a_forbid_wins_over_every_permit() {
    let cedar = "@id(\"no-pay\") forbid (principal, action, resource == Tool::\"bank/pay\");";
    let policies = compile(builtin_roles(), cedar);
    let admin = caller("key:a", &["admin", "operator"]);
    let denial = policies.permit(&admin, Action::CallTool, &tool("bank", "pay"), None, &CONTEXT).unwrap_err();
    assert_eq!((denial.code, &*denial.policies), (Code::PolicyDenied, &["no-pay".to_owned()][..]));
    assert_eq!(code(&policies, &admin, Action::CallTool, &tool("bank", "balance")), None);
}

#[test]
fn ids_of_targets_do_not_collide() {
    let cedar = r#"permit (principal, action, resource == Tool::"a/b/c");"#;
    let policies = compile(Vec::new(), cedar);
    let who = caller("key:a", &[]);
    assert_eq!(code(&policies, &who, Action::CallTool, &tool("a", "b/c")), None);
    assert_eq!(code(&policies, &who, Action::CallTool, &tool("a/b", "c")), DENIED);
    let cedar = r#"permit (principal, action, resource == Tool::"a~1b~0/c\"\\d");"#;
    let policies = compile(Vec::new(), cedar);
    assert_eq!(code(&policies, &who, Action::CallTool, &tool("a/b~", "c\"\\d")), None);
    assert_eq!(code(&policies, &who, Action::CallTool, &tool("a~1b~0", "c\"\\d")), DENIED);
    // A prompt of the same name is something else.
    let policies = compile(Vec::new(), r#"permit (principal, action, resource == Prompt::"a/b");"#);
    assert_eq!(code(&policies, &who, Action::CallTool, &tool("a", "b")), DENIED);
    assert_eq!(code(&policies, &who, Action::GetPrompt, &on("a", TargetKind::Prompt, "b")), None);
}

#[test]
fn names_with_quotes_and_stars_stay_names() {
    for name in ["a\"b", "a\\b", "*", "a*b", "a\nb", "日本", "\") || true //"] {
        let exact: Pattern = name.replace('\\', "\\\\").replace('*', "\\*").parse().unwrap();
        assert_eq!(exact.to_string().parse::<Pattern>().unwrap(), exact);
        let roles = vec![role(
            name,
            vec![Rule { servers: vec![exact.clone()], items: vec![exact.clone()], ..Rule::permit() }],
        )];
        let policies = compile(roles, "");
        let who = caller("key:a", &[name]);
        assert_eq!(code(&policies, &who, Action::CallTool, &tool(name, name)), None, "{name:?}");
        assert_eq!(code(&policies, &who, Action::CallTool, &tool(name, "other")), DENIED, "{name:?}");
        assert_eq!(code(&policies, &who, Action::CallTool, &tool("other", name)), DENIED, "{name:?}");
    }
}

#[test]
fn a_credential_reaches_no_further_than_its_own_servers() {
    let policies = compile(builtin_roles(), "");
    let mut admin = caller("key:a", &["admin"]);
    assert_eq!(code(&policies, &admin, Action::Connect, &server("b")), None);
    // The same caller again, so that the remembered decision would answer.
    admin.servers = Scope::Only(["a".to_owned()].into());
    assert_eq!(code(&policies, &admin, Action::Connect, &server("b")), DENIED);
    assert!(!policies.may_see(&admin, Action::CallTool, &tool("b", "t"), &CONTEXT));
    assert_eq!(code(&policies, &admin, Action::Connect, &server("a")), None);
}

const LIMIT: &str = r#"
@id("small") forbid (principal, action == Action::"call_tool", resource == Tool::"bank/pay")
when { context.arguments.number.hasTag("amount") && context.arguments.number.getTag("amount") > 100 };
"#;

#[test]
fn arguments_decide_and_a_value_of_another_type_cannot_slip_past() {
    let policies = compile(builtin_roles(), LIMIT);
    for (arguments, expected) in [
        (json!({ "amount": 100 }), None),
        (json!({ "amount": 101 }), DENIED),
        (json!({ "amount": 5.0 }), None),
        (json!({ "amount": 1e3 }), DENIED),
        (json!({ "amount": 100.5 }), ERROR),
        (json!({ "amount": "1000" }), ERROR),
        (json!({ "amount": [1000] }), ERROR),
        (json!({ "amount": 1e300 }), ERROR),
        (json!({ "amount": 18_446_744_073_709_551_615_u64 }), ERROR),
        (json!({ "amount": null }), None),
        (json!({ "other": true }), None),
        (json!({}), None),
    ] {
        assert_eq!(call(&policies, &arguments), expected, "{arguments}");
    }
    // Another tool may have a text of that name.
    let arguments = || json!({ "amount": "a lot" });
    let admin = caller("key:a", &["admin"]);
    let other = tool("bank", "describe");
    assert!(policies.permit(&admin, Action::CallTool, &other, Some(&arguments), &CONTEXT).is_ok());
}

#[test]
fn every_type_and_depth_of_argument_can_be_read() {
    let cedar = r#"permit (principal, action == Action::"call_tool", resource) when {
        context.arguments.text.hasTag("filter/o~1wner") && context.arguments.text.getTag("filter/o~1wner") like "me*" &&
        context.arguments.flag.hasTag("dry") && context.arguments.flag.getTag("dry") &&
        context.arguments.texts.hasTag("tags") && context.arguments.texts.getTag("tags").containsAll(["a", "b"]) &&
        context.arguments.numbers.hasTag("ids") && !context.arguments.numbers.getTag("ids").contains(7) &&
        context.arguments.text.hasTag("items/1/sku") && context.arguments.text.getTag("items/1/sku") == "x" &&
        context.revision == "2026-07-28" && context.now > datetime("2025-01-01")
    };"#;
    let roles = vec![role("admin", Vec::new())];
    let policies = compile(roles, cedar);
    let good = json!({ "filter": { "o/wner": "me!" }, "dry": true, "tags": ["b", "c", "a"], "ids": [],
        "items": [{}, { "sku": "x" }] });
    assert_eq!(call(&policies, &good), None);
    for (path, value, expected) in [
        ("/filter/o~1wner", json!("you"), DENIED),
        ("/dry", json!(false), DENIED),
        ("/tags", json!(["a"]), DENIED),
        ("/tags", json!(["a", 1]), ERROR),
        ("/ids", json!([7]), DENIED),
        ("/items/1/sku", json!("y"), DENIED),
        ("/items", json!([]), DENIED),
        ("/filter", json!("me"), ERROR),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert_eq!(call(&policies, &bad), expected, "{path}: {bad}");
    }
}

#[test]
fn a_policy_that_errors_refuses() {
    let cedar = r#"@id("sum") forbid (principal, action == Action::"call_tool", resource) when {
        context.arguments.number.hasTag("n") && context.arguments.number.getTag("n") + 1 < 0 };"#;
    let policies = compile(builtin_roles(), cedar);
    assert_eq!(call(&policies, &json!({ "n": 1 })), None);
    assert_eq!(call(&policies, &json!({ "n": i64::MAX })), ERROR);
    let cedar = r#"@id("ip") forbid (principal, action, resource) when { ip("999.1.1.1").isLoopback() };"#;
    assert!(!mistakes(builtin_roles(), cedar).is_empty(), "a literal that is no address");
    // Permits that fail refuse too, although another permit fits.
    let cedar = cedar.replace("forbid", "permit").replace("ip(\"999.1.1.1\").isLoopback()", "principal.scopes.contains(\"x\") || 9223372036854775807 + (if context.revision == \"x\" then 0 else 1) > 0");
    let policies = compile(builtin_roles(), &cedar);
    let admin = caller("key:a", &["admin"]);
    assert_eq!(code(&policies, &admin, Action::Connect, &server("s")), ERROR);
    assert!(!policies.may_see(&admin, Action::Connect, &server("s"), &CONTEXT));
    let explanation = policies.explain(&admin, Action::Connect, &server("s"), None, &CONTEXT);
    assert_eq!(explanation.errors.len(), 1, "{explanation}");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let policies = compile(builtin_roles(), "");
    let admin = caller("key:a", &["admin"]);
    assert_eq!(code(&policies, &admin, Action::CallTool, &server("s")), ERROR);
    assert_eq!(code(&policies, &admin, Action::Connect, &tool("s", "t")), ERROR);
    assert_eq!(code(&policies, &admin, Action::GetPrompt, &tool("s", "t")), ERROR);
}

#[test]
fn lists_show_what_some_arguments_could_use_and_hide_the_rest() {
    let cedar = r#"
        permit (principal in Role::"p", action == Action::"call_tool", resource in Server::"fs") when {
            resource.name == "read" && context.arguments.text.hasTag("path")
            && context.arguments.text.getTag("path") like "/srv/*" };
        permit (principal in Role::"p", action == Action::"call_tool", resource == Tool::"fs/never")
            unless { context.arguments.flag.hasTag("x") || principal.id != "key:b" };"#;
    let policies = compile(vec![role("p", Vec::new())], &format!("{cedar}{LIMIT}"));
    let (a, b) = (caller("key:a", &["p"]), caller("key:b", &["p"]));
    let see = |who: &Caller, name: &str| policies.may_see(who, Action::CallTool, &tool("fs", name), &CONTEXT);
    assert!(see(&a, "read"));
    assert!(!see(&a, "write"));
    assert!(!see(&a, "never"));
    assert!(see(&b, "never"));
    // A forbid that depends on arguments hides nothing.
    let policies = compile(builtin_roles(), LIMIT);
    assert!(policies.may_see(&caller("key:a", &["admin"]), Action::CallTool, &tool("bank", "pay"), &CONTEXT));
}

#[test]
fn arguments_are_made_only_when_a_policy_reads_them() {
    let made = Cell::new(0);
    let arguments = || {
        made.set(made.get() + 1);
        json!({ "amount": 1 })
    };
    let admin = caller("key:a", &["admin"]);
    let plain = compile(builtin_roles(), "");
    plain.permit(&admin, Action::CallTool, &tool("bank", "pay"), Some(&arguments), &CONTEXT).unwrap();
    assert_eq!(made.get(), 0);
    let reading = compile(builtin_roles(), LIMIT);
    reading.permit(&admin, Action::CallTool, &tool("bank", "pay"), Some(&arguments), &CONTEXT).unwrap();
    assert_eq!(made.get(), 1);
    // A policy about one server costs the others nothing.
    reading.permit(&admin, Action::CallTool, &tool("mail", "send"), Some(&arguments), &CONTEXT).unwrap();
    assert_eq!(made.get(), 1);
}

#[test]
fn claims_and_scopes_and_addresses_decide_and_are_not_remembered() {
    let cedar = r#"permit (principal is User, action == Action::"connect", resource) when {
        principal.claims.text.hasTag("dept") && principal.claims.text.getTag("dept") == "finance" &&
        principal.scopes.contains("mcp") && principal.proof == "jwt" &&
        context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8")) };"#;
    let policies = compile(Vec::new(), cedar);
    let user = |claims: Value, scopes: &[&str]| Caller {
        kind: CallerKind::User,
        proof: Proof::Jwt { issuer: "i".to_owned(), token: Digest([0; 32]) },
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        claims: claims.as_object().cloned().map(Arc::new),
        ..caller("jwt:i#s", &[])
    };
    let from = |ip: &str| RequestContext { source_ip: Some(ip.parse().unwrap()), ..CONTEXT };
    for (claims, scopes, ip, expected) in [
        (json!({ "dept": "finance" }), ["mcp"], "10.1.2.3", None),
        (json!({ "dept": "finance" }), ["mcp"], "11.1.2.3", DENIED),
        (json!({ "dept": "finance" }), ["mcq"], "10.1.2.3", DENIED),
        (json!({ "dept": "sales" }), ["mcp"], "10.1.2.3", DENIED),
        (json!({ "dept": ["finance"] }), ["mcp"], "10.1.2.3", ERROR),
        (json!({}), ["mcp"], "10.1.2.3", DENIED),
    ] {
        let who = user(claims.clone(), &scopes);
        let got =
            policies.permit(&who, Action::Connect, &server("s"), None, &from(ip)).err().map(|no| no.code);
        assert_eq!(got, expected, "{claims} {scopes:?} {ip}");
        assert_eq!(policies.may_see(&who, Action::Connect, &server("s"), &from(ip)), expected.is_none());
    }
}

#[test]
fn a_remembered_decision_answers_nobody_else() {
    let one = caller("key:a", &["r"]);
    let person = Caller { kind: CallerKind::User, ..one.clone() };
    let other = caller("key:b", &["r"]);
    let scoped = Caller { scopes: vec!["s".to_owned()], ..one.clone() };
    let claimed =
        Caller { claims: Some(Arc::new(json!({ "t": 1 }).as_object().unwrap().clone())), ..one.clone() };
    let lesser = caller("key:a", &[]);
    for (cedar, allowed, refused) in [
        ("permit (principal is Service, action, resource);", &one, &person),
        ("permit (principal == Service::\"key:a\", action, resource);", &one, &other),
        ("permit (principal, action, resource) unless { principal.scopes.contains(\"s\") };", &one, &scoped),
        (
            "permit (principal, action, resource) unless { principal.claims.number.hasTag(\"t\") };",
            &one,
            &claimed,
        ),
        ("permit (principal in Role::\"r\", action, resource);", &one, &lesser),
    ] {
        let cedar = vec![("x".to_owned(), cedar.to_owned())];
        let source = PolicySource { roles: vec![role("r", Vec::new())], cedar, ..PolicySource::default() };
        let limits = Limits { decision_cache_max: 1, ..Limits::default() };
        let policies = Policies::compile(&source, &limits).unwrap();
        let target = tool("s", "t");
        for _ in 0..2 {
            assert_eq!(code(&policies, allowed, Action::CallTool, &target), None, "{source:?}");
            assert_eq!(code(&policies, refused, Action::CallTool, &target), DENIED, "{source:?}");
            assert_eq!(code(&policies, allowed, Action::Connect, &server("s")), None, "{source:?}");
            assert_eq!(code(&policies, allowed, Action::CallTool, &tool("s", "u")), None, "{source:?}");
        }
    }
}

#[test]
fn obligations_of_all_permits_that_apply_add_up_and_the_stricter_wins() {
    let rule = Rule {
        servers: patterns(&["crm"]),
        mask: vec!["email".to_owned(), "payment_card".to_owned()],
        ..Rule::permit()
    };
    let cedar = "@refuse(\" payment_card \") permit (principal, action, resource in Server::\"crm\");";
    let policies = compile(vec![role("r", vec![rule, Rule::permit()])], cedar);
    let who = caller("key:a", &["r"]);
    let permit = policies.permit(&who, Action::CallTool, &tool("crm", "t"), None, &CONTEXT).unwrap();
    let expected = BTreeMap::from([
        ("email".to_owned(), Treatment::Mask),
        ("payment_card".to_owned(), Treatment::Refuse),
    ]);
    assert_eq!(permit.obligations().answers, expected);
    assert_eq!(permit.policies(), ["extra.cedar#1", "r#1", "r#2"]);
    let other = policies.permit(&who, Action::CallTool, &tool("x", "t"), None, &CONTEXT).unwrap();
    assert!(other.obligations().answers.is_empty());
    assert_eq!(policies.detectors(), ["email", "payment_card"]);
}

#[test]
fn what_any_permit_restores_is_restored() {
    let rule = |names: &[&str]| Rule {
        restore: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Rule::permit()
    };
    let roles = vec![role("r", vec![rule(&["email", "iban"]), rule(&[])]), role("a", vec![rule(&["email"])])];
    let cedar = "@restore(\"phone\") permit (principal in Role::\"a\", action, resource);";
    let policies = compile(roles, cedar);
    let restored = |who: &Caller| -> Vec<String> {
        let permit = policies.permit(who, Action::CallTool, &tool("s", "t"), None, &CONTEXT).unwrap();
        permit.obligations().restore.iter().cloned().collect()
    };
    assert_eq!(restored(&caller("key:u", &["r"])), ["email", "iban"]);
    assert_eq!(restored(&caller("key:p", &["a"])), ["email", "phone"]);
    assert_eq!(policies.detectors(), ["email", "iban", "phone"]);
    let bad = Rule { effect: Effect::Forbid, ..rule(&["email"]) };
    let all = mistakes(vec![role("x", vec![bad])], "").join("\n");
    assert!(all.contains("`@restore` on a `forbid`"), "{all}");
}

#[test]
fn all_mistakes_are_reported_at_once_each_with_its_place() {
    let cedar = "permit (principal, action, resource);\n\n\
        @id(\"typo\")\nforbid (principal, action == Action::\"cal_tool\", resource);\n\
        @id(\"attr\")\nforbid (principal, action, resource) when { resource.nam == \"x\" };\n\
        @id(\"attr\")\nforbid (principal in Role::\"ghost\", action, resource);\n";
    let bad = Rule { effect: Effect::Forbid, mask: vec!["email".to_owned()], ..Rule::permit() };
    let roles = vec![role("x", vec![bad]), role("x", Vec::new())];
    let all = mistakes(roles, cedar).join("\n");
    for part in [
        "role `x`: policy `x#1`: `@mask` on a `forbid`",
        "role `x`: the name of a role must be unique",
        "extra.cedar:7: policy `attr`: the id is used twice",
        "extra.cedar:7: policy `attr`: there is no role `ghost`",
    ] {
        assert!(all.contains(part), "{part}\n---\n{all}");
    }
    let all = mistakes(
        Vec::new(),
        &cedar.replace("@id(\"attr\")\nforbid (principal in Role::\"ghost\"", "forbid (principal"),
    )
    .join("\n");
    assert!(all.contains("extra.cedar:4: policy `typo`"), "{all}");
    assert!(all.contains("extra.cedar:6: policy `attr`"), "{all}");
}

#[test]
fn what_could_hide_from_the_analysis_is_not_accepted() {
    for body in [
        "context == {\"a\": 1}",
        "context.arguments == context.arguments",
        "context.arguments.text == context.arguments.text",
        "context.arguments.text.hasTag(context.revision)",
        "(if context.revision == \"x\" then principal else principal).id == \"x\"",
        "Text::\"arguments\".hasTag(\"x\")",
        "User::\"key:a\".id == \"x\"",
        "{\"p\": principal}.p.id == \"x\"",
        "resource.nam == \"x\"",
        "principal.claims.text.getTag(\"x\") == \"y\"",
        "1 == \"x\"",
        "false",
    ] {
        let found = mistakes(Vec::new(), &format!("permit (principal, action, resource) when {{ {body} }};"));
        assert!(!found.is_empty(), "{body}");
    }
    for whole in [
        "permit (principal == ?principal, action, resource);",
        "permit (principal, action, resource)",
        "permit (principal, action == Action::\"call_tool\", resource is Prompt);",
        "permit (principal, action, resource) when { resource.name == \"a\\u{202e}b\" };",
    ] {
        assert!(!mistakes(Vec::new(), whole).is_empty(), "{whole}");
    }
}

#[test]
fn a_rule_that_can_never_apply_is_a_mistake() {
    let rule = Rule { actions: vec![Action::CallTool], kinds: vec![TargetKind::Prompt], ..Rule::permit() };
    assert!(!mistakes(vec![role("x", vec![rule])], "").is_empty());
}

#[test]
fn the_digest_names_the_policies() {
    let (a, b) = (compile(builtin_roles(), ""), compile(builtin_roles(), LIMIT));
    assert_eq!(a.digest(), compile(builtin_roles(), "").digest());
    assert_ne!(a.digest(), b.digest());
    assert!(b.to_cedar().contains("principal in Role::\"reader\""));
    let again = PolicySource::default();
    assert_ne!(a.digest(), Policies::compile(&again, &Limits::default()).unwrap().digest());
}

#[test]
fn an_explanation_names_what_decided_and_what_did_not_fit() {
    let policies = compile(builtin_roles(), LIMIT);
    let reader = caller("key:a", &["reader"]);
    let why = policies.explain(&reader, Action::CallTool, &tool("bank", "pay"), None, &CONTEXT);
    let reasons: BTreeMap<&str, &str> =
        why.why_not.iter().map(|one| (one.policy.as_str(), one.reason.as_str())).collect();
    assert_eq!(reasons["admin#1"], "the caller does not fit");
    assert_eq!(reasons["reader#1"], "the action does not fit");
    let arguments = || json!({ "amount": 500 });
    let admin = caller("key:a", &["admin"]);
    let why = policies.explain(&admin, Action::CallTool, &tool("bank", "pay"), Some(&arguments), &CONTEXT);
    assert_eq!((why.allowed, why.code), (false, Some("policy.denied")));
    let [view] = why.policies.as_slice() else { panic!("{why}") };
    assert_eq!((view.policy.as_str(), view.file.as_str(), view.line), ("small", "extra.cedar", Some(2)));
    let text = why.to_string();
    assert!(text.contains("forbid `small` in extra.cedar:2") && text.contains("> 100"), "{text}");
    let json = serde_json::to_value(&why).unwrap();
    assert_eq!(json["policies"][0]["effect"], "forbid");
}

#[test]
fn a_pattern_matches_the_whole_of_a_text_and_a_star_any_part_of_it() {
    for (pattern, text, matches) in [
        ("read", "read", true),
        ("read", "reader", false),
        ("read", "aread", false),
        ("read_*", "read_", true),
        ("read_*", "read_file", true),
        ("read_*", "xread_file", false),
        ("*", "", true),
        ("*.search", "notes.search", true),
        ("*.search", "notes.search.x", false),
        ("a*b*c", "abc", true),
        ("a*b*c", "axbxbxc", true),
        ("a*b*c", "acb", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("*ab", "aab", true),
        ("\\*", "*", true),
        ("\\*", "x", false),
    ] {
        assert_eq!(pattern.parse::<Pattern>().unwrap().matches(text), matches, "{pattern} {text}");
    }
}
