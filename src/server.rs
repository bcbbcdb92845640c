//! The loop and the live state: requests come in, runs go out, ends come back.
//!
//! The server is the only owner of what is live: runs, the queues of threads, what the client was asked. Every response
//! is sent from here ([`Server::respond`] and, for a run's own request, [`Server::finish`]). Nothing here waits but the
//! loop: what takes time is a task, and its end is an event of the loop, a panic too.

mod asks;
mod cancel;
mod catalog;
mod choosing;
mod credentials;
mod dispatch;
mod finish;
mod lifecycle;
mod models;
mod prepared;
mod providers;
mod queue;
mod reply;
mod send;
mod take_up;
mod threads;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::{Id as TaskId, JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::codec::FramedRead;

use crate::Signals;
use crate::config::{Framing, Settings};
use crate::desk::{Ask, Desk};
use crate::error::{Error, Kind};
use crate::frame::{FrameError, Frames};
use crate::mcp;
use crate::outbox::{self, Lane, Outbox};
use crate::protocol::RunStatus;
use crate::run::{Ended, Events, Stop};
use crate::store::{Begun, Journal, Orphan, Place, Snapshot, Store};
use crate::transcript::Transcript;

use asks::OpenAsks;
use choosing::Choosing;
use lifecycle::{Phase, Shutdown};
use prepared::Prepared;
use providers::Providers;
use queue::ThreadQueue;
use reply::{Batches, ReplyTo};
use send::Sending;

/// How much is read at once, in bytes.
const READ: usize = 16 * 1024;

/// How many requests may be under way, besides runs, before assistd stops reading the client.
const ERRANDS: usize = 1024;

/// The daemon's whole live state.
pub(crate) struct Server {
    settings: Rc<Settings>,
    signals: Signals,
    outbox: Outbox,
    store: Store,
    /// The journal, from the first run on.
    journal: Option<Journal>,
    providers: Rc<Providers>,
    mcp: mcp::Servers,
    choosing: Rc<Choosing>,
    client: Client,
    runs: HashMap<String, LiveRun>,
    threads: HashMap<String, ThreadQueue>,
    /// What they give back is boxed: a task's poll moves its output's place, and a run is polled for each delta.
    tasks: JoinSet<Box<Done>>,
    /// What a task's panic ends.
    owners: HashMap<TaskId, Owner>,
    desk: Desk,
    asks: OpenAsks,
    batches: Batches,
    phase: Phase,
    shutdown: Option<Shutdown>,
    started_at: Instant,
    /// Runs whose end the database does not have yet.
    unfolded: usize,
    /// The journal holds runs that are left to the next daemon.
    has_left_runs: bool,
    /// Runs of dead processes that are not taken up yet.
    orphans: Vec<Orphan>,
    wire_log: Option<crate::wire_log::WireLog>,
    /// A connection that is made ahead of time; given up when the server goes.
    warming: JoinSet<()>,
}

/// What `initialize` said of the client, or what holds without it.
#[derive(Default)]
struct Client {
    framing: Option<Framing>,
    has_spoken: bool,
    events: Events,
    can_call_tools: bool,
    can_approve: bool,
    max_message: Option<usize>,
    /// Fires when the client's process has died.
    death: Option<futures::future::LocalBoxFuture<'static, ()>>,
}

/// A run from the request that asks for it to its end.
struct LiveRun {
    thread_id: String,
    stage: Stage,
    stop: Stop,
    token: Option<Value>,
    /// Who is to be answered when it ends; taken once.
    reply: Option<ReplyTo>,
    /// What was asked; taken when it is prepared.
    sending: Option<Sending>,
    /// What it will be answered with; taken when it starts.
    prepared: Option<Prepared>,
    provider: String,
    lane: Option<Lane>,
    journal: Option<Journal>,
    transcript: Rc<RefCell<Transcript>>,
    seq: Rc<Cell<u64>>,
    /// A dead process began it.
    is_orphan: bool,
}

impl LiveRun {
    /// One that nobody has asked for yet.
    fn new(thread_id: &str) -> Self {
        LiveRun {
            thread_id: thread_id.to_owned(),
            stage: Stage::Preparing,
            stop: Stop::default(),
            token: None,
            reply: None,
            sending: None,
            prepared: None,
            provider: String::new(),
            lane: None,
            journal: None,
            transcript: Rc::default(),
            seq: Rc::default(),
            is_orphan: false,
        }
    }
}

/// How far a run is on its way. The client knows of it from `Queued` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Thread, assistant, provider and credentials are being resolved.
    Preparing,
    /// It is being stored, to run at once or to wait.
    Beginning,
    /// It waits for its thread.
    Queued,
    /// Its message is being put into the thread.
    Starting,
    /// Its task runs.
    Running,
}

