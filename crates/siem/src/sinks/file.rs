//! A file with one message per line, begun anew when it is large.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use portcullis_core::kind::{Kind, KindError};

use super::wrong;
use crate::{Failure, Message, Settings, Sink};

/// The kind.
pub(super) const KIND: Kind<Box<dyn Sink>, Settings> = Kind {
    name: "file",
    doc: "A file, one message per line, flushed to the disk before the next. Begun anew at `file_bytes_max`; `files_kept` older ones stay \
          beside it as `.1`, `.2` and so on.",
    build,
};

#[derive(Clone, Debug)]
struct Lines {
    path: PathBuf,
    bytes_max: u64,
    kept: u64,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, KindError> {
    let path = settings.path.clone().ok_or_else(|| wrong(KIND.name, "`path` is missing"))?;
    Ok(Box::new(Lines { path, bytes_max: settings.file_bytes_max, kept: settings.files_kept }))
}

impl Lines {
    fn write(&self, text: &str) -> io::Result<()> {
        let mut file = open(&self.path)?;
        let size = file.metadata()?.len();
        if size > 0 && size.saturating_add(text.len() as u64) > self.bytes_max {
            drop(file);
            self.turn()?;
            file = open(&self.path)?;
        } else if size > 0 && last_byte(&mut file)? != b'\n' {
            // A line that a crash has cut off: it comes again, whole.
            file.write_all(b"\n")?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }

    /// Every file gets the next number; the last one goes.
    fn turn(&self) -> io::Result<()> {
        let numbered = |number: u64| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.kept == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.kept).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(1))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[async_trait]
impl Sink for Lines {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let mut text = String::new();
        for message in messages {
            text.push_str(&message.body.line().replace(['\n', '\r'], " "));
            text.push('\n');
        }
        let (lines, path) = (self.clone(), self.path.clone());
        let written = tokio::task::spawn_blocking(move || lines.write(&text)).await.map_err(Failure::away)?;
        written.map_err(|error| Failure::Away(format!("`{}`: {error}", path.display())))
    }
}
