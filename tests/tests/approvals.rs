//! Approvals: a call that policy allows only with people's yes is refused and told so, passes once when they said yes to
//! exactly that call, and never otherwise.

use std::time::Instant;

use portcullis_testkit::{Answer, Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::{
    house::{House, SOON, asked, events, until},
    pair::{code_of, entries, known, new_key},
};
use serde_json::{Value, json};

const ROLES: &str = "roles:
  lead: {}
  boss: {}
  caller:
    allow:
      - actions: [connect, task]
      - actions: [call_tool]
        tools: [echo]
        approval: {roles: [lead, boss]}
      - actions: [call_tool]
        tools: [add]
        approval: {people: 2, roles: [lead]}
        mask: [email]
      - actions: [call_tool]
        tools: [delete]
        approval: {roles: [lead], expires_s: 3}
      - actions: [read_resource, get_prompt]
        approval: {roles: [lead]}
";

async fn echo(client: &mut McpClient, text: &str) -> Outcome<Answer> {
    client.call("echo", json!({"text": text})).await
}

#[tokio::test]
async fn a_call_waits_for_people_and_passes_once_when_they_said_yes_to_exactly_this_one() -> Outcome {
    let house = House::with(ROLES, "").await?;
    let lead = house.person("lead", &["lead"])?;
    for (era, text) in [(Era::Legacy, "x"), (Era::Modern, "y")] {
        let mut client = house.client(era).await?;
        let before = house.server.count("tools/call");
        let first = echo(&mut client, text).await?;
        let id = asked(&first)?;
        assert!(
            first.text().contains(&id) && first.text().contains("before 20"),
            "{era:?}: {}",
            first.text()
        );
        assert_eq!(asked(&echo(&mut client, text).await?)?, id, "{era:?}: it is one question");
        let shown = house.command(&["approval", "show", &id])?;
        for (member, expected) in [
            ("state", json!("open")),
            ("server", json!("s")),
            ("kind", json!("tool")),
            ("name", json!("echo")),
            ("arguments", json!(format!(r#"{{"text":"{text}"}}"#))),
            ("arguments_complete", json!(true)),
            ("arguments_bytes", json!(12)),
            ("roles", json!([["boss", "lead"]])),
            ("given", json!(0)),
        ] {
            assert_eq!(shown[member], expected, "{era:?} {member}");
        }
        assert!(shown["definition"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
        assert!(shown["caller"].as_str().is_some_and(|caller| caller.starts_with("key:")));
        assert_eq!(house.server.count("tools/call"), before, "{era:?}: nothing was forwarded");

        assert_eq!(house.approve(&id, &lead)?["state"], "approved");
        assert_eq!(echo(&mut client, text).await?.text(), text, "{era:?}");
        let again = asked(&echo(&mut client, text).await?)?;
        assert_ne!(again, id, "{era:?}: a yes is good once");
        assert_eq!(house.server.count("tools/call"), before + 1, "{era:?}");
        assert_eq!(house.command(&["approval", "show", &id])?["state"], "redeemed");
        assert_eq!(
            events(&house.gateway, &id).await?,
            ["approval.asked", "approval.granted", "approval.redeemed", "call.intent", "call.outcome"],
            "{era:?}"
        );
        let denied = house.answer("deny", &again, &lead)?;
        assert_eq!(denied.map(|view| view["state"].clone()), Ok(json!("denied")));
        for _ in 0..2 {
            let answer = echo(&mut client, text).await?;
            assert_eq!(code_of(&answer), "approval.denied", "{era:?}: {}", answer.reply.text());
            assert!(!answer.reply.text().contains("a test"), "{era:?}: why is for the ledger");
        }
        assert_eq!(house.server.count("tools/call"), before + 1, "{era:?}");
    }
    let said = entries(&house.gateway, "event=approval.denied").await?;
    assert_eq!(
        (&said[0]["data"]["reason"], &said[0]["data"]["via"]),
        (&json!("a test"), &json!("admin_api"))
    );
    Ok(())
}

#[tokio::test]
async fn what_a_client_says_beside_a_call_reaches_its_server_only_where_nobody_had_to_approve_it() -> Outcome
{
    let free = ROLES.replace("tools: [add]", "tools: [nothing]").replace(
        "  caller:\n    allow:\n",
        "  caller:\n    allow:\n      - actions: [call_tool]\n        tools: [add]\n",
    );
    let house = House::with(&free, "").await?;
    let lead = house.person("lead", &["lead"])?;
    for era in Era::ALL {
        let mut client = house.client(era).await?;
        let echo = |to: &str| {
            json!({"name": "echo", "arguments": {"text": format!("{era:?}")},
            "_meta": {"progressToken": to, "com.acme/to": to}})
        };
        let id = asked(&client.request("tools/call", echo("the one that was looked at")).await?)?;
        house.approve(&id, &lead)?;
        let answer = client.request("tools/call", echo("another")).await?;
        assert_eq!(answer.text(), format!("{era:?}"), "{}", answer.reply.text());
        let add = json!({"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": {"com.acme/to": "free"}});
        assert_eq!(client.request("tools/call", add).await?.text(), "3");
        let received = house.server.received();
        let mut calls = received.iter().filter(|one| one.method == "tools/call").rev().map(|one| one.json());
        let (free, approved) = (calls.next().ok_or("no call")?, calls.next().ok_or("no call")?);
        assert_eq!(free.pointer("/params/_meta/com.acme~1to"), Some(&json!("free")), "{era:?}");
        assert_eq!(approved.pointer("/params/_meta/com.acme~1to"), None, "{era:?}: {approved}");
        assert_eq!(approved.pointer("/params/_meta/progressToken"), Some(&json!("another")), "{era:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_asks_programs_strangers_and_the_admin_token_answer_nothing() -> Outcome {
    let house = House::with(ROLES, "").await?;
    let own = house.person("own", &["caller", "lead"])?;
    let program = house.key_file("program", &["lead"], false)?;
    let stranger = house.person("stranger", &["caller"])?;
    let lead = house.person("lead", &["lead"])?;
    let elsewhere = house.gateway.folder().join("elsewhere.key");
    let made = house.command(&["key", "create", "e", "--role", "lead", "--user", "--server", "t"]);
    if let Ok(made) = made {
        std::fs::write(&elsewhere, made["text"].as_str().unwrap_or_default())?;
        std::fs::set_permissions(&elsewhere, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    let key = std::fs::read_to_string(&own)?;
    let mut client = McpClient::connect(&house.gateway.url("s"), Some(&key), Era::Modern).await?;
    let id = asked(&echo(&mut client, "x").await?)?;
    for (person, expected) in [
        (&own, "who asks cannot answer"),
        (&program, "no question"),
        (&stranger, "no question"),
        (&elsewhere.to_string_lossy().into_owned(), "no question"),
    ] {
        for verb in ["approve", "deny"] {
            let said = house.answer(verb, &id, person)?;
            assert!(said.as_ref().is_err_and(|said| said.contains(expected)), "{person} {verb}: {said:?}");
        }
    }
    let said = house.try_command(&["approval", "approve", &id])?;
    assert!(said.as_ref().is_err_and(|said| said.contains("admin token is no person")), "{said:?}");
    // Whoever may not answer does not see what is asked; who asks does.
    let seen = |person: &str| -> Outcome<Option<usize>> {
        Ok(house.command(&["approval", "list", "--key-file", person])?["approvals"].as_array().map(Vec::len))
    };
    let counts = [seen(&own)?, seen(&program)?, seen(&stranger)?, seen(&lead)?];
    assert_eq!(counts, [Some(1), Some(0), Some(0), Some(1)]);
    assert!(house.try_command(&["approval", "show", &id, "--key-file", &stranger])?.is_err());
    assert_eq!(code_of(&echo(&mut client, "x").await?), "approval.required");
    // A revoked or stopped key is nobody's.
    let lead_id = std::fs::read_to_string(&lead)?.split('_').nth(1).ok_or("no id")?.to_owned();
    house.command(&["kill", "caller", &format!("key:{lead_id}")])?;
    assert!(house.answer("approve", &id, &lead)?.is_err());
    house.command(&["unkill", "caller", &format!("key:{lead_id}")])?;
    house.command(&["key", "revoke", &lead_id])?;
    assert!(house.answer("approve", &id, &lead)?.is_err());
    assert_eq!(events(&house.gateway, &id).await?, ["approval.asked"], "no answer counted");
    Ok(())
}

#[tokio::test]
async fn two_people_are_two_keys_and_either_may_take_a_yes_back_before_the_call() -> Outcome {
    let house = House::with(ROLES, "").await?;
    let [one, two] = [house.person("one", &["lead"])?, house.person("two", &["lead"])?];
    let mut client = house.client(Era::Modern).await?;
    let sum = json!({"a": 1, "b": 2});
    let id = asked(&client.call("add", sum.clone()).await?)?;
    assert_eq!(house.approve(&id, &one)?["given"], 1);
    let twice = house.answer("approve", &id, &one)?;
    assert!(twice.as_ref().is_err_and(|said| said.contains("answered that already")), "{twice:?}");
    let half = client.call("add", sum.clone()).await?;
    assert_eq!(asked(&half)?, id);
    assert!(half.text().contains("1 of 2 people"), "{}", half.text());
    assert_eq!(house.approve(&id, &two)?["state"], "approved");
    assert_eq!(client.call("add", sum.clone()).await?.text(), "3");

    let id = asked(&client.call("add", sum.clone()).await?)?;
    house.approve(&id, &one)?;
    house.approve(&id, &two)?;
    assert_eq!(house.answer("deny", &id, &one)?.map(|view| view["state"].clone()), Ok(json!("denied")));
    assert_eq!(code_of(&client.call("add", sum).await?), "approval.denied");
    assert!(house.answer("approve", &id, &two)?.is_err(), "it is over");
    Ok(())
}

#[tokio::test]
async fn a_yes_is_for_one_caller_one_message_one_definition_one_policy_and_a_time() -> Outcome {
    let house = House::with(ROLES, "limits:\n  catalog_refresh_ms: 200\n").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Modern).await?;
    let granted = |id: &str| house.approve(id, &lead).map(|_| ());
    // Another caller, other arguments, another tool.
    let id = asked(&echo(&mut client, "x").await?)?;
    granted(&id)?;
    let other = new_key(&house.gateway, "other", "caller")?;
    let mut stranger = McpClient::connect(&house.gateway.url("s"), Some(&other), Era::Modern).await?;
    let mut others = vec![id.clone()];
    for answer in [
        echo(&mut stranger, "x").await?,
        echo(&mut client, "z").await?,
        client.call("delete", json!({"text": "x"})).await?,
    ] {
        let next = asked(&answer)?;
        assert!(!others.contains(&next), "{next}");
        others.push(next);
    }
    assert_eq!(house.server.count("tools/call"), 0);
    // Another policy.
    house.gateway.rewrite(|yaml| yaml.replace("[lead, boss]}", "[lead, boss], expires_s: 600}"))?;
    house.gateway.reload()?;
    until("the new policy is in force", || async {
        Ok(!entries(&house.gateway, "event=config.changed").await?.is_empty())
    })
    .await?;
    let under_another = asked(&echo(&mut client, "x").await?)?;
    assert_ne!(under_another, id);
    // Another definition.
    granted(&under_another)?;
    house.server.set_tools(vec![json!({
        "name": "echo", "description": "now it also sends it away", "inputSchema": {"type": "object"}
    })]);
    until("the change is noticed", || async {
        let mut client = house.client(Era::Modern).await?;
        Ok(code_of(&echo(&mut client, "probe").await?) == "definition.changed")
    })
    .await?;
    house.command(&["tool", "approve", "s/echo"])?;
    assert_ne!(asked(&echo(&mut client, "x").await?)?, under_another);
    assert_eq!(house.server.count("tools/call"), 0, "nothing was ever forwarded");
    Ok(())
}

#[tokio::test]
async fn when_its_time_is_over_a_yes_is_worth_nothing_and_the_ledger_says_so() -> Outcome {
    let house = House::with(ROLES, "").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Legacy).await?;
    let due = Instant::now() + SOON;
    let id = loop {
        let id = asked(&client.call("delete", json!({})).await?)?;
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
    assert!(house.answer("approve", &id, &lead)?.is_err_and(|said| said.contains("expired")));
    let next = asked(&client.call("delete", json!({})).await?)?;
    assert_ne!(next, id);
    assert_eq!(
        events(&house.gateway, &id).await?,
        ["approval.asked", "approval.granted", "approval.expired"]
    );
    let ended = entries(&house.gateway, "event=approval.expired").await?;
    assert!(ended.iter().any(|entry| entry["data"]["was"] == "approved"), "{ended:?}");
    assert_eq!(house.server.count("tools/call"), 0);
    Ok(())
}

#[tokio::test]
async fn questions_and_answers_outlive_a_restart_and_a_kill() -> Outcome {
    let mut house = House::with(ROLES, "").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Modern).await?;
    let id = asked(&echo(&mut client, "x").await?)?;
    house.gateway.stop().await?;
    house.gateway.start_again().await?;
    known(&house.gateway, SOON).await?;
    let mut client = house.client(Era::Modern).await?;
    assert_eq!(asked(&echo(&mut client, "x").await?)?, id);
    house.approve(&id, &lead)?;
    house.gateway.kill()?;
    house.gateway.start_again().await?;
    known(&house.gateway, SOON).await?;
    let mut client = house.client(Era::Modern).await?;
    assert_eq!(echo(&mut client, "x").await?.text(), "x");
    house.gateway.kill()?;
    house.gateway.start_again().await?;
    known(&house.gateway, SOON).await?;
    let mut client = house.client(Era::Modern).await?;
    assert_ne!(asked(&echo(&mut client, "x").await?)?, id, "it stays used up");
    Ok(())
}

#[tokio::test]
async fn what_an_operator_stopped_no_yes_lets_through_and_no_yes_is_used_up_by_it() -> Outcome {
    let house = House::with(ROLES, "").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Modern).await?;
    let id = asked(&echo(&mut client, "x").await?)?;
    house.approve(&id, &lead)?;
    let caller = format!("key:{}", house.key.split('_').nth(1).ok_or("no id")?);
    for stop in [vec!["caller", &*caller], vec!["tool", "s/echo"], vec!["server", "s"], vec!["everything"]] {
        house.command(&[&["kill"], &*stop].concat())?;
        assert_eq!(code_of(&echo(&mut client, "x").await?), "killed", "{stop:?}");
        house.command(&[&["unkill"], &*stop].concat())?;
    }
    assert_eq!(house.server.count("tools/call"), 0);
    assert_eq!(house.command(&["approval", "show", &id])?["state"], "approved");
    assert_eq!(echo(&mut client, "x").await?.text(), "x");
    Ok(())
}

#[tokio::test]
async fn of_fifty_calls_at_once_a_yes_lets_one_through() -> Outcome {
    let house = House::with(ROLES, "").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Modern).await?;
    let at_once = |client: &McpClient| {
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { echo(&mut client, "x").await.map_err(|error| error.to_string()) })
            })
            .collect();
        async move {
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.await??);
            }
            Outcome::Ok(answers)
        }
    };
    let mut ids = Vec::new();
    for answer in at_once(&client).await? {
        ids.push(asked(&answer)?);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one question for all of them: {ids:?}");
    house.approve(&ids[0], &lead)?;
    let answers = at_once(&client).await?;
    let through = answers.iter().filter(|answer| answer.text() == "x").count();
    let waiting = answers.iter().filter(|answer| code_of(answer) == "approval.required").count();
    assert_eq!((through, waiting), (1, 49));
    assert_eq!(house.server.count("tools/call"), 1);
    assert_eq!(entries(&house.gateway, "event=approval.redeemed").await?.len(), 1);
    assert!(asked(&echo(&mut client, "x").await?).is_ok());
    Ok(())
}

#[tokio::test]
async fn a_call_that_its_server_wants_in_several_rounds_is_approved_once_for_all_of_them() -> Outcome {
    let house = House::with(ROLES, "    server_requests: [elicitation]\n").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Modern).await?;
    let question = json!({"method": "elicitation/create", "params": {
        "mode": "form", "message": "Which?", "requestedSchema": {"type": "object", "properties": {}}
    }});
    let ask = |state: &str| {
        Hostile::Answer(json!({
            "resultType": "input_required", "requestState": state, "inputRequests": {"q": question}
        }))
    };
    let round = |state: &str| {
        json!({
            "name": "echo", "arguments": {"text": "x"}, "requestState": state,
            "inputResponses": {"q": {"action": "accept", "content": {}}},
            "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
        })
    };
    let id = asked(&echo(&mut client, "x").await?)?;
    house.approve(&id, &lead)?;
    house.server.on("tools/call", ask("one"));
    // What belongs to no round is another call, however it looks.
    assert_ne!(asked(&client.request("tools/call", round("one")).await?)?, id);
    assert_eq!(echo(&mut client, "x").await?.result()["requestState"], "one");
    let foreign = asked(&client.request("tools/call", round("two")).await?)?;
    assert_ne!(foreign, id);
    house.server.on("tools/call", ask("two"));
    assert_eq!(client.request("tools/call", round("one")).await?.result()["requestState"], "two");
    house.server.heal();
    assert_ne!(asked(&client.request("tools/call", round("one")).await?)?, id, "a round is good once");
    assert_eq!(client.request("tools/call", round("two")).await?.text(), "x");
    assert!(asked(&client.request("tools/call", round("two")).await?).is_ok());
    assert!(asked(&echo(&mut client, "x").await?).is_ok());
    assert_eq!(house.server.count("tools/call"), 3);
    let intents = entries(&house.gateway, "event=call.intent").await?;
    assert_eq!(intents.iter().filter(|entry| entry["data"]["approval"] == *id).count(), 3);
    assert_eq!(entries(&house.gateway, "event=approval.redeemed").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn so_many_questions_are_open_for_a_caller_and_for_all_and_no_more() -> Outcome {
    let house = House::with(ROLES, "limits:\n  caller_approvals_max: 2\n  approvals_max: 3\n").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Modern).await?;
    let ids = [asked(&echo(&mut client, "1").await?)?, asked(&echo(&mut client, "2").await?)?];
    assert_eq!(code_of(&echo(&mut client, "3").await?), "limit.approvals");
    assert_eq!(asked(&echo(&mut client, "1").await?)?, ids[0], "what is open stays so");
    let other = new_key(&house.gateway, "other", "caller")?;
    let mut other = McpClient::connect(&house.gateway.url("s"), Some(&other), Era::Modern).await?;
    asked(&echo(&mut other, "1").await?)?;
    let refused = echo(&mut other, "2").await?;
    assert_eq!(code_of(&refused), "limit.approvals");
    house.approve(&ids[0], &lead)?;
    asked(&echo(&mut other, "2").await?)?;
    let said = entries(&house.gateway, "event=call.refused&code=limit.approvals").await?;
    let details: Vec<_> = said.iter().filter_map(|entry| entry["detail"].as_str()).collect();
    assert_eq!(details, ["limits.caller_approvals_max", "limits.approvals_max"]);
    Ok(())
}

#[tokio::test]
async fn people_see_no_more_of_the_arguments_than_the_caller_would_of_an_answer() -> Outcome {
    let house = House::with(ROLES, "").await?;
    let mut client = house.client(Era::Modern).await?;
    let arguments = json!({"a": 1, "b": 2, "note": "to me@example.com"});
    let id = asked(&client.call("add", arguments).await?)?;
    let shown = house.command(&["approval", "show", &id])?;
    assert_eq!(shown["arguments"], r#"{"a":1,"b":2,"note":"to [masked:email]"}"#);
    let long = asked(&echo(&mut client, &"ä".repeat(20_000)).await?)?;
    let shown = house.command(&["approval", "show", &long])?;
    assert_eq!((&shown["arguments_complete"], &shown["arguments_bytes"]), (&json!(false), &json!(40_011)));
    assert!(shown["arguments"].as_str().is_some_and(|text| (32_000..=32_768).contains(&text.len())));
    let text = house.gateway.command(&["approval", "show", &long])?;
    assert!(String::from_utf8_lossy(&text.stdout).contains("NOT ALL of them is shown"));
    let ledger = entries(&house.gateway, "").await?;
    assert!(ledger.iter().all(|entry| !entry.to_string().contains("example.com")), "the ledger has digests");
    Ok(())
}

#[tokio::test]
async fn prompts_resources_and_routes_over_several_servers_ask_as_well() -> Outcome {
    let house = House::with(ROLES, "aggregate:\n  enabled: true\n").await?;
    let lead = house.person("lead", &["lead"])?;
    house.server.set_prompts(vec![json!({"name": "greet"})]);
    house.server.set_resources(vec![json!({"name": "r", "uri": "file:///r"})]);
    house.server.on("prompts/get", Hostile::Answer(json!({"resultType": "complete", "messages": []})));
    let read = json!({"resultType": "complete", "contents": [], "ttlMs": 0, "cacheScope": "private"});
    house.server.on("resources/read", Hostile::Answer(read));
    until("they are pinned", || async {
        let mut client = house.client(Era::Modern).await?;
        Ok(code_of(&client.request("prompts/get", json!({"name": "greet"})).await?) == "approval.required"
            && code_of(&client.request("resources/read", json!({"uri": "file:///r"})).await?)
                == "approval.required")
    })
    .await?;
    let root = format!("{}/mcp", house.gateway.base());
    let mut all = McpClient::connect(&root, Some(&house.key), Era::Modern).await?;
    let mut own = house.client(Era::Modern).await?;
    for (method, params) in
        [("prompts/get", json!({"name": "greet"})), ("resources/read", json!({"uri": "file:///r"}))]
    {
        let id = asked(&own.request(method, params.clone()).await?)?;
        house.approve(&id, &lead)?;
        let answer = own.request(method, params.clone()).await?;
        assert!(!answer.result().is_null(), "{method}: {}", answer.reply.text());
        assert!(asked(&own.request(method, params).await?).is_ok(), "{method}");
    }
    let id = asked(&all.call("s__echo", json!({"text": "x"})).await?)?;
    house.approve(&id, &lead)?;
    assert_eq!(all.call("s__echo", json!({"text": "x"})).await?.text(), "x");
    Ok(())
}

#[tokio::test]
async fn a_session_that_may_carry_nothing_out_alone_may_with_the_yes_of_a_person() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "roles:\n  lead: {{}}\nflow: approve\nflow_approval: {{roles: [lead]}}\nservers:\n  s:\n    url: {}\n    \
         labels:\n      echo: [reads_private, sees_untrusted]\n      add: [writes_external]\n",
        server.url()
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let key = gateway.key()?.to_owned();
    let house = House { gateway, server, key };
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Legacy).await?;
    let sum = json!({"a": 1, "b": 2});
    assert_eq!(client.call("add", sum.clone()).await?.text(), "3", "it has seen nothing yet");
    assert_eq!(echo(&mut client, "x").await?.text(), "x");
    let id = asked(&client.call("add", sum.clone()).await?)?;
    let shown = house.command(&["approval", "show", &id])?;
    assert_eq!(shown["policies"], json!(["flow@s", "operator#1"]));
    house.approve(&id, &lead)?;
    assert_eq!(client.call("add", sum.clone()).await?.text(), "3");
    assert!(asked(&client.call("add", sum).await?).is_ok());
    Ok(())
}

#[tokio::test]
async fn a_yes_of_one_person_is_none_once_the_session_has_seen_what_takes_another() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "roles:\n  lead: {{}}\n  security: {{}}\n  caller:\n    allow:\n      - actions: [connect]\n      - actions: \
         [call_tool]\n        tools: [echo]\n      - actions: [call_tool]\n        tools: [add]\n        approval: {{roles: \
         [lead]}}\nflow: approve\nflow_approval: {{roles: [security]}}\nservers:\n  s:\n    url: {}\n    labels:\n      \
         echo: [reads_private, sees_untrusted]\n      add: [writes_external]\n",
        server.url()
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let key = new_key(&gateway, "caller", "caller")?;
    let house = House { gateway, server, key };
    let [lead, both] = [house.person("lead", &["lead"])?, house.person("both", &["lead", "security"])?];
    let mut client = house.client(Era::Legacy).await?;
    let sum = json!({"a": 1, "b": 2});
    let id = asked(&client.call("add", sum.clone()).await?)?;
    house.approve(&id, &lead)?;
    assert_eq!(echo(&mut client, "x").await?.text(), "x");
    let more = asked(&client.call("add", sum.clone()).await?)?;
    assert_ne!(more, id, "what one said yes to is not what both rules ask for");
    assert!(house.answer("approve", &more, &lead)?.is_err());
    house.approve(&more, &both)?;
    assert_eq!(client.call("add", sum).await?.text(), "3");
    Ok(())
}

