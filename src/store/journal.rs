//! A process's journal: an append-only file beside the database, which keeps what a run said until the run is folded
//! into the database.
//!
//! The file is locked from before it has its name until its process is gone: a journal whose lock can be taken has a
//! dead owner. The runs append, one after the other, and the store's thread where it takes over what a dead process
//! left; so the file ends where the last append ended.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::folder::{Folder, private};
use super::record::Batch;

/// How the names of journals end.
pub const ENDING: &str = ".journal";
/// How the names of journals end that were not finished being made.
pub const UNFINISHED: &str = ".journal.new";
/// What a journal begins with: the name and version of the format.
pub const HEADER: &[u8; 8] = b"assistd1";

/// The handle to this process's journal. Cheap to clone; the last one that is dropped gives the lock back. In memory
/// there is none, and everything succeeds.
#[derive(Debug, Clone)]
pub struct Journal(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    name: String,
    tail: Mutex<Tail>,
}

/// The file, and where it ends.
#[derive(Debug)]
struct Tail {
    file: File,
    len: u64,
    /// The file ends in part of a record that could not be taken off again: what is appended would not be read.
    is_torn: bool,
}

impl Journal {
    /// The journal of a store that keeps nothing.
    pub(super) fn none() -> Journal {
        Journal(None)
    }

    /// Makes this process's journal: locked under a passing name first, then renamed. To be called in turn, so that
    /// nobody takes it for what a dead process left.
    pub(super) fn create(folder: &Folder) -> io::Result<Journal> {
        let id = Uuid::now_v7();
        let name = format!("{id}{ENDING}");
        let passing = folder.join(&format!("{id}{UNFINISHED}"));
        let mut file = private().create_new(true).open(&passing)?;
        file.lock()?;
        file.write_all(HEADER)?;
        fs::rename(&passing, folder.join(&name))?;
        Ok(Journal(Some(Arc::new(Open {
            name,
            tail: Mutex::new(Tail {
                file,
                len: HEADER.len() as u64,
                is_torn: false,
            }),
        }))))
    }

    /// The file's name, which is how the database names this process.
    pub(super) fn name(&self) -> &str {
        self.0.as_ref().map_or("memory", |open| &open.name)
    }

    /// Writes a batch, with one system call where the disk takes it all. When this returns, the batch survives the
    /// death of the process. When it fails, nothing of the batch is kept, and what was appended before it is.
    pub fn append(&self, batch: &Batch) -> io::Result<()> {
        match &self.0 {
            Some(open) if !batch.is_empty() => open.tail().append(batch.bytes()),
            _ => Ok(()),
        }
    }

    /// Forgets everything. To be called when no run of this process is under way and all have been folded.
    pub fn reset(&self) -> io::Result<()> {
        self.0
            .as_ref()
            .map_or(Ok(()), |open| open.tail().cut(HEADER.len() as u64))
    }

    /// How much is kept, in bytes.
    pub fn size(&self) -> u64 {
        self.0.as_ref().map_or(0, |open| open.tail().len - HEADER.len() as u64)
    }
}

impl Open {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.cut(self.len)?;
        }
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Else the records that follow would stand behind half a record, and be lost with it.
                self.is_torn = true;
                let _ = self.cut(self.len);
                Err(error)
            }
        }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = len;
        self.is_torn = false;
        Ok(())
    }
}

/// A journal as somebody else finds it.
pub enum Found {
    /// Its process lives.
    Alive,
    /// Its process is dead, and the lock is now ours.
    Dead(File),
    /// There is no such file: it was folded and deleted, or somebody took it away.
    Gone,
}

/// Looks whether the owner of a journal lives. To be called in turn: the look takes a dead journal's lock for a moment,
/// which another look would mistake for life.
pub fn find(folder: &Folder, name: &str) -> io::Result<Found> {
    let file = match File::options().read(true).append(true).open(folder.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Found::Dead(file)),
        Err(TryLockError::WouldBlock) => Ok(Found::Alive),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PartKind;
    use crate::store::record::Records;

    fn batch(seq: u64) -> Batch {
        let mut batch = Batch::default();
        batch.delta("run", seq, 0, PartKind::Text, "piece");
        batch
    }

    fn records(folder: &Folder, journal: &Journal) -> Vec<u64> {
        let bytes = fs::read(folder.join(journal.name())).unwrap();
        let body = bytes.strip_prefix(HEADER).unwrap();
        Records::new(body).map(|record| record.seq).collect()
    }

    #[test]
    fn what_was_appended_is_in_the_file_at_once() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let journal = Journal::create(&folder).unwrap();
        journal.append(&batch(1)).unwrap();
        journal.append(&batch(2)).unwrap();
        assert_eq!(records(&folder, &journal), [1, 2]);
        journal.reset().unwrap();
        assert_eq!(journal.size(), 0);
        journal.append(&batch(3)).unwrap();
        assert_eq!(records(&folder, &journal), [3]);
    }

    #[test]
    fn half_a_record_is_taken_off_before_the_next() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let journal = Journal::create(&folder).unwrap();
        journal.append(&batch(1)).unwrap();
        let open = journal.0.as_ref().unwrap();
        open.tail().file.write_all(&batch(2).bytes()[..9]).unwrap();
        open.tail().is_torn = true;
        journal.append(&batch(3)).unwrap();
        assert_eq!(records(&folder, &journal), [1, 3]);
    }

    #[test]
    fn a_journal_is_dead_when_its_last_handle_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let journal = Journal::create(&folder).unwrap();
        let name = journal.name().to_owned();
        let other = journal.clone();
        drop(journal);
        assert!(matches!(find(&folder, &name).unwrap(), Found::Alive));
        drop(other);
        assert!(matches!(find(&folder, &name).unwrap(), Found::Dead(_)));
        fs::remove_file(folder.join(&name)).unwrap();
        assert!(matches!(find(&folder, &name).unwrap(), Found::Gone));
    }

    #[test]
    fn without_a_file_everything_succeeds() {
        let journal = Journal::none();
        journal.append(&batch(1)).unwrap();
        journal.reset().unwrap();
        assert_eq!(journal.size(), 0);
    }
}
