//! Secrets of every kind are planted, traffic runs over them with every error that can be caused, and then everything
//! the gateway wrote or says is searched. No secret may be anywhere but where the list of places says.

use std::path::{Path, PathBuf};

use portcullis_testkit::{
    Client, Era, Gateway, GatewayBuilder, Hostile, HostileServer, McpClient, Outcome, files_containing,
    free_port,
};
use portcullis_tests::{
    issuer::Issuer,
    pair::{SOON, code_of, entries, known, new_key, soon},
};
use serde_json::{Value, json};

/// Distinct and long enough that nothing contains them by chance.
fn canary(what: &str) -> String {
    format!("canary0{what}0Zq7Xw3Kd9Rt5Lm1")
}

fn child() -> &'static str {
    env!("CARGO_BIN_EXE_scripted-child")
}

struct World {
    server: HostileServer,
    collector: HostileServer,
    issuer: Issuer,
    gateway: Gateway,
}

async fn world(level: &str) -> Outcome<World> {
    let (server, collector, issuer) =
        (HostileServer::start().await?, HostileServer::start().await?, Issuer::new("k1")?);
    server.set_prompts(vec![json!({"name": "greet", "arguments": [{"name": "who"}]})]);
    server.set_resources(vec![json!({"uri": "file:///a", "name": "a"})]);
    let strict = json!({"type": "object", "properties": {"n": {"type": "integer", "enum": [1]}}, "additionalProperties": false});
    let mut tools = vec![json!({"name": "strict", "inputSchema": strict})];
    tools.push(json!({"name": "echo", "inputSchema": {"type": "object"}}));
    tools.push(json!({"name": "raw", "inputSchema": {"type": "object"}}));
    server.set_tools(tools);
    // A child that talks about its own credential on standard error.
    let talk = format!("echo \"using $CHILD_SECRET to log in\" >&2; exec {}", child());
    let yaml = format!(
        "servers:\n  s:\n    url: {url}\n    headers:\n      Authorization: Bearer env:UPSTREAM_SECRET\n      X-Token: file:upstream.token\n  \
           dead:\n    url: http://127.0.0.1:{dead}/mcp?token={query}\n  \
           child:\n    command: [sh, -c, '{talk}']\n    env:\n      CHILD_SECRET: env:CHILD_SECRET\n  \
           broken:\n    command: [sh, -c, 'echo \"no $CHILD_SECRET\"; exit 3']\n    env:\n      CHILD_SECRET: env:CHILD_SECRET\n\
         identities:\n  jwt:\n    - issuer: https://issuer.example\n      algorithms: [EdDSA]\n      jwks_file: jwks.json\n      default_roles: [operator]\n\
         log:\n  format: json\n  level: {level}\n  file: gateway.log\n\
         telemetry:\n  otlp:\n    endpoint: http://{collector}/v1/traces\n",
        url = server.url(),
        dead = free_port()?,
        query = canary("query"),
        collector = collector.address(),
    );
    let gateway = GatewayBuilder::default()
        .config(&yaml)
        .environment("UPSTREAM_SECRET", &canary("upstream"))
        .environment("CHILD_SECRET", &canary("child"))
        .file("upstream.token", canary("file"))
        .file("jwks.json", issuer.jwks())
        .start()
        .await?;
    known(&gateway, SOON).await?;
    Ok(World { server, collector, issuer, gateway })
}

