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
