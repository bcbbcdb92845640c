//! What the client was asked, and its answers.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::oneshot;

use super::Server;
use crate::error::{Error, Kind};
use crate::outbox::Body;
use crate::protocol::{ToolCallResult, ToolOutputParams};
use crate::rpc::{self, Id, Params};
use crate::run::{Ask, Reply};

/// Our requests count up from here: Vim has one space for both sides' ids, and a clash loses an answer.
const FIRST_ID: u64 = 1_073_741_824;

/// The requests to the client that are open, by their ids.
#[derive(Default)]
pub(super) struct OpenAsks {
    open: BTreeMap<u64, OpenAsk>,
    count: u64,
}

struct OpenAsk {
    run_id: String,
    call_id: String,
    reply: oneshot::Sender<Reply>,
    /// The client has answered that it will answer later.
    is_deferred: bool,
}

impl Server {
    /// Asks the client to call a tool.
    pub(super) fn ask(&mut self, ask: Ask) {
        let Some(lane) = self.runs.get(&ask.params.run_id).and_then(|run| run.lane.as_ref()) else {
            return;
        };
        if !self.phase.reads() {
            let reason = "error: the client takes no more requests";
            let _ = ask.reply.send(Reply::Refused(reason.into()));
            return;
        }
        let id = FIRST_ID + self.asks.count;
        self.asks.count += 1;
        lane.notify(Body::Ready(rpc::request(id, "tool/call", &ask.params)));
        let open = OpenAsk {
            run_id: ask.params.run_id,
            call_id: ask.params.call_id,
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
        let result = match outcome {
            Ok(result) => result
                .decode::<ToolCallResult>()
                .map_err(|error| error.message.to_string()),
            Err(error) => Err(message_of(&error)),
        };
        match result {
            Ok(result) if result.deferred => {
                let (reply, later) = oneshot::channel();
                let asked = std::mem::replace(&mut ask.reply, reply);
                ask.is_deferred = true;
                if asked.send(Reply::Deferred(later)).is_ok() {
                    self.asks.open.insert(number, ask);
                }
            }
            Ok(result) => {
                let _ = ask.reply.send(Reply::Output(result));
            }
            Err(reason) => {
                let _ = ask.reply.send(Reply::Refused(format!(
                    "error: the client could not call the tool: {reason}"
                )));
            }
        }
    }

    /// `tool/output`
    pub(super) fn tool_output(&mut self, params: ToolOutputParams) -> Result<(), Error> {
        if params.decision.is_some() {
            return Err(Error::invalid_params(
                "`decision` answers `tool/approve`, which is not built yet in this version",
            ));
        }
        let Some(output) = params.output else {
            return Err(Error::invalid_params("expected `output`, which is missing"));
        };
        let matches = |ask: &OpenAsk| ask.run_id == params.run_id && ask.call_id == params.call_id;
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
        let result = ToolCallResult {
            output: Some(output),
            is_error: params.is_error.unwrap_or(false),
            deferred: false,
        };
        let _ = ask.reply.send(Reply::Output(result));
        Ok(())
    }

    /// The run has ended: the client need not go on with what it was asked for it.
    pub(super) fn withdraw_asks(&mut self, run_id: &str) {
        let numbers: Vec<u64> = self
            .asks
            .open
            .iter()
            .filter(|(_, ask)| ask.run_id == run_id)
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

    /// Nobody will answer any more.
    pub(super) fn refuse_asks(&mut self, reason: &str) {
        for (_, ask) in std::mem::take(&mut self.asks.open) {
            let _ = ask.reply.send(Reply::Refused(format!("error: {reason}")));
        }
    }
}

/// The message of an error object, whatever the client made of it.
fn message_of(error: &Value) -> String {
    match error.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => error.to_string(),
    }
}
