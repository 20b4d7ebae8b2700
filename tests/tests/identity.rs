//! Credentials of every kind at routes of every kind: tokens with scopes, of several issuers, bound to keys and to client
//! certificates, and certificates as credentials themselves.

use portcullis_testkit::{
    Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome, Reply, self_signed,
};
use portcullis_tests::{
    authority::{Authority, Secured},
    issuer::Issuer,
    pair::{entries, new_key, refusals},
};
use serde_json::{Value, json};

const FIRST: &str = "https://first.example";
const SECOND: &str = "https://second.example";

fn yaml(server: &HostileServer) -> String {
    let issuer = |name: &str, file: &str| {
        format!(
            "    - issuer: {name}\n      algorithms: [EdDSA]\n      jwks_file: {file}\n      roles_claim: groups\n      \
             role_map:\n        dev: [operator]\n"
        )
    };
    let routes = ["plain", "scoped", "narrow", "bound", "excepted"];
    let servers: String =
        routes.iter().map(|name| format!("  {name}:\n    url: {}\n", server.url())).collect();
    format!(
        "servers:\n{servers}aggregate:\n  enabled: true\n  servers: [plain, scoped]\nidentities:\n  jwt:\n{}{}  routes:\n    \
         scoped:\n      scopes: [mcp]\n      step_up:\n        - tools: [delete]\n          scopes: [files:delete]\n    narrow:\n      \
         issuers: [{FIRST}]\n    bound:\n      bound_tokens: required\n    excepted:\n      audiences: [api://tools]\n    aggregate:\n      \
         step_up:\n        - tools: [plain__er*]\n          scopes: [files:erase]\n",
        issuer(FIRST, "first.json"),
        issuer(SECOND, "second.json"),
    )
}

/// Two issuers, a client with a key of its own, and the gateway that knows the issuers.
struct World {
    gateway: Gateway,
    server: HostileServer,
    first: Issuer,
    second: Issuer,
    client: Issuer,
    thief: Issuer,
    key: String,
    proofs: usize,
}

impl World {
    async fn start() -> Outcome<Self> {
        let server = HostileServer::start().await?;
        let (first, second) = (Issuer::new("k1")?, Issuer::new("k1")?);
        let builder = Gateway::builder().config(&yaml(&server));
        let builder = builder.file("first.json", first.jwks()).file("second.json", second.jwks());
        let gateway = builder.start().await?;
        let key = new_key(&gateway, "ci", "operator")?;
        let (client, thief) = (Issuer::new("client")?, Issuer::new("thief")?);
        Ok(Self { gateway, server, first, second, client, thief, key, proofs: 0 })
    }

    fn url(&self, route: &str) -> String {
        if route == "aggregate" { format!("{}/mcp", self.gateway.base()) } else { self.gateway.url(route) }
    }

    /// The headers that a credential of that name comes as, on that route.
    fn credential(&mut self, name: &str, route: &str) -> Outcome<Vec<(&'static str, String)>> {
        let url = self.url(route);
        let claims = |more: Value| {
            let mut claims = self.first.claims(FIRST, &url);
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            claims
        };
        let bound = json!({"cnf": {"jkt": self.client.thumbprint()}});
        let bearer = |token: String| vec![("authorization", format!("Bearer {token}"))];
        self.proofs += 1;
        let (id, first) = (self.proofs.to_string(), &self.first);
        let dpop = |token: String, key: &Issuer, id: &str| -> Outcome<_> {
            let proof = key.proof("POST", &url, &token, id)?;
            Ok(vec![("authorization", format!("DPoP {token}")), ("dpop", proof)])
        };
        Ok(match name {
            "nothing" => Vec::new(),
            "key" => bearer(self.key.clone()),
            "token" => bearer(first.token(&claims(json!({"scope": "mcp"})))?),
            "token without scopes" => bearer(first.token(&claims(json!({})))?),
            "token of the other issuer" => {
                bearer(self.second.token(&claims(json!({"iss": SECOND, "scope": "mcp"})))?)
            }
            "token signed by the other issuer" => {
                bearer(self.second.token(&claims(json!({"scope": "mcp"})))?)
            }
            "token for another audience" => {
                bearer(first.token(&claims(json!({"aud": "api://tools", "scope": "mcp"})))?)
            }
            "bound token with proof" => dpop(first.token(&claims(bound))?, &self.client, &id)?,
            "bound token, proof by a thief" => dpop(first.token(&claims(bound))?, &self.thief, &id)?,
            "bound token as bearer" => bearer(first.token(&claims(bound))?),
            "bound token, proof seen before" => {
                dpop(first.token(&claims(json!({"cnf": bound["cnf"], "jti": route})))?, &self.client, "once")?
            }
            other => return Err(format!("no such credential: {other}").into()),
        })
    }

