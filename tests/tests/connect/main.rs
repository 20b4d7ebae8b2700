//! Callers who connect to a server with accounts of their own: through a gateway that is the OAuth client, with a browser
//! that a person drives, before an authorization server that keeps to the letter of its specifications.

mod attacks;
mod browser;
mod desk;
mod exchange;
mod interleaved;
mod provider;
mod races;
mod renewal;

use std::time::{Duration, Instant};

use browser::{Browser, link};
use portcullis_testkit::{Answer, Era, Gateway, McpClient, Outcome};
use portcullis_tests::pair::{entries, new_key};
use provider::Provider;
use serde_json::json;

/// A gateway before a provider, which it knows as `s`.
pub struct World {
    pub provider: Provider,
    pub gateway: Gateway,
}

impl World {
    pub async fn start() -> Outcome<Self> {
        Self::with("").await
    }

    /// With more in the section `authorization`, indented by six.
    pub async fn with(more: &str) -> Outcome<Self> {
        let provider = Provider::start().await?;
        let yaml = format!(
            "servers:\n  s:\n    url: {}\n    authorization:\n      mode: user\n{more}",
            provider.url()
        );
        Ok(Self { gateway: Gateway::start(&yaml).await?, provider })
    }

    pub fn client(&self, key: &str) -> McpClient {
        McpClient::new(&self.gateway.url("s"), Some(key), Era::Modern)
    }

    pub async fn whoami(&self, key: &str) -> Outcome<Answer> {
        self.client(key).call("whoami", json!({})).await
    }

    /// The link that a call of this key is answered with.
    pub async fn link(&self, key: &str) -> Outcome<String> {
        let answer = self.whoami(key).await?;
        assert_eq!(answer.error_code(), Some(-32042), "{}", answer.reply.text());
        link(answer.error_message())
    }

    /// Connects the caller of this key as that user; the last page.
    pub async fn connect(&self, key: &str, login: &str) -> Outcome<String> {
        let url = self.link(key).await?;
        Ok(Browser::of(login).connect(&url, key).await?.text())
    }

