//! An upstream that keeps a response, and the response.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::program::Home;
use crate::responses::{ended, item, message, says, sse};
use crate::upstream::{Recorded, Reply, Upstream};

/// Its place in a stream tells that all before it was taken; assistd has no word for it and passes it on.
const MARK: &str = "event: test.mark\ndata: {}\n\n";

/// An upstream that keeps one response, whose streams can be taken up by number.
pub struct Service {
    pub upstream: Upstream,
    pub events: Vec<String>,
    pub kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
pub struct Kept {
    /// What each further stream of the response holds; none where the upstream has forgotten it.
    pub events: Option<Vec<String>>,
    /// How many events the next one brings before it breaks.
    pub breaks_behind: Option<usize>,
    /// How many events each brings before nothing more comes.
    pub stalls_behind: Option<usize>,
    /// There are no further streams: the response itself is all that can be had.
    pub is_whole_only: bool,
}

impl Kept {
    fn reply(&mut self, request: &Recorded) -> Option<Reply> {
        if request.path().ends_with("/cancel") {
            return Some(Reply::json(200, json!({ "id": "resp_1", "status": "cancelled" })));
        }
        if request.method != "GET" {
            return None;
        }
        let Some(events) = &self.events else {
            return Some(Reply::json(404, json!({ "error": { "message": "no such response" } })));
        };
        if self.is_whole_only {
            return Some(match request.target.contains("stream=true") {
                true => Reply::json(
                    400,
                    json!({ "error": { "message": "this response cannot be streamed" } }),
                ),
                false => Reply::json(200, response(events)),
            });
        }
        let after = request.target.split_once("starting_after=");
        let first = after.map_or(0, |(_, number)| number.parse::<usize>().unwrap() + 1);
        if let Some(count) = self.breaks_behind.take() {
            return Some(Reply::events(events[first..count].concat()).close());
        }
        Some(match self.stalls_behind {
            Some(count) => Reply::events(events[first..count].concat()).stall(),
            None => Reply::events(events[first..].concat()),
        })
    }
}

/// The response as it is in the end.
fn response(events: &[String]) -> Value {
    let (_, data) = events.last().unwrap().split_once("data: ").unwrap();
    let mut last: Value = serde_json::from_str(data).unwrap();
    last["response"].take()
}

impl Service {
    pub async fn start(events: Vec<String>) -> Service {
        let kept = Arc::new(Mutex::new(Kept {
            events: Some(events.clone()),
            ..Kept::default()
        }));
        let answering = kept.clone();
        let aside = move |request: &Recorded| answering.lock().unwrap().reply(request);
        Service {
            upstream: Upstream::start([]).await.aside(aside),
            events,
            kept,
        }
    }

    /// A home whose only provider is this one, with these settings besides.
    pub fn home(&self, settings: &str) -> Home {
        let home = Home::new();
        home.write_config(&format!(
            "[providers.test]\ndialect = \"responses\"\nmodel = \"m\"\nbackground = true\nbase_url = \"{}\"\n{settings}",
            self.upstream.url()
        ));
        home
    }

    /// The response up to here, and then the mark and nothing more.
    pub fn stalling(&self, count: usize) -> Reply {
        Reply::events(self.events[..count].concat()).bytes(MARK).stall()
    }

    /// The next response is streamed up to here.
    pub fn stalls_behind(&self, count: usize) {
        self.upstream.push(self.stalling(count));
    }

    /// `METHOD target` of each request since the first so many.
    pub fn asked(&self, since: usize) -> Vec<String> {
        let requests = self.upstream.requests();
        let lines = requests[since..].iter();
        lines
            .map(|request| format!("{} {}", request.method, request.target))
            .collect()
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        self.upstream.requests().len()
    }
}

/// Reasoning, two messages with a citation, and code.
pub fn stream() -> Vec<String> {
    let status = |word: &str, status: &str| {
        sse(
            &format!("response.{word}"),
            json!({ "response": { "id": "resp_1", "status": status } }),
        )
    };
    let piece = |name: &str, index: u64, text: &str| sse(name, json!({ "output_index": index, "delta": text }));
    let citation =
        json!({ "type": "url_citation", "start_index": 0, "end_index": 4, "url": "http://a.example", "title": "a" });
    let reasoning =
        json!({ "type": "reasoning", "id": "rs", "summary": [{ "text": "Hmm." }], "encrypted_content": "sealed" });
    let said = |index: u64, text: &str, annotations: Value| {
        let part = json!({ "type": "output_text", "text": text, "annotations": annotations });
        json!({ "type": "message", "id": format!("msg_{index}"), "role": "assistant", "status": "completed", "content": [part] })
    };
    let first = said(1, "Grüße 🍲 eins", json!([citation]));
    let code = json!({ "type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "12" });
    let second = said(3, "Zwei eins", json!([]));
    let place = json!({ "item_id": "msg_1", "output_index": 1, "content_index": 0, "annotation_index": 0, "annotation": citation });
    let output = json!([reasoning, first, code, second]);
    let events = [
        status("created", "queued"),
        status("queued", "queued"),
        status("in_progress", "in_progress"),
        item("added", 0, json!({ "type": "reasoning", "id": "rs", "summary": [] })),
        piece("response.reasoning_summary_text.delta", 0, "Hmm."),
        item("done", 0, reasoning),
        message(1),
        says(1, "Grüße "),
        says(1, "🍲 "),
        says(1, "eins"),
        sse("response.output_text.annotation.added", place),
        item("done", 1, first),
        item(
            "added",
            2,
            json!({ "type": "code_interpreter_call", "id": "ci_1", "code": "" }),
        ),
        piece("response.code_interpreter_call_code.delta", 2, "1"),
        piece("response.code_interpreter_call_code.delta", 2, "2"),
        item("done", 2, code),
        message(3),
        says(3, "Zwei "),
        says(3, "eins"),
        item("done", 3, second),
        ended(
            "completed",
            json!({ "output": output, "usage": { "input_tokens": 3, "output_tokens": 4 } }),
        ),
    ];
    numbered(&events)
}

fn numbered(events: &[String]) -> Vec<String> {
    let numbered = events.iter().enumerate().map(|(number, event)| {
        let (name, data) = event.trim_end().split_once("\ndata: ").unwrap();
        let mut data: Value = serde_json::from_str(data).unwrap();
        data["sequence_number"] = json!(number);
        format!("{name}\ndata: {data}\n\n")
    });
    numbered.collect()
}

/// What it says.
pub const WHOLE: &str = "Grüße 🍲 einsZwei eins";
