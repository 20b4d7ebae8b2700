//! The data directory: one owner, one running instance, and the few secrets that live in files. Everything in
//! it is private to the user the gateway runs as; a directory others can read is refused, not repaired, because
//! what others may have read cannot be taken back.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use portcullis_core::Secret;

/// Bytes of a secret file at most.
const SECRET_BYTES_MAX: u64 = 65_536;

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The operating system refused.
    #[error("cannot {what} `{}`: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another instance runs on it.
    #[error("`{}` is in use by another portcullis{}; hint: stop it, or give this one its own `data` directory",
        path.display(), pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, where its lock file says so.
        pid: Option<u32>,
    },
    /// Somebody else owns it.
    #[error("`{}` belongs to user {owner}, not to user {us} who runs portcullis; hint: chown -R {us} '{}'",
        path.display(), path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others can read it.
    #[error("others can read `{}` (mode {mode:04o}); hint: chmod {fix:o} '{}'", path.display(), path.display())]
    Readable {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        fix: u32,
    },
    /// It is not what it should be.
    #[error("`{}` is not a {expected}", path.display())]
    Type {
        /// The file or directory.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// A secret file is too large to be one of ours.
    #[error("`{}` is larger than {SECRET_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// An open data directory. The lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory where it is missing, checks that it is ours alone, and locks it.
    ///
    /// # Errors
    /// [`DataDirError`], with what to do about it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirError> {
        let given = path.as_ref();
        DirBuilder::new().recursive(true).mode(0o700).create(given).map_err(io_error("create", given))?;
        let path = fs::canonicalize(given).map_err(io_error("resolve", given))?;
        let metadata = fs::metadata(&path).map_err(io_error("inspect", &path))?;
        if !metadata.is_dir() {
            return Err(DataDirError::Type { path, expected: "directory" });
        }
        private(&path, &metadata, 0o700)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> PathBuf {
        self.path.join("portcullis.db")
    }

    /// The directory of the ledger.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger")
    }

    /// The key that signs the ledger's checkpoints.
    #[must_use]
    pub fn ledger_key(&self) -> PathBuf {
        self.path.join("ledger.key")
    }

    /// The key-encryption key, where configuration names no other.
    #[must_use]
    pub fn kek(&self) -> PathBuf {
        self.path.join("kek")
    }

    /// Where the key was under which API keys are hashed, before there were data keys.
    #[must_use]
    pub fn pepper(&self) -> PathBuf {
        self.path.join("pepper")
    }

    /// The token of the admin API.
    #[must_use]
    pub fn admin_token(&self) -> PathBuf {
        self.path.join("admin.token")
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("portcullis.log")
    }

    /// The secret in `file`; where there is none yet, the one that `make` gives, after it is safely on disk. The
    /// flag says whether it was made now.
    ///
    /// # Errors
    /// [`DataDirError`]: the file is readable by others, not ours, no regular file, or cannot be used.
    pub fn secret(
        &self,
        file: &Path,
        make: impl FnOnce() -> Secret<Vec<u8>>,
    ) -> Result<(Secret<Vec<u8>>, bool), DataDirError> {
        if let Some(secret) = read_secret(file)? {
            return Ok((secret, false));
        }
        let secret = make();
        write_secret(file, secret.expose())?;
        Ok((secret, true))
    }
}

/// The secret in `file`, or `None` where there is no such file. Refuses a file that others could have read. Needs
/// no lock: the command line reads the admin token this way while the gateway runs.
///
/// # Errors
/// [`DataDirError`]: the file is readable by others, not ours, no regular file, or cannot be used.
pub fn read_secret(file: &Path) -> Result<Option<Secret<Vec<u8>>>, DataDirError> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    // Opened first and judged by the open handle: a path can change between two looks, a handle cannot.
    let open = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(file);
    let mut handle = match open {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataDirError::Io { what: "open", path: file.to_owned(), error }),
    };
    let metadata = handle.metadata().map_err(io_error("inspect", file))?;
    if !metadata.is_file() {
        return Err(DataDirError::Type { path: file.to_owned(), expected: "regular file" });
    }
    private(file, &metadata, 0o600)?;
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(DataDirError::TooLarge { path: file.to_owned() });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    io::Read::by_ref(&mut handle)
        .take(SECRET_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", file))?;
    Ok(Some(Secret::new(bytes)))
}

/// Writes beside the final name and moves there, so that a crash leaves no half secret behind. The caller holds
/// the directory's lock, so nobody else can be writing.
fn write_secret(file: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    let beside = file.with_extension("new");
    match fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(DataDirError::Io { what: "remove", path: beside, error }),
    }
    let mut handle = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io_error("create", &beside))?;
    handle.write_all(bytes).and_then(|()| handle.sync_all()).map_err(io_error("write", &beside))?;
    fs::rename(&beside, file).map_err(io_error("create", file))?;
    let directory = file.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|handle| handle.sync_all()).map_err(io_error("sync", directory))
}

/// Takes the directory's lock and leaves our process id in it, for whoever comes second.
fn lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _unreadable = io::Read::by_ref(&mut file).take(32).read_to_string(&mut text);
            return Err(DataDirError::Locked { path: directory.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(fs::TryLockError::Error(error)) => return Err(DataDirError::Io { what: "lock", path, error }),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io_error("write", &path))?;
    Ok(file)
}

/// Checks that `metadata` belongs to us and shuts everybody else out; root's files are fine for nobody but root.
fn private(path: &Path, metadata: &fs::Metadata, fix: u32) -> Result<(), DataDirError> {
    let us = rustix::process::geteuid().as_raw();
    if metadata.uid() != us {
        return Err(DataDirError::Owner { path: path.to_owned(), owner: metadata.uid(), us });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DataDirError::Readable { path: path.to_owned(), mode, fix });
    }
    Ok(())
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DataDirError + 'a {
    move |error| DataDirError::Io { what, path: path.to_owned(), error }
}
