//! Every limit is reached through the gateway with a small configured value; each refusal has its code, its status and
//! its entry in the ledger, and just inside the limit everything works.

use std::{fs, io::Write as _, net::SocketAddr, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD as STANDARD};
use flate2::{Compression, write::ZlibEncoder};
use portcullis_core::Limits;
use portcullis_testkit::{Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome, RawConnection};
use portcullis_tests::pair::{Pair, SOON, code_of, entries, limits_yaml, new_key, refusals, verdict};
use serde_json::{Value, json};
use tokio::{net::TcpSocket, time::Instant};

/// Where each row of the table is reached: a file from the root of the repository, and a test in it.
const WHERE: &[(&str, &str, &str)] = &[
    (
        "body_bytes_max",
        "tests/tests/limits.rs",
        "json_beyond_any_of_its_limits_is_refused_and_just_within_passes",
    ),
    (
        "token_people_max",
        "tests/tests/privacy.rs",
        "where_there_is_no_room_for_the_key_of_another_person_a_placeholder_stands_and_tokens_end",
    ),
    ("answer_bytes_max", "tests/tests/limits.rs", "an_answer_or_event_beyond_its_limits_is_withheld"),
    (
        "inspect_bytes_max",
        "tests/tests/limits.rs",
        "a_message_that_hides_more_than_may_be_read_of_one_is_withheld_both_ways",
    ),
    (
        "json_depth_max",
        "tests/tests/limits.rs",
        "json_beyond_any_of_its_limits_is_refused_and_just_within_passes",
    ),
    (
        "json_nodes_max",
        "tests/tests/limits.rs",
        "json_beyond_any_of_its_limits_is_refused_and_just_within_passes",
    ),
    (
        "json_string_bytes_max",
        "tests/tests/limits.rs",
        "json_beyond_any_of_its_limits_is_refused_and_just_within_passes",
    ),
    ("headers_max", "tests/tests/limits.rs", "too_many_or_too_large_headers_are_refused_with_code_and_entry"),
    (
        "header_bytes_max",
        "tests/tests/limits.rs",
        "too_many_or_too_large_headers_are_refused_with_code_and_entry",
    ),
    ("connections_max", "tests/tests/limits.rs", "a_connection_too_many_waits_until_another_ends"),
    (
        "caller_calls_max",
        "tests/tests/limits.rs",
        "a_caller_has_so_many_calls_at_once_and_gets_its_places_back",
    ),
    ("caller_streams_max", "tests/tests/limits.rs", "streams_are_counted_by_caller_and_by_server"),
    ("server_calls_max", "tests/tests/limits.rs", "a_server_has_so_many_calls_at_once_whoever_makes_them"),
    ("server_streams_max", "tests/tests/limits.rs", "streams_are_counted_by_caller_and_by_server"),
    ("caller_rate_per_s", "tests/tests/limits.rs", "a_caller_beyond_its_rate_waits_and_a_flood_is_one_entry"),
    ("caller_burst_max", "tests/tests/limits.rs", "a_caller_beyond_its_rate_waits_and_a_flood_is_one_entry"),
    (
        "alike_rate_per_min",
        "tests/tests/limits.rs",
        "who_goes_round_in_circles_is_stopped_and_other_calls_go_on",
    ),
    (
        "source_rate_per_s",
        "tests/tests/limits.rs",
        "a_source_that_guesses_pays_ten_times_and_a_flood_is_one_entry",
    ),
    (
        "source_burst_max",
        "tests/tests/limits.rs",
        "a_source_that_guesses_pays_ten_times_and_a_flood_is_one_entry",
    ),
    ("rate_entries_max", "tests/tests/limits.rs", "rates_of_many_sources_are_forgotten_longest_idle_first"),
    (
        "sessions_max",
        "tests/tests/limits_time.rs",
        "sessions_are_bounded_in_number_for_all_and_for_each_caller",
    ),
    (
        "caller_sessions_max",
        "tests/tests/limits_time.rs",
        "sessions_are_bounded_in_number_for_all_and_for_each_caller",
    ),
    ("session_idle_ms", "tests/tests/limits_time.rs", "a_session_ends_when_idle_and_at_last_in_any_case"),
    ("session_total_ms", "tests/tests/limits_time.rs", "a_session_ends_when_idle_and_at_last_in_any_case"),
    (
        "approvals_max",
        "tests/tests/approvals.rs",
        "so_many_questions_are_open_for_a_caller_and_for_all_and_no_more",
    ),
    (
        "caller_approvals_max",
        "tests/tests/approvals.rs",
        "so_many_questions_are_open_for_a_caller_and_for_all_and_no_more",
    ),
    (
        "kills_max",
        "tests/tests/kill_switch.rs",
        "a_kill_is_told_to_those_alone_who_may_know_of_what_is_killed_and_mistakes_are_said",
    ),
    (
        "tasks_max",
        "crates/proxy/src/tasks/tests.rs",
        "so_many_tasks_are_remembered_for_a_caller_and_for_all_and_the_others_still_open",
    ),
    (
        "caller_tasks_max",
        "crates/proxy/src/tasks/tests.rs",
        "so_many_tasks_are_remembered_for_a_caller_and_for_all_and_the_others_still_open",
    ),
    (
        "task_total_ms",
        "crates/proxy/src/tasks/tests.rs",
        "a_task_opens_for_its_caller_on_its_server_until_it_ends_and_keeps_what_its_permit_demanded",
    ),
    (
        "request_timeout_ms",
        "tests/tests/limits_time.rs",
        "a_request_that_does_not_arrive_in_time_is_given_up",
    ),
    (
        "connect_timeout_ms",
        "tests/tests/limits_time.rs",
        "a_server_that_takes_no_connection_is_given_up_in_time",
    ),
    ("first_byte_timeout_ms", "tests/tests/limits_time.rs", "each_timeout_of_a_call_ends_it_in_its_own_time"),
    ("idle_timeout_ms", "tests/tests/limits_time.rs", "each_timeout_of_a_call_ends_it_in_its_own_time"),
    ("total_timeout_ms", "tests/tests/limits_time.rs", "each_timeout_of_a_call_ends_it_in_its_own_time"),
    ("keepalive_ms", "tests/tests/limits_time.rs", "a_silent_stream_is_kept_open_by_comments"),
    ("definitions_max", "tests/tests/limits_time.rs", "a_catalogue_beyond_its_limits_is_refused_whole"),
    (
        "unjudged_definitions_max",
        "tests/tests/definitions.rs",
        "versions_that_nobody_judged_are_forgotten_and_what_was_approved_stays_approved",
    ),
    (
        "definition_entries_max",
        "tests/tests/definitions.rs",
        "a_server_that_changes_everything_each_time_causes_so_many_entries_and_one_more_for_each_listing",
    ),
    ("list_pages_max", "tests/tests/limits_time.rs", "a_catalogue_beyond_its_limits_is_refused_whole"),
    ("catalog_refresh_ms", "tests/tests/limits_time.rs", "a_catalogue_is_fetched_again_when_it_is_old"),
    ("schema_bytes_max", "tests/tests/limits_time.rs", "a_tool_with_too_large_a_schema_cannot_be_called"),
    (
        "shutdown_grace_ms",
        "tests/tests/limits_time.rs",
        "a_running_call_gets_its_grace_at_shutdown_and_no_more",
    ),
    ("stderr_bytes_per_s", "tests/tests/stdio.rs", "a_child_cannot_flood_the_log"),
    (
        "child_grace_ms",
        "tests/tests/stdio.rs",
        "a_stubborn_child_and_its_family_are_killed_at_shutdown_after_their_grace",
    ),
    (
        "child_backoff_max_ms",
        "tests/tests/stdio.rs",
        "a_crashing_child_is_started_ever_more_rarely_and_leaves_no_zombie",
    ),
    ("children_max", "tests/tests/stdio.rs", "a_server_has_so_many_children_at_once"),
    (
        "read_cache_entries_max",
        "crates/connect/src/results.rs",
        "whatever_happens_nothing_crosses_callers_outlives_its_time_or_grows_over_its_bounds",
    ),
    (
        "read_cache_bytes_max",
        "crates/connect/src/results.rs",
        "whatever_happens_nothing_crosses_callers_outlives_its_time_or_grows_over_its_bounds",
    ),
    (
        "read_cache_ttl_ms",
        "tests/tests/read_cache.rs",
        "a_public_result_is_read_once_for_everybody_on_every_route_and_masked_for_whom_policy_says",
    ),
    ("caller_children_max", "tests/tests/stdio.rs", "one_caller_cannot_use_up_the_children_of_a_server"),
    (
        "ledger_timeout_ms",
        "tests/tests/limits_ledger.rs",
        "a_ledger_that_does_not_flush_in_time_refuses_the_call",
    ),
    (
        "ledger_queue_max",
        "crates/store/src/ledger/tests.rs",
        "a_full_queue_refuses_and_loses_nothing_that_it_took",
    ),
    (
        "ledger_bytes_max",
        "tests/tests/limits_ledger.rs",
        "calls_are_refused_when_too_much_waits_for_a_checkpoint",
    ),
    ("token_bytes_max", "crates/connect/tests/auth/jwt_cases.rs", "segments"),
    (
        "jwks_bytes_max",
        "crates/connect/tests/auth/key_sets.rs",
        "a_key_set_in_a_file_is_read_at_start_and_again",
    ),
    ("jwks_keys_max", "crates/connect/tests/auth/key_sets.rs", "survives"),
    (
        "jwks_refresh_ms",
        "crates/connect/tests/auth/key_sets.rs",
        "keys_are_fetched_again_before_they_are_old_and_nobody_waits_for_it",
    ),
    (
        "jwks_min_refresh_ms",
        "crates/connect/tests/auth/key_sets.rs",
        "a_new_key_of_the_issuer_is_learned_from_the_first_token_that_names_it",
    ),
    ("jwks_stale_max_ms", "crates/connect/tests/auth/key_sets.rs", "survives"),
    ("jwks_timeout_ms", "crates/connect/tests/auth/key_sets.rs", "survives"),
    (
        "introspection_bytes_max",
        "crates/connect/tests/auth/introspection.rs",
        "what_an_issuer_says_about_a_token_is_judged_like_a_token",
    ),
    (
        "introspection_timeout_ms",
        "crates/connect/tests/auth/introspection.rs",
        "an_issuer_is_asked_within_a_time_and_by_no_more_at_once_than_the_limit_says",
    ),
    (
        "introspections_max",
        "crates/connect/tests/auth/introspection.rs",
        "an_issuer_is_asked_within_a_time_and_by_no_more_at_once_than_the_limit_says",
    ),
    (
        "dpop_proof_age_s",
        "crates/connect/tests/auth/possession.rs",
        "a_proof_is_for_this_request_this_token_and_this_moment_or_it_is_none",
    ),
    (
        "dpop_proofs_max",
        "crates/connect/tests/auth/possession.rs",
        "remembered_proofs_are_bounded_and_one_key_does_not_crowd_out_the_others",
    ),
    (
        "token_cache_max",
        "crates/connect/tests/auth/tokens.rs",
        "a_verified_token_is_remembered_until_forgotten_and_within_the_limit",
    ),
    (
        "decision_cache_max",
        "crates/policy/tests/oracle.rs",
        "slices_and_remembered_decisions_agree_with_plain_cedar_over_the_whole_set",
    ),
];

