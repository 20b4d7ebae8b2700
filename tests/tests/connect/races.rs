//! Two things at once, and things that are not any more what they were: nobody loses a grant by it, and no token goes where
//! it does not belong.

use std::time::{Duration, Instant};

use portcullis_store::{Connections, Sqlite};
use portcullis_testkit::{Gateway, Hostile, HostileServer, Outcome};
use portcullis_tests::pair::{entries, new_key, soon};
use serde_json::{Value, json};

use crate::{World, browser::Browser, provider::Provider};

/// Refresh tokens that were used.
fn refreshed(world: &World) -> usize {
    world.provider.state().grants.iter().filter(|grant| *grant == "refresh_token").count()
}

#[tokio::test]
async fn a_client_that_goes_away_while_its_token_is_renewed_costs_nobody_the_grant() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    world.provider.expire_all();
    world.provider.set(|knobs| knobs.token_delay = Duration::from_millis(700));
    let mut hasty = world.client(&key).with_patience(Duration::from_secs(60));
    let call = tokio::spawn(async move { hasty.call("whoami", json!({})).await.map(drop) });
    soon("a refresh", || refreshed(&world) == 1).await?;
    // The issuer has used up the refresh token, and its answer is still on its way.
    call.abort();
    let _ = call.await;
    world.provider.set(|knobs| knobs.token_delay = Duration::ZERO);
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    assert_eq!(refreshed(&world), 1, "the answer to the first refresh was lost");
    Ok(())
}

#[tokio::test]
async fn many_calls_that_wait_for_one_failing_attempt_do_not_repeat_it() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    world.provider.expire_all();
    world.provider.set(|knobs| knobs.token_status = Some(503));
    let begun = Instant::now();
    for answer in futures_util::future::join_all((0..24).map(|_| world.whoami(&key))).await {
        assert!(answer?.reply.text().contains("connection.failed"));
    }
    // One a second, and one more for the second that had begun.
    let most = usize::try_from(begun.elapsed().as_secs())? + 2;
    assert!(refreshed(&world) <= most, "{} attempts, at most {most}", refreshed(&world));
    world.provider.set(|knobs| knobs.token_status = None);
    assert_eq!(world.soon(&key).await?, "alice");
    Ok(())
}

// The command blocks its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_while_its_code_is_redeemed_or_its_user_still_thinks_is_not_connected_later()
-> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    let caller = format!("key:{}", key.split('_').nth(1).unwrap_or_default());
    let revoke = || world.gateway.command(&["connection", "revoke", &caller, "s"]);
    // The user is at the authorization server.
    let mut browser = Browser::of("alice");
    let url = world.link(&key).await?;
    let form = browser.form(&url).await?;
    let sent = browser.say_yes(&url, &form, &key).await?;
    let back = browser.authorize(sent.header("location")).await?;
    revoke()?;
    assert_eq!(browser.open(&back).await?.status, 502);
    assert!(world.provider.state().grants.is_empty());
    // The code is being redeemed.
    world.provider.set(|knobs| knobs.token_delay = Duration::from_secs(2));
    let url = world.link(&key).await?;
    let form = browser.form(&url).await?;
    let sent = browser.say_yes(&url, &form, &key).await?;
    let back = browser.authorize(sent.header("location")).await?;
    let arriving = tokio::spawn(async move { browser.open(&back).await.map(|reply| reply.status) });
    soon("the code at the token endpoint", || world.provider.state().grants.len() == 1).await?;
    revoke()?;
    assert_eq!(arriving.await??, 502);
    assert!(world.provider.state().revoked.iter().any(|token| token.starts_with("refresh-")));
    world.link(&key).await.map(drop)
}

