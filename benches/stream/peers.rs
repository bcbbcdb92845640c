//! The two that are compared: assistd as a child with its journal on, and `curl -sN`, the least that reads such a stream.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use memchr::memmem;

use crate::process;
use crate::reader::{Deltas, Lines};
use crate::upstream::{Ask, RECORD, now};
use crate::wire::Wire;

/// What every child is started with.
pub struct Place {
    /// The program that is measured.
    pub binary: PathBuf,
    /// Its data folder, and all that it finds of a home.
    pub folder: PathBuf,
    /// The upstream's port.
    pub port: u16,
    /// The dialect that is spoken.
    pub wire: Wire,
}

impl Place {
    /// The same place with another dialect.
    pub fn speaking(&self, wire: Wire) -> Place {
        Place {
            binary: self.binary.clone(),
            folder: self.folder.clone(),
            port: self.port,
            wire,
        }
    }

    /// Writes the settings that the variables cannot say.
    pub fn write_settings(&self) -> std::io::Result<()> {
        let folder = self.folder.join(".config/assistd");
        std::fs::create_dir_all(&folder)?;
        let providers = [Wire::Chat, Wire::Responses].map(|wire| {
            let (name, port) = (wire.name(), self.port);
            format!("[providers.{name}]\ndialect = \"{name}\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\nmodel = \"bench\"\n")
        });
        std::fs::write(folder.join("config.toml"), providers.concat())
    }
}

const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"clientInfo":{"name":"bench"}}}"#,
    "\n"
);
const NOTIFICATION: &[u8] = br#"{"jsonrpc":"2.0","method":"#;
const DELTA: &[u8] = br#"{"jsonrpc":"2.0","method":"assistant/delta""#;

/// assistd, running. Killed when dropped.
pub struct Daemon {
    child: Child,
    /// None once it was closed.
    input: Option<ChildStdin>,
    lines: Lines<ChildStdout>,
    /// When it was started.
    pub started_at: u64,
}

impl Daemon {
    pub fn start(place: &Place) -> Result<Daemon, Box<dyn Error>> {
        Daemon::run(Command::new(&place.binary), place)
    }

