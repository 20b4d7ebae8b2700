//! Small disks that can be filled, for tests that run as root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_testkit::{Fault, Outcome};

/// A file system of a few megabytes in memory, mounted on a folder; gone with the value.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

/// Why small disks cannot be mounted here, if so. Tests print it and end.
#[must_use]
pub fn unmountable() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("not run: mounting a small file system needs root")
}

impl SmallDisk {
    /// Mounts one with room for `kib` KiB on a folder, which is made.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(folder: &Path, kib: u32) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let options = format!("size={kib}k,mode=0700");
        run("mount", ["-t", "tmpfs", "-o", &options, "tmpfs"].map(OsStr::new).iter(), folder)?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// Takes all the room that is left; room that is given back while this runs is taken as well.
    ///
    /// # Errors
    /// It fails in another way than for want of room.
    pub fn fill(&self) -> Outcome {
        let mut filler = File::options().create(true).append(true).open(self.folder.join("filler"))?;
        for size in [64 * 1024, 4096, 1] {
            let block = vec![0; size];
            while let Ok(()) = filler.write_all(&block) {}
        }
        Ok(())
    }

    /// Whether it was filled.
    #[must_use]
    pub fn filled(&self) -> bool {
        self.folder.join("filler").exists()
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// There is none to give back.
    pub fn free(&self) -> Outcome {
        Ok(fs::remove_file(self.folder.join("filler"))?)
    }

    /// Lets the disk be read only, or written again.
    ///
    /// # Errors
    /// Somebody has a file open for writing.
    pub fn read_only(&self, only: bool) -> Outcome {
        let options = if only { "remount,ro" } else { "remount,rw" };
        run("mount", ["-o", options].map(OsStr::new).iter(), &self.folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a gateway that still runs may have files open.
        let _unmounted = run("umount", ["--lazy"].map(OsStr::new).iter(), &self.folder);
    }
}

fn run<'a>(program: &str, arguments: impl Iterator<Item = &'a &'a OsStr>, folder: &Path) -> Outcome {
    let output = Command::new(program).args(arguments).arg(folder).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Fault::from(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// A disk whose power can be cut: an ext4 file system in an image file. What was written but never flushed is in the
/// memory of the kernel alone, and is lost.
#[derive(Debug)]
pub struct PowerDisk {
    image: PathBuf,
    folder: PathBuf,
}

impl PowerDisk {
    /// Makes one inside `parent` and mounts it; nothing, with a reason, where the machine cannot.
    ///
    /// # Errors
    /// The image cannot be written.
    pub fn mount(parent: &Path) -> Outcome<Result<Self, String>> {
        let (image, folder) = (parent.join("disk.img"), parent.join("disk"));
        File::create(&image)?.set_len(64 << 20)?;
        fs::create_dir_all(&folder)?;
        let fast = ["-q", "-E", "lazy_itable_init=1,lazy_journal_init=1"];
        if let Err(fault) = run("mkfs.ext4", fast.map(OsStr::new).iter(), &image) {
            return Ok(Err(format!("not run: {fault}")));
        }
        let disk = Self { image, folder };
        Ok(match disk.attach() {
            Ok(()) => Ok(disk),
            Err(fault) => Err(format!("not run: {fault}")),
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is on the disk itself at this instant; whoever writes to it must stand still.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn snapshot(&self) -> Outcome {
        Ok(fs::copy(&self.image, self.image.with_extension("cut")).map(|_| ())?)
    }

    /// Goes back to the snapshot, as after a power cut; nobody may use the disk.
    ///
    /// # Errors
    /// Somebody does.
    pub fn cut(&self) -> Outcome {
        run("umount", [].iter(), &self.folder)?;
        fs::rename(self.image.with_extension("cut"), &self.image)?;
        self.attach()
    }

    fn attach(&self) -> Outcome {
        // Nothing is flushed by the clock within a test, nor by what the file system guesses.
        let options = ["-o", "loop,commit=300,noauto_da_alloc"].map(OsStr::new);
        run(
            "mount",
            options.into_iter().chain([self.image.as_os_str()]).collect::<Vec<_>>().iter(),
            &self.folder,
        )
    }
}

impl Drop for PowerDisk {
    fn drop(&mut self) {
        let _unmounted = run("umount", ["--lazy"].map(OsStr::new).iter(), &self.folder);
    }
}