/// Where the person behind the client may confirm calls.
const BY_CALLER: &str = "roles:
  lead: {}
  caller:
    allow:
      - actions: [connect]
      - actions: [call_tool]
        tools: [echo]
        approval: {by_caller: true}
      - actions: [call_tool]
        tools: [add]
        approval: {roles: [lead], by_caller: true}
        mask: [email]
";
const CONFIRM: &str = "dev.portcullis/confirm";

fn with_forms(tool: &str, arguments: &Value) -> Value {
    json!({
        "name": tool, "arguments": arguments,
        "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
    })
}

/// The same call again, with what the user said.
fn said(call: &Value, state: &str, answer: &Value) -> Value {
    let mut call = call.clone();
    call["inputResponses"] = json!({CONFIRM: answer});
    call["requestState"] = json!(state);
    call
}

fn yes() -> Value {
    json!({"action": "accept", "content": {"make_the_call": true}})
}

/// The question that the client is to show its user: its name, and what it says.
fn shown(answer: &Answer) -> Outcome<(String, String)> {
    let result = answer.result();
    let question = &result["inputRequests"][CONFIRM];
    let params = &question["params"];
    let kind = (&result["resultType"], &question["method"], &params["mode"]);
    if kind != (&json!("input_required"), &json!("elicitation/create"), &json!("form")) {
        return Err(format!("not asked: {}", answer.reply.text()).into());
    }
    assert_eq!(params["requestedSchema"]["required"], json!(["make_the_call"]));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok((text(&result["requestState"]).ok_or("no state")?, text(&params["message"]).ok_or("no message")?))
}

