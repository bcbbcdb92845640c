//! A stream as each dialect's upstream says it, event by event, in its shortest usual form.

/// An upstream API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Assistants,
    Chat,
    Responses,
}

impl Wire {
    /// As the settings name the dialect.
    pub fn name(self) -> &'static str {
        match self {
            Wire::Assistants => "assistants",
            Wire::Chat => "chat",
            Wire::Responses => "responses",
        }
    }

    /// Where an answer is asked for.
    pub fn path(self) -> &'static str {
        match self {
            Wire::Assistants => "/v1/threads/runs",
            Wire::Chat => "/v1/chat/completions",
            Wire::Responses => "/v1/responses",
        }
    }

    /// That of a request.
    pub fn of(request: &str) -> Wire {
        let is_at = |wire: &Wire| request.contains(wire.path());
        [Wire::Chat, Wire::Responses]
            .into_iter()
            .find(is_at)
            .unwrap_or(Wire::Assistants)
    }

    /// What stands in the data of a delta and of no other event.
    pub fn mark(self) -> &'static [u8] {
        match self {
            Wire::Assistants => b"thread.message.delta",
            Wire::Chat => b"\"content\":\"@",
            Wire::Responses => b"response.output_text.delta",
        }
    }

    /// What comes before the first delta.
    pub fn opening(self, stream: usize) -> Vec<String> {
        match self {
            Wire::Assistants => {
                let thread = format!(r#"{{"id":"thread_{stream}","object":"thread"}}"#);
                let message = message(stream, "in_progress", "");
                let statuses = ["created", "queued", "in_progress"];
                let runs = statuses.map(|status| event(&format!("thread.run.{status}"), &run(stream, status, "null")));
                let mut events = vec![event("thread.created", &thread)];
                events.extend(runs);
                events.push(event("thread.message.created", &message));
                events.push(event("thread.message.in_progress", &message));
                events
            }
            Wire::Chat => vec![choice(stream, r#"{"role":"assistant","content":""}"#, "null")],
            Wire::Responses => {
                let response = response("in_progress", "", "null");
                let item = r#"{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}"#;
                let part = r#"{"type":"output_text","text":"","annotations":[]}"#;
                vec![
                    numbered("response.created", 0, &response),
                    numbered("response.in_progress", 1, &response),
                    numbered(
                        "response.output_item.added",
                        2,
                        &format!(r#""output_index":0,"item":{item}"#),
                    ),
                    numbered("response.content_part.added", 3, &format!(r#"{PLACE},"part":{part}"#)),
                ]
            }
        }
    }

    /// A delta of this text.
    pub fn delta(self, stream: usize, text: &str) -> String {
        match self {
            Wire::Assistants => event(
                "thread.message.delta",
                &format!(
                    r#"{{"id":"msg_{stream}","object":"thread.message.delta","delta":{{"content":[{{"index":0,"type":"text","text":{{"value":"{text}"}}}}]}}}}"#
                ),
            ),
            Wire::Chat => choice(stream, &format!(r#"{{"content":"{text}"}}"#), "null"),
            Wire::Responses => numbered("response.output_text.delta", 4, &format!(r#"{PLACE},"delta":"{text}""#)),
        }
    }

    /// What comes behind the last delta.
    pub fn closing(self, stream: usize, text: &str) -> Vec<String> {
        match self {
            Wire::Assistants => {
                let content = format!(r#"{{"type":"text","text":{{"value":"{text}","annotations":[]}}}}"#);
                let usage = r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}"#;
                vec![
                    event("thread.message.completed", &message(stream, "completed", &content)),
                    event("thread.run.completed", &run(stream, "completed", usage)),
                    "event: done\ndata: [DONE]\n\n".to_owned(),
                ]
            }
            Wire::Chat => vec![choice(stream, "{}", "\"stop\""), "data: [DONE]\n\n".to_owned()],
            Wire::Responses => {
                let content = format!(r#"{{"type":"output_text","text":"{text}","annotations":[]}}"#);
                let item = format!(
                    r#"{{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{content}]}}"#
                );
                let usage = r#"{"input_tokens":1,"output_tokens":1,"total_tokens":2}"#;
                let done = format!(r#""output_index":0,"item":{item}"#);
                vec![
                    numbered("response.output_text.done", 5, &format!(r#"{PLACE},"text":"{text}""#)),
                    numbered("response.output_item.done", 6, &done),
                    numbered("response.completed", 7, &response("completed", &item, usage)),
                ]
            }
        }
    }
}

const PLACE: &str = r#""item_id":"msg_1","output_index":0,"content_index":0"#;

fn event(name: &str, json: &str) -> String {
    format!("event: {name}\ndata: {json}\n\n")
}

fn numbered(name: &str, number: usize, members: &str) -> String {
    event(
        name,
        &format!(r#"{{"type":"{name}","sequence_number":{number},{members}}}"#),
    )
}

fn choice(stream: usize, delta: &str, finish: &str) -> String {
    let choice = format!(r#"{{"index":0,"delta":{delta},"finish_reason":{finish}}}"#);
    format!(
        "data: {{\"id\":\"chatcmpl-{stream}\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"bench\",\"choices\":[{choice}]}}\n\n"
    )
}

fn response(status: &str, item: &str, usage: &str) -> String {
    format!(r#""response":{{"id":"resp_1","object":"response","status":"{status}","output":[{item}],"usage":{usage}}}"#)
}

fn run(stream: usize, status: &str, usage: &str) -> String {
    let status = if status == "created" { "queued" } else { status };
    format!(
        r#"{{"id":"run_{stream}","object":"thread.run","thread_id":"thread_{stream}","status":"{status}","usage":{usage}}}"#
    )
}

fn message(stream: usize, status: &str, content: &str) -> String {
    format!(
        r#"{{"id":"msg_{stream}","object":"thread.message","role":"assistant","status":"{status}","content":[{content}]}}"#
    )
}
