//! The command line as a whole: its definition, its help, its generated pages, and what needs no gateway.

use std::{fs, path::Path};

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, Common, client::Client, exit, output::Output, reference};

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example_unless_it_takes_nothing() {
    fn look(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        let takes =
            command.get_arguments().any(|argument| !argument.is_global_set() && argument.get_id() != "help");
        let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if command.get_about().is_none() || (takes && !shown.contains("portcullis")) {
            missing.push(path.to_owned());
        }
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            look(sub, &format!("{path} {}", sub.get_name()), missing);
        }
    }
    let mut missing = Vec::new();
    for sub in Cli::command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
        look(sub, sub.get_name(), &mut missing);
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_generated_pages_in_the_repository_are_current() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference"));
    for (name, text) in reference::pages() {
        let kept = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(kept == text, "docs/reference/{name} is not current; hint: cargo xtask generate");
    }
}

#[test]
fn the_help_of_every_command_is_on_the_page() {
    let pages = reference::pages();
    let (_, text) = pages.iter().find(|(name, _)| *name == "cli.md").unwrap();
    for command in [
        "run",
        "check",
        "key create",
        "key list",
        "key revoke",
        "server list",
        "server add",
        "server remove",
        "tool list",
        "tool show",
        "tool diff",
        "tool approve",
        "tool reject",
        "policy check",
        "policy explain",
        "audit tail",
        "audit query",
        "audit timeline",
        "audit graph",
        "audit export",
        "audit replay",
        "audit index status",
        "audit index rebuild",
        "audit verify",
        "audit prove",
        "wrap",
        "sample-server",
        "completions",
    ] {
        assert!(text.contains(&format!("## `portcullis {command}`")), "{command}");
    }
}

#[test]
fn wrong_usage_is_refused_by_the_parser() {
    for words in [
        "",
        "nothing",
        "key create",
        "key create x",
        "key revoke",
        "server add x",
        "server add x --url http://h/ -- prog",
        "tool show files",
        "tool show /x",
        "tool show files/x --kind robot",
        "audit tail -n 0",
        "audit prove x",
        "run --tls-cert a",
        "run --listen here",
        "policy explain a/b --key k --role r",
        "key create x --role r --expires 5",
        "policy explain a/b --arguments {",
        "completions dosshell",
    ] {
        let parsed = Cli::try_parse_from(["portcullis"].into_iter().chain(words.split_whitespace()));
        assert!(parsed.is_err_and(|error| error.exit_code() == 2 || words.is_empty()), "{words}");
    }
}

#[test]
fn without_a_gateway_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let common = Common { data: Some(folder.path().join("none")), ..Common::default() };
    assert_eq!(Client::connect(&common).unwrap_err().exit, exit::UNREACHED);
}

#[test]
fn mistakes_in_the_configuration_have_an_exit_code_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.yaml");
    fs::write(&file, "lisen: {}\nlimits: {nope: 1}\n").unwrap();
    let common = Common { config: Some(file), ..Common::default() };
    let failure = super::check::check(&common, &Output::new(false)).unwrap_err();
    assert_eq!(failure.exit, exit::MISTAKES);
    assert!(failure.text.contains("portcullis.yaml:1:1: lisen: unknown key"), "{}", failure.text);
    assert_eq!(failure.json["mistakes"].as_array().unwrap().len(), 2);
}

mod verification {
    use std::{fs, sync::Arc};

    use portcullis_core::Limits;
    use portcullis_proof::SigningKey;
    use portcullis_store::{FileLedger, FileLedgerOptions, Ledger as _, Sqlite};

    use super::super::{Command, Common, audit, exit, output::Output};
    use clap::Parser as _;

    /// A data directory as a gateway leaves it behind.
    fn data(entries: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed("cli.test/ledger", [3; 32]).unwrap();
        let file = folder.path().join("ledger.key");
        fs::write(&file, key.to_text().expose()).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        append(&folder, key, entries);
        folder
    }