#[tokio::test]
async fn the_person_behind_a_client_confirms_a_call_there_once_where_policy_lets_it() -> Outcome {
    let house = House::with(BY_CALLER, "").await?;
    let lead = house.person("lead", &["lead"])?;
    let mut client = house.client(Era::Modern).await?;
    let call = with_forms("echo", &json!({"text": "x"}));
    let (id, message) = shown(&client.request("tools/call", call.clone()).await?)?;
    assert_eq!(message, r#"Shall the tool `echo` of server `s` be called with {"text":"x"}"#);
    assert_eq!(shown(&client.request("tools/call", call.clone()).await?)?.0, id, "it is one question");
    assert!(house.answer("approve", &id, &lead)?.is_err(), "nobody else is asked");
    // Closed without an answer, it stays open; the answer to another question, or for another call, is none.
    let other = with_forms("echo", &json!({"text": "y"}));
    let closed = said(&call, &id, &json!({"action": "cancel"}));
    assert_eq!(shown(&client.request("tools/call", closed).await?)?.0, id);
    assert_eq!(shown(&client.request("tools/call", said(&call, "apr_other", &yes())).await?)?.0, id);
    let (other_id, _) = shown(&client.request("tools/call", said(&other, &id, &yes())).await?)?;
    assert_ne!(other_id, id);
    assert_eq!(house.server.count("tools/call"), 0);

    let confirmed = said(&call, &id, &yes());
    assert_eq!(client.request("tools/call", confirmed.clone()).await?.text(), "x");
    let received = house.server.received().pop().ok_or("nothing")?.json();
    assert_eq!(received["method"], "tools/call");
    assert!(
        received["params"].get("inputResponses").is_none()
            && received["params"].get("requestState").is_none()
    );
    assert_ne!(shown(&client.request("tools/call", confirmed).await?)?.0, id, "a yes is good once");
    assert_eq!(
        events(&house.gateway, &id).await?,
        ["approval.asked", "approval.granted", "approval.redeemed", "call.intent", "call.outcome"]
    );
    let granted = entries(&house.gateway, "event=approval.granted").await?;
    assert_eq!((granted.len(), &granted[0]["data"]["via"]), (1, &json!("client")));
    assert_eq!(granted[0]["data"]["caller"], granted[0]["actor"]["id"]);

    for no in [json!({"action": "decline"}), json!({"action": "accept", "content": {"make_the_call": false}})]
    {
        let call = with_forms("echo", &json!({"text": no.to_string()}));
        let (id, _) = shown(&client.request("tools/call", call.clone()).await?)?;
        let denied = client.request("tools/call", said(&call, &id, &no)).await?;
        assert_eq!(code_of(&denied), "approval.denied", "{no}");
        assert_eq!(
            code_of(&client.request("tools/call", said(&call, &id, &yes())).await?),
            "approval.denied"
        );
    }
    assert_eq!(house.server.count("tools/call"), 1);
    Ok(())
}

#[tokio::test]
async fn of_fifty_confirmations_at_once_one_lets_its_call_through() -> Outcome {
    let house = House::with(BY_CALLER, "").await?;
    let mut client = house.client(Era::Modern).await?;
    let call = with_forms("echo", &json!({"text": "x"}));
    let (id, _) = shown(&client.request("tools/call", call.clone()).await?)?;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (mut client, call) = (client.clone(), said(&call, &id, &yes()));
            tokio::spawn(async move {
                client.request("tools/call", call).await.map_err(|error| error.to_string())
            })
        })
        .collect();
    let (mut through, mut asked_again) = (0, 0);
    for call in calls {
        let answer = call.await??;
        through += usize::from(answer.text() == "x");
        asked_again += usize::from(shown(&answer).is_ok_and(|(next, _)| next != id));
    }
    assert_eq!((through, asked_again, house.server.count("tools/call")), (1, 49, 1));
    Ok(())
}

