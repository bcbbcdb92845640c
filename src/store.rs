//! Threads, messages and runs, kept in SQLite, and the journal that keeps what a run says until it is folded in.
//!
//! A [`Store`] is a handle to one thread that owns the database. A call queues its command at once and gives a future of
//! the answer, so the order of the calls is the order of their effects, whoever awaits them. Only this module knows SQL.
//! Several processes share one database: their writers wait in turn, and each run belongs to the process that began it.
//!
//! The order that loses nothing: [`Store::begin`] is answered before anything is sent upstream; a delta is in the
//! [`Journal`] before it is shown; the end is in it before it is shown; [`Store::finish`] folds the run; when no run is
//! left, [`Journal::reset`] forgets the journal. After kill -9 the next daemon finds the journal and does the rest; a run
//! that goes on upstream becomes its own, as an [`Orphan`].

mod column;
mod database;
mod failure;
mod folder;
mod journal;
mod marks;
mod messages;
mod orphan;
mod page;
mod record;
mod recovery;
mod rounds;
mod runs;
mod schema;
mod threads;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

pub use self::journal::Journal;
pub use self::orphan::Orphan;
pub use self::record::{Batch, RECORD_TEXT_MAX};
pub use self::worker::Reply;
pub use crate::config::Role;

use self::database::Database;
use self::failure::Failure;
use self::worker::Worker;
use crate::protocol::{
    MessageEntry, Metadata, Options, Part, RunEntry, ThreadEntry, ThreadUpdateParams, Tool, ToolOutput, Truncation,
};
use crate::thread::{Conversation, Round};
use crate::transcript::{Mark, Outcome};

/// Where to keep everything.
#[derive(Debug, Clone)]
pub enum Place {
    /// In this folder, made if it is not there.
    Folder(PathBuf),
    /// Nowhere: it is gone when the store is.
    Memory,
}

/// A thread to be made.
#[derive(Debug, Clone, Default)]
pub struct NewThread {
    /// Our id of it.
    pub id: String,
    /// A title; where absent, the first line of the first message becomes one.
    pub title: Option<String>,
    /// The assistant that answers in it.
    pub assistant: Option<String>,
    /// The client's own pairs.
    pub metadata: Metadata,
    /// What to leave out when the context is full.
    pub truncation: Truncation,
}

/// The thread that a run answers in.
#[derive(Debug, Clone)]
pub enum Target {
    /// A thread that is there, by its id.
    Existing(String),
    /// A thread that is made with its first run.
    New(NewThread),
}

/// A run to be stored before anything is sent upstream.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Our id of it; at most 255 bytes.
    pub run_id: String,
    /// Where it answers.
    pub thread: Target,
    /// Our id of the user's message, if it has one.
    pub message_id: String,
    /// What the user said. None where it goes on from the thread's last run, whose calls `outputs` answer.
    pub content: Option<Vec<Part>>,
    /// Outputs of calls that the thread's last run left open; `invalidParams` where it left none of that id.
    pub outputs: Vec<ToolOutput>,
    /// The provider's name.
    pub provider: String,
    /// The model, where it is known by now.
    pub model: Option<String>,
    /// The assistant's name. A thread that has none remembers it.
    pub assistant: Option<String>,
    /// Whether it has to wait for another run of the thread; its message enters the thread with [`Store::start`].
    pub queued: bool,
    /// What takes it up again if this process dies; none where its upstream does not go on by itself.
    pub background: Option<Background>,
}

/// What a run asks for that nothing else keeps: with it another process goes on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Background {
    /// The instructions, in full.
    pub instructions: Option<String>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// Sampling and limits.
    pub options: Options,
}

/// A run that is stored.
#[derive(Debug)]
pub struct Begun {
    /// Its thread.
    pub thread: ThreadEntry,
    /// What it needs; none while it waits.
    pub snapshot: Option<Snapshot>,
}

