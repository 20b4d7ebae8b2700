//! What the gateway says about itself while it runs: metrics that Prometheus takes, labels whose number is bounded,
//! traces that continue the caller's, log lines that are one JSON object each.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
    time::Instant,
};

use futures_util::future::join_all;
use portcullis_testkit::{Client, Era, Gateway, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{Pair, SOON, entries, known};
use serde_json::{Value, json};

async fn metrics(gateway: &Gateway) -> Outcome<String> {
    Ok(gateway.admin_get("/metrics").await?.text())
}

/// Every series with its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    let all: Vec<_> = samples.map(sample).collect();
    let count = all.len();
    let map: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(map.len(), count, "a series twice");
    map
}

fn value(all: &BTreeMap<String, f64>, name: &str) -> f64 {
    *all.get(name).unwrap_or(&0.0)
}

/// The program from Debian's `prometheus`, where it is installed.
fn promtool() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("promtool")).find(|file| file.is_file())
}

#[tokio::test]
async fn metrics_are_well_formed_described_and_taken_by_prometheus() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Modern).await?;
    client.call("echo", json!({"text": "reach me at mira.lind@corp.example"})).await?;
    client.call("nosuch", json!({})).await?;
    let reply = pair.gateway.admin_get("/metrics").await?;
    let text = reply.text();
    // The text ends as OpenMetrics does, so a scraper must be told that it is.
    assert!(text.ends_with("# EOF\n"));
    assert!(
        reply.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"),
        "{}",
        reply.header("content-type")
    );
    let all = series(&text);
    let described = |kind: &str| -> BTreeSet<String> {
        let lines =
            text.lines().filter_map(|line| line.strip_prefix(kind)).filter_map(|line| line.split(' ').next());
        lines.map(str::to_owned).collect()
    };
    let (help, types) = (described("# HELP "), described("# TYPE "));
    assert_eq!(help, types);
    for name in all.keys() {
        let base = name.split('{').next().unwrap();
        let suffixes = ["", "_total", "_bucket", "_sum", "_count"];
        let known = suffixes
            .iter()
            .any(|suffix| base.strip_suffix(suffix).is_some_and(|family| help.contains(family)));
        assert!(known, "{base} is not described");
        assert!(base.starts_with("portcullis_"), "{base}");
    }
    let infinite = all.iter().filter(|(name, _)| name.contains("le=\"+Inf\""));
    let mut histograms = 0;
    for (name, count) in infinite {
        let family = name.split("_bucket").next().unwrap();
        let labels = name.split_once('{').unwrap().1.replace("le=\"+Inf\"", "").replace([',', '}'], "");
        let total =
            if labels.is_empty() { format!("{family}_count") } else { format!("{family}_count{{{labels}}}") };
        assert!((value(&all, &total) - count).abs() < f64::EPSILON, "{name} {total}");
        histograms += 1;
    }
    assert!(histograms >= 15, "{histograms}");
    let Some(program) = promtool() else {
        eprintln!("skipped in part: promtool (Debian: prometheus) is not installed");
        return Ok(());
    };
    // promtool reads the older text format, in which a counter is described under its whole name.
    let older: String = text
        .lines()
        .filter(|line| !line.starts_with("# UNIT") && !line.starts_with("# EOF"))
        .map(|line| older(line, &text) + "\n")
        .collect();
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().unwrap().write_all(older.as_bytes())?;
    let output = child.wait_with_output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `line` as the older format has it, where `text` says that it is about a counter.
fn older(line: &str, text: &str) -> String {
    let name = line.split(' ').nth(2).filter(|_| line.starts_with('#')).unwrap_or_default();
    if text.lines().any(|other| other == format!("# TYPE {name} counter")) {
        line.replacen(name, &format!("{name}_total"), 1)
    } else {
        line.to_owned()
    }
}

