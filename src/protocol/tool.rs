//! Tools: what a client offers, how it is asked to call one, and what it answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Part, lenient};

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tool {
    /// Letters, digits, `_` and `-`; at most 64.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A JSON Schema of the arguments; an object without members where absent.
    #[serde(
        default,
        deserialize_with = "lenient::object",
        skip_serializing_if = "Option::is_none"
    )]
    pub parameters: Option<serde_json::Map<String, Value>>,
    /// Whether the upstream must keep the arguments to the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// `tool/call`, from assistd: call this tool and answer with what it gave.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolCallParams {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// The call.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments; an object as the tool's schema has it, if the model did well.
    pub arguments: Value,
}

/// `tool/approve`, from assistd: may this tool be called? Asked for tools that assistd calls itself.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolApproveParams {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// The call.
    pub call_id: String,
    /// The MCP server that has the tool, by its name in the settings.
    pub server: String,
    /// The tool's name.
    pub name: String,
    /// What it does, in its server's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The arguments; an object as the tool's schema has it, if the model did well.
    pub arguments: Value,
}

/// The client's answer to `tool/approve`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolApproveResult {
    /// What the user decided; `deny` where absent.
    pub decision: Option<Decision>,
    /// Whether the decision follows with `tool/output`; false where absent.
    #[serde(default)]
    pub deferred: bool,
}

/// What a user says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Decision {
    /// This call may be made.
    Allow,
    /// This tool may be called for as long as this process lives.
    AllowAlways,
    /// It may not: the model is told so.
    Deny,
}

/// The client's answer to `tool/call`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolCallResult {
    /// What the tool gave; an empty text where absent.
    pub output: Option<Output>,
    /// Whether the output is an account of a failure; false where absent.
    #[serde(default)]
    pub is_error: bool,
    /// Whether the output follows with `tool/output`; false where absent.
    #[serde(default)]
    pub deferred: bool,
}

/// What a tool gave: a string, or a list of parts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a string or a list of parts")]
pub enum Output {
    /// Text.
    Text(String),
    /// Parts; their text is joined for a dialect that takes only text.
    Parts(Vec<Part>),
}

impl Output {
    /// As text.
    pub fn into_text(self) -> String {
        match self {
            Output::Text(text) => text,
            Output::Parts(parts) => {
                let mut joined = String::new();
                for part in &parts {
                    part.append_text(&mut joined);
                }
                joined
            }
        }
    }
}

/// A tool's output, as a provider sends it upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutput {
    /// The call.
    pub call_id: String,
    /// The text.
    pub output: String,
    /// Whether it is an account of a failure.
    pub is_error: bool,
}

/// What a tool gave, sent with the next `assistant/send`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolOutputEntry {
    /// The call.
    pub call_id: String,
    /// What the tool gave.
    pub output: Output,
    /// Whether the output is an account of a failure; false where absent.
    pub is_error: Option<bool>,
}

impl From<ToolOutputEntry> for ToolOutput {
    fn from(entry: ToolOutputEntry) -> Self {
        ToolOutput {
            call_id: entry.call_id,
            output: entry.output.into_text(),
            is_error: entry.is_error.unwrap_or(false),
        }
    }
}

/// `tool/output`: the answer to a `tool/call` or `tool/approve` that was put off.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolOutputParams {
    /// The run.
    pub run_id: String,
    /// The call.
    pub call_id: String,
    /// What the tool gave: the answer to `tool/call`.
    pub output: Option<Output>,
    /// Whether the output is an account of a failure; false where absent.
    pub is_error: Option<bool>,
    /// The answer to `tool/approve`.
    pub decision: Option<Decision>,
}

/// A call that nobody answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolCallEntry {
    /// The call.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
}