/// What a run needs of the store.
#[derive(Debug)]
pub struct Snapshot {
    /// The thread's history, the run's own question last.
    pub conversation: Conversation,
    /// The rounds of the run that this one goes on from, with the outputs that it brought.
    pub rounds: Vec<Round>,
    /// What its provider left on the thread.
    pub anchor: Option<Value>,
    /// Where to write down what it says.
    pub journal: Journal,
}

/// The handle. Cheap to clone; when the last one is dropped, the commands given are carried out and the thread ends.
///
/// Where opening failed, every call answers that error, of kind `storage`. Errors of every call: `notFound` for an id
/// that is not there, `storage` where the disk or the database fails, `internal` for a bug.
#[derive(Debug, Clone)]
pub struct Store {
    worker: Worker,
    path: Option<Arc<Path>>,
}

impl Store {
    /// Starts the store's thread. Returns at once; the thread opens the database for the first call, or at once where a
    /// daemon finds that a dead process left a journal.
    pub fn open(place: Place, role: Role) -> Store {
        Store::with_worker(place, role, None)
    }

    /// The same for a process that takes up runs of dead ones which go on upstream: a daemon finds them when it opens the
    /// database, or when one is in the way. Any other process ends them.
    pub fn open_for_orphans(place: Place, role: Role) -> (Store, UnboundedReceiver<Orphan>) {
        let (orphanage, orphans) = mpsc::unbounded_channel();
        let orphanage = (role == Role::Daemon).then_some(orphanage);
        (Store::with_worker(place, role, orphanage), orphans)
    }

    fn with_worker(place: Place, role: Role, orphanage: Option<UnboundedSender<Orphan>>) -> Store {
        let path = match &place {
            Place::Folder(path) => Some(folder::Folder::database_in(path).into()),
            Place::Memory => None,
        };
        Store {
            worker: Worker::start(place, role, orphanage),
            path,
        }
    }

    /// The database; none in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Carries out what was asked, tidies up and ends the thread. What other handles ask later is refused. A run that
    /// was not finished is left in the journal for the next daemon.
    pub fn close(self) -> Reply<()> {
        self.worker.close()
    }

    /// Makes a thread without messages.
    pub fn create_thread(&self, new: NewThread) -> Reply<ThreadEntry> {
        self.write(move |tx| {
            threads::insert(tx, &new)?;
            threads::entry(tx, &new.id)
        })
    }

    /// One thread.
    pub fn thread(&self, id: String) -> Reply<ThreadEntry> {
        self.read(move |tx| threads::entry(tx, &id))
    }

    /// At most `limit` threads, the last written to first, and the cursor of the next page if there is one. A cursor
    /// stays right while threads are added or written to; one that is none is `invalidParams`.
    pub fn list_threads(&self, cursor: Option<String>, limit: u32) -> Reply<(Vec<ThreadEntry>, Option<String>)> {
        self.read(move |tx| threads::list(tx, cursor.as_deref(), limit))
    }

