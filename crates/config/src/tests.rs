//! The loader against everything a person can get wrong, and against the documented example.

use std::path::Path;

use proptest::prelude::*;

use portcullis_secrets::Variables;

use super::{Config, Overrides, Reference, Server, Upstream, schema, yaml};

/// The example of the reference page: `docs/example.yaml`.
const EXAMPLE: &str = include_str!("../../../docs/example.yaml");

fn load(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(text, Some(Path::new("/etc/portcullis.yaml")), &Overrides::default()).map_err(|mistakes| {
        mistakes.iter().map(|m| format!("{}:{} {}: {}", m.line, m.column, m.key, m.message)).collect()
    })
}

/// Text, and every mistake that is reported for it, in order.
const MISTAKES: &[(&str, &[&str])] = &[
    ("lisen: {}", &["1:1 lisen: unknown key"]),
    ("listen: {adress: '127.0.0.1:1'}", &["1:10 listen.adress: unknown key"]),
    ("listen: 5", &["1:9 listen: expected a mapping, found a number"]),
    ("listen: [a]", &["1:9 listen: expected a mapping, found a list"]),
    ("listen: {address: here}", &["1:19 listen.address: `here` is not an address"]),
    ("listen: {address: {}}", &["1:19 listen.address: expected an address, found a mapping"]),
    ("listen: {tls: {certificate: a}}", &["1:10 listen.tls.key: missing"]),
    ("listen: {origins: ['*']}", &["1:20 listen.origins[0]: `*` is not an origin"]),
    ("listen: {origins: ['null']}", &["1:20 listen.origins[0]: `null` is not an origin"]),
    ("listen: {hosts: ['a/b']}", &["1:18 listen.hosts[0]: `a/b` is not a host name"]),
    ("listen: {public_url: 'ftp://a/'}", &["1:22 listen.public_url: the scheme `ftp` is not supported"]),
    (
        "listen: {address: '0.0.0.0:1'}",
        &["1:10 listen.address: `0.0.0.0:1` is not a loopback address, and there is no TLS"],
    ),
    (
        "listen: {address: '0.0.0.0:1', x: 1}",
        &[
            "1:10 listen.address: `0.0.0.0:1` is not a loopback address, and there is no TLS",
            "1:32 listen.x: unknown key",
        ],
    ),
    (
        "listen: {address: '0.0.0.0:1', tls: {certificate: a, key: b}}\nidentities: {anonymous: {roles: [reader]}}",
        &[
            "2:14 identities.anonymous: `0.0.0.0:1` is not a loopback address, and anonymous callers are let in",
        ],
    ),
    (
        "identities: {api_keys: false}",
        &["1:1 identities: nobody can prove who they are: there is no way to authenticate"],
    ),
    ("aggregate: {prefixes: {a: b__c}}", &["1:27 aggregate.prefixes.a: `b__c` cannot be a prefix"]),
    ("aggregate: {name_bytes_max: 8}", &["1:29 aggregate.name_bytes_max: 8 is out of range"]),
    (
        "aggregate: {enabled: true, prefixes: {a: x, b: x}}\nservers: {a: {command: [a]}, b: {command: [b]}}",
        &["1:1 aggregate: `a` and `b` have one prefix"],
    ),
    (
        "aggregate: {enabled: true}\nservers: {aggregate: {command: [a]}}",
        &["2:11 servers.aggregate: `aggregate` is the name of the route `/mcp`"],
    ),
    ("virtual_servers: {v: {}}", &["1:19 virtual_servers.v: selects nothing"]),
    (
        "virtual_servers: {a: {tools: {a: [x]}}}\nservers: {a: {command: [a]}}",
        &["1:19 virtual_servers.a: `a` is a server already"],
    ),
    (
        "virtual_servers: {aggregate: {tools: {a: [x]}}}",
        &["1:19 virtual_servers.aggregate: `aggregate` is the name of the route `/mcp`"],
    ),
    ("identities: {api_keys: 'true'}", &["1:24 identities.api_keys: expected `true` or `false`, found text"]),
    ("identities: {api_keys: yes}", &["1:24 identities.api_keys: expected `true` or `false`, found text"]),
    (
        "identities: {anonymous: {roles: [redaer]}}",
        &["1:34 identities.anonymous.roles[0]: unknown role `redaer`"],
    ),
    (
        "identities: {jwt: [{issuer: i}]}",
        &[
            "1:20 identities.jwt[0]: has neither `jwks_file` nor `jwks_url`, and the issuer is no address to ask",
        ],
    ),
    (
        "identities: {jwt: [{issuer: 'http://i.example'}]}",
        &[
            "1:20 identities.jwt[0]: has neither `jwks_file` nor `jwks_url`, and the issuer is no address to ask",
        ],
    ),
    (
        "identities: {jwt: [{issuer: 'https://i', introspection: {client_id: g, client_secret: x}}]}",
        &[
            "1:72 identities.jwt[0].introspection.client_secret: this is the place of a secret, and a configuration file is not",
        ],
    ),
    (
        "identities: {jwt: [{issuer: 'https://i', introspection: {url: 'http://i/', client_id: g, client_secret: 'env:X'}}]}",
        &["1:58 identities.jwt[0].introspection.url: tokens and a secret would be sent over plain HTTP"],
    ),
    (
        "identities: {certificates: [{name: 'dns:a', roles: [reader]}]}",
        &["1:14 identities.certificates: clients are not asked for certificates"],
    ),
    (
        "listen: {tls: {certificate: a, key: b, client_crls: [c], client_certificates: required}}",
        &[
            "1:40 listen.tls.client_crls: clients are not asked for certificates",
            "1:58 listen.tls.client_certificates: there is no authority to check them with",
        ],
    ),
    ("listen: {tls: {spiffe: true}}", &["1:16 listen.tls.spiffe: there is no Workload API to ask"]),
    (
        "{spiffe: {socket: 'tcp:127.0.0.1:1', id: 'spiffe://a/*'}, listen: {tls: {spiffe: true, key: b}}}",
        &[
            "1:11 spiffe.socket: is no Unix socket",
            "1:38 spiffe.id: stands for several IDs",
            "1:74 listen.tls.spiffe: the certificate cannot come from elsewhere as well",
        ],
    ),
    (
        "{spiffe: {}, servers: {a: {url: 'https://a.example/', tls: {spiffe: ['spiffe://b/c'], ca: [d]}}}}",
        &["1:27 servers.a.tls: `spiffe` comes with authorities and a certificate of its own"],
    ),
    (
        "servers: {a: {url: 'https://a.example/', tls: {spiffe: ['spiffe://B/c']}}}",
        &["1:57 servers.a.tls.spiffe[0]: is no SPIFFE ID"],
    ),
    (
        "listen: {tls: {acme: {directory: 'http://a.example/d', domains: [a.example], agree_to_terms: true}}}",
        &["1:23 listen.tls.acme.directory: is no `https` URL"],
    ),
    (
        "listen: {tls: {certificate: a, key: b, acme: {directory: 'https://a.example/d', domains: ['*.a.example'], contact: [ops]}}}",
        &[
            "1:40 listen.tls.acme: the certificate cannot come from files as well",
            "1:40 listen.tls.acme.agree_to_terms: the terms of service are not agreed to",
            "1:81 listen.tls.acme.domains: `*.a.example` is no host name",
            "1:107 listen.tls.acme.contact: is no list of `mailto:` addresses",
        ],
    ),
    (
        "listen: {tls: {acme: {directory: 'https://a.example/d', domains: [], agree_to_terms: true, challenge: http-01, \
         external_account: {id: a, key: abcdefgh}}}}",
        &[
            "1:16 listen.tls.acme.http: missing",
            "1:57 listen.tls.acme.domains: names nothing, or more than a hundred hosts",
            "1:138 listen.tls.acme.external_account.key: a configuration file is no place for a key",
        ],
    ),
    (
        "identities: {routes: {nobody: {}}}",
        &["1:23 identities.routes.nobody: there is no such route in this file"],
    ),
    (
        "identities: {routes: {sample: {issuers: ['https://i'], scopes: ['a b'], bound_tokens: certificate}}}",
        &["1:65 identities.routes.sample.scopes[0]: `a b` is not a scope"],
    ),
    (
        "identities: {routes: {sample: {issuers: ['https://i'], step_up: [{tools: [pay]}], bound_tokens: certificate}}}",
        &[
            "1:42 identities.routes.sample.issuers[0]: `https://i` is no issuer under `identities.jwt`",
            "1:66 identities.routes.sample.step_up[0]: asks for nothing",
            "1:83 identities.routes.sample.bound_tokens: clients are not asked for certificates",
        ],
    ),
    (
        "servers: {a: {url: 'https://a.example/'}}\naggregate: {enabled: true}\nidentities: {routes: {a: {bound_tokens: dpop}}}",
        &["3:14 identities.routes.aggregate: leads to `a` and is laxer than `identities.routes.a`"],
    ),
    (
        "identities: {jwt: [{issuer: i, jwks_file: a, jwks_url: 'https://i/'}]}",
        &["1:20 identities.jwt[0]: has both `jwks_file` and `jwks_url`"],
    ),
    (
        "identities: {jwt: [{issuer: i, jwks_url: 'http://i.example/'}]}",
        &["1:32 identities.jwt[0].jwks_url: keys fetched over plain HTTP can be replaced on the way"],
    ),
    (
        "identities: {jwt: [{issuer: i, jwks_file: a, algorithms: [none]}]}",
        &["1:59 identities.jwt[0].algorithms[0]: `none` is not known here"],
    ),
    (
        "identities: {jwt: [{issuer: i, jwks_file: a, leeway_s: 301}]}",
        &["1:56 identities.jwt[0].leeway_s: 301 is out of range"],
    ),
    ("admin: {address: '10.0.0.1:1'}", &["1:9 admin.address: `10.0.0.1:1` is not a loopback address"]),
    (
        "admin: {address: '127.0.0.1:7300'}",
        &["1:9 admin.address: `127.0.0.1:7300` is the clients' address too"],
    ),
    ("servers: {a: {command: [a], replicas: [b]}}", &["1:29 servers.a.replicas: there is no server `b`"]),
    ("servers: {a: {command: [a], replicas: [a]}}", &["1:29 servers.a.replicas: `a` is named already"]),
    (
        "servers: {a: {command: [a], replicas: [b]}, b: {command: [b], replicas: [c]}, c: {command: [c]}}",
        &["1:29 servers.a.replicas: `b` has replicas of its own"],
    ),
    ("servers:\n  a:\n", &["2:4 servers.a: has neither `url` nor `command`"]),
    ("servers: {a: {}}", &["1:14 servers.a: has neither `url` nor `command`"]),
    ("servers: {a: {command: npx}}", &["1:24 servers.a.command: expected a list, found text"]),
    ("servers: {a: {command: [1]}}", &["1:25 servers.a.command[0]: expected text, found a number"]),
    (
        "servers: {a: {url: 'http://u:p@h/'}}",
        &["1:20 servers.a.url: a URL must not carry a user name or password"],
    ),
    ("servers: {a: {url: 'h'}}", &["1:20 servers.a.url: not a URL: relative URL without a base"]),
    ("servers: {a: {url: 'http://h/', env: {A: b}}}", &["1:38 servers.a.env: has no meaning beside `url`"]),
    (
        "servers: {a: {command: [x], headers: {A: b}}}",
        &["1:38 servers.a.headers: has no meaning beside `command`"],
    ),
    ("servers: {a: {command: [x], trust: revew}}", &["1:36 servers.a.trust: `revew` is not known here"]),
    (
        "servers: {a: {url: 'http://h/', headers: {Host: b}}}",
        &["1:49 servers.a.headers.Host: the gateway sets this header itself"],
    ),
    (
        "servers: {a: {url: 'http://h/', headers: {'A B': b}}}",
        &["1:50 servers.a.headers.\"A B\": is not the name of a header"],
    ),
    (
        "servers: {a: {url: 'http://h/', headers: {X: 'ghp_0123456789abcdef'}}}",
        &["1:46 servers.a.headers.X: this looks like a secret, and a configuration file is no place for one"],
    ),
    (
        "servers: {a: {command: [x], env: {API_TOKEN: hush}}}",
        &["1:46 servers.a.env.API_TOKEN: this is the place of a secret, and a configuration file is not"],
    ),
    (
        "servers: {a: {command: [x], env: {A: 'env:'}}}",
        &["1:38 servers.a.env.A: `env:` must be followed by the name of an environment variable"],
    ),
    (
        "servers: {'a/b': {command: [x]}}",
        &["1:18 servers.\"a/b\": `a/b` cannot name a server: the name is part of its URL"],
    ),
    (
        "roles: {r: {allow: [{actions: [call]}]}}",
        &["1:32 roles.r.allow[0].actions[0]: `call` is not known here"],
    ),
    ("roles: {r: {allow: [{tools: ['']}]}}", &["1:30 roles.r.allow[0].tools[0]: a pattern may not be empty"]),
    (
        "roles: {r: {deny: [{mask: [email]}]}}",
        &[
            "1:20 roles.r.deny[0]: a denial lets nothing through that could be marked, asked about, masked, refused or approved",
        ],
    ),
    (
        "approval_hooks: {chat: {url: 'http://chat.example/', secret: env:S, people: {u: k}}}",
        &["1:25 approval_hooks.chat.url: questions would be sent over plain HTTP"],
    ),
    (
        "approval_hooks: {chat: {url: 'https://chat.example/', secret: env:S, people: {u: 'key:k'}}}",
        &["1:70 approval_hooks.chat.people: each user of the chat needs the id of an API key"],
    ),
    ("inspect: {emial: {}}", &["1:11 inspect.emial: unknown key"]),
    ("inspect: {email: {answers: hide}}", &["1:28 inspect.email.answers: `hide` is not known here"]),
    (
        "inspect: {email: {arguments: pass, approval: {}}}",
        &["1:36 inspect.email.approval: cannot take effect: nothing is treated with `ask`"],
    ),
    (
        "inspect: {email: {arguments: ask}}\ninspect_approval: {by_caller: true, people: 2}",
        &["2:1 inspect_approval: `by_caller` where several people are asked for"],
    ),
    (
        "inspect: {email: {answers: ask}}\ninspect_approval: {by_caller: true}",
        &["2:1 inspect_approval: nobody could let an answer through: who reads it cannot"],
    ),
    ("limits: {body_bytes_max: 1}", &["1:26 limits.body_bytes_max: 1 is out of range"]),
    (
        "limits: {body_bytes_max: 1_000_000}",
        &["1:26 limits.body_bytes_max: `1_000_000` is not a whole number"],
    ),
    ("limits: {body_bytes_max: -5}", &["1:26 limits.body_bytes_max: `-5` is not a whole number"]),
    (
        "limits: {body_bytes_max: '4096'}",
        &["1:26 limits.body_bytes_max: expected a whole number, found text"],
    ),
    (
        "ledger: {origin: 'a b'}",
        &["1:18 ledger.origin: a log origin has 1 to 255 bytes, no spaces and no `+`"],
    ),
    (
        "telemetry: {otlp: {endpoint: 'http://c/', sample_ratio: 2}}",
        &["1:57 telemetry.otlp.sample_ratio: `2` is not a number from 0 to 1"],
    ),
    ("log: {format: xml}", &["1:15 log.format: `xml` is not known here"]),
    ("data: a\ndata: b", &["2:1 data: `data` is given twice"]),
    ("a: &x 1\nb: *x", &["1:4 a: anchors are not supported", "2:4 b: aliases are not supported"]),
    ("data: !!str a", &["1:7 data: tags are not supported"]),
    ("data: a\n---\ndata: b", &["2:1 : more than one document in the file"]),
    ("? [a]\n: b", &["1:3 ?: a key must be text"]),
    ("data: \"a\\tb\"", &["1:7 data: contains a control character"]),
    (
        "data: [",
        &["2:1 data[0]: not well-formed YAML: while parsing a node, did not find expected node content"],
    ),
    (
        "limits:\n  body_bytes_max: 1\n  nope: 2\nservers:\n  a: {}\nlog: {format: x}",
        &[
            "2:19 limits.body_bytes_max: 1 is out of range",
            "3:3 limits.nope: unknown key",
            "5:6 servers.a: has neither `url` nor `command`",
            "6:15 log.format: `x` is not known here",
        ],
    ),
];

