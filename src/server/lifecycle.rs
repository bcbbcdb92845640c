//! Beginning and end of a connection.
//!
//! Each way out ends runs first, each of them answered, then lets the writer flush, within a deadline.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::reply::ReplyTo;
use super::{Server, Stage, death, stalled};
use crate::config::{Dialect, Framing, Role};
use crate::error::{Error, Kind};
use crate::protocol::{
    ChosenProvider, ClientCapabilities, ClientInfo, Direction, EventChoice, EventType, InitializeParams,
    InitializeResult, METHODS, NoParams, PROTOCOL_VERSION, ServerCapabilities, StatusResult, StopReason,
};
use crate::run::Events;
use crate::watch;

/// How long `shutdown`, `exit` and a signal may take, in all.
const LEAVE_DEADLINE: Duration = Duration::from_millis(1500);

/// How long a client that is gone keeps the process, while an upstream is told to stop.
const GONE_DEADLINE: Duration = Duration::from_secs(2);

/// How long the database may take to be closed after the end of input.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// How long MCP servers may take to leave by themselves, while there is time.
const SERVERS_DEADLINE: Duration = Duration::from_millis(500);

/// What is flushed and closed after a deadline gets this long.
const LAST_MOMENT: Duration = Duration::from_millis(50);

/// The smallest `maxMessageBytes` that a client may say.
const MIN_MAX_MESSAGE: u64 = 4096;

/// Where the connection is on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
    /// Requests are taken.
    Open,
    /// No more requests come; what is under way is finished.
    InputEnded,
    /// `shutdown` was asked for; only `exit` is taken.
    Shut,
    /// The end, with this exit code, when everything is answered or the deadline has passed.
    Leaving(u8, Instant),
    /// The client is gone: nobody is answered, upstreams are told to stop.
    Gone(Instant),
    /// It is over.
    Over(u8),
}

/// A `shutdown` that is answered when all runs have ended, or when its time is up.
pub(super) struct Shutdown {
    reply: ReplyTo,
    deadline: Instant,
}

impl Phase {
    pub(super) fn reads(self) -> bool {
        matches!(self, Phase::Open | Phase::Shut)
    }

    pub(super) fn is_gone(self) -> bool {
        matches!(self, Phase::Gone(_) | Phase::Over(_))
    }

    pub(super) fn is_leaving(self) -> bool {
        matches!(self, Phase::Leaving(..)) || self.is_gone()
    }

    fn exit_code(self) -> u8 {
        match self {
            Phase::Leaving(code, _) | Phase::Over(code) => code,
            _ => 0,
        }
    }
}

/// The largest message sent to a client that says nothing: under asyncio's limit for lines, generous for headers.
pub(super) fn default_max_message(framing: Framing) -> usize {
    match framing {
        Framing::Lines => 60 * 1024,
        Framing::Headers => 16 * 1024 * 1024,
    }
}

impl Server {
    /// Answers in kind from the first frame on.
    pub(super) fn adopt_framing(&mut self, framing: Option<Framing>) {
        if let Some(framing) = framing
            && self.client.framing != Some(framing)
        {
            self.client.framing = Some(framing);
            let max_message = self.client.max_message.unwrap_or(default_max_message(framing));
            self.outbox.configure(framing, max_message);
        }
    }

    /// `initialize`
    pub(super) fn initialize(&mut self, params: InitializeParams) -> Result<InitializeResult, Error> {
        if self.client.has_spoken {
            return Err(Error::new(
                Kind::InvalidRequest,
                "`initialize` comes first or not at all",
            ));
        }
        if let Some(version) = params.protocol_version.filter(|version| *version != PROTOCOL_VERSION) {
            return Err(Error::new(
                Kind::UnsupportedVersion,
                format!("this build speaks version {PROTOCOL_VERSION} of the protocol, not {version}"),
            ));
        }
        self.adopt_capabilities(params.capabilities.unwrap_or_default())?;
        if let Some(settings) = params.settings {
            let mut merged = (*self.settings).clone();
            merged.override_with(settings);
            self.settings = merged.into();
        }
        self.client.death = params.process_id.and_then(watch::death_of);
        Ok(InitializeResult {
            protocol_version: PROTOCOL_VERSION,
            server_info: server_info(),
            capabilities: self.capabilities(),
            watching_process: self.client.death.is_some(),
            warnings: self.settings.problems.clone(),
        })
    }

