//! The body of a request for a response, after `CreateResponse`.
//!
//! Pure. What was not asked for is left out, and what only some servers know goes only to those.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Upstream;
use super::anchor::Opening;
use super::files::Files;
use super::input::Input;
use crate::config::History;
use crate::protocol::{Format, Options, Tool};
use crate::provider::Request;
use crate::provider::openai::{bytes, json_schema, merge};

/// What a request is made of.
pub struct Asking<'a> {
    pub upstream: &'a Upstream,
    pub request: &'a Request,
    pub model: &'a str,
    pub opening: &'a Opening,
    pub files: &'a Files,
    /// How many of the oldest messages are left out.
    pub left_out: usize,
    /// Whether what only the upstream can read goes back to it.
    pub with_carried: bool,
}

/// The body.
pub fn body(asking: &Asking) -> Bytes {
    let Asking { upstream, request, .. } = asking;
    let options = &request.options;
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put("model", Some(json!(asking.model)));
    put("instructions", request.instructions.as_ref().map(|text| json!(text)));
    put("input", Some(Value::Array(input(asking))));
    put("previous_response_id", previous(asking.opening).map(|id| json!(id)));
    put("stream", Some(json!(true)));
    put("store", Some(json!(upstream.keeps())));
    put("background", upstream.background.then_some(Value::Bool(true)));
    let carries = upstream.kind.is_first_party() && upstream.history == History::Local;
    put("include", carries.then(|| json!(["reasoning.encrypted_content"])));
    let pads = upstream.kind.pads();
    put("stream_options", pads.then(|| json!({ "include_obfuscation": false })));
    let tools = tools(&request.tools, options);
    let has_tools = !tools.is_empty();
    put("tools", has_tools.then_some(Value::Array(tools)));
    put(
        "tool_choice",
        options
            .tool_choice
            .as_deref()
            .map(|choice| tool_choice(choice, options)),
    );
    put(
        "parallel_tool_calls",
        options.parallel_tool_calls.map(|parallel| json!(parallel)),
    );
    put("max_output_tokens", options.max_output_tokens.map(|max| json!(max)));
    put("temperature", options.temperature.map(|temperature| json!(temperature)));
    put("top_p", options.top_p.map(|top_p| json!(top_p)));
    put("reasoning", reasoning(options));
    put(
        "text",
        options
            .format
            .as_ref()
            .and_then(format)
            .map(|format| json!({ "format": format })),
    );
    merge(&mut body, &upstream.body);
    bytes(&body)
}

/// The longest answer that a request asks for, also where the settings' `body` says it.
pub fn max_output_tokens(upstream: &Upstream, options: &Options) -> Option<u64> {
    let set = upstream.body.get("max_output_tokens").and_then(Value::as_u64);
    set.or(options.max_output_tokens.map(u64::from))
}

fn input(asking: &Asking) -> Vec<Value> {
    let messages = &asking.request.conversation.messages;
    let rounds = &asking.request.rounds;
    let mut input = Input::new(asking.files, asking.with_carried);
    match asking.opening {
        Opening::Whole => {
            input.messages(&messages[asking.left_out..]);
            input.rounds(rounds);
        }
        Opening::Messages { from, .. } => input.messages(&messages[*from..]),
        Opening::Outputs { .. } => rounds.last().into_iter().for_each(|round| input.outputs(round)),
    }
    input.into_items()
}

fn previous(opening: &Opening) -> Option<&str> {
    match opening {
        Opening::Whole => None,
        Opening::Messages { previous, .. } | Opening::Outputs { previous } => Some(previous),
    }
}

/// The client's functions, then what the upstream runs itself. The description requires both `parameters` and
/// `strict`, and takes null for either.
fn tools(tools: &[Tool], options: &Options) -> Vec<Value> {
    let functions = tools.iter().map(|tool| {
        let mut function = json!({
            "type": "function",
            "name": tool.name,
            "parameters": tool.parameters.clone().unwrap_or_else(no_parameters),
            "strict": tool.strict.unwrap_or(false),
        });
        if let Some(description) = &tool.description {
            function["description"] = json!(description);
        }
        function
    });
    let own = options.upstream_tools.iter().flatten().cloned().map(Value::Object);
    functions.chain(own).collect()
}

fn no_parameters() -> Map<String, Value> {
    let schema = [("type", json!("object")), ("properties", json!({}))];
    schema
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A word, a tool that the upstream runs itself by its type, or a function by its name.
fn tool_choice(choice: &str, options: &Options) -> Value {
    let own = options.upstream_tools.iter().flatten();
    let mut own = own.filter(|tool| tool.get("type").and_then(Value::as_str) != Some("custom"));
    match choice {
        "auto" | "none" | "required" => json!(choice),
        kind if own.any(|tool| tool.get("type").and_then(Value::as_str) == Some(kind)) => json!({ "type": kind }),
        name => json!({ "type": "function", "name": name }),
    }
}

fn reasoning(options: &Options) -> Option<Value> {
    let members = [
        ("effort", &options.reasoning_effort),
        ("summary", &options.reasoning_summary),
    ];
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_deref()?))));
    let members: Map<String, Value> = members.collect();
    (!members.is_empty()).then_some(Value::Object(members))
}

fn format(format: &Format) -> Option<Value> {
    match format {
        Format::Text => None,
        Format::JsonObject => Some(json!({ "type": "json_object" })),
        Format::JsonSchema { .. } => {
            let mut described = json_schema(format)?;
            described.insert("type".into(), json!("json_schema"));
            Some(Value::Object(described))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_chosen_by_word_type_or_name() {
        let options = Options {
            upstream_tools: Some(vec![json!({ "type": "web_search" }).as_object().unwrap().clone()]),
            ..Options::default()
        };
        assert_eq!(tool_choice("required", &options), "required");
        assert_eq!(tool_choice("web_search", &options), json!({ "type": "web_search" }));
        assert_eq!(
            tool_choice("weather", &options),
            json!({ "type": "function", "name": "weather" })
        );
    }
}
