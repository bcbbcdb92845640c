//! One turn: the request that opens it, then its stream.
//!
//! [`answer`] is the order of things. All that it waits for ends by itself: an answer by the idle limit, a cancel by
//! [`CANCEL_DEADLINE`], a lock by the limit in `stopping.rs`.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout, timeout_at};

use super::Upstream;
use super::anchor::{Anchor, Opening};
use super::files::{self, Uploads};
use super::mapper::{Mapper, locking_run};
use super::request::{self, Known};
use crate::error::{Error, Kind};
use crate::protocol::StopReason;
use crate::provider::cancel::Cancel;
use crate::provider::http::{Answer, Call, EventStream, Failure, Retries};
use crate::provider::{CANCEL_DEADLINE, End, Event, Request};

/// How long the end of a stream is waited for once its run has ended: a connection that is read to its end can be
/// used again.
const TAIL_LIMIT: Duration = Duration::from_millis(100);

/// The answer to this request. See the contract of [`crate::provider`].
pub fn answer(upstream: Arc<Upstream>, request: Request) -> impl Stream<Item = Event> + Send {
    stream! {
        let cancel = Cancel::new(request.cancel.clone());
        let mut turn = Turn::new(upstream, request);
        let answer = loop {
            match turn.open(&cancel).await {
                Opened::Answer(answer) => break answer,
                Opened::NotYet(event) => yield event,
                Opened::End(end) => {
                    yield Event::End(end);
                    return;
                }
            }
        };
        if let Some(limit) = answer.rate_limit() {
            yield Event::RateLimit(limit);
        }
        let mut reading = turn.read(answer);
        loop {
            let end = reading.go_on(&cancel).await;
            for event in reading.mapper.drain() {
                // A run that was begun is not forgotten, though nobody wants to see more of it.
                if !cancel.has_fired() || matches!(event, Event::Anchor(_)) {
                    yield event;
                }
            }
            if let Some(end) = end {
                yield Event::End(end);
                return;
            }
        }
    }
}

/// A turn before its stream begins.
struct Turn {
    upstream: Arc<Upstream>,
    request: Request,
    opening: Opening,
    uploads: Uploads,
    retries: Retries,
    /// What comes before the request is sent (again).
    pause: Pause,
    /// A thread that is gone, or locked by a run of our own, is dealt with once: then it is the end.
    started_over: bool,
    unlocked: bool,
}

/// What came of an attempt to open the stream.
enum Opened {
    Answer(Answer),
    /// It is to be tried (again); this says what has been done or why.
    NotYet(Event),
    End(End),
}

enum Pause {
    None,
    For(Duration),
    /// Until this run, which is our own, has been stopped; where that does not work, this is the end.
    Unlock {
        thread_id: String,
        run_id: String,
        error: Error,
    },
}

impl Turn {
    fn new(upstream: Arc<Upstream>, request: Request) -> Self {
        let anchor = Anchor::read(request.anchor.as_ref());
        Turn {
            opening: Opening::choose(anchor, &request.conversation.messages, &request.rounds),
            uploads: Uploads::read(request.anchor.as_ref()),
            retries: Retries::new(request.options.max_retries.unwrap_or(upstream.max_retries)),
            upstream,
            request,
            pause: Pause::None,
            started_over: false,
            unlocked: false,
        }
    }

    async fn open(&mut self, cancel: &Cancel) -> Opened {
        if let Err(end) = self.wait(cancel).await {
            return Opened::End(end);
        }
        if let Some(opened) = self.upload(cancel).await {
            return opened;
        }
        let upstream = self.upstream.clone();
        let own_tools = if self.adds_tools() {
            // Nothing has begun upstream that would have to be told to stop.
            match cancel.before(upstream.own_tools()).await {
                None => return Opened::End(End::Cancelled),
                Some(Ok(tools)) => tools,
                Some(Err(failure)) => return self.try_again(failure),
            }
        } else {
            &[]
        };
        let call = match self.call(own_tools) {
            Ok(call) => call,
            Err(error) => return Opened::End(End::Failed(error)),
        };
        // A request under way is not given up at once: it may have begun a run that must be told to stop.
        match cancel.bound(upstream.endpoint.send(&call)).await {
            None => Opened::End(End::Cancelled),
            Some(Ok(answer)) => Opened::Answer(answer),
            Some(Err(failure)) => self.recover(failure),
        }
    }