    /// Makes the connection that the first request will use, once `initialize` was answered. Nothing waits for it, and
    /// nobody is told what comes of it. One who leaves after one command is about to make it anyway.
    pub(super) fn warm_up(&mut self) {
        if self.settings.role == Role::OneShot || self.settings.layer.warm == Some(false) {
            return;
        }
        let settings = self.settings.clone();
        let providers = self.providers.clone();
        let outbox = self.outbox.clone();
        self.warming.spawn_local(async move {
            outbox.flushed().await;
            let Ok(choice) = settings.choose(None, None) else {
                return;
            };
            let Ok(provider) = providers.provider(&settings, &choice) else {
                return;
            };
            if let Some(endpoint) = provider.endpoint()
                && !endpoint.credentials.asks_client()
            {
                endpoint.warm().await;
            }
        });
    }

    fn adopt_capabilities(&mut self, capabilities: ClientCapabilities) -> Result<(), Error> {
        if let Some(bytes) = capabilities.max_message_bytes {
            if bytes < MIN_MAX_MESSAGE {
                return Err(Error::invalid_params(format!(
                    "expected `capabilities.maxMessageBytes` to be at least {MIN_MAX_MESSAGE}, found {bytes}"
                )));
            }
            let max_message = usize::try_from(bytes).unwrap_or(usize::MAX);
            self.client.max_message = Some(max_message);
            let framing = self.client.framing.unwrap_or(Framing::Lines);
            self.outbox.configure(framing, max_message);
        }
        self.client.events = match capabilities.events {
            None => Events::default(),
            Some(EventChoice::All(_)) => Events::only(&EventType::ALL),
            Some(EventChoice::Only(types)) => Events::only(&types),
        };
        self.client.can_call_tools = capabilities.tool_call.unwrap_or(false);
        self.client.can_approve = capabilities.tool_approve.unwrap_or(false);
        if capabilities.auth_token.unwrap_or(false) {
            self.providers.ask_client_at(self.desk.clone());
        }
        Ok(())
    }

    fn capabilities(&self) -> ServerCapabilities {
        let requests = METHODS.iter().filter(|row| row.direction == Direction::ToServer);
        ServerCapabilities {
            methods: requests.map(|row| row.name.to_owned()).collect(),
            events: EventType::ALL.iter().map(|kind| kind.name().to_owned()).collect(),
            dialects: Dialect::BUILT
                .iter()
                .map(|dialect| dialect.as_str().to_owned())
                .collect(),
            max_message_bytes: self.outbox.max_message() as u64,
            max_input_bytes: self.settings.max_input_bytes(),
        }
    }

    /// `server/status`
    pub(super) fn status(&mut self, reply: ReplyTo, _: NoParams) {
        let figures = self.figures();
        let (settings, choosing) = (self.settings.clone(), self.choosing.clone());
        self.errand(reply, async move {
            let choice = choosing.settle(settings, None).await.choose(None, None).ok();
            Ok(StatusResult {
                provider: choice.map(|choice| ChosenProvider {
                    name: choice.provider,
                    dialect: choice.provider_settings.dialect.as_str().to_owned(),
                    model: choice.model,
                    reason: choice.reason,
                }),
                ..figures
            })
        });
    }

    fn figures(&self) -> StatusResult {
        StatusResult {
            server_info: server_info(),
            process_id: std::process::id(),
            uptime_ms: self.started_at.elapsed().as_millis() as u64,
            resident_bytes: watch::resident_bytes(),
            running: self.count(|stage| matches!(stage, Stage::Starting | Stage::Running)),
            queued: self.count(|stage| stage == Stage::Queued),
            unsent: self.outbox.unsent() as u64,
            database: self.store.path().map(|path| path.display().to_string()),
            provider: None,
        }
    }

    /// `shutdown`: answered when every run has ended and was answered.
    pub(super) fn shutdown(&mut self, reply: ReplyTo, _: NoParams) {
        self.phase = Phase::Shut;
        self.shutdown = Some(Shutdown {
            reply,
            deadline: Instant::now() + LEAVE_DEADLINE,
        });
        self.stop_all(StopReason::Cancelled);
        self.answer_shutdown_if_done();
    }

    /// `exit`
    pub(super) fn exit(&mut self) {
        let code = if self.phase == Phase::Shut { 0 } else { 1 };
        self.start_leaving(code);
    }

    /// A signal asks to leave: as `exit`, but nobody did anything wrong.
    pub(super) fn terminate(&mut self) {
        self.start_leaving(0);
    }

    fn start_leaving(&mut self, code: u8) {
        if !self.phase.is_leaving() {
            self.phase = Phase::Leaving(code, Instant::now() + LEAVE_DEADLINE);
            self.stop_all(StopReason::Cancelled);
        }
    }