#[test]
fn every_limit_is_reached_by_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for row in Limits::ROWS {
        let named: Vec<_> = WHERE.iter().filter(|(key, ..)| *key == row.key).collect();
        assert_eq!(named.len(), 1, "`{}` needs exactly one line in WHERE", row.key);
        let (_, file, test) = named[0];
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "`{}`: no test `{test}` in {file}", row.key);
    }
    for (key, ..) in WHERE {
        assert!(Limits::ROWS.iter().any(|row| row.key == *key), "`{key}` is no limit");
    }
}

/// A well-formed call whose `params` have one member more.
fn padded(client: &mut McpClient, pad: &str) -> (Value, String) {
    let (_, message) = client.message("tools/call", json!({"name": "delete", "arguments": {}}));
    let text = message.to_string();
    let body = text.replacen("\"params\":{", &format!("\"params\":{{\"pad\":{pad},"), 1);
    assert_ne!(body, text);
    (message, body)
}

#[tokio::test]
async fn json_beyond_any_of_its_limits_is_refused_and_just_within_passes() -> Outcome {
    let server = HostileServer::start().await?;
    server.set_tools(vec![json!({"name": "delete", "inputSchema": {"type": "object"}})]);
    let limits = [
        ("body_bytes_max", 4_096),
        ("json_depth_max", 16),
        ("json_nodes_max", 100),
        ("json_string_bytes_max", 256),
    ];
    let pair = Pair::with(server, "", &limits).await?;
    let mut client = pair.modern()?;
    let bare = padded(&mut client, "0").1.len();
    let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    // What the message has besides: two containers around, and eleven values when the pad counts for none.
    let (_, probe) = padded(&mut client, "0");
    let nodes = nodes_of(&serde_json::from_str(&probe)?) - 1;
    let cases = [
        ("bytes", " ".repeat(4_096 - bare) + "0", true),
        ("bytes", " ".repeat(4_097 - bare) + "0", false),
        ("depth", nest(14), true),
        ("depth", nest(15), false),
        ("nodes", list(100 - nodes - 1), true),
        ("nodes", list(100 - nodes), false),
        ("string", format!("\"{}\"", "x".repeat(256)), true),
        ("string", format!("\"{}\"", "x".repeat(257)), false),
        ("name", format!("{{\"{}\":1}}", "x".repeat(257)), false),
    ];
    pair.server.forget();
    let (mut passed, mut refused) = (0, 0);
    for (what, pad, passes) in cases {
        let (shape, body) = padded(&mut client, &pad);
        let reply = client.send_raw(&shape, body).await?;
        let value: Value = serde_json::from_slice(&reply.body)?;
        if passes {
            passed += 1;
            assert_eq!(reply.status, 200, "{what}: {}", reply.text());
            assert!(value["result"].is_object(), "{what}: {}", reply.text());
        } else {
            refused += 1;
            assert_eq!(reply.status, 413, "{what}: {}", reply.text());
            assert_eq!(value.pointer("/error/data/code"), Some(&json!("request.too_large")), "{what}");
        }
        assert_eq!(pair.server.count("tools/call"), passed, "{what}");
    }
    assert_eq!(refusals(&pair.gateway, "request.too_large", refused).await?.len(), refused);
    Ok(())
}