    /// A thread, at most `limit` of its messages, newest first, and the cursor of the next, older page if there is one.
    pub fn read_thread(
        &self,
        id: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Reply<(ThreadEntry, Vec<MessageEntry>, Option<String>)> {
        self.read(move |tx| {
            let key = threads::key(tx, &id)?;
            let (messages, next) = messages::list(tx, key, cursor.as_deref(), limit)?;
            Ok((threads::entry(tx, &id)?, messages, next))
        })
    }

    /// Changes what is given and leaves the rest.
    pub fn update_thread(&self, params: ThreadUpdateParams) -> Reply<ThreadEntry> {
        self.write(move |tx| threads::update(tx, &params))
    }

    /// Removes a thread with all that belongs to it. This process's runs in it should have been cancelled: what they
    /// say from now on is not kept. `busy` if another process runs something in it.
    pub fn delete_thread(&self, id: String) -> Reply<()> {
        self.worker.call(move |database| {
            without_the_dead(database, |database| {
                let owner = database.owner().map(str::to_owned);
                database.write(|tx| {
                    runs::refuse_others(tx, &id, owner.as_deref())?;
                    threads::delete(tx, &id)
                })
            })
        })
    }

    /// One message. What a run under way says is not here before it has ended.
    pub fn message(&self, id: String) -> Reply<MessageEntry> {
        self.read(move |tx| messages::entry(tx, &id))
    }

    /// Where the text of an assistant's message stood after each of its events.
    pub fn marks(&self, message_id: String) -> Reply<Vec<Mark>> {
        self.read(move |tx| messages::marks(tx, &message_id))
    }

    /// One run. What a run under way has said is not here before it has ended.
    pub fn run(&self, id: String) -> Reply<RunEntry> {
        self.read(move |tx| runs::entry(tx, &id))
    }

    /// Stores a run, its thread if that is new, and the user's message: from now on the run exists, and kill -9 does
    /// not lose it. `busy` if the thread has a run under way and this one does not wait; `data.runId` names it. Behind an
    /// [`Orphan`] it waits, whatever was asked.
    pub fn begin(&self, new: NewRun) -> Reply<Begun> {
        self.worker.call(move |database| match begin(database, &new) {
            Err(Failure::Busy { run_id, .. }) if database.is_adopted(&run_id) => {
                let queued = true;
                begin(database, &NewRun { queued, ..new })
            }
            begun => begun,
        })
    }

    /// The turn of a queued run has come: its message enters the thread.
    pub fn start(&self, run_id: String) -> Reply<Snapshot> {
        self.worker.call(move |database| {
            let journal = database.journal()?;
            without_the_dead(database, |database| {
                database.write(|tx| Ok(snapshot(runs::start(tx, &run_id)?, &journal)))
            })
        })
    }

    /// Folds what a run said and how it ended into the database. Harmless for a run that was folded before, or that
    /// was deleted with its thread. The message of a run that never started does not enter the thread.
    pub fn finish(&self, run_id: String, outcome: Outcome) -> Reply<()> {
        self.write(move |tx| match runs::live(tx, &run_id)? {
            Some(live) => runs::fold(tx, &live, &outcome, now()),
            None => Ok(()),
        })
    }

    /// Stores what a provider wants back with the thread's next request, outside of a run's end.
    pub fn set_anchor(&self, thread_id: String, provider: String, anchor: Value) -> Reply<()> {
        self.write(move |tx| runs::set_anchor(tx, threads::key(tx, &thread_id)?, &provider, &anchor))
    }

    fn read<T, F>(&self, query: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction) -> Result<T, Failure> + Send + 'static,
    {
        self.worker.call(move |database| database.read(query))
    }

    fn write<T, F>(&self, change: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction) -> Result<T, Failure> + Send + 'static,
    {
        self.worker.call(move |database| database.write(change))
    }
}

fn begin(database: &mut Database, new: &NewRun) -> Result<Begun, Failure> {
    let journal = database.journal()?;
    without_the_dead(database, |database| {
        database.write(|tx| {
            let (thread_id, material) = runs::begin(tx, new, journal.name())?;
            let thread = threads::entry(tx, &thread_id)?;
            let snapshot = material.map(|material| snapshot(material, &journal));
            Ok(Begun { thread, snapshot })
        })
    })
}

/// Tries once more if what was in the way belongs to a process that has died.
fn without_the_dead<T>(
    database: &mut Database,
    change: impl Fn(&mut Database) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match change(database) {
        Err(Failure::Busy { owner: Some(owner), .. }) if recovery::recover(database, &owner)? => change(database),
        result => result,
    }
}

fn snapshot(material: runs::Material, journal: &Journal) -> Snapshot {
    Snapshot {
        conversation: material.conversation,
        rounds: material.rounds,
        anchor: material.anchor,
        journal: journal.clone(),
    }
}

/// The time, in milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    age.map_or(0, |age| age.as_millis() as i64)
}