#[tokio::test]
async fn decisions_and_every_stage_are_counted() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Modern).await?;
    let before = series(&metrics(&pair.gateway).await?);
    for _ in 0..7 {
        client.call("echo", json!({"text": "hi"})).await?;
    }
    for _ in 0..3 {
        client.call("echo", json!({"text": 7})).await?;
    }
    for _ in 0..2 {
        McpClient::new(&pair.gateway.url("s"), None, Era::Modern).request("tools/list", json!({})).await?;
    }
    let due = Instant::now() + SOON;
    let after = loop {
        let after = series(&metrics(&pair.gateway).await?);
        let calls = "portcullis_call_duration_seconds_count";
        if value(&after, calls) - value(&before, calls) >= 12.0 || Instant::now() > due {
            break after;
        }
    };
    let grown = |name: &str| value(&after, name) - value(&before, name);
    let calls = |decision: &str| {
        grown(&format!("portcullis_calls_total{{server=\"s\",action=\"call_tool\",decision=\"{decision}\"}}"))
    };
    assert_eq!((calls("allowed"), calls("refused")), (7.0, 3.0));
    assert_eq!(grown("portcullis_refusals_total{code=\"arguments.invalid\"}"), 3.0);
    assert_eq!(grown("portcullis_refusals_total{code=\"auth.missing\"}"), 2.0);
    assert_eq!(grown("portcullis_call_duration_seconds_count"), 12.0);
    // A stage that took less than a microsecond is not counted, so only those that cannot be that quick.
    for stage in ["read", "record", "forward", "record_outcome"] {
        let count = grown(&format!("portcullis_stage_duration_seconds_count{{stage=\"{stage}\"}}"));
        assert!((6.0..=12.0).contains(&count), "{stage} {count}");
    }
    assert_eq!(value(&after, "portcullis_calls_in_flight"), 0.0);
    assert_eq!(value(&after, "portcullis_ledger_healthy"), 1.0);
    let size = value(&after, "portcullis_ledger_size");
    assert!(size >= value(&before, "portcullis_ledger_size") + 19.0, "{size}");
    let due = Instant::now() + SOON;
    while value(&series(&metrics(&pair.gateway).await?), "portcullis_ledger_lag") > 0.0 {
        assert!(Instant::now() < due, "the checkpoint never catches up");
    }
    Ok(())
}

#[tokio::test]
async fn a_thousand_invented_names_grow_no_series() -> Outcome {
    let generous = [
        ("source_rate_per_s", 1_000_000),
        ("source_burst_max", 1_000_000),
        ("caller_rate_per_s", 1_000_000),
        ("caller_burst_max", 1_000_000),
    ];
    let pair = Pair::start(&generous).await?;
    let key = pair.gateway.key()?.to_owned();
    // Once through every kind of refusal, so that their series are there.
    let probe = async |number: usize| -> Outcome {
        let mut client = McpClient::new(&pair.gateway.url("s"), Some(&key), Era::Modern);
        match number % 5 {
            0 => drop(client.call(&format!("tool-{number}"), json!({})).await?),
            1 => drop(client.request(&format!("method/{number}"), json!({})).await?),
            2 => {
                let url = pair.gateway.url(&format!("server-{number}"));
                drop(McpClient::new(&url, Some(&key), Era::Modern).request("tools/list", json!({})).await?);
            }
            3 => {
                let url = pair.gateway.url(&format!("server-{number}"));
                drop(
                    McpClient::new(&url, Some(&format!("key-{number}")), Era::Legacy)
                        .request("ping", json!({}))
                        .await?,
                );
            }
            _ => {
                let url = format!("{}/path-{number}", pair.gateway.base());
                drop(Client::default().get(&url, &[("host", &format!("host-{number}.example"))]).await?);
            }
        }
        Ok(())
    };
    for number in 0..5 {
        probe(number).await?;
    }
    let before = series(&metrics(&pair.gateway).await?);
    for start in (5..1_005).step_by(50) {
        for outcome in join_all((start..start + 50).map(&probe)).await {
            outcome?;
        }
    }
    let after = series(&metrics(&pair.gateway).await?);
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(new.is_empty(), "{new:?}");
    let refusals = |all: &BTreeMap<String, f64>| {
        all.iter()
            .filter(|(name, _)| name.starts_with("portcullis_refusals_total"))
            .map(|(_, count)| count)
            .sum::<f64>()
    };
    assert_eq!(refusals(&after) - refusals(&before), 1_000.0, "they were counted");
    Ok(())
}

const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const META: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The exporter's requests that hold these bytes.
fn exported(collector: &HostileServer, needle: &[u8]) -> bool {
    collector
        .received()
        .iter()
        .any(|request| request.body.windows(needle.len()).any(|window| window == needle))
}

