//! Runs a program and captures what it prints: with nothing to read, no descriptor of ours, and no child left behind.
//!
//! Knows nothing of keys but that what a program printed may hold one.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::Secret;
use crate::family::Family;

/// How long its output is read on after it has ended: an agent that it started may hold the pipe open for ever.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// The longest key, and the most of its standard error that is looked at, in bytes.
const OUTPUT_MAX: u64 = 64 * 1024;

/// The shortest word that may be a key, in bytes.
const KEY_MIN: usize = 4;

/// How much of a failed program's words is passed on, in characters.
pub(super) const SAID_MAX: usize = 200;

/// What a program left.
pub struct Printed {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Printed {
    /// What it printed, if it succeeded and printed anything. Else what it did instead, for the end of a sentence.
    pub fn text(&self) -> Result<String, String> {
        if !self.status.success() {
            let said = self.said();
            let colon = if said.is_empty() { "" } else { ": " };
            return Err(format!("failed ({}){colon}{said}", self.status));
        }
        let text = String::from_utf8_lossy(&self.stdout).trim().to_owned();
        if text.is_empty() {
            return Err("printed nothing".into());
        }
        Ok(text)
    }

    /// The beginning of its standard error without anything that it printed: that may hold a key though it failed.
    fn said(&self) -> String {
        let said = String::from_utf8_lossy(&self.stderr);
        let printed = String::from_utf8_lossy(&self.stdout);
        let mut line = said.trim().lines().next().unwrap_or_default().to_owned();
        let in_json = |c: char| c.is_whitespace() || "{}\",:".contains(c);
        for word in printed.split_whitespace().chain(printed.split(in_json)) {
            // A word as short as this is no key, and blanking it would only make the line unreadable.
            if word.len() >= KEY_MIN {
                line = Secret::new(word).scrub(&line).into_owned();
            }
        }
        line.chars().take(SAID_MAX).collect()
    }
}

/// Runs a program with nothing to read and no descriptor of ours, and captures what it prints. Dropped before the end,
/// it kills the program and all that it started.
pub async fn run(program: &str, arguments: &[String]) -> std::io::Result<Printed> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Family::found(&mut command);
    let mut running = Running(command.spawn()?);
    let (out, err) = (running.0.stdout.take(), running.0.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = {
        let mut output = std::pin::pin!(async { tokio::join!(read(out, &mut stdout), read(err, &mut stderr)) });
        let mut whole = false;
        let status = loop {
            tokio::select! {
                status = running.0.wait() => break status?,
                _ = &mut output, if !whole => whole = true,
            }
        };
        if !whole {
            let _ = tokio::time::timeout(OUTPUT_GRACE, output).await;
        }
        status
    };
    Ok(Printed { status, stdout, stderr })
}

async fn read(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) {
    if let Some(from) = from {
        // What could be read before the pipe broke is all there is.
        let mut from = from.take(OUTPUT_MAX);
        let _ = from.read_to_end(to).await;
        // A talkative program must not die of a pipe that nobody reads.
        let _ = tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await;
    }
}

/// A program that is dropped with all that it started, unless it has ended: what it then left running, it meant to
/// leave.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        Family::of(&self.0).tell(Signal::KILL);
    }
}