#[tokio::test]
async fn a_client_that_cannot_ask_is_refused_and_where_policy_asks_others_no_client_confirms() -> Outcome {
    let house = House::with(BY_CALLER, "").await?;
    let lead = house.person("lead", &["lead"])?;
    for era in [Era::Legacy, Era::Modern] {
        let mut client = house.client(era).await?;
        let refused = echo(&mut client, "x").await?;
        asked(&refused)?;
        assert!(refused.text().contains("in a client that can ask"), "{era:?}: {}", refused.text());
    }
    // What a client may confirm and people may approve, whoever comes first answers; neither sees more than policy lets.
    let mut client = house.client(Era::Modern).await?;
    let call = with_forms("add", &json!({"a": 1, "b": 2, "note": "to me@example.com"}));
    let (id, message) = shown(&client.request("tools/call", call.clone()).await?)?;
    assert!(message.contains("to [masked:email]"), "{message}");
    house.approve(&id, &lead)?;
    assert_eq!(client.request("tools/call", call).await?.text(), "3");

    let strict = House::with(ROLES, "").await?;
    let mut client = strict.client(Era::Modern).await?;
    for (tool, arguments) in [("echo", json!({"text": "x"})), ("add", json!({"a": 1, "b": 2}))] {
        let call = with_forms(tool, &arguments);
        let id = asked(&client.request("tools/call", call.clone()).await?)?;
        assert_ne!(asked(&client.request("tools/call", said(&call, &id, &yes())).await?)?, id, "{tool}");
    }
    assert_eq!(strict.server.count("tools/call"), 0);
    assert!(entries(&strict.gateway, "event=approval.granted").await?.is_empty());
    Ok(())
}