fn nodes_of(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes_of).sum(),
        Value::Object(members) => members.values().map(nodes_of).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[tokio::test]
async fn an_answer_or_event_beyond_its_limits_is_withheld() -> Outcome {
    let limits = [("answer_bytes_max", 4_096), ("json_depth_max", 16), ("server_calls_max", 1)];
    let pair = Pair::start(&limits).await?;
    let mut client = pair.modern()?;
    let cases = [
        (Hostile::HugeText(3_900), None),
        (Hostile::HugeText(4_100), Some("answer.too_large")),
        (Hostile::HugeEvent(3_900), None),
        (Hostile::HugeEvent(4_100), Some("answer.too_large")),
        (Hostile::EndlessBody, Some("answer.too_large")),
        (Hostile::DeepJson(14), None),
        (Hostile::DeepJson(20), Some("answer.invalid")),
    ];
    for (behaviour, code) in cases {
        pair.server.on("tools/call", behaviour.clone());
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert_eq!(code_of(&answer), code.unwrap_or_default(), "{behaviour:?}: {}", answer.reply.text());
        if code.is_none() {
            assert!(answer.result().is_object(), "{behaviour:?}");
        }
    }
    assert_eq!(refusals(&pair.gateway, "answer.too_large", 3).await?.len(), 3);
    Ok(())
}

