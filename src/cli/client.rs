//! A client of this program's own daemon, over an in-memory pipe in the same process.
//!
//! It uses only the wire: whatever the console can do, any other client can. It reads of a message what the console
//! needs, and keeps the line as it came for whoever prints it.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::consent;
use crate::Signals;
use crate::config::{Framing, Settings};
use crate::error::{Error, Kind};
use crate::protocol::{McpStatus, Part, PartKind, Role, RunStatus, StopReason};

/// How much either side writes ahead of the other, in bytes.
const PIPE: usize = 64 * 1024;

/// How long a daemon that was told to leave may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// One connection and the daemon at its other end.
pub struct Client {
    requests: WriteHalf<DuplexStream>,
    lines: FramedRead<ReadHalf<DuplexStream>, LinesCodec>,
    daemon: JoinHandle<u8>,
    last_id: u64,
    /// What came while a response was waited for.
    kept: VecDeque<Incoming>,
}

/// A message from the daemon.
#[derive(Debug)]
pub struct Incoming {
    /// As it came.
    pub line: String,
    /// What it says.
    pub message: Message,
}

/// What a message says, as far as the console cares.
#[derive(Debug)]
pub enum Message {
    Response {
        id: u64,
        result: Result<Value, Error>,
    },
    /// A request was refused before its id was read.
    Unread(Error),
    Started {
        thread_id: String,
    },
    Delta {
        part: PartKind,
        text: String,
    },
    Event(Event),
    Approve {
        id: u64,
        request: consent::Request,
    },
    Other,
}

/// The events that the console shows.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    Retry {
        delay_ms: u64,
        error: Error,
    },
    Truncated {
        messages: u32,
    },
    Storage {
        message: String,
    },
    Mcp {
        server: String,
        status: McpStatus,
        message: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// What `assistant/send` answers, as far as the console cares.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub status: RunStatus,
    pub stop_reason: Option<StopReason>,
}

/// What `thread/read` answers.
#[derive(Debug, Deserialize)]
pub struct ThreadPage {
    /// The newest first.
    pub messages: Vec<OldMessage>,
    /// There, if there are older ones.
    pub next: Option<String>,
}

/// A message of a thread.
#[derive(Debug, Deserialize)]
pub struct OldMessage {
    pub role: Role,
    pub status: RunStatus,
    /// Absent where it is too large.
    pub content: Option<Vec<Part>>,
}

/// What `server/status` answers.
#[derive(Debug, Deserialize)]
pub struct Status {
    /// Absent where threads are kept in memory only.
    pub database: Option<String>,
}

/// What `provider/list` answers.
#[derive(Debug, Deserialize)]
pub struct ProviderNames {
    providers: Vec<ProviderName>,
}

#[derive(Debug, Deserialize)]
struct ProviderName {
    name: String,
}

impl ProviderNames {
    /// The names alone.
    pub fn into_names(self) -> Vec<String> {
        self.providers.into_iter().map(|provider| provider.name).collect()
    }
}

/// What `thread/list` answers.
#[derive(Debug, Deserialize)]
pub struct ThreadList {
    pub threads: Vec<OldThread>,
}

/// A thread of the list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OldThread {
    pub thread_id: String,
    pub title: Option<String>,
    /// How many messages it has.
    pub messages: u64,
}

impl Client {
    /// Starts the daemon. Needs a local runtime.
    pub fn start(mut settings: Settings) -> Client {
        settings.framing = Some(Framing::Lines);
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (input, output) = tokio::io::split(theirs);
        let daemon = tokio::task::spawn_local(crate::serve(input, output, settings, Signals::default()));
        let (lines, requests) = tokio::io::split(ours);
        Client {
            requests,
            lines: FramedRead::new(lines, LinesCodec::new()),
            daemon,
            last_id: 0,
            kept: VecDeque::new(),
        }
    }

