//! A server's process: its pipes, what it says on standard error, and its end.
//!
//! It has a process group of its own, no descriptor of ours but its three, and it is dropped with all that it started.
//! It is waited for by nobody while it may still be told something: its number, and that of its group, stay its own.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::Secrets;
use crate::config::McpSettings;
use crate::family::Family;
use crate::watch;

/// How much of a line is kept and logged, in bytes.
const LINE_MAX: usize = 1024;

/// How long the last words of a dead process are waited for: something that it started may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A running program. Dropping it kills it and all that it started.
pub(super) struct Program {
    /// Kept, not waited for: see the module.
    _child: Child,
    family: Family,
    death: Shared<LocalBoxFuture<'static, ()>>,
    stderr: Rc<Stderr>,
    /// Who reads its standard error, and who kills what it leaves behind: both end with it, or with this.
    tasks: [AbortHandle; 2],
}

/// Its ends that we hold.
pub(super) type Pipes = (ChildStdout, ChildStdin);

/// What it says on standard error.
struct Stderr {
    server: String,
    secrets: Secrets,
    last: RefCell<String>,
    has_ended: CancellationToken,
}

impl Program {
    /// Starts the program of these settings, without these variables of our own environment.
    pub(super) fn start(
        server: &str,
        settings: &McpSettings,
        withheld: &[String],
        secrets: &Secrets,
    ) -> io::Result<(Program, Pipes)> {
        let mut child = command(settings, withheld)?.spawn()?;
        let pipes = (child.stdout.take(), child.stdin.take());
        let (Some(stdout), Some(stdin)) = pipes else {
            return Err(io::Error::other("it has no pipes"));
        };
        let family = Family::of(&child);
        let death = child.id().and_then(watch::death_of);
        let death = death.unwrap_or_else(|| match family.program().and_then(ending) {
            Some(_) => Box::pin(async {}),
            // Where nobody can tell, its pipes do.
            None => Box::pin(std::future::pending()),
        });
        let death = death.shared();
        let said = Rc::new(Stderr {
            server: server.to_owned(),
            secrets: secrets.clone(),
            last: RefCell::default(),
            has_ended: CancellationToken::new(),
        });
        let reader = tokio::task::spawn_local(read(child.stderr.take(), said.clone()));
        let buried = death.clone();
        let undertaker = tokio::task::spawn_local(async move {
            buried.await;
            // What it started has nobody to talk to any more.
            family.tell(Signal::KILL);
        });
        let program = Program {
            _child: child,
            family,
            death,
            stderr: said,
            tasks: [reader.abort_handle(), undertaker.abort_handle()],
        };
        Ok((program, (stdout, stdin)))
    }

    /// Ends when the process has died.
    pub(super) fn death(&self) -> Shared<LocalBoxFuture<'static, ()>> {
        self.death.clone()
    }

    /// Asks it to leave, with all that it started.
    pub(super) fn terminate(&self) {
        self.family.tell(Signal::TERM);
    }

    /// How it ended, if it has, and its last line on standard error: `(exit status 3): no such file`. May be empty.
    pub(super) async fn last_words(&self) -> String {
        let said = async {
            self.death.clone().await;
            self.stderr.has_ended.cancelled().await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, said).await;
        self.words()
    }

    /// The same, without waiting for anything.
    pub(super) fn words(&self) -> String {
        let ending = self.family.program().and_then(ending).map(|how| format!(" ({how})"));
        let last = self.stderr.last.borrow();
        let colon = if last.is_empty() { "" } else { ": " };
        format!("{}{colon}{last}", ending.unwrap_or_default())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.family.tell(Signal::KILL);
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn command(settings: &McpSettings, withheld: &[String]) -> io::Result<Command> {
    let (program, arguments) = settings
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "`command` is empty"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in withheld {
        command.env_remove(name);
    }
    command.envs(&settings.env);
    if let Some(folder) = &settings.cwd {
        command.current_dir(existing(folder)?);
    }
    Family::found(&mut command);
    Ok(command)
}

/// A folder that is not there makes the system say that the program is not.
fn existing(folder: &Path) -> io::Result<&Path> {
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(folder),
        Ok(_) => Err(io::Error::other(format!("`{}` is not a folder", folder.display()))),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("its folder `{}`: {error}", folder.display()),
        )),
    }
}

/// How a process ended that has not been waited for, and still is not.
fn ending(pid: Pid) -> Option<String> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(pid), options).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, Some(signal)) => Some(format!("signal {signal}")),
        (None, None) => None,
    }
}

/// Reads to the end: a talkative program must not wait for a pipe that nobody reads.
async fn read(from: Option<impl AsyncRead + Unpin>, to: Rc<Stderr>) {
    let mut line = Vec::new();
    let mut buffer = [0; 8192];
    if let Some(mut from) = from {
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let mut pieces = buffer[..count].split(|byte| *byte == b'\n').peekable();
            while let Some(piece) = pieces.next() {
                let room = LINE_MAX.saturating_sub(line.len());
                line.extend_from_slice(&piece[..piece.len().min(room)]);
                if pieces.peek().is_some() {
                    to.heard(&line);
                    line.clear();
                }
            }
        }
    }
    to.heard(&line);
    to.has_ended.cancel();
}

impl Stderr {
    fn heard(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = self.secrets.blank(line.trim());
        if !line.is_empty() {
            tracing::debug!(server = self.server, "stderr: {line}");
            self.last.replace(line);
        }
    }
}
