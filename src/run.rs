//! One answer: a provider's events become journal entries, deltas and notifications, and exactly one end.
//!
//! A run is one task. It is given a snapshot, its lane of the outbox, the journal and a way to stop it; it knows
//! nothing of requests or of other runs. What is shown was journaled first. It reads its upstream only while its lane
//! has room, and never waits for a client that does not read otherwise. Its end goes back to the server, which tells
//! the client: a panic is an end, too.

mod batch;
mod replay;
mod servers;
mod step;
mod stop;
mod take;
mod tools;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::desk::Desk;
use crate::error::Error;
use crate::mcp::{self, Toolbox};
use crate::outbox::Lane;
use crate::protocol::{EventType, RunEvent, RunStatus, StopReason, ToolCallEntry, ToolOutput, Usage};
use crate::provider::{self, End, Event, Provider, Request, Round, ToolCall};
use crate::store::Journal;
use crate::transcript::{Entry, RunEnd, Transcript};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;

use batch::Batch;
use replay::Known;
pub use stop::Stop;

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
    /// What becomes of it. None where it goes on upstream and is left to the next daemon: the journal keeps it.
    pub end: Option<RunEnd>,
    /// What is left of the provider's stream: polled to its end, it tells the upstream to stop.
    pub rest: Option<Rest>,
}

impl Ended {
    /// The end of a run of a dead process that is stopped before its provider is asked; it may be left again.
    pub fn before_taken_up(stop: &Stop) -> Ended {
        Ended {
            end: (!stop.is_left()).then(|| stop.end()),
            rest: None,
        }
    }

