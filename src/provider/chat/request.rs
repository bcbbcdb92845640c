//! The body of a request, after `CreateChatCompletionRequest`.
//!
//! Pure. What was not asked for is left out: servers refuse what they do not know, and keep their own settings.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Upstream;
use super::messages::{MessageBody, messages};
use crate::protocol::{Format, Tool};
use crate::provider::Request;
use crate::provider::openai::{bytes, json_schema, merge};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<MessageBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToolBody<'a> {
    Function {
        r#type: &'static str,
        function: FunctionBody<'a>,
    },
    /// One that the upstream itself runs, as it was given.
    Upstream(&'a Map<String, Value>),
}

#[derive(Serialize)]
struct FunctionBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    /// Present even where it says nothing: some servers take no function without it.
    parameters: Parameters<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Parameters<'a> {
    Given(&'a Map<String, Value>),
    None {
        r#type: &'static str,
        properties: Map<String, Value>,
    },
}

/// The body for this request to this model, with the conversation from this message on. What the settings add is put
/// over all else.
pub fn body(request: &Request, model: &str, from: usize, upstream: &Upstream) -> Bytes {
    let Upstream {
        takes, habits, extra, ..
    } = upstream;
    let options = &request.options;
    let upstream_tools = options.upstream_tools.as_deref().unwrap_or_default();
    let tools: Vec<ToolBody> = request.tools.iter().map(ToolBody::from).collect();
    let has_tools = !tools.is_empty();
    let limit = |is_this: bool| options.max_output_tokens.filter(|_| is_this);
    let body = Body {
        model,
        messages: messages(request, from, *takes, habits),
        tools: tools
            .into_iter()
            .chain(upstream_tools.iter().map(ToolBody::Upstream))
            .collect(),
        // Without tools they say nothing, and are refused.
        tool_choice: options.tool_choice.as_deref().filter(|_| has_tools).map(tool_choice),
        parallel_tool_calls: options.parallel_tool_calls.filter(|_| has_tools),
        temperature: options.temperature,
        top_p: options.top_p,
        seed: options.seed,
        max_tokens: limit(!habits.has_completion_limit()),
        max_completion_tokens: limit(habits.has_completion_limit()),
        reasoning_effort: options.reasoning_effort.as_deref(),
        response_format: options.format.as_ref().and_then(response_format),
        stream: true,
        stream_options: habits
            .takes_stream_options()
            .then_some(StreamOptions { include_usage: true }),
    };
    if extra.is_empty() {
        return bytes(&body);
    }
    let Ok(Value::Object(mut body)) = serde_json::to_value(&body) else {
        unreachable!("a struct of strings, numbers and maps is a JSON object");
    };
    merge(&mut body, extra);
    bytes(&body)
}

impl<'a> From<&'a Tool> for ToolBody<'a> {
    fn from(tool: &'a Tool) -> Self {
        let nothing = || Parameters::None {
            r#type: "object",
            properties: Map::new(),
        };
        ToolBody::Function {
            r#type: "function",
            function: FunctionBody {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: tool.parameters.as_ref().map_or_else(nothing, Parameters::Given),
                strict: tool.strict,
            },
        }
    }
}

fn tool_choice(choice: &str) -> Value {
    match choice {
        "auto" | "none" | "required" => json!(choice),
        name => json!({ "type": "function", "function": { "name": name } }),
    }
}

fn response_format(format: &Format) -> Option<Value> {
    match format {
        Format::Text => None,
        Format::JsonObject => Some(json!({ "type": "json_object" })),
        Format::JsonSchema { .. } => Some(json!({ "type": "json_schema", "json_schema": json_schema(format) })),
    }
}
