//! Where a path of another process leads, looked up the way the kernel does it for that process. What is found can have
//! changed a moment later: good enough to say what was tried, and never what allows it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io::ErrorKind,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::FileExt as _,
    },
    path::{Component, Path, PathBuf},
};

/// Bytes of a path, as in the kernel.
const PATH_BYTES_MAX: usize = 4_096;
/// Links on the way, as in the kernel.
const LINKS_MAX: usize = 40;
/// A read does not cross from memory that is there into memory that is not.
const PAGE: u64 = 4_096;

/// A thread that waits for an answer, and the process group that it should belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) thread: u32,
    pub(super) leader: u32,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Something that is there.
    Found(PathBuf),
    /// Nothing yet, in a folder that is there.
    Missing { folder: PathBuf, name: OsString },
    /// Nothing that has a place: a pipe, a socket, memory; or a path that leads nowhere.
    Nowhere,
    /// What belongs to a process outside, and is closed by that alone.
    Foreign(PathBuf),
    /// Somewhere: the memory that says where is closed to us.
    Unread,
}

impl Task {
    /// Bytes of its memory.
    pub(super) fn memory(self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        memory.read_exact_at(bytes, address).ok()
    }

    /// Whether its memory is closed to us, as that of a process that left its parents is under `ptrace_scope` 1.
    pub(super) fn is_closed(self) -> bool {
        File::open(format!("/proc/{}/mem", self.thread)).is_err()
    }

    /// A text of its memory that ends with a zero.
    pub(super) fn text(self, address: u64) -> Option<OsString> {
        let memory = File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        let mut text = Vec::new();
        let mut page = [0; PAGE as usize];
        let mut at = address;
        while text.len() < PATH_BYTES_MAX {
            let left = usize::try_from(PAGE - at % PAGE).ok()?;
            let read = memory.read_at(page.get_mut(..left)?, at).ok().filter(|read| *read > 0)?;
            let piece = page.get(..read)?;
            let end = memchr::memchr(0, piece);
            text.extend_from_slice(piece.get(..end.unwrap_or(read))?);
            if end.is_some() {
                return Some(OsString::from_vec(text));
            }
            at = at.checked_add(u64::try_from(read).ok()?)?;
        }
        None
    }

    /// The number of its process.
    pub(super) fn process(self) -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.thread)).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
    }

    /// Where a path leads that it named, relative to one of its descriptors.
    pub(super) fn place(self, descriptor: i32, path: &OsStr, follow: bool) -> Place {
        let path = Path::new(path);
        if path.as_os_str().is_empty() {
            return Place::Nowhere;
        }
        let start = if path.is_absolute() { Some(PathBuf::from("/")) } else { self.folder(descriptor) };
        start.map_or(Place::Nowhere, |start| self.walk(start, path, follow))
    }

    /// What one of its descriptors names.
    pub(super) fn folder(self, descriptor: i32) -> Option<PathBuf> {
        let link = match descriptor {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.thread),
            number => format!("/proc/{}/fd/{number}", self.thread),
        };
        fs::read_link(link).ok().filter(|path| path.is_absolute())
    }

    fn walk(self, start: PathBuf, path: &Path, follow: bool) -> Place {
        let mut at = start;
        let mut left: Vec<OsString> = names(path).collect();
        // The kernel follows a link that a slash follows.
        let follow = follow || path.as_os_str().as_bytes().ends_with(b"/");
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = self.own(at.join(&name));
            let met = match fs::symlink_metadata(&next) {
                Ok(met) => met,
                Err(error) if error.kind() == ErrorKind::NotFound && left.is_empty() => {
                    return Place::Missing { folder: at, name };
                }
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return rest(next, left),
                Err(_) => return Place::Nowhere,
            };
            if !met.is_symlink() || (left.is_empty() && !follow) {
                at = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Place::Nowhere;
            }
            match self.follow(&next, &met) {
                Link::Relative(target) => left.extend(names(&target)),
                Link::Absolute(target) => {
                    at = PathBuf::from("/");
                    left.extend(names(&target));
                }
                Link::Jump(target) => at = target,
                Link::Nowhere => return Place::Nowhere,
                Link::Foreign => {
                    return Place::Foreign(match rest(next, left) {
                        Place::Found(path) => path,
                        Place::Missing { folder, .. } => folder,
                        Place::Nowhere | Place::Foreign(_) | Place::Unread => PathBuf::new(),
                    });
                }
            }
        }
        Place::Found(at)
    }

    /// `/proc/self` means who asks.
    fn own(self, path: PathBuf) -> PathBuf {
        if path == Path::new("/proc/self") {
            self.process().map_or(path, |process| PathBuf::from(format!("/proc/{process}")))
        } else if path == Path::new("/proc/thread-self") {
            let place = |process| PathBuf::from(format!("/proc/{process}/task/{}", self.thread));
            self.process().map_or(path, place)
        } else {
            path
        }
    }

    fn follow(self, link: &Path, met: &Metadata) -> Link {
        let owner = link.strip_prefix("/proc").ok().and_then(|rest| rest.components().next());
        let owner = owner.and_then(|name| name.as_os_str().to_str()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| super::group_of(owner) != Some(self.leader)) {
            return Link::Foreign;
        }
        let Ok(target) = fs::read_link(link) else {
            return if met.is_symlink() { Link::Foreign } else { Link::Nowhere };
        };
        match (owner, target.is_absolute()) {
            // What was removed, or lies where no path leads, keeps only a name that may now be another's.
            (Some(_), true) if !target.exists() => Link::Nowhere,
            (Some(_), true) => Link::Jump(target),
            (Some(_), false) => Link::Nowhere,
            (None, true) => Link::Absolute(target),
            (None, false) => Link::Relative(target),
        }
    }
}

