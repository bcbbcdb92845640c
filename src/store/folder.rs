//! The data folder: where the database, the journals and the lock of the writers are.
//!
//! It knows no SQL. Every file made here can be read by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::failure::{io_cause, storage};
use crate::error::Error;

/// An opened data folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
}

/// The turn to write: no other process writes until it is dropped.
pub struct Turn<'a>(&'a File);

impl Folder {
    /// Makes the folder if it is not there, and refuses one that cannot be written or is on another machine.
    pub fn open(path: &Path) -> Result<Folder, Error> {
        make(path)
            .and_then(|()| private().open(path.join("write.lock")))
            .map_err(|error| cannot_open(path, &error))
            .and_then(|lock| {
                refuse_network(path)?;
                let path = path.to_owned();
                Ok(Folder { path, lock })
            })
    }

    /// A file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The database in a folder at `path`.
    pub fn database_in(path: &Path) -> PathBuf {
        path.join("assistd.db")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        Folder::database_in(&self.path)
    }

    /// Waits until nobody else writes. Writers wait in turn and hold it for one short transaction, so there is no
    /// limit of time; a process that dies gives it back.
    pub fn turn(&self) -> io::Result<Turn<'_>> {
        loop {
            match self.lock.lock() {
                Ok(()) => return Ok(Turn(&self.lock)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The names of all files in it that end so.
    pub fn names(&self, ending: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not ours.
            if let Ok(name) = entry?.file_name().into_string()
                && name.ends_with(ending)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::error!(%error, "the write lock could not be given back");
        }
    }
}

/// How files are made here: for their owner only, and never inherited by a child process (the standard library sees to
/// that).
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn cannot_open(path: &Path, error: &io::Error) -> Error {
    let cause = io_cause(error);
    storage(format!("failed to open data folder `{}`: {cause}", path.display()))
        .with_hint("make the folder writable, or name another with `ASSISTD_DATA_DIR`")
}

/// SQLite's write-ahead log is shared memory, which two machines do not share, and locks over a network cannot be
/// trusted: a conversation there would be damaged one day.
#[cfg(target_os = "linux")]
fn refuse_network(path: &Path) -> Result<(), Error> {
    let stat = rustix::fs::statfs(path).map_err(|error| cannot_open(path, &error.into()))?;
    match network_file_system(stat.f_type as u32) {
        None => Ok(()),
        Some(name) => {
            let path = path.display();
            let message = format!("expected data folder `{path}` to be on this machine, and it is on {name}");
            Err(storage(message).with_hint("name a folder on a local disk with `ASSISTD_DATA_DIR`"))
        }
    }
}

/// Elsewhere the kind of a file system cannot be told the same way, and none is refused.
#[cfg(not(target_os = "linux"))]
fn refuse_network(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// The name of a network file system by its magic number, as statfs(2) lists them. Mounts through FUSE do not say what
/// they are, and 9p is also how a container sees its own host's disk: both are let through.
#[cfg(target_os = "linux")]
fn network_file_system(magic: u32) -> Option<&'static str> {
    match magic {
        0x0000_6969 => Some("NFS"),
        0xff53_4d42 => Some("CIFS"),
        0x0000_517b => Some("SMB"),
        0xfe53_4d42 => Some("SMB2"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        _ => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xff53_4d42), Some("CIFS"));
        for local in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630, 0x0102_1997] {
            assert_eq!(network_file_system(local), None);
        }
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("taken");
        fs::write(&path, "").unwrap();
        let error = Folder::open(&path.join("data")).unwrap_err();
        assert_eq!(error.kind(), Kind::Storage);
        assert!(error.message.starts_with("failed to open data folder `"), "{error}");
        assert!(error.message.ends_with("not a directory"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        use std::os::unix::fs::PermissionsExt;
        if rustix::process::geteuid().is_root() {
            return eprintln!("NOT TESTED: root may write to a read-only folder");
        }
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o500)).unwrap();
        let error = Folder::open(place.path()).unwrap_err();
        assert!(error.message.ends_with("permission denied"), "{error}");
        assert!(error.data.hint.is_some());
    }
}
