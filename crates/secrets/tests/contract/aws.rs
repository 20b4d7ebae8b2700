//! Who the gateway is at AWS, asked of servers as strict as the documented ones: metadata service (IMDSv2), container
//! endpoints of ECS and EKS, Security Token Service; and what goes wrong with signatures and clocks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use portcullis_core::Clock;
use portcullis_net::guard::EgressPolicy;
use portcullis_secrets::{
    AssumeRole, AwsIdentity, Broker, Failure, Keeping, Parts, Reach, SecretsManager, Variables,
};
use serde_json::json;

use super::server::{Asked, Hands, Record, Server, reference};

/// Put together here, so that no scanner of this repository takes them for credentials.
const KEY: &str = concat!("AKIA", "EXAMPLEEXAMPLE00");
const ROLE: &str = "arn:aws:iam::123456789012:role/gateway";

fn keys(id: &str, token: &str) -> String {
    json!({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": id, "SecretAccessKey": "s", "Token": token,
        "Expiration": "2099-01-01T00:00:00Z"})
    .to_string()
}

/// A token as long as real ones, which have some thousand characters.
fn session(id: &str) -> String {
    format!("{id}{}", "IQoJb3JpZ2luX2VjEA/+=".repeat(150))
}

fn assumed(action: &str, id: &str) -> (u16, String) {
    let inside = format!(
        "<Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>",
        session(id)
    );
    let text = format!("<{action}Response><{action}Result>{inside}</{action}Result></{action}Response>");
    (200, text)
}

fn secret() -> (u16, String) {
    (
        200,
        json!({"SecretString": "{\"f\":\"v\"}", "VersionId": "1", "CreatedDate": 1_795_000_000.5})
            .to_string(),
    )
}

fn denied() -> (u16, String) {
    (400, json!({"__type": "AccessDeniedException", "message": "no"}).to_string())
}

/// Who signed a request.
fn signer(asked: &Asked) -> String {
    let authorization = asked.headers.get("authorization").cloned().unwrap_or_default();
    let id =
        authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=").and_then(|rest| rest.split('/').next());
    id.unwrap_or_default().to_owned()
}

fn form(asked: &Asked) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(asked.body.as_bytes()).into_owned().collect()
}

struct Rig {
    broker: Arc<Broker>,
    record: Arc<Record>,
}

/// What follows references to AWS at `server`, in this environment.
fn rig(server: &Server, variables: &[(&str, String)], change: impl FnOnce(&mut AwsIdentity)) -> Rig {
    let known: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let variables = Variables::new(move |name| known.get(name).cloned());
    let mut identity = AwsIdentity {
        region: Some("eu-central-1".into()),
        profile: None,
        role: None,
        endpoint: Some(server.url.clone()),
        reach: Reach {
            egress: EgressPolicy { allow_http: true, ..EgressPolicy::of(true, true) },
            roots_pem: Vec::new(),
            identity: None,
            timeout: Duration::from_secs(5),
        },
        variables: variables.clone(),
    };
    change(&mut identity);
    let (clock, record) = (Arc::new(Hands::default()), Arc::new(Record::default()));
    let clock: Arc<dyn Clock> = clock;
    let broker = Broker::new(Parts {
        vault: None,
        aws: Some(SecretsManager::new(identity, Arc::clone(&clock))),
        keeper: None,
        variables,
        keeping: Keeping::default(),
        clock,
        witness: Arc::clone(&record) as _,
    });
    Rig { broker, record }
}

impl Rig {
    async fn get(&self) -> Result<String, Failure> {
        self.broker.value(&reference("aws:app#f"), None).await.map(|value| value.expose().clone())
    }
}

