//! A run from the request that asks for it to its task.
//!
//! Preparing → Beginning → (Queued → Starting →) Running → gone. Until it has begun, a failure is only an error and
//! nothing is stored; from then on there is `assistant/started`, …, `assistant/completed`, then the response.

use std::sync::Arc;

use super::prepared::{Prepared, check};
use super::queue::{Arrival, MAX_QUEUED};
use super::reply::ReplyTo;
use super::{Done, LiveRun, Owner, Server, Stage};
use crate::error::{Error, Kind};
use crate::ids;
use crate::outbox::{Address, Body};
use crate::protocol::{OnBusy, RunStatus, SendParams, SendResult, StartedParams, StopReason, ThreadEntry, ToolOutput};
use crate::provider::Request;
use crate::rpc::{self, Id};
use crate::run::{self, Start};
use crate::store::{Background, Begun, NewRun, NewThread, Snapshot, Target};

/// How many runs may be live at once.
const MAX_RUNS: usize = 1024;

/// What a request asked for.
pub(super) struct Sending {
    params: SendParams,
    is_new_thread: bool,
}

impl Server {
    /// `assistant/send`
    pub(super) fn send(&mut self, reply: ReplyTo, params: SendParams) -> Result<(), Error> {
        check(&params)?;
        if self.runs.len() >= MAX_RUNS {
            return Err(Error::new(
                Kind::Overloaded,
                format!("{MAX_RUNS} runs are under way, and more are not taken"),
            ));
        }
        let run_id = ids::run();
        let is_new_thread = params.thread_id.is_none();
        let thread_id = params.thread_id.clone().unwrap_or_else(ids::thread);
        let token = match &params.token {
            Some(token) => Some(token.to_value()),
            None => reply.id.as_ref().map(Id::as_value),
        };
        self.runs.insert(
            run_id.clone(),
            LiveRun {
                token,
                reply: Some(reply),
                sending: Some(Sending { params, is_new_thread }),
                ..LiveRun::new(&thread_id)
            },
        );
        self.arrive(&thread_id, Arrival::Send(run_id));
        Ok(())
    }

