//! A server of the settings, whether it runs or not.
//!
//! It is started by the first who needs it; others who need it meanwhile wait for that. What its user has allowed for
//! good is known here, and outlives its process.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Secrets;
use super::session::{Listed, Plan, Session};
use crate::config::{Approve, McpSettings, Settings};

/// Names of variables that hold secrets have one of these words in them.
const SECRET_WORDS: [&str; 4] = ["KEY", "TOKEN", "SECRET", "PASSWORD"];

/// The shortest value that is taken for a secret, in bytes.
const SECRET_MIN: usize = 8;

/// A server that could not be started is left alone for this many times the time that it took to find out: one that
/// fails at once may be mended and tried at once, one that is slow to fail must not hold up every run.
const REST: u32 = 10;

/// A server of the settings.
pub struct Server {
    name: String,
    settings: McpSettings,
    call_timeout: Duration,
    withheld: Vec<String>,
    secrets: Secrets,
    /// Held while it is started.
    state: Mutex<State>,
    /// Tools that the user has allowed for as long as this process lives.
    allowed: RefCell<HashSet<String>>,
}

#[derive(Clone)]
enum State {
    Idle,
    Live(Rc<Session>),
    Failed { problem: String, until: Instant },
}

impl Server {
    pub(super) fn new(name: &str, settings: &Settings) -> Server {
        let own = settings.layer.mcp[name].clone();
        let withheld = settings
            .key_variables()
            .filter(|key| !own.env_from.iter().any(|passed| passed == key));
        let inherited = settings.environment.iter().filter(|(name, value)| {
            let name = name.to_ascii_uppercase();
            value.len() >= SECRET_MIN && SECRET_WORDS.iter().any(|word| name.contains(word))
        });
        let secrets = inherited.map(|(_, value)| value.as_str()).chain(own.secrets());
        Server {
            name: name.to_owned(),
            call_timeout: own.call_timeout().unwrap_or(settings.tool_timeout()),
            withheld: withheld.map(str::to_owned).collect(),
            secrets: Secrets(secrets.map(str::to_owned).chain(settings.known_keys()).collect()),
            settings: own,
            state: Mutex::new(State::Idle),
            allowed: RefCell::default(),
        }
    }

    /// Its name in the settings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it runs, so that nobody has to wait for it.
    pub fn is_live(&self) -> bool {
        let state = self.state.try_lock();
        state.is_ok_and(|state| matches!(&*state, State::Live(session) if !session.is_over()))
    }

    /// Whether this tool may be called without asking, has to be asked for, or is not offered.
    pub fn approval(&self, tool: &str) -> Approve {
        match self.settings.approve(tool) {
            Approve::Ask if self.allowed.borrow().contains(tool) => Approve::Always,
            approve => approve,
        }
    }

    /// The user allows this tool for as long as this process lives.
    pub fn allow(&self, tool: &str) {
        self.allowed.borrow_mut().insert(tool.to_owned());
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// The session, if it runs.
    pub(super) async fn live(&self) -> Option<Rc<Session>> {
        match &*self.state.lock().await {
            State::Live(session) if !session.is_over() => Some(session.clone()),
            _ => None,
        }
    }

    /// What it offers; it is started if it does not run. An error is a sentence for people.
    pub(super) async fn tools(&self) -> Result<Rc<[Listed]>, String> {
        let session = self.session().await?;
        let tools = session.tools(self.settings.startup_timeout()).await;
        tools.map_err(|problem| self.sentence(&problem))
    }

    /// The session; it is started if it does not run. An error is a sentence for people.
    pub(super) async fn session(&self) -> Result<Rc<Session>, String> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Live(session) if !session.is_over() => return Ok(session.clone()),
            State::Failed { problem, until } if Instant::now() < *until => return Err(problem.clone()),
            _ => {}
        }
        // What is left of the last one goes first.
        *state = State::Idle;
        let begun = Instant::now();
        tracing::debug!(server = self.name, program = self.settings.command.first(), "starts");
        let plan = Plan {
            server: &self.name,
            settings: &self.settings,
            withheld: &self.withheld,
            secrets: &self.secrets,
        };
        let started = async {
            let session = Session::start(&plan).await?;
            // One that cannot say what it has is of no use.
            session.tools(self.settings.startup_timeout()).await?;
            Ok::<_, String>(session)
        };
        match started.await {
            Ok(session) => {
                let session = Rc::new(session);
                *state = State::Live(session.clone());
                Ok(session)
            }
            Err(problem) => {
                let problem = self.sentence(&problem);
                tracing::warn!("{problem}");
                let until = Instant::now() + begun.elapsed() * REST;
                *state = State::Failed {
                    problem: problem.clone(),
                    until,
                };
                Err(problem)
            }
        }
    }

    /// Gives the session up, for its end. Nobody is starting one by then.
    pub(super) fn take(&self) -> Option<Rc<Session>> {
        match std::mem::replace(&mut *self.state.try_lock().ok()?, State::Idle) {
            State::Live(session) => Some(session),
            _ => None,
        }
    }

    /// The problem with the server's name and program before it. Its arguments may hold secrets.
    pub(super) fn sentence(&self, problem: &str) -> String {
        let program = self.settings.command.first().map(|program| format!(" (`{program}`)"));
        format!(
            "the MCP server `{}`{} {problem}",
            self.name,
            program.unwrap_or_default()
        )
    }
}
