//! Our decision, sliced and remembered, against plain Cedar over the whole set with entities written by hand.
#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test that fails may panic"
)]

use std::{collections::HashMap, str::FromStr, sync::Arc};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, Schema, ValidationMode, Validator,
};
use portcullis_core::{
    Action, Caller, CallerKind, Code, Limits, Proof, Scope, Target, TargetKind, Timestamp,
};
use portcullis_policy::{
    Label, Labels, Policies, PolicySource, RequestContext, Role, Rule, ServerFacts, Verdict, builtin_roles,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const SERVERS: [&str; 4] = ["a", "a/b", "c", "~1"];
const ITEMS: [&str; 4] = ["x", "b/x", "read_y", "write_y"];
const ROLES: [&str; 5] = ["admin", "operator", "reader", "dev", "lead"];
const CONTEXT: RequestContext<'static> = RequestContext::new(Timestamp(1_763_800_000_000), "2025-11-25");

// The slots of a policy; each picks one text.
const EFFECTS: [&str; 3] = ["permit", "permit", "forbid"];
const PRINCIPALS: [&str; 6] = [
    "principal",
    "principal in Role::\"dev\"",
    "principal in Role::\"reader\"",
    "principal is User in Role::\"dev\"",
    "principal == Service::\"1\"",
    "principal is User",
];
const ACTIONS: [&str; 4] = [
    "action",
    "action == Action::\"call_tool\"",
    "action in [Action::\"call_tool\", Action::\"get_prompt\"]",
    "action == Action::\"connect\"",
];
const RESOURCES: [&str; 5] = [
    "resource",
    "resource in Server::\"a\"",
    "resource in Server::\"a/b\"",
    "resource in Server::\"~1\"",
    "resource in Server::\"c\"",
];
const CONDITIONS: [&str; 17] = [
    "when { resource has labels && resource.labels.contains(\"reads_private\") }",
    "unless { resource has environment && resource.environment == \"production\" }",
    "when { context.seen.contains(\"reads_private\") && context.calls_last_minute < 3 }",
    "unless { [User::\"1\", Service::\"0\"].contains(principal) }",
    "",
    "when { resource.server != \"c\" }",
    "unless { resource has name && resource.name like \"write*\" }",
    "when { principal.scopes.contains(\"s\") }",
    "when { context.arguments.number.hasTag(\"n\") && context.arguments.number.getTag(\"n\") > 3 }",
    "unless { context.revision == \"2025-11-25\" && principal.proof == \"jwt\" }",
    "when { context.arguments.number.hasTag(\"n\") && context.arguments.number.getTag(\"n\") * 4 > 3 }",
    "when { principal.claims.text.hasTag(\"t\") && principal.claims.text.getTag(\"t\") == \"v\" }",
    "when { context.seen.contains(\"reads_private\") && resource.server == \"a\" }",
    "unless { context.strength > 1 || resource has environment || principal has scopes }",
    "when { if context.hour > 7 then resource.server like \"a*\" else principal.proof == \"jwt\" }",
    "when { context has source_ip || principal in Role::\"reader\" }",
    "when { context.calls_last_minute - 9223372036854775807 - 2 > 0 && resource.server == \"c\" }",
];

type Slots = (usize, usize, usize, usize, usize);

fn slots() -> impl Strategy<Value = Slots> {
    (0..EFFECTS.len(), 0..PRINCIPALS.len(), 0..ACTIONS.len(), 0..RESOURCES.len(), 0..CONDITIONS.len())
}

fn written(policies: &[Slots]) -> String {
    policies
        .iter()
        .map(|(effect, principal, action, resource, condition)| {
            format!(
                "{} ({}, {}, {}) {};\n",
                EFFECTS[*effect],
                PRINCIPALS[*principal],
                ACTIONS[*action],
                RESOURCES[*resource],
                CONDITIONS[*condition]
            )
        })
        .collect()
}

#[derive(Clone, Debug)]
struct Asked {
    user: bool,
    id: usize,
    roles: Vec<usize>,
    scope: bool,
    claim: bool,
    action: Action,
    server: usize,
    item: usize,
    number: Option<i64>,
    seen: bool,
}

fn asked() -> impl Strategy<Value = Asked> {
    let who = (any::<bool>(), 0..2_usize, proptest::sample::subsequence(vec![0, 1, 2, 3, 4], 0..=2));
    let action = prop_oneof![
        3 => Just(Action::CallTool),
        1 => Just(Action::GetPrompt),
        1 => Just(Action::Connect),
        1 => Just(Action::ReadResource)
    ];
    let number = prop_oneof![Just(None), (0..8_i64).prop_map(Some), Just(Some(i64::MAX))];
    let what = (action, 0..SERVERS.len(), 0..ITEMS.len(), number);
    (who, any::<bool>(), any::<bool>(), any::<bool>(), what).prop_map(
        |((user, id, roles), scope, claim, seen, (action, server, item, number))| Asked {
            user,
            id,
            roles,
            scope,
            claim,
            action,
            server,
            item,
            number,
            seen,
        },
    )
}

impl Asked {
    /// The question, others that differ from it in one thing, and the question again.
    fn neighbours(&self) -> Vec<Self> {
        let same = || self.clone();
        vec![
            same(),
            Self { item: (self.item + 1) % ITEMS.len(), ..same() },
            Self { item: (self.item + 2) % ITEMS.len(), ..same() },
            same(),
            Self { server: (self.server + 1) % SERVERS.len(), ..same() },
            Self { user: !self.user, ..same() },
            Self { id: 1 - self.id, ..same() },
            Self { roles: vec![3], ..same() },
            Self { roles: Vec::new(), ..same() },
            Self { scope: !self.scope, claim: !self.claim, ..same() },
            Self { seen: !self.seen, ..same() },
            Self { roles: vec![4], ..same() },
            Self { action: Action::Connect, ..same() },
            same(),
        ]
    }

    fn caller(&self) -> Caller {
        Caller {
            id: self.id.to_string().into(),
            kind: if self.user { CallerKind::User } else { CallerKind::Service },
            proof: Proof::ApiKey { key_id: "k".to_owned() },
            roles: self.roles.iter().map(|role| ROLES[*role].to_owned()).collect(),
            servers: Scope::All,
            scopes: if self.scope { vec!["s".to_owned()] } else { Vec::new() },
            claims: self.claim.then(|| Arc::new(json!({ "t": "v" }).as_object().unwrap().clone())),
            actors: Arc::from([]),
            expires: None,
        }
    }

    fn kind(&self) -> Option<(TargetKind, &'static str)> {
        match self.action {
            Action::CallTool => Some((TargetKind::Tool, "Tool")),
            Action::GetPrompt => Some((TargetKind::Prompt, "Prompt")),
            Action::ReadResource => Some((TargetKind::Resource, "Resource")),
            _ => None,
        }
    }

    fn target(&self) -> Target {
        let item = self.kind().map(|(kind, _)| (kind, ITEMS[self.item].into()));
        Target { server: SERVERS[self.server].into(), item, digest: None }
    }

    /// What plain Cedar says of the whole set, everything present, everything checked against the schema.
    fn plain(&self, text: &str, schema: &Schema) -> Option<Code> {
        let (server, item) = (SERVERS[self.server], ITEMS[self.item]);
        let parent = json!({ "type": "Server", "id": server });
        let resource = match self.kind() {
            None => parent.clone(),
            Some((_, kind)) => {
                let id = format!("{}/{item}", server.replace('~', "~0").replace('/', "~1"));
                json!({ "type": kind, "id": id })
            }
        };
        let who = json!({ "type": if self.user { "User" } else { "Service" }, "id": self.id.to_string() });
        let bags = |id: &str| -> Value {
            ["text", "number", "flag", "texts", "numbers"]
                .into_iter()
                .map(|sort| {
                    let kind = format!("{}{}", sort[..1].to_uppercase(), &sort[1..]);
                    (sort.to_owned(), json!({ "__entity": { "type": kind, "id": id } }))
                })
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let roles: Vec<Value> =
            self.roles.iter().map(|role| json!({ "type": "Role", "id": ROLES[*role] })).collect();
        let mut entities = vec![
            json!({ "uid": who, "parents": roles, "attrs": { "id": self.id.to_string(), "proof": "api_key",
                "scopes": if self.scope { json!(["s"]) } else { json!([]) }, "claims": bags("claims"), "actors": [], "regions": [] } }),
            json!({ "uid": { "type": "Role", "id": "lead" }, "attrs": {}, "parents": [
                { "type": "Role", "id": "dev" }, { "type": "Role", "id": "reader" }] }),
        ];
        let mut attributes = json!({ "server": server });
        if server == "a" {
            attributes["environment"] = json!("production");
        }
        entities.push(json!({ "uid": parent, "parents": [], "attrs": attributes }));
        if self.kind().is_some() {
            attributes["name"] = json!(item);
            attributes["labels"] = match (server, item) {
                ("a", "read_y") => json!(["reads_private"]),
                ("a", "write_y") => json!(["sees_untrusted", "writes_external"]),
                _ => json!([]),
            };
            entities.push(json!({ "uid": resource, "parents": [parent], "attrs": attributes }));
        }
        if let Some(number) = self.number {
            entities
                .push(json!({ "uid": { "type": "Number", "id": "arguments" }, "parents": [], "attrs": {},
                "tags": { "n": number } }));
        }
        if self.claim {
            entities.push(json!({ "uid": { "type": "Text", "id": "claims" }, "parents": [], "attrs": {},
                "tags": { "t": "v" } }));
        }
        let entities = Entities::from_json_value(Value::Array(entities), Some(schema)).unwrap();
        let uid = |value: &Value| EntityUid::from_json(value.clone()).unwrap();
        let action = EntityUid::from_str(&format!("Action::\"{}\"", self.action)).unwrap();
        let context = json!({ "now": "2025-11-22T08:26:40.000Z", "revision": "2025-11-25", "arguments": bags("arguments"),
            "hour": 8, "weekday": 6, "strength": 1, "calls_last_minute": 0,
            "seen": if self.seen { json!(["reads_private"]) } else { json!([]) } });
        let context = Context::from_json_value(context, Some((schema, &action))).unwrap();
        let request = Request::new(uid(&who), action, uid(&resource), context, Some(schema)).unwrap();
        let response =
            Authorizer::new().is_authorized(&request, &PolicySet::from_str(text).unwrap(), &entities);
        if response.diagnostics().errors().next().is_some() {
            return Some(Code::PolicyError);
        }
        (response.decision() == Decision::Deny).then_some(Code::PolicyDenied)
    }
}

fn roles() -> Vec<Role> {
    let dev = Rule {
        servers: vec!["a*".parse().unwrap(), "~1".parse().unwrap()],
        items: vec!["read_*".parse().unwrap(), "b/x".parse().unwrap()],
        ..Rule::permit()
    };
    let mut roles = builtin_roles();
    roles.push(Role { name: "dev".to_owned(), doc: None, inherits: Vec::new(), rules: vec![dev] });
    let inherits = vec!["dev".to_owned(), "reader".to_owned()];
    roles.push(Role { name: "lead".to_owned(), doc: None, inherits, rules: Vec::new() });
    roles
}

/// Server `a` is in production, reads what is private and carries out what it is given.
fn facts() -> std::collections::BTreeMap<String, ServerFacts> {
    let labels = vec![
        ("read_*".parse().unwrap(), [Label::ReadsPrivate].into_iter().collect()),
        ("write*".parse().unwrap(), [Label::WritesExternal, Label::SeesUntrusted].into_iter().collect()),
    ];
    let environment = Some("production".to_owned());
    [("a".to_owned(), ServerFacts { environment, labels, ..ServerFacts::default() })].into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn slices_and_remembered_decisions_agree_with_plain_cedar_over_the_whole_set(
        policies in proptest::collection::vec(slots(), 0..7),
        questions in proptest::collection::vec(asked(), 1..4),
    ) {
        let (schema, _) = Schema::from_cedarschema_str(Policies::schema()).unwrap();
        // Combinations that can never apply are mistakes, rightly; the rest is compared.
        let validator = Validator::new(schema.clone());
        let possible: Vec<Slots> = policies
            .into_iter()
            .filter(|one| {
                let set = PolicySet::from_str(&written(&[*one])).unwrap();
                validator.validate(&set, ValidationMode::Strict).validation_passed_without_warnings()
            })
            .collect();
        let cedar = vec![("p".to_owned(), written(&possible))];
        let source = PolicySource { roles: roles(), cedar, servers: facts(), ..PolicySource::default() };
        let small = Limits { decision_cache_max: 1, ..Limits::default() };
        let compiled = Policies::compile(&source, &small).unwrap();
        let text = compiled.to_cedar();
        let mut shown = HashMap::new();
        // One place for all decisions, so that each question meets the answer to one that differs in little.
        for asked in questions.iter().flat_map(Asked::neighbours) {
            let (caller, target) = (asked.caller(), asked.target());
            let arguments = || asked.number.map_or(json!({}), |number| json!({ "n": number }));
            let seen = if asked.seen { [Label::ReadsPrivate].into_iter().collect() } else { Labels::NONE };
            let context = RequestContext { seen, ..CONTEXT };
            let ours = compiled.permit(&caller, asked.action, &target, Some(&arguments), &context);
            let plain = asked.plain(&text, &schema);
            let ours = ours.err().map(|denial| denial.code);
            // Plain Cedar knows no code of its own for the flow rule.
            let code = if ours == Some(Code::PolicyFlow) { Some(Code::PolicyDenied) } else { ours };
            prop_assert_eq!(code, plain, "{:?}\n{}", asked, text);
            match compiled.verdict(&caller, asked.action, &target, Some(&context)) {
                Verdict::Allow | Verdict::Approval => prop_assert_eq!(plain, None, "{:?}\n{}", asked, text),
                Verdict::Deny => prop_assert!(plain.is_some(), "{:?}\n{}", asked, text),
                Verdict::Depends(policies) => prop_assert!(!policies.is_empty()),
            }
            let seen = compiled.may_see(&caller, asked.action, &target, &context);
            // What may be called is seen.
            prop_assert!(seen || plain.is_some(), "{:?}\n{}", asked, text);
            // And seen alike by everybody of the same audience, whenever and from wherever they ask.
            let Some(audience) = compiled.audience(&caller, &target) else { continue };
            let elsewhere = RequestContext {
                source_ip: Some([10, 0, 0, 1].into()),
                seen: [Label::ReadsPrivate].into_iter().collect(),
                ..RequestContext::new(Timestamp(1), "2026-07-28")
            };
            prop_assert_eq!(seen, compiled.may_see(&caller, asked.action, &target, &elsewhere));
            let known = *shown.entry((audience, asked.action, target)).or_insert(seen);
            prop_assert_eq!(known, seen, "{:?}\n{}", asked, text);
        }
    }
}
