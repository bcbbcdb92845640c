//! `assistant/…`: asking, cancelling, and the notifications that carry an answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Content, Metadata, Part, Tool, ToolOutputEntry, lenient};
use crate::error::Error;

/// `assistant/send`: says something in a thread and asks for an answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendParams {
    /// The thread to go on with; absent makes a new one.
    pub thread_id: Option<String>,
    /// What the user says; needed where there are no `toolOutputs`.
    pub content: Option<Content>,
    /// What tools gave whose calls the thread's last run left open (`toolCalls` of its end): the model goes on with them.
    /// Calls that are left out stay unanswered, and the model is told so.
    pub tool_outputs: Option<Vec<ToolOutputEntry>>,
    /// The assistant, by name; a thread remembers the one it was started with.
    pub assistant: Option<String>,
    /// The model, for this run.
    pub model: Option<String>,
    /// Instructions that replace the assistant's, for this run.
    pub instructions: Option<String>,
    /// Tools besides the assistant's, for this run; the client answers `tool/call` for them.
    pub tools: Option<Vec<Tool>>,
    /// The MCP servers whose tools the model may call, by name, for this run; the assistant's where absent.
    pub mcp: Option<Vec<String>>,
    /// Sampling and limits, for this run; each overrides the assistant's.
    #[serde(default, deserialize_with = "lenient::object")]
    pub options: Option<Options>,
    /// Pairs of the client's own for the thread that this makes: up to 16, keys of up to 64 characters, values of up
    /// to 512. Refused together with `threadId`.
    #[serde(default, deserialize_with = "lenient::object")]
    pub metadata: Option<Metadata>,
    /// What the run's notifications carry, to be known by; the request's id where absent.
    pub token: Option<Token>,
    /// A key that makes it safe to send again; refused in this version.
    pub message_key: Option<String>,
    /// What to do if the thread has a run under way; `queue` where absent.
    pub on_busy: Option<OnBusy>,
    /// Whether to answer when the run has ended (true, where absent) or as soon as it exists (false).
    pub wait: Option<bool>,
}

/// A string or a number that the client chose, to know its notifications by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a string or a number")]
pub enum Token {
    /// Compared as a string.
    Text(String),
    /// Compared as it is written.
    Number(serde_json::Number),
}

/// What to do if the thread has a run under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnBusy {
    /// Wait behind it; at most 64 wait.
    #[default]
    Queue,
    /// Refuse with `busy`.
    Error,
    /// End it as cancelled, and go to the head of the queue.
    Interrupt,
}

/// Sampling and limits. What a dialect or model does not know is left out by it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Options {
    /// From 0 (always the likeliest token) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Only the likeliest tokens that together have this probability.
    #[serde(default, alias = "top_p", skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Only this many of the likeliest tokens.
    #[serde(default, alias = "top_k", skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Makes sampling repeatable, where the model allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The longest answer, in tokens; where absent, 1024 for the embedded model and the upstream's own limit elsewhere.
    #[serde(default, alias = "max_output_tokens", skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// How many rounds of tool calls a run may have; 16 where absent.
    #[serde(default, alias = "max_tool_rounds", skip_serializing_if = "Option::is_none")]
    pub max_tool_rounds: Option<u32>,
    /// `auto`, `none`, `required`, or a tool's name.
    #[serde(default, alias = "tool_choice", skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<String>,
    /// Whether several tools may be called at once.
    #[serde(default, alias = "parallel_tool_calls", skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// How hard a reasoning model should think, in its own words: `low`, `medium`, `high`.
    #[serde(default, alias = "reasoning_effort", skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Which summary of its reasoning the upstream should give, in its own words: `auto`, `concise`, `detailed`.
    #[serde(default, alias = "reasoning_summary", skip_serializing_if = "Option::is_none")]
    pub reasoning_summary: Option<String>,
    /// The form of the answer; text where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Tools that the upstream itself runs, as its API writes them: `{"type": "web_search"}`.
    #[serde(default, alias = "upstream_tools", skip_serializing_if = "Option::is_none")]
    pub upstream_tools: Option<Vec<serde_json::Map<String, Value>>>,
    /// How often a request that fails before anything was shown is sent again; the provider's `max_retries` where
    /// absent, 0 for never.
    #[serde(default, alias = "max_retries", skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

