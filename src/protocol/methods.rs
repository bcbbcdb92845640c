//! The table of everything that can be said on the wire. A method is one row here, one type, one arm of the server's
//! dispatch, and one transcript.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::*;

/// Who says it, and whether it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A request from the client.
    ToServer,
    /// A notification from the client.
    ToServerNotification,
    /// A notification from assistd.
    ToClientNotification,
    /// A request from assistd.
    ToClient,
}

/// One row of the table.
pub struct Method {
    /// `noun/verb`.
    pub name: &'static str,
    /// Who says it.
    pub direction: Direction,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// The schema of its parameters.
    pub params: fn(&mut SchemaGenerator) -> Schema,
    /// The schema of its result; for a notification, null.
    pub result: fn(&mut SchemaGenerator) -> Schema,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

macro_rules! methods {
    ($($direction:ident $name:literal ($params:ty) -> $result:ty : $summary:literal;)*) => {
        /// Every method and notification, in the order of the documentation.
        pub const METHODS: &[Method] = &[$(Method {
            name: $name,
            direction: Direction::$direction,
            summary: $summary,
            params: schema::<$params>,
            result: schema::<$result>,
        }),*];
    };
}

methods! {
    ToServer "initialize" (InitializeParams) -> InitializeResult: "Says who the client is and what it can do; first, or not at all.";
    ToServerNotification "initialized" (NoParams) -> Nothing: "Says that the client is ready; accepted and ignored.";
    ToServer "shutdown" (NoParams) -> Nothing: "Ends every run as cancelled, answers them, then itself; only `exit` may follow.";
    ToServerNotification "exit" (NoParams) -> Nothing: "Leaves the process: exit code 0 after `shutdown`, 1 without it.";
    ToServerNotification "$/cancelRequest" (CancelRequestParams) -> Nothing: "Cancels the run that a waiting request asked for.";
    ToServer "assistant/send" (SendParams) -> SendResult: "Says something in a thread and asks for an answer.";
    ToServer "assistant/cancel" (CancelParams) -> CancelResult: "Ends runs as cancelled; answers at once.";
    ToServer "assistant/list" (NoParams) -> AssistantListResult: "Lists the assistants that can be named.";
    ToServer "assistant/get" (AssistantGetParams) -> AssistantEntry: "Shows one assistant.";
    ToServer "thread/create" (ThreadCreateParams) -> ThreadEntry: "Makes a thread without messages.";
    ToServer "thread/list" (ThreadListParams) -> ThreadListResult: "Lists threads, the last written to first.";
    ToServer "thread/read" (ThreadReadParams) -> ThreadReadResult: "Reads a thread's messages, newest first.";
    ToServer "thread/update" (ThreadUpdateParams) -> ThreadEntry: "Changes what is given and leaves the rest.";
    ToServer "thread/delete" (ThreadDeleteParams) -> Nothing: "Cancels a thread's runs and removes it.";
    ToServer "run/get" (RunGetParams) -> RunEntry: "Shows a run as it stands.";
    ToServer "message/read" (MessageReadParams) -> MessageReadResult: "Reads one part of a message, in pages.";
    ToServer "tool/output" (ToolOutputParams) -> Nothing: "Answers a `tool/call` or `tool/approve` that was put off.";
    ToServer "model/list" (ModelListParams) -> ModelListResult: "Lists the models that providers offer.";
    ToServer "provider/list" (NoParams) -> ProviderListResult: "Lists the providers of the settings.";
    ToServer "provider/check" (ProviderCheckParams) -> ProviderCheckResult: "Goes the way to an upstream and names the stage that fails.";
    ToServer "server/status" (NoParams) -> StatusResult: "Gives figures of this process.";
    ToServer "rpc.discover" (NoParams) -> serde_json::Value: "Gives the OpenRPC document of this very build.";
    ToClientNotification "assistant/started" (StartedParams) -> Nothing: "The run exists.";
    ToClientNotification "assistant/delta" (DeltaParams) -> Nothing: "A piece of text that the user should see.";
    ToClientNotification "assistant/event" (EventParams) -> Nothing: "Something else happened in the run.";
    ToClientNotification "assistant/completed" (CompletedParams) -> Nothing: "The run has ended.";
    ToClient "tool/call" (ToolCallParams) -> ToolCallResult: "Asks the client to call a tool.";
    ToClient "tool/approve" (ToolApproveParams) -> ToolApproveResult: "Asks whether a tool of an MCP server may be called.";
    ToClient "auth/token" (AuthTokenParams) -> AuthTokenResult: "Asks the client for a provider's key or token.";
}

/// `$/cancelRequest`: the request whose run should end.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRequestParams {
    /// The request's id.
    #[schemars(with = "Token")]
    pub id: serde_json::Value,
}
