//! One message, two readers: whatever a server might read differently than the gateway did is refused.

use portcullis_testkit::{Client, Era, Outcome};
use portcullis_tests::pair::Pair;

/// Text in UTF-8; in UTF-7 a second name behind the first one's arguments.
const HIDDEN: &str =
    r#"{"name":"echo","arguments":{"text":"+ACIAfQ-,+ACI-name+ACI-:+ACI-delete+ACI-,+ACI-x+ACI-:{+ACI-"}}"#;

#[tokio::test]
async fn a_call_that_another_encoding_or_case_would_make_another_call_never_reaches_the_server() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Legacy).await?;
    let _opened = client.call("echo", serde_json::json!({"text": "x"})).await?;
    let received = pair.server.received();
    let last = received.last().ok_or("nothing came")?;
    assert_eq!(last.header("content-type"), Some("application/json"));
    let session = client.session.clone().ok_or("no session")?;
    let bearer = format!("Bearer {}", pair.gateway.key()?);
    let cased = r#"{"name":"echo","Name":"delete","arguments":{"text":"x"}}"#;
    let twin = r#"{"name":"echo","arguments":{"text":"x","Text":"y"}}"#;
    let plain = r#"{"name":"echo","arguments":{"text":"x"}}"#;
    for (media, params, status, forwarded) in [
        ("application/json; charset=utf-7", HIDDEN, 415, 0),
        ("application/json; charset=utf-16le", plain, 415, 0),
        ("application/json", cased, 400, 0),
        ("application/json", twin, 200, 0),
        ("application/json; charset=\"UTF-8\"; v=1", plain, 200, 1),
    ] {
        pair.server.forget();
        let body = format!(r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{params}}}"#);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", media),
            ("accept", "application/json, text/event-stream"),
            ("mcp-session-id", session.as_str()),
        ];
        let reply = Client::default().post(&pair.gateway.url("s"), &headers, body).await?;
        assert_eq!(reply.status.as_u16(), status, "{media} {params}: {}", reply.text());
        assert_eq!(pair.server.count("tools/call"), forwarded, "{media} {params}");
        let sent = pair.server.received();
        assert!(sent.iter().all(|one| one.header("content-type") == Some("application/json")), "{sent:?}");
    }
    Ok(())
}
