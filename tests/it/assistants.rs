//! The `assistants` dialect, played by an upstream on a real socket.

mod ends;
mod files;
mod opening;
mod own_tools;
mod recorded;
mod rounds;
mod stopping;

use std::path::PathBuf;
use std::sync::Arc;

use assistd::config::{Dialect, ProviderSettings, Service};
use assistd::error::Error;
use assistd::protocol::{PartKind, Role, RunStep, StopReason};
use assistd::provider::assistants::Assistants;
use assistd::provider::credentials::Credentials;
use assistd::provider::http::Http;
use assistd::provider::{End, Event, Provider, Request};
use assistd::thread::{Conversation, Message};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::upstream::Upstream;

/// The key that every test's provider has.
pub const KEY: &str = "sk-test-0123456789";

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
    Assistants::new(
        "test",
        settings,
        assistant_id,
        Credentials::new("test", Some(KEY.to_owned()), None),
        Http::new(),
    )
}

pub fn provider(upstream: &Upstream) -> Assistants {
    provider_with(&settings(upstream))
}

/// A request in a thread of these messages: `u1:hello a1:hi`.
pub fn request(messages: &str) -> Request {
    let message = |text: &str| {
        let (id, text) = text.split_once(':').unwrap();
        let role = if id.starts_with('u') {
            Role::User
        } else {
            Role::Assistant
        };
        Message::text(id, role, text)
    };
    let messages = messages.split_whitespace().map(message).collect();
    Request {
        model: None,
        instructions: None,
        conversation: Arc::new(Conversation {
            messages,
            ..Conversation::default()
        }),
        tools: Vec::new(),
        options: Default::default(),
        anchor: None,
        rounds: Vec::new(),
        cancel: CancellationToken::new(),
    }
}

/// The anchor that a first turn of these streams leaves.
pub fn anchor(synced: &str) -> Value {
    json!({ "threadId": "thread_1", "runId": "run_1", "synced": synced })
}

/// All events of an answer but its end, and its end, which is the last and the only one.
pub async fn play(provider: &Assistants, request: Request) -> (Vec<Event>, End) {
    let mut events: Vec<Event> = provider.answer(request).collect().await;
    let Some(Event::End(end)) = events.pop() else {
        panic!("no end: {events:?}");
    };
    assert!(
        !events.iter().any(|event| matches!(event, Event::End(_))),
        "two ends: {events:?}"
    );
    (events, end)
}

pub fn text(events: &[Event]) -> String {
    let pieces = events.iter().filter_map(|event| match event {
        Event::Delta {
            part: PartKind::Text,
            text,
            ..
        } => Some(text.as_str()),
        _ => None,
    });
    pieces.collect()
}

pub fn steps(events: &[Event]) -> Vec<&RunStep> {
    let steps = events.iter().filter_map(|event| match event {
        Event::Step(step) => Some(step),
        _ => None,
    });
    steps.collect()
}

pub fn retries(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::Retry { .. }))
        .count()
}

pub fn last_anchor(events: &[Event]) -> Option<Value> {
    let mut anchors = events.iter().rev().filter_map(|event| match event {
        Event::Anchor(anchor) => Some(anchor.clone()),
        _ => None,
    });
    anchors.next()
}

#[track_caller]
pub fn error(end: End) -> Error {
    match end {
        End::Failed(error) => {
            let wire = serde_json::to_string(&error).unwrap();
            assert!(!wire.contains(KEY), "the key is in the error: {wire}");
            error
        }
        end => panic!("expected a failure, found {end:?}"),
    }
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

pub const END_TURN: End = End::Completed(StopReason::EndTurn);

/// The folder of recorded streams; none, said loudly, where it is not there.
pub fn fixtures() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures");
    let folder = PathBuf::from(std::env::var_os("ASSISTD_FIXTURES").unwrap_or_else(|| default.into()));
    if folder.is_dir() {
        return Some(folder);
    }
    let missing = format!("no recorded streams at {}: set ASSISTD_FIXTURES", folder.display());
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("SKIPPED, nothing was tested: {missing}");
    None
}
