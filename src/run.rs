//! One answer: a provider's events become journal entries, deltas and notifications, and exactly one end.
//!
//! A run is one task. It is given a snapshot, its lane of the outbox, the journal and a way to stop it; it knows
//! nothing of requests or of other runs. What is shown was journaled first. It reads its upstream only while its lane
//! has room, and never waits for a client that does not read otherwise. Its end goes back to the server, which tells
//! the client: a panic is an end, too.

mod batch;
mod servers;
mod step;
mod tools;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::error::{Error, Kind};
use crate::mcp::{self, Toolbox};
use crate::outbox::Lane;
use crate::protocol::{EventType, PartKind, RunEvent, RunStatus, StopReason, ToolCallEntry, ToolOutput, Usage};
use crate::provider::{self, End, Event, Provider, Request, Round, ToolCall};
use crate::store::Journal;
use crate::transcript::{Entry, RunEnd, Transcript};

use batch::Batch;

/// How much text is collected before it is journaled and shown, in bytes.
const TOGETHER: usize = 64 * 1024;

/// How many rounds of tool calls a run may have where nothing else is set.
const MAX_TOOL_ROUNDS: u32 = 16;

/// What a run is given.
pub struct Start {
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// What it is asked; its `cancel` is this run's own.
    pub request: Request,
    /// Where its messages go.
    pub lane: Lane,
    /// Where its entries are kept.
    pub journal: Journal,
    /// What it says; the server reads it too.
    pub transcript: Rc<RefCell<Transcript>>,
    /// The last `seq` given, shared with the server, which says the first and the last of a run.
    pub seq: Rc<Cell<u64>>,
    /// Which events the client wants.
    pub events: Events,
    /// The client was told that it waits, so it is told that it no longer does.
    pub was_queued: bool,
    /// How the client's tools are called; none if it cannot.
    pub desk: Option<Desk>,
    /// How long the client may take for a tool.
    pub tool_timeout: Duration,
    /// The MCP servers whose tools the model may call.
    pub servers: Vec<Rc<mcp::Server>>,
    /// How the client is asked whether such a tool may be called; none if it cannot be asked.
    pub approval: Option<Desk>,
    /// Ends it.
    pub stop: Stop,
}

/// How a run ended, for the server.
pub struct Ended {
    /// What becomes of it.
    pub end: RunEnd,
    /// What is left of the provider's stream: polled to its end, it tells the upstream to stop.
    pub rest: Option<Rest>,
}

/// Ends a run, and says why. The first reason stands.
#[derive(Clone, Default)]
pub struct Stop {
    reason: Rc<Cell<Option<StopReason>>>,
    token: CancellationToken,
}

impl Stop {
    /// Ends the run for this reason: `cancelled`, `superseded` or `clientGone`. Harmless if it was stopped before.
    pub fn stop(&self, reason: StopReason) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
        self.token.cancel();
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// What fires when it is stopped.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// The end of a run that was stopped.
    pub fn end(&self) -> RunEnd {
        match self.reason.get() {
            Some(StopReason::ClientGone) => RunEnd::new(RunStatus::Interrupted, StopReason::ClientGone),
            Some(reason) => RunEnd::new(RunStatus::Cancelled, reason),
            None => RunEnd::new(RunStatus::Cancelled, StopReason::Cancelled),
        }
    }
}

/// Which events a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events(u32);

impl Events {
    /// These types.
    pub fn only(types: &[EventType]) -> Self {
        Events(types.iter().fold(0, |set, kind| set | 1 << *kind as u32))
    }

    /// Whether this type is among them.
    pub fn wants(self, kind: EventType) -> bool {
        self.0 & 1 << kind as u32 != 0
    }
}

impl Default for Events {
    fn default() -> Self {
        Events::only(&EventType::DEFAULT)
    }
}

/// Makes the answer.
pub async fn answer(start: Start) -> Ended {
    let was_queued = start.was_queued;
    let servers = start.servers.clone();
    let mut run = Run::new(start);
    if was_queued {
        run.event(RunEvent::Status {
            status: "inProgress".into(),
        });
        run.flush();
    }
    run.open_servers(&servers).await;
    let (end, rest) = run.rounds().await;
    run.entry(Entry::End { end: end.clone() });
    run.flush();
    Ended { end, rest }
}

/// A run under way.
struct Run {
    provider: Arc<dyn Provider>,
    request: Request,
    lane: Lane,
    batch: Batch,
    transcript: Rc<RefCell<Transcript>>,
    events: Events,
    desk: Option<Desk>,
    tool_timeout: Duration,
    /// The tools of MCP servers.
    toolbox: Toolbox,
    approval: Option<Desk>,
    stop: Stop,
    /// Tokens of the rounds before this one.
    usage_before: Usage,
    /// Text of this round.
    round_text: String,
    /// What the provider wants back with this round.
    carry: Option<Value>,
    has_tools: bool,
}

/// What is left of a stream that did not end by itself.
pub type Rest = BoxStream<'static, Event>;