/// Calls that succeed, and every refusal before forwarding.
async fn good_and_refused(world: &World, key: &str, replies: &mut Vec<String>) -> Outcome {
    let url = world.gateway.url("s");
    let argument = canary("argument");
    let credential = [concat!("AKIA", "Q4JX7RM2"), "TBW5ZN3D"].concat();
    for era in Era::ALL {
        let mut client = McpClient::connect(&url, Some(key), era).await?;
        if let Some(session) = &client.session {
            replies.push(format!("session:{session}"));
        }
        let calls = [
            ("tools/call", json!({"name": "echo", "arguments": {"text": argument, "key": credential}})),
            ("tools/call", json!({"name": "strict", "arguments": {"n": argument}})),
            ("tools/call", json!({"name": "strict", "arguments": {"n": 1, "more": argument}})),
            ("prompts/get", json!({"name": "greet", "arguments": {"who": argument}})),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": argument}}),
            ),
            (
                "tools/call",
                json!({"name": "echo", "arguments": {}, "_meta": {"note": argument, "progressToken": argument}}),
            ),
            ("tools/call", json!({"name": 7, "arguments": argument})),
            ("tools/call", json!([argument])),
            ("tools/list", json!({"cursor": argument})),
        ];
        for (method, params) in calls {
            replies.push(client.request(method, params).await?.reply.text());
        }
        let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1, "reason": argument,
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}});
        client.notify(&note).await?;
        let shape = client.message("tools/list", json!({})).1;
        for body in [
            format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"secret\":\"{argument}\",}}}}"
            ),
            format!("\"{argument}\""),
            argument.clone(),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{{\"a\":\"{argument}\"}},\"method\":\"tools/list\"}}"),
            format!("{{\"jsonrpc\":\"{argument}\",\"id\":1,\"method\":\"tools/list\"}}"),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":\"{argument}\",\"method\":\"tools/list\"}}"),
        ] {
            replies.push(client.send_raw(&shape, body).await?.text());
        }
    }
    Ok(())
}

/// What is presented as a credential, rightly and wrongly.
async fn credentials(world: &World, key: &str, token: &str, replies: &mut Vec<String>) -> Outcome {
    let url = world.gateway.url("s");
    let mut client = McpClient::connect(&url, Some(token), Era::Modern).await?;
    replies.push(client.call("echo", json!({"text": "hello"})).await?.reply.text());
    let (_, message) = client.message("tools/list", json!({}));
    let own = client.headers(&message);
    let own: Vec<_> = own
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| *name != "authorization")
        .collect();
    let (wrong, damaged, basic) = (
        format!("Bearer {}", canary("wrong")),
        format!("Bearer {token}x"),
        format!("Basic {}", canary("wrong")),
    );
    let half = format!("Bearer {}{}", &key[..key.len() - 8], "AAAAAAAA");
    let cookie = format!("sid={}", canary("cookie"));
    for value in [&wrong, &damaged, &basic, &half] {
        let mut headers = own.clone();
        headers.extend([
            ("authorization", value.as_str()),
            ("cookie", &cookie),
            ("proxy-authorization", &wrong),
        ]);
        replies.push(Client::default().post(&url, &headers, message.to_string()).await?.text());
    }
    // Credentials where none belong: query, path, session header.
    let bearer = format!("Bearer {key}");
    let mut headers = own.clone();
    headers.extend([("authorization", bearer.as_str()), ("cookie", &cookie)]);
    let leaked = canary("path");
    for target in [
        format!("{url}?access_token={leaked}"),
        format!("{url}/{leaked}"),
        format!("{}/{leaked}?k={leaked}", world.gateway.base()),
    ] {
        replies.push(Client::default().post(&target, &headers, message.to_string()).await?.text());
    }
    let session = canary("session");
    let legacy =
        [("authorization", bearer.as_str()), ("accept", "text/event-stream"), ("mcp-session-id", &session)];
    replies.push(Client::default().get(&url, &legacy).await?.text());
    let admin = format!("Bearer {}", canary("admin"));
    let status = format!("{}/v1/status", world.gateway.admin_base());
    replies.push(Client::default().get(&status, &[("authorization", &admin)]).await?.text());
    Ok(())
}

