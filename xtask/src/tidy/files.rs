//! Rules about single files.

use anyhow::Result;

use super::{Finding, Tree};

/// Most lines of code in a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Most lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 500;

/// A function fits on a screen.
pub fn function_length(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        for (name, line, length) in file.functions() {
            if length > FUNCTION_LINES_MAX {
                let problem = format!("line {line}: {length} lines, {FUNCTION_LINES_MAX} are allowed");
                findings.push(Finding::new(format!("{}: {name}", file.path), problem));
            }
        }
    }
    Ok(findings)
}

/// A file is about one thing.
pub fn file_length(tree: &Tree) -> Result<Vec<Finding>> {
    let long = tree.rust().filter(|file| !file.is_test()).filter_map(|file| {
        let lines = file.shipped().count();
        let problem = format!("{lines} lines, {FILE_LINES_MAX} are allowed");
        (lines > FILE_LINES_MAX).then(|| Finding::new(&*file.path, problem))
    });
    Ok(long.collect())
}

/// A file says first what it is for.
pub fn header(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let first = file.text.lines().find(|line| !line.is_empty() && !line.starts_with("#!"));
        let first = first.unwrap_or_default();
        let (fits, form) = match file.path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("rs") => (first.starts_with("//! "), "a `//!` sentence"),
            Some("py") => (first.starts_with("\"\"\""), "a docstring"),
            Some("mjs" | "js" | "go") => (first.starts_with("// "), "a `//` sentence"),
            Some("sh") => (first.starts_with("# "), "a `#` sentence"),
            _ => continue,
        };
        if !fits {
            findings.push(Finding::new(&*file.path, format!("does not start with {form} on what it is for")));
        }
    }
    Ok(findings)
}

/// Words that must not be in any file, and why. Written in two halves, so that this file does not hold them.
const BANNED: &[(&str, &str, &str)] = &[
    ("/ro", "ot/", "names a folder of one machine"),
    ("/wo", "rk/", "names a folder of one machine"),
    ("#[al", "low", "`#[expect(lint, reason = \"…\")]` is the only form of exception"),
    ("dbg", "!(", "is left from debugging"),
    ("TO", "DO", "belongs into an issue"),
    ("FIX", "ME", "belongs into an issue"),
];

/// What names a machine, hides a warning or postpones work stays out.
pub fn banned_words(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    // What the classifier learns from says what texts of others say.
    let others = |path: &str| path == "LICENSE" || path.starts_with("eval/grammar/");
    for file in tree.files.iter().filter(|file| !others(&file.path)) {
        for (first, second, reason) in BANNED {
            let word = format!("{first}{second}");
            let numbered = file.text.lines().enumerate();
            for (number, _) in numbered.filter(|(_, line)| line.contains(&word)) {
                let problem = format!("line {}: `{word}` {reason}", number + 1);
                findings.push(Finding::new(&*file.path, problem));
            }
        }
        findings.extend(foreign_registry(&file.path, &file.text));
    }
    Ok(findings)
}

/// A lock file that names a mirror does not work elsewhere.
fn foreign_registry(path: &str, text: &str) -> Option<Finding> {
    let own = "registry+https://github.com/rust-lang/crates.io-index";
    let foreign = |line: &&str| {
        (path.ends_with("Cargo.lock") && line.starts_with("source = ") && !line.contains(own))
            || (path.ends_with("package-lock.json") && line.contains("\"resolved\": \"http"))
    };
    let line = text.lines().find(foreign)?;
    Some(Finding::new(path, format!("`{}` names another registry than the public one", line.trim())))
}

/// Links between documents lead somewhere.
pub fn links(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (number, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                let outside = path.contains("://") || path.starts_with("mailto:");
                if path.is_empty() || outside || tree.root.join(folder).join(path).exists() {
                    continue;
                }
                let problem = format!("line {}: `{target}` leads nowhere", number + 1);
                findings.push(Finding::new(&*file.path, problem));
            }
        }
    }
    Ok(findings)
}

/// What stands in `](…)`, outside code.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for part in line.split('`').step_by(2) {
        let mut rest = part;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, next)) = after.split_once(')') else { break };
            found.push(target.split_whitespace().next().unwrap_or_default());
            rest = next;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn tree(path: &str, text: &str) -> Tree {
        Tree { files: vec![Source::new(path, text.to_owned())], root: ".".into() }
    }

    fn problems(rule: super::super::Rule, path: &str, text: &str) -> usize {
        rule(&tree(path, text)).unwrap().len()
    }

    #[test]
    fn lengths_are_held() {
        let body = |lines: usize| format!("//! A.\nfn a() {{\n{}}}\n", "    one();\n".repeat(lines));
        assert_eq!(problems(function_length, "a.rs", &body(70)), 0);
        assert_eq!(problems(function_length, "a.rs", &body(71)), 1);
        assert_eq!(problems(file_length, "src/a.rs", &"//\n".repeat(500)), 0);
        assert_eq!(problems(file_length, "src/a.rs", &"//\n".repeat(501)), 1);
        assert_eq!(problems(file_length, "tests/a.rs", &"//\n".repeat(501)), 0);
        let tested = format!("{}#[cfg(test)]\n{}", "a\n".repeat(400), "b\n".repeat(400));
        assert_eq!(problems(file_length, "src/a.rs", &tested), 0);
    }

    #[test]
    fn every_file_says_what_it_is_for() {
        assert_eq!(problems(header, "a.rs", "use x;\n"), 1);
        assert_eq!(problems(header, "a.rs", "//! A.\n"), 0);
        assert_eq!(problems(header, "a.py", "#!/usr/bin/env python3\n\"\"\"A.\"\"\"\n"), 0);
        assert_eq!(problems(header, "a.py", "import x\n"), 1);
    }

    #[test]
    fn banned_words_are_found_anywhere() {
        let word = ["/ro", "ot/x"].concat();
        assert_eq!(problems(banned_words, "a.txt", &format!("in {word}\n")), 1);
        let lock = "source = \"registry+https://mirror.example/index\"\n";
        assert_eq!(problems(banned_words, "Cargo.lock", lock), 1);
        let own = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert_eq!(problems(banned_words, "Cargo.lock", own), 0);
    }

    #[test]
    fn links_must_resolve() {
        assert_eq!(targets("[a](b.md#c) `[x](y)` [d](e \"title\")"), ["b.md#c", "e"]);
        assert_eq!(problems(links, "a.md", "[x](no/such/file.md)\n"), 1);
        assert_eq!(problems(links, "a.md", "[x](https://example.org) [y](#here)\n```\n[z](no)\n```\n"), 0);
    }
}
