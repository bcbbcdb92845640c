//! One life of a server: from its start to its death.
//!
//! Everything that can go wrong is a sentence about the server, without its name: `could not be started: …`. It is
//! waited for by whoever opened it; nothing but the crate's own loop and the program's readers runs beside.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt, RunningService, ServiceError};
use rmcp::transport::async_rw::AsyncRwTransport;
use serde_json::{Map, Value};

use super::Secrets;
use super::output::Output;
use super::peer::Peer;
use super::program::Program;
use crate::config::McpSettings;

/// How long an answer may be on its way when the process has died: it may stand in the pipe.
const LAST_ANSWER: Duration = Duration::from_millis(200);

/// How much of a server's message is passed on, in characters.
const SAID_MAX: usize = 1024;

/// A server that was started.
pub(super) struct Session {
    // Dropped first, so that nobody complains of a program that is killed.
    service: RunningService<RoleClient, Peer>,
    program: Program,
    tools: RefCell<Option<Rc<[Listed]>>>,
    has_changed: Arc<AtomicBool>,
}

/// A tool, as its server lists it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) parameters: Map<String, Value>,
}

/// What is needed to start one.
pub(super) struct Plan<'a> {
    pub(super) server: &'a str,
    pub(super) settings: &'a McpSettings,
    /// Variables of our environment that are kept from it.
    pub(super) withheld: &'a [String],
    pub(super) secrets: &'a Secrets,
}

impl Session {
    /// Starts the program and agrees with it on a version. One that refuses the handshake of old is started again and
    /// asked as the versions without one have it.
    pub(super) async fn start(plan: &Plan<'_>) -> Result<Session, String> {
        match Session::start_as(plan, ClientLifecycleMode::Initialize).await {
            Err(Refusal::Handshake(refused)) => {
                let preferred_versions = vec![ProtocolVersion::LATEST];
                let modern = ClientLifecycleMode::Discover { preferred_versions };
                let started = Session::start_as(plan, modern).await;
                started.map_err(|_| refused)
            }
            Err(Refusal::Other(problem)) => Err(problem),
            Ok(session) => Ok(session),
        }
    }

    async fn start_as(plan: &Plan<'_>, lifecycle: ClientLifecycleMode) -> Result<Session, Refusal> {
        let started = Program::start(plan.server, plan.settings, plan.withheld, plan.secrets);
        let (program, (stdout, stdin)) =
            started.map_err(|error| Refusal::Other(format!("could not be started: {error}")))?;
        let has_changed = Arc::new(AtomicBool::new(false));
        let peer = Peer {
            server: plan.server.to_owned(),
            secrets: plan.secrets.clone(),
            has_changed: has_changed.clone(),
        };
        let transport = AsyncRwTransport::new_client(stdout, stdin);
        let limit = plan.settings.startup_timeout();
        let serving = peer.serve_with_lifecycle(transport, lifecycle);
        let service = match tokio::time::timeout(limit, serving).await {
            Ok(Ok(service)) => service,
            Ok(Err(error)) => return Err(refusal(plan, &program, error).await),
            Err(_) => {
                let (seconds, words) = (limit.as_secs_f64(), program.words());
                return Err(Refusal::Other(format!("was not ready within {seconds} s{words}")));
            }
        };
        Ok(Session {
            service,
            program,
            tools: RefCell::default(),
            has_changed,
        })
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.service.is_closed() || self.program.death().now_or_never().is_some()
    }

