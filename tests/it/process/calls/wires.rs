//! How dialects say one round of calls and an answer, and what their requests tell.

use serde_json::{Value, json};

use crate::chat::{delta, done, finish};
use crate::responses::{item, message, says as piece, sse, whole_message};

/// A dialect's streams and requests.
pub struct Wire {
    pub name: &'static str,
    /// The rest of its provider's settings.
    pub settings: &'static str,
    /// Some text, and calls of `look` and `hear` as `c1` and `c2`.
    pub calls: fn() -> String,
    /// An answer; where they have names, it is of this number.
    pub says: fn(u32, &str) -> String,
    /// What a request tells, a line for each thing.
    pub told: fn(&Value) -> Vec<String>,
    /// Reasoning that only the upstream can read goes back with every answer, not only with calls.
    pub carries_reasoning: bool,
    /// The upstream has the history.
    pub keeps_history: bool,
}

/// Chat Completions. The pieces of the calls come by turns.
pub fn chat() -> Wire {
    Wire {
        name: "chat",
        settings: "dialect = \"chat\"\n",
        calls: || {
            let piece =
                |index: u32, call: Value| delta(json!({ "tool_calls": [{ "index": index, "function": call }] }));
            let begin = |index: u32, id: &str, name: &str| {
                let call = json!({ "index": index, "id": id, "type": "function", "function": { "name": name, "arguments": "" } });
                delta(json!({ "tool_calls": [call] }))
            };
            [
                delta(json!({ "role": "assistant", "content": "Let me see. " })),
                begin(0, "c1", "look"),
                piece(0, json!({ "arguments": "{\"at\"" })),
                begin(1, "c2", "hear"),
                piece(1, json!({ "arguments": "{" })),
                piece(0, json!({ "arguments": ":\"é\"}" })),
                piece(1, json!({ "arguments": "}" })),
                finish("tool_calls"),
                done().to_owned(),
            ]
            .concat()
        },
        says: |_, text| crate::chat::whole(text),
        told: |body| {
            body["messages"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(chat_message)
                .collect()
        },
        carries_reasoning: false,
        keeps_history: false,
    }
}

fn chat_message(message: &Value) -> Vec<String> {
    let content = message["content"].as_str().unwrap_or_default();
    if message["role"] == "tool" {
        return vec![format!("output {}: {content}", word(&message["tool_call_id"]))];
    }
    let said = Some(format!("{}: {content}", word(&message["role"]))).filter(|_| !content.is_empty());
    let calls = message["tool_calls"].as_array().into_iter().flatten().map(|call| {
        let function = &call["function"];
        format!(
            "call {}: {} {}",
            word(&call["id"]),
            word(&function["name"]),
            word(&function["arguments"])
        )
    });
    said.into_iter().chain(calls).collect()
}

/// The Responses API, history on our side.
pub fn responses() -> Wire {
    Wire {
        name: "responses",
        settings: "dialect = \"responses\"\n",
        calls: || {
            let text = "Let me see. ";
            let call = |index: u64, name: &str, arguments: &str| {
                let call = |status: &str, arguments: &str| {
                    json!({ "type": "function_call", "id": format!("fc_{index}"), "call_id": format!("c{}", index - 1),
                            "name": name, "arguments": arguments, "status": status })
                };
                [
                    item("added", index, call("in_progress", "")),
                    sse(
                        "response.function_call_arguments.delta",
                        json!({ "output_index": index, "delta": arguments }),
                    ),
                    item("done", index, call("completed", arguments)),
                ]
                .concat()
            };
            let items = [
                item("done", 0, reasoning(1)),
                message(1),
                piece(1, text),
                item("done", 1, whole_message(1, text)),
                call(2, "look", "{\"at\":\"é\"}"),
                call(3, "hear", "{}"),
            ];
            response(1, &items.concat())
        },
        says: |number, text| {
            let items = [
                item("done", 0, reasoning(number)),
                message(1),
                piece(1, text),
                item("done", 1, whole_message(1, text)),
            ];
            response(number, &items.concat())
        },
        told: |body| {
            let previous = body["previous_response_id"].as_str();
            let previous = previous.map(|previous| format!("previous: {previous}"));
            let items = body["input"].as_array().unwrap().iter().map(response_item);
            previous.into_iter().chain(items).collect()
        },
        carries_reasoning: true,
        keeps_history: false,
    }
}

/// The Responses API, history upstream.
pub fn responses_upstream() -> Wire {
    Wire {
        name: "responses with history upstream",
        settings: "dialect = \"responses\"\nhistory = \"upstream\"\n",
        keeps_history: true,
        ..responses()
    }
}

fn reasoning(number: u32) -> Value {
    json!({ "type": "reasoning", "id": format!("rs_{number}"), "summary": [], "encrypted_content": format!("sealed {number}") })
}

fn response(number: u32, items: &str) -> String {
    let event = |word: &str, status: &str| {
        let response = json!({ "id": format!("resp_{number}"), "status": status });
        sse(&format!("response.{word}"), json!({ "response": response }))
    };
    event("created", "in_progress") + items + &event("completed", "completed")
}

fn response_item(item: &Value) -> String {
    match item["type"].as_str().unwrap_or("message") {
        "message" => {
            let text = match &item["content"] {
                Value::String(text) => text.clone(),
                parts => parts
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|part| word(&part["text"]))
                    .collect(),
            };
            format!("{}: {text}", word(&item["role"]))
        }
        "reasoning" => format!("reasoning: {}", word(&item["encrypted_content"])),
        "function_call" => format!(
            "call {}: {} {}",
            word(&item["call_id"]),
            word(&item["name"]),
            word(&item["arguments"])
        ),
        "function_call_output" => format!("output {}: {}", word(&item["call_id"]), word(&item["output"])),
        other => panic!("an item that nobody asked for: `{other}`"),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