/// What a task gives back to the loop.
enum Done {
    Answered(ReplyTo, Result<String, Error>),
    Prepared(String, Box<Result<Prepared, Error>>),
    Begun(String, Result<Begun, Error>),
    Started(String, Result<Snapshot, Error>),
    Ended(String, Ended),
    Drained(String),
    Folded(Result<(), Error>),
    Deleted(String, ReplyTo, Result<(), Error>),
}

/// Who is told if a task panics.
enum Owner {
    Request(ReplyTo),
    Run(String),
    Thread(String),
    Deletion(String, ReplyTo),
    Fold,
}

impl Owner {
    /// The request that only this task answers.
    fn reply(&self) -> Option<&ReplyTo> {
        match self {
            Owner::Request(reply) | Owner::Deletion(_, reply) => Some(reply),
            Owner::Run(_) | Owner::Thread(_) | Owner::Fold => None,
        }
    }
}

/// Serves one client until it leaves. The result is the process's exit code.
pub(crate) async fn serve<I, O>(input: I, output: O, settings: Settings, signals: Signals) -> u8
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin + 'static,
{
    let frames = Frames::new(settings.framing, settings.max_input_bytes() as usize);
    let mut input = FramedRead::with_capacity(input, frames, READ);
    let (mut server, mut asks, mut orphans) = Server::new(settings, signals);
    let tap = server.wire_log.as_ref().map(|log| log.tap());
    let mut writer = tokio::task::spawn_local(outbox::write(server.outbox.clone(), output, tap));
    server.run(&mut input, &mut asks, &mut orphans, &mut writer).await;
    server.leave(writer).await
}

impl Server {
    fn new(settings: Settings, signals: Signals) -> (Server, mpsc::Receiver<Ask>, mpsc::UnboundedReceiver<Orphan>) {
        let place = match &settings.data_dir {
            Some(folder) => Place::Folder(folder.clone()),
            None => Place::Memory,
        };
        let (desk, asks) = Desk::new();
        let (store, orphans) = Store::open_for_orphans(place, settings.role);
        let framing = settings.framing.unwrap_or(Framing::Lines);
        let server = Server {
            store,
            journal: None,
            wire_log: crate::wire_log::WireLog::open(&settings),
            settings: Rc::new(settings),
            signals,
            outbox: Outbox::new(framing, lifecycle::default_max_message(framing)),
            providers: Rc::default(),
            mcp: mcp::Servers::default(),
            choosing: Rc::default(),
            client: Client::default(),
            runs: HashMap::new(),
            threads: HashMap::new(),
            tasks: JoinSet::new(),
            owners: HashMap::new(),
            desk,
            asks: OpenAsks::default(),
            batches: Batches::default(),
            phase: Phase::Open,
            shutdown: None,
            started_at: Instant::now(),
            unfolded: 0,
            warming: JoinSet::new(),
            has_left_runs: false,
            orphans: Vec::new(),
        };
        (server, asks, orphans)
    }

    /// The loop. Its priority: being told to leave, then what the store has found (before what it answers behind that),
    /// then ends, then what runs ask, then the client's death, and new
    /// requests last, so that what is under way is never starved by what comes in.
    async fn run<I: AsyncRead + Unpin>(
        &mut self,
        input: &mut FramedRead<I, Frames>,
        asks: &mut mpsc::Receiver<Ask>,
        orphans: &mut mpsc::UnboundedReceiver<Orphan>,
        writer: &mut JoinHandle<io::Result<()>>,
    ) {
        while !self.is_over() {
            let signals = self.signals.clone();
            let outbox = self.outbox.clone();
            let phase = self.phase;
            let has_room = outbox.has_response_room() && self.owners.len() < ERRANDS + self.runs.len();
            let deadline = self.deadline();
            tokio::select! {
                biased;
                () = signals.terminate.cancelled(), if !phase.is_leaving() => self.terminate(),
                () = at(deadline), if deadline.is_some() => self.on_deadline(),
                Some(orphan) = orphans.recv() => self.on_orphan(orphan),
                Some(done) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.on_done(done),
                Some(ask) = asks.recv() => self.ask(ask),
                id = self.asks.abandoned_token(), if self.asks.has_token() => self.withdraw_token(id),
                () = signals.client_gone.cancelled(), if !phase.is_gone() => self.client_gone(),
                () = death(&mut self.client.death), if !phase.is_gone() => self.client_gone(),
                _ = &mut *writer, if !phase.is_gone() => self.client_gone(),
                () = outbox.response_room(), if phase.reads() && !outbox.has_response_room() => {}
                () = stalled(&outbox), if phase == Phase::InputEnded => self.client_gone(),
                frame = input.next(), if phase.reads() && has_room => {
                    self.on_frame(frame, input.decoder().framing());
                    input.decoder_mut().set_max_input(self.settings.max_input_bytes() as usize);
                }
            }
        }
    }

