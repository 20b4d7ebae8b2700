//! Recorded directly at a server and through the gateway, traffic is the same to the byte where nothing should change;
//! what is meant to change is a table, and each row of it is shown to change that and nothing else.

use std::path::Path;

use portcullis_testkit::{Client, Era, Gateway, HostileServer, McpClient, Outcome};
use portcullis_tests::{
    chance::Chance,
    differ::{Both, Case, Media, Recording, events, play_lines},
    odd,
    pair::{Pair, SOON, known},
};
use serde_json::json;

const CHILD: &str = env!("CARGO_BIN_EXE_recording-child");

/// So rarely that the gateway asks nothing of its own while requests are counted.
const RARELY: &[(&str, u64)] = &[("catalog_refresh_ms", 86_400_000)];

const IDS: [(&str, &str); 4] =
    [("7", "\"t\""), ("123456789012345678901234567890", "-5"), ("\"\\u0061\\/\"", "0"), ("-0", "\"é\"")];

/// A server with one item of each kind.
async fn server() -> Outcome<HostileServer> {
    let server = HostileServer::start().await?;
    server.set_prompts(vec![json!({"name": "review", "arguments": [{"name": "subject"}]})]);
    server.set_resources(vec![json!({"name": "one", "uri": "demo://one"})]);
    Ok(server)
}

fn case(
    method: &'static str,
    subject: Option<(&'static str, &'static str)>,
    params: &str,
    result: &str,
) -> Case {
    let odd = odd::MEMBERS;
    let named = subject.map(|(name, value)| format!("\"{name}\": \"{value}\" ,")).unwrap_or_default();
    Case {
        name: method.to_owned(),
        method,
        subject,
        params: format!("{named}{params}\"unknown\":{{{odd}}},"),
        meta: format!(",\"x.y/z\":{{{odd}}}"),
        beside: format!("{odd},\"extra\":[{{{odd}}}],"),
        status: 200,
        replies: vec![format!(
            " {{\"result\" : {{{result}{odd},\"resultType\":\"complete\"}},{odd},\n\"id\":$ID ,\"jsonrpc\":\"2.0\"}} \n"
        )],
    }
}

/// One case for each method that is forwarded, with oddities wherever a member may stand.
fn methods(era: Era) -> Vec<Case> {
    let odd = odd::MEMBERS;
    let call = |result: &str| {
        let arguments = format!("\"arguments\":{{\"text\":\"\\u00e9\",{odd}}},");
        case("tools/call", Some(("name", "echo")), &arguments, result)
    };
    let content = format!("\"content\":[{{\"text\":\"\\u0061\\/é\",\"type\":\"text\",{odd}}}],");
    let mut cases = vec![
        call(&content),
        Case { name: "a tool's own failure".into(), ..call(&format!("\"isError\":true,{content}")) },
        call(&format!("{content}\"structuredContent\":{{{odd}}},")),
        case(
            "prompts/get",
            Some(("name", "review")),
            "\"arguments\":{\"subject\":\"\\u00e9\\/ \"},",
            &format!(
                "\"messages\":[{{\"role\":\"user\",\"content\":{{\"type\":\"text\",\"text\":\"x\",{odd}}}}}],"
            ),
        ),
        case(
            "resources/read",
            Some(("uri", "demo://one")),
            "",
            &format!("\"contents\":[{{\"uri\":\"demo:\\/\\/one\",\"text\":\"x\",{odd}}}],"),
        ),
        case(
            "completion/complete",
            None,
            &format!(
                "\"ref\":{{\"type\":\"ref/prompt\",\"name\":\"review\",{odd}}},\"argument\":{{\"name\":\"subject\",\"value\":\"\\u0061\"}},"
            ),
            &format!("\"completion\":{{\"values\":[\"\\u0061\"],{odd}}},"),
        ),
    ];
    match era {
        Era::Legacy => {
            cases.push(case("logging/setLevel", None, "\"level\":\"info\",", ""));
            cases.push(case("ping", None, "", ""));
            cases.push(case("resources/subscribe", Some(("uri", "demo://one")), "", ""));
        }
        Era::Modern => cases.push(case(
            "server/discover",
            None,
            "",
            &format!("\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{{{odd}}},\"serverInfo\":{{\"name\":\"s\",\"version\":\"1\",{odd}}},"),
        )),
    }
    cases
}

/// JSON-RPC errors, each with the status a server may give it.
fn errors() -> Vec<Case> {
    let odd = odd::MEMBERS;
    let rows =
        [(200, "-32603"), (400, "-32602"), (200, "-32000"), (500, "1"), (429, "-32001"), (400, "-32021")];
    let error = |(status, code): (u16, &str)| Case {
        name: format!("error {code} with {status}"),
        status,
        replies: vec![format!(
            "{{\"error\":{{\"data\":{{{odd}}},\"message\":\"\\u0061\\/\",\"code\":{code},{odd}}},{odd},\"jsonrpc\":\"2.0\",\"id\":$ID}}"
        )],
        ..case("tools/call", Some(("name", "echo")), "\"arguments\":{\"text\":\"x\"},", "")
    };
    rows.into_iter().map(error).collect()
}

