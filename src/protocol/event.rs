//! `assistant/event`: all that happens in a run and is not text for the user.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Annotation, Image, Part, RunStatus, Usage};
use crate::error::Error;

/// `assistant/event`: something else happened; `type` says what.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventParams {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// Strictly increasing within a run; gaps are normal.
    pub seq: u64,
    /// The `token` of the request that asked for the run, or that request's id; absent if it had neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::Token>")]
    pub token: Option<Value>,
    /// What happened.
    #[serde(flatten)]
    pub event: RunEvent,
}

/// What happened, by `type`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RunEvent {
    /// A run that was queued has started, or the upstream's own word for how far the run is.
    Status {
        /// In camelCase: `queued`, `inProgress`, `requiresAction`, …
        status: String,
    },
    /// A run step began, changed or ended.
    Step {
        /// The whole step, as known by now.
        step: RunStep,
    },
    /// A piece of a tool call's arguments or code, as it is written.
    ToolArguments {
        /// The step.
        step_id: String,
        /// The call.
        call_id: String,
        /// The tool's name, where known.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The piece.
        text: String,
    },
    /// A piece of the model's reasoning.
    Reasoning {
        /// The piece.
        text: String,
        /// Whether it is a summary made for people.
        summary: bool,
    },
    /// A citation, or a file that the answer offers.
    Annotation {
        /// The message.
        message_id: String,
        /// Which content part of it.
        index: u32,
        /// The annotation.
        annotation: Annotation,
    },
    /// An image in the answer.
    Image {
        /// The message.
        message_id: String,
        /// Which content part of it.
        index: u32,
        /// The image.
        image: Image,
    },
    /// A message is over.
    Message {
        /// The message.
        message_id: String,
        /// Whether it is whole.
        status: RunStatus,
        /// What it holds; absent where it does not fit.
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<Vec<Part>>,
    },
    /// Tokens used so far.
    Usage {
        /// The figures of the run.
        usage: Usage,
    },
    /// The request failed in a way that may pass and is sent again.
    Retry {
        /// 1 for the first repetition.
        attempt: u32,
        /// How long it waits first, in milliseconds.
        delay_ms: u64,
        /// Why.
        error: Error,
    },
    /// What the upstream says of its limits.
    RateLimit(RateLimit),
    /// The history did not fit the model: the oldest messages were left out.
    Truncated {
        /// How many messages.
        messages: u32,
    },
    /// The journal cannot be written: what comes is shown, and may be lost if the daemon is killed.
    Storage {
        /// False.
        kept: bool,
        /// Why.
        message: String,
    },
    /// An MCP server was needed that did not run.
    Mcp {
        /// Its name in the settings.
        server: String,
        /// How far it is.
        status: McpStatus,
        /// Why it cannot be used: the run goes on without its tools.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// An event of the upstream that this build has no word for.
    Upstream {
        /// The upstream's name for it.
        name: String,
        /// As it came; null where it does not fit.
        data: Value,
    },
}

/// How far an MCP server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum McpStatus {
    /// It is being started.
    Starting,
    /// Its tools can be called.
    Ready,
    /// It cannot be used.
    Failed,
}

/// The types of `assistant/event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EventType {
    /// See [`RunEvent::Status`].
    Status,
    /// See [`RunEvent::Step`].
    Step,
    /// See [`RunEvent::ToolArguments`].
    ToolArguments,
    /// See [`RunEvent::Reasoning`].
    Reasoning,
    /// See [`RunEvent::Annotation`].
    Annotation,
    /// See [`RunEvent::Image`].
    Image,
    /// See [`RunEvent::Message`].
    Message,
    /// See [`RunEvent::Usage`].
    Usage,
    /// See [`RunEvent::Retry`].
    Retry,
    /// See [`RunEvent::RateLimit`].
    RateLimit,
    /// See [`RunEvent::Truncated`].
    Truncated,
    /// See [`RunEvent::Storage`].
    Storage,
    /// See [`RunEvent::Mcp`].
    Mcp,
    /// See [`RunEvent::Upstream`].
    Upstream,
}

impl EventType {
    /// Every type, in the order of the documentation.
    pub const ALL: [EventType; 14] = [
        EventType::Status,
        EventType::Step,
        EventType::ToolArguments,
        EventType::Reasoning,
        EventType::Annotation,
        EventType::Image,
        EventType::Message,
        EventType::Usage,
        EventType::Retry,
        EventType::RateLimit,
        EventType::Truncated,
        EventType::Storage,
        EventType::Mcp,
        EventType::Upstream,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Status => "status",
            EventType::Step => "step",
            EventType::ToolArguments => "toolArguments",
            EventType::Reasoning => "reasoning",
            EventType::Annotation => "annotation",
            EventType::Image => "image",
            EventType::Message => "message",
            EventType::Usage => "usage",
            EventType::Retry => "retry",
            EventType::RateLimit => "rateLimit",
            EventType::Truncated => "truncated",
            EventType::Storage => "storage",
            EventType::Mcp => "mcp",
            EventType::Upstream => "upstream",
        }
    }

    /// Those that a client gets if it does not choose.
    pub const DEFAULT: [EventType; 8] = [
        EventType::Status,
        EventType::Step,
        EventType::Usage,
        EventType::Retry,
        EventType::Annotation,
        EventType::Truncated,
        EventType::Storage,
        EventType::Mcp,
    ];
}

impl RunEvent {
    /// Its type.
    pub fn event_type(&self) -> EventType {
        match self {
            RunEvent::Status { .. } => EventType::Status,
            RunEvent::Step { .. } => EventType::Step,
            RunEvent::ToolArguments { .. } => EventType::ToolArguments,
            RunEvent::Reasoning { .. } => EventType::Reasoning,
            RunEvent::Annotation { .. } => EventType::Annotation,
            RunEvent::Image { .. } => EventType::Image,
            RunEvent::Message { .. } => EventType::Message,
            RunEvent::Usage { .. } => EventType::Usage,
            RunEvent::Retry { .. } => EventType::Retry,
            RunEvent::RateLimit(_) => EventType::RateLimit,
            RunEvent::Truncated { .. } => EventType::Truncated,
            RunEvent::Storage { .. } => EventType::Storage,
            RunEvent::Mcp { .. } => EventType::Mcp,
            RunEvent::Upstream { .. } => EventType::Upstream,
        }
    }
}

/// A part of a run that is not message text: tool calls, reasoning, the making of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStep {
    /// The upstream's id, or ours where it has none.
    pub id: String,
    /// `toolCalls`, `message` or `reasoning`; others as the upstream names them.
    #[serde(rename = "type")]
    pub kind: String,
    /// `inProgress`, `completed`, `failed`, `cancelled` or `expired`.
    pub status: String,
    /// The calls, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<StepCall>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepError>,
    /// Tokens used by the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// Why a step failed, in the upstream's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepError {
    /// The upstream's code.
    pub code: String,
    /// The upstream's message.
    pub message: String,
}

/// One tool call of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepCall {
    /// The upstream's id of the call.
    pub call_id: String,
    /// `function`, `codeInterpreter`, `fileSearch`; others as the upstream names them.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The MCP server that has the function, where assistd calls it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The function's arguments, or the code, as the model wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// What a function gave back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What the code printed or drew, or the search found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Value>,
}

/// What the upstream says of its limits, as far as it says it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_requests: Option<u64>,
    /// Tokens left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_tokens: Option<u64>,
    /// When requests are full again, in the upstream's words, such as `1s` or `6m0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_requests: Option<String>,
    /// When tokens are full again, in the upstream's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_tokens: Option<String>,
}
