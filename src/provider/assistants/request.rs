//! The bodies of our requests, after `CreateThreadAndRunRequest`, `CreateRunRequest` and `SubmitToolOutputsRunRequest`.
//!
//! Pure. What was not asked for is left out, so that the upstream's assistant keeps its own settings; unknown members
//! would be refused.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::anchor::Opening;
use super::files::{self, Uploads};
use crate::protocol::{Format, Image, Part, Role, Tool};
use crate::provider::Request;
use crate::provider::http::Call;
use crate::thread::Message;

/// What the upstream has.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Who answers.
    pub assistant_id: &'a str,
    /// The assistant's tools, where the request adds to them; where it does not they are left out, and the assistant
    /// keeps them.
    pub own_tools: &'a [Value],
    /// The images and files of our messages.
    pub uploads: &'a Uploads,
}

/// The call that opens this turn.
pub fn opening(request: &Request, opening: &Opening, known: Known) -> Call {
    let messages = messages(opening.messages(&request.conversation.messages), known.uploads);
    match opening {
        Opening::NewThread => {
            let mut body = RunBody::new(request, known);
            // Unlike a run's own request, this one has no member for it in the description.
            body.reasoning_effort = None;
            body.thread = Some(ThreadBody { messages });
            Call::post(["threads", "runs"]).json(bytes(&body))
        }
        Opening::NextRun { anchor, .. } => {
            let mut body = RunBody::new(request, known);
            body.additional_messages = Some(messages);
            Call::post(["threads", &anchor.thread_id, "runs"]).json(bytes(&body))
        }
        Opening::Outputs { thread_id, run_id } => {
            let outputs = request
                .rounds
                .last()
                .map(|round| &round.outputs[..])
                .unwrap_or_default();
            let body = OutputsBody {
                tool_outputs: outputs
                    .iter()
                    .map(|output| OutputBody {
                        tool_call_id: &output.call_id,
                        output: &output.output,
                    })
                    .collect(),
                stream: true,
            };
            Call::post(["threads", thread_id, "runs", run_id, "submit_tool_outputs"]).json(bytes(&body))
        }
    }
}

#[derive(Serialize)]
struct RunBody<'a> {
    assistant_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<ThreadBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_messages: Option<Vec<MessageBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
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
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Value>,
    stream: bool,
}

#[derive(Serialize)]
struct ThreadBody<'a> {
    messages: Vec<MessageBody<'a>>,
}

#[derive(Serialize)]
struct MessageBody<'a> {
    role: &'static str,
    content: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<AttachmentBody<'a>>,
}

#[derive(Serialize)]
struct AttachmentBody<'a> {
    file_id: &'a str,
    tools: [Value; 1],
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToolBody<'a> {
    /// One of the assistant's, as it came.
    Own(&'a Value),
    /// One that the upstream runs, as the request has it.
    Upstream(&'a Map<String, Value>),
    /// One that reads files.
    Reader(Value),
    /// One of the request's.
    Added {
        r#type: &'static str,
        function: FunctionBody<'a>,
    },
}

#[derive(Serialize)]
struct FunctionBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct OutputsBody<'a> {
    tool_outputs: Vec<OutputBody<'a>>,
    stream: bool,
}

#[derive(Serialize)]
struct OutputBody<'a> {
    tool_call_id: &'a str,
    output: &'a str,
}

impl<'a> RunBody<'a> {
    fn new(request: &'a Request, known: Known<'a>) -> Self {
        let options = &request.options;
        RunBody {
            assistant_id: known.assistant_id,
            thread: None,
            additional_messages: None,
            model: request.model.as_deref(),
            instructions: request.instructions.as_deref(),
            tools: tools(known.own_tools, request),
            tool_choice: options.tool_choice.as_deref().map(tool_choice),
            parallel_tool_calls: options.parallel_tool_calls,
            temperature: options.temperature,
            top_p: options.top_p,
            max_completion_tokens: options.max_output_tokens,
            reasoning_effort: options.reasoning_effort.as_deref(),
            response_format: options.format.as_ref().map(response_format),
            stream: true,
        }
    }
}