/// Answers that carry secrets, good and broken.
async fn answers(world: &World, key: &str, replies: &mut Vec<String>) -> Outcome {
    let secret = canary("answer");
    let http = |head: &str, body: &str| {
        Hostile::Raw(format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    };
    let kind = "200 OK\r\nContent-Type: application/json";
    let behaviours = [
        Hostile::Status(401, secret.clone()),
        Hostile::Status(403, secret.clone()),
        Hostile::Status(500, secret.clone()),
        Hostile::AnswerError(200, -32000, secret.clone()),
        Hostile::AnswerError(400, -32001, secret.clone()),
        Hostile::Redirect(format!("http://127.0.0.1:1/{secret}")),
        Hostile::WrongContentType,
        http(&format!("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{secret}\""), &secret),
        http(&format!("200 OK\r\nContent-Type: text/{secret}\r\nX-Secret: {secret}"), &secret),
        http(kind, &format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"a\":\"{secret}\",}}}}")),
        http(kind, &format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{secret}\",\"result\":{{}}}}")),
        http(kind, &format!("{{\"jsonrpc\":\"2.0\",\"{secret}\":1,\"{secret}\":1}}")),
        http(kind, &format!("\"{secret}\"")),
        http(&format!("2{secret} OK"), ""),
        Hostile::Events(vec![
            format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"level\":\"info\",\"data\":\"{secret}\"}}}}"
            ),
            format!("{{\"oops\": \"{secret}\"}}"),
        ]),
        Hostile::Answer(json!({"content": [{"type": "text", "text": format!("the password is {secret}")}]})),
        Hostile::Answer(
            json!({"content": [{"type": "text", "text": concat!("the key is AKIA", "R5KY8SN3", "UCX6AP4E")}]}),
        ),
    ];
    for behaviour in behaviours {
        world.server.on("tools/call", behaviour);
        for era in Era::ALL {
            let mut client = McpClient::connect(&world.gateway.url("s"), Some(key), era).await?;
            replies.push(
                client
                    .call("raw", json!({}))
                    .await
                    .map_or_else(|fault| fault.to_string(), |answer| answer.reply.text()),
            );
        }
    }
    world.server.heal();
    // A catalogue that cannot be read, and servers that cannot be reached at all.
    world.server.on(
        "tools/list",
        http(kind, &format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"tools\":[\"{secret}\"]}}}}")),
    );
    for name in ["s", "dead", "child", "broken"] {
        let mut client = McpClient::new(&world.gateway.url(name), Some(key), Era::Modern);
        replies.push(client.request("tools/list", json!({})).await?.reply.text());
        replies.push(client.call("echo", json!({"text": canary("argument")})).await?.reply.text());
    }
    world.server.heal();
    Ok(())
}

/// Everything that the gateway says when asked.
async fn said(gateway: &Gateway) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut said = Vec::new();
    for path in
        ["/metrics", "/healthz", "/openapi.json", "/v1/status", "/v1/keys", "/v1/servers", "/v1/definitions"]
    {
        said.push((path.to_owned(), gateway.admin_get(path).await?.body.to_vec()));
    }
    for arguments in [
        &["audit", "query", "--json"][..],
        &["audit", "query"],
        &["audit", "tail", "-n", "1000"],
        &["server", "list", "--json"],
        &["tool", "list", "--json"],
        &["key", "list", "--json"],
        &["policy", "check"],
        &["check", "--json"],
        &["audit", "verify"],
    ] {
        let output = gateway.command(arguments)?;
        said.push((arguments.join(" "), [output.stdout, output.stderr].concat()));
    }
    Ok(said)
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// What the gateway itself made.
struct Own<'a> {
    key: &'a str,
    first: &'a str,
    token: &'a str,
    admin: String,
    kek: String,
    seed: String,
}

