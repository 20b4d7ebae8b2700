//! The data directory: who may use it, and how its secrets are kept.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use portcullis_core::Secret;
use portcullis_store::{DataDir, DataDirError, read_secret};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn a_missing_directory_is_created_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let data = DataDir::open(&path).unwrap();
    assert_eq!((mode(&path), mode(&path.join("lock"))), (0o700, 0o600));
    let files = [data.db(), data.ledger(), data.ledger_key(), data.pepper(), data.admin_token(), data.log()];
    for (index, file) in files.iter().enumerate() {
        assert!(file.starts_with(data.path()) && file.is_absolute());
        assert!(!files[..index].contains(file), "{}", file.display());
    }
}

#[test]
fn a_directory_that_others_can_read_is_refused_with_the_fix() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    drop(DataDir::open(&path).unwrap());
    for wrong in [0o755, 0o750, 0o701, 0o710, 0o770, 0o704, 0o777] {
        chmod(&path, wrong);
        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(error, DataDirError::Readable { mode, .. } if mode == wrong), "{error}");
        assert!(error.to_string().contains(&format!("hint: chmod 700 '{}'", path.display())), "{error}");
        assert_eq!(mode(&path), wrong, "it is refused, not repaired");
    }
    chmod(&path, 0o700);
    DataDir::open(&path).unwrap();
}

#[test]
fn a_directory_of_another_user_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = if root() {
        let path = parent.path().join("data");
        fs::create_dir(&path).unwrap();
        chmod(&path, 0o700);
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        path
    } else {
        "/usr".into()
    };
    let error = DataDir::open(&path).unwrap_err();
    assert!(matches!(error, DataDirError::Owner { .. }), "{error}");
    assert!(error.to_string().contains("hint: chown"), "{error}");
}

#[test]
fn a_second_instance_is_refused_and_told_which_process_holds_the_directory() {
    let parent = tempfile::tempdir().unwrap();
    let first = DataDir::open(parent.path().join("data")).unwrap();
    // Another way to write the same path is the same directory.
    for path in [parent.path().join("data"), parent.path().join("./data/../data")] {
        let error = DataDir::open(&path).unwrap_err();
        let us = std::process::id();
        assert!(matches!(error, DataDirError::Locked { pid: Some(pid), .. } if pid == us), "{error}");
        assert!(error.to_string().contains(&format!("(process {us})")), "{error}");
    }
    drop(first);
    DataDir::open(parent.path().join("data")).unwrap();
}

#[test]
fn another_process_that_holds_the_lock_is_respected_and_its_death_frees_it() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    drop(DataDir::open(&path).unwrap());
    let lock = path.join("lock");
    let mut holder = Command::new("flock")
        .args(["--exclusive", "--no-fork"])
        .arg(&lock)
        .args(["sh", "-c", "echo held; exec sleep 60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(holder.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    assert_eq!(line, "held\n");
    let outcome = DataDir::open(&path);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let error = outcome.unwrap_err();
    assert!(matches!(error, DataDirError::Locked { .. }), "{error}");
    DataDir::open(&path).unwrap();
}

#[test]
fn a_secret_is_made_once_and_kept_private() {
    let parent = tempfile::tempdir().unwrap();
    let data = DataDir::open(parent.path().join("data")).unwrap();
    let (made, new) = data.secret(&data.pepper(), || Secret::new(vec![7; 32])).unwrap();
    assert!(new && *made.expose() == vec![7; 32]);
    assert_eq!(mode(&data.pepper()), 0o600);
    let (read, new) = data.secret(&data.pepper(), || panic!("there is one already")).unwrap();
    assert!(!new && read.expose() == made.expose());
    assert_eq!(read_secret(&data.admin_token()).unwrap().map(|secret| secret.expose().clone()), None);
    let left: Vec<_> = fs::read_dir(data.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the lock and the secret: {left:?}");
}

#[test]
fn a_crash_while_a_secret_is_written_leaves_no_half_secret() {
    let parent = tempfile::tempdir().unwrap();
    let data = DataDir::open(parent.path().join("data")).unwrap();
    // What a crash before the move leaves behind.
    fs::write(data.pepper().with_extension("new"), b"ha").unwrap();
    let (secret, new) = data.secret(&data.pepper(), || Secret::new(vec![9; 32])).unwrap();
    assert!(new && secret.expose().len() == 32);
    assert_eq!(fs::read(data.pepper()).unwrap(), vec![9; 32]);
}

#[test]
fn a_secret_that_others_could_have_read_or_replaced_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let data = DataDir::open(parent.path().join("data")).unwrap();
    let make = || -> Secret<Vec<u8>> { panic!("a secret that is there is never made anew") };
    let file = data.pepper();
    fs::write(&file, b"secret").unwrap();
    for wrong in [0o644, 0o640, 0o604, 0o620, 0o660] {
        chmod(&file, wrong);
        let error = data.secret(&file, make).unwrap_err();
        assert!(matches!(error, DataDirError::Readable { mode, .. } if mode == wrong), "{error}");
        assert!(error.to_string().contains(&format!("hint: chmod 600 '{}'", file.display())), "{error}");
    }
    chmod(&file, 0o600);
    assert_eq!(data.secret(&file, make).unwrap().0.expose(), b"secret");
    chmod(&file, 0o400);
    assert_eq!(data.secret(&file, make).unwrap().0.expose(), b"secret");

    let link = data.path().join("link");
    symlink(&file, &link).unwrap();
    assert!(matches!(data.secret(&link, make), Err(DataDirError::Io { what: "open", .. })));
    assert!(matches!(read_secret(data.path()), Err(DataDirError::Type { .. })));
    let pipe = data.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(read_secret(&pipe), Err(DataDirError::Type { .. })));
    let large = data.path().join("large");
    fs::write(&large, vec![0; 65_537]).unwrap();
    chmod(&large, 0o600);
    assert!(matches!(read_secret(&large), Err(DataDirError::TooLarge { .. })));
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error_that_names_it() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    fs::write(&path, b"").unwrap();
    let error = DataDir::open(&path).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}
