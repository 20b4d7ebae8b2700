//! Which files a program needs to start at all: those of the system, and those that lie around the program itself.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::Words;

/// Programs, libraries, and what name lookup, TLS and time zones read. Nothing that holds a secret.
const USUAL: &[&str] = &[
    "/bin",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/self",
    "/proc/stat",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/uptime",
    "/proc/version",
    "/run/systemd/resolve",
    "/sbin",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/usr",
];

/// Devices that hold nothing and lead nowhere.
#[cfg(target_os = "linux")]
pub(super) const DEVICES: &[&str] = &["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];

/// Folders beside the `bin` of an installed interpreter.
const BESIDE_BIN: [&str; 6] = ["bin", "include", "lib", "lib64", "libexec", "pyvenv.cfg"];

/// Files that mark the top of a project.
const PROJECT: [&str; 5] = ["Cargo.toml", "go.mod", "node_modules", "package.json", "pyproject.toml"];

/// Bytes of a script's first line.
const SHEBANG_BYTES_MAX: u64 = 256;

/// How far above a script the top of its project is looked for.
const ABOVE_MAX: usize = 4;

/// Entries of a folder that are named one by one where the folder as a whole would uncover too much.
const ENTRIES_MAX: usize = 1_000;

/// What every program may read.
#[must_use]
pub fn usual() -> BTreeSet<PathBuf> {
    USUAL.iter().map(PathBuf::from).collect()
}

/// What this command needs beyond: the program's own installation, the project of a script that it is to run, and the
/// working directory where one was declared. Folders among the arguments are not implied: they are data.
#[must_use]
pub fn implied(words: &Words<'_>, hidden: &[PathBuf]) -> BTreeSet<PathBuf> {
    let home = words.home.map(Path::new);
    let mut found = BTreeSet::new();
    if let Some(program) = located(words.program, words.path) {
        let interpreter = interpreter(&program, words.path);
        if let (Some(_), Ok(script)) = (&interpreter, program.canonicalize()) {
            found.extend(project(&script, home));
        }
        for program in [Some(program), interpreter].into_iter().flatten() {
            // Of a link both ends are needed: what it names, and where it lies (a virtual environment).
            found.extend(program.canonicalize().iter().flat_map(|target| installation(target)));
            found.extend(installation(&program));
        }
    }
    let script = words.args.iter().map(|arg| from(words.cwd, arg)).find(|path| path.is_file());
    if let Some(script) = script.and_then(|script| script.canonicalize().ok()) {
        found.extend(project(&script, home));
        found.insert(script);
    }
    found.extend(words.cwd.map(Path::to_path_buf));
    found.into_iter().flat_map(|path| without(path, home, hidden)).collect()
}

fn from(cwd: Option<&Path>, word: &str) -> PathBuf {
    cwd.map_or_else(|| PathBuf::from(word), |cwd| cwd.join(word))
}

fn located(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    std::env::split_paths(path?).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// The program that runs a script: the first line names it, directly or through `env`.
fn interpreter(script: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let mut head = Vec::new();
    fs::File::open(script).ok()?.take(SHEBANG_BYTES_MAX).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let program = words.next()?;
    if !program.ends_with("/env") {
        return Some(PathBuf::from(program));
    }
    located(words.find(|word| !word.starts_with('-') && !word.contains('='))?, path)
}

/// A program alone, or with the libraries beside its `bin`.
fn installation(program: &Path) -> Vec<PathBuf> {
    let mut found = vec![program.to_path_buf()];
    if let Some(bin) = program.parent().filter(|folder| folder.ends_with("bin"))
        && let Some(prefix) = bin.parent()
    {
        found.extend(BESIDE_BIN.iter().map(|name| prefix.join(name)).filter(|path| path.exists()));
    }
    found
}

/// The folder of a script, and the top of its project where there is one above.
fn project(script: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let private =
        |folder: &Path| folder.parent().is_none() || home.is_some_and(|home| home.starts_with(folder));
    let above = script.ancestors().skip(1).take(ABOVE_MAX).take_while(|folder| !private(folder));
    // What packages share lies beside them.
    let shared = script.ancestors().filter(|folder| folder.ends_with("node_modules")).last();
    let top = above.clone().find(|folder| PROJECT.iter().any(|name| folder.join(name).exists()));
    above.take(1).chain(top).chain(shared).map(Path::to_path_buf).collect()
}

/// The path, or where it would uncover something, what lies in it beside that.
fn without(path: PathBuf, home: Option<&Path>, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let uncovers =
        |path: &Path| hidden.iter().any(|hidden| hidden.starts_with(path) || path.starts_with(hidden));
    if home.is_some_and(|home| home.starts_with(&path))
        || hidden.iter().any(|hidden| path.starts_with(hidden))
    {
        return Vec::new();
    }
    if !uncovers(&path) {
        return vec![path];
    }
    let entries = fs::read_dir(&path).into_iter().flatten().flatten().take(ENTRIES_MAX);
    entries.map(|entry| entry.path()).filter(|entry| !uncovers(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_brings_its_project_and_never_the_home_or_the_gateways_own_files() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let project = home.join("work/server");
        fs::create_dir_all(project.join("dist")).unwrap();
        fs::create_dir_all(project.join("data/ledger")).unwrap();
        for name in ["package.json", "dist/index.js", "portcullis.yaml"] {
            fs::write(project.join(name), "").unwrap();
        }
        fs::write(home.join("lone.py"), "").unwrap();
        let hidden = [project.join("data"), project.join("portcullis.yaml")];
        let words = |args: &[String]| {
            let words =
                Words { program: "/bin/true", args, cwd: None, path: None, home: Some(home.as_os_str()) };
            implied(&words, &hidden)
        };
        let script = project.join("dist/index.js");
        let found = words(&[script.display().to_string(), home.display().to_string()]);
        assert!(found.contains(&project.join("dist")) && found.contains(&project.join("package.json")));
        let covers = |path: &Path| found.iter().any(|found| path.starts_with(found));
        assert!(covers(&script));
        for secret in [home.join(".ssh/id"), project.join("data/ledger"), project.join("portcullis.yaml")] {
            assert!(!covers(&secret), "{}", secret.display());
        }
        let lone = home.join("lone.py");
        let found = words(&[lone.display().to_string()]);
        assert!(found.contains(&lone) && !found.contains(&home), "{found:?}");
    }

    #[test]
    fn a_package_brings_what_packages_share_and_a_script_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let modules = folder.join("cache/node_modules");
        for name in ["@a/b/dist", "shared"] {
            fs::create_dir_all(modules.join(name)).unwrap();
        }
        let script = modules.join("@a/b/dist/index.js");
        fs::write(&script, "").unwrap();
        fs::write(modules.join("@a/b/package.json"), "").unwrap();
        for name in ["venv/bin", "venv/lib", "base/bin", "base/lib"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let (tool, python) = (folder.join("venv/bin/tool"), folder.join("venv/bin/python"));
        fs::write(folder.join("base/bin/python3"), "").unwrap();
        std::os::unix::fs::symlink(folder.join("base/bin/python3"), &python).unwrap();
        fs::write(&tool, format!("#!{} -I\nmore", python.display())).unwrap();
        let (program, args) = (tool.display().to_string(), [script.display().to_string()]);
        let words = Words { program: &program, args: &args, cwd: None, path: None, home: None };
        let found = implied(&words, &[]);
        for path in [modules.clone(), folder.join("venv/lib"), folder.join("base/lib")] {
            assert!(found.contains(&path), "{} in {found:?}", path.display());
        }
        let link = folder.join("cache/node_modules/.bin-tool");
        fs::write(&script, "#!/usr/bin/env node\n").unwrap();
        std::os::unix::fs::symlink(&script, &link).unwrap();
        let program = link.display().to_string();
        let words = Words { program: &program, args: &[], cwd: None, path: None, home: None };
        assert!(!implied(&words, &[]).contains(&modules), "a script without its interpreter is none");
        fs::write(&script, format!("#!{}\n", python.display())).unwrap();
        assert!(implied(&words, &[]).contains(&modules), "a link to a script brings its packages");
        let path = folder.join("venv/bin");
        fs::write(folder.join("plain"), "#!/usr/bin/env -S python -u\n").unwrap();
        let found = interpreter(&folder.join("plain"), Some(path.as_os_str()));
        assert_eq!(found, Some(python));
    }

    #[test]
    fn a_program_in_a_bin_brings_the_libraries_beside_it_and_nothing_else() {
        let prefix = tempfile::tempdir().unwrap();
        let prefix = prefix.path().canonicalize().unwrap();
        for name in ["bin", "lib/node_modules", "share/keyrings"] {
            fs::create_dir_all(prefix.join(name)).unwrap();
        }
        fs::write(prefix.join("bin/node"), "").unwrap();
        let path = prefix.join("bin");
        let words = Words { program: "node", args: &[], cwd: None, path: Some(path.as_os_str()), home: None };
        let found = implied(&words, &[]);
        assert!(found.contains(&prefix.join("lib")), "{found:?}");
        assert!(!found.iter().any(|found| prefix.join("share/keyrings").starts_with(found)), "{found:?}");
    }
}
