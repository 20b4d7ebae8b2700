//! Recorded exchanges of a real OpenBao 2.5: asked for as they were, and read as they are.

use std::{collections::BTreeMap, path::Path};

use portcullis_secrets::{Keeping, Login, VaultSettings};

use super::server::{Asked, Server, reference, rig, settings, token};

/// One exchange of a recording.
#[derive(Debug)]
struct Exchange {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    sent: String,
    status: u16,
    body: String,
}

/// The files are written by one program in one form, which is all that is read here.
fn exchanges(name: &str) -> Vec<Exchange> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/vault/openbao-recordings");
    let text = std::fs::read_to_string(folder.join(format!("TestProvider_{name}.yaml"))).unwrap();
    text.split("    - id: ").skip(1).map(exchange).collect()
}

fn exchange(text: &str) -> Exchange {
    let (request, response) = text.split_once("      response:").unwrap();
    let field = |part: &str, name: &str| {
        let line = part.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default();
        line.trim().trim_matches(['\'', '"']).to_owned()
    };
    let mut headers = BTreeMap::new();
    let lines: Vec<&str> = request.lines().collect();
    for pair in lines.windows(2) {
        if let (Some(name), Some(value)) =
            (pair[0].trim().strip_suffix(':'), pair[1].trim().strip_prefix("- "))
        {
            headers.insert(name.to_lowercase(), value.trim_matches('"').to_owned());
        }
    }
    let (_, body) = response.split_once("body: |-\n").unwrap();
    let body: Vec<&str> = body.lines().take_while(|line| line.starts_with("            ")).collect();
    let url = field(request, "url:");
    Exchange {
        method: field(request, "method:"),
        target: url.split_once(":8200").unwrap().1.to_owned(),
        headers,
        sent: field(request, "body:"),
        status: field(response, "code:").parse().unwrap(),
        body: body.join("\n"),
    }
}

/// A server that answers what was recorded, to exactly what was asked then.
async fn replaying(name: &str) -> Server {
    let exchanges = exchanges(name);
    assert!(!exchanges.is_empty());
    Server::start(move |asked: &Asked| {
        // Vault takes both for writing.
        let method = if asked.method == "POST" { "PUT" } else { asked.method.as_str() };
        let same = |one: &&Exchange| {
            let recorded = if one.method == "POST" { "PUT" } else { one.method.as_str() };
            let header = |name: &str| one.headers.get(name) == asked.headers.get(name);
            recorded == method
                && one.target == asked.target
                && ["x-vault-token", "x-vault-namespace", "x-vault-request"].into_iter().all(header)
                && (one.sent.is_empty() || one.sent == asked.body)
        };
        match exchanges.iter().find(same) {
            Some(one) => (one.status, one.body.clone()),
            None => (404, r#"{"errors":[]}"#.to_owned()),
        }
    })
    .await
}

async fn read(name: &str, change: impl FnOnce(&mut VaultSettings), wanted: &[(&str, Option<&str>)]) {
    let server = replaying(name).await;
    let mut settings = settings(&[&server.url], token());
    change(&mut settings);
    let rig = rig(settings, Keeping::default());
    for (text, value) in wanted {
        let got = rig.get(text).await;
        assert_eq!(got.as_deref().ok(), *value, "{name}: {text}: {got:?} {:?}", server.asked());
    }
}

#[tokio::test]
async fn documents_of_both_versions_of_the_kv_engine_are_read() {
    read(
        "KVv2_GetSecret_Full",
        |_| {},
        &[
            ("vault:secret/foo#bar", Some("bazz")),
            ("Bearer vault:secret/foo#lorem", Some("Bearer ipsum")),
            ("vault:secret/foo#other", None),
            ("vault:secret/absent#bar", None),
        ],
    )
    .await;
    read("KVv2_GetSecret_Versioned", |_| {}, &[("vault:secret/foo?version=1#bar", Some("old_bazz"))]).await;
    read(
        "KVv1_GetSecret_Full",
        |settings| settings.kv_version = 1,
        &[
            ("vault:secret_v1/foo#bar", Some("bazz_v1")),
            ("vault:secret_v1/foo#lorem", Some("ipsum_v1")),
            ("vault:secret_v1/foo?version=1#lorem", None),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_user_logs_in_and_reads_with_the_token_of_the_login() {
    let login = Login::UserPass {
        mount: "customuserpasspath".into(),
        user: "alice".into(),
        password: reference("env:PASSWORD"),
    };
    read("Auth_UserPass", |settings| settings.login = login, &[("vault:secret/foo#bar", Some("bazz"))]).await;
}

#[tokio::test]
async fn a_namespace_is_named_in_every_request() {
    let inside = |settings: &mut VaultSettings| settings.namespace = Some("my-namespace".into());
    read("BaoNamespaces", inside, &[("vault:kv/foo#namespaced-bar", Some("namespaced-bazz"))]).await;
}
