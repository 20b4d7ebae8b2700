//! Where data may go: a table of callers and servers, and what is demanded of answers.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{collections::BTreeMap, sync::Arc};

use portcullis_core::{Action, Caller, Code, Limits, Target, TargetKind, Timestamp, Treatment};
use portcullis_policy::{
    Agent, Allowed, Label, Labels, Policies, PolicySource, RequestContext, Residency, Role, Rule, ServerFacts,
};
use serde_json::{Value, json};

fn policies(cedar: &str) -> Policies {
    let role =
        |name: &str| Role { name: name.into(), doc: None, inherits: Vec::new(), rules: vec![Rule::permit()] };
    let at = |region: Option<&str>| ServerFacts { region: region.map(Into::into), ..ServerFacts::default() };
    let labelled = ServerFacts {
        labels: vec![("records".parse().unwrap(), [Label::Health].into_iter().collect())],
        ..at(Some("eu"))
    };
    let allowed = |regions: &[&str], answers| Allowed {
        regions: regions.iter().map(ToString::to_string).collect(),
        answers,
    };
    let source = PolicySource {
        roles: ["eu", "us", "none"].map(role).into(),
        cedar: if cedar.is_empty() { Vec::new() } else { vec![("a.cedar".into(), cedar.into())] },
        servers: [("eu", labelled), ("us", at(Some("us"))), ("unsaid", at(None))]
            .map(|(name, facts)| (name.to_owned(), facts))
            .into(),
        agents: ["client:bot-us", "client:bot"]
            .map(|id| {
                let roles = if id.ends_with("us") { vec!["us".to_owned()] } else { vec!["none".to_owned()] };
                (id.to_owned(), Agent { owner: "team".into(), roles })
            })
            .into(),
        residency: Residency {
            data: BTreeMap::from([
                (Label::Health, allowed(&["eu"], Treatment::Refuse)),
                (Label::Personal, allowed(&["eu", "ch"], Treatment::Mask)),
            ]),
            roles: [("eu", "eu"), ("us", "us")].map(|(role, region)| (role.into(), region.into())).into(),
            claim: Some("region".into()),
        },
        ..PolicySource::default()
    };
    Policies::compile(&source, &Limits::default()).unwrap()
}

fn caller(roles: &[&str], region: &Value, actors: &[&str]) -> Caller {
    let claims = json!({"region": region});
    Caller {
        claims: claims.as_object().cloned().map(Arc::new),
        actors: actors.iter().map(ToString::to_string).collect::<Vec<_>>().into(),
        ..Caller::local("a", 1, roles.iter().map(ToString::to_string).collect::<Vec<_>>().into())
    }
}

fn tool(server: &str, name: &str) -> Target {
    Target { server: server.into(), item: Some((TargetKind::Tool, name.into())), digest: None }
}

#[test]
fn what_answers_may_bring_follows_from_every_region_that_the_caller_is_in_and_no_region_is_none() {
    let policies = policies("");
    let context = RequestContext::new(Timestamp(0), "2026-07-28");
    let (mask, refuse) = (Treatment::Mask, Treatment::Refuse);
    for (roles, region, actors, health, personal) in [
        (&["eu"][..], json!(null), &[][..], None, None),
        (&["none"], json!("eu"), &[], None, None),
        (&["none"], json!(["eu", "eu"]), &[], None, None),
        (&["none"], json!("ch"), &[], Some(refuse), None),
        (&["none"], json!(["eu", "ch"]), &[], Some(refuse), None),
        (&["us"], json!(null), &[], Some(refuse), Some(mask)),
        (&["eu", "us"], json!(null), &[], Some(refuse), Some(mask)),
        (&["eu"], json!("us"), &[], Some(refuse), Some(mask)),
        (&["none"], json!(null), &[], Some(refuse), Some(mask)),
        (&["none"], json!(7), &[], Some(refuse), Some(mask)),
        (&["none"], json!({"eu": true}), &[], Some(refuse), Some(mask)),
        (&["eu"], json!(null), &["client:bot"], None, None),
        (&["eu"], json!(null), &["client:bot-us"], Some(refuse), Some(mask)),
    ] {
        let caller = caller(roles, &region, actors);
        let decide = |name| policies.decide(&caller, Action::CallTool, &tool("eu", name), None, &context);
        let decision = decide("read");
        let demanded = |label| decision.obligations.abroad.get(&label).copied();
        let got = (decision.code, demanded(Label::Health), demanded(Label::Personal));
        assert_eq!(got, (None, health, personal), "{roles:?} {region} {actors:?}");
        let declared = health.map(|_| Code::ResidencyRefused);
        assert_eq!(decide("records").code, declared, "{roles:?} {region} {actors:?}");
    }
}

#[test]
fn a_server_gets_what_may_go_to_its_region_and_one_that_is_nowhere_gets_none() {
    let policies = policies("");
    let both: Labels = [Label::Health, Label::Personal].into_iter().collect();
    for (server, barred) in [("eu", Labels::NONE), ("us", both), ("unsaid", both), ("unknown", both)] {
        assert_eq!(policies.barred_from(server), barred, "{server}");
    }
    let free = Policies::compile(&PolicySource::default(), &Limits::default()).unwrap();
    assert_eq!(free.barred_from("unsaid"), Labels::NONE, "without rules data goes everywhere");
}

#[test]
fn cedar_may_ask_where_callers_and_servers_are() {
    let policies = policies(
        "@id(\"at-home\") forbid (principal, action, resource)\n\
         unless { resource has region && principal.regions.contains(resource.region) };",
    );
    let context = RequestContext::new(Timestamp(0), "2026-07-28");
    let allowed = |roles: &[&str], server| {
        let caller = caller(roles, &json!(null), &[]);
        policies.decide(&caller, Action::CallTool, &tool(server, "read"), None, &context).is_allowed()
    };
    assert_eq!(
        [("eu", "eu"), ("eu", "us"), ("us", "us"), ("none", "us"), ("eu", "unsaid")]
            .map(|(role, server)| allowed(&[role], server)),
        [true, false, true, false, false]
    );
}
