//! What others may try with links, forms, answers and metadata. Each is refused, recorded, and connects nobody.

use portcullis_testkit::{Client, Outcome};
use portcullis_tests::pair::new_key;
use serde_json::{Value, json};

use crate::{
    World,
    browser::{Browser, link},
    provider::Provider,
};

/// Nobody is connected, and the call of this key still gets a link.
async fn nothing_came_of_it(world: &World, key: &str) -> Outcome {
    assert!(world.provider.state().tokens.is_empty(), "a token was granted");
    assert_eq!(world.recorded("connection.granted").await?, 0);
    world.link(key).await.map(drop)
}

#[tokio::test]
async fn a_link_opens_for_its_own_caller_alone_and_once() -> Outcome {
    let world = World::start().await?;
    let (alice, mallory) = (world.gateway.key()?.to_owned(), new_key(&world.gateway, "mallory", "operator")?);
    // Phishing: mallory's link, opened by alice with her own account.
    let url = world.link(&mallory).await?;
    let mut browser = Browser::of("alice");
    let form = browser.form(&url).await?;
    let sent = browser.say_yes(&url, &form, &alice).await?;
    assert_eq!(sent.status, 403, "{}", sent.text());
    assert!(sent.text().contains("another caller"));
    for wrong in ["", "wrong", "pcl_aaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let form = browser.form(&url).await?;
        assert_ne!(browser.say_yes(&url, &form, wrong).await?.status, 303, "`{wrong}`");
    }
    nothing_came_of_it(&world, &mallory).await?;
    // Once: after it led to the authorization server it leads nowhere.
    let url = world.link(&alice).await?;
    let form = browser.form(&url).await?;
    assert_eq!(browser.say_yes(&url, &form, &alice).await?.status, 303);
    assert_eq!(browser.open(&url).await?.status, 400);
    assert_ne!(browser.say_yes(&url, &form, &alice).await?.status, 303);
    for at in [url.len() - 1, url.len() - 20, url.len() - 60] {
        let mut broken = world.link(&alice).await?.into_bytes();
        broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(browser.open(&String::from_utf8(broken)?).await?.status, 400);
    }
    Ok(())
}

#[tokio::test]
async fn a_form_counts_from_the_page_that_was_shown_in_this_browser_and_from_nowhere_else() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    let url = world.link(&key).await?;
    let mut browser = Browser::of("alice");
    let form = browser.form(&url).await?;
    let own = format!("{}/", world.gateway.base());
    for origin in
        [&["origin", "http://evil.example"][..], &["origin", "null"], &["referer", &own], &["origin", &own]]
    {
        let sent = browser.send(&url, &form, &key, &[(origin[0], origin[1])]).await?;
        assert_eq!(sent.status, 403, "{origin:?}");
    }
    // Session fixation: a form that was shown in another browser, and one without its cookie.
    for mut other in [Browser::of("alice"), {
        let mut other = Browser::of("alice");
        other.form(&url).await?;
        other
    }] {
        assert_eq!(other.say_yes(&url, &form, &key).await?.status, 403);
    }
    // The page is never inside another, and holds no script.
    let page = browser.open(&url).await?;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert_eq!((page.header("x-frame-options"), page.header("cache-control")), ("DENY", "no-store"));
    let cookie = page.header("set-cookie");
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    assert!(
        ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"].iter().all(|part| cookie.contains(part)),
        "{cookie}"
    );
    assert!(!page.text().contains("<script") && page.text().contains(&world.provider.issuer()));
    nothing_came_of_it(&world, &key).await
}

#[tokio::test]
async fn an_answer_counts_once_in_the_browser_that_began_and_from_the_server_that_was_asked() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    let url = world.link(&key).await?;
    let mut browser = Browser::of("alice");
    let form = browser.form(&url).await?;
    let sent = browser.say_yes(&url, &form, &key).await?;
    let back = browser.authorize(sent.header("location")).await?;
    // Code injection and login CSRF: the answer of one browser in another.
    let mut victim = Browser::of("victim");
    assert_eq!(victim.open(&back).await?.status, 502);
    // It was answered, so that it counts for nobody any more.
    assert_eq!(browser.open(&back).await?.status, 502);
    nothing_came_of_it(&world, &key).await?;
    // A code of another authorization in the place of its own.
    let url = world.link(&key).await?;
    let form = browser.form(&url).await?;
    let sent = browser.say_yes(&url, &form, &key).await?;
    let own = browser.authorize(sent.header("location")).await?;
    let stolen =
        back.split("code=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default().to_owned();
    let fresh =
        own.split("code=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default().to_owned();
    assert_ne!(browser.open(&own.replace(&fresh, &stolen)).await?.status, 200);
    nothing_came_of_it(&world, &key).await?;
    // Answers to nothing.
    for query in
        ["", "?state=x&code=y", "?code=y", "?state=", "?state=a&state=b&code=c", "?error=access_denied"]
    {
        let reply = browser.open(&format!("{}/connect/callback{query}", world.gateway.base())).await?;
        assert!(reply.status.is_client_error() || reply.status == 502, "{query}: {}", reply.status);
        assert!(!reply.text().contains("access_denied"));
    }
    Ok(())
}

#[tokio::test]
async fn another_issuer_than_was_asked_is_not_believed_and_its_words_are_not_shown() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    for iss in ["https://evil.example", "", &format!("{}/", world.provider.issuer())] {
        world.provider.set(|knobs| knobs.iss = Some(iss.to_owned()));
        let url = world.link(&key).await?;
        let last = Browser::of("alice").connect(&url, &key).await?;
        assert_eq!(last.status, 502, "`{iss}`");
        assert!(!last.text().contains("evil"));
    }
    assert!(world.provider.state().grants.is_empty(), "the code went to a token endpoint");
    nothing_came_of_it(&world, &key).await
}