/// What was planted, its bytes, the files that may hold it, and whether the caller's own answers may.
type Planted = Vec<(&'static str, Vec<u8>, Vec<PathBuf>, bool)>;

fn planted(own: Own<'_>, folder: &Path, data: &Path) -> Planted {
    let at = |name: &str| vec![folder.join(name)];
    let secret_of = |key: &str| key.splitn(3, '_').nth(2).unwrap().to_owned();
    vec![
        ("an API key", secret_of(own.key).into(), vec![], false),
        ("the first API key", secret_of(own.first).into(), at("stdout.log"), false),
        ("a JWT", own.token.rsplit('.').next().unwrap().into(), vec![], false),
        ("claims of a JWT", own.token.split('.').nth(1).unwrap().into(), vec![], false),
        ("a header of a server, from the environment", canary("upstream").into(), vec![], false),
        ("a header of a server, from a file", canary("file").into(), at("upstream.token"), false),
        ("a query of a server's URL", canary("query").into(), at("portcullis.yaml"), false),
        ("the environment of a child", canary("child").into(), vec![], false),
        ("the admin token", own.admin.into(), vec![data.join("admin.token")], false),
        ("the key-encryption key", own.kek.into(), vec![data.join("kek")], false),
        ("the ledger's private key", own.seed.into(), vec![data.join("ledger.key")], false),
        // A caller may see its own arguments again in an error about them, and answers that policy passes.
        ("an argument", canary("argument").into(), vec![], true),
        ("a credential in an argument", concat!("Q4JX7RM2", "TBW5ZN3D").into(), vec![], true),
        ("an answer", canary("answer").into(), vec![], true),
        ("a credential in an answer", concat!("R5KY8SN3", "UCX6AP4E").into(), vec![], false),
        ("a wrong credential", canary("wrong").into(), vec![], false),
        ("a cookie", canary("cookie").into(), vec![], false),
        ("a credential in a path or query", canary("path").into(), vec![], false),
        ("a guessed session", canary("session").into(), vec![], false),
        ("a wrong admin token", canary("admin").into(), vec![], false),
        ("a value in a refused file", canary("config").into(), vec![], false),
        ("the session of a server", b"scripted-1".to_vec(), vec![], false),
    ]
}

/// Uses every secret, in calls that work and calls that do not.
async fn traffic(world: &mut World, key: &str, token: &str) -> Outcome<Vec<String>> {
    let mut replies = Vec::new();
    good_and_refused(world, key, &mut replies).await?;
    credentials(world, key, token, &mut replies).await?;
    answers(world, key, &mut replies).await?;
    world
        .server
        .wait_until(SOON, |server| {
            server.received().iter().any(|request| request.header("x-token").is_some())
        })
        .await?;
    let last = world.server.received().pop().unwrap();
    assert_eq!(
        last.header("authorization"),
        Some(format!("Bearer {}", canary("upstream")).as_str()),
        "the secrets were in use"
    );
    assert_eq!(last.header("x-token"), Some(canary("file").as_str()));
    let log = world.gateway.folder().join("gateway.log");
    soon("the child wrote to standard error", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("to log in"))
    })
    .await?;
    world.gateway.rewrite(|yaml| {
        yaml.replace("format: json", &format!("format: json\n  nonsense: {}", canary("config")))
    })?;
    world.gateway.reload()?;
    soon("the bad file was refused", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("is refused"))
    })
    .await?;
    world.gateway.rewrite(|yaml| yaml.replace(&format!("\n  nonsense: {}", canary("config")), ""))?;
    Ok(replies)
}

/// Where anything planted is that it may not be.
fn leaks(
    folder: &Path,
    planted: Planted,
    said: &[(String, Vec<u8>)],
    replies: &[String],
) -> Outcome<Vec<String>> {
    let mut leaks = Vec::new();
    for (what, needle, places, answered) in planted {
        assert!(needle.len() >= 10, "{what} is too short to be looked for");
        for file in files_containing(folder, &needle)? {
            if !places.contains(&file) {
                leaks.push(format!(
                    "{what} is in {}: {}",
                    file.display(),
                    around(&std::fs::read(&file)?, &needle)
                ));
            }
        }
        for place in &places {
            assert!(
                holds(&std::fs::read(place)?, &needle),
                "the search would not find {what} in {}",
                place.display()
            );
        }
        leaks.extend(
            said.iter()
                .filter(|(_, text)| holds(text, &needle))
                .map(|(place, text)| format!("{what} is in {place}: {}", around(text, &needle))),
        );
        let told = replies.iter().filter(|reply| !answered && holds(reply.as_bytes(), &needle));
        leaks.extend(told.map(|reply| format!("{what} is in the answer {reply:.300}")));
    }
    Ok(leaks)
}

