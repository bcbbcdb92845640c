//! The `assistants` dialect, played by an upstream on a real socket.

mod ends;
mod files;
mod opening;
mod own_tools;
mod recorded;
mod rounds;
mod stopping;

use std::sync::Arc;

use assistd::config::{Dialect, ProviderSettings, Service};
use assistd::protocol::{PartKind, StopReason};
use assistd::provider::assistants::Assistants;
use assistd::provider::http::Http;
use assistd::provider::{End, Event, Provider, Request};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::dialect::*;
use crate::upstream::Upstream;

/// Settings of a provider at this upstream that gives up soon.
pub fn settings(upstream: &Upstream) -> ProviderSettings {
    let mut settings = ProviderSettings::new(Dialect::Assistants);
    settings.base_url = Some(upstream.url());
    settings.service = Some(Service::Openai);
    settings.idle_timeout = Some(30.0);
    settings
}

pub fn provider_with(settings: &ProviderSettings) -> Assistants {
    let assistant_id = Some("asst_1".to_owned());
    Assistants::new("test", settings, assistant_id, credentials(), Http::new())
}

pub fn provider(upstream: &Upstream) -> Assistants {
    provider_with(&settings(upstream))
}

/// The anchor that a first turn of these streams leaves.
pub fn anchor(synced: &str) -> Value {
    json!({ "threadId": "thread_1", "runId": "run_1", "synced": synced })
}

/// One event as it stands in a stream.
pub fn sse(name: &str, data: Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// An event of the run of these streams, with these members besides its ids.
pub fn run(status: &str, members: Value) -> String {
    let mut data = json!({ "id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": status });
    data.as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    sse(&format!("thread.run.{status}"), data)
}

/// The beginning of every stream: the run exists and works.
pub fn begun() -> String {
    let created = json!({ "id": "run_1", "thread_id": "thread_1", "status": "queued" });
    sse("thread.run.created", created) + &run("queued", json!({})) + &run("in_progress", json!({}))
}

/// A message's event, with these members besides its id.
pub fn message(event: &str, members: Value) -> String {
    let mut data = json!({ "id": "msg_1", "object": "thread.message", "role": "assistant", "content": [] });
    data.as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    sse(&format!("thread.message.{event}"), data)
}

/// A delta of these parts of the message.
pub fn delta(parts: Value) -> String {
    sse(
        "thread.message.delta",
        json!({ "id": "msg_1", "object": "thread.message.delta", "delta": { "content": parts } }),
    )
}

/// A delta of text.
pub fn says(text: &str) -> String {
    delta(json!([{ "index": 0, "type": "text", "text": { "value": text } }]))
}

pub fn done() -> &'static str {
    "event: done\ndata: [DONE]\n\n"
}

/// A whole turn that says this.
pub fn whole_turn(text: &str) -> String {
    [
        begun(),
        message("created", json!({ "status": "in_progress" })),
        says(text),
        message(
            "completed",
            json!({ "content": [{ "type": "text", "text": { "value": text, "annotations": [] } }] }),
        ),
        run("completed", json!({})),
        done().to_owned(),
    ]
    .concat()
}
