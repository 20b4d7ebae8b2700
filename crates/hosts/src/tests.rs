//! Every format and every export, on what a client, a person or a stranger may have written.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    FORMATS, Places, backup,
    document::{self, Dialect},
    entry::Reach,
    export::{CLIENTS, Client, Shim, with_allowed},
    read,
};

const SHIM: Shim<'static> = Shim { program: "portcullis", key: "env:PORTCULLIS_KEY" };

fn places(folder: &Path) -> Places {
    Places { home: folder.join("home"), config: folder.join("home/.config"), project: folder.join("project") }
}

#[test]
fn a_file_is_known_by_its_place_and_its_form_and_an_unknown_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let server = json!({"command": "x", "args": ["${HOME}/a"]});
    for (file, text, format) in [
        (".vscode/mcp.json", json!({"servers": {"s": server}}), "vscode"),
        (".cursor/mcp.json", json!({"mcpServers": {"s": server}}), "cursor"),
        (".copilot/mcp-config.json", json!({"mcpServers": {"s": server}}), "copilot"),
        ("claude_desktop_config.json", json!({"mcpServers": {"s": server}}), "claude-desktop"),
        ("mcp.json", json!({"mcpServers": {"s": server}}), "inspector"),
        (".mcp.json", json!({"mcpServers": {"s": server}}), "claude-code"),
        (
            "server.json",
            json!({"name": "a/s", "packages": [{"identifier": "s", "registryType": "npm"}]}),
            "server-json",
        ),
    ] {
        let file = places.project.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text.to_string()).unwrap();
        let found = read(&file, None, &places, Path::new("/b"));
        assert_eq!(found.format, format);
        let entries = found.entries.unwrap();
        assert!(matches!(entries[0].reach, Ok(Reach::Stdio { .. })), "{entries:?}");
    }
    let other = places.project.join("other.json");
    fs::write(&other, "{\"a\": 1}").unwrap();
    assert!(read(&other, None, &places, Path::new("/b")).entries.is_err());
}

#[test]
fn an_undo_brings_back_the_bytes_and_takes_away_nothing_that_was_written_since() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.json");
    fs::write(&file, "one").unwrap();
    backup::keep(&file, Some("one"), "two").unwrap();
    fs::write(&file, "two").unwrap();
    backup::keep(&file, Some("two"), "three").unwrap();
    fs::write(&file, "changed").unwrap();
    assert!(backup::undo(&file).unwrap_err().contains("changed since"));
    fs::write(&file, "three").unwrap();
    backup::undo(&file).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "one");
    assert!(backup::undo(&file).is_err(), "once");
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_backup_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("f.json"), folder.path().join("other"));
    fs::write(&other, "mine").unwrap();
    std::os::unix::fs::symlink(&other, folder.path().join("f.json.before-portcullis")).unwrap();
    backup::keep(&file, None, "two").unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
}

#[test]
fn a_list_of_what_is_allowed_names_every_server_and_replaces_another_only_when_told_to() {
    let servers = [("s".to_owned(), "http://127.0.0.1:7300/mcp/s".to_owned())];
    let before = "{\"model\": \"auto\"}";
    let after = with_allowed(Some(before), &servers, false).unwrap();
    let value = document::parse(&after, Dialect::Json).unwrap();
    assert_eq!(
        value,
        json!({"model": "auto", "allowedMcpServers": [{"serverUrl": "http://127.0.0.1:7300/mcp/s"}]})
    );
    assert!(with_allowed(Some(&after), &servers, false).is_err());
    assert_eq!(with_allowed(Some(&after), &servers, true), Ok(after));
    for bad in ["[]", "{", "{\"a\": 1, // c\n}", "{\"a\": 1, \"a\": 2}"] {
        assert!(with_allowed(Some(bad), &servers, true).is_err(), "{bad}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~é\\\\\"]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z$]{0,8}|mcpServers|servers|inputs|s", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn without<'v>(value: &'v Value, names: &[&str]) -> Vec<(&'v String, &'v Value)> {
    value.as_object().into_iter().flatten().filter(|(name, _)| !names.contains(&name.as_str())).collect()
}

proptest! {
    #[test]
    fn an_export_changes_its_own_servers_and_nothing_else(value in value(), replace: bool) {
        let before = value.to_string();
        let servers = [("s".to_owned(), "http://127.0.0.1:7300/mcp/s".to_owned())];
        for client in CLIENTS {
            let Ok(after) = client.with_servers(Some(&before), &servers, SHIM, replace) else { continue };
            let after = document::parse(&after, Dialect::Json).unwrap();
            let own = ["mcpServers", "servers", "inputs"];
            prop_assert_eq!(without(&value, &own), without(&after, &own), "{}", client.name);
            for member in own {
                let (old, new) = (value.get(member), after.get(member));
                let (Some(Value::Object(_)), Some(new)) = (old, new) else { continue };
                prop_assert_eq!(without(&value[member], &["s"]), without(new, &["s"]));
            }
            let text = after.to_string();
            prop_assert!(text.contains("http://127.0.0.1:7300/mcp/s") && !text.contains("pcl_"));
        }
    }

    #[test]
    fn no_text_stalls_a_reader(text in "[{}\\[\\]\",:a-z/*\n0-9$]{0,80}") {
        let folder = tempfile::tempdir().unwrap();
        let places = places(folder.path());
        let file = folder.path().join("x.json");
        fs::write(&file, &text).unwrap();
        for format in FORMATS {
            let found = read(&file, Some(format), &places, Path::new("/b"));
            prop_assert_eq!(found.format, format.name);
        }
        for client in CLIENTS {
            let _refused = client.with_servers(Some(&text), &[], SHIM, false);
        }
    }
}

#[test]
fn every_client_has_one_name() {
    for client in CLIENTS {
        let same = CLIENTS.iter().filter(|other| other.name == client.name).count();
        assert_eq!((same, Client::named(client.name).map(|named| named.name)), (1, Some(client.name)));
    }
}
