//! What the client was asked, and its answers.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use serde_json::Value;
use tokio::sync::oneshot;

use super::Server;
use crate::desk::{Answer, Ask, Question, Reply};
use crate::error::{Error, Kind};
use crate::outbox::Body;
use crate::protocol::{ToolApproveResult, ToolCallResult, ToolOutputParams};
use crate::rpc::{self, Id, Params};

/// Our requests count up from here: Vim has one space for both sides' ids, and a clash loses an answer.
const FIRST_ID: u64 = 1_073_741_824;

/// The requests to the client that are open, by their ids.
#[derive(Default)]
pub(super) struct OpenAsks {
    open: BTreeMap<u64, OpenAsk>,
    count: u64,
}

struct OpenAsk {
    kind: AskKind,
    run_id: Option<String>,
    call_id: Option<String>,
    reply: oneshot::Sender<Reply>,
    /// The client has answered that it will answer later.
    is_deferred: bool,
}

/// What an answer is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AskKind {
    Call,
    Approve,
    Token,
}

impl OpenAsks {
    /// Whether a token is waited for, by whom nobody but the asks knows: it belongs to no run.
    pub(super) fn has_token(&self) -> bool {
        self.open.values().any(|ask| ask.kind == AskKind::Token)
    }

    /// The id of a question for a token that nobody waits for any more: whoever did was cancelled, or its time is up.
    pub(super) async fn abandoned_token(&mut self) -> u64 {
        poll_fn(|context| {
            let mut tokens = self.open.iter_mut().filter(|(_, ask)| ask.kind == AskKind::Token);
            match tokens.find_map(|(id, ask)| ask.reply.poll_closed(context).is_ready().then_some(*id)) {
                Some(id) => Poll::Ready(id),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Server {
    /// Asks the client.
    pub(super) fn ask(&mut self, ask: Ask) {
        let run_id = ask.question.run_id().map(str::to_owned);
        let lane = run_id
            .as_ref()
            .map(|run_id| self.runs.get(run_id).and_then(|run| run.lane.clone()));
        if lane.as_ref().is_some_and(Option::is_none) {
            // Its run is no more, and with it whoever waits.
            return;
        }
        if !self.phase.reads() {
            let _ = ask
                .reply
                .send(Reply::Refused("the client takes no more requests".into()));
            return;
        }
        let id = FIRST_ID + self.asks.count;
        self.asks.count += 1;
        let (kind, text) = match &ask.question {
            Question::Call(params) => (AskKind::Call, rpc::request(id, "tool/call", params)),
            Question::Approve(params) => (AskKind::Approve, rpc::request(id, "tool/approve", params)),
            Question::Token(params) => (AskKind::Token, rpc::request(id, "auth/token", params)),
        };
        match lane.flatten() {
            Some(lane) => lane.notify(Body::Ready(text)),
            None => self.outbox.notify(text),
        }
        let open = OpenAsk {
            kind,
            call_id: ask.question.call_id().map(str::to_owned),
            run_id,
            reply: ask.reply,
            is_deferred: false,
        };
        self.asks.open.insert(id, open);
    }

    /// The client has answered. Late answers, and answers to nothing, are ignored.
    pub(super) fn answered(&mut self, id: &Id, outcome: Result<Params, Value>) {
        let Some(number) = id.as_value().as_u64() else {
            return;
        };
        if self.asks.open.get(&number).is_none_or(|ask| ask.is_deferred) {
            return;
        }
        let Some(mut ask) = self.asks.open.remove(&number) else {
            return;
        };
        let answer = match outcome {
            Ok(result) => ask.kind.read(&result).map_err(|error| ask.kind.complaint(error)),
            Err(error) => Err(message_of(&error)),
        };
        match answer {
            Ok(answer) if is_deferred(&answer) => {
                let (reply, later) = oneshot::channel();
                let asked = std::mem::replace(&mut ask.reply, reply);
                ask.is_deferred = true;
                if asked.send(Reply::Deferred(later)).is_ok() {
                    self.asks.open.insert(number, ask);
                }
            }
            Ok(answer) => {
                let _ = ask.reply.send(Reply::Answer(answer));
            }
            Err(reason) => {
                let reason = format!("the client could not {}: {reason}", ask.kind.verb());
                let _ = ask.reply.send(Reply::Refused(reason));
            }
        }
    }

    /// `tool/output`
    pub(super) fn tool_output(&mut self, params: ToolOutputParams) -> Result<(), Error> {
        let (kind, answer) = match (params.output, params.decision) {
            (Some(output), None) => {
                let result = ToolCallResult {
                    output: Some(output),
                    is_error: params.is_error.unwrap_or(false),
                    deferred: false,
                };
                (AskKind::Call, Answer::Output(result))
            }
            (None, Some(decision)) => {
                let result = ToolApproveResult {
                    decision: Some(decision),
                    deferred: false,
                };
                (AskKind::Approve, Answer::Decision(result))
            }
            _ => {
                return Err(Error::invalid_params(
                    "expected exactly one of `output` (for `tool/call`) and `decision` (for `tool/approve`)",
                ));
            }
        };
        let matches = |ask: &OpenAsk| {
            ask.kind == kind
                && ask.run_id.as_deref() == Some(&params.run_id)
                && ask.call_id.as_deref() == Some(&params.call_id)
        };
        let number = self
            .asks
            .open
            .iter()
            .find(|(_, ask)| matches(ask))
            .map(|(number, _)| *number);
        let ask = number
            .and_then(|number| self.asks.open.remove(&number))
            .ok_or_else(|| {
                Error::new(
                    Kind::NotFound,
                    format!("run `{}` waits for no call `{}`", params.run_id, params.call_id),
                )
                .with_hint("the call was answered before, its time was up, or its run has ended")
            })?;
        let _ = ask.reply.send(Reply::Answer(answer));
        Ok(())
    }

    /// The run has ended: the client need not go on with what it was asked for it.
    pub(super) fn withdraw_asks(&mut self, run_id: &str) {
        let numbers: Vec<u64> = self
            .asks
            .open
            .iter()
            .filter(|(_, ask)| ask.run_id.as_deref() == Some(run_id))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.asks.open.remove(&number);
            let text = rpc::notify("$/cancelRequest", &serde_json::json!({ "id": number }));
            match self.runs.get(run_id).and_then(|run| run.lane.as_ref()) {
                Some(lane) => lane.notify(Body::Ready(text)),
                None => self.outbox.notify(text),
            }
        }
    }

    /// Nobody waits for this token any more: the client need not ask its user for it.
    pub(super) fn withdraw_token(&mut self, id: u64) {
        if self.asks.open.remove(&id).is_some() {
            self.outbox
                .notify(rpc::notify("$/cancelRequest", &serde_json::json!({ "id": id })));
        }
    }

    /// Nobody will answer any more.
    pub(super) fn refuse_asks(&mut self, reason: &str) {
        for (_, ask) in std::mem::take(&mut self.asks.open) {
            let _ = ask.reply.send(Reply::Refused(reason.to_owned()));
        }
    }
}

impl AskKind {
    /// The result of a response, as an answer to this.
    fn read(self, result: &Params) -> Result<Answer, Error> {
        Ok(match self {
            AskKind::Call => Answer::Output(result.decode()?),
            AskKind::Approve => Answer::Decision(result.decode()?),
            AskKind::Token => Answer::Token(result.decode()?),
        })
    }

    /// What is wrong with a result. That of `auth/token` is not quoted: it is, or holds, a secret.
    fn complaint(self, error: Error) -> String {
        match self {
            AskKind::Call | AskKind::Approve => error.message.into_owned(),
            AskKind::Token => "expected `token` to be a string, and `expiresIn` a number of seconds".to_owned(),
        }
    }

    fn verb(self) -> &'static str {
        match self {
            AskKind::Call => "call the tool",
            AskKind::Approve => "ask its user",
            AskKind::Token => "give a token",
        }
    }
}

fn is_deferred(answer: &Answer) -> bool {
    match answer {
        Answer::Output(result) => result.deferred,
        Answer::Decision(result) => result.deferred,
        Answer::Token(_) => false,
    }
}

/// The message of an error object, whatever the client made of it.
fn message_of(error: &Value) -> String {
    match error.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    }
}
