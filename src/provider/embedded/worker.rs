//! The one thread that computes, and the way to it.
//!
//! Two answers at once would take twice as long each, so they take turns: who asks waits for its turn, in order, and
//! sends its job only then. So nothing queues on the thread's side, and who gives up waiting is gone from the queue at
//! once. The thread starts with the worker and ends when nobody can send any more.
//!
//! A panic ends the job, not the thread: the engine forgets all it holds and loads it anew. Nothing here knows what an
//! engine computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::error::{Error, Kind};
use crate::provider::{End, Event, Request};

/// What computes. It lives on the worker's thread.
pub(super) trait Engine: Send + 'static {
    /// Answers a job. All its events but the end go to [`Job::events`], before it returns. Looks at the cancel token
    /// and at whether anybody still listens at least once a token.
    fn answer(&mut self, job: &Job) -> End;

    /// Whether it holds memory that [`Engine::unload`] would give back.
    fn is_loaded(&self) -> bool;

    /// Forgets everything; the next job loads it again.
    fn unload(&mut self);
}

/// One answer to be made.
pub(super) struct Job {
    /// The model's file.
    pub(super) model: PathBuf,
    /// What to answer.
    pub(super) request: Request,
    /// Where its events go, [`Event::End`] last. Dropped receiver: nobody wants the answer any more.
    pub(super) events: mpsc::Sender<Event>,
    /// The worker is this job's until this is dropped.
    pub(super) turn: OwnedSemaphorePermit,
}

/// The sending end. Clones lead to the same thread.
#[derive(Clone)]
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    turns: Arc<Semaphore>,
    loaded: watch::Receiver<bool>,
}

impl Worker {
    /// Starts the thread. The engine unloads when it had nothing to do for `idle`.
    pub(super) fn start(engine: impl Engine, idle: Duration) -> io::Result<Worker> {
        let (jobs, incoming) = sync_channel(1);
        let (says, loaded) = watch::channel(false);
        thread::Builder::new()
            .name("assistd-model".to_owned())
            .spawn(move || work(engine, incoming, idle, says))?;
        Ok(Worker {
            jobs,
            turns: Arc::new(Semaphore::new(1)),
            loaded,
        })
    }

    /// The turns: whoever holds the one permit may send a job.
    pub(super) fn turns(&self) -> &Arc<Semaphore> {
        &self.turns
    }

    /// Sends a job, whose turn it is. Never blocks.
    pub(super) fn send(&self, job: Job) -> Result<(), Error> {
        // With one turn at a time the slot is free, unless the thread is gone.
        self.jobs
            .try_send(job)
            .map_err(|_| Error::new(Kind::Internal, "the model's thread is gone"))
    }

    /// Whether a model is in memory. Closed when the thread has ended.
    pub(super) fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.clone()
    }
}

fn work(mut engine: impl Engine, jobs: Receiver<Job>, idle: Duration, loaded: watch::Sender<bool>) {
    loop {
        let job = match engine.is_loaded() {
            true => jobs.recv_timeout(idle),
            false => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match job {
            Ok(job) => answer(&mut engine, job),
            Err(RecvTimeoutError::Timeout) => engine.unload(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        loaded.send_replace(engine.is_loaded());
    }
}

fn answer(engine: &mut impl Engine, job: Job) {
    let end = catch_unwind(AssertUnwindSafe(|| engine.answer(&job))).unwrap_or_else(|_| {
        engine.unload();
        End::Failed(Error::new(
            Kind::Internal,
            "the embedded model panicked; it is loaded anew for the next answer",
        ))
    });
    let Job { events, turn, .. } = job;
    // First, so that who asks again on seeing the end need not wait.
    drop(turn);
    // Nobody listens: then nobody misses the end.
    let _ = events.blocking_send(Event::End(end));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::protocol::{Options, StopReason};
    use crate::thread::Conversation;

    /// Panics when the model's name says so.
    #[derive(Default)]
    struct Fake {
        is_loaded: bool,
    }

    impl Engine for Fake {
        fn answer(&mut self, job: &Job) -> End {
            self.is_loaded = true;
            assert_ne!(job.model, PathBuf::from("panic"));
            End::Completed(StopReason::EndTurn)
        }

        fn is_loaded(&self) -> bool {
            self.is_loaded
        }

        fn unload(&mut self) {
            self.is_loaded = false;
        }
    }

    async fn ask(worker: &Worker, model: &str) -> End {
        let (events, mut incoming) = mpsc::channel(1);
        let request = Request {
            model: None,
            instructions: None,
            conversation: Arc::new(Conversation::default()),
            tools: Vec::new(),
            options: Options::default(),
            anchor: None,
            rounds: Vec::new(),
            cancel: CancellationToken::new(),
        };
        let turn = worker.turns().clone().acquire_owned().await.unwrap();
        let model = model.into();
        worker
            .send(Job {
                model,
                request,
                events,
                turn,
            })
            .unwrap();
        match incoming.recv().await {
            Some(Event::End(end)) => end,
            other => panic!("expected the end, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_panic_is_that_answers_error_and_the_next_one_comes() {
        let worker = Worker::start(Fake::default(), Duration::MAX).unwrap();
        let mut loaded = worker.loaded();
        assert_eq!(ask(&worker, "fine").await, End::Completed(StopReason::EndTurn));
        loaded.wait_for(|loaded| *loaded).await.unwrap();
        match ask(&worker, "panic").await {
            End::Failed(error) => assert_eq!(error.kind(), Kind::Internal),
            end => panic!("expected a failure, got {end:?}"),
        }
        loaded.wait_for(|loaded| !*loaded).await.unwrap();
        assert_eq!(ask(&worker, "fine").await, End::Completed(StopReason::EndTurn));
    }

    #[tokio::test]
    async fn an_idle_engine_unloads_and_answers_again() {
        let worker = Worker::start(Fake::default(), Duration::ZERO).unwrap();
        let mut loaded = worker.loaded();
        for _ in 0..2 {
            assert_eq!(ask(&worker, "fine").await, End::Completed(StopReason::EndTurn));
            loaded.wait_for(|loaded| !*loaded).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_thread_ends_when_nobody_can_ask_any_more() {
        let worker = Worker::start(Fake::default(), Duration::MAX).unwrap();
        ask(&worker, "fine").await;
        let mut loaded = worker.loaded();
        drop(worker);
        while loaded.changed().await.is_ok() {}
    }
}