#[test]
fn every_mistake_is_reported_with_its_place_its_key_and_all_others() {
    let mut wrong = Vec::new();
    for (text, expected) in MISTAKES {
        let found = load(text).err().unwrap_or_default();
        if found != *expected {
            wrong.push(format!("{text}\n  expected {expected:#?}\n  found    {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(MISTAKES.len() >= 50);
}

#[test]
fn every_mistake_comes_with_a_hint() {
    for (text, _) in MISTAKES {
        for mistake in Config::parse(text, None, &Overrides::default()).unwrap_err() {
            assert!(mistake.hint.len() > 5, "{text}: {mistake}");
            assert!(!mistake.message.ends_with('.') && !mistake.hint.ends_with('.'), "{mistake}");
        }
    }
}

#[test]
fn an_empty_file_and_no_file_are_the_safe_defaults() {
    for text in ["", "# nothing", "listen:\nservers:\n", "{}"] {
        let settings = load(text).unwrap().settings;
        assert!(settings.listen.address.ip().is_loopback());
        assert!(settings.admin.address.ip().is_loopback());
        assert!(settings.identities.api_keys);
        assert_eq!(settings.identities.anonymous, None);
        assert_eq!(settings.limits, portcullis_core::Limits::default());
    }
}

#[test]
fn the_documented_example_loads_compiles_and_fits_the_schema() {
    let config = load(EXAMPLE).unwrap();
    let source = Config {
        settings: super::Settings { policies: Vec::new(), ..config.settings.clone() },
        ..config.clone()
    };
    let source = source.policy_source(&std::collections::BTreeMap::new()).unwrap();
    portcullis_policy::Policies::compile(&source, &config.settings.limits).unwrap();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let json = json_of(&yaml::parse(EXAMPLE).unwrap());
    let errors: Vec<String> =
        validator.iter_errors(&json).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for section in super::sections_named() {
        assert!(EXAMPLE.contains(&format!("{section}:")), "the example lacks `{section}`");
    }
}

#[test]
fn the_schema_refuses_what_the_loader_refuses_for_keys_and_types() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for text in [
        "lisen: {}",
        "listen: 5",
        "limits: {body_bytes_max: 1}",
        "log: {format: xml}",
        "listen: {tls: {acme: {domains: [a]}}}",
    ] {
        assert!(!validator.is_valid(&json_of(&yaml::parse(text).unwrap())), "{text}");
    }
}

/// The tree as an editor sees it.
fn json_of(node: &yaml::Node) -> serde_json::Value {
    match &node.value {
        yaml::Value::Null => serde_json::Value::Null,
        yaml::Value::List(items) => items.iter().map(json_of).collect(),
        yaml::Value::Map(pairs) => {
            pairs.iter().map(|(key, value)| (key.text.clone(), json_of(value))).collect()
        }
        yaml::Value::Scalar { text, plain: true } => {
            serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into())
        }
        yaml::Value::Scalar { text, plain: false } => text.as_str().into(),
    }
}

#[test]
fn a_literal_loopback_url_allows_loopback_and_nothing_else() {
    for (url, loopback, private) in [
        ("http://127.0.0.1:1/", true, false),
        ("http://localhost:1/", true, false),
        ("http://[::1]:1/", true, false),
        ("http://192.168.0.9/", false, true),
        ("https://tools.example/", false, false),
        ("https://localhost.example/", false, false),
    ] {
        let server = Server::from_json("s", &serde_json::json!({ "url": url })).unwrap();
        let Upstream::Http { egress, .. } = server.upstream else { panic!("{url}") };
        assert_eq!((egress.allow_loopback, egress.allow_private), (loopback, private), "{url}");
    }
}

#[test]
fn references_are_resolved_only_when_asked_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hush\n").unwrap();
    let text = format!(
        "servers: {{a: {{url: 'http://h/', headers: {{Authorization: 'Bearer file:{}', X-Plain: visible}}}}}}",
        file.display()
    );
    let config = load(&text).unwrap();
    let Some(Upstream::Http { headers, .. }) =
        config.settings.servers.get("a").map(|server| &server.upstream)
    else {
        panic!()
    };
    let variables = Variables::new(|_| None);
    let read = || portcullis_secrets::read(headers.get("Authorization").unwrap(), &variables);
    assert_eq!(read().unwrap().expose(), "Bearer hush");
    std::fs::remove_file(&file).unwrap();
    assert!(read().is_err());
    let printed = format!("{config:?}");
    assert!(!printed.contains("hush") && !printed.contains("visible"), "{printed}");
    let unset = Reference::parse("env:PORTCULLIS_TEST_SURELY_UNSET").unwrap();
    let error = portcullis_secrets::read(&unset, &variables).unwrap_err();
    assert!(error.contains("PORTCULLIS_TEST_SURELY_UNSET"));
}

#[test]
fn relative_paths_start_at_the_file() {
    let config =
        load("data: d\npolicies: [p, /abs/q]\nservers: {a: {command: [./run.sh, x], cwd: w}}").unwrap();
    assert_eq!(config.data_dir(), Path::new("/etc/d"));
    assert_eq!(config.settings.policies, [Path::new("/etc/p"), Path::new("/abs/q")]);
    let Some(Upstream::Stdio { program, cwd, .. }) =
        config.settings.servers.get("a").map(|server| &server.upstream)
    else {
        panic!()
    };
    assert_eq!((program.as_str(), cwd.as_deref()), ("/etc/./run.sh", Some(Path::new("/etc/w"))));
}

#[test]
fn the_command_line_wins_and_is_judged_too() {
    let open = Overrides { listen: Some(([0, 0, 0, 0], 7300).into()), ..Overrides::default() };
    let mistakes = Config::parse("", None, &open).unwrap_err();
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes.iter().all(|mistake| mistake.key == "listen.address"), "{mistakes:?}");
}

