//! The sandbox of an imported server: closed, but for what its command obviously needs.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Paths among the arguments that are opened.
const PATHS_MAX: usize = 20;

/// What the command may not be given, and where bundles are.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Surroundings {
    pub(in crate::cli) home: PathBuf,
    pub(in crate::cli) bundles: PathBuf,
    /// The gateway's own files: opening them, or a folder around them, would be refused.
    pub(in crate::cli) hidden: Vec<PathBuf>,
}

/// The section `sandbox` for a command whose words are known.
pub(in crate::cli) fn section(words: &[String], around: &Surroundings) -> Value {
    let program = words.first().and_then(|word| Path::new(word).file_name()?.to_str()).unwrap_or_default();
    let cache = |folder: &str| around.home.join(folder).display().to_string();
    let mut members = Map::new();
    // Package runners keep what they fetched in the home folder, and fetch from one registry.
    let (write, allow): (Vec<String>, &[&str]) = match program {
        "npx" | "npm" => (vec![cache(".npm")], &["registry.npmjs.org"]),
        "uvx" | "uv" => {
            (vec![cache(".cache/uv"), cache(".local/share/uv")], &["pypi.org", "files.pythonhosted.org"])
        }
        _ => (Vec::new(), &[]),
    };
    let mut read: Vec<String> =
        words.iter().filter_map(|word| bundle(word, &around.bundles)).take(1).collect();
    read.extend(words.iter().filter_map(|word| data(word, around)).take(PATHS_MAX));
    if !read.is_empty() {
        members.insert("read".into(), json!(read));
    }
    if !write.is_empty() {
        members.insert("write".into(), json!(write));
        members.insert("allow".into(), json!(allow));
    }
    Value::Object(members)
}

/// The folder of the bundle that a word points into.
fn bundle(word: &str, bundles: &Path) -> Option<String> {
    let inside = Path::new(word).strip_prefix(bundles).ok()?;
    Some(bundles.join(inside.components().next()?).display().to_string())
}

/// A file or folder that the command names, by the name that no symbolic link is in: a person judges what is opened, and
/// it stays what it was. Neither everything nor the whole home is opened by an import.
fn data(word: &str, around: &Surroundings) -> Option<String> {
    let path = Path::new(word);
    let inside = path.starts_with(&around.bundles) || path.components().any(|part| part.as_os_str() == "..");
    if inside || !path.is_absolute() {
        return None;
    }
    let real = path.canonicalize().ok()?;
    let home = around.home.canonicalize().unwrap_or_else(|_| around.home.clone());
    let hides = |hidden: &PathBuf| hidden.starts_with(&real) || real.starts_with(hidden);
    let too_much =
        home.starts_with(&real) || around.home.starts_with(path) || around.hidden.iter().any(hides);
    (!too_much).then(|| real.to_str().map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Surroundings, section};

    fn of(words: &[&str]) -> serde_json::Value {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let hidden = vec!["/usr/share".into()];
        section(&words, &Surroundings { home: "/home/u".into(), bundles: "/b".into(), hidden })
    }

    #[test]
    fn a_command_gets_what_it_names_and_what_its_runner_needs_and_nothing_wider() {
        assert_eq!(of(&["server", "--verbose"]), json!({}));
        assert_eq!(of(&["server", "/", "/home", "/home/u", "/usr/../etc", "/no/such"]), json!({}));
        assert_eq!(
            of(&["server", "/usr/lib"]),
            json!({"read": [std::fs::canonicalize("/usr/lib").unwrap()]})
        );
        assert_eq!(of(&["server", "/usr", "/usr/share"]), json!({}), "the gateway's own files are there");
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        for (link, target) in [("all", "/"), ("homes", "/home"), ("lib", "/usr/lib/../lib")] {
            std::os::unix::fs::symlink(target, real.join(link)).unwrap();
        }
        let linked = |link: &str| of(&["server", &real.join(link).display().to_string()]);
        assert_eq!((linked("all"), linked("homes")), (json!({}), json!({})), "a link opens what it leads to");
        let shown = std::fs::canonicalize("/usr/lib").unwrap();
        assert_eq!(linked("lib"), json!({"read": [shown]}), "and that is what a person sees");
        assert_eq!(of(&["/b/1/run", "/b/1/data"]), json!({"read": ["/b/1"]}));
        assert_eq!(
            of(&["/opt/bin/npx", "-y", "x"]),
            json!({"write": ["/home/u/.npm"], "allow": ["registry.npmjs.org"]})
        );
    }
}