#[tokio::test]
async fn the_metadata_service_is_asked_by_its_second_version_alone() {
    let server = Server::start(|asked| {
        let has = |name: &str, value: &str| asked.headers.get(name).is_some_and(|found| found == value);
        let ttl = asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds");
        let fits = ttl.and_then(|ttl| ttl.parse::<u32>().ok()).is_some_and(|ttl| (1..=21_600).contains(&ttl));
        let list = "/latest/meta-data/iam/security-credentials/";
        match (asked.method.as_str(), asked.target.as_str()) {
            ("PUT", "/latest/api/token") if asked.headers.contains_key("x-forwarded-for") => {
                (403, String::new())
            }
            ("PUT", "/latest/api/token") if fits => (200, "session-token".into()),
            ("PUT", "/latest/api/token") => (400, String::new()),
            ("GET", _) if !has("x-aws-ec2-metadata-token", "session-token") => (401, String::new()),
            ("GET", target) if target == list => (200, "gateway-role".into()),
            ("GET", target) if target == format!("{list}gateway-role") => {
                (200, keys("ASIAMACHINE", "of-machine"))
            }
            ("POST", "/") if signer(asked) == "ASIAMACHINE" && has("x-amz-security-token", "of-machine") => {
                secret()
            }
            _ => denied(),
        }
    })
    .await;
    let endpoint = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url.to_string())];
    let machine = rig(&server, &endpoint, |_| ());
    assert_eq!(machine.get().await.unwrap(), "v", "{:?}", server.asked());
    let off = [endpoint[0].clone(), ("AWS_EC2_METADATA_DISABLED", "true".into())];
    let failure = rig(&server, &off, |_| ()).get().await.unwrap_err();
    assert!(failure.to_string().contains("switched off"), "{failure}");
}

#[tokio::test]
async fn a_container_gets_its_credentials_from_the_endpoint_that_it_was_given_with_its_token() {
    let server = Server::start(|asked| match (asked.method.as_str(), asked.target.as_str()) {
        ("GET", "/v1/credentials?id=1")
            if asked.headers.get("authorization").is_some_and(|one| one == "of-pod") =>
        {
            (200, keys("ASIAPOD", "t"))
        }
        ("GET", "/v1/credentials?id=1") => (401, String::new()),
        ("POST", "/") if signer(asked) == "ASIAPOD" => secret(),
        _ => denied(),
    })
    .await;
    let full =
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url.join("v1/credentials?id=1").unwrap().to_string());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "of-pod\n").unwrap();
    for token in [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of-pod".to_owned()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.display().to_string()),
    ] {
        let pod = rig(&server, &[full.clone(), token], |_| ());
        assert_eq!(pod.get().await.unwrap(), "v", "{:?}", server.asked());
    }
    let failure = rig(&server, &[full], |_| ()).get().await.unwrap_err();
    assert!(failure.to_string().contains("401"), "{failure}");
}

