//! Rules about modules: every file belongs to one, and the modules of a crate form no ring.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{Finding, Tree};
use crate::source::{Source, words};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// A file that no `mod` and no `catalog!` names is not compiled.
pub fn unlisted(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let Some((source, inner)) = split(&file.path) else { continue };
        let stem = inner.trim_end_matches(".rs");
        if matches!(stem, "lib" | "main") || stem.starts_with("bin/") {
            continue;
        }
        let (parents, name) = match stem.rsplit_once('/') {
            None => (vec![format!("{source}lib.rs"), format!("{source}main.rs")], stem),
            Some((folder, name)) => {
                (vec![format!("{source}{folder}.rs"), format!("{source}{folder}/mod.rs")], name)
            }
        };
        let declared = tree
            .rust()
            .filter(|parent| parents.contains(&parent.path))
            .any(|parent| declares(&parent.code, name));
        if !declared && name != "mod" {
            findings.push(Finding::new(&*file.path, "is in no module and no catalogue"));
        }
    }
    Ok(findings)
}

fn declares(code: &str, name: &str) -> bool {
    let words = code.lines().flat_map(words).collect::<Vec<_>>();
    let by_mod = words.windows(2).any(|pair| matches!(pair, ["mod", second] if *second == name));
    by_mod || catalogue(&words).contains(&name)
}

/// The modules that `catalog! { NAME: [Kind] = a, b, c }` declares.
fn catalogue<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = words.iter();
    while rest.any(|word| *word == "catalog") {
        let mut listing = rest.clone().take_while(|word| **word != "}");
        if listing.any(|word| *word == "=") {
            found.extend(listing.filter(|word| **word != ",").copied());
        }
    }
    found
}

/// A ring among the top-level modules of a crate is a design without a direction.
pub fn rings(tree: &Tree) -> Result<Vec<Finding>> {
    let mut crates: BTreeMap<String, Vec<&Source>> = BTreeMap::new();
    for file in tree.rust() {
        if let Some((source, _)) = split(&file.path) {
            crates.entry(source.to_owned()).or_default().push(file);
        }
    }
    let mut findings = Vec::new();
    for (source, files) in crates {
        for ring in rings_of(&graph(&source, &files)) {
            let subject = format!("{}: {}", source.trim_end_matches("/src/"), ring.join(" → "));
            findings.push(Finding::new(subject, "a ring among modules"));
        }
    }
    Ok(findings)
}

/// `crates/x/src/` and the path below it.
fn split(path: &str) -> Option<(&str, &str)> {
    let at = path.find("src/")?;
    (at == 0 || path.get(..at)?.ends_with('/')).then(|| path.split_at(at + 4))
}

fn graph(source: &str, files: &[&Source]) -> Graph {
    let inner = |file: &Source| file.path.strip_prefix(source).unwrap_or_default().to_owned();
    let top = |file: &Source| {
        let inner = inner(file);
        inner.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
    };
    let modules = files.iter().map(|file| top(file)).collect::<BTreeSet<_>>();
    // What the root shows under its own name belongs to the module it comes from.
    let mut shown = BTreeMap::new();
    for file in files.iter().filter(|file| matches!(inner(file).as_str(), "lib.rs" | "main.rs")) {
        for path in uses(file, &modules) {
            if let [module, .., name] = path.as_slice() {
                shown.insert(name.clone(), module.clone());
            }
        }
    }
    let mut graph = Graph::new();
    for file in files {
        let own = top(file);
        if matches!(own.as_str(), "lib" | "main" | "bin" | "tests") {
            continue;
        }
        let depth = inner(file).matches('/').count() + 1;
        for name in crate_paths(file, depth) {
            let target = shown.get(&name).unwrap_or(&name);
            if modules.contains(target) && *target != own {
                graph.entry(own.clone()).or_default().insert(target.clone());
            }
        }
    }
    graph
}

/// The paths that the root takes from its modules: `use module::{A, b::C}`.
fn uses(file: &Source, modules: &BTreeSet<String>) -> Vec<Vec<String>> {
    let code = file.shipped().collect::<Vec<_>>().join("\n");
    let words = words_of(&code);
    let mut found = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if word == "use" {
            let rest = words.get(index + 1..).unwrap_or_default();
            let tree = rest.iter().take_while(|word| *word != ";").cloned().collect::<Vec<_>>();
            found.extend(expand(&tree));
        }
    }
    found.retain(|path| path.first().is_some_and(|first| modules.contains(first)));
    found
}

