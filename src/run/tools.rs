//! Calling the client's tools: all that the model asks for at once, each with a time limit.
//!
//! Whatever goes wrong with a call becomes an output that tells the model so, and the run goes on. Requests to the
//! client are the server's to send, so a run hands it an [`Ask`] and waits for the reply.

use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::Run;
use crate::protocol::{StepCall, ToolCallParams, ToolCallResult, ToolOutput};
use crate::provider::ToolCall;

/// How long a client may take for a call that it has put off.
const DEFERRED_TIMEOUT: Duration = Duration::from_secs(600);

/// A tool that the client is to call.
pub struct Ask {
    /// What it is sent.
    pub params: ToolCallParams,
    /// Where its answer goes. Closed if the run no longer waits.
    pub reply: oneshot::Sender<Reply>,
}

/// What the client said.
pub enum Reply {
    /// What the tool gave.
    Output(ToolCallResult),
    /// Why there is no output, in a sentence for the model.
    Refused(String),
    /// It follows later.
    Deferred(oneshot::Receiver<Reply>),
}

/// Where a run hands in what the client is to do. Bounded; the server always takes.
#[derive(Clone)]
pub struct Desk(mpsc::Sender<Ask>);

impl Desk {
    /// A desk, and the server's end of it.
    pub fn new() -> (Desk, mpsc::Receiver<Ask>) {
        let (sender, receiver) = mpsc::channel(64);
        (Desk(sender), receiver)
    }
}

impl Run {
    /// The outputs of these calls, in their order. None if the run was stopped meanwhile.
    pub(super) async fn call_tools(&mut self, calls: &[ToolCall]) -> Option<Vec<ToolOutput>> {
        self.begin_calls(calls);
        self.flush();
        let token = self.stop.token();
        let outputs = tokio::select! {
            biased;
            () = token.cancelled() => return None,
            outputs = join_all(calls.iter().map(|call| self.call_tool(call))) => outputs,
        };
        self.finish_calls(&outputs);
        self.flush();
        Some(outputs)
    }

    async fn call_tool(&self, call: &ToolCall) -> ToolOutput {
        match self.ask(call).await {
            Ok(result) => ToolOutput {
                call_id: call.id.clone(),
                is_error: result.is_error,
                output: result.output.map(|output| output.into_text()).unwrap_or_default(),
            },
            Err(reason) => ToolOutput {
                call_id: call.id.clone(),
                is_error: true,
                output: reason,
            },
        }
    }

    async fn ask(&self, call: &ToolCall) -> Result<ToolCallResult, String> {
        let params = self.call_params(call)?;
        let gone = || "error: the client is gone".to_owned();
        let (reply, answer) = oneshot::channel();
        let desk = self.desk.as_ref().ok_or_else(gone)?;
        desk.0.send(Ask { params, reply }).await.map_err(|_| gone())?;
        let mut answer = answer;
        let mut limit = self.tool_timeout;
        loop {
            let reply = tokio::time::timeout(limit, answer).await.map_err(|_| {
                format!(
                    "error: the tool `{}` was not answered within {} s",
                    call.name,
                    limit.as_secs_f64()
                )
            })?;
            match reply.map_err(|_| gone())? {
                Reply::Output(result) => return Ok(result),
                Reply::Refused(reason) => return Err(reason),
                Reply::Deferred(later) => {
                    answer = later;
                    limit = DEFERRED_TIMEOUT;
                }
            }
        }
    }

    fn call_params(&self, call: &ToolCall) -> Result<ToolCallParams, String> {
        let text = if call.arguments.trim().is_empty() {
            "{}"
        } else {
            &call.arguments
        };
        let arguments = serde_json::from_str(text)
            .map_err(|error| format!("error: the arguments of `{}` are not JSON: {error}", call.name))?;
        let address = self.lane.address();
        let params = ToolCallParams {
            thread_id: address.thread_id.clone(),
            run_id: address.run_id.clone(),
            call_id: call.id.clone(),
            name: call.name.clone(),
            arguments,
        };
        let size = crate::rpc::request(u64::MAX, "tool/call", &params).len();
        if size > self.lane.max_message() {
            return Err(format!(
                "error: the arguments of `{}` are too large: {size} bytes, and the client takes {}",
                call.name,
                self.lane.max_message()
            ));
        }
        Ok(params)
    }
}

impl From<&ToolCall> for StepCall {
    fn from(call: &ToolCall) -> Self {
        StepCall {
            call_id: call.id.clone(),
            kind: "function".into(),
            name: Some(call.name.clone()),
            arguments: Some(call.arguments.clone()),
            ..StepCall::default()
        }
    }
}
