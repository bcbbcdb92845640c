//! The opened database: how it is opened, and how it is read and written in turn.
//!
//! Every write is one short `BEGIN IMMEDIATE` under the folder's lock, so that several processes wait for each other
//! instead of failing. It knows nothing of threads and runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc::UnboundedSender;

use super::failure::Failure;
use super::folder::{Folder, private};
use super::journal::Journal;
use super::orphan::Orphan;
use super::{Place, schema};
use crate::error::Error;

/// How long to wait for a program that does not take turns, such as somebody's SQLite shell.
const FOREIGN_LOCK: Duration = Duration::from_secs(10);

/// A small cache, since an idle process should be small, and no memory map, since a file that another program cuts
/// would then kill the process. With `NORMAL` a commit survives kill -9; a power cut may take the last seconds.
const PRAGMAS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA foreign_keys = ON;
    PRAGMA cache_size = -512;
    PRAGMA mmap_size = 0;
";

/// The database, its folder and this process's journal. Dropping it leaves everything to be recovered; [`Database::close`]
/// tidies up.
pub struct Database {
    connection: Connection,
    folder: Option<Arc<Folder>>,
    path: Option<PathBuf>,
    journal: Option<Journal>,
    /// Who takes up runs of dead processes; none where they just end.
    orphanage: Option<UnboundedSender<Orphan>>,
    /// The ids of those that it was given.
    adopted: Vec<String>,
}

impl Database {
    /// Opens the database, made or brought forward if need be.
    pub fn open(place: &Place, orphanage: Option<UnboundedSender<Orphan>>) -> Result<Database, Error> {
        let (folder, path) = match place {
            Place::Memory => (None, None),
            Place::Folder(path) => {
                let folder = Folder::open(path)?;
                let path = folder.database();
                (Some(Arc::new(folder)), Some(path))
            }
        };
        match connect(folder.as_deref(), path.as_deref()) {
            Ok(connection) => Ok(Database {
                connection,
                folder,
                path,
                journal: None,
                orphanage,
                adopted: Vec::new(),
            }),
            Err(failure) => Err(failure.into_error(path.as_deref(), None)),
        }
    }

    /// Where it is; none in memory.
    pub fn folder(&self) -> Option<Arc<Folder>> {
        self.folder.clone()
    }

    /// The name of this process in the database: that of its journal. None before its first run.
    pub fn owner(&self) -> Option<&str> {
        self.journal.as_ref().map(Journal::name)
    }

    /// Whether runs of dead processes can become our own.
    pub fn adopts(&self) -> bool {
        self.orphanage.as_ref().is_some_and(|orphanage| !orphanage.is_closed())
    }

    /// Hands over a run that has become our own.
    pub fn adopt(&mut self, orphan: Orphan) {
        self.adopted.push(orphan.run.run_id.clone());
        // If nobody takes it any more, this process is about to leave: the next daemon finds it in our journal.
        if let Some(orphanage) = &self.orphanage {
            let _ = orphanage.send(orphan);
        }
    }

    /// Whether a run was a dead process's before it was ours.
    pub fn is_adopted(&self, run_id: &str) -> bool {
        self.adopted.iter().any(|adopted| adopted == run_id)
    }

    /// This process's journal, made when it is first asked for.
    pub fn journal(&mut self) -> Result<Journal, Failure> {
        if let Some(journal) = &self.journal {
            return Ok(journal.clone());
        }
        let journal = match &self.folder {
            None => Journal::none(),
            Some(folder) => {
                let _turn = folder.turn()?;
                Journal::create(folder)?
            }
        };
        self.journal = Some(journal.clone());
        Ok(journal)
    }

    /// Reads one state of the database; writers do not disturb it.
    pub fn read<T>(&mut self, query: impl FnOnce(&Transaction) -> Result<T, Failure>) -> Result<T, Failure> {
        let transaction = self.connection.transaction()?;
        query(&transaction)
    }

    /// Writes in turn: all of it or, on any failure or panic, nothing.
    pub fn write<T>(&mut self, change: impl FnOnce(&Transaction) -> Result<T, Failure>) -> Result<T, Failure> {
        let folder = self.folder.clone();
        let _turn = folder.as_deref().map(Folder::turn).transpose()?;
        self.write_in_turn(change)
    }

    /// Writes like [`Database::write`], for a caller whose turn it is.
    pub fn write_in_turn<T>(&mut self, change: impl FnOnce(&Transaction) -> Result<T, Failure>) -> Result<T, Failure> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = change(&transaction)?;
        transaction.commit()?;
        Ok(changed)
    }

    /// A failure as the caller is told of it.
    pub fn explain(&self, failure: Failure) -> Error {
        failure.into_error(self.path.as_deref(), self.owner())
    }

    /// Closes the database, and deletes this process's journal if nothing in it is needed any more.
    pub fn close(mut self) {
        if let Err(failure) = self.drop_journal() {
            let error = self.explain(failure);
            tracing::warn!(%error, "the journal was left behind; it will be recovered");
        }
        // The last process that closes the database writes its log back, which is a write like any other.
        let turn = self.folder.as_deref().map(Folder::turn);
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the database was not closed cleanly");
        }
        drop(turn);
    }

    fn drop_journal(&mut self) -> Result<(), Failure> {
        let Some(owner) = self.owner().map(str::to_owned) else {
            return Ok(());
        };
        let live: i64 = self.read(|tx| {
            let count = tx.query_row("SELECT count(*) FROM run WHERE owner = ?1", [&owner], |row| row.get(0))?;
            Ok(count)
        })?;
        if let Some(folder) = &self.folder
            && live == 0
        {
            std::fs::remove_file(folder.join(&owner))?;
        }
        Ok(())
    }
}

fn connect(folder: Option<&Folder>, path: Option<&Path>) -> Result<Connection, Failure> {
    let _turn = folder.map(Folder::turn).transpose()?;
    let mut connection = match path {
        None => Connection::open_in_memory()?,
        Some(path) => {
            // SQLite gives its log the mode of the database, so the database is made here first.
            private().open(path)?;
            Connection::open(path)?
        }
    };
    connection.busy_timeout(FOREIGN_LOCK)?;
    connection.execute_batch(PRAGMAS)?;
    connection.set_prepared_statement_cache_capacity(32);
    schema::migrate(&mut connection, schema::STEPS, path)?;
    Ok(connection)
}
