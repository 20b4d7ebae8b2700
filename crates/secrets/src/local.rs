//! Secrets that this machine holds: in the environment, in files, in the reference itself.

use std::{fmt, sync::Arc};

use portcullis_core::{Secret, Timestamp};

use crate::reference::{Place, Reference};

/// Bytes of a file with a secret.
const FILE_BYTES_MAX: u64 = 1_048_576;

/// The environment, by name. Libraries do not look at that of the process.
#[derive(Clone)]
pub struct Variables(Arc<Read>);

type Read = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Variables {
    /// The environment that `read` reads.
    pub fn new(read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// A variable; nothing where it is not set, or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables(****)")
    }
}

/// When the file of a reference was last written.
pub(crate) fn changed(reference: &Reference) -> Option<Timestamp> {
    let Place::File(path) = reference.place() else { return None };
    let modified = std::fs::metadata(path).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(Timestamp)
}

/// The value. Reads the environment or the file now.
///
/// # Errors
/// Names the reference, never the value.
pub fn read(reference: &Reference, variables: &Variables) -> Result<Secret<String>, String> {
    let value = match reference.place() {
        Place::Literal => return Ok(Secret::new(reference.prefix().to_owned())),
        Place::Env(name) => variables
            .get(name)
            .ok_or_else(|| format!("environment variable `{name}` is not set, or not UTF-8"))?,
        Place::File(path) => {
            use std::io::Read as _;
            let unreadable = |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(unreadable)?;
            file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
            let end = text.trim_end_matches(['\r', '\n']).len();
            text.truncate(end);
            text
        }
        Place::Local(_) | Place::Vault { .. } | Place::Aws { .. } => {
            return Err(format!("`{reference}` cannot be read here; only `env:` and `file:` can stand here"));
        }
    };
    let value = Secret::new(value);
    Ok(Secret::new(format!("{}{}", reference.prefix(), value.expose())))
}