#[test]
fn huge_deep_and_exploding_files_are_refused_quickly() {
    let started = std::time::Instant::now();
    let bomb = format!("a: &a [1]\n{}", (0..50).map(|i| format!("k{i}: [*a, *a, *a]\n")).collect::<String>());
    for text in [
        "x".repeat(2_000_000),
        "[".repeat(100_000),
        "{a: ".repeat(50_000),
        "- ".repeat(100_000),
        "a: 1\n".repeat(200_000),
        bomb,
    ] {
        assert!(load(&text).is_err());
    }
    assert!(started.elapsed().as_secs() < 120);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_the_loader_panic(text in "\\PC*") {
        let _ = load(&text);
    }

    #[test]
    fn no_mutation_of_the_example_makes_the_loader_panic(at in 0..EXAMPLE.len(), cut in 0_usize..20, with in "[\\[\\]{}:,&*!#'\"|>?\\-\\n\\t a-z0-9]{0,6}") {
        let bytes = EXAMPLE.as_bytes();
        let end = (at + cut).min(bytes.len());
        let mut text = String::from_utf8_lossy(&bytes[..at]).into_owned();
        text.push_str(&with);
        text.push_str(&String::from_utf8_lossy(&bytes[end..]));
        if let Err(mistakes) = Config::parse(&text, None, &Overrides::default()) {
            prop_assert!(!mistakes.is_empty());
        }
    }
}
