//! What the documents claim exists: every test that the map or the threat table names is a function in this tree.
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

/// Words of the form of a test's name: at least five parts. No setting, metric or limit has so many.
fn test_names(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !(letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'))
        .filter(|word| word.split('_').filter(|part| !part.is_empty()).count() >= 5)
        .map(str::to_owned)
        .collect()
}

fn functions() -> BTreeSet<String> {
    let mut sources = Vec::new();
    for folder in ["crates", "tests/tests", "tests/src", "xtask/src", "fuzz/src", "eval/src"] {
        files(&root().join(folder), "rs", &mut sources);
    }
    let mut names = BTreeSet::new();
    for source in sources {
        let text = fs::read_to_string(source).unwrap();
        names.extend(text.split("fn ").skip(1).map(|rest| {
            rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
        }));
    }
    names
}

#[test]
fn every_test_that_a_document_names_exists() {
    let functions = functions();
    let mut documents =
        vec![root().join("ARCHITECTURE.md"), root().join("SECURITY.md"), root().join("CONTRIBUTING.md")];
    files(&root().join("docs"), "md", &mut documents);
    // Its classes have the names that the corpora give them.
    documents.retain(|document| !document.ends_with("docs/reference/detection.md"));
    let (mut named, mut missing) = (0, Vec::new());
    for document in documents {
        for name in test_names(&fs::read_to_string(&document).unwrap()) {
            named += 1;
            if !functions.contains(&name) {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    assert!(named > 80, "only {named} tests are named; are the documents still where they were?");
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

#[test]
fn every_code_has_a_line_in_troubleshooting_or_in_the_page_on_limits() {
    let read = |page: &str| fs::read_to_string(root().join("docs/operate").join(page)).unwrap();
    let pages = format!("{}{}", read("troubleshooting.md"), read("limits.md"));
    let missing: Vec<_> = portcullis_core::Code::ALL
        .iter()
        .map(|code| code.name())
        .filter(|name| !pages.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "no advice on {missing:?}");
}

#[test]
fn every_file_that_the_map_names_exists() {
    let mut sources = Vec::new();
    for folder in ["crates", "tests", "xtask", "fuzz", "benches"] {
        files(&root().join(folder), "rs", &mut sources);
    }
    let paths: Vec<_> = sources.iter().map(|path| path.display().to_string()).collect();
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let word = |letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '/' | '.'));
    let named: BTreeSet<_> = map.split(word).filter(|word| word.ends_with(".rs")).collect();
    assert!(named.len() > 60, "only {} files are named", named.len());
    let gone = named.iter().filter(|file| !paths.iter().any(|path| path.ends_with(&format!("/{file}"))));
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&&str>::new());
}
