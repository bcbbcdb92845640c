//! Calling tools: all that the model asks for at once, the client's and those of MCP servers, each with a time limit.
//!
//! Whatever goes wrong with a call becomes an output that tells the model so, and the run goes on. Only a call that is
//! the client's to answer, where the client does not answer any, is left open.

use futures::future::join_all;
use serde_json::Value;

use super::Run;
use crate::desk::{Desk, Unanswered};
use crate::protocol::{StepCall, ToolCallParams, ToolCallResult, ToolOutput};
use crate::provider::ToolCall;

impl Run {
    /// Whether anybody answers any of these.
    pub(super) fn can_call_any(&self, calls: &[ToolCall]) -> bool {
        self.desk.is_some() || calls.iter().any(|call| self.toolbox.find(&call.name).is_some())
    }

    /// The outputs of these calls, in their order, without those that nobody answers. None if the run was stopped
    /// meanwhile.
    pub(super) async fn call_tools(&mut self, calls: &[ToolCall]) -> Option<Vec<ToolOutput>> {
        self.begin_calls(calls);
        self.flush();
        let token = self.stop.token();
        let outputs = tokio::select! {
            biased;
            () = token.cancelled() => return None,
            outputs = join_all(calls.iter().map(|call| self.call_tool(call))) => outputs,
        };
        let outputs: Vec<ToolOutput> = outputs.into_iter().flatten().collect();
        self.finish_calls(&outputs);
        self.flush();
        Some(outputs)
    }

    /// The call's output; none if it is the client's, and the client answers none.
    async fn call_tool(&self, call: &ToolCall) -> Option<ToolOutput> {
        let called = match (self.toolbox.find(&call.name), &self.desk) {
            (Some(offer), _) => self.call_server(call, offer).await,
            (None, Some(desk)) => self.call_client(call, desk).await,
            (None, None) => return None,
        };
        let (output, is_error) = called.unwrap_or_else(|reason| (format!("error: {reason}"), true));
        Some(ToolOutput {
            call_id: call.id.clone(),
            output,
            is_error,
        })
    }

    async fn call_client(&self, call: &ToolCall, desk: &Desk) -> Result<(String, bool), String> {
        let params = self.call_params(call)?;
        let result: ToolCallResult = desk.call(params, self.tool_timeout).await.map_err(|why| match why {
            Unanswered::Late(limit) => format!(
                "the tool `{}` was not answered within {} s",
                call.name,
                limit.as_secs_f64()
            ),
            why => why.to_string(),
        })?;
        let output = result.output.map(|output| output.into_text()).unwrap_or_default();
        Ok((output, result.is_error))
    }

    fn call_params(&self, call: &ToolCall) -> Result<ToolCallParams, String> {
        let address = self.lane.address();
        let params = ToolCallParams {
            thread_id: address.thread_id.clone(),
            run_id: address.run_id.clone(),
            call_id: call.id.clone(),
            name: call.name.clone(),
            arguments: arguments(call)?,
        };
        self.check_size(call, &crate::rpc::request(u64::MAX, "tool/call", &params))?;
        Ok(params)
    }

    /// The client takes no message that is longer than it said.
    pub(super) fn check_size(&self, call: &ToolCall, request: &str) -> Result<(), String> {
        let (size, max) = (request.len(), self.lane.max_message());
        if size > max {
            return Err(format!(
                "the arguments of `{}` are too large: {size} bytes, and the client takes {max}",
                call.name
            ));
        }
        Ok(())
    }
}

/// The arguments as JSON. None at all is an object without members.
pub(super) fn arguments(call: &ToolCall) -> Result<Value, String> {
    let text = if call.arguments.trim().is_empty() {
        "{}"
    } else {
        &call.arguments
    };
    serde_json::from_str(text).map_err(|error| format!("the arguments of `{}` are not JSON: {error}", call.name))
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