    /// Resolves thread, assistant, provider and credentials.
    pub(super) fn prepare(&mut self, run_id: String) {
        let Some(run) = self.runs.get(&run_id) else {
            return;
        };
        let Some(sending) = &run.sending else {
            return;
        };
        let thread = (!sending.is_new_thread).then(|| self.store.thread(run.thread_id.clone()));
        let (settings, choosing) = (self.settings.clone(), self.choosing.clone());
        let providers = self.providers.clone();
        let params = sending.params.clone();
        let stop = run.stop.token();
        self.spawn(Owner::Run(run_id.clone()), async move {
            let prepared = async {
                let thread: Option<ThreadEntry> = match thread {
                    Some(thread) => Some(thread.await?),
                    None => None,
                };
                let remembered = thread.and_then(|thread| thread.assistant);
                let assistant = params.assistant.as_deref().or(remembered.as_deref());
                let settings = choosing.settle(settings, assistant).await;
                let choice = settings.choose(assistant, params.model.as_deref())?;
                let mcp = settings.mcp_servers(&choice, params.mcp.as_deref())?;
                let provider = providers.provider(&settings, &choice)?;
                let mut prepared = Prepared::new(params, choice, mcp, provider);
                prepared.read_content().await?;
                // A run that is cancelled by now exists, and ends before its provider is asked anything.
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    ready = prepared.provider.prepare() => ready?,
                }
                Ok(prepared)
            };
            let prepared = prepared.await;
            Done::Prepared(run_id, Box::new(prepared))
        });
    }

    pub(super) fn on_prepared(&mut self, run_id: &str, result: Result<Prepared, Error>) {
        let Some(run) = self.runs.get(run_id) else {
            return;
        };
        let thread_id = run.thread_id.clone();
        if let Some(queue) = self.threads.get_mut(&thread_id) {
            queue.is_preparing = false;
        }
        if let Err(error) = result.and_then(|prepared| self.begin(run_id, prepared)) {
            self.refuse(run_id, error);
        }
        self.advance(&thread_id);
    }

    /// Stores the run, to start at once or to wait for its thread.
    fn begin(&mut self, run_id: &str, mut prepared: Prepared) -> Result<(), Error> {
        let run = self.runs.get_mut(run_id).expect("the run was found before");
        let sending = run.sending.take().expect("a run is prepared once");
        let thread_id = run.thread_id.clone();
        let queue = self.threads.entry(thread_id.clone()).or_default();
        let in_the_way = queue.running.clone().or_else(|| queue.queued.front().cloned());
        // A thread whose last run's upstream is still being told to stop is free for whoever asks, but waits for that.
        let is_busy = in_the_way.is_some() || queue.draining > 0;
        let on_busy = sending.params.on_busy.unwrap_or_default();
        if let Some(in_the_way) = in_the_way {
            if sending.params.has_outputs() {
                return Err(Error::invalid_params(format!(
                    "thread `{thread_id}` waits for no tool outputs: it has a run under way"
                )));
            }
            if on_busy == OnBusy::Error {
                return Err(busy(&thread_id, &in_the_way, "has a run under way"));
            }
            if queue.queued.len() >= MAX_QUEUED {
                return Err(busy(&thread_id, &in_the_way, "has 64 runs waiting already"));
            }
        }
        run.stage = Stage::Beginning;
        run.provider = prepared.choice.provider.clone();
        let new_run = new_run(run_id, &thread_id, sending, &mut prepared, is_busy);
        run.prepared = Some(prepared);
        let superseded = match (is_busy, on_busy) {
            (false, _) => {
                queue.running = Some(run_id.to_owned());
                None
            }
            (true, OnBusy::Interrupt) => {
                queue.queued.push_front(run_id.to_owned());
                queue.running.clone()
            }
            (true, _) => {
                queue.queued.push_back(run_id.to_owned());
                None
            }
        };
        let begun = self.store.begin(new_run);
        let run_id = run_id.to_owned();
        self.spawn(
            Owner::Run(run_id.clone()),
            async move { Done::Begun(run_id, begun.await) },
        );
        if let Some(superseded) = superseded {
            self.stop_run(&superseded, StopReason::Superseded);
        }
        Ok(())
    }

    /// The run exists: the client is told.
    pub(super) fn on_begun(&mut self, run_id: &str, result: Result<Begun, Error>) {
        let begun = match result {
            Ok(begun) => begun,
            Err(error) => return self.refuse(run_id, error),
        };
        let Some(run) = self.runs.get_mut(run_id) else {
            return;
        };
        run.stage = if begun.snapshot.is_some() {
            Stage::Running
        } else {
            Stage::Queued
        };
        let lane = self
            .outbox
            .lane(Address::new(&run.thread_id, run_id, run.token.clone()));
        run.lane = Some(lane.clone());
        run.seq.set(1);
        let prepared = run.prepared.as_ref().expect("a run is prepared before it begins");
        let started = StartedParams {
            thread_id: run.thread_id.clone(),
            run_id: run_id.to_owned(),
            seq: 1,
            token: run.token.clone(),
            status: run.stage.status(),
            provider: run.provider.clone(),
            model: prepared.choice.model.clone(),
        };
        lane.notify(Body::Ready(rpc::notify("assistant/started", &started)));
        if !prepared.waits {
            let reply = run.reply.take();
            let result = SendResult::started(run_id, &run.thread_id, run.stage.status());
            let result = serde_json::to_string(&result).expect("a result is plain data");
            self.respond_in_lane(&lane, reply, move |_| Ok(result));
        }
        match begun.snapshot {
            Some(snapshot) => self.launch(run_id, snapshot),
            None => self.on_queued(run_id),
        }
    }

    fn on_queued(&mut self, run_id: &str) {
        let run = &self.runs[run_id];
        let thread_id = run.thread_id.clone();
        if run.stop.is_stopped() {
            let end = run.stop.end();
            return self.finish(run_id, end, None);
        }
        self.advance(&thread_id);
    }

    pub(super) fn on_started(&mut self, run_id: &str, result: Result<Snapshot, Error>) {
        match result {
            Ok(snapshot) => self.launch(run_id, snapshot),
            Err(error) => self.fail(run_id, error),
        }
    }

    /// Spawns the run's task.
    fn launch(&mut self, run_id: &str, snapshot: Snapshot) {
        let desk = self.client.can_call_tools.then(|| self.desk.clone());
        let approval = self.client.can_approve.then(|| self.desk.clone());
        let Some(run) = self.runs.get_mut(run_id) else {
            return;
        };
        let was_queued = std::mem::replace(&mut run.stage, Stage::Running) == Stage::Starting;
        run.journal = Some(snapshot.journal.clone());
        self.journal = Some(snapshot.journal.clone());
        let prepared = run.prepared.take().expect("a run starts once");
        let request = Request {
            model: prepared.choice.model,
            instructions: prepared.instructions,
            conversation: Arc::new(snapshot.conversation),
            tools: prepared.tools,
            options: prepared.options,
            anchor: snapshot.anchor,
            rounds: snapshot.rounds,
            cancel: run.stop.token(),
        };
        let start = Start {
            provider: prepared.provider,
            request,
            lane: run.lane.clone().expect("a run has its lane before it starts"),
            journal: snapshot.journal,
            transcript: run.transcript.clone(),
            seq: run.seq.clone(),
            events: self.client.events,
            was_queued,
            desk,
            tool_timeout: self.settings.tool_timeout(),
            servers: self.mcp.named(&self.settings, &prepared.mcp),
            approval,
            stop: run.stop.clone(),
        };
        let run_id = run_id.to_owned();
        self.spawn(Owner::Run(run_id.clone()), async move {
            Done::Ended(run_id, run::answer(start).await)
        });
    }

    /// A failure before the run existed: only an error.
    pub(super) fn refuse(&mut self, run_id: &str, error: Error) {
        let Some(run) = self.runs.remove(run_id) else {
            return;
        };
        if let Some(reply) = run.reply {
            self.respond(reply, Err(error));
        }
        self.release(&run.thread_id, run_id);
        self.advance(&run.thread_id);
    }
}

