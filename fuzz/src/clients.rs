//! What strangers write for MCP clients: their configuration files, and bundles.

use std::path::{Path, PathBuf};

use portcullis_hosts::document::{self, Dialect};
use portcullis_hosts::entry::{Entry, Origin, Reach};
use portcullis_hosts::export::{CLIENTS, Shim};
use portcullis_hosts::{FORMATS, Reading, entry, mcpb};
use serde_json::Value;

/// A file is read or refused in each form; what is strict JSON means the same where comments are allowed;
/// and an export into it can be read again.
pub fn host_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let strict = document::parse(text, Dialect::Json);
    if let Ok(value) = &strict {
        assert_eq!(document::parse(text, Dialect::Jsonc).as_ref(), Ok(value), "JSON is JSON with comments");
    }
    let origin = origin(PathBuf::from("/project/file.json"));
    for format in FORMATS {
        let Ok(value) = document::parse(text, format.dialect) else { continue };
        if let Ok(entries) = entries(format.reading, &value, &origin) {
            checked(&entries);
        }
    }
    let servers = [("s".to_owned(), "http://127.0.0.1:7300/mcp/s".to_owned())];
    let shim = Shim { program: "portcullis", key: "env:PORTCULLIS_KEY" };
    for client in CLIENTS {
        if let Ok(after) = client.with_servers(Some(text), &servers, shim, true) {
            assert!(document::parse(&after, Dialect::Jsonc).is_ok(), "{}: {after}", client.name);
        }
    }
}

/// A bundle is read or refused, and unpacking it writes nothing beside its folder.
pub fn bundle(data: &[u8]) {
    let folder = folder();
    let (file, bundles) = (folder.join("x.mcpb"), folder.join("bundles"));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    std::fs::write(&file, data).expect("a file in it too");
    if let Ok(entries) = mcpb::read(&origin(file.clone())) {
        checked(&entries);
    }
    let unpacked = mcpb::unpack(&file, &bundles);
    let mut beside: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is still there")
        .map(|entry| entry.expect("and can be listed").file_name())
        .collect();
    beside.retain(|name| name != "x.mcpb" && name != "bundles");
    assert!(beside.is_empty(), "{unpacked:?} wrote {beside:?}");
    std::fs::remove_dir_all(folder).expect("the temporary folder can be removed");
}

fn entries(reading: Reading, value: &Value, origin: &Origin) -> Result<Vec<Entry>, String> {
    match reading {
        Reading::Servers { member, plain } => entry::under(value, member, &origin.expansion(plain)),
        Reading::Own(read) => read(value, origin),
    }
}

fn checked(entries: &[Entry]) {
    for entry in entries {
        match &entry.reach {
            Ok(Reach::Stdio { command, .. }) => assert!(!command.is_empty(), "a command has a program"),
            Ok(Reach::Http { older, .. }) => {
                assert_eq!(*older, entry.notes.iter().any(|note| note.contains("HTTP+SSE")));
            }
            Err(reason) => assert!(!reason.is_empty(), "a refusal has a reason"),
        }
    }
}

fn origin(file: PathBuf) -> Origin {
    Origin {
        file,
        home: PathBuf::from("/home/u"),
        project: Some(PathBuf::from("/project")),
        bundles: Path::new("/data/bundles").to_path_buf(),
    }
}

/// Bundles are read from files.
fn folder() -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("portcullis-fuzz-bundle-{}-{number}", std::process::id()))
}