    /// What the server says to a call that may be refused for a second, since the one before it was.
    pub async fn soon(&self, key: &str) -> Outcome<String> {
        let due = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.whoami(key).await?;
            let refused = answer.reply.text().contains("connection.failed");
            if !refused || Instant::now() > due {
                return Ok(answer.text());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn recorded(&self, event: &str) -> Outcome<usize> {
        Ok(entries(&self.gateway, &format!("event={event}")).await?.len())
    }
}

#[tokio::test]
async fn two_users_of_one_server_are_each_themselves_and_their_keys_never_leave() -> Outcome {
    let world = World::start().await?;
    let alice = world.gateway.key()?.to_owned();
    let bob = new_key(&world.gateway, "bob", "operator")?;
    assert!(world.connect(&alice, "alice").await?.contains("You are connected to s"));
    // What one user may do is not for the next: bob is asked himself.
    let first = world.link(&bob).await?;
    assert!(Browser::of("bob").connect(&first, &bob).await?.text().contains("You are connected"));
    let calls =
        (0..50).map(|turn| {
            let (key, login) = if turn % 2 == 0 { (&alice, "alice") } else { (&bob, "bob") };
            let mut client = world.client(key);
            async move {
                Ok::<_, portcullis_testkit::Fault>((client.call("whoami", json!({})).await?.text(), login))
            }
        });
    for said in futures_util::future::join_all(calls).await {
        let (said, login) = said?;
        assert_eq!(said, login);
    }
    for (key, login) in [(&alice, "alice"), (&bob, "bob")] {
        assert_eq!(world.client(key).list("tools/list").await?, ["job", "whoami"]);
        let received = world.provider.state().received.join("\n");
        assert!(!received.contains(key.as_str()), "the key of {login} left the gateway");
    }
    assert!(!world.provider.state().received.join("\n").contains("portcullis-on-behalf-of"));
    assert_eq!(world.recorded("connection.granted").await?, 2);
    let access: Vec<String> = world.provider.state().tokens.keys().cloned().collect();
    for token in access {
        assert!(world.gateway.files_with(&token)?.is_empty(), "a token lies in a file in the clear");
        assert!(!world.gateway.output().contains(&token));
    }
    Ok(())
}

#[tokio::test]
async fn the_question_asks_for_the_resource_with_pkce_and_the_scope_of_the_challenge() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    let asked = world.provider.state().asked.clone();
    let [asked] = &asked[..] else { panic!("{asked:?}") };
    let expected = [
        ("response_type", "code".to_owned()),
        ("code_challenge_method", "S256".to_owned()),
        ("resource", world.provider.url()),
        ("scope", "tools".to_owned()),
        ("redirect_uri", format!("{}/connect/callback", world.gateway.base())),
    ];
    for (name, value) in expected {
        assert_eq!(asked[name], value, "{name}");
    }
    assert!(asked["state"].len() >= 43 && asked["code_challenge"].len() == 43);
    Ok(())
}

#[tokio::test]
async fn a_client_that_opens_urls_is_asked_to_and_its_answer_stays_here() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    let mut client = world.client(&key);
    let meta = json!({ "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "url": {} } } });
    let params = json!({ "name": "whoami", "arguments": {}, "_meta": meta });
    let answer = client.request("tools/call", params.clone()).await?;
    assert_eq!(answer.result()["resultType"], "input_required", "{}", answer.reply.text());
    let question = &answer.result()["inputRequests"]["dev.portcullis/connect"];
    assert_eq!(
        (&question["method"], &question["params"]["mode"]),
        (&json!("elicitation/create"), &json!("url"))
    );
    let url = question["params"]["url"].as_str().unwrap_or_default();
    Browser::of("alice").connect(url, &key).await?;
    let mut again = params;
    again["inputResponses"] = json!({ "dev.portcullis/connect": { "action": "accept" } });
    assert_eq!(client.request("tools/call", again).await?.text(), "alice");
    assert!(!world.provider.state().received.join("\n").contains("inputResponses"));
    Ok(())
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_the_new_refresh_token_takes_the_place_of_the_old() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    // What lasts shortly is not renewed on every call, but at the end of its life.
    world.provider.set(|knobs| knobs.lasts_s = Some(50));
    world.connect(&key, "alice").await?;
    for _ in 0..5 {
        assert_eq!(world.whoami(&key).await?.text(), "alice");
    }
    assert_eq!(world.provider.state().grants, ["authorization_code"]);
    world.provider.set(|knobs| knobs.lasts_s = Some(0));
    world.provider.expire_all();
    for _ in 0..3 {
        assert_eq!(world.whoami(&key).await?.text(), "alice");
    }
    let grants = world.provider.state().grants.clone();
    assert_eq!(grants[0], "authorization_code");
    assert!(grants.len() >= 4 && grants[1..].iter().all(|grant| grant == "refresh_token"), "{grants:?}");
    assert!(world.recorded("connection.refreshed").await? >= 3);
    // Many calls at once renew one after the other: a refresh token that was used is never used again.
    let calls = (0..20).map(|_| world.whoami(&key));
    for said in futures_util::future::join_all(calls).await {
        assert_eq!(said?.text(), "alice");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_ended_silently_is_renewed_and_a_grant_that_is_gone_asks_the_user_again() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    world.provider.expire_all();
    assert_eq!(world.whoami(&key).await?.text(), "alice", "renewed although it should have lasted");
    world.provider.expire_all();
    world.provider.set(|knobs| knobs.token_status = Some(503));
    let answer = world.whoami(&key).await?;
    assert!(answer.reply.text().contains("connection.failed"), "{}", answer.reply.text());
    world.provider.set(|knobs| knobs.token_status = None);
    assert_eq!(world.soon(&key).await?, "alice", "an outage cost the grant");
    world.provider.expire_all();
    world.provider.state().forget_refreshes();
    world.link(&key).await?;
    assert_eq!(world.recorded("connection.failed").await?, 1);
    assert!(world.connect(&key, "alice").await?.contains("You are connected"));
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    Ok(())
}

// Commands block their thread, and the provider answers meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_a_kill_and_is_listed_and_ends_with_revoke() -> Outcome {
    let mut world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    world.gateway.kill()?;
    world.gateway.start_again().await?;
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    let listed = world.gateway.command(&["connection", "list", "--json"])?;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let row = &listed["connections"][0];
    assert_eq!((&row["server"], &row["issuer"]), (&json!("s"), &json!(world.provider.issuer())), "{listed}");
    assert!(!listed.to_string().contains("access-"));
    let caller = row["caller"].as_str().unwrap_or_default().to_owned();
    let revoked = world.gateway.command(&["connection", "revoke", &caller, "s"])?;
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    assert!(world.provider.state().revoked.iter().any(|token| token.starts_with("refresh-")));
    world.link(&key).await?;
    assert_eq!(world.recorded("connection.revoked").await?, 1);
    let again = world.gateway.command(&["connection", "revoke", &caller, "s"])?;
    assert!(!again.status.success(), "revoked twice");
    Ok(())
}

#[tokio::test]
async fn more_scope_is_asked_for_with_what_was_granted_before_and_not_for_ever() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    world.provider.set(|knobs| knobs.needs = Some("admin".into()));
    world.connect(&key, "alice").await?;
    let scope = world.provider.state().asked.last().map(|asked| asked["scope"].clone());
    assert_eq!(scope.as_deref(), Some("admin tools"));
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    world.provider.set(|knobs| {
        knobs.needs = Some("root".into());
        knobs.withholds = Some("root".into());
    });
    let mut asked = 0;
    while let Ok(url) = world.link_or_refusal(&key).await? {
        Browser::of("alice").connect(&url, &key).await?;
        asked += 1;
        assert!(asked <= 3, "the user is asked for ever");
    }
    Ok(())
}

impl World {
    /// The link, or the refusal that has none.
    async fn link_or_refusal(&self, key: &str) -> Outcome<Result<String, String>> {
        let answer = self.whoami(key).await?;
        let text = answer.reply.text();
        Ok(match answer.error_code() {
            Some(-32042) => Ok(link(answer.error_message())?),
            _ if text.contains("connection.failed") => Err(text),
            _ => return Err(text.into()),
        })
    }
}

#[tokio::test]
async fn a_server_that_moved_to_another_issuer_gets_nothing_of_the_old_one() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    let other = Provider::start().await?;
    world.provider.set(|knobs| {
        knobs.resource.insert("authorization_servers".into(), json!([other.issuer()]));
    });
    world.provider.expire_all();
    let url = world.link(&key).await?;
    Browser::of("alice").form(&url).await?;
    let seen = other.state().received.join("\n");
    assert!(seen.contains("/as/register"), "{seen}");
    assert!(!seen.contains("refresh-") && !seen.contains("access-") && !seen.contains("secret-"), "{seen}");
    Ok(())
}
