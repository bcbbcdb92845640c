//! Calling the client's tools: all that the model asks for at once, each with a time limit.
//!
//! Whatever goes wrong with a call becomes an output that tells the model so, and the run goes on.

use futures::future::join_all;

use super::Run;
use crate::desk::Unanswered;
use crate::protocol::{StepCall, ToolCallParams, ToolCallResult, ToolOutput};
use crate::provider::ToolCall;

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
        let desk = self.desk.as_ref().ok_or("error: the client is gone")?;
        desk.call(params, self.tool_timeout).await.map_err(|why| match why {
            Unanswered::Late(limit) => format!(
                "error: the tool `{}` was not answered within {} s",
                call.name,
                limit.as_secs_f64()
            ),
            why => format!("error: {why}"),
        })
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
