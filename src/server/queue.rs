//! The order of a thread: one run at a time, and what comes next.

use std::collections::VecDeque;

use super::{Done, Owner, Server, Stage};
use crate::error::Error;
use crate::protocol::StopReason;
use crate::run;

use super::reply::ReplyTo;

/// How many runs may wait for a thread.
pub(super) const MAX_QUEUED: usize = 64;

/// What a thread is busy with, and what waits for it. Gone when there is nothing.
#[derive(Default)]
pub(super) struct ThreadQueue {
    /// What came in and is not looked at yet, in the order in which it was read.
    pub(super) arrivals: VecDeque<Arrival>,
    /// The first of them is being resolved.
    pub(super) is_preparing: bool,
    /// The run that has the thread.
    pub(super) running: Option<String>,
    /// The runs that wait for it.
    pub(super) queued: VecDeque<String>,
    /// Upstreams that are being told to stop; the next run waits for that.
    pub(super) draining: usize,
    /// The thread is to be deleted when it is free.
    pub(super) deleting: Option<ReplyTo>,
    /// The deletion is under way.
    is_deleting: bool,
}

/// Something that has to keep its place in the thread's order.
pub(super) enum Arrival {
    /// A run is asked for.
    Send(String),
    /// The thread is to be deleted.
    Delete(ReplyTo),
    /// Something that is done at once when its turn comes.
    Call(Box<dyn FnOnce(&mut Server)>),
}

impl ThreadQueue {
    fn is_free(&self) -> bool {
        self.running.is_none() && self.draining == 0
    }

    /// Whether what arrives has to wait.
    fn is_held(&self) -> bool {
        self.is_preparing || !self.arrivals.is_empty() || self.deleting.is_some() || self.is_deleting
    }

    /// Whether anybody waits for what it does now.
    pub(super) fn is_wanted(&self) -> bool {
        !self.queued.is_empty() || self.is_held()
    }

    /// Gives the thread to a run that has had it in the database all the time. A run that is being stored as if the
    /// thread were free finds there that it is not, and waits.
    pub(super) fn put_in_front(&mut self, run_id: String) {
        if let Some(beginning) = self.running.replace(run_id) {
            self.queued.push_front(beginning);
        }
    }

    fn is_empty(&self) -> bool {
        self.is_free() && self.queued.is_empty() && !self.is_held()
    }
}

impl Server {
    /// Puts something behind what the thread has to do.
    pub(super) fn arrive(&mut self, thread_id: &str, arrival: Arrival) {
        self.threads
            .entry(thread_id.to_owned())
            .or_default()
            .arrivals
            .push_back(arrival);
        self.advance(thread_id);
    }

    /// Does this when all that the thread was asked before has taken effect: at once, as a rule.
    pub(super) fn in_turn(&mut self, thread_id: &str, call: impl FnOnce(&mut Server) + 'static) {
        match self.threads.get(thread_id) {
            Some(queue) if queue.is_held() => self.arrive(thread_id, Arrival::Call(Box::new(call))),
            _ => call(self),
        }
    }

    /// Starts whatever the thread can do next.
    pub(super) fn advance(&mut self, thread_id: &str) {
        self.start_next(thread_id);
        self.delete_if_free(thread_id);
        self.look_at_arrivals(thread_id);
        if self.threads.get(thread_id).is_some_and(ThreadQueue::is_empty) {
            self.threads.remove(thread_id);
        }
    }

    fn start_next(&mut self, thread_id: &str) {
        let Some(queue) = self.threads.get_mut(thread_id).filter(|queue| queue.is_free()) else {
            return;
        };
        // The head may still be being stored; its own event comes back here.
        let Some(run_id) = queue.queued.front().cloned() else {
            return;
        };
        let Some(run) = self.runs.get_mut(&run_id).filter(|run| run.stage == Stage::Queued) else {
            return;
        };
        run.stage = Stage::Starting;
        queue.queued.pop_front();
        queue.running = Some(run_id.clone());
        let snapshot = self.store.start(run_id.clone());
        self.spawn(Owner::Run(run_id.clone()), async move {
            Done::Started(run_id, snapshot.await)
        });
    }

    fn look_at_arrivals(&mut self, thread_id: &str) {
        let Some(queue) = self.threads.get_mut(thread_id) else {
            return;
        };
        if queue.is_preparing || queue.deleting.is_some() || queue.is_deleting {
            return;
        }
        match queue.arrivals.pop_front() {
            Some(Arrival::Send(run_id)) => {
                queue.is_preparing = true;
                self.prepare(run_id);
            }
            Some(Arrival::Delete(reply)) => {
                queue.deleting = Some(reply);
                self.stop_thread(thread_id, StopReason::Cancelled);
                self.delete_if_free(thread_id);
            }
            Some(Arrival::Call(call)) => {
                call(self);
                self.look_at_arrivals(thread_id);
            }
            None => {}
        }
    }

    fn delete_if_free(&mut self, thread_id: &str) {
        let Some(queue) = self.threads.get_mut(thread_id) else {
            return;
        };
        if !queue.is_free() || !queue.queued.is_empty() {
            return;
        }
        if let Some(reply) = queue.deleting.take() {
            queue.is_deleting = true;
            let deleted = self.store.delete_thread(thread_id.to_owned());
            let thread_id = thread_id.to_owned();
            self.spawn(Owner::Deletion(thread_id.clone(), reply.clone()), async move {
                Done::Deleted(thread_id, reply, deleted.await)
            });
        }
    }

    pub(super) fn on_deleted(&mut self, thread_id: &str, reply: ReplyTo, result: Result<(), Error>) {
        self.respond(reply, result.map(|()| "null".to_owned()));
        if let Some(queue) = self.threads.get_mut(thread_id) {
            queue.is_deleting = false;
        }
        self.advance(thread_id);
    }

    /// Takes a run out of its thread's order.
    pub(super) fn release(&mut self, thread_id: &str, run_id: &str) {
        if let Some(queue) = self.threads.get_mut(thread_id) {
            if queue.running.as_deref() == Some(run_id) {
                queue.running = None;
            }
            queue.queued.retain(|queued| queued != run_id);
        }
    }

    /// Polls what is left of a stopped run's stream, so that its upstream is told; the thread waits for it.
    pub(super) fn drain(&mut self, thread_id: &str, provider: String, rest: run::Rest) {
        self.threads.entry(thread_id.to_owned()).or_default().draining += 1;
        let store = self.store.clone();
        let thread_id = thread_id.to_owned();
        self.spawn(Owner::Thread(thread_id.clone()), async move {
            if let Some(anchor) = run::drain(rest).await
                && let Err(error) = store.set_anchor(thread_id.clone(), provider, anchor).await
            {
                tracing::warn!(%error, "what the upstream knows of a thread could not be stored");
            }
            Done::Drained(thread_id)
        });
    }

    pub(super) fn on_drained(&mut self, thread_id: &str) {
        if let Some(queue) = self.threads.get_mut(thread_id) {
            queue.draining -= 1;
        }
        self.advance(thread_id);
    }
}
