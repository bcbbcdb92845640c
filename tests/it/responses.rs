//! The `responses` dialect, played by an upstream on a real socket.

mod background;
mod ends;
mod events;
mod files;
mod history;
mod quirks;
mod program;
mod recorded;
pub mod requests;

use assistd::config::{Dialect, ProviderSettings, Service};
use assistd::protocol::{Annotation, Image, PartKind, StopReason, Usage};
use assistd::provider::http::Http;
use assistd::provider::responses::Responses;
use assistd::provider::{End, Event, Provider, Request, ToolCall};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::dialect::{self, *};
use crate::upstream::{Reply, Upstream};

/// Settings of a provider at this upstream, which passes for one that only imitates the API.
pub fn settings(upstream: &Upstream) -> ProviderSettings {
    let mut settings = ProviderSettings::new(Dialect::Responses);
    settings.base_url = Some(upstream.url());
    settings.idle_timeout = Some(30.0);
    settings
}

/// The same of one that has all of the API.
pub fn azure(upstream: &Upstream) -> ProviderSettings {
    ProviderSettings {
        service: Some(Service::Azure),
        ..settings(upstream)
    }
}

pub fn provider_with(settings: &ProviderSettings) -> Responses {
    Responses::new("test", settings, credentials(), Http::new())
}

/// A request to the model `m` in a thread of these messages: `u1:hello a1:hi`.
pub fn request(messages: &str) -> Request {
    Request {
        model: Some("m".into()),
        ..dialect::request(messages)
    }
}

/// What a provider of these settings answers.
pub async fn play(settings: &ProviderSettings, request: Request) -> (Vec<Event>, End) {
    dialect::play(&provider_with(settings), request).await
}

/// What a stream becomes.
pub async fn play_stream(stream: impl AsRef<[u8]>) -> (Vec<Event>, End) {
    let upstream = Upstream::start([Reply::events(stream)]).await;
    play(&settings(&upstream), request("u1:hello")).await
}

/// The same events whatever way pieces came together.
pub fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        let (text, piece) = match (joined.last_mut(), &event) {
            (
                Some(Event::Delta { index, part, text }),
                Event::Delta {
                    index: i,
                    part: p,
                    text: piece,
                },
            ) if (&*index, &*part) == (i, p) => (text, piece),
            (
                Some(Event::Reasoning { text, summary }),
                Event::Reasoning {
                    text: piece,
                    summary: s,
                },
            ) if summary == s => (text, piece),
            (
                Some(Event::ToolArguments { step_id, text, .. }),
                Event::ToolArguments {
                    step_id: s,
                    text: piece,
                    ..
                },
            ) if step_id == s => (text, piece),
            _ => {
                joined.push(event);
                continue;
            }
        };
        text.push_str(piece);
    }
    joined
}

pub fn reasoning(events: &[Event]) -> String {
    let pieces = events.iter().filter_map(|event| match event {
        Event::Reasoning { text, .. } => Some(text.as_str()),
        _ => None,
    });
    pieces.collect()
}

pub fn annotations(events: &[Event]) -> Vec<&Annotation> {
    let annotations = events.iter().filter_map(|event| match event {
        Event::Annotation { annotation, .. } => Some(annotation),
        _ => None,
    });
    annotations.collect()
}

pub fn carry(events: &[Event]) -> Option<&Value> {
    events.iter().rev().find_map(|event| match event {
        Event::Carry(carry) => Some(&carry["responses"]),
        _ => None,
    })
}

/// One event as it stands in a stream; its type is its name.
pub fn sse(name: &str, mut data: Value) -> String {
    data["type"] = json!(name);
    format!("event: {name}\ndata: {data}\n\n")
}

/// The beginning of every stream.
pub fn begun() -> String {
    let response = |status: &str| json!({ "response": { "id": "resp_1", "status": status, "output": [] } });
    sse("response.created", response("in_progress")) + &sse("response.in_progress", response("in_progress"))
}

/// An item's event, `added` or `done`.
pub fn item(event: &str, index: u64, item: Value) -> String {
    sse(
        &format!("response.output_item.{event}"),
        json!({ "output_index": index, "item": item }),
    )
}

/// A message begins.
pub fn message(index: u64) -> String {
    let id = format!("msg_{index}");
    item(
        "added",
        index,
        json!({ "type": "message", "id": id, "status": "in_progress", "content": [] }),
    )
}

/// A piece of a message's text.
pub fn says(index: u64, text: &str) -> String {
    sse(
        "response.output_text.delta",
        json!({ "item_id": format!("msg_{index}"), "output_index": index, "content_index": 0, "delta": text }),
    )
}

/// A message as a whole.
pub fn whole_message(index: u64, text: &str) -> Value {
    let part = json!({ "type": "output_text", "text": text, "annotations": [] });
    json!({ "type": "message", "id": format!("msg_{index}"), "status": "completed", "role": "assistant", "content": [part] })
}

/// The end of a stream, with these members of the response.
pub fn ended(status: &str, members: Value) -> String {
    let mut response = json!({ "id": "resp_1", "status": status });
    response
        .as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    sse(&format!("response.{status}"), json!({ "response": response }))
}

/// A whole response that says this.
pub fn whole_turn(text: &str) -> String {
    [
        begun(),
        message(0),
        says(0, text),
        item("done", 0, whole_message(0, text)),
        ended("completed", json!({ "output": [whole_message(0, text)] })),
    ]
    .concat()
}

/// A response that asks for the tool `weather`.
pub fn calling(call_id: &str) -> String {
    let call = json!({
        "type": "function_call", "id": "fc_1", "call_id": call_id, "name": "weather", "arguments": "{}", "status": "completed"
    });
    begun() + &item("done", 0, call) + &ended("completed", json!({}))
}

pub fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    }
}