#[tokio::test]
async fn a_name_that_is_given_to_another_server_takes_no_token_along() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    let other = Provider::start().await?;
    let (old, new) = (world.provider.url(), other.url());
    world.gateway.rewrite(|yaml| yaml.replace(&old, &new))?;
    world.gateway.reload()?;
    let due = Instant::now() + Duration::from_secs(20);
    while other.state().received.is_empty() {
        assert!(Instant::now() < due, "the new server was never asked");
        world.whoami(&key).await?;
    }
    world.link(&key).await?;
    let seen = other.state().received.join("\n");
    assert!(!seen.contains("access-") && !seen.contains("refresh-"), "{seen}");
    // And back: what was granted for the first one is not lost.
    world.gateway.rewrite(|yaml| yaml.replace(&new, &old))?;
    world.gateway.reload()?;
    let due = Instant::now() + Duration::from_secs(20);
    while world.whoami(&key).await?.text() != "alice" {
        assert!(Instant::now() < due, "the grant for the first server is gone");
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_its_issuer_forgot_registers_itself_again() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    world.provider.state().forget_clients();
    world.provider.expire_all();
    world.link(&key).await?;
    assert!(world.connect(&key, "alice").await?.contains("You are connected"));
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    Ok(())
}

#[tokio::test]
async fn metadata_that_only_the_challenge_names_is_found_again_for_a_renewal() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    world.provider.set(|knobs| {
        knobs.hidden = true;
        knobs.lasts_s = Some(0);
    });
    world.connect(&key, "alice").await?;
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    assert!(refreshed(&world) >= 1);
    Ok(())
}

#[tokio::test]
async fn what_another_gateway_on_the_same_store_renewed_or_ended_counts_here_too() -> Outcome {
    // Both are the same client of the issuer.
    let provider = Provider::start().await?;
    provider.state().add_client("shared", "secret");
    let yaml = format!(
        "servers:\n  s:\n    url: {}\n    authorization:\n      issuer: {}\n      client_id: shared\n      client_secret: env:SHARED_SECRET\n",
        provider.url(),
        provider.issuer()
    );
    let built = || Gateway::builder().config(&yaml).environment("SHARED_SECRET", "secret");
    let mut world = World { gateway: built().start().await?, provider };
    let key = world.gateway.key()?.to_owned();
    world.connect(&key, "alice").await?;
    let mut other = built().prepare()?;
    // It begins with what the first one has, and renews it.
    world.gateway.stop().await?;
    copy(&world.gateway.data(), &other.data())?;
    world.gateway.start_again().await?;
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    other.start_again().await?;
    world.provider.expire_all();
    let mut client =
        portcullis_testkit::McpClient::new(&other.url("s"), Some(&key), portcullis_testkit::Era::Modern);
    assert_eq!(client.call("whoami", json!({})).await?.text(), "alice");
    assert_eq!(refreshed(&world), 1);
    let newer = Sqlite::open(other.data().join("portcullis.db"))?;
    let here = Sqlite::open(world.gateway.data().join("portcullis.db"))?;
    let [row] = &newer.connections().await?[..] else { return Err("no connection".into()) };
    here.put_connection(row.clone(), 10).await?;
    // The first one holds a refresh token that was used. Shown again it would cost the grant.
    world.provider.expire_all_but_newest();
    assert_eq!(world.whoami(&key).await?.text(), "alice");
    assert_eq!(refreshed(&world), 1);
    // One that the other one ended is over here when it is renewed next.
    assert!(here.forget_connection(&row.caller, "s").await?);
    world.provider.expire_all();
    world.link(&key).await?;
    assert_eq!(refreshed(&world), 1);
    Ok(())
}

