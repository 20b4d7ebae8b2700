//! Findings about which people are asked: what holds a find that is treated with `ask` waits until somebody who may say so
//! lets it through, once, and no evidence is shown for it.

use std::time::Instant;

use portcullis_testkit::{Answer, Era, Gateway, McpClient, Outcome};
use portcullis_tests::{
    house::{House, SOON, asked, events, until},
    pair::{code_of, entries, new_key},
};
use serde_json::{Value, json};

const ROLES: &str = "roles:
  lead: {}
  security: {}
  caller:
    allow:
      - actions: [connect, complete]
      - actions: [call_tool, get_prompt, read_resource]
  asking:
    allow:
      - actions: [connect]
      - actions: [call_tool]
        approval: {roles: [lead]}
";

/// An attack, somebody's data and what is masked as ever.
const INSPECT: &str = "inspect:
  path_traversal: {arguments: ask, approval: {people: 2, roles: [security], expires_s: 600}}
  payment_card: {arguments: ask}
  email: {arguments: mask}
inspect_approval: {roles: [lead]}
";

const CARD: &str = "4111 1111 1111 1111";

fn paying(to: &str) -> Value {
    json!({"text": format!("pay {CARD} {to}")})
}

fn climbing() -> Value {
    json!({"text": "x", "path": "../../../../etc/passwd"})
}

async fn echo(client: &mut McpClient, arguments: &Value) -> Outcome<Answer> {
    client.call("echo", arguments.clone()).await
}

/// The arguments that the server received last.
fn received(house: &House) -> Value {
    let calls = house.server.received();
    let last = calls.iter().rev().find(|one| one.method == "tools/call");
    last.map(|call| call.json()["params"]["arguments"].clone()).unwrap_or_default()
}

#[tokio::test]
async fn an_argument_with_a_find_waits_for_a_yes_passes_once_as_it_was_asked_about_and_a_no_refuses_it()
-> Outcome {
    let house = House::with(ROLES, INSPECT).await?;
    let lead = house.person("lead", &["lead"])?;
    for era in Era::ALL {
        let mut client = house.client(era).await?;
        let arguments = paying(&format!("to me@example.com {era:?}"));
        let before = house.server.count("tools/call");
        let id = asked(&echo(&mut client, &arguments).await?)?;
        assert_eq!(asked(&echo(&mut client, &arguments).await?)?, id, "{era:?}: it is one question");
        assert_eq!(house.server.count("tools/call"), before, "{era:?}: nothing was forwarded");
        let shown = house.command(&["approval", "show", &id])?;
        let masked = format!(r#"{{"text":"pay [masked:payment_card] to [masked:email] {era:?}"}}"#);
        assert_eq!(shown["arguments"], masked);
        let card = json!({"detector": "payment_card", "severity": "high", "confidence": 1_000,
            "place": "/params/arguments/text", "treatment": "ask"});
        assert!(shown["findings"].as_array().is_some_and(|all| all.contains(&card)), "{shown}");
        assert_eq!((&shown["people"], &shown["roles"]), (&json!(1), &json!([["lead"]])), "{era:?}");
        house.approve(&id, &lead)?;
        let through = echo(&mut client, &arguments).await?;
        assert_eq!(code_of(&through), "", "{era:?}: {}", through.reply.text());
        assert_eq!(
            received(&house),
            paying(&format!("to [masked:email] {era:?}")),
            "{era:?}: what was masked stays so"
        );
        assert_eq!(
            events(&house.gateway, &id).await?,
            ["approval.asked", "approval.granted", "approval.redeemed", "call.intent", "call.outcome"],
            "{era:?}"
        );
        let again = asked(&echo(&mut client, &arguments).await?)?;
        assert_ne!(again, id, "{era:?}: a yes is good once");
        // What has no find, or another value, was not asked about.
        assert_eq!(code_of(&echo(&mut client, &json!({"text": "x"})).await?), "");
        assert_ne!(asked(&echo(&mut client, &paying(&format!("twice {era:?}"))).await?)?, again);
        house.answer("deny", &again, &lead)?.map_err(|said| format!("{again}: {said}"))?;
        let denied = echo(&mut client, &arguments).await?;
        assert_eq!(code_of(&denied), "approval.denied", "{era:?}: {}", denied.reply.text());
        assert_eq!(house.server.count("tools/call"), before + 2, "{era:?}");
    }
    let ledger = entries(&house.gateway, "").await?;
    let all = serde_json::to_string(&ledger)?;
    assert!(!all.contains("4111 1111") && !all.contains("me@example.com"), "the ledger has digests");
    let asked = ledger.iter().find(|entry| entry["event"] == "approval.asked").ok_or("nothing was asked")?;
    let treatments: Vec<_> =
        asked["findings"].as_array().into_iter().flatten().map(|one| &one["treatment"]).collect();
    assert!(treatments.contains(&&json!("ask")) && treatments.contains(&&json!("mask")), "{asked}");
    Ok(())
}

#[tokio::test]
async fn an_attack_is_shown_to_those_who_judge_it_who_are_those_that_its_detector_names() -> Outcome {
    let house = House::with(ROLES, INSPECT).await?;
    let lead = house.person("lead", &["lead"])?;
    let [one, two] = [house.person("one", &["security"])?, house.person("two", &["security"])?];
    let mut client = house.client(Era::Modern).await?;
    let id = asked(&echo(&mut client, &climbing()).await?)?;
    let shown = house.command(&["approval", "show", &id])?;
    assert_eq!(shown["arguments"], climbing().to_string());
    assert_eq!((&shown["people"], &shown["roles"]), (&json!(2), &json!([["security"]])));
    let confidence = shown["findings"][0]["confidence"].as_u64().unwrap_or_default();
    assert!((1..=1_000).contains(&confidence), "{shown}");
    assert!(house.answer("approve", &id, &lead)?.is_err(), "who is not named does not answer");
    house.approve(&id, &one)?;
    assert_eq!(asked(&echo(&mut client, &climbing()).await?)?, id, "one of two");
    house.approve(&id, &two)?;
    assert_eq!(code_of(&echo(&mut client, &climbing()).await?), "");
    assert_eq!(received(&house), climbing());
    let text = house.gateway.command(&["approval", "show", &id])?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("path_traversal (") && text.contains("of 1000"), "{text}");
    Ok(())
}

