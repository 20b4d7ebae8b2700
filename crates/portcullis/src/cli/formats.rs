//! The configuration files of MCP clients and the forms in which servers are published: one file for each, one line in
//! the list. Reading decides nothing; what is read waits for a person.

mod claude_code;
mod claude_desktop;
mod copilot;
mod cursor;
pub(crate) mod document;
pub(crate) mod entry;
mod inspector;
pub(crate) mod mcpb;
pub(crate) mod placeholder;
mod server_json;
mod vscode;

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::{
    document::Dialect,
    entry::{Entry, Origin},
};

/// Where files are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The user's home.
    pub(crate) home: PathBuf,
    /// Where programs keep the user's settings.
    pub(crate) config: PathBuf,
    /// The project: the current folder.
    pub(crate) project: PathBuf,
}

impl Places {
    /// Of this user, in this folder.
    pub(crate) fn here() -> Result<Self, String> {
        let home = std::env::home_dir().ok_or("the home directory is unknown; set HOME")?;
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let project = std::env::current_dir().map_err(|error| format!("the current folder: {error}"))?;
        Ok(Self { config: config.unwrap_or_else(|| home.join(".config")), home, project })
    }
}

/// One form of file.
#[derive(Debug)]
pub(crate) struct Format {
    /// On the command line.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    /// How much more than JSON its client reads.
    pub(crate) dialect: Dialect,
    /// Where its client keeps files, of the user and of the project.
    pub(crate) files: fn(&Places) -> Vec<PathBuf>,
    /// Whether a file that somebody names is of this form.
    pub(crate) fits: fn(&Path, &Value) -> bool,
    /// The servers in it.
    pub(crate) read: fn(&Value, &Origin) -> Result<Vec<Entry>, String>,
}

/// Every form. Where several fit a file, the first counts.
pub(crate) const FORMATS: &[Format] = &[
    server_json::FORMAT,
    vscode::FORMAT,
    claude_desktop::FORMAT,
    cursor::FORMAT,
    copilot::FORMAT,
    inspector::FORMAT,
    claude_code::FORMAT,
];

/// The form of that name.
pub(crate) fn named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// What was read from one file.
#[derive(Debug)]
pub(crate) struct Found {
    /// The form's name.
    pub(crate) format: &'static str,
    /// The form's title.
    pub(crate) title: &'static str,
    /// The file.
    pub(crate) file: PathBuf,
    /// Its servers, or why it is refused.
    pub(crate) entries: Result<Vec<Entry>, String>,
}

/// Reads every file that is where one of these clients keeps it.
pub(crate) fn discover(places: &Places, bundles: &Path, wanted: impl Fn(&Format) -> bool) -> Vec<Found> {
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
pub(crate) fn read(file: &Path, format: Option<&'static Format>, places: &Places, bundles: &Path) -> Found {
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
            let entries = value.and_then(|value| (format.read)(&value, &origin));
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

/// Whether a path has a component of this name.
fn within(path: &Path, name: &str) -> bool {
    path.components().any(|component| component.as_os_str() == name)
}