#[tokio::test]
async fn no_planted_secret_is_in_any_output_log_file_ledger_store_metric_trace_or_answer() -> Outcome {
    let mut world = world("debug").await?;
    let key = new_key(&world.gateway, "traffic", "operator")?;
    let url = world.gateway.url("s");
    let token = world.issuer.token(&world.issuer.claims("https://issuer.example", &url))?;
    let mut replies = traffic(&mut world, &key, &token).await?;
    let mut said = said(&world.gateway).await?;
    let (data, first) = (world.gateway.data(), world.gateway.key()?.to_owned());
    let (admin, kek) = (world.gateway.admin_token()?, std::fs::read_to_string(data.join("kek"))?);
    let kek = kek.trim().rsplit(' ').next().unwrap().to_owned();
    let ledger_key = std::fs::read_to_string(data.join("ledger.key"))?;
    // `PRIVATE+KEY+NAME+ID+BASE64`; Base64 has that sign, too.
    let seed = ledger_key.trim().splitn(5, '+').last().unwrap().to_owned();
    world.gateway.stop().await?;
    world.collector.wait_until(SOON, |collector| !collector.received().is_empty()).await?;
    for (index, request) in world.collector.received().into_iter().enumerate() {
        said.push((format!("trace export {index}"), request.body));
    }

    let sessions: Vec<String> =
        replies.iter().filter_map(|reply| reply.strip_prefix("session:")).map(str::to_owned).collect();
    assert!(!sessions.is_empty());
    replies.retain(|reply| !reply.starts_with("session:"));
    let folder = world.gateway.folder().to_path_buf();
    let own = Own { key: &key, first: &first, token: &token, admin, kek, seed };
    let mut planted = planted(own, &folder, &data);
    planted.extend(sessions.iter().map(|session| ("a session", session.clone().into_bytes(), vec![], false)));
    let leaks = leaks(&folder, planted, &said, &replies)?;
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    Ok(())
}

fn around(text: &[u8], needle: &[u8]) -> String {
    let at = text.windows(needle.len()).position(|window| window == needle).unwrap_or_default();
    String::from_utf8_lossy(&text[at.saturating_sub(200)..text.len().min(at + needle.len() + 60)])
        .into_owned()
}

#[tokio::test]
async fn a_secret_written_into_the_configuration_is_refused_without_being_repeated() -> Outcome {
    for line in ["Authorization: Bearer CANARY", "X-Api-Key: CANARY"] {
        let secret = canary("literal");
        let yaml = format!(
            "servers:\n  s:\n    url: https://api.example/mcp\n    headers:\n      {}\n",
            line.replace("CANARY", &secret)
        );
        let (status, output) = Gateway::builder().config(&yaml).refused().await?;
        assert_eq!(status.code(), Some(5), "{output}");
        assert!(output.contains("env:NAME"), "no hint: {output}");
        assert!(!output.contains(&secret), "{output}");
    }
    Ok(())
}

#[tokio::test]
async fn entries_say_what_happened_without_the_words_of_caller_and_server() -> Outcome {
    let world = world("info").await?;
    let key = world.gateway.key()?.to_owned();
    let mut client = McpClient::connect(&world.gateway.url("s"), Some(&key), Era::Modern).await?;
    world.server.on("tools/call", Hostile::Status(500, canary("answer")));
    let answer = client.call("echo", json!({"text": canary("argument")})).await?;
    assert!(!code_of(&answer).is_empty(), "{}", answer.reply.text());
    let intents = entries(&world.gateway, "event=call.intent&tool=echo").await?;
    let input: &Value = &intents[0]["input"];
    assert!(
        input["digest"].as_str().unwrap().starts_with("sha256:") && input["size"].as_u64() > Some(40),
        "{input}"
    );
    Ok(())
}
