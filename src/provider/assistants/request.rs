//! The bodies of our requests, after `CreateThreadAndRunRequest`, `CreateRunRequest` and `SubmitToolOutputsRunRequest`.
//!
//! Pure. What was not asked for is left out, so that the upstream's assistant keeps its own settings; unknown members
//! would be refused.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::anchor::Opening;
use crate::error::{Error, Kind};
use crate::protocol::{Image, Part, Role, Tool};
use crate::provider::Request;
use crate::provider::http::Call;
use crate::thread::Message;

/// The call that opens this turn. `own_tools` are the assistant's, where the request adds to them; where it does not
/// they are left out, and the assistant keeps them.
pub fn opening(request: &Request, opening: &Opening, assistant_id: &str, own_tools: &[Value]) -> Result<Call, Error> {
    let all = &request.conversation.messages;
    match opening {
        Opening::NewThread => {
            let mut body = RunBody::new(request, assistant_id, own_tools);
            // Unlike a run's own request, this one has no member for it in the description.
            body.reasoning_effort = None;
            body.thread = Some(ThreadBody {
                messages: messages(all)?,
            });
            Ok(Call::post(["threads", "runs"]).json(bytes(&body)))
        }
        Opening::NextRun { anchor, from } => {
            let mut body = RunBody::new(request, assistant_id, own_tools);
            body.additional_messages = Some(messages(&all[*from..])?);
            Ok(Call::post(["threads", &anchor.thread_id, "runs"]).json(bytes(&body)))
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
            Ok(Call::post(["threads", thread_id, "runs", run_id, "submit_tool_outputs"]).json(bytes(&body)))
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
    fn new(request: &'a Request, assistant_id: &'a str, own_tools: &'a [Value]) -> Self {
        let options = &request.options;
        RunBody {
            assistant_id,
            thread: None,
            additional_messages: None,
            model: request.model.as_deref(),
            instructions: request.instructions.as_deref(),
            tools: tools(own_tools, &request.tools),
            tool_choice: options.tool_choice.as_deref().map(tool_choice),
            parallel_tool_calls: options.parallel_tool_calls,
            temperature: options.temperature,
            top_p: options.top_p,
            max_completion_tokens: options.max_output_tokens,
            reasoning_effort: options.reasoning_effort.as_deref(),
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

/// The assistant's own tools, then those that the request adds; a function of the same name takes the own one's place.
fn tools<'a>(own: &'a [Value], added: &'a [Tool]) -> Vec<ToolBody<'a>> {
    let is_kept = |tool: &&Value| {
        let name = tool["function"]["name"].as_str();
        added.iter().all(|added| Some(&*added.name) != name)
    };
    let own = own.iter().filter(is_kept).map(ToolBody::Own);
    own.chain(added.iter().map(ToolBody::from)).collect()
}

fn tool_choice(choice: &str) -> Value {
    match choice {
        "auto" | "none" | "required" => json!(choice),
        "code_interpreter" | "file_search" => json!({ "type": choice }),
        name => json!({ "type": "function", "function": { "name": name } }),
    }
}

/// The messages that have anything to say. Only the newest must be understood whole: an old picture that this upstream
/// cannot take must not make the thread useless.
fn messages(messages: &[Message]) -> Result<Vec<MessageBody<'_>>, Error> {
    let newest = messages.len().saturating_sub(1);
    let bodies = messages
        .iter()
        .enumerate()
        .map(|(i, message)| body(message, i == newest));
    bodies.filter_map(Result::transpose).collect()
}

fn body(message: &Message, is_newest: bool) -> Result<Option<MessageBody<'_>>, Error> {
    if message.role == Role::Assistant {
        let text = message.joined();
        let content = Value::String(text);
        let is_empty = content.as_str() == Some("");
        return Ok((!is_empty).then_some(MessageBody {
            role: "assistant",
            content,
            attachments: Vec::new(),
        }));
    }
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    for part in &message.content {
        match part {
            Part::Image(image) => match image_body(image) {
                Some(image) => parts.push(image),
                None if is_newest => return Err(embedded_image()),
                None => {}
            },
            Part::File(file) => attachments.extend(file.file_id.as_ref().map(|file_id| AttachmentBody {
                file_id,
                tools: [json!({ "type": "file_search" })],
            })),
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
        [] if attachments.is_empty() => return Ok(None),
        [] => Value::String(file_names(&message.content)),
        [only] if only["type"] == "text" => only["text"].take(),
        _ => Value::Array(parts),
    };
    Ok(Some(MessageBody {
        role: "user",
        content,
        attachments,
    }))
}

fn image_body(image: &Image) -> Option<Value> {
    let mut source = match (&image.url, &image.file_id) {
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

fn embedded_image() -> Error {
    Error::new(
        Kind::InvalidParams,
        "expected an image by `url` or `fileId`: the Assistants API takes no `data`",
    )
    .with_hint("upload the picture to the upstream and send its `fileId`")
}

fn file_names(content: &[Part]) -> String {
    let names = content.iter().filter_map(|part| match part {
        Part::File(file) => file.name.as_deref().or(file.file_id.as_deref()),
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
    use super::*;

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
        let added = [added("file_search"), added("weather")];
        let merged = serde_json::to_value(tools(&own, &added)).unwrap();
        let function =
            |name: &str| json!({ "type": "function", "function": { "name": name, "description": "the request's" } });
        assert_eq!(
            merged,
            json!([own[0], own[2], function("file_search"), function("weather")])
        );
    }
}