    /// The end of a run of a dead process that cannot be taken up.
    pub fn interrupted(error: Option<Error>) -> Ended {
        let end = RunEnd {
            error,
            ..RunEnd::new(RunStatus::Interrupted, StopReason::DaemonKilled)
        };
        Ended {
            end: Some(end),
            rest: None,
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
    let ended = run.rounds(None).await;
    run.finish(ended)
}

/// Goes on with an answer that a process began which is dead: its transcript holds what was kept of it.
pub async fn take_up(start: Start) -> Ended {
    let known = Known::of(&start.transcript.borrow());
    let mut run = Run::new(start);
    let Some(stream) = run.provider.resume(run.request.clone()) else {
        let ended = match run.stop.is_stopped() {
            true => Ended::before_taken_up(&run.stop),
            false => Ended::interrupted(None),
        };
        return run.finish(ended);
    };
    let kept = run.transcript.borrow().last_said();
    let ended = match run.replay(stream, known).await {
        // Nothing came of it: it ended when its process died.
        Ok((Some(End::Failed(error)), _)) if run.transcript.borrow().last_said() == kept => {
            Ended::interrupted(Some(error))
        }
        Ok(round) => run.rounds(Some(round)).await,
        Err(error) => Ended::interrupted(Some(error)),
    };
    run.finish(ended)
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
    /// Rounds of the run whose calls this one has brought the outputs of; they do not count against the limit.
    rounds_before: usize,
    /// Steps of the rounds before this one.
    steps_before: usize,
    /// Tokens of the rounds before this one.
    usage_before: Usage,
    /// What the provider wants back with this round.
    carry: Option<Value>,
}

/// How a round ended; none if the run was stopped. What is left of its stream is to be polled to its end then.
type RoundEnd = (Option<End>, Option<Rest>);

/// What is left of a stream that did not end by itself.
pub type Rest = BoxStream<'static, Event>;

impl Run {
    fn new(start: Start) -> Self {
        let transcript = start.transcript.borrow();
        Run {
            batch: Batch::new(start.journal, &start.lane, start.seq),
            rounds_before: start.request.rounds.len() - transcript.round_count(),
            steps_before: transcript.before_round().1,
            usage_before: transcript.usage_before_round(),
            transcript: start.transcript.clone(),
            provider: start.provider,
            request: start.request,
            lane: start.lane,
            events: start.events,
            desk: start.desk,
            tool_timeout: start.tool_timeout,
            toolbox: Toolbox::default(),
            approval: start.approval,
            stop: start.stop,
            carry: None,
        }
    }

    /// Round after round, until one does not end in tool calls. `first` is a round that has ended already.
    async fn rounds(&mut self, mut first: Option<RoundEnd>) -> Ended {
        let limit = self.request.options.max_tool_rounds.unwrap_or(MAX_TOOL_ROUNDS) as usize;
        loop {
            let (end, rest) = match first.take() {
                Some(round) => round,
                None if self.stop.is_stopped() => (None, None),
                None => self.round().await,
            };
            let calls = match end {
                Some(End::ToolCalls(calls)) => calls,
                Some(end) => return self.ended(end).into(),
                None => return self.stopped(rest),
            };
            let mut round = self.end_round(calls);
            if !self.can_call_any(&round.calls) {
                return unanswered(StopReason::ToolCalls, RunStatus::Completed, &round.calls).into();
            }
            if self.request.rounds.len() - self.rounds_before >= limit {
                return unanswered(StopReason::ToolLimit, RunStatus::Incomplete, &round.calls).into();
            }
            let Some(outputs) = self.call_tools(&round.calls).await else {
                return self.stopped_between_rounds(round);
            };
            let open = without_output(&round.calls, &outputs);
            if !open.is_empty() {
                return unanswered(StopReason::ToolCalls, RunStatus::Completed, &open).into();
            }
            round.outputs = outputs;
            self.request.rounds.push(round);
            self.begin_round();
        }
    }

    /// One request to the upstream.
    async fn round(&mut self) -> RoundEnd {
        let stream = self.provider.answer(self.request.clone());
        self.listen(stream).await
    }

    /// Takes what the stream gives, to the round's end.
    async fn listen(&mut self, mut stream: BoxStream<'static, Event>) -> RoundEnd {
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
            if end.is_some() {
                self.settle();
                return (end, None);
            }
            self.flush();
        }
    }

    /// The round has ended with these calls: from now on they are part of what the model has said.
    fn end_round(&mut self, calls: Vec<ToolCall>) -> Round {
        self.finish_message();
        self.begin_calls(&calls);
        let carry = self.carry.take();
        self.entry(Entry::Round {
            calls: calls.iter().map(|call| call.id.clone()).collect(),
            carry: carry.clone(),
        });
        let text = self.transcript.borrow().text_of_last_round();
        Round {
            text,
            calls,
            outputs: Vec::new(),
            carry,
        }
    }

    /// The next request goes on from here.
    fn begin_round(&mut self) {
        let transcript = self.transcript.borrow();
        self.request.anchor = transcript.anchor().cloned().or(self.request.anchor.take());
        self.usage_before = transcript.usage_before_round();
        self.steps_before = transcript.steps().len();
    }

    /// A run that is stopped while the client's tools are called holds its thread upstream: asked to answer with a
    /// token that has fired, the provider only tells the upstream to stop. A client that is gone may be back with the
    /// outputs, so then its upstream goes on waiting for them, which costs nothing.
    fn stopped_between_rounds(&self, round: Round) -> Ended {
        let mut end = self.stop.end();
        if self.stop.is_left() {
            end.tool_calls = round.calls.iter().map(ToolCallEntry::from).collect();
            return end.into();
        }
        let anchor = self.transcript.borrow().anchor().cloned();
        let rest = anchor.map(|anchor| {
            let mut request = self.request.clone();
            request.anchor = Some(anchor);
            request.rounds.push(round);
            self.provider.answer(request)
        });
        Ended { end: Some(end), rest }
    }

    /// The end of a run that was stopped. One that nobody listens to any more goes on where its upstream keeps it.
    fn stopped(&self, rest: Option<Rest>) -> Ended {
        let is_kept = self.provider.keeps_running() && self.transcript.borrow().anchor_of_round().is_some();
        if rest.is_some() && is_kept && self.stop.is_left() {
            return Ended { end: None, rest: None };
        }
        Ended {
            end: Some(self.stop.end()),
            rest,
        }
    }

    fn finish(mut self, ended: Ended) -> Ended {
        if let Some(end) = &ended.end {
            self.entry(Entry::End { end: end.clone() });
        }
        self.flush();
        ended
    }

    fn entry(&mut self, entry: Entry) {
        self.batch.entry(entry, &mut self.transcript.borrow_mut());
    }

    fn event(&mut self, event: RunEvent) {
        if self.events.wants(event.event_type()) {
            self.batch.event(event, &mut self.transcript.borrow_mut());
        }
    }

    /// The last of a round is kept with what the run makes of its end, in one write: killed between them, a run would
    /// seem to go on upstream, and there would be nothing to go on with.
    fn settle(&mut self) {
        self.batch.settle(&mut self.transcript.borrow_mut());
    }

    /// Journals what waits, then shows it.
    fn flush(&mut self) {
        self.batch.flush(&self.lane, &mut self.transcript.borrow_mut());
    }

    /// The run's end, after the last round.
    fn ended(&mut self, end: End) -> RunEnd {
        if matches!(end, End::Completed(_)) {
            self.finish_message();
            if let Some(carry) = self.carry.take() {
                self.entry(Entry::Round {
                    calls: Vec::new(),
                    carry: Some(carry),
                });
            }
        }
        match end {
            End::Completed(reason) => RunEnd::new(RunStatus::Completed, reason),
            End::Incomplete(reason) => RunEnd::new(RunStatus::Incomplete, reason),
            End::Cancelled => self.stop.end(),
            End::Failed(_) if self.stop.is_stopped() => self.stop.end(),
            End::Failed(error) => RunEnd::failed(error),
            End::ToolCalls(calls) => unanswered(StopReason::ToolCalls, RunStatus::Completed, &calls),
        }
    }
}

impl From<RunEnd> for Ended {
    fn from(end: RunEnd) -> Self {
        Ended {
            end: Some(end),
            rest: None,
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

fn unanswered(reason: StopReason, status: RunStatus, calls: &[ToolCall]) -> RunEnd {
    RunEnd {
        tool_calls: calls.iter().map(ToolCallEntry::from).collect(),
        ..RunEnd::new(status, reason)
    }
}