#[tokio::test]
async fn where_policy_asks_too_and_where_several_detectors_do_there_is_one_question_good_enough_for_all()
-> Outcome {
    let house = House::with(ROLES, &INSPECT.replace("inspect_approval: {roles: [lead]}", "")).await?;
    let key = new_key(&house.gateway, "asking", "asking")?;
    let mut client = McpClient::connect(&house.gateway.url("s"), Some(&key), Era::Modern).await?;
    let both = json!({"text": format!("pay {CARD}"), "path": "../../../../etc/passwd"});
    for (arguments, people, roles) in [
        (json!({"text": "x"}), 1, json!([["lead"]])),
        // Where nobody is named, whoever may do everything.
        (paying(""), 1, json!([["admin"], ["lead"]])),
        (climbing(), 2, json!([["lead"], ["security"]])),
        (both.clone(), 2, json!([["admin"], ["lead"], ["security"]])),
    ] {
        let id = asked(&echo(&mut client, &arguments).await?)?;
        let shown = house.command(&["approval", "show", &id])?;
        assert_eq!((&shown["people"], &shown["roles"]), (&json!(people), &roles), "{arguments}");
    }
    let id = asked(&echo(&mut client, &both).await?)?;
    let all = ["admin", "lead", "security"];
    for person in ["one", "two"] {
        house.approve(&id, &house.person(person, &all)?)?;
    }
    assert_eq!(code_of(&echo(&mut client, &both).await?), "", "and not a second question");
    assert_eq!(house.server.count("tools/call"), 1);
    Ok(())
}

#[tokio::test]
async fn a_question_about_a_find_ends_in_time_and_with_it_what_was_said_to_it() -> Outcome {
    let yaml =
        "inspect:\n  payment_card: {arguments: ask}\ninspect_approval: {roles: [lead], expires_s: 3}\n";
    let house = House::with(ROLES, yaml).await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Legacy).await?;
    let due = Instant::now() + SOON;
    let id = loop {
        let id = asked(&echo(&mut client, &paying("late")).await?)?;
        // On a slow machine the time may be over before the answer is.
        if house.answer("approve", &id, &lead)?.is_ok() {
            break id;
        }
        assert!(Instant::now() < due, "no answer in time");
    };
    until("its time is over", || async {
        Ok(house.command(&["approval", "show", &id])?["state"] == "expired")
    })
    .await?;
    assert_ne!(asked(&echo(&mut client, &paying("late")).await?)?, id);
    assert_eq!(house.server.count("tools/call"), 0);
    Ok(())
}

#[tokio::test]
async fn what_cannot_wait_for_people_is_masked_instead() -> Outcome {
    let house = House::with(ROLES, INSPECT).await?;
    house.server.set_prompts(vec![json!({"name": "greet", "arguments": [{"name": "who"}]})]);
    let complete =
        json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": CARD}});
    until("it is pinned", || async {
        let mut client = house.client(Era::Modern).await?;
        let answer = client.request("completion/complete", complete.clone()).await?;
        assert_ne!(code_of(&answer), "approval.required", "{}", answer.reply.text());
        Ok(house.server.count("completion/complete") > 0)
    })
    .await?;
    let calls = house.server.received();
    let last =
        calls.iter().rev().find(|one| one.method == "completion/complete").ok_or("nothing came")?.json();
    assert_eq!(last["params"]["argument"]["value"], "[masked:payment_card]", "{last}");
    Ok(())
}

#[tokio::test]
async fn whom_to_ask_is_said_where_somebody_is_asked_and_so_that_somebody_can_answer() -> Outcome {
    for (yaml, said) in [
        ("inspect_approval: {people: 2}\n", "nothing is treated with `ask`"),
        ("inspect:\n  email: {answers: mask, approval: {people: 2}}\n", "nothing is treated with `ask`"),
        (
            "inspect:\n  email: {arguments: ask, approval: {people: 2, by_caller: true}}\n",
            "`by_caller` where several people",
        ),
        ("inspect:\n  email: {arguments: ask, approval: {roles: [nobody]}}\n", "unknown role `nobody`"),
    ] {
        let gateway = Gateway::builder().prepare()?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("portcullis.yaml"), yaml)?;
        let output =
            std::process::Command::new(gateway.binary()).current_dir(folder.path()).arg("check").output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said) && text.contains("hint: "), "{yaml}{text}");
    }
    Ok(())
}
