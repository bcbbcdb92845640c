//! The client: sends what a transcript says and compares what it hears.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use assistd::Signals;
use assistd::config::{Framing, Layer, Settings, parse_toml};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::compare::Names;
use super::file::{Step, Transcript};

/// How long the daemon may take for anything. Nothing in a transcript takes any time, so this only ends a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the daemon is quiet when it has said all, where nobody knows what it should say.
const QUIET: Duration = Duration::from_millis(200);

/// The same while less was heard than the file had: something that the daemon has started takes its time.
const STILL_QUIET: Duration = Duration::from_secs(2);

/// Plays a transcript. The failure names its line and says what differs.
pub fn play(transcript: &Transcript, framing: Framing) -> Result<(), String> {
    run(async {
        let mut player = Player::start(transcript, framing);
        let mut lines = transcript.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let result = match &line.step {
                Step::Nothing => Ok(()),
                Step::Expect(expected) => player.expect(expected).await,
                Step::ExpectAnyOrder(first) => {
                    let mut group = vec![first];
                    while let Some(Step::ExpectAnyOrder(next)) = lines.peek().map(|line| &line.step) {
                        group.push(next);
                        lines.next();
                    }
                    player.expect_all(group).await
                }
                step => player.send(step).await,
            };
            result.map_err(|failure| format!("{}:{}: {failure}", transcript.path.display(), line.number))?;
        }
        let end = player.end(transcript.exit).await;
        end.map_err(|failure| format!("{}: {failure}", transcript.path.display()))
    })
}

/// Sends all that a transcript sends and gives what was heard after each line that does. Lines that stand together are
/// sent together.
pub fn record(transcript: &Transcript, framing: Framing) -> Vec<Vec<Value>> {
    run(async {
        let mut player = Player::start(transcript, framing);
        let mut heard = Vec::new();
        let mut lines = transcript.lines.iter().peekable();
        while let Some(line) = lines.next() {
            if !line.step.sends() {
                continue;
            }
            player
                .send(&line.step)
                .await
                .unwrap_or_else(|failure| panic!("{failure}"));
            let mut block = Vec::new();
            if !lines.peek().is_some_and(|next| next.step.sends()) {
                let is_heard = |step: &Step| matches!(step, Step::Expect(_) | Step::ExpectAnyOrder(_));
                let rest = lines.clone().take_while(|next| !next.step.sends());
                let before = rest.filter(|next| is_heard(&next.step)).count();
                player.hear_until_quiet(&mut block, before, QUIET).await;
            }
            heard.push(block);
        }
        player.to_daemon = None;
        if let Some(block) = heard.last_mut() {
            player.hear_until_quiet(block, 0, PATIENCE).await;
        }
        heard
    })
}

fn run<T>(task: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .build_local(Default::default())
        .expect("the system gives what a runtime needs");
    let result = runtime.block_on(task);
    runtime.shutdown_background();
    result
}

/// One client and its daemon.
struct Player {
    framing: Framing,
    to_daemon: Option<DuplexStream>,
    from_daemon: BufReader<DuplexStream>,
    daemon: JoinHandle<u8>,
    names: Names,
    /// The largest message that the daemon may send, in bytes.
    max_message: u64,
    /// The last `seq` of each run.
    seqs: HashMap<String, u64>,
    _script: tempfile::TempDir,
}