/// Calls with notifications before the answer.
fn notifying() -> Case {
    let odd = odd::MEMBERS.replace('\n', " ");
    let mut call =
        case("tools/call", Some(("name", "echo")), "\"arguments\":{\"text\":\"x\"},", "\"content\":[],");
    let answer = call.replies.remove(0);
    let progress = format!(
        "{{ \"method\":\"notifications\\/progress\",\"params\":{{\"progressToken\":$TOKEN ,\"progress\":0.50,{odd}}},{odd},\"jsonrpc\":\"2.0\"}}"
    );
    call.replies = vec![progress.clone(), progress, answer];
    Case { name: "notifications before the answer".into(), ..call }
}

#[tokio::test]
async fn every_request_and_answer_over_http_is_the_same_direct_and_through_the_gateway() -> Outcome {
    let pair = Pair::with(server().await?, "", RARELY).await?;
    for era in Era::ALL {
        let both = Both::open(&pair, era).await?;
        for (id, token) in IDS {
            for case in methods(era).iter().chain(&errors()) {
                both.play(case, Media::Json, id, token).await?;
                if case.status == 200 {
                    both.play(case, Media::Events, id, token).await?;
                    both.play(case, Media::OddEvents, id, token).await?;
                }
            }
            both.play(&notifying(), Media::Events, id, token).await?;
            both.play(&notifying(), Media::OddEvents, id, token).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn notifications_of_a_client_arrive_as_they_were_sent() -> Outcome {
    let pair = Pair::with(server().await?, "", RARELY).await?;
    let odd = odd::MEMBERS;
    let both = Both::open(&pair, Era::Legacy).await?;
    for (method, params) in [
        ("notifications/cancelled", "\"requestId\":\"\\u0061\",\"reason\":\"\\/\","),
        ("notifications/progress", "\"progressToken\":1,\"progress\":1.50,"),
        ("notifications/roots/list_changed", ""),
    ] {
        let body = format!(
            " {{{odd},\"params\":{{{params}{odd}}},\n\"method\" :\"{method}\",\"jsonrpc\":\"\\u0032.0\"}} \n"
        );
        both.send(&json!({"method": method}), &body).await.map_err(|fault| format!("{method}: {fault}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn questions_of_a_server_and_their_answers_pass_untouched() -> Outcome {
    let pair = Pair::with(server().await?, "    server_requests: [elicitation, roots]\n", RARELY).await?;
    let odd = odd::MEMBERS;
    let plain =
        case("tools/call", Some(("name", "echo")), "\"arguments\":{\"text\":\"x\"},", "\"content\":[],");
    // 2025-11-25: a request of the server in the stream of the call, and a message of the client that answers it.
    let question = format!(
        "{{{odd},\"params\":{{\"message\":\"\\u0061?\",\"requestedSchema\":{{\"type\":\"object\",\"properties\":{{}},{odd}}}}},\"id\":\"\\u0071\",\"method\":\"elicitation\\/create\",\"jsonrpc\":\"2.0\"}}"
    );
    let asked =
        Case { name: "a question".into(), replies: vec![question, plain.replies.concat()], ..plain.clone() };
    let both = Both::open(&pair, Era::Legacy).await?;
    both.play(&asked, Media::Events, "7", "1").await?;
    both.play(&asked, Media::OddEvents, "8", "1").await?;
    for told in [
        "\"result\":{\"action\":\"accept\",\"content\":{ODD},ODD}",
        "\"error\":{\"code\":-1,\"message\":\"\\u006eo\",\"data\":{ODD}}",
    ] {
        let told = told.replace("ODD", odd);
        both.send(&json!({}), &format!(" {{{odd},{told},\n\"id\":\"\\u0071\",\"jsonrpc\":\"2.0\"}} \n"))
            .await?;
    }
    // 2026-07-28: the question is an answer, and the call is made again with what was asked for.
    let both = Both::open(&pair, Era::Modern).await?;
    let asking = format!(
        "\"requestState\":\"\\u0061\\/==\",\"inputRequests\":{{\"k\":{{\"method\":\"roots\\/list\",{odd}}}}},"
    );
    let asked = case("tools/call", Some(("name", "echo")), "\"arguments\":{\"text\":\"x\"},", &asking);
    let replies =
        asked.replies.iter().map(|reply| reply.replace("\"complete\"", "\"input_required\"")).collect();
    both.play(&Case { name: "input required".into(), replies, ..asked }, Media::Json, "7", "1").await?;
    let params = format!(
        "{}\"requestState\":\"\\u0061\\/==\",\"inputResponses\":{{\"k\":{{\"roots\":[{{\"uri\":\"file:\\/\\/x\",{odd}}}]}}}},",
        plain.params
    );
    both.play(&Case { name: "the call again".into(), params, ..plain }, Media::Json, "8", "1").await
}

#[tokio::test]
async fn what_a_server_says_on_a_stream_of_its_own_is_the_same_direct_and_through_the_gateway() -> Outcome {
    let pair = Pair::with(server().await?, "", RARELY).await?;
    let odd = odd::MEMBERS.replace('\n', " ");
    let note = |method: &str, params: &str| {
        format!("{{\"params\":{{{params}{odd}}},{odd}, \"method\":\"{method}\",\"jsonrpc\":\"\\u0032.0\"}}")
    };
    let notes = [
        note("notifications/message", "\"level\":\"info\",\"data\":1.0,"),
        note("notifications/tools\\/list_changed", ""),
        note("notifications/progress", "\"progressToken\":-0,\"progress\":1e0,"),
    ];
    for media in [Media::Events, Media::OddEvents] {
        pair.server.on("GET", media.response(200, &notes));
        let direct = McpClient::connect(&pair.server.url(), None, Era::Legacy).await?;
        let through = pair.client(Era::Legacy).await?;
        let mut replies = Vec::new();
        for client in [&direct, &through] {
            let mut headers = client.headers(&json!({"method": "GET"}));
            headers.retain(|(name, _)| name != "content-type" && name != "accept");
            headers.push(("accept".into(), "text/event-stream".into()));
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let reply = Client::default().get(&client.url, &headers).await?;
            replies.push(events(&reply.text()));
        }
        assert_eq!(replies.first().map(Vec::len), Some(3), "{replies:?}");
        assert_eq!(replies.first(), replies.last(), "{media:?}");
    }
    Ok(())
}

/// A gateway with a recording child behind it, the child alone, and a client.
async fn children(
    era: Era,
    folder: &Path,
    more: &str,
) -> Outcome<(Gateway, Recording, Recording, McpClient)> {
    let (alone, behind) = (Recording::new(CHILD, folder, "alone"), Recording::new(CHILD, folder, "behind"));
    let yaml = format!("servers:\n  s:\n    command: {}\n{more}", behind.command());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let client = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), era).await?;
    Ok((gateway, alone, behind, client))
}

#[tokio::test]
async fn a_child_is_sent_what_the_client_sent_and_its_answer_comes_back_as_it_was_written() -> Outcome {
    for era in Era::ALL {
        let folder = tempfile::tempdir()?;
        let (_gateway, alone, behind, client) = children(era, folder.path(), "").await?;
        for case in methods(era).iter().chain(&errors()).chain([&notifying()]) {
            play_lines(case, &alone, &behind, &client)
                .await
                .map_err(|fault| format!("{}, {era:?}: {fault}", case.name))?;
        }
    }
    Ok(())
}

/// A call with random arguments, metadata and members, and a random answer.
fn random(chance: &mut Chance, number: usize) -> Case {
    let mut part = |depth| odd::object(chance, depth);
    let (arguments, meta, unknown, beside) = (part(4), part(3), part(3), part(2));
    let (structured, content, data, more) = (part(4), part(3), part(3), part(2));
    let answer = if number.is_multiple_of(4) {
        format!(
            "{{\"error\":{{\"code\":-32000,\"message\":\"x\",\"data\":{data}}},\"q\":{more},\"id\":$ID,\"jsonrpc\":\"2.0\"}}"
        )
    } else {
        format!(
            "{{\"q\":{more},\"id\":$ID,\"result\":{{\"structuredContent\":{structured},\"content\":[{{\"type\":\"text\",\"text\":\"x\",\"y\":{content}}}],\"d\":{data},\"resultType\":\"complete\"}},\"jsonrpc\":\"2.0\"}}"
        )
    };
    Case {
        name: format!("random call {number}"),
        method: "tools/call",
        subject: Some(("name", "delete")),
        params: format!("\"name\":\"delete\",\"arguments\":{arguments},\"q\":{unknown},"),
        meta: format!(",\"q\":{meta}"),
        beside: format!("\"q\":{beside},"),
        status: 200,
        replies: vec![answer],
    }
}

#[tokio::test]
async fn random_arguments_and_results_pass_untouched() -> Outcome {
    let mut chance = Chance::named("DIFFERENTIAL_SEED");
    let pair = Pair::with(server().await?, "", RARELY).await?;
    for era in Era::ALL {
        let both = Both::open(&pair, era).await?;
        let folder = tempfile::tempdir()?;
        let (_gateway, alone, behind, client) = children(era, folder.path(), "").await?;
        for number in 0..150 {
            let case = random(&mut chance, number);
            let media = if number.is_multiple_of(2) { Media::Json } else { Media::OddEvents };
            both.play(&case, media, "7", "\"t\"").await?;
            if number.is_multiple_of(5) {
                let params = case.params.replace("\"delete\"", "\"echo\"");
                let case = Case { params, subject: Some(("name", "echo")), ..case };
                play_lines(&case, &alone, &behind, &client)
                    .await
                    .map_err(|fault| format!("{}, {era:?}: {fault}", case.name))?;
            }
        }
    }
    Ok(())
}