impl SendResult {
    /// The answer of a send that does not wait.
    fn started(run_id: &str, thread_id: &str, status: RunStatus) -> Self {
        SendResult {
            thread_id: thread_id.to_owned(),
            run_id: run_id.to_owned(),
            status,
            message_id: None,
            messages: None,
            stop_reason: None,
            text: None,
            content: None,
            tool_calls: None,
            usage: None,
            omitted: None,
        }
    }
}

fn new_run(run_id: &str, thread_id: &str, sending: Sending, prepared: &mut Prepared, queued: bool) -> NewRun {
    let params = sending.params;
    let thread = match sending.is_new_thread {
        false => Target::Existing(thread_id.to_owned()),
        true => Target::New(NewThread {
            id: thread_id.to_owned(),
            title: None,
            assistant: prepared.choice.assistant.clone(),
            metadata: params.metadata.unwrap_or_default(),
            truncation: prepared.choice.truncation.unwrap_or_default(),
        }),
    };
    let outputs = params.tool_outputs.into_iter().flatten();
    let background = prepared.provider.keeps_running().then(|| Background {
        instructions: prepared.instructions.clone(),
        tools: prepared.tools.clone(),
        options: prepared.options.clone(),
    });
    NewRun {
        run_id: run_id.to_owned(),
        thread,
        message_id: ids::message(),
        content: prepared.content.take(),
        outputs: outputs.map(ToolOutput::from).collect(),
        background,
        provider: prepared.choice.provider.clone(),
        model: prepared.choice.model.clone(),
        assistant: prepared.choice.assistant.clone(),
        queued,
    }
}

fn busy(thread_id: &str, run_id: &str, why: &str) -> Error {
    let mut error = Error::new(Kind::Busy, format!("thread `{thread_id}` {why}"));
    error.data.run_id = Some(run_id.to_owned());
    error.data.thread_id = Some(thread_id.to_owned());
    error.with_hint("wait for its `assistant/completed`, or send with `onBusy` `queue` or `interrupt`")
}
