//! One answer in each dialect, event by event, and how its upstream is spoken to.

use serde_json::{Value, json};

use crate::upstream::{Recorded, Reply};

/// The answer, piece by piece.
const PIECES: [&str; 4] = ["Grüße ", "aus der ", "Küche 🍲", "."];

/// A dialect's way to say [`PIECES`].
pub struct Wire {
    pub name: &'static str,
    /// The rest of `[providers.test]`, and what else the settings need.
    pub settings: &'static str,
    /// The stream, event by event.
    pub events: Vec<String>,
    /// Behind which of the events each piece has been said.
    said: Vec<usize>,
    /// From how many events on the answer is whole, whatever becomes of the connection.
    pub whole_after: usize,
    /// Whether a stream that breaks before anything was shown is asked for again: not where a run was begun upstream.
    pub begins_anew: bool,
    /// Whether the upstream has the history, so that it is only told what is new.
    pub keeps_history: bool,
    /// Whether this request asks for an answer.
    pub is_opening: fn(&Recorded) -> bool,
    /// The texts that such a request tells, in order.
    pub told: fn(&Recorded) -> Vec<String>,
    /// What all other requests are answered with.
    pub aside: fn(&Recorded) -> Option<Reply>,
}

impl Wire {
    /// The whole answer.
    pub fn text(&self) -> String {
        PIECES.concat()
    }

    /// What has been said behind this many events.
    pub fn shown(&self, count: usize) -> String {
        let pieces = PIECES.iter().zip(&self.said);
        pieces
            .filter(|(_, said)| **said < count)
            .map(|(piece, _)| *piece)
            .collect()
    }

    /// An event, and a byte of it that is not the first of its character.
    pub fn within_a_character(&self) -> (usize, usize) {
        let event = self.said[2];
        let at = self.events[event].find('🍲').expect("the streams are not escaped");
        (event, at + 2)
    }
}

fn event(name: &str, data: Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// The Assistants wire.
pub fn assistants() -> Wire {
    let run =
        |status: &str| json!({ "id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": status });
    let mut events = vec![
        event("thread.created", json!({ "id": "thread_1", "object": "thread" })),
        event("thread.run.created", run("queued")),
        event("thread.run.in_progress", run("in_progress")),
        event(
            "thread.message.created",
            json!({ "id": "msg_1", "object": "thread.message", "content": [] }),
        ),
    ];
    let first = events.len();
    events.extend(PIECES.map(|piece| {
        let content = json!([{ "index": 0, "type": "text", "text": { "value": piece } }]);
        event(
            "thread.message.delta",
            json!({ "id": "msg_1", "delta": { "content": content } }),
        )
    }));
    let content = json!([{ "type": "text", "text": { "value": PIECES.concat(), "annotations": [] } }]);
    events.push(event(
        "thread.message.completed",
        json!({ "id": "msg_1", "object": "thread.message", "status": "completed", "content": content }),
    ));
    let whole_after = events.len() + 1;
    events.push(event("thread.run.completed", run("completed")));
    events.push("event: done\ndata: [DONE]\n\n".to_owned());
    Wire {
        name: "assistants",
        settings: "dialect = \"assistants\"\nservice = \"openai\"\n[assistants.test]\nprovider = \"test\"\nassistant_id = \"asst_1\"\n",
        events,
        said: (first..first + PIECES.len()).collect(),
        whole_after,
        begins_anew: false,
        keeps_history: true,
        is_opening: |request| request.path().ends_with("/runs"),
        told: |_| Vec::new(),
        aside: |request| {
            (!request.path().ends_with("/runs")).then(|| Reply::json(200, json!({ "status": "cancelled" })))
        },
    }
}

/// Chat Completions.
pub fn chat() -> Wire {
    let chunk = |choices: Value, usage: Value| {
        let chunk =
            json!({ "id": "chatcmpl_1", "object": "chat.completion.chunk", "choices": choices, "usage": usage });
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    let mut events = vec![chunk(
        delta(json!({ "role": "assistant", "content": "" }), Value::Null),
        Value::Null,
    )];
    let first = events.len();
    events.extend(PIECES.map(|piece| chunk(delta(json!({ "content": piece }), Value::Null), Value::Null)));
    let whole_after = events.len() + 1;
    events.push(chunk(delta(json!({}), json!("stop")), Value::Null));
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 });
    events.push(chunk(json!([]), usage));
    events.push("data: [DONE]\n\n".to_owned());
    Wire {
        name: "chat",
        settings: "dialect = \"chat\"\nmodel = \"m\"\n",
        events,
        said: (first..first + PIECES.len()).collect(),
        whole_after,
        begins_anew: true,
        keeps_history: false,
        is_opening: |request| request.path().ends_with("/chat/completions"),
        told: |request| texts(&request.json()["messages"]),
        aside: |_| None,
    }
}

/// The Responses API, history on our side.
pub fn responses() -> Wire {
    Wire {
        name: "responses",
        settings: "dialect = \"responses\"\nmodel = \"m\"\n",
        begins_anew: true,
        keeps_history: false,
        is_opening: |request| request.method == "POST" && request.path().ends_with("/responses"),
        told: |request| texts(&request.json()["input"]),
        aside: |_| None,
        ..response_stream()
    }
}

fn response_stream() -> Wire {
    let mut events: Vec<String> = Vec::new();
    let mut say = |name: &str, mut data: Value| {
        data["type"] = json!(name);
        data["sequence_number"] = json!(events.len());
        events.push(event(name, data));
    };
    let response = |status: &str, output: Value| json!({ "response": { "id": "resp_1", "object": "response", "status": status, "output": output } });
    let text = json!({ "type": "output_text", "text": PIECES.concat(), "annotations": [] });
    let message = |status: &str, content: Value| json!({ "id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content });
    let place = |mut data: Value| {
        data["item_id"] = json!("msg_1");
        data["output_index"] = json!(0);
        data["content_index"] = json!(0);
        data
    };
    say("response.created", response("in_progress", json!([])));
    say("response.in_progress", response("in_progress", json!([])));
    let item = message("in_progress", json!([]));
    say("response.output_item.added", json!({ "output_index": 0, "item": item }));
    let part = json!({ "type": "output_text", "text": "", "annotations": [] });
    say("response.content_part.added", place(json!({ "part": part })));
    for piece in PIECES {
        say("response.output_text.delta", place(json!({ "delta": piece })));
    }
    say("response.output_text.done", place(json!({ "text": PIECES.concat() })));
    say("response.content_part.done", place(json!({ "part": text })));
    let item = message("completed", json!([text]));
    say("response.output_item.done", json!({ "output_index": 0, "item": item }));
    say("response.completed", response("completed", json!([item])));
    let whole_after = events.len();
    Wire {
        name: "responses",
        settings: "",
        said: (4..4 + PIECES.len()).collect(),
        whole_after,
        events,
        begins_anew: true,
        keeps_history: false,
        is_opening: |_| false,
        told: |_| Vec::new(),
        aside: |_| None,
    }
}

/// The texts of messages or items, whose content is a string or a list of parts.
fn texts(messages: &Value) -> Vec<String> {
    let text = |message: &Value| match &message["content"] {
        Value::String(text) => text.clone(),
        parts => parts
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|part| part["text"].as_str())
            .collect(),
    };
    messages.as_array().into_iter().flatten().map(text).collect()
}