    async fn list(&mut self, name: &str, route: &str, era: Era) -> Outcome<Reply> {
        let mut client = McpClient::new(&self.url(route), None, era);
        // Without a session the older revision opens with `initialize`, and that is what is judged.
        let (_, message) = match era {
            Era::Modern => client.message("tools/list", json!({})),
            Era::Legacy => client.message(
                "initialize",
                json!({"protocolVersion": "2025-11-25", "capabilities": {},
                    "clientInfo": {"name": "matrix", "version": "1"}}),
            ),
        };
        let mut headers = client.headers(&message);
        headers
            .extend(self.credential(name, route)?.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Client::default().post(&client.url, &headers, message.to_string()).await
    }
}

fn code(reply: &Reply) -> String {
    let json: Value = reply
        .text()
        .lines()
        .find_map(|line| serde_json::from_str(line.trim_start_matches("data:")).ok())
        .unwrap_or_default();
    let code = json.pointer("/error/data/code").and_then(Value::as_str);
    if code.is_none() && reply.status == 200 {
        "ok".to_owned()
    } else {
        format!("{} {}", reply.status.as_u16(), code.unwrap_or_default())
    }
}

const MISSING: &str = "401 auth.missing";
const INVALID: &str = "401 auth.invalid";
const PROOF: &str = "401 auth.proof";
const SCOPE: &str = "403 auth.scope";

const ROUTES: [&str; 6] = ["plain", "scoped", "narrow", "bound", "excepted", "aggregate"];

/// A credential, and what it comes to on each of the routes.
const EXPECTED: &[(&str, [&str; 6])] = &[
    ("nothing", [MISSING; 6]),
    ("key", ["ok", "ok", "ok", INVALID, "ok", "ok"]),
    ("token", ["ok", "ok", "ok", INVALID, "ok", "ok"]),
    ("token without scopes", ["ok", SCOPE, "ok", INVALID, "ok", "ok"]),
    ("token of the other issuer", ["ok", "ok", INVALID, INVALID, "ok", "ok"]),
    ("token signed by the other issuer", [INVALID; 6]),
    ("token for another audience", [INVALID, INVALID, INVALID, INVALID, "ok", INVALID]),
    ("bound token with proof", ["ok", SCOPE, "ok", "ok", "ok", "ok"]),
    ("bound token, proof by a thief", [PROOF; 6]),
    ("bound token as bearer", [INVALID; 6]),
];

#[tokio::test]
async fn every_credential_meets_its_expectation_on_every_kind_of_route_and_each_refusal_is_one_entry()
-> Outcome {
    let mut world = World::start().await?;
    let (mut wrong, mut refused) = (Vec::new(), std::collections::BTreeMap::<String, usize>::new());
    for era in Era::ALL {
        for (name, row) in EXPECTED {
            for (route, expected) in ROUTES.into_iter().zip(row) {
                let reply = world.list(name, route, era).await?;
                if code(&reply) != *expected {
                    wrong.push(format!("{era:?} {name} on {route}: {} not {expected}", code(&reply)));
                }
                let challenge = reply.header("www-authenticate");
                if *expected != "ok" {
                    let word = expected.split(' ').nth(1).unwrap_or_default();
                    *refused.entry(word.to_owned()).or_default() += 1;
                    let metadata =
                        world.url(route).replacen("/mcp", "/.well-known/oauth-protected-resource/mcp", 1);
                    assert!(challenge.contains(&format!("resource_metadata=\"{metadata}\"")), "{challenge}");
                    assert_eq!(
                        challenge.contains("scope=\"mcp\""),
                        route == "scoped",
                        "{route}: {challenge}"
                    );
                    assert_eq!(challenge.contains("insufficient_scope"), *expected == SCOPE, "{challenge}");
                    assert_eq!(challenge.starts_with("DPoP "), name.contains("proof"), "{name}: {challenge}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
    for (code, count) in refused {
        assert_eq!(refusals(&world.gateway, &code, count).await?.len(), count, "{code}");
    }
    for route in ROUTES {
        let first = world.list("bound token, proof seen before", route, Era::Modern).await?;
        let again = world.list("bound token, proof seen before", route, Era::Modern).await?;
        let expected = if route == "plain" { [first, again].map(|reply| code(&reply)) } else { continue };
        assert_eq!(expected, ["ok", PROOF]);
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_needs_more_scopes_is_told_all_of_them_whether_its_tool_exists_or_not_and_by_whatever_door()
-> Outcome {
    let world = World::start().await?;
    let all = "files:delete mcp";
    for (route, tool, scope, expected) in [
        ("scoped", "echo", "mcp", None),
        ("scoped", "delete", "mcp", Some(all)),
        ("scoped", "delete", "files:delete", Some(all)),
        ("scoped", "delete", all, None),
        ("scoped", "delete", "mcp files:deleted", Some(all)),
        ("scoped", "echo", "", Some("mcp")),
        // Over the route of many servers the rules of the server hold as well.
        ("aggregate", "scoped__delete", "mcp", Some(all)),
        ("aggregate", "scoped__delete", all, None),
        ("aggregate", "scoped__echo", "", Some("mcp")),
        ("aggregate", "plain__delete", "", None),
        // Its own rules know things by the names that they have there.
        ("aggregate", "plain__erase", "", Some("files:erase")),
        ("aggregate", "plain__erase", "files:erase", None),
        ("plain", "erase", "", None),
    ] {
        let url = world.url(route);
        let mut claims = world.first.claims(FIRST, &url);
        claims["scope"] = json!(scope);
        let token = world.first.token(&claims)?;
        for era in Era::ALL {
            let mut client = McpClient::new(&url, Some(&token), era);
            if era == Era::Legacy {
                let opened = client.initialize().await?;
                if route == "scoped" && !scope.contains("mcp") {
                    assert_eq!(opened.status(), 403, "{route} {tool} {scope}");
                    continue;
                }
            }
            let answer = client.call(tool, json!({"text": "hi"})).await?;
            let challenge = answer.reply.header("www-authenticate");
            match expected {
                None => assert_ne!(answer.status(), 403, "{era:?} {route} {tool} {scope}: {challenge}"),
                Some(needed) => {
                    assert_eq!(answer.status(), 403, "{era:?} {route} {tool} {scope}");
                    let expected = format!("error=\"insufficient_scope\", scope=\"{needed}\"");
                    assert!(challenge.contains(&expected), "{era:?} {route} {tool} {scope}: {challenge}");
                }
            }
        }
    }
    // An API key has no scopes, and roles alone decide.
    let mut client = McpClient::new(&world.url("scoped"), Some(&world.key), Era::Modern);
    assert_eq!(client.call("delete", json!({})).await?.status(), 200);
    let recorded = refusals(&world.gateway, "auth.scope", 1).await?;
    assert!(recorded.iter().all(|entry| entry["actor"]["id"] == format!("jwt:{FIRST}#ada")), "{recorded:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_tool_does_is_followed_with_the_scopes_that_calling_it_takes() -> Outcome {
    let world = World::start().await?;
    world.server.set_tools(vec![json!({"name": "delete", "inputSchema": {"type": "object"}})]);
    portcullis_tests::pair::known(&world.gateway, portcullis_tests::pair::SOON).await?;
    let url = world.url("scoped");
    let token = |scope: &str| {
        let mut claims = world.first.claims(FIRST, &url);
        claims["scope"] = json!(scope);
        world.first.token(&claims)
    };
    let (some, all) = (token("mcp")?, token("files:delete mcp")?);
    for era in Era::ALL {
        let mut client = McpClient::new(&url, Some(&all), era);
        if era == Era::Legacy {
            client.initialize().await?;
        }
        let mut task = json!({"taskId": "job-1", "status": "working", "createdAt": "2026-11-22T00:00:00Z",
            "lastUpdatedAt": "2026-11-22T00:00:00Z", "ttl": 60000});
        let (mut params, begun, place) = match era {
            Era::Legacy => (json!({"task": {"ttl": 60000}}), json!({"task": task}), "/task/taskId"),
            Era::Modern => {
                task["resultType"] = json!("task");
                (json!({}), task, "/taskId")
            }
        };
        params["name"] = json!("delete");
        params["arguments"] = json!({});
        world.server.on("tools/call", Hostile::Answer(begun));
        let answer = client.request("tools/call", params).await?;
        let id = answer.result().pointer(place).and_then(Value::as_str);
        let id = json!({"taskId": id.ok_or_else(|| answer.reply.text())?});
        let state = json!({"resultType": "complete", "taskId": "job-1", "status": "working"});
        for method in ["tasks/get", "tasks/cancel"] {
            world.server.on(method, Hostile::Answer(state.clone()));
            let before = world.server.count(method);
            client.bearer = Some(some.clone());
            let answer = client.request(method, id.clone()).await?;
            let challenge = answer.reply.header("www-authenticate");
            assert_eq!(answer.status(), 403, "{era:?} {method}: {}", answer.reply.text());
            assert!(challenge.contains("scope=\"files:delete mcp\""), "{challenge}");
            assert_eq!(world.server.count(method), before, "the server was asked");
            client.bearer = Some(all.clone());
            let answer = client.request(method, id.clone()).await?;
            assert_eq!(answer.status(), 200, "{era:?} {method}: {}", answer.reply.text());
            assert_eq!(world.server.count(method), before + 1);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_is_led_to_the_configured_issuers_alone_whatever_it_or_its_proxy_says() -> Outcome {
    let world = World::start().await?;
    let (url, client) = (world.url("narrow"), Client::default());
    let place = url.replacen("/mcp", "/.well-known/oauth-protected-resource/mcp", 1);
    let lies = [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/evil"),
        ("x-original-url", "/mcp/bound"),
        ("forwarded", "host=evil.example;proto=https"),
        ("x-host", "evil.example"),
        ("mcp-name", "evil"),
    ];
    let mut headers =
        vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    headers.extend(lies);
    let reply = client.post(&url, &headers, "{}").await?;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), format!("Bearer resource_metadata=\"{place}\""));
    // The document is the same for whatever name it is asked under: the gateway knows where it is.
    let plain = client.get(&place, &[]).await?;
    let document: Value = serde_json::from_slice(&plain.body)?;
    assert_eq!(document["resource"], json!(url));
    assert_eq!(document["authorization_servers"], json!([FIRST]));
    for host in [None, Some("evil.example")] {
        let mut headers = lies.to_vec();
        headers.extend(host.map(|host| ("host", host)));
        let reply = client.get(&format!("{place}?resource=https://evil.example"), &headers).await?;
        assert_eq!((reply.status, &reply.body), (plain.status, &plain.body), "{host:?}");
        assert_eq!(
            reply.header("access-control-allow-origin"),
            "",
            "a page of another site reads nothing here"
        );
    }
    for path in [
        "/mcp/narrow/../bound",
        "/mcp/narrow%2f..%2fbound",
        "//evil.example/mcp/narrow",
        "/mcp/narrow/",
        "/mcp/@evil.example",
    ] {
        let asked = format!("{}/.well-known/oauth-protected-resource{path}", world.gateway.base());
        let reply = client.get(&asked, &[]).await?;
        assert!(!reply.text().contains("evil"), "{path}: {}", reply.text());
        assert!(reply.status == 404 || reply.text().contains("/mcp/bound"), "{path}: {}", reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn neither_token_nor_proof_reaches_a_server_the_ledger_the_log_or_a_file() -> Outcome {
    let world = World::start().await?;
    for (number, era) in Era::ALL.into_iter().enumerate() {
        let url = world.url("bound");
        let mut claims = world.first.claims(FIRST, &url);
        claims["cnf"] = json!({"jkt": world.client.thumbprint()});
        let token = world.first.token(&claims)?;
        let mut client = McpClient::new(&url, None, era);
        let mut secrets = vec![token.clone()];
        let mut messages =
            vec![client.message("tools/call", json!({"name": "echo", "arguments": {"text": "x"}})).1];
        if era == Era::Legacy {
            let opening = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
            messages.insert(0, client.message("initialize", opening).1);
        }
        for (index, message) in messages.iter().enumerate() {
            let proof = world.client.proof("POST", &url, &token, &format!("{number}-{index}"))?;
            let mut headers = client.headers(message);
            headers.push(("authorization".to_owned(), format!("DPoP {token}")));
            headers.push(("dpop".to_owned(), proof.clone()));
            secrets.push(proof);
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let reply = Client::default().post(&url, &headers, message.to_string()).await?;
            assert_eq!(reply.status, 200, "{}", reply.text());
            client.session = Some(reply.header("mcp-session-id").to_owned())
                .filter(|id| !id.is_empty())
                .or(client.session);
        }
        assert!(world.server.count("tools/call") > number, "nothing was called");
        let heard: Vec<_> = world.server.received();
        let recorded = json!(entries(&world.gateway, "event=call.*").await?).to_string();
        assert!(recorded.contains("call.intent"));
        for secret in &secrets {
            // The signature alone is enough to know it again.
            let tail = secret.rsplit('.').next().unwrap_or_default();
            for request in &heard {
                let text = format!("{request:?} {}", String::from_utf8_lossy(&request.body));
                assert!(!text.contains(tail), "{era:?}: {text}");
            }
            assert!(!world.gateway.output().contains(tail));
            assert!(!recorded.contains(tail), "the ledger has it");
            assert_eq!(world.gateway.files_with(tail)?, Vec::<std::path::PathBuf>::new());
        }
        assert!(
            heard
                .iter()
                .all(|request| request.header("authorization").is_none() && request.header("dpop").is_none())
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_is_an_identity_until_it_is_revoked_also_on_a_connection_that_is_open() -> Outcome
{
    let server = HostileServer::start().await?;
    let (authority, own) = (Authority::new()?, self_signed(&["localhost"])?);
    let id = "spiffe://td.example/ns/prod/payer";
    let (payer, other, nobody) = (
        authority.signs(1, id)?,
        authority.signs(2, "spiffe://td.example/ns/prod/other")?,
        authority.signs(3, "spiffe://elsewhere.example/x")?,
    );
    let ports = portcullis_testkit::free_ports(1)?;
    let yaml = format!(
        "listen:\n  address: 127.0.0.1:{}\n  tls:\n    certificate: own.crt\n    key: own.key\n    client_ca: clients.crt\n    \
         client_crls: [clients.crl]\nservers:\n  s:\n    url: {}\nidentities:\n  certificates:\n    - name: {id}\n      roles: [operator]\n    \
         - name: spiffe://td.example/ns/*\n      roles: [operator]\n",
        ports[0],
        server.url()
    );
    let builder = Gateway::builder().config(&yaml).tls().file("own.crt", own.certificate_pem.as_str());
    let builder = builder.file("own.key", own.key_pem.as_str()).file("clients.crt", authority.pem());
    let gateway = builder.file("clients.crl", authority.revokes(&[])?).start().await?;
    let connect = async |identity| Secured::connect(gateway.address(), &own.certificate_pem, identity).await;
    let (mut first, mut second) = (connect(Some(&payer)).await?, connect(Some(&other)).await?);
    assert_eq!(
        (first.list("s", None).await?, second.list("s", None).await?),
        ("200 ok".into(), "200 ok".into())
    );
    assert_eq!(connect(Some(&nobody)).await?.list("s", None).await?, MISSING);
    assert_eq!(connect(None).await?.list("s", None).await?, MISSING);
    assert_eq!(connect(None).await?.list("s", Some(gateway.key()?)).await?, "200 ok");
    let foreign = Authority::new()?.signs(1, id)?;
    let refused = match connect(Some(&foreign)).await {
        Ok(mut connection) => connection.list("s", None).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "an authority that nobody knows");
    let called = entries(&gateway, "event=call.intent").await?;
    assert_eq!(called[0]["actor"]["id"], format!("cert:{id}"));
    assert_eq!(called[0]["actor"]["proof"], "certificate");

    std::fs::write(gateway.folder().join("clients.crl"), authority.revokes(&[1])?)?;
    gateway.reload()?;
    let due = std::time::Instant::now() + portcullis_tests::pair::SOON;
    while first.list("s", None).await? == "200 ok" {
        assert!(std::time::Instant::now() < due, "the list was not read");
    }
    assert_eq!(first.list("s", None).await?, INVALID, "the same connection");
    assert_eq!(first.list("s", Some(gateway.key()?)).await?, INVALID, "whatever else it shows");
    assert_eq!(connect(Some(&payer)).await?.list("s", None).await?, INVALID, "a new one");
    assert_eq!(second.list("s", None).await?, "200 ok", "others are not touched");
    assert!(refusals(&gateway, "auth.invalid", 3).await?.len() >= 3);

    // A list that is broken changes nothing: what was revoked stays so.
    std::fs::write(gateway.folder().join("clients.crl"), "no list")?;
    gateway.reload()?;
    portcullis_tests::pair::soon("it says so", || gateway.output().contains("the old ones stay")).await?;
    assert_eq!(first.list("s", None).await?, INVALID);
    assert_eq!(second.list("s", None).await?, "200 ok");
    Ok(())
}

#[tokio::test]
async fn where_certificates_are_required_nobody_gets_a_word_in_without_one() -> Outcome {
    let server = HostileServer::start().await?;
    let (authority, own) = (Authority::new()?, self_signed(&["localhost"])?);
    let ports = portcullis_testkit::free_ports(1)?;
    let yaml = format!(
        "listen:\n  address: 127.0.0.1:{}\n  tls:\n    certificate: own.crt\n    key: own.key\n    client_ca: clients.crt\n    \
         client_certificates: required\nservers:\n  s:\n    url: {}\n",
        ports[0],
        server.url()
    );
    let builder = Gateway::builder().config(&yaml).tls().file("own.crt", own.certificate_pem.as_str());
    let builder = builder.file("own.key", own.key_pem.as_str()).file("clients.crt", authority.pem());
    let gateway = builder.start().await?;
    let key = gateway.key()?;
    let bare = match Secured::connect(gateway.address(), &own.certificate_pem, None).await {
        Ok(mut connection) => connection.list("s", Some(key)).await,
        Err(error) => Err(error),
    };
    assert!(bare.is_err(), "{bare:?}");
    let shown = authority.signs(1, "spiffe://td.example/a")?;
    let mut connection = Secured::connect(gateway.address(), &own.certificate_pem, Some(&shown)).await?;
    assert_eq!(connection.list("s", Some(key)).await?, "200 ok");
    assert_eq!(connection.list("s", None).await?, MISSING, "no certificate is an identity here");
    Ok(())
}

#[tokio::test]
async fn a_token_bound_to_a_certificate_counts_on_connections_that_show_it_and_on_no_others() -> Outcome {
    let server = HostileServer::start().await?;
    let (authority, own, issuer) = (Authority::new()?, self_signed(&["localhost"])?, Issuer::new("k1")?);
    let port = portcullis_testkit::free_ports(1)?[0];
    let yaml = format!(
        "listen:\n  address: 127.0.0.1:{port}\n  public_url: https://localhost:{port}\n  tls:\n    certificate: own.crt\n    \
         key: own.key\n    client_ca: clients.crt\nservers:\n  s:\n    url: {0}\n  strict:\n    url: {0}\nidentities:\n  jwt:\n    \
         - issuer: {FIRST}\n      algorithms: [EdDSA]\n      jwks_file: first.json\n      roles_claim: groups\n      role_map:\n        \
         dev: [operator]\n  routes:\n    strict:\n      bound_tokens: certificate\n",
        server.url()
    );
    let builder = Gateway::builder().config(&yaml).tls().file("own.crt", own.certificate_pem.as_str());
    let builder = builder.file("own.key", own.key_pem.as_str()).file("clients.crt", authority.pem());
    let gateway = builder.file("first.json", issuer.jwks()).start().await?;
    let (payer, other) =
        (authority.signs(1, "spiffe://td.example/payer")?, authority.signs(2, "spiffe://td.example/other")?);
    let mut claims = issuer.claims(FIRST, "");
    claims["aud"] = json!(["s", "strict"].map(|route| format!("https://localhost:{port}/mcp/{route}")));
    let plain = issuer.token(&claims)?;
    claims["cnf"] = json!({"x5t#S256": payer.fingerprint()?});
    let bound = issuer.token(&claims)?;
    let key = gateway.key()?.to_owned();
    for (who, identity, credential, expected) in [
        ("the owner", Some(&payer), Some(&bound), ["200 ok", "200 ok"]),
        ("a thief with a certificate", Some(&other), Some(&bound), [INVALID, INVALID]),
        ("a thief without one", None, Some(&bound), [INVALID, INVALID]),
        ("the owner with a token that is not bound", Some(&payer), Some(&plain), ["200 ok", INVALID]),
        ("the owner with an API key", Some(&payer), Some(&key), ["200 ok", INVALID]),
        ("the owner with nothing else", Some(&payer), None, [MISSING, MISSING]),
    ] {
        let mut connection = Secured::connect(gateway.address(), &own.certificate_pem, identity).await?;
        for (route, expected) in ["s", "strict"].into_iter().zip(expected) {
            let credential = credential.map(String::as_str);
            assert_eq!(connection.list(route, credential).await?, expected, "{who} on {route}");
        }
    }
    assert_eq!(refusals(&gateway, "auth.invalid", 6).await?.len(), 6);
    Ok(())
}

/// The examples of `docs/operate/identity.md`, by the names of their presets.
fn examples() -> Outcome<std::collections::BTreeMap<String, String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate/identity.md");
    let text = std::fs::read_to_string(path)?;
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let named = blocks.filter_map(|block| {
        let name = block.split("preset: ").nth(1)?.split_whitespace().next()?;
        Some((name.to_owned(), block.replace("\n", "\n    ")))
    });
    Ok(named.collect())
}

#[tokio::test]
async fn the_worked_example_of_every_provider_starts_and_its_route_names_the_issuer() -> Outcome {
    let server = HostileServer::start().await?;
    let examples = examples()?;
    assert_eq!(examples.keys().collect::<Vec<_>>(), ["auth0", "entra", "google", "keycloak", "okta"]);
    let all: String = examples.values().map(|example| format!("    {example}\n")).collect();
    let yaml = format!("servers:\n  s:\n    url: {}\nidentities:\n  jwt:\n{all}", server.url());
    let gateway = Gateway::start(&yaml).await?;
    let metadata = format!("{}/.well-known/oauth-protected-resource/mcp/s", gateway.base());
    let metadata: Value = serde_json::from_slice(&Client::default().get(&metadata, &[]).await?.body)?;
    let issuers: Vec<_> = metadata["authorization_servers"].as_array().unwrap().iter().collect();
    assert_eq!(issuers.len(), 5, "{issuers:?}");
    assert!(issuers.contains(&&json!("https://TENANT.auth0.com/")), "{issuers:?}");
    // The same with a mistake that the preset knows.
    let wrong = yaml.replace("https://TENANT.auth0.com/ ", "https://TENANT.auth0.com ");
    assert_ne!(wrong, yaml);
    let (status, output) = Gateway::builder().config(&wrong).refused().await?;
    assert!(!status.success() && output.contains("end with `/`"), "{output}");
    Ok(())
}