    /// Gives the upstream one image or file that it lacks; none if it has all of them.
    async fn upload(&mut self, cancel: &Cancel) -> Option<Opened> {
        let messages = &self.request.conversation.messages;
        let newest = messages.last().map_or("", |message| &message.id);
        let missing = self.uploads.missing(self.opening.messages(messages), newest)?;
        Some(match cancel.before(self.upstream.upload(&missing)).await {
            // What has been given by now is of no harm there.
            None => Opened::End(End::Cancelled),
            Some(Ok(id)) => {
                self.uploads.add(&missing, id);
                Opened::NotYet(self.anchor())
            }
            // An old picture that this upstream does not take must not make the thread useless.
            Some(Err(failure)) if !missing.is_newest && matches!(failure.status, Some(400 | 413 | 415 | 422)) => {
                tracing::info!(error = %failure.error, "the upstream refuses a file of an older message");
                self.uploads.give_up(&missing);
                Opened::NotYet(self.anchor())
            }
            Some(Err(failure)) => self.try_again(failure),
        })
    }

    /// What is known before the run, so that nothing is uploaded twice, whatever becomes of the run.
    fn anchor(&self) -> Event {
        let anchor = Anchor::read(self.request.anchor.as_ref());
        let mut kept = anchor.map_or_else(|| json!({}), |anchor| anchor.to_value());
        self.uploads.put_into(&mut kept);
        Event::Anchor(kept)
    }

    /// Whether a run is opened that must name the assistant's own tools besides its own.
    fn adds_tools(&self) -> bool {
        let request = &self.request;
        let adds = || {
            !request.tools.is_empty()
                || request.options.upstream_tools.is_some()
                || !files::tools_for(&request.conversation.messages).is_empty()
        };
        request.rounds.is_empty() && adds()
    }

    fn call(&self, own_tools: &[Value]) -> Result<Call, Error> {
        let has_outputs = !self.request.rounds.is_empty();
        if has_outputs && !matches!(self.opening, Opening::Outputs { .. }) {
            return Err(
                Error::invalid_params("the Assistants API takes outputs only for the run that asked for them")
                    .with_hint("send a message instead"),
            );
        }
        let known = Known {
            assistant_id: self.upstream.assistant_id()?,
            own_tools,
            uploads: &self.uploads,
        };
        Ok(request::opening(&self.request, &self.opening, known))
    }

    async fn wait(&mut self, cancel: &Cancel) -> Result<(), End> {
        let upstream = &self.upstream;
        let over = match std::mem::replace(&mut self.pause, Pause::None) {
            Pause::None => Some(Ok(())),
            Pause::For(delay) => cancel.before(sleep(delay)).await.map(Ok),
            Pause::Unlock {
                thread_id,
                run_id,
                error,
            } => {
                let stopped = cancel.before(upstream.stop_and_wait(&thread_id, &run_id)).await;
                stopped.map(|stopped| if stopped { Ok(()) } else { Err(End::Failed(error)) })
            }
        };
        match over {
            Some(over) if !cancel.has_fired() => over,
            _ => {
                // A run that waits for outputs which will not come would hold its thread for ten minutes.
                if let Opening::Outputs { thread_id, run_id } = &self.opening {
                    let _ = timeout(CANCEL_DEADLINE, upstream.cancel(thread_id, run_id)).await;
                }
                Err(End::Cancelled)
            }
        }
    }