/// What is packed in a few bytes is read as well: a small message must not take the work of a large one.
#[tokio::test]
async fn a_message_that_hides_more_than_may_be_read_of_one_is_withheld_both_ways() -> Outcome {
    // 60,000 bytes in 140.
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&b"now ".repeat(15_000))?;
    let bomb = STANDARD.encode(packed.finish()?);
    let server = HostileServer::start().await?;
    server.set_tools(vec![json!({"name": "echo", "inputSchema": {"type": "object"}})]);
    let pair = Pair::with(server, "", &[("inspect_bytes_max", 200_000)]).await?;
    let mut client = pair.modern()?;
    pair.server.forget();
    let mut forwarded = 0;
    for (count, passes) in [(1, true), (3, true), (4, false), (500, false)] {
        let texts = json!(vec![bomb.as_str(); count]);
        let clean = json!({"content": [], "resultType": "complete"});
        let full = json!({"content": [], "structuredContent": {"texts": texts}, "resultType": "complete"});
        for (answers, sent, sends) in [(clean, texts, passes), (full, json!([]), true)] {
            pair.server.on("tools/call", Hostile::Answer(answers));
            forwarded += usize::from(sends);
            let answer = client.call("echo", json!({"texts": sent})).await?;
            let expected = if passes { "" } else { "limit.inspection" };
            assert_eq!(code_of(&answer), expected, "{count}: {}", answer.reply.text());
            assert_eq!(pair.server.count("tools/call"), forwarded, "{count}");
        }
    }
    assert_eq!(refusals(&pair.gateway, "limit.inspection", 4).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_refused_with_code_and_entry() -> Outcome {
    for (limits, names, size, within) in [
        ([("headers_max", 16), ("header_bytes_max", 8_192)], 8, 4, true),
        ([("headers_max", 16), ("header_bytes_max", 8_192)], 12, 4, false),
        ([("headers_max", 200), ("header_bytes_max", 8_192)], 150, 4, true),
        ([("headers_max", 64), ("header_bytes_max", 1_024)], 2, 100, true),
        ([("headers_max", 64), ("header_bytes_max", 1_024)], 2, 600, false),
    ] {
        let pair = Pair::start(&limits).await?;
        let mut client = pair.modern()?;
        let (_, message) = client.message("tools/call", json!({"name": "delete", "arguments": {}}));
        let value = "v".repeat(size);
        let mut headers = client.headers(&message);
        headers.extend((0..names).map(|n| (format!("x-filler-{n}"), value.clone())));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = Client::default().post(&client.url, &headers, message.to_string()).await?;
        if within {
            assert_eq!(reply.status, 200, "{limits:?} {names} {}", reply.text());
            continue;
        }
        assert_eq!(reply.status, 431, "{limits:?} {names}");
        let body: Value =
            serde_json::from_slice(&reply.body).map_err(|_| "a 431 without a JSON-RPC error")?;
        assert_eq!(body.pointer("/error/data/code"), Some(&json!("request.headers_too_large")));
        assert_eq!(refusals(&pair.gateway, "request.headers_too_large", 1).await?.len(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_too_many_waits_until_another_ends() -> Outcome {
    let pair = Pair::start(&[("connections_max", 2)]).await?;
    let address = pair.gateway.address();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut connection = RawConnection::open(address).await?;
        connection.write(request.as_bytes()).await?;
        let answer = connection.read_until(SOON, |bytes| bytes.ends_with(b"}")).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        open.push(connection);
    }
    let mut waiting = RawConnection::open(address).await?;
    waiting.write(request.as_bytes()).await?;
    let none = waiting.read_until(Duration::from_millis(300), |bytes| !bytes.is_empty()).await;
    assert!(none.is_empty(), "a third connection was served");
    drop(open.pop());
    let answer = waiting.read_until(SOON, |bytes| bytes.ends_with(b"}")).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "the third connection was never served");
    Ok(())
}

/// Opens calls that hang until `HostileServer::heal` and a disconnect.
async fn hang(client: &McpClient, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let started = (0..count).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let _cut = client.call("echo", json!({"text": "hangs"})).await;
        })
    });
    started.collect()
}