/// The form that an answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Format {
    /// Any text.
    Text,
    /// A JSON object of any shape; the instructions have to ask for one as well.
    JsonObject,
    /// JSON that this schema allows.
    JsonSchema {
        /// Letters, digits, `_` and `-`, at most 64; `answer` where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What it is for, for the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// A JSON Schema.
        schema: serde_json::Map<String, Value>,
        /// Whether the upstream must keep to the schema; true where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

impl Format {
    /// Whether upstreams take the name of the schema.
    pub fn check(&self) -> Result<(), Error> {
        let Format::JsonSchema { name: Some(name), .. } = self else {
            return Ok(());
        };
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if (1..=64).contains(&name.len()) && name.chars().all(is_of_name) {
            return Ok(());
        }
        Err(Error::invalid_params(
            "expected `options.format.name` to be 1 to 64 letters, digits, `_` or `-`",
        ))
    }
}

impl Options {
    /// These, with what `over` sets put over them.
    pub fn overridden_by(&self, over: &Options) -> Options {
        Options {
            temperature: over.temperature.or(self.temperature),
            top_p: over.top_p.or(self.top_p),
            top_k: over.top_k.or(self.top_k),
            seed: over.seed.or(self.seed),
            max_output_tokens: over.max_output_tokens.or(self.max_output_tokens),
            max_tool_rounds: over.max_tool_rounds.or(self.max_tool_rounds),
            tool_choice: over.tool_choice.clone().or_else(|| self.tool_choice.clone()),
            parallel_tool_calls: over.parallel_tool_calls.or(self.parallel_tool_calls),
            reasoning_effort: over.reasoning_effort.clone().or_else(|| self.reasoning_effort.clone()),
            reasoning_summary: over
                .reasoning_summary
                .clone()
                .or_else(|| self.reasoning_summary.clone()),
            format: over.format.clone().or_else(|| self.format.clone()),
            upstream_tools: over.upstream_tools.clone().or_else(|| self.upstream_tools.clone()),
            max_retries: over.max_retries.or(self.max_retries),
        }
    }
}

/// What `assistant/send` answers: all but the first three are there only if it waited for the end.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendResult {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// How far the run is.
    pub status: RunStatus,
    /// The last message of the answer; absent if none was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// All messages of the answer: a run with tools makes several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<String>>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// The run's deltas joined, nothing added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The last message's content, where it is more than `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<Part>>,
    /// The calls that nobody answered, where `stopReason` is `toolCalls` or `toolLimit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<super::ToolCallEntry>>,
    /// Tokens used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Members left out because the message would be larger than `maxMessageBytes`; `message/read` has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Vec<String>>,
}

/// How far a run is. The last five are ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RunStatus {
    /// It waits for its thread.
    Queued,
    /// It is being made.
    #[default]
    InProgress,
    /// The answer is whole.
    Completed,
    /// The answer was cut.
    Incomplete,
    /// Somebody cancelled it.
    Cancelled,
    /// It failed.
    Failed,
    /// The client or the daemon was gone.
    Interrupted,
}