impl Run {
    fn new(start: Start) -> Self {
        Run {
            batch: Batch::new(start.journal, &start.lane, start.seq),
            has_tools: start.desk.is_some() || !start.servers.is_empty(),
            provider: start.provider,
            request: start.request,
            lane: start.lane,
            transcript: start.transcript,
            events: start.events,
            desk: start.desk,
            tool_timeout: start.tool_timeout,
            toolbox: Toolbox::default(),
            approval: start.approval,
            stop: start.stop,
            usage_before: Usage::default(),
            round_text: String::new(),
            carry: None,
        }
    }

    /// Round after round, until one does not end in tool calls.
    async fn rounds(&mut self) -> (RunEnd, Option<Rest>) {
        let limit = self.request.options.max_tool_rounds.unwrap_or(MAX_TOOL_ROUNDS);
        loop {
            if self.stop.is_stopped() {
                return (self.stop.end(), None);
            }
            let (end, rest) = self.round().await;
            let calls = match end {
                Some(End::ToolCalls(calls)) => calls,
                Some(end) => return (self.ended(end), rest),
                None => return (self.stop.end(), rest),
            };
            self.finish_message();
            if !self.can_call_any(&calls) {
                return (unanswered(StopReason::ToolCalls, RunStatus::Completed, calls), None);
            }
            if self.request.rounds.len() as u32 >= limit {
                return (unanswered(StopReason::ToolLimit, RunStatus::Incomplete, calls), None);
            }
            let Some(outputs) = self.call_tools(&calls).await else {
                return (self.stop.end(), self.stopped_between_rounds(calls));
            };
            let open = without_output(&calls, &outputs);
            if !open.is_empty() {
                return (unanswered(StopReason::ToolCalls, RunStatus::Completed, open), None);
            }
            let round = Round {
                text: std::mem::take(&mut self.round_text),
                calls,
                outputs,
                carry: self.carry.take(),
            };
            self.request.rounds.push(round);
            self.request.anchor = self
                .transcript
                .borrow()
                .anchor()
                .cloned()
                .or(self.request.anchor.take());
            self.usage_before = self.transcript.borrow().usage().unwrap_or_default();
        }
    }

    /// One request to the upstream. None if the run was stopped; the rest of the stream is to be polled to its end then.
    async fn round(&mut self) -> (Option<End>, Option<Rest>) {
        let mut stream = self.provider.answer(self.request.clone());
        let token = self.stop.token();
        loop {
            let event = tokio::select! {
                biased;
                () = token.cancelled() => return (None, Some(stream)),
                event = wait(&self.lane, &mut stream) => event,
            };
            let mut end = self.take(event);
            // What arrived together is journaled and shown together: the connection's task gets one turn to bring more.
            while end.is_none() && self.batch.pending() < TOGETHER && self.lane.has_room() {
                let event = tokio::select! {
                    biased;
                    event = stream.next() => event,
                    () = one_turn() => break,
                };
                end = self.take(event);
            }
            self.flush();
            if end.is_some() {
                return (end, None);
            }
        }
    }

    /// A run that is stopped while the client's tools are called holds its thread upstream: asked to answer with a
    /// token that has fired, the provider only tells the upstream to stop.
    fn stopped_between_rounds(&self, calls: Vec<ToolCall>) -> Option<Rest> {
        let anchor = self.transcript.borrow().anchor().cloned()?;
        let mut request = self.request.clone();
        request.anchor = Some(anchor);
        request.rounds.push(Round {
            calls,
            ..Round::default()
        });
        Some(self.provider.answer(request))
    }

    /// Takes one event of the provider; the round's end, if it was that.
    fn take(&mut self, event: Option<Event>) -> Option<End> {
        let Some(event) = event else {
            let error = Error::new(Kind::Network, "the provider's stream stopped without an end").retryable(true);
            return Some(End::Failed(error));
        };
        match event {
            Event::Delta { index, part, text } => self.delta(index, part, &text),
            Event::MessageStarted { .. } => self.start_message(),
            Event::MessageDone => self.finish_message(),
            Event::Annotation { index, annotation } => {
                let message_id = self.message();
                self.entry(Entry::Annotation {
                    index,
                    annotation: annotation.clone(),
                });
                self.event(RunEvent::Annotation {
                    message_id: message_id.to_string(),
                    index,
                    annotation,
                });
            }
            Event::Image { index, image } => {
                let message_id = self.message();
                self.entry(Entry::Image {
                    index,
                    image: image.clone(),
                });
                self.event(RunEvent::Image {
                    message_id: message_id.to_string(),
                    index,
                    image,
                });
            }
            Event::Step(step) => self.step(step),
            Event::Usage(usage) => {
                let usage = self.usage_before.plus(usage);
                self.entry(Entry::Usage { usage });
                self.event(RunEvent::Usage { usage });
            }
            Event::Anchor(anchor) => self.entry(Entry::Anchor { anchor }),
            Event::Carry(carry) => self.carry = Some(carry),
            Event::Status(status) => self.event(RunEvent::Status { status }),
            Event::ToolArguments {
                step_id,
                call_id,
                name,
                text,
            } => {
                self.event(RunEvent::ToolArguments {
                    step_id,
                    call_id,
                    name,
                    text,
                });
            }
            Event::Reasoning { text, summary } => self.event(RunEvent::Reasoning { text, summary }),
            Event::Retry { attempt, delay, error } => {
                let delay_ms = delay.as_millis() as u64;
                self.event(RunEvent::Retry {
                    attempt,
                    delay_ms,
                    error,
                });
            }
            Event::RateLimit(limits) => self.event(RunEvent::RateLimit(limits)),
            Event::Truncated { messages } => self.event(RunEvent::Truncated { messages }),
            Event::Upstream { name, data } => self.event(RunEvent::Upstream { name, data }),
            Event::End(end) => return Some(end),
        }
        None
    }