#[tokio::test]
async fn a_caller_has_so_many_calls_at_once_and_gets_its_places_back() -> Outcome {
    let pair = Pair::start(&[("caller_calls_max", 3)]).await?;
    let mut client = pair.client(Era::Modern).await?;
    let other = new_key(&pair.gateway, "other", "operator")?;
    pair.server.on("tools/call", Hostile::HangBeforeHeaders);
    let hanging = hang(&client, 3).await;
    pair.server.wait_until(SOON, |server| server.count("tools/call") == 3).await?;
    pair.server.heal();
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert_eq!(verdict(&answer), (429, "limit.concurrency".into()));
    let mut stranger = McpClient::connect(&pair.gateway.url("s"), Some(&other), Era::Modern).await?;
    assert_eq!(stranger.call("echo", json!({"text": "mine"})).await?.text(), "mine");
    for call in hanging {
        call.abort();
    }
    pair.server.wait_until(SOON, |server| server.hung_up() == 3).await?;
    let due = Instant::now() + SOON;
    while client.call("echo", json!({"text": "x"})).await?.text() != "x" {
        assert!(Instant::now() < due, "the places were not given back");
    }
    let refused = refusals(&pair.gateway, "limit.concurrency", 1).await?;
    assert!(refused[0]["detail"].as_str().is_some_and(|detail| detail.contains("caller_calls_max")));
    Ok(())
}