impl Player {
    fn start(transcript: &Transcript, framing: Framing) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (to_daemon, input) = tokio::io::duplex(64 * 1024);
        let (output, from_daemon) = tokio::io::duplex(64 * 1024);
        let settings = settings(transcript, folder.path());
        let daemon =
            tokio::task::spawn_local(async move { assistd::serve(input, output, settings, Signals::default()).await });
        Player {
            framing,
            to_daemon: Some(to_daemon),
            from_daemon: BufReader::new(from_daemon),
            daemon,
            max_message: match framing {
                Framing::Lines => 60 * 1024,
                Framing::Headers => 16 * 1024 * 1024,
            },
            names: Names::default(),
            seqs: HashMap::new(),
            _script: folder,
        }
    }

    async fn send(&mut self, step: &Step) -> Result<(), String> {
        let bytes = match step {
            Step::Send(text) => frame(self.framing, &self.names.filled(text)),
            Step::Bytes(bytes) => bytes.clone(),
            _ => {
                self.to_daemon = None;
                return Ok(());
            }
        };
        let to_daemon = self.to_daemon.as_mut().ok_or("the input has ended before this line")?;
        let sent = timeout(PATIENCE, to_daemon.write_all(&bytes)).await;
        sent.map_err(|_| "the daemon does not read")?
            .map_err(|error| format!("the daemon is gone: {error}"))
    }

    /// The next message must be this one. A delta may come in pieces.
    async fn expect(&mut self, expected: &Value) -> Result<(), String> {
        let mut heard = self
            .hear()
            .await?
            .ok_or_else(|| format!("expected {expected}\nheard the end of the output"))?;
        while is_piece_of(&heard, expected) {
            let more = self.hear().await?.ok_or("heard the end of the output inside a delta")?;
            if !join(&mut heard, &more) {
                return Err(format!(
                    "expected the rest of {expected}\nheard {heard}\nand then {more}"
                ));
            }
        }
        let differences = self.names.differences(expected, &heard);
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!("heard {heard}\n  {}", differences.join("\n  ")))
    }

    /// The next messages must be these, in any order.
    async fn expect_all(&mut self, mut group: Vec<&Value>) -> Result<(), String> {
        let mut pieces: Vec<Value> = Vec::new();
        while !group.is_empty() {
            let heard = self
                .hear()
                .await?
                .ok_or("heard the end of the output before all of these")?;
            let known = pieces.iter_mut().position(|piece| join(piece, &heard));
            let heard = known.map_or(heard, |known| pieces.swap_remove(known));
            let fitting = group.iter().position(|expected| {
                let mut names = self.names.clone();
                let fits = names.differences(expected, &heard).is_empty();
                if fits {
                    self.names = names;
                }
                fits
            });
            match fitting {
                Some(fitting) => drop(group.remove(fitting)),
                None if group.iter().any(|expected| is_piece_of(&heard, expected)) => pieces.push(heard),
                None => {
                    return Err(format!(
                        "heard {heard}\nwhich is none of these that are left: {group:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Closes the input and waits for a clean end.
    async fn end(mut self, exit: u8) -> Result<(), String> {
        self.to_daemon = None;
        if let Some(unread) = self.hear().await? {
            return Err(format!("a message was left unread: {unread}"));
        }
        let code = timeout(PATIENCE, self.daemon)
            .await
            .map_err(|_| "the daemon does not leave")?;
        match code {
            Ok(code) if code == exit => Ok(()),
            Ok(code) => Err(format!("expected exit code {exit}, found {code}")),
            Err(error) => Err(format!("the daemon has panicked: {error}")),
        }
    }

    /// Hears until nothing more comes, and waits longer for as much as came `before`.
    async fn hear_until_quiet(&mut self, block: &mut Vec<Value>, before: usize, patience: Duration) {
        loop {
            let patience = if block.len() < before { STILL_QUIET } else { patience };
            let Ok(Ok(Some(mut message))) = timeout(patience, self.hear()).await else {
                return;
            };
            self.names.generalize(&mut message);
            if !block.last_mut().is_some_and(|last| join(last, &message)) {
                block.push(message);
            }
        }
    }

    /// The next message, with names for ids and without its `seq`, which must have grown. None at the end.
    async fn hear(&mut self) -> Result<Option<Value>, String> {
        let read = timeout(PATIENCE, read(self.framing, &mut self.from_daemon)).await;
        let text = read
            .map_err(|_| "nothing was heard for 10 s")?
            .map_err(|error| error.to_string())?;
        let Some(text) = text else {
            return Ok(None);
        };
        if text.len() as u64 > self.max_message {
            return Err(format!(
                "expected at most {} bytes, heard {}",
                self.max_message,
                text.len()
            ));
        }
        let text = self.names.named(&text);
        let mut message: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
        let promised = message.pointer("/result/capabilities/maxMessageBytes");
        self.max_message = promised.and_then(Value::as_u64).unwrap_or(self.max_message);
        if let Some(params) = message.get_mut("params").and_then(Value::as_object_mut)
            && let Some(seq) = params.remove("seq")
        {
            let run = params.get("runId").map(Value::to_string).unwrap_or_default();
            let seq = seq
                .as_u64()
                .ok_or_else(|| format!("expected `seq` to be a number in {text}"))?;
            let before = self.seqs.insert(run, seq);
            if before.is_some_and(|before| before >= seq) {
                return Err(format!("expected `seq` to grow from {before:?} in {text}"));
            }
        }
        Ok(Some(message))
    }
}

/// Settings in which nothing but the scripted provider answers, and nothing is kept.
fn settings(transcript: &Transcript, folder: &std::path::Path) -> Settings {
    let mut settings = Settings::ephemeral();
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts");
    let script = match &transcript.script {
        Some(name) => scripts.join(name),
        None => {
            let path = folder.join("script.toml");
            std::fs::write(&path, &transcript.provider).expect("a temporary file can be written");
            path
        }
    };
    settings.layer.script = Some(script);
    let layer: Layer = parse_toml(&transcript.path, &transcript.settings).unwrap_or_else(|problem| panic!("{problem}"));
    settings.layer.override_with(layer);
    settings
}

fn frame(framing: Framing, text: &str) -> Vec<u8> {
    match framing {
        Framing::Lines => format!("{text}\n"),
        Framing::Headers => format!("Content-Length: {}\r\n\r\n{text}", text.len()),
    }
    .into_bytes()
}

/// Reads one frame; none at the end. Stricter than the daemon, which sends frames in one form only.
async fn read(framing: Framing, from: &mut BufReader<DuplexStream>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let Framing::Headers = framing else {
        let text = line
            .strip_suffix('\n')
            .ok_or_else(|| invalid("expected a line feed", &line))?;
        return Ok(Some(text.to_owned()));
    };
    let length = line
        .strip_prefix("Content-Length: ")
        .and_then(|line| line.strip_suffix("\r\n")?.parse().ok());
    let mut body = vec![0; length.ok_or_else(|| invalid("expected `Content-Length: <bytes>`", &line))?];
    line.clear();
    from.read_line(&mut line).await?;
    if line != "\r\n" {
        return Err(invalid("expected a blank line", &line));
    }
    from.read_exact(&mut body).await?;
    String::from_utf8(body)
        .map(Some)
        .map_err(|_| invalid("expected UTF-8", ""))
}

fn invalid(expected: &str, found: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{expected}, found `{found}`"))
}

/// The members by which a delta belongs to its neighbour.
fn stem(message: &Value) -> Option<[Option<&Value>; 5]> {
    let is_delta = message.get("method").is_some_and(|method| method == "assistant/delta");
    let params = message.get("params").filter(|_| is_delta)?;
    Some(["runId", "messageId", "index", "part", "token"].map(|member| params.get(member)))
}

fn text_of(delta: &Value) -> &str {
    delta["params"]["text"].as_str().unwrap_or_default()
}

/// Whether this is a delta with only the first words of the one that is expected.
fn is_piece_of(heard: &Value, expected: &Value) -> bool {
    let (Some(one), Some(other)) = (stem(heard), stem(expected)) else {
        return false;
    };
    one == other && text_of(heard) != text_of(expected) && text_of(expected).starts_with(text_of(heard))
}

/// Joins a delta to its neighbour before it, as the daemon may do itself when the client reads slowly.
fn join(delta: &mut Value, next: &Value) -> bool {
    if stem(delta).is_none() || stem(delta) != stem(next) {
        return false;
    }
    let text = format!("{}{}", text_of(delta), text_of(next));
    delta["params"]["text"] = text.into();
    true
}