#[tokio::test]
async fn traces_continue_the_callers_and_reach_ledger_and_collector() -> Outcome {
    let (server, collector) = (HostileServer::start().await?, HostileServer::start().await?);
    let yaml = format!(
        "servers:\n  s:\n    url: {}\ntelemetry:\n  otlp:\n    endpoint: http://{}/v1/traces\n",
        server.url(),
        collector.address()
    );
    let mut gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Modern).await?;
    let sent = |message: &Value, header: Option<&'static str>, client: &McpClient| {
        let (mut headers, url, body) = (client.headers(message), client.url.clone(), message.to_string());
        headers.extend(header.map(|value| ("traceparent".to_owned(), value.to_owned())));
        async move {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            Client::default().post(&url, &headers, body).await
        }
    };
    let call = |client: &mut McpClient, meta: Option<&str>| {
        let meta = meta.map_or_else(|| json!({}), |meta| json!({"traceparent": meta}));
        client.message("tools/call", json!({"name": "echo", "arguments": {"text": "hi"}, "_meta": meta})).1
    };
    let cases = [
        (None, Some(HEADER), Some(HEADER)),
        (Some(META), Some(HEADER), Some(META)),
        (Some(META), None, Some(META)),
        (None, None, None),
        (None, Some("00-zz-zz-zz"), None),
        (Some("'; drop table traces; --"), None, None),
    ];
    for (meta, header, _) in cases {
        let message = call(&mut client, meta);
        assert_eq!(sent(&message, header, &client).await?.status, 200, "{meta:?} {header:?}");
    }
    client.call("nosuch", json!({})).await?;
    for event in ["call.intent", "call.outcome"] {
        let found = entries(&gateway, &format!("event={event}&tool=echo")).await?;
        let traces: Vec<_> = found.iter().map(|entry| entry["trace"].as_str()).collect();
        assert_eq!(traces, cases.map(|(_, _, expected)| expected), "{event}");
    }
    gateway.stop().await?;
    collector.wait_until(SOON, |collector| !collector.received().is_empty()).await?;
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
    };
    for parent in [HEADER, META] {
        let parts: Vec<_> = parent.split('-').collect();
        assert!(exported(&collector, &hex(parts[1])), "no span in the trace of {parent}");
        assert!(exported(&collector, &hex(parts[2])), "no span under {parent}");
    }
    for word in ["portcullis", "tools/call s/echo", "mcp.method.name", "target.unknown", "2026-07-28"] {
        assert!(exported(&collector, word.as_bytes()), "`{word}` is in no span");
    }
    assert!(!exported(&collector, b"drop table"));
    assert!(!exported(&collector, b"nosuch"), "names that callers invent are no span names");
    let request = &collector.received()[0];
    assert_eq!(
        (request.target.as_str(), request.header("content-type")),
        ("/v1/traces", Some("application/x-protobuf"))
    );
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_no_call() -> Outcome {
    let server = HostileServer::start().await?;
    let nobody = portcullis_testkit::free_port()?;
    let yaml = format!(
        "servers:\n  s:\n    url: {}\ntelemetry:\n  otlp:\n    endpoint: http://127.0.0.1:{nobody}/v1/traces\n",
        server.url()
    );
    let mut gateway = Gateway::start(&yaml).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Modern);
    for _ in 0..20 {
        assert_eq!(client.call("echo", json!({"text": "hi"})).await?.text(), "hi");
    }
    assert!(gateway.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn every_line_of_a_json_log_is_one_object_whatever_names_callers_choose() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml =
        format!("servers:\n  s:\n    url: {}\nlog:\n  format: json\n  file: gateway.log\n", server.url());
    let mut gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
    client.initialize().await?;
    for name in ["line\nbreak", "{\"level\":\"ERROR\"}", "\u{1b}[2J", "\u{202e}evil", "\r\nforged: entry"] {
        client.call(name, json!({})).await?;
    }
    gateway.stop().await?;
    let log = std::fs::read_to_string(gateway.folder().join("gateway.log"))?;
    let mut refused = 0;
    for line in log.lines() {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        for member in ["timestamp", "level", "message", "target"] {
            assert!(value[member].is_string(), "{member}: {line}");
        }
        refused += usize::from(value["message"] == "refused");
    }
    assert_eq!(refused, 5, "{log}");
    Ok(())
}
