//! The store's own thread: it owns the database and takes one command after the other.
//!
//! The order in which commands are given is the order in which they take effect. A command that panics is that
//! command's error; the thread goes on. The database is opened for the first command, since SQLite is a good part of
//! what an idle process weighs; or at once where a daemon finds that a dead process left something.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::database::Database;
use super::failure::{Failure, storage};
use super::orphan::Orphan;
use super::{Place, Role, recovery};
use crate::error::{Error, Kind};

/// The answer to a command of the store. The command takes effect whether or not this is awaited.
#[derive(Debug)]
#[must_use = "a command that failed says so here only"]
pub struct Reply<T>(oneshot::Receiver<Result<T, Error>>);

impl<T> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(reply.unwrap_or_else(|_| Err(storage("the store is closed".into()))))
    }
}

type Job = Box<dyn FnOnce(&mut Result<Database, Error>) + Send>;

enum Command {
    Work(Job),
    Close(oneshot::Sender<Result<(), Error>>),
}

/// The sending end of the thread's queue. The thread ends when the last one is dropped, after the commands that were
/// given. The queue has no bound of its own: it holds what the callers wait for.
#[derive(Debug, Clone)]
pub struct Worker(mpsc::Sender<Command>);

impl Worker {
    /// Starts the thread.
    pub fn start(place: Place, role: Role, orphanage: Option<UnboundedSender<Orphan>>) -> Worker {
        let (sender, receiver) = mpsc::channel();
        let opening = Opening { place, role, orphanage };
        let started = std::thread::Builder::new()
            .name("assistd-store".into())
            .spawn(move || serve(&opening, &receiver));
        if let Err(error) = started {
            // The receiver is gone with the thread: every command answers that the store is closed.
            tracing::error!(%error, "the store's thread could not be started");
        }
        Worker(sender)
    }

    /// Gives a command.
    pub fn call<T, F>(&self, work: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Database) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, receiver) = oneshot::channel();
        let job = move |database: &mut Result<Database, Error>| {
            let result = match database {
                Ok(database) => carry_out(database, work),
                Err(error) => Err(error.clone()),
            };
            // Whoever asked may have lost interest.
            let _ = reply.send(result);
        };
        let _ = self.0.send(Command::Work(Box::new(job)));
        Reply(receiver)
    }

    /// Ends the thread behind all commands given so far; those that come later are refused.
    pub fn close(&self) -> Reply<()> {
        let (reply, receiver) = oneshot::channel();
        let _ = self.0.send(Command::Close(reply));
        Reply(receiver)
    }
}

/// How the database is to be opened.
struct Opening {
    place: Place,
    role: Role,
    orphanage: Option<UnboundedSender<Orphan>>,
}

fn serve(opening: &Opening, commands: &mpsc::Receiver<Command>) {
    let is_urgent = opening.role == Role::Daemon && recovery::is_needed(&opening.place);
    let mut database = is_urgent.then(|| open(opening));
    let mut closing = None;
    while let Ok(command) = commands.recv() {
        match command {
            Command::Work(job) => job(database.get_or_insert_with(|| open(opening))),
            Command::Close(reply) => {
                closing = Some(reply);
                break;
            }
        }
    }
    if let Some(Ok(database)) = database {
        database.close();
    }
    if let Some(reply) = closing {
        let _ = reply.send(Ok(()));
    }
}

fn open(opening: &Opening) -> Result<Database, Error> {
    let opened = catch_unwind(|| {
        let mut database = Database::open(&opening.place, opening.orphanage.clone())?;
        if opening.role == Role::Daemon {
            recovery::recover_all(&mut database);
        }
        Ok(database)
    });
    let opened = opened.unwrap_or_else(|_| Err(panicked()));
    if let Err(error) = &opened {
        tracing::error!(%error, "the store could not be opened");
    }
    opened
}

fn carry_out<T>(database: &mut Database, work: impl FnOnce(&mut Database) -> Result<T, Failure>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(|| work(database))) {
        Ok(result) => result.map_err(|failure| database.explain(failure)),
        Err(_) => Err(panicked()),
    }
}

fn panicked() -> Error {
    Error::new(Kind::Internal, "the store met a bug; its log says where")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_that_commands_error() {
        let worker = Worker::start(Place::Memory, Role::Daemon, None);
        let bad = worker.call(|database| -> Result<(), Failure> { database.write(|_| panic!("a test")) });
        let good = worker.call(|database| database.write(|_| Ok(7)));
        assert_eq!(bad.await.unwrap_err().kind(), Kind::Internal);
        assert_eq!(good.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn commands_given_before_the_last_handle_is_dropped_are_carried_out() {
        let worker = Worker::start(Place::Memory, Role::Daemon, None);
        let replies: Vec<_> = (0..100).map(|number| worker.call(move |_| Ok(number))).collect();
        drop(worker);
        for (number, reply) in replies.into_iter().enumerate() {
            assert_eq!(reply.await.unwrap(), number);
        }
    }

    #[tokio::test]
    async fn after_closing_every_command_is_refused() {
        let worker = Worker::start(Place::Memory, Role::Daemon, None);
        let before = worker.call(|_| Ok(()));
        let closed = worker.close();
        let after = worker.call(|_| Ok(()));
        before.await.unwrap();
        closed.await.unwrap();
        assert_eq!(after.await.unwrap_err().message, "the store is closed");
    }
}