/// The first name after `crate::`, or after as many `super::` as lead to the root.
fn crate_paths(file: &Source, depth: usize) -> BTreeSet<String> {
    let code = file.shipped().collect::<Vec<_>>().join("\n");
    let words = words_of(&code);
    let mut found = BTreeSet::new();
    for (index, word) in words.iter().enumerate() {
        let length = match word.as_str() {
            "crate" => 1,
            "super" => {
                let chain = words.get(index..).unwrap_or_default().chunks(3);
                let ups = chain.take_while(|part| part.first().is_some_and(|word| word == "super")).count();
                if ups != depth
                    || index
                        .checked_sub(3)
                        .is_some_and(|before| words.get(before).is_some_and(|word| word == "super"))
                {
                    continue;
                }
                1 + 3 * (ups - 1)
            }
            _ => continue,
        };
        let rest = words.get(index + length..).unwrap_or_default();
        if let [first, second, after @ ..] = rest
            && first == ":"
            && second == ":"
        {
            found.extend(expand(after).into_iter().filter_map(|path| path.into_iter().next()));
        }
    }
    found
}

fn words_of(code: &str) -> Vec<String> {
    code.lines().flat_map(words).map(str::to_owned).collect()
}

/// Expands a use tree into its paths: `a::{b, c::D}` gives `a b` and `a c D`; stops where the tree ends.
fn expand(words: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut prefixes: Vec<usize> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    for word in words {
        match word.as_str() {
            ":" => {}
            "{" => prefixes.push(path.len()),
            "," | "}" if prefixes.is_empty() => break,
            "," | "}" => {
                let keep = prefixes.last().copied().unwrap_or_default();
                if path.len() > keep {
                    paths.push(path.clone());
                }
                path.truncate(keep);
                if word == "}" {
                    prefixes.pop();
                    path.truncate(prefixes.last().copied().unwrap_or_default());
                    if prefixes.is_empty() {
                        return paths;
                    }
                }
            }
            name if name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => {
                path.push(name.to_owned())
            }
            "*" => path.push("*".to_owned()),
            _ if prefixes.is_empty() => break,
            _ => {}
        }
    }
    if prefixes.is_empty() && !path.is_empty() {
        paths.push(path);
    }
    paths
}

/// One ring for each group of modules that reach each other.
fn rings_of(graph: &Graph) -> Vec<Vec<String>> {
    let mut rings = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for start in graph.keys() {
        if known.contains(start) {
            continue;
        }
        if let Some(ring) = way_back(graph, start) {
            known.extend(ring.iter().cloned());
            rings.push(ring);
        }
    }
    rings
}

/// The shortest way from a module to itself.
fn way_back(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last()?;
            for next in graph.get(last).into_iter().flatten() {
                let mut further = way.clone();
                further.push(next.clone());
                if next == start {
                    return Some(further);
                }
                if seen.insert(next.clone()) {
                    longer.push(further);
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| Source::new(path, (*text).to_owned())).collect();
        Tree { files, root: ".".into() }
    }

    #[test]
    fn a_ring_is_found_through_paths_groups_and_what_the_root_shows() {
        let direct = [("c/src/a.rs", "use crate::b::X;\n"), ("c/src/b.rs", "fn f() { crate::a::g() }\n")];
        assert_eq!(rings(&tree(&direct)).unwrap().len(), 1);
        let grouped = [("c/src/a.rs", "use crate::{b::{X, y}, z};\n"), ("c/src/b.rs", "use super::a;\n")];
        assert_eq!(rings(&tree(&grouped)).unwrap().len(), 1);
        let shown = [
            ("c/src/lib.rs", "mod a;\npub use a::{Alpha, inner::Other};\n"),
            ("c/src/a/deep.rs", "use crate::b;\n"),
            ("c/src/b.rs", "use crate::Other;\n"),
        ];
        assert_eq!(rings(&tree(&shown)).unwrap().len(), 1);
    }

    #[test]
    fn a_line_of_modules_is_no_ring() {
        let files = [
            ("c/src/lib.rs", "mod a; mod b; pub use a::A;\n"),
            (
                "c/src/a.rs",
                "// crate::b\nuse crate::Missing;\n#[cfg(test)]\nmod tests { use crate::b::B; }\n",
            ),
            ("c/src/b.rs", "use crate::A;\n"),
            ("c/src/b/deep.rs", "use super::super::a; use super::deeper;\n"),
        ];
        assert!(rings(&tree(&files)).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_nobody_names_is_found() {
        let files = [
            ("c/src/lib.rs", "mod list; mod plain;\n"),
            ("c/src/list.rs", "catalog! { pub CATALOG: [Kind<Box<dyn T>>] = one, two, }\n"),
            ("c/src/list/one.rs", ""),
            ("c/src/list/two.rs", ""),
            ("c/src/list/lost.rs", ""),
            ("c/src/plain.rs", "// mod hidden;\n"),
            ("c/src/plain/hidden.rs", ""),
        ];
        let found = unlisted(&tree(&files)).unwrap();
        let found = found.iter().map(|finding| finding.subject.as_str()).collect::<Vec<_>>();
        assert_eq!(found, ["c/src/list/lost.rs", "c/src/plain/hidden.rs"]);
    }
}