    /// Sends a request and gives its id.
    pub async fn send(&mut self, method: &str, params: Value) -> Result<u64, Error> {
        self.last_id += 1;
        let id = self.last_id;
        self.write(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
            .await?;
        Ok(id)
    }

    /// Sends a notification.
    pub async fn notify(&mut self, method: &str, params: Value) -> Result<(), Error> {
        self.write(json!({ "jsonrpc": "2.0", "method": method, "params": params }))
            .await
    }

    /// Answers a request of the daemon's.
    pub async fn respond(&mut self, id: u64, result: Value) -> Result<(), Error> {
        self.write(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
            .await
    }

    /// Sends a request and waits for its response. What comes before it is kept for [`Client::next`].
    pub async fn request<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> Result<T, Error> {
        let sent = self.send(method, params).await?;
        loop {
            let incoming = self.read().await.ok_or_else(gone)?;
            match incoming.message {
                Message::Response { id, result } if id == sent => return read_result(result?),
                _ => self.kept.push_back(incoming),
            }
        }
    }

    /// The next message; none if the daemon has left. Safe to drop and ask again.
    pub async fn next(&mut self) -> Option<Incoming> {
        match self.kept.pop_front() {
            Some(kept) => Some(kept),
            None => self.read().await,
        }
    }

    /// Says that no more requests come, and waits until the daemon has put everything away.
    pub async fn leave(mut self) {
        let _ = self.requests.shutdown().await;
        let farewell = async {
            while self.read().await.is_some() {}
            let _ = self.daemon.await;
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    async fn read(&mut self) -> Option<Incoming> {
        let line = self.lines.next().await?.ok()?;
        let message = match parse(&line) {
            // What was sent last is what is waited for: nothing else of ours can be too long.
            Message::Unread(error) => Message::Response {
                id: self.last_id,
                result: Err(error),
            },
            message => message,
        };
        Some(Incoming { line, message })
    }

    async fn write(&mut self, message: Value) -> Result<(), Error> {
        let line = format!("{message}\n");
        self.requests.write_all(line.as_bytes()).await.map_err(|_| gone())
    }
}

/// A result in the shape that its method has.
pub fn read_result<T: DeserializeOwned>(result: Value) -> Result<T, Error> {
    serde_json::from_value(result).map_err(|error| {
        Error::new(
            Kind::Internal,
            format!("failed to read a result of assistd's own: {error}"),
        )
    })
}

/// That the daemon in this process is not there any more: only a bug can do that.
pub fn gone() -> Error {
    Error::new(Kind::Internal, "assistd ended before it answered")
}

fn parse(line: &str) -> Message {
    #[derive(Deserialize)]
    struct Envelope {
        id: Option<Value>,
        method: Option<String>,
        #[serde(default)]
        params: Value,
        #[serde(default)]
        result: Value,
        error: Option<Error>,
    }
    let Ok(envelope) = serde_json::from_str::<Envelope>(line) else {
        return Message::Other;
    };
    match (envelope.method.as_deref(), envelope.id.and_then(|id| id.as_u64())) {
        (None, Some(id)) => Message::Response {
            id,
            result: envelope.error.map_or(Ok(envelope.result), Err),
        },
        (None, None) => envelope.error.map_or(Message::Other, Message::Unread),
        (Some("tool/approve"), Some(id)) => match serde_json::from_value(envelope.params) {
            Ok(request) => Message::Approve { id, request },
            Err(_) => Message::Other,
        },
        (Some(method), None) => parse_notification(method, envelope.params).unwrap_or(Message::Other),
        _ => Message::Other,
    }
}

fn parse_notification(method: &str, params: Value) -> Option<Message> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Started {
        thread_id: String,
    }
    #[derive(Deserialize)]
    struct Delta {
        part: PartKind,
        text: String,
    }
    Some(match method {
        "assistant/started" => {
            let Started { thread_id } = serde_json::from_value(params).ok()?;
            Message::Started { thread_id }
        }
        "assistant/delta" => {
            let Delta { part, text } = serde_json::from_value(params).ok()?;
            Message::Delta { part, text }
        }
        "assistant/event" => Message::Event(serde_json::from_value(params).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_id_and_method() {
        let delta = r#"{"jsonrpc":"2.0","method":"assistant/delta","params":{"threadId":"t","runId":"r","seq":2,"messageId":"m","index":0,"part":"refusal","text":"no"}}"#;
        assert!(matches!(parse(delta), Message::Delta { part: PartKind::Refusal, text } if text == "no"));
        let retry = r#"{"method":"assistant/event","params":{"seq":1,"type":"retry","attempt":1,"delayMs":5,"error":{"code":-32000,"message":"m","data":{"kind":"upstream","retryable":true}}}}"#;
        assert!(matches!(parse(retry), Message::Event(Event::Retry { delay_ms: 5, .. })));
        let other = r#"{"method":"assistant/event","params":{"seq":1,"type":"usage","usage":{}}}"#;
        assert!(matches!(parse(other), Message::Event(Event::Other)));
        assert!(matches!(
            parse(r#"{"id":7,"result":null}"#),
            Message::Response {
                id: 7,
                result: Ok(Value::Null)
            }
        ));
        let failed = r#"{"id":7,"error":{"code":-32004,"message":"m","data":{"kind":"notFound","retryable":false}}}"#;
        assert!(
            matches!(parse(failed), Message::Response { id: 7, result: Err(error) } if error.kind() == Kind::NotFound)
        );
        assert!(matches!(parse("noise"), Message::Other));
    }
}