#[tokio::test]
async fn a_server_has_so_many_calls_at_once_whoever_makes_them() -> Outcome {
    let pair = Pair::start(&[("server_calls_max", 2)]).await?;
    let client = pair.client(Era::Modern).await?;
    let other = new_key(&pair.gateway, "other", "operator")?;
    let mut stranger = McpClient::connect(&pair.gateway.url("s"), Some(&other), Era::Modern).await?;
    pair.server.on("tools/call", Hostile::HangBeforeHeaders);
    let hanging = hang(&client, 2).await;
    pair.server.wait_until(SOON, |server| server.count("tools/call") == 2).await?;
    pair.server.heal();
    let answer = stranger.call("echo", json!({"text": "x"})).await?;
    assert_eq!(verdict(&answer), (429, "limit.concurrency".into()));
    for call in hanging {
        call.abort();
    }
    let due = Instant::now() + SOON;
    while stranger.call("echo", json!({"text": "x"})).await?.text() != "x" {
        assert!(Instant::now() < due, "the places were not given back");
    }
    Ok(())
}

#[tokio::test]
async fn streams_are_counted_by_caller_and_by_server() -> Outcome {
    for (limits, who) in [
        ([("caller_streams_max", 1), ("server_streams_max", 9)], "caller_streams_max"),
        ([("caller_streams_max", 9), ("server_streams_max", 1)], "server_streams_max"),
    ] {
        let pair = Pair::start(&limits).await?;
        let mut client = pair.modern()?;
        let other = new_key(&pair.gateway, "other", "operator")?;
        let mut stranger = McpClient::new(&pair.gateway.url("s"), Some(&other), Era::Modern);
        pair.server.on("subscriptions/listen", Hostile::HangInStream);
        let listen = json!({"notifications": {}});
        let mut stream = client.open("subscriptions/listen", listen.clone()).await?;
        assert_eq!(stream.status, 200);
        assert!(stream.next(SOON).await?.is_some());
        let second = client.request("subscriptions/listen", listen.clone()).await?;
        assert_eq!(verdict(&second), (429, "limit.concurrency".into()), "{who}");
        let foreign = stranger.open("subscriptions/listen", listen.clone()).await?.status.as_u16();
        assert_eq!(foreign, if who == "caller_streams_max" { 200 } else { 429 }, "{who}");
        let refused = refusals(&pair.gateway, "limit.concurrency", 1).await?;
        assert!(refused[0]["detail"].as_str().is_some_and(|detail| detail.contains(who)));
        drop(stream);
        let due = Instant::now() + SOON;
        while client.open("subscriptions/listen", listen.clone()).await?.status != 200 {
            assert!(Instant::now() < due, "the place was not given back");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_caller_beyond_its_rate_waits_and_a_flood_is_one_entry() -> Outcome {
    let pair = Pair::start(&[("caller_rate_per_s", 1), ("caller_burst_max", 5)]).await?;
    let mut client = pair.modern()?;
    let mut flood = Vec::new();
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(client.call("echo", json!({"text": "x"})).await?.text(), "x");
    }
    for _ in 0..20 {
        flood.push(client.call("echo", json!({"text": "x"})).await?);
    }
    let refused: Vec<_> = flood.iter().filter(|answer| answer.status() == 429).collect();
    let regained = usize::try_from(begun.elapsed().as_secs())? + 1;
    assert!(!refused.is_empty() && refused.len() + regained >= 20, "{} of 20", refused.len());
    for answer in &refused {
        assert_eq!(verdict(answer), (429, "limit.rate".into()));
        assert_eq!(answer.reply.header("retry-after"), "1");
    }
    // A token may have come back in between, which ends a run and starts another.
    let runs = 1 + (flood.len() - refused.len());
    let recorded = entries(&pair.gateway, "code=limit.rate").await?.len();
    assert!((1..=runs).contains(&recorded), "{recorded} entries for {runs} runs");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(client.call("echo", json!({"text": "again"})).await?.text(), "again");
    Ok(())
}

#[tokio::test]
async fn who_goes_round_in_circles_is_stopped_and_other_calls_go_on() -> Outcome {
    let pair = Pair::start(&[("alike_rate_per_min", 5)]).await?;
    for era in Era::ALL {
        let key = new_key(&pair.gateway, &format!("{era:?}"), "operator")?;
        let mut client = McpClient::connect(&pair.gateway.url("s"), Some(&key), era).await?;
        for round in 0..5 {
            let answer = client.call("echo", json!({"text": format!("Page {round}")})).await?;
            assert_eq!(code_of(&answer), "", "{round}");
        }
        for text in ["page 17", "PAGE  5"] {
            assert_eq!(code_of(&client.call("echo", json!({"text": text})).await?), "limit.rate", "{text}");
        }
        assert_eq!(code_of(&client.call("echo", json!({"text": "chapter 17"})).await?), "");
    }
    Ok(())
}

#[tokio::test]
async fn a_source_that_guesses_pays_ten_times_and_a_flood_is_one_entry() -> Outcome {
    let pair = Pair::start(&[("source_rate_per_s", 1), ("source_burst_max", 45)]).await?;
    let mut guesser = McpClient::new(&pair.gateway.url("s"), Some("pcl_nobody_knows"), Era::Modern);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(guesser.call("echo", json!({"text": "x"})).await?.status().as_u16());
    }
    let guesses = statuses.iter().filter(|status| **status == 401).count();
    assert!((4..=6).contains(&guesses), "45 tokens bought {guesses} guesses at ten each: {statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
    let recorded = entries(&pair.gateway, "code=limit.rate").await?.len();
    assert_eq!(recorded, 1, "one entry for the one run of refusals");
    // Guessing left a debt: a single second does not buy the next guess.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(guesser.call("echo", json!({"text": "x"})).await?.status(), 429);
    Ok(())
}

/// The status of one request, with these headers, from another address of loopback.
async fn status_from(source: [u8; 4], gateway: SocketAddr, more: &str) -> Outcome<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let mut stream = socket.connect(gateway).await?;
    let accept = format!("Accept: text/event-stream\r\n{more}Connection: close");
    stream
        .write_all(format!("GET /mcp/s HTTP/1.1\r\nHost: {gateway}\r\n{accept}\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.split(' ').nth(1).ok_or("no status")?.parse()?)
}

#[tokio::test]
async fn rates_of_many_sources_are_forgotten_longest_idle_first() -> Outcome {
    let limits = [("source_rate_per_s", 1), ("source_burst_max", 400), ("rate_entries_max", 100)];
    let gateway = Gateway::start(&format!("servers: {{}}\n{}", limits_yaml(&limits))).await?;
    let begun = Instant::now();
    let first = [127, 0, 0, 9];
    // A wrong key costs ten and one, so that a burst is used up long before it comes back by itself.
    let guesses = async || -> Outcome<u64> {
        let mut count = 0;
        while status_from(first, gateway.address(), "Authorization: Bearer pcl_nobody_knows\r\n").await?
            == 401
        {
            count += 1;
        }
        Ok(count)
    };
    let burst = guesses().await?;
    assert!(burst >= 36, "{burst} guesses");
    for n in 0..400_u16 {
        let [high, low] = n.to_be_bytes();
        assert_eq!(status_from([127, 1, high, low.max(1)], gateway.address(), "").await?, 401);
    }
    let regained_s = begun.elapsed().as_secs();
    let again = guesses().await?;
    assert!(regained_s < 350, "too slow to prove anything: {regained_s} s");
    assert!(again >= 36, "{again} guesses of a fresh burst; {regained_s} s passed");
    Ok(())
}