impl<'a> From<&'a Tool> for ToolBody<'a> {
    fn from(tool: &'a Tool) -> Self {
        ToolBody::Added {
            r#type: "function",
            function: FunctionBody {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: tool.parameters.as_ref(),
                strict: tool.strict,
            },
        }
    }
}

/// The assistant's own tools, then those that the request adds, then what reads the files of the thread; what the request
/// adds takes the place of an own tool of the same kind or name. Nothing where nothing is added.
fn tools<'a>(own: &'a [Value], request: &'a Request) -> Vec<ToolBody<'a>> {
    let added = &request.tools;
    let upstream_tools = request.options.upstream_tools.as_deref().unwrap_or_default();
    let is_kept = |tool: &&Value| {
        let name = tool["function"]["name"].as_str();
        let is_in_place = |added: &Map<String, Value>| name.is_none() && added.get("type") == Some(&tool["type"]);
        added.iter().all(|added| Some(&*added.name) != name) && !upstream_tools.iter().any(is_in_place)
    };
    let is_there = |kind: &Value| {
        let own = own.iter().map(|tool| &tool["type"]);
        let added = upstream_tools.iter().filter_map(|tool| tool.get("type"));
        own.chain(added).any(|known| *known == kind["type"])
    };
    let mut readers = files::tools_for(&request.conversation.messages);
    readers.retain(|reader| !is_there(reader));
    if added.is_empty() && upstream_tools.is_empty() && readers.is_empty() {
        return Vec::new();
    }
    let own = own.iter().filter(is_kept).map(ToolBody::Own);
    let added = added.iter().map(ToolBody::from);
    own.chain(added)
        .chain(upstream_tools.iter().map(ToolBody::Upstream))
        .chain(readers.into_iter().map(ToolBody::Reader))
        .collect()
}

/// The form of the answer.
fn response_format(format: &Format) -> Value {
    match format {
        Format::Text => json!({ "type": "text" }),
        Format::JsonObject => json!({ "type": "json_object" }),
        Format::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => {
            let name = name.as_deref().unwrap_or("answer");
            let mut described = json!({ "name": name, "schema": schema, "strict": strict.unwrap_or(true) });
            if let Some(description) = description {
                described["description"] = json!(description);
            }
            json!({ "type": "json_schema", "json_schema": described })
        }
    }
}

fn tool_choice(choice: &str) -> Value {
    match choice {
        "auto" | "none" | "required" => json!(choice),
        "code_interpreter" | "file_search" => json!({ "type": choice }),
        name => json!({ "type": "function", "function": { "name": name } }),
    }
}

/// The messages that have anything to say.
fn messages<'a>(messages: &'a [Message], uploads: &'a Uploads) -> Vec<MessageBody<'a>> {
    let bodies = messages.iter().filter_map(|message| match message.role {
        Role::Assistant => answer(message),
        Role::User => question(message, uploads),
    });
    bodies.collect()
}

fn answer(message: &Message) -> Option<MessageBody<'_>> {
    let text = message.joined();
    (!text.is_empty()).then_some(MessageBody {
        role: "assistant",
        content: Value::String(text),
        attachments: Vec::new(),
    })
}

fn question<'a>(message: &'a Message, uploads: &'a Uploads) -> Option<MessageBody<'a>> {
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    for (index, part) in message.content.iter().enumerate() {
        let uploaded = uploads.id(message, index).filter(|id| !id.is_empty());
        match part {
            Part::Image(image) => parts.extend(image_body(image, uploaded)),
            Part::File(file) => {
                let file_id = file.file_id.as_deref().or(uploaded);
                attachments.extend(file_id.map(|file_id| AttachmentBody {
                    file_id,
                    tools: [json!({ "type": files::tool_for(file) })],
                }));
            }
            Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => {
                let mut text = String::new();
                part.append_text(&mut text);
                if !text.is_empty() {
                    parts.push(json!({ "type": "text", "text": text }));
                }
            }
        }
    }
    let content = match &mut parts[..] {
        // A message may have attachments, but not be without content.
        [] if attachments.is_empty() => return None,
        [] => Value::String(file_names(&message.content)),
        [only] if only["type"] == "text" => only["text"].take(),
        _ => Value::Array(parts),
    };
    Some(MessageBody {
        role: "user",
        content,
        attachments,
    })
}