    /// The same as a child of strace, which writes a table of system calls when it ends.
    pub fn start_traced(place: &Place, table: &Path) -> Result<Daemon, Box<dyn Error>> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-o"]).arg(table).arg(&place.binary);
        Daemon::run(strace, place)
    }

    fn run(mut command: Command, place: &Place) -> Result<Daemon, Box<dyn Error>> {
        command
            .env_clear()
            .env("HOME", &place.folder)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("ASSISTD_DATA_DIR", place.folder.join("data"))
            .env("ASSISTANT_ID", "asst_bench")
            .env("OPENAI_API_KEY", "bench")
            .env("OPENAI_BASE_URL", format!("http://127.0.0.1:{}/v1", place.port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if place.wire != Wire::Assistants {
            command.env("ASSISTD_PROVIDER", place.wire.name());
        }
        let started_at = now();
        let mut child = command
            .spawn()
            .map_err(|error| format!("failed to start {command:?}: {error}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("expected a pipe from the child")?;
        Ok(Daemon {
            child,
            input,
            lines: Lines::new(output),
            started_at,
        })
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Writes `initialize` and waits for its answer.
    pub fn initialize(&mut self) -> Result<(), Box<dyn Error>> {
        self.write(INITIALIZE)?;
        self.responses(1, &mut Deltas::of(0))
    }

    /// Asks for these streams at once, and reads until all have been answered.
    pub fn send(&mut self, asks: &[Ask], deltas: &mut Deltas) -> Result<(), Box<dyn Error>> {
        let requests: String = asks.iter().map(|ask| send(*ask)).collect();
        self.write(&requests)?;
        self.responses(asks.len(), deltas)
    }

    /// `initialize` and the first question in one write, as a script does it.
    pub fn send_at_once(&mut self, ask: Ask, deltas: &mut Deltas) -> Result<(), Box<dyn Error>> {
        self.write(&format!("{INITIALIZE}{}", send(ask)))?;
        self.responses(2, deltas)
    }

    /// Waits until the store has carried out what it was given: its commands are answered in order.
    pub fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        self.write("{\"jsonrpc\":\"2.0\",\"id\":\"settled\",\"method\":\"thread/list\",\"params\":{\"limit\":1}}\n")?;
        self.responses(1, &mut Deltas::of(0))
    }

    /// Ends it as a client does that has no more questions.
    pub fn end(mut self) -> Result<(), Box<dyn Error>> {
        self.input = None;
        self.child.wait()?;
        Ok(())
    }

    fn write(&mut self, requests: &str) -> Result<(), Box<dyn Error>> {
        let input = self.input.as_mut().ok_or("expected the child's input to be open")?;
        Ok(input.write_all(requests.as_bytes())?)
    }

    fn responses(&mut self, mut count: usize, deltas: &mut Deltas) -> Result<(), Box<dyn Error>> {
        while count > 0 {
            let (line, read_at) = self
                .lines
                .next()?
                .ok_or("expected more answers, found the end of the output")?;
            if line.starts_with(DELTA) {
                let (stream, text) = delta(line).ok_or("expected a delta with a token and a text")?;
                deltas.take(stream, text, read_at);
            } else if !line.starts_with(NOTIFICATION) {
                if memmem::find(line, b"\"error\":").is_some() {
                    return Err(String::from_utf8_lossy(line).into());
                }
                count -= 1;
            }
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A question in a new thread. Its token is the number of the stream.
fn send(ask: Ask) -> String {
    let (stream, words) = (ask.stream, ask.words());
    let params = format!(r#"{{"content":"{words}","token":{stream}}}"#);
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{stream},\"method\":\"assistant/send\",\"params\":{params}}}\n")
}

/// The token and the text of an `assistant/delta`. The text has no escapes.
fn delta(line: &[u8]) -> Option<(usize, &[u8])> {
    let token = between(line, b"\"token\":", b",")?;
    let text = between(line, b"\"text\":\"", b"\"")?;
    Some((std::str::from_utf8(token).ok()?.parse().ok()?, text))
}

fn between<'a>(line: &'a [u8], before: &[u8], behind: &[u8]) -> Option<&'a [u8]> {
    let start = memmem::find(line, before)? + before.len();
    let length = memmem::find(&line[start..], behind)?;
    Some(&line[start..start + length])
}

/// What curl came to.
pub struct Curl {
    /// When it was started.
    pub started_at: u64,
    /// Its processor time from start to end, in seconds.
    pub cpu: Option<f64>,
}

/// Lets curl read these streams.
pub fn curl(place: &Place, asks: &[Ask], deltas: &mut Deltas) -> Result<Curl, Box<dyn Error>> {
    let mut command = Command::new("curl");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .args(["-sN", "--noproxy", "*", "-d", "{}"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Its meter of parallel transfers, which `-s` leaves on.
        .stderr(Stdio::null());
    if asks.len() > 1 {
        command.args(["-Z", "--parallel-immediate", "--parallel-max", "300"]);
    }
    command.args(
        asks.iter()
            .map(|ask| format!("http://127.0.0.1:{}{}?{}", place.port, place.wire.path(), ask.words())),
    );
    let started_at = now();
    let mut child = command
        .spawn()
        .map_err(|error| format!("failed to start curl: {error}"))?;
    let mut lines = Lines::new(child.stdout.take().ok_or("expected a pipe from curl")?);
    while let Some((line, read_at)) = lines.next()? {
        // The events behind the last delta hold more than one record.
        if line.starts_with(b"data: ") && memmem::find(line, place.wire.mark()).is_some() {
            let (stream, text) = curls_delta(line).ok_or("expected a delta with a text")?;
            deltas.take(stream, text, read_at);
        }
    }
    let cpu = process::cpu_at_end(child.id());
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("curl ended with {status}").into());
    }
    Ok(Curl { started_at, cpu })
}

/// The stream and the text of a delta, whichever the wire.
fn curls_delta(line: &[u8]) -> Option<(usize, &[u8])> {
    let start = memmem::find(line, b"\"@")? + 1;
    let text = line.get(start..start + RECORD)?;
    Some((std::str::from_utf8(&text[1..4]).ok()?.parse().ok()?, text))
}