    fn on_frame(&mut self, frame: Option<io::Result<Result<String, FrameError>>>, framing: Option<Framing>) {
        self.adopt_framing(framing);
        match frame {
            Some(Ok(Ok(text))) => {
                if let Some(log) = &self.wire_log {
                    log.received(&text);
                }
                self.on_text(&text);
            }
            Some(Ok(Err(bad))) => self.outbox.respond(crate::rpc::refuse(None, &bad.into())),
            Some(Err(error)) => {
                tracing::warn!(%error, "the input cannot be read");
                self.input_ended();
            }
            None => self.input_ended(),
        }
    }

    fn on_done(&mut self, done: Result<(TaskId, Box<Done>), JoinError>) {
        match done {
            Ok((id, done)) => {
                self.owners.remove(&id);
                self.on_event(*done);
            }
            Err(error) => {
                let owner = self.owners.remove(&error.id());
                tracing::error!(%error, "a task has panicked");
                self.on_panic(owner);
            }
        }
        self.answer_shutdown_if_done();
    }

    fn on_event(&mut self, done: Done) {
        match done {
            Done::Answered(reply, result) => self.respond(reply, result),
            Done::Prepared(run_id, result) => self.on_prepared(&run_id, *result),
            Done::Begun(run_id, result) => self.on_begun(&run_id, result),
            Done::Started(run_id, result) => self.on_started(&run_id, result),
            Done::Ended(run_id, ended) => match ended.end {
                Some(end) => self.finish(&run_id, end, ended.rest),
                None => self.leave_run(&run_id),
            },
            Done::Drained(thread_id) => self.on_drained(&thread_id),
            Done::Folded(result) => self.on_folded(result),
            Done::Deleted(thread_id, reply, result) => self.on_deleted(&thread_id, reply, result),
        }
    }

    /// A task that panicked still answers whoever waits for it.
    fn on_panic(&mut self, owner: Option<Owner>) {
        let error = Error::new(
            Kind::Internal,
            "assistd has a bug here and could not go on; the log has the details",
        );
        match owner {
            Some(Owner::Request(reply)) => self.respond(reply, Err(error)),
            Some(Owner::Run(run_id)) => self.fail(&run_id, error),
            Some(Owner::Thread(thread_id)) => self.on_drained(&thread_id),
            Some(Owner::Deletion(thread_id, reply)) => self.on_deleted(&thread_id, reply, Err(error)),
            Some(Owner::Fold) => self.on_folded(Err(error)),
            None => {}
        }
    }

    fn spawn(&mut self, owner: Owner, task: impl Future<Output = Done> + 'static) {
        let handle = self.tasks.spawn_local(async { Box::new(task.await) });
        self.owners.insert(handle.id(), owner);
    }

    fn count(&self, wanted: impl Fn(Stage) -> bool) -> u32 {
        self.runs.values().filter(|run| wanted(run.stage)).count() as u32
    }
}

impl Stage {
    /// What the client is told of it.
    fn status(self) -> RunStatus {
        match self {
            Stage::Preparing | Stage::Beginning | Stage::Queued => RunStatus::Queued,
            Stage::Starting | Stage::Running => RunStatus::InProgress,
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn death(death: &mut Option<futures::future::LocalBoxFuture<'static, ()>>) {
    match death {
        Some(death) => death.await,
        None => std::future::pending().await,
    }
}

/// Ends when the client has taken nothing for ten seconds while something waited for it.
async fn stalled(outbox: &Outbox) {
    const PATIENCE: Duration = Duration::from_secs(10);
    loop {
        let before = outbox.progress();
        tokio::time::sleep(PATIENCE).await;
        if before.0 && outbox.progress() == before {
            return;
        }
    }
}