#[tokio::test]
async fn a_pod_shows_its_token_unsigned_and_a_role_is_taken_on_with_what_that_gives() {
    let server = Server::start(|asked| {
        let form = form(asked);
        let is = |name: &str, value: &str| form.get(name).is_some_and(|found| found == value);
        match form.get("Action").map(String::as_str) {
            Some("AssumeRoleWithWebIdentity")
                if signer(asked).is_empty()
                    && is("WebIdentityToken", "jwt-of-pod")
                    && is("RoleArn", ROLE) =>
            {
                assumed("AssumeRoleWithWebIdentity", "ASIAWEB")
            }
            Some("AssumeRole")
                if signer(asked) == "ASIAWEB"
                    && asked
                        .headers
                        .get("x-amz-security-token")
                        .is_some_and(|token| *token == session("ASIAWEB"))
                    && is("ExternalId", "partner")
                    && is("RoleSessionName", "portcullis")
                    && is("Version", "2011-06-15") =>
            {
                assumed("AssumeRole", "ASIAROLE")
            }
            Some(_) => {
                (403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".into())
            }
            None if signer(asked) == "ASIAROLE" => secret(),
            None => denied(),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "jwt-of-pod\n").unwrap();
    let environment =
        [("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string()), ("AWS_ROLE_ARN", ROLE.to_owned())];
    let role = |external: &str| AssumeRole {
        arn: "arn:aws:iam::210987654321:role/reader".into(),
        external_id: Some(external.to_owned()),
        session_name: "portcullis".into(),
    };
    let pod = rig(&server, &environment, |identity| identity.role = Some(role("partner")));
    assert_eq!(pod.get().await.unwrap(), "v", "{:?}", server.asked());
    let failure = rig(&server, &environment, |identity| identity.role = Some(role("stranger"))).get().await;
    assert!(
        matches!(&failure, Err(Failure::Forbidden(text)) if text.contains("AccessDenied")),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_corrected_and_credentials_that_ended_are_replaced() {
    let (ended, count) = (Arc::new(Mutex::new(false)), Arc::new(AtomicUsize::new(0)));
    let (over, asked_for) = (Arc::clone(&ended), Arc::clone(&count));
    let server = Server::start(move |asked| {
        if asked.method == "GET" {
            let number = asked_for.fetch_add(1, Ordering::SeqCst);
            return (200, keys(&format!("ASIA{number}"), "t"));
        }
        // The service looks at its own clock; the one of the gateway stands still at another time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let date = asked.headers.get("x-amz-date").cloned().unwrap_or_default();
        let signed = httpdate_of(&date);
        if now.abs_diff(signed) > 300 {
            return (400, json!({"__type": "RequestTimeTooSkewed", "message": "skewed"}).to_string());
        }
        if *over.lock().unwrap() && signer(asked) == "ASIA0" {
            return (400, json!({"__type": "ExpiredTokenException", "message": "ended"}).to_string());
        }
        secret()
    })
    .await;
    let full = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url.join("creds").unwrap().to_string())];
    let gateway = rig(&server, &full, |_| ());
    assert_eq!(gateway.get().await.unwrap(), "v", "{:?}", server.asked());
    *ended.lock().unwrap() = true;
    let renewed = gateway.broker.renew(&reference("aws:app#f"), false).await.unwrap();
    assert_eq!(renewed[0].changed, Some(false));
    assert_eq!(count.load(Ordering::SeqCst), 2, "credentials were looked for again");
    assert_eq!(signer(server.asked().last().unwrap()), "ASIA1");
    assert!(gateway.record.rotated.lock().unwrap().is_empty(), "the same value is no rotation");
}

/// Seconds of `20261123T160000Z`.
fn httpdate_of(text: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|part| part.parse::<i64>().ok()).unwrap_or(0)
    };
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    // Days since 1970 in the Gregorian calendar, months counted from March.
    let (shifted, years) = ((month + 9) % 12, if month <= 2 { year - 1 } else { year });
    let days =
        365 * years + years / 4 - years / 100 + years / 400 + (153 * shifted + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(9..11) * 3_600 + number(11..13) * 60 + number(13..15);
    u64::try_from(seconds).unwrap_or(0)
}

#[tokio::test]
async fn what_the_service_refuses_is_told_apart_and_patience_is_kept_where_it_asks_for_it() {
    for (kind, word, passing) in [
        ("AccessDeniedException", "AccessDenied", false),
        ("ResourceNotFoundException", "ResourceNotFound", false),
        ("ThrottlingException", "Throttling", true),
    ] {
        let server = Server::start(move |_| (400, json!({"__type": kind, "message": "m"}).to_string())).await;
        let environment = [("AWS_ACCESS_KEY_ID", KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", "s".to_owned())];
        let failure = rig(&server, &environment, |_| ()).get().await.unwrap_err();
        assert!(failure.to_string().contains(word), "{failure}");
        assert_eq!(failure.passing(), passing, "{kind}");
        assert_eq!(server.asked().len(), if passing { 4 } else { 1 }, "{kind}");
    }
}

#[tokio::test]
async fn a_rotation_is_asked_of_the_service_and_the_age_of_a_value_is_known() {
    let server = Server::start(|asked| match asked.headers.get("x-amz-target").map(String::as_str) {
        Some("secretsmanager.RotateSecret") if asked.json()["SecretId"] == "app" => {
            (200, json!({"Name": "app", "VersionId": "2"}).to_string())
        }
        Some("secretsmanager.GetSecretValue") => secret(),
        _ => denied(),
    })
    .await;
    let environment = [("AWS_ACCESS_KEY_ID", KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", "s".to_owned())];
    let gateway = rig(&server, &environment, |_| ());
    let renewed = gateway.broker.renew(&reference("aws:app#f"), true).await.unwrap();
    assert_eq!((renewed.len(), renewed[0].changed), (1, None));
    let targets: Vec<String> =
        server.asked().iter().filter_map(|asked| asked.headers.get("x-amz-target").cloned()).collect();
    assert_eq!(targets, ["secretsmanager.RotateSecret", "secretsmanager.GetSecretValue"]);
    let state = gateway.broker.states().remove(0);
    assert_eq!(state.created.map(|at| at.0), Some(1_795_000_000_500));
    let fixed = gateway.broker.renew(&reference("aws:app?version=1#f"), true).await;
    assert!(fixed.is_err_and(|failure| failure.to_string().contains("one version")));
}