#[tokio::test]
async fn metadata_that_downgrades_misnames_or_points_inside_connects_nobody() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    let inside = "http://169.254.169.254/latest/meta-data";
    let metadata = [
        ("code_challenge_methods_supported", Value::Null),
        ("code_challenge_methods_supported", json!(["plain"])),
        ("issuer", json!("https://evil.example")),
        ("issuer", json!(format!("{}/", world.provider.issuer()))),
        ("authorization_endpoint", json!("javascript:alert(1)")),
        ("authorization_endpoint", json!("data:text/html,x")),
        ("authorization_endpoint", json!("http://user@127.0.0.1/x")),
        ("authorization_endpoint", json!(inside)),
        ("token_endpoint", json!(inside)),
        ("token_endpoint", json!("file:///etc/passwd")),
        ("registration_endpoint", json!(inside)),
        ("registration_endpoint", json!("http://10.0.0.1/register")),
        ("revocation_endpoint", json!(inside)),
    ];
    for (name, value) in metadata {
        world.provider.set(|knobs| knobs.metadata = [(name.to_owned(), value.clone())].into());
        refused_page(&world, &key, &format!("{name}: {value}")).await?;
    }
    world.provider.set(|knobs| knobs.metadata.clear());
    let resource = [
        ("resource", json!("https://evil.example/mcp")),
        ("resource", json!(format!("{}/mcp/deeper", world.provider.base()))),
        ("authorization_servers", json!([])),
        ("authorization_servers", json!([inside])),
        ("authorization_servers", json!(["https://metadata.google.internal"])),
        ("authorization_servers", json!([format!("{}?x=1", world.provider.issuer())])),
    ];
    for (name, value) in resource {
        world.provider.set(|knobs| knobs.resource = [(name.to_owned(), value.clone())].into());
        refused_page(&world, &key, &format!("{name}: {value}")).await?;
    }
    world.provider.set(|knobs| knobs.resource.clear());
    for hint in [inside, "http://[::ffff:169.254.169.254]/x", "ftp://127.0.0.1/x", "http://10.1.2.3/x"] {
        world.provider.set(|knobs| knobs.hint = Some(hint.to_owned()));
        refused_page(&world, &key, hint).await?;
    }
    world.provider.set(|knobs| knobs.hint = None);
    assert!(world.provider.state().asked.is_empty(), "a user was sent to an authorization server");
    nothing_came_of_it(&world, &key).await
}

async fn refused_page(world: &World, key: &str, what: &str) -> Outcome {
    let before = world.recorded("connection.failed").await?;
    let reply = Browser::of("alice").open(&world.link(key).await?).await?;
    assert_eq!(reply.status, 502, "{what}: {}", reply.text());
    assert!(!reply.text().contains("evil") && !reply.text().contains("169.254"), "{what}");
    assert_eq!(world.recorded("connection.failed").await?, before + 1, "{what}");
    Ok(())
}

#[tokio::test]
async fn the_issuer_that_the_operator_names_is_the_only_one() -> Outcome {
    let other = Provider::start().await?;
    let world = World::with(&format!("      issuer: {}\n", other.issuer())).await?;
    let key = world.gateway.key()?.to_owned();
    refused_page(&world, &key, "another issuer than the declared one").await?;
    assert!(other.state().received.is_empty());
    Ok(())
}

#[tokio::test]
async fn pages_are_for_our_own_host_and_redirect_nowhere_but_to_the_authorization_server() -> Outcome {
    let world = World::start().await?;
    let key = world.gateway.key()?.to_owned();
    let url = world.link(&key).await?;
    let rebound = Client::default().get(&url, &[("host", "evil.example")]).await?;
    assert_eq!(rebound.status, 403);
    let base = world.gateway.base();
    for path in
        ["/connect/", "/connect/s", "/connect/s?ticket=", "/connect/nosuch?ticket=x", "/connect/../mcp/s"]
    {
        let reply = Client::default()
            .get(&format!("{base}{path}&next=//evil.example&redirect_uri=https://evil.example"), &[])
            .await?;
        assert!(reply.status.is_client_error(), "{path}: {}", reply.status);
        assert!(reply.header("location").is_empty() && !reply.text().contains("evil.example"), "{path}");
    }
    // The parameters of the link are not those of the question.
    let mut browser = Browser::of("alice");
    let form = browser.form(&format!("{url}&redirect_uri=https://evil.example&state=x")).await?;
    let sent = browser.say_yes(&url, &form, &key).await?;
    assert!(sent.header("location").starts_with(&format!("{}/authorize?", world.provider.issuer())));
    assert!(!sent.header("location").contains("evil.example"));
    assert!(!sent.header("location").contains(&key));
    Ok(())
}

#[tokio::test]
async fn a_caller_without_a_credential_and_one_without_a_browser_are_told_so() -> Outcome {
    let world = World::start().await?;
    let told = world.whoami(world.gateway.key()?).await?;
    assert!(link(told.error_message())?.len() <= 2_048);
    let stranger = world.client("pcl_aaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let mut stranger = stranger;
    let refused = stranger.call("whoami", json!({})).await?;
    assert_eq!(refused.status(), 401);
    assert!(!refused.reply.text().contains("/connect/"));
    Ok(())
}
