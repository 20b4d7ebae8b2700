//! The configuration files of MCP hosts and the forms in which servers are published: what they declare, and how a
//! gateway gets into them. Reading decides nothing; what is read waits for a person.

pub mod backup;
mod clients;
pub mod document;
pub mod entry;
pub mod export;
pub mod mcpb;
pub mod placeholder;
pub mod replace;
mod server_json;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::{
    document::Dialect,
    entry::{Entry, Origin},
};

/// Where files are looked for.
#[derive(Clone, Debug)]
pub struct Places {
    /// The user's home.
    pub home: PathBuf,
    /// Where programs keep the user's settings.
    pub config: PathBuf,
    /// The project: the current folder.
    pub project: PathBuf,
}

/// One form of file.
#[derive(Debug)]
pub struct Format {
    /// On the command line.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// How much more than JSON its client reads.
    pub dialect: Dialect,
    /// Where its client keeps files, of the user and of the project.
    pub files: fn(&Places) -> Vec<PathBuf>,
    /// Whether a file that somebody names is of this form.
    pub fits: fn(&Path, &Value) -> bool,
    /// How the servers in it are read.
    pub reading: Reading,
}

/// How the servers in a file are read.
#[derive(Clone, Copy, Debug)]
pub enum Reading {
    /// They stand by name under `member`, in the form that most clients share; `plain` says whether `${NAME}` is a
    /// variable of the environment.
    Servers {
        /// The member of the root.
        member: &'static str,
        /// Whether `${NAME}` is a variable.
        plain: bool,
    },
    /// In a form of its own.
    Own(fn(&Value, &Origin) -> Result<Vec<Entry>, String>),
}

impl Format {
    fn read(&self, value: &Value, origin: &Origin) -> Result<Vec<Entry>, String> {
        match self.reading {
            Reading::Servers { member, plain } => entry::under(value, member, &origin.expansion(plain)),
            Reading::Own(read) => read(value, origin),
        }
    }
}

/// Every form. Where several fit a file, the first counts.
pub const FORMATS: &[Format] = &[
    server_json::FORMAT,
    clients::VSCODE,
    clients::CLAUDE_DESKTOP,
    clients::CURSOR,
    clients::COPILOT,
    clients::INSPECTOR,
    clients::CLAUDE_CODE,
];

/// The form of that name.
pub fn named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// What was read from one file.
#[derive(Debug)]
pub struct Found {
    /// The form's name.
    pub format: &'static str,
    /// The form's title.
    pub title: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Its servers, or why it is refused.
    pub entries: Result<Vec<Entry>, String>,
}

/// Reads every file that is where one of these clients keeps it.
pub fn discover(places: &Places, bundles: &Path, wanted: impl Fn(&Format) -> bool) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for format in FORMATS.iter().filter(|format| wanted(format)) {
        for file in (format.files)(places) {
            if std::fs::symlink_metadata(&file).is_ok() && found.iter().all(|other| other.file != file) {
                found.push(read(&file, Some(format), places, bundles));
            }
        }
    }
    found
}

/// Reads one file, as the form that is given or as the first that fits.
pub fn read(file: &Path, format: Option<&'static Format>, places: &Places, bundles: &Path) -> Found {
    let file = places.project.join(file);
    let origin = Origin {
        project: project_of(&file, places),
        home: places.home.clone(),
        bundles: bundles.to_path_buf(),
        file: file.clone(),
    };
    if file.extension().is_some_and(|extension| extension == "mcpb" || extension == "dxt") {
        return Found { format: mcpb::NAME, title: mcpb::TITLE, entries: mcpb::read(&origin), file };
    }
    let recognised = document::read_text(&file).and_then(|text| {
        let format = match format {
            Some(format) => format,
            None => {
                let value = document::parse(&text, Dialect::Jsonc)?;
                let fits = FORMATS.iter().find(|format| (format.fits)(&file, &value));
                fits.ok_or("is the configuration of no client known here; name the client with --from")?
            }
        };
        Ok((format, document::parse(&text, format.dialect)))
    });
    match recognised {
        Ok((format, value)) => {
            let entries = value.and_then(|value| format.read(&value, &origin));
            Found { format: format.name, title: format.title, file, entries }
        }
        Err(reason) => {
            let (name, title) = format.map_or(("unknown", "unknown"), |format| (format.name, format.title));
            Found { format: name, title, file, entries: Err(reason) }
        }
    }
}

/// The project of a file: the folder of `.mcp.json`, or the one above `.vscode` and `.cursor`. The files of the user
/// belong to none.
fn project_of(file: &Path, places: &Places) -> Option<PathBuf> {
    let folder = file.parent()?;
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let project = match (name(folder).as_deref(), name(file).as_deref()) {
        (Some(".vscode" | ".cursor"), Some("mcp.json")) => folder.parent()?,
        (_, Some(".mcp.json")) => folder,
        _ => return None,
    };
    (project != places.home).then(|| project.to_path_buf())
}