    /// No more requests: runs under way and queued finish, what the client was asked ends as unanswered.
    pub(super) fn input_ended(&mut self) {
        if self.phase.reads() {
            self.phase = Phase::InputEnded;
        }
        self.refuse_asks("the client takes no more requests: its end of the connection is closed");
        self.leave_orphans();
    }

    /// Nobody reads any more.
    pub(super) fn client_gone(&mut self) {
        self.phase = Phase::Gone(Instant::now() + GONE_DEADLINE);
        self.refuse_asks("the client is gone");
        self.stop_all(StopReason::ClientGone);
    }

    /// When something has to be over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Leaving(_, deadline) | Phase::Gone(deadline) => Some(deadline),
            _ => self.shutdown.as_ref().map(|shutdown| shutdown.deadline),
        }
    }

    pub(super) fn on_deadline(&mut self) {
        if self.phase.is_leaving() {
            self.answer_what_is_left();
            self.phase = Phase::Over(self.phase.exit_code());
        }
        self.answer_shutdown();
    }

    /// Who still waits, for a database that is held up by somebody else, is told that there is no more time.
    fn answer_what_is_left(&mut self) {
        let runs = self.runs.values_mut().filter_map(|run| run.reply.take());
        let requests = self.owners.values().filter_map(|owner| owner.reply().cloned());
        let waiting: Vec<ReplyTo> = runs.chain(requests).collect();
        for reply in waiting {
            let error = Error::new(Kind::ShuttingDown, "assistd had to leave before this was done");
            self.respond(reply, Err(error));
        }
    }

    /// Answers `shutdown` if nothing is left to wait for. Called whenever something has ended.
    pub(super) fn answer_shutdown_if_done(&mut self) {
        if self.runs.is_empty() {
            self.answer_shutdown();
        }
    }

    fn answer_shutdown(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            self.respond(shutdown.reply, Ok("null".to_owned()));
        }
    }

    /// Whether the loop has nothing left to do.
    pub(super) fn is_over(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Shut => false,
            Phase::InputEnded | Phase::Leaving(..) => self.runs.is_empty() && self.tasks.is_empty(),
            // Answers interest nobody now; what was shown is kept and upstreams are told.
            Phase::Gone(_) => self.runs.is_empty() && self.owners.values().all(|owner| owner.reply().is_some()),
            Phase::Over(_) => true,
        }
    }

    /// After the loop: what is queued is flushed, the store closed. The result is the process's exit code.
    pub(super) async fn leave(mut self, mut writer: JoinHandle<std::io::Result<()>>) -> u8 {
        self.tasks.abort_all();
        let code = self.phase.exit_code();
        self.outbox.close();
        let deadline = match self.phase {
            Phase::Gone(deadline) => {
                writer.abort();
                deadline
            }
            Phase::Leaving(_, deadline) => {
                let _ = tokio::time::timeout_at(deadline, &mut writer).await;
                deadline
            }
            Phase::Over(_) => {
                let _ = tokio::time::timeout(LAST_MOMENT, &mut writer).await;
                Instant::now()
            }
            Phase::Open | Phase::Shut | Phase::InputEnded => {
                self.flush(&mut writer).await;
                Instant::now() + CLOSE_DEADLINE
            }
        };
        let limit = match self.phase {
            Phase::Gone(_) => LAST_MOMENT,
            _ => SERVERS_DEADLINE.min(deadline - Instant::now()).max(LAST_MOMENT),
        };
        let store = self.store.clone();
        let servers = std::mem::take(&mut self.mcp);
        drop(self);
        // What the database does not have by then stands in the journal.
        let deadline = deadline.max(Instant::now() + LAST_MOMENT);
        let _ = tokio::join!(tokio::time::timeout_at(deadline, store.close()), servers.close(limit));
        code
    }

    /// After the end of its input a client may take its time, while it is there and takes anything.
    async fn flush(&mut self, writer: &mut JoinHandle<std::io::Result<()>>) {
        let signals = self.signals.clone();
        tokio::select! {
            _ = &mut *writer => {}
            () = stalled(&self.outbox) => {}
            () = death(&mut self.client.death) => {}
            () = signals.client_gone.cancelled() => {}
            () = signals.terminate.cancelled() => {
                let _ = tokio::time::timeout(LEAVE_DEADLINE, writer).await;
            }
        }
    }
}

fn server_info() -> ClientInfo {
    ClientInfo {
        name: "assistd".into(),
        version: Some(env!("CARGO_PKG_VERSION").into()),
    }
}