    /// What it offers, asked for again when that has changed.
    pub(super) async fn tools(&self, limit: Duration) -> Result<Rc<[Listed]>, String> {
        // Who has no handshake does not say by itself that something has changed.
        let info = self.service.peer().peer_info();
        let says_changes = info.as_ref().is_some_and(|info| info.protocol_version.has_initialize());
        if self.has_changed.swap(false, Ordering::Relaxed) || !says_changes {
            self.tools.replace(None);
        }
        if let Some(known) = self.tools.borrow().clone() {
            return Ok(known);
        }
        if info.is_some_and(|info| info.capabilities.tools.is_none()) {
            return Ok(Rc::new([]));
        }
        let listed = tokio::time::timeout(limit, self.service.peer().list_all_tools()).await;
        let listed = match listed {
            Ok(Ok(listed)) => listed,
            Ok(Err(error)) => return Err(format!("did not list its tools{}", self.why(error).await)),
            Err(_) => return Err(format!("did not list its tools within {} s", limit.as_secs_f64())),
        };
        let listed: Rc<[Listed]> = listed.into_iter().map(Listed::from).collect();
        self.tools.replace(Some(listed.clone()));
        Ok(listed)
    }

    /// Calls a tool. Dropped before its end, it tells the server to stop. An error is that the tool cannot be known to
    /// have been called.
    pub(super) async fn call(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
        limit: Duration,
    ) -> Result<Output, String> {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let mut call = std::pin::pin!(self.service.call_tool(params));
        let answered = tokio::select! {
            answered = tokio::time::timeout(limit, &mut call) => answered,
            () = self.program.death() => match tokio::time::timeout(LAST_ANSWER, &mut call).await {
                Ok(answered) => Ok(answered),
                Err(_) => Ok(Err(ServiceError::TransportClosed)),
            },
        };
        match answered {
            Ok(Ok(result)) => Ok(result.into()),
            Ok(Err(ServiceError::McpError(error))) => Ok(Output {
                text: format!("error: {}", error.message),
                is_error: true,
            }),
            Ok(Err(error)) => Err(format!("did not answer the call of `{tool}`{}", self.why(error).await)),
            Err(_) => Err(format!(
                "did not answer the call of `{tool}` within {} s",
                limit.as_secs_f64()
            )),
        }
    }

    /// Closes its input, asks it once more when this time is almost over, and kills what is left of it at the end.
    pub(super) async fn close(&self, limit: Duration, last_part: Duration) {
        self.service.cancellation_token().cancel();
        if tokio::time::timeout(limit - last_part, self.program.death())
            .await
            .is_err()
        {
            self.program.terminate();
            let _ = tokio::time::timeout(last_part, self.program.death()).await;
        }
    }

    /// The end of a sentence that says why there is no answer.
    async fn why(&self, error: ServiceError) -> String {
        match error {
            ServiceError::McpError(error) => format!(": {}", cut(&error.message)),
            ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                let words = self.program.last_words().await;
                format!(": it has ended{words}")
            }
            ServiceError::InputRequiredRoundsExceeded { .. } => ": it wants to be told more than there is".to_owned(),
            _ => " as MCP has it".to_owned(),
        }
    }
}

/// Why a session could not begin.
enum Refusal {
    /// The server is there, and does not know this kind of beginning.
    Handshake(String),
    Other(String),
}

impl From<rmcp::model::Tool> for Listed {
    fn from(tool: rmcp::model::Tool) -> Self {
        Listed {
            name: tool.name.into_owned(),
            description: tool.description.map(|description| description.into_owned()),
            parameters: Arc::unwrap_or_clone(tool.input_schema),
        }
    }
}

/// Why it does not begin.
async fn refusal(plan: &Plan<'_>, program: &Program, error: ClientInitializeError) -> Refusal {
    match error {
        ClientInitializeError::JsonRpcError(error) => {
            let said = cut(&plan.secrets.blank(&error.message));
            Refusal::Handshake(format!("refused to begin: {said}"))
        }
        ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. } => {
            let words = program.last_words().await;
            Refusal::Other(format!("ended before it was ready{words}"))
        }
        error => {
            let said = plan.secrets.blank(&error.to_string());
            tracing::debug!(server = plan.server, "a strange beginning: {said}");
            Refusal::Other(format!("did not begin as MCP has it{}", program.words()))
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(SAID_MAX).collect()
}
