//! Payload lists that others wrote, against declared meanings: what passes leads where it was declared to lead.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use portcullis_meaning::{
    CommandRule, Dialect, EmailRule, HostRule, IdentifierRule, LiteralRule, Meaning, PathRule, SqlRule,
    UrlRule,
};
use serde_json::Value;
use url::Url;

fn vectors(name: &str) -> String {
    let path = format!("{}/../../../shared/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lines(name: &str) -> Vec<String> {
    let lines: Vec<String> =
        vectors(name).lines().filter(|line| !line.trim().is_empty()).map(Into::into).collect();
    assert!(!lines.is_empty(), "{name}");
    lines
}

fn url(to: &[&str]) -> Meaning {
    let schemes = vec!["https".to_owned(), "http".to_owned()];
    let hosts = HostRule::new(to.iter().copied(), false).unwrap();
    Meaning::Url(UrlRule { hosts, schemes, ports: Vec::new() })
}

#[test]
fn no_traversal_of_the_lists_leaves_the_folder() {
    let rule = Meaning::Path(PathRule::new(["/srv/docs"], true).unwrap());
    let lists = ["directory_traversal.txt", "traversals-8-deep-exotic-encoding.txt", "Linux-files.txt"];
    let (mut refused, mut all) = (0, 0);
    for line in lists.iter().flat_map(|list| lines(&format!("payloads/payloadsallthethings/{list}"))) {
        let payload = line.replace("{FILE}", "etc/passwd");
        for text in [
            payload.clone(),
            format!("/srv/docs{payload}"),
            format!("/srv/docs/a/{payload}"),
            format!("a/{payload}"),
        ] {
            all += 1;
            if rule.check(&text).is_err() {
                refused += 1;
                continue;
            }
            // As POSIX resolves it, with escapes decoded once and twice.
            let mut reading = text.clone();
            for _ in 0..3 {
                let whole =
                    if reading.starts_with('/') { reading.clone() } else { format!("/srv/docs/{reading}") };
                let mut stack: Vec<&str> = Vec::new();
                for part in whole.split(['/', '\\']) {
                    match part {
                        "" | "." => {}
                        ".." => drop(stack.pop()),
                        other => stack.push(other),
                    }
                }
                assert!(stack.starts_with(&["srv", "docs"]), "{text:?} leads to {stack:?}");
                reading = percent_encoding::percent_decode_str(&reading).decode_utf8_lossy().into_owned();
            }
        }
    }
    assert!(refused * 10 > all * 6, "{refused} of {all}");
}

#[test]
fn no_url_of_the_lists_leads_anywhere_else() {
    let rule = url(&["www.whitelisteddomain.tld"]);
    let (mut refused, lines) = (0, lines("payloads/payloadsallthethings/Open-Redirect-payloads.txt"));
    for line in &lines {
        for text in
            [line.clone(), format!("https:{line}"), format!("https://www.whitelisteddomain.tld{line}")]
        {
            match rule.check(&text) {
                Ok(()) => {
                    let host = Url::parse(&text).unwrap();
                    assert_eq!(host.host_str(), Some("www.whitelisteddomain.tld"), "{text}");
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > lines.len(), "{refused}");
    let targets: Value = serde_json::from_str(&vectors("own/ssrf-targets.json")).unwrap();
    let any = url(&["*"]);
    let urls = |key: &str| -> Vec<String> {
        let cases = targets[key].as_array().unwrap().iter();
        cases.map(|case| case["url"].as_str().unwrap().to_owned()).collect()
    };
    for case in urls("deny") {
        assert!(any.check(&case).is_err(), "{case}");
    }
    for case in urls("allow") {
        assert_eq!(any.check(&case), Ok(()), "{case}");
    }
}

#[test]
fn no_command_of_the_lists_is_a_plain_word() {
    let rules = [
        Meaning::Command(CommandRule { programs: vec!["git".to_owned()] }),
        Meaning::Identifier(IdentifierRule { length_max: 1_024 }),
        Meaning::Email(EmailRule::new(["example.com"]).unwrap()),
        Meaning::Sql(SqlRule { dialect: Dialect::Generic, tables: None, functions: None }),
    ];
    let literal = Meaning::Literal(LiteralRule { length_max: 65_536 });
    for list in [
        "payloadsallthethings/command-execution-unix.txt",
        "payloadsallthethings/command_exec.txt",
        "payloadsallthethings/ssti.fuzz",
        "payloadsallthethings/crlfinjection.txt",
        "fuzzdb/command-injection-template.txt",
        "fuzzdb/terminal-escape-codes.txt",
        "fuzzdb/crlf-injection.txt",
    ] {
        for line in lines(&format!("payloads/{list}")) {
            for rule in &rules {
                let word = matches!(rule, Meaning::Identifier(_))
                    && line.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
                assert!(word || rule.check(&line).is_err(), "{list}: {line:?} passes {rule:?}");
            }
            if line.contains([';', '|', '&', '`', '$', '<', '>', '{', '%', '\\', '\'', '"', '(']) {
                assert!(literal.check(&line).is_err(), "{list}: {line:?}");
            }
        }
    }
}

#[test]
fn naughty_strings_make_no_meaning_panic_and_pass_for_no_query_path_or_host() {
    let all: Vec<String> = serde_json::from_str(&vectors("naughty-strings/blns.json")).unwrap();
    assert!(all.len() > 400);
    let path = Meaning::Path(PathRule::new(["/srv/docs"], true).unwrap());
    let sql = Meaning::Sql(SqlRule { dialect: Dialect::Sqlite, tables: Some(Vec::new()), functions: None });
    let host = Meaning::Host(HostRule::new(["*"], false).unwrap());
    for text in &all {
        let _ = path.check(text);
        assert!(!(text.contains("../..") || text.starts_with('/')) || path.check(text).is_err(), "{text:?}");
        assert!(sql.check(text).is_err(), "{text:?}");
        let name =
            text.contains('.') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:[]".contains(&b));
        assert!(name || host.check(text).is_err(), "{text:?}");
    }
}