impl RunStatus {
    /// Whether this is an end.
    pub fn is_end(self) -> bool {
        !matches!(self, RunStatus::Queued | RunStatus::InProgress)
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// The model was done (completed).
    EndTurn,
    /// The model wants tools called and nobody can (completed).
    ToolCalls,
    /// The model refused (completed).
    Refusal,
    /// `maxOutputTokens`, or the upstream's own limit (incomplete).
    MaxTokens,
    /// The model's context is full (incomplete).
    ContextFull,
    /// The upstream's filter cut the answer (incomplete).
    ContentFilter,
    /// More rounds of tool calls than allowed (incomplete).
    ToolLimit,
    /// The upstream gave up waiting (incomplete).
    Expired,
    /// `assistant/cancel` or `$/cancelRequest` (cancelled).
    Cancelled,
    /// Another message interrupted it (cancelled).
    Superseded,
    /// See `error` (failed).
    Error,
    /// The client was gone (interrupted).
    ClientGone,
    /// The daemon was killed (interrupted).
    DaemonKilled,
}

/// Tokens used by a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Of those read, how many came from the upstream's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// Of those written, how many were reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// The sum of two rounds.
    pub fn plus(self, other: Usage) -> Usage {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        };
        Usage {
            input_tokens: self.input_tokens + other.input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
            total_tokens: self.total_tokens + other.total_tokens,
            cached_tokens: sum(self.cached_tokens, other.cached_tokens),
            reasoning_tokens: sum(self.reasoning_tokens, other.reasoning_tokens),
        }
    }
}

/// `assistant/cancel`: exactly one of the three.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelParams {
    /// One run.
    pub run_id: Option<String>,
    /// Every run of a thread, running or queued.
    pub thread_id: Option<String>,
    /// Every run with this token.
    pub token: Option<Token>,
}

/// What `assistant/cancel` answers, at once.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelResult {
    /// The runs that it matched, in the order in which they were asked for; empty where none, which is no error. Their
    /// end follows within a second. Runs that had ended are found by `runId` only.
    pub runs: Vec<CancelledRun>,
}

/// A run that a cancel matched.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelledRun {
    /// The run.
    pub run_id: String,
    /// Where it stood when the cancel came; a run that had ended stays as it was.
    pub status: RunStatus,
}

/// `assistant/list` answers with the assistants that can be named.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssistantListResult {
    /// Those of the settings, then those that the upstream lists.
    pub assistants: Vec<AssistantEntry>,
    /// Providers that could not be asked, and why, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `assistant/get`: one assistant.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssistantGetParams {
    /// Its name.
    pub assistant: String,
}

/// A named set-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssistantEntry {
    /// What to call it in `assistant/send`.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The names of its tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Its options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// The upstream's own id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<String>,
    /// Whether a request that names none uses it.
    pub is_default: bool,
}

/// `assistant/started`: the run exists. The first message of a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartedParams {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// Strictly increasing within a run; gaps are normal.
    pub seq: u64,
    /// The `token` of the request that asked for the run, or that request's id; absent if it had neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Token>")]
    pub token: Option<Value>,
    /// `queued` or `inProgress`.
    pub status: RunStatus,
    /// The provider's name.
    pub provider: String,
    /// The model, where it is known by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Text for the user, or the words of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PartKind {
    /// Text of the answer.
    Text,
    /// Words of a refusal.
    Refusal,
}

/// `assistant/delta`: a piece of text that the user should see, in order, and nothing else.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeltaParams {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// Strictly increasing within a run; gaps are normal.
    pub seq: u64,
    /// The `token` of the request that asked for the run, or that request's id; absent if it had neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Token>")]
    pub token: Option<Value>,
    /// The message that the text belongs to.
    pub message_id: String,
    /// Which content part of the message, from 0.
    pub index: u32,
    /// Text or refusal.
    pub part: PartKind,
    /// The piece: append it to the text of this part so far.
    pub text: String,
}

/// `assistant/completed`: the end, exactly once per run and last.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CompletedParams {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// Strictly increasing within a run; gaps are normal.
    pub seq: u64,
    /// The `token` of the request that asked for the run, or that request's id; absent if it had neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Token>")]
    pub token: Option<Value>,
    /// One of the five ends.
    pub status: RunStatus,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// The last message of the answer; absent if none was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The run's deltas joined, nothing added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Tokens used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Members left out because the message would be larger than `maxMessageBytes`; `message/read` has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Vec<String>>,
}

impl Token {
    /// As JSON, for comparing.
    pub fn to_value(&self) -> Value {
        match self {
            Token::Text(text) => Value::from(text.as_str()),
            Token::Number(number) => Value::Number(number.clone()),
        }
    }
}
