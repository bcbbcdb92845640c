//! The bodies of our requests, after `CreateThreadAndRunRequest`, `CreateRunRequest` and `SubmitToolOutputsRunRequest`.
//!
//! Pure. What was not asked for is left out, so that the upstream's assistant keeps its own settings; unknown members
//! would be refused.

use serde::Serialize;
use serde_json::{Value, json};

use super::anchor::Opening;
use super::files::{self, Uploads};
use super::tools::{ToolBody, tools};
use crate::protocol::{Format, Image, Part, Role};
use crate::provider::Request;
use crate::provider::http::Call;
use crate::provider::openai::{bytes, json_schema};
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
            // All at once, those of calls that nobody answered as well: the run waits for each of them.
            let answered = request.rounds.last().into_iter();
            let outputs = answered.flat_map(|round| round.calls.iter().map(|call| (call, round.output(call))));
            let body = OutputsBody {
                tool_outputs: outputs
                    .map(|(call, output)| OutputBody {
                        tool_call_id: &call.id,
                        output,
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

/// The form of the answer.
fn response_format(format: &Format) -> Value {
    match format {
        Format::Text => json!({ "type": "text" }),
        Format::JsonObject => json!({ "type": "json_object" }),
        Format::JsonSchema { .. } => json!({ "type": "json_schema", "json_schema": json_schema(format) }),
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
