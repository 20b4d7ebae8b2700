//! The same rules as Landlock's, to say what it will refuse.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::super::{Policy, files};

/// Real paths that are governed.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    read: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    devices: BTreeSet<PathBuf>,
}

impl Rules {
    /// Paths as they lead now, which is when Landlock looks at them, too.
    pub(super) fn of(policy: &Policy, leader: u32) -> Self {
        let real = |path: &Path| {
            // Landlock's rule is made by the child, whose own folder it names.
            let own = Path::new("/proc").join(leader.to_string());
            let path =
                path.strip_prefix("/proc/self").map_or_else(|_| path.to_path_buf(), |rest| own.join(rest));
            path.canonicalize().ok()
        };
        let all = |paths: &BTreeSet<PathBuf>| paths.iter().filter_map(|path| real(path)).collect();
        let devices = files::DEVICES.iter().filter_map(|path| real(Path::new(path))).collect();
        Self { read: all(&policy.read), write: all(&policy.write), devices }
    }

    pub(super) fn may_read(&self, path: &Path) -> bool {
        self.may_execute(path) || self.devices.contains(path)
    }

    pub(super) fn may_execute(&self, path: &Path) -> bool {
        beneath(&self.read, path) || beneath(&self.write, path)
    }

    pub(super) fn may_write(&self, path: &Path) -> bool {
        self.may_change(path) || self.devices.contains(path)
    }

    /// Whether entries of a folder may be made and removed.
    pub(super) fn may_change(&self, folder: &Path) -> bool {
        beneath(&self.write, folder)
    }
}

fn beneath(rules: &BTreeSet<PathBuf>, path: &Path) -> bool {
    path.ancestors().any(|above| rules.contains(above))
}