    fn delta(&mut self, index: u32, part: PartKind, text: &str) {
        if text.is_empty() {
            return;
        }
        let message = self.message();
        if self.has_tools {
            self.round_text.push_str(text);
        }
        self.batch
            .delta(&message, index, part, text, &mut self.transcript.borrow_mut());
    }

    fn start_message(&mut self) {
        if self.transcript.borrow().message_under_way().is_some() {
            self.finish_message();
        }
        let message_id = crate::ids::message();
        self.entry(Entry::Message { message_id });
    }

    fn finish_message(&mut self) {
        let Some(message_id) = self.transcript.borrow().message_under_way() else {
            return;
        };
        self.entry(Entry::MessageDone);
        if self.events.wants(EventType::Message) {
            let content = self.transcript.borrow().last_content();
            let event = RunEvent::Message {
                message_id: message_id.to_string(),
                status: RunStatus::Completed,
                content: Some(content),
            };
            self.event(event);
        }
    }

    /// The message that text goes to; begins one if there is none.
    fn message(&mut self) -> Rc<str> {
        if let Some(message) = self.transcript.borrow().message_under_way() {
            return message;
        }
        self.start_message();
        let message = self.transcript.borrow().message_under_way();
        message.expect("a message was begun")
    }

    fn entry(&mut self, entry: Entry) {
        self.batch.entry(entry, &mut self.transcript.borrow_mut());
    }

    fn event(&mut self, event: RunEvent) {
        if self.events.wants(event.event_type()) {
            self.batch.event(event, &mut self.transcript.borrow_mut());
        }
    }

    /// Journals what waits, then shows it.
    fn flush(&mut self) {
        self.batch.flush(&self.lane, &mut self.transcript.borrow_mut());
    }

    /// The run's end, after the last round.
    fn ended(&mut self, end: End) -> RunEnd {
        if matches!(end, End::Completed(_)) {
            self.finish_message();
        }
        match end {
            End::Completed(reason) => RunEnd::new(RunStatus::Completed, reason),
            End::Incomplete(reason) => RunEnd::new(RunStatus::Incomplete, reason),
            End::Cancelled => self.stop.end(),
            End::Failed(_) if self.stop.is_stopped() => self.stop.end(),
            End::Failed(error) => RunEnd::failed(error),
            End::ToolCalls(calls) => unanswered(StopReason::ToolCalls, RunStatus::Completed, calls),
        }
    }
}

/// The next event, once the lane has room: a client that does not read stops the upstream, not the daemon.
async fn wait(lane: &Lane, stream: &mut BoxStream<'static, Event>) -> Option<Event> {
    lane.room().await;
    stream.next().await
}

/// Waits until every task that is ready has had its turn. Tokio's `yield_now` looks for new I/O as well, which is one
/// more system call for each delta of a slow stream.
async fn one_turn() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls what is left of a cancelled stream to its end, so that the upstream is told. Gives the last anchor.
pub async fn drain(mut rest: Rest) -> Option<serde_json::Value> {
    let mut anchor = None;
    let all = async {
        while let Some(event) = rest.next().await {
            if let Event::Anchor(newer) = event {
                anchor = Some(newer);
            }
        }
    };
    // Past the deadline nothing is left to do but to close the connection.
    let _ = tokio::time::timeout(provider::CANCEL_DEADLINE, all).await;
    anchor
}

/// The calls that nobody could answer.
fn without_output(calls: &[ToolCall], outputs: &[ToolOutput]) -> Vec<ToolCall> {
    let is_open = |call: &&ToolCall| outputs.iter().all(|output| output.call_id != call.id);
    calls.iter().filter(is_open).cloned().collect()
}

fn unanswered(reason: StopReason, status: RunStatus, calls: Vec<ToolCall>) -> RunEnd {
    let entry = |call: ToolCall| ToolCallEntry {
        call_id: call.id,
        name: call.name,
        arguments: call.arguments,
    };
    RunEnd {
        tool_calls: calls.into_iter().map(entry).collect(),
        ..RunEnd::new(status, reason)
    }
}