enum Link {
    Relative(PathBuf),
    Absolute(PathBuf),
    /// A link of a process, which leads to the thing itself.
    Jump(PathBuf),
    Nowhere,
    Foreign,
}

/// The names of a path, the last one first.
fn names(path: &Path) -> impl Iterator<Item = OsString> + use<> {
    let names: Vec<OsString> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect();
    names.into_iter().rev()
}

/// Where we cannot look, the name has to do.
fn rest(at: PathBuf, left: Vec<OsString>) -> Place {
    Place::Found(left.into_iter().rev().fold(at, |at, name| at.join(name)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn ourselves() -> Task {
        let leader = super::super::group_of(std::process::id()).unwrap();
        Task { thread: std::process::id(), leader }
    }

    #[test]
    fn a_path_leads_where_the_kernel_goes() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("given/inner")).unwrap();
        fs::create_dir(top.join("secret")).unwrap();
        fs::write(top.join("secret/file"), "").unwrap();
        symlink("../secret", top.join("given/out")).unwrap();
        symlink(top.join("secret/file"), top.join("given/file")).unwrap();
        symlink("loop", top.join("given/loop")).unwrap();
        let secret = Place::Found(top.join("secret/file"));
        let missing =
            |folder: &str, name: &str| Place::Missing { folder: top.join(folder), name: name.into() };
        let ours = format!("/proc/{}", std::process::id());
        let absolute = |path: &str| top.join(path).into_os_string();
        for (path, follow, expected) in [
            (absolute("given/out/file"), true, secret.clone()),
            (absolute("given/inner/../../secret/file"), true, secret.clone()),
            (absolute("given/./out/../secret//file"), true, secret.clone()),
            (absolute("given/file"), true, secret.clone()),
            (absolute("given/file"), false, Place::Found(top.join("given/file"))),
            (absolute("given/out/new"), true, missing("secret", "new")),
            (absolute("given/no/new"), true, Place::Nowhere),
            (absolute("given/loop"), true, Place::Nowhere),
            (
                OsString::from(format!("/proc/self/root{}", top.join("secret/file").display())),
                true,
                secret.clone(),
            ),
            (
                OsString::from("/proc/self/environ"),
                true,
                Place::Found(PathBuf::from(format!("{ours}/environ"))),
            ),
            (OsString::from("/proc/1/cwd/x"), true, Place::Foreign(PathBuf::from("/proc/1/cwd/x"))),
            (OsString::new(), true, Place::Nowhere),
        ] {
            assert_eq!(ourselves().place(libc::AT_FDCWD, &path, follow), expected, "{}", path.display());
        }
        let here = std::env::current_dir().unwrap().join("Cargo.toml");
        assert_eq!(ourselves().place(libc::AT_FDCWD, OsStr::new("Cargo.toml"), true), Place::Found(here));
    }

    #[test]
    fn memory_is_read_as_far_as_it_goes() {
        let text = c"a text";
        let address = text.as_ptr() as u64;
        assert_eq!(ourselves().text(address), Some(OsString::from("a text")));
        assert_eq!(ourselves().text(1), None);
        let long = vec![b'a'; PATH_BYTES_MAX * 2];
        assert_eq!(ourselves().text(long.as_ptr() as u64), None);
    }
}