fn image_body(image: &Image, uploaded: Option<&str>) -> Option<Value> {
    let mut source = match (&image.url, image.file_id.as_deref().or(uploaded)) {
        (Some(url), _) => json!({ "type": "image_url", "image_url": { "url": url } }),
        (None, Some(file_id)) => json!({ "type": "image_file", "image_file": { "file_id": file_id } }),
        (None, None) => return None,
    };
    if let Some(detail) = &image.detail {
        let kind = if image.url.is_some() { "image_url" } else { "image_file" };
        source[kind]["detail"] = json!(detail);
    }
    Some(source)
}

fn file_names(content: &[Part]) -> String {
    let names = content.iter().filter_map(|part| match part {
        Part::File(file) => file.name.as_deref().or(file.file_id.as_deref()).or(Some("file")),
        _ => None,
    });
    names.collect::<Vec<_>>().join("\n")
}

fn bytes(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body)
        .expect("strings, numbers and maps with string keys are always JSON")
        .into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;

    fn request() -> Request {
        Request {
            model: None,
            instructions: None,
            conversation: Arc::default(),
            tools: Vec::new(),
            options: Default::default(),
            anchor: None,
            rounds: Vec::new(),
            cancel: CancellationToken::new(),
        }
    }

    fn added(name: &str) -> Tool {
        serde_json::from_value(json!({ "name": name, "description": "the request's" })).unwrap()
    }

    #[test]
    fn own_tools_come_first_and_a_function_of_the_same_name_is_the_requests() {
        let own = [
            json!({ "type": "file_search", "file_search": { "max_num_results": 5 } }),
            json!({ "type": "function", "function": { "name": "weather", "description": "the assistant's" } }),
            json!({ "type": "function", "function": { "name": "time", "strict": true } }),
        ];
        let mut request = Request {
            tools: vec![added("file_search"), added("weather")],
            ..request()
        };
        let merged = serde_json::to_value(tools(&own, &request)).unwrap();
        let function =
            |name: &str| json!({ "type": "function", "function": { "name": name, "description": "the request's" } });
        assert_eq!(
            merged,
            json!([own[0], own[2], function("file_search"), function("weather")])
        );

        request.tools.clear();
        assert!(tools(&own, &request).is_empty(), "the assistant keeps its own");
        let search = json!({ "type": "file_search", "file_search": { "max_num_results": 9 } });
        request.options.upstream_tools = Some(vec![search.as_object().unwrap().clone()]);
        let merged = serde_json::to_value(tools(&own, &request)).unwrap();
        assert_eq!(merged, json!([own[1], own[2], search]));
    }

    #[test]
    fn files_bring_the_tool_that_reads_them_unless_it_is_there() {
        let mut message = Message::text("u1", Role::User, "x");
        for name in ["a.pdf", "b.pdf", "c.csv"] {
            message.content.push(Part::File(crate::protocol::File {
                file_id: Some("file_1".into()),
                name: Some(name.into()),
                ..Default::default()
            }));
        }
        let mut request = request();
        request.conversation = Arc::new(crate::thread::Conversation {
            messages: vec![message],
            ..Default::default()
        });
        let own = [json!({ "type": "file_search", "file_search": { "max_num_results": 5 } })];
        let merged = serde_json::to_value(tools(&own, &request)).unwrap();
        assert_eq!(merged, json!([own[0], { "type": "code_interpreter" }]));
        let merged = serde_json::to_value(tools(&[], &request)).unwrap();
        assert_eq!(
            merged,
            json!([{ "type": "file_search" }, { "type": "code_interpreter" }])
        );
    }
}