    /// What to do about an opening request that failed.
    fn recover(&mut self, failure: Failure) -> Opened {
        if matches!(failure.status, Some(400 | 404)) && self.uploads.forget_named(&failure.error) {
            tracing::info!("files of earlier turns are gone from the upstream; it gets them again");
            return Opened::NotYet(Retries::at_once(&failure.error));
        }
        if let Opening::NextRun { anchor, .. } = &self.opening {
            if failure.status == Some(404) && !std::mem::replace(&mut self.started_over, true) {
                tracing::info!("the upstream's thread is gone; a new one gets the whole history");
                self.opening = Opening::NewThread;
                return Opened::NotYet(Retries::at_once(&failure.error));
            }
            if let Some(run_id) = locking_run(&failure.error).map(str::to_owned) {
                let is_ours = anchor.run_id.as_deref() == Some(&*run_id);
                let error = busy(failure.error, &run_id);
                if !is_ours || std::mem::replace(&mut self.unlocked, true) {
                    return Opened::End(End::Failed(error));
                }
                let announced = Retries::at_once(&error);
                self.pause = Pause::Unlock {
                    thread_id: anchor.thread_id.clone(),
                    run_id,
                    error,
                };
                return Opened::NotYet(announced);
            }
        }
        if let (Opening::Outputs { .. }, Some(400)) = (&self.opening, failure.status) {
            // The client took longer over its tools than the upstream waits.
            if failure.error.upstream_message().contains("expired") {
                return Opened::End(End::Incomplete(StopReason::Expired));
            }
        }
        self.try_again(failure)
    }

    /// Both requests of a turn share the number of repetitions that a turn has.
    fn try_again(&mut self, failure: Failure) -> Opened {
        let Some(delay) = self.retries.again(&failure) else {
            return Opened::End(End::Failed(failure.error));
        };
        self.pause = Pause::For(delay);
        Opened::NotYet(self.retries.event(&failure, delay))
    }

    fn read(self, answer: Answer) -> Reading {
        let events = answer.events();
        let (anchor, run_id) = match self.opening {
            Opening::NewThread => (None, None),
            Opening::NextRun { anchor, .. } => (Some(anchor), None),
            Opening::Outputs { run_id, .. } => (Anchor::read(self.request.anchor.as_ref()), Some(run_id)),
        };
        let newest = self.request.conversation.messages.last();
        let synced = newest.map_or("", |message| &message.id);
        Reading {
            upstream: self.upstream,
            mapper: Mapper::new(events.peer().clone(), synced, anchor, run_id).keeping(self.uploads),
            events,
        }
    }
}

/// The refusal of a locked thread, naming the run that is in the way.
fn busy(refusal: Error, run_id: &str) -> Error {
    let message = format!("the upstream's thread has the run `{run_id}` under way, and takes no message until it ends");
    let mut error = Error::new(Kind::Busy, message);
    error.data.provider = refusal.data.provider;
    error.data.upstream = refusal.data.upstream;
    error.with_hint("wait until that run has ended (ten minutes at most), cancel it upstream, or start a new thread")
}

/// A turn whose stream is read.
pub struct Reading {
    pub upstream: Arc<Upstream>,
    pub mapper: Mapper,
    pub events: EventStream,
}

impl Reading {
    /// Waits for more events, or says how it ended.
    async fn go_on(&mut self, cancel: &Cancel) -> Option<End> {
        if self.mapper.has_ended() || self.mapper.is_done() {
            return Some(self.end(cancel).await);
        }
        match cancel.before(self.more()).await {
            Some(Ok(true)) => None,
            Some(Ok(false)) => Some(self.end(cancel).await),
            Some(Err(error)) => {
                self.tell_upstream().await;
                Some(End::Failed(error))
            }
            None => {
                let _ = timeout_at(cancel.deadline(), self.stop()).await;
                Some(End::Cancelled)
            }
        }
    }

    /// Waits for bytes and takes in all events that are whole; false at the end of the stream.
    pub async fn more(&mut self) -> Result<bool, Error> {
        let more = self.events.fill().await?;
        while let Some(event) = self.events.next()? {
            self.mapper.accept(&event.name, &event.data);
        }
        Ok(more)
    }

    async fn end(&mut self, cancel: &Cancel) -> End {
        if !self.mapper.has_ended() {
            self.tell_upstream().await;
        }
        // A connection that breaks now has lost nothing.
        let tail = async { while let Ok(true) = self.more().await {} };
        let _ = timeout(TAIL_LIMIT, tail).await;
        if cancel.has_fired() {
            End::Cancelled
        } else {
            self.mapper.take_end()
        }
    }
}