/// A folder and all that is in it.
fn copy(from: &std::path::Path, to: &std::path::Path) -> Outcome {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

// The commands block their thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_killed_connects_to_nothing() -> Outcome {
    let world = World::start().await?;
    let mallory = new_key(&world.gateway, "mallory", "operator")?;
    let caller = format!("key:{}", mallory.split('_').nth(1).unwrap_or_default());
    let url = world.link(&mallory).await?;
    let mut browser = Browser::of("mallory");
    let form = browser.form(&url).await?;
    world.gateway.command(&["kill", "caller", &caller])?;
    let sent = browser.say_yes(&url, &form, &mallory).await?;
    assert_eq!(sent.status, 403, "{}", sent.text());
    world.gateway.command(&["unkill", "caller", &caller])?;
    let form = browser.form(&url).await?;
    let sent = browser.say_yes(&url, &form, &mallory).await?;
    assert_eq!(sent.status, 303, "{}", sent.text());
    let back = browser.authorize(sent.header("location")).await?;
    world.gateway.command(&["kill", "server", "s"])?;
    assert_eq!(browser.open(&back).await?.status, 403);
    assert!(world.provider.state().grants.is_empty(), "a code was redeemed");
    let refused: Vec<Value> = entries(&world.gateway, "code=killed").await?;
    assert!(refused.len() >= 2, "{refused:?}");
    Ok(())
}

/// A server that wants a token for calls, says where one is to be had, and talks without end to who listens.
async fn listened_to(provider: &Provider) -> Outcome<HostileServer> {
    let server = HostileServer::start().await?;
    let about = json!({"resource": server.url(), "authorization_servers": [provider.issuer()]}).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
    server.on("GET", Hostile::Raw(format!("{head} {}\r\n\r\n{about}", about.len()).into_bytes()));
    server.set_tools(vec![json!({"name": "whoami", "inputSchema": {"type": "object"}})]);
    server.on("tools/call", Hostile::Status(401, String::new()));
    server.on("subscriptions/listen", Hostile::HangInStream);
    Ok(server)
}

// The command blocks its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_connection_that_it_was_opened_with_and_those_of_others_go_on() -> Outcome {
    let provider = Provider::start().await?;
    let server = listened_to(&provider).await?;
    let yaml = format!("servers:\n  s:\n    url: {}\n    authorization:\n      mode: user\n", server.url());
    let world = World { gateway: Gateway::start(&yaml).await?, provider };
    let (alice, bob) = (world.gateway.key()?.to_owned(), new_key(&world.gateway, "bob", "operator")?);
    let mut streams = Vec::new();
    for (key, login) in [(&alice, "alice"), (&bob, "bob")] {
        world.connect(key, login).await?;
        let wanted = json!({"notifications": {"toolsListChanged": true}});
        streams.push(world.client(key).open("subscriptions/listen", wanted).await?);
    }
    server.wait_until(Duration::from_secs(30), |server| server.count("subscriptions/listen") == 2).await?;
    let caller = format!("key:{}", alice.split('_').nth(1).ok_or("no id")?);
    assert!(world.gateway.command(&["connection", "revoke", &caller, "s"])?.status.success());
    let (mut of_bob, mut of_alice) = (streams.pop().ok_or("no stream")?, streams.pop().ok_or("no stream")?);
    let said = String::from_utf8(of_alice.rest(Duration::from_secs(30)).await?.to_vec())?;
    assert!(said.contains("connection.failed") && said.contains("was ended"), "{said}");
    // Longer than the pause between two looks; what ends says so at once.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        if let Ok(piece) = of_bob.next(Duration::from_millis(500)).await {
            let piece = piece.ok_or("the stream of somebody else ended")?;
            assert!(!String::from_utf8_lossy(&piece).contains("connection"), "{piece:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_link_from_before_a_restart_opens_no_more_since_nobody_knows_whether_it_was_used() -> Outcome {
    let mut world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    let link = world.link(&key).await?;
    let page = Browser::of("alice").open(&link).await?;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(Browser::of("alice").connect(&link, &key).await?.text().contains("You are connected"));
    world.gateway.stop().await?;
    world.gateway.start_again().await?;
    let page = Browser::of("mallory").open(&link).await?;
    assert!(page.status == 400 && page.text().contains("is not valid"), "{}", page.text());
    assert_eq!(world.whoami(&key).await?.text(), "alice", "the connection itself goes on");
    Ok(())
}