    fn append(folder: &tempfile::TempDir, key: SigningKey, entries: usize) {
        let store = Arc::new(Sqlite::open(folder.path().join("portcullis.db")).unwrap());
        let options = FileLedgerOptions::new(folder.path().join("ledger"), key, Limits::default(), store);
        let (ledger, _) = FileLedger::open(options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for n in 0..entries {
                ledger.append(format!("{{\"n\":{n}}}").into_bytes()).await.unwrap();
            }
            ledger.close().await.unwrap();
        });
    }

    /// The exit code of `audit verify` with `words`, and what it says.
    fn verify(folder: &tempfile::TempDir, words: &[&str]) -> (u8, String) {
        let base = ["portcullis", "audit", "verify", "--data", folder.path().to_str().unwrap()];
        let cli = super::Cli::try_parse_from(base.iter().chain(words)).unwrap();
        let common = Common { config: Some("/nowhere/portcullis.yaml".into()), ..cli.common };
        let Command::Audit(command) = cli.command else { panic!() };
        match audit::carry_out(&common, command, &Output::new(true)) {
            Ok(()) => (0, String::new()),
            Err(failure) => (failure.exit, failure.text),
        }
    }

    #[test]
    fn a_sound_ledger_verifies_with_its_own_key_and_with_a_given_one() {
        let folder = data(5);
        assert_eq!(verify(&folder, &[]), (0, String::new()));
        let vkey = SigningKey::from_seed("cli.test/ledger", [3; 32]).unwrap().verifier().to_string();
        assert_eq!(verify(&folder, &["--vkey", &vkey]).0, 0);
        let file = folder.path().join("public");
        fs::write(&file, format!("{vkey}\n")).unwrap();
        assert_eq!(verify(&folder, &["--vkey", file.to_str().unwrap()]).0, 0);
    }

    #[test]
    fn a_changed_byte_is_named_and_has_an_exit_code_of_its_own() {
        let folder = data(5);
        let file = folder.path().join("ledger/tile/entries/000.p/5");
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.iter().position(|byte| *byte == b'3').unwrap();
        bytes[at] = b'4';
        fs::write(&file, bytes).unwrap();
        let (code, text) = verify(&folder, &[]);
        assert_eq!(code, exit::UNVERIFIED);
        assert!(text.contains("entry 3"), "{text}");
    }

    #[test]
    fn a_ledger_put_back_to_an_older_state_is_noticed_through_the_store_and_through_since() {
        let folder = data(3);
        let (ledger, older) = (folder.path().join("ledger"), folder.path().join("older"));
        copy(&ledger, &older);
        append(&folder, SigningKey::from_seed("cli.test/ledger", [3; 32]).unwrap(), 2);
        let newest = folder.path().join("newest");
        fs::copy(ledger.join("checkpoint"), &newest).unwrap();
        assert_eq!(verify(&folder, &["--since", newest.to_str().unwrap()]).0, 0);
        fs::remove_dir_all(&ledger).unwrap();
        copy(&older, &ledger);
        assert_eq!(verify(&folder, &[]).0, exit::UNVERIFIED);
        assert_eq!(verify(&folder, &["--since", newest.to_str().unwrap()]).0, exit::UNVERIFIED);
    }

    #[test]
    fn another_key_does_not_verify() {
        let folder = data(2);
        let other = SigningKey::from_seed("cli.test/ledger", [4; 32]).unwrap().verifier().to_string();
        assert_eq!(verify(&folder, &["--vkey", &other]).0, exit::UNVERIFIED);
        assert_eq!(verify(&folder, &["--vkey", "not+a+key"]).0, exit::REFUSED);
        assert_eq!(verify(&folder, &["--ledger", "/nowhere"]).0, exit::REFUSED);
    }

    fn copy(from: &std::path::Path, to: &std::path::Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}
