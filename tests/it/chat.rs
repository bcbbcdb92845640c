//! The `chat` dialect, played by an upstream on a real socket.

mod content;
mod ends;
mod habits;
mod models;
mod quirks;
mod recorded;
pub mod requests;
mod retries;
mod truncation;

use std::sync::Arc;

use assistd::config::{Dialect, ProviderSettings};
use assistd::error::Error;
use assistd::protocol::{Annotation, Image, PartKind, Role, StopReason, Usage};
use assistd::provider::chat::Chat;
use assistd::provider::http::Http;
use assistd::provider::{End, Event, Provider, Request};
use assistd::thread::Message;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::dialect::{self, *};
use crate::upstream::{Reply, Upstream};

/// Settings of a provider at this upstream.
pub fn settings(upstream: &Upstream) -> ProviderSettings {
    let mut settings = ProviderSettings::new(Dialect::Chat);
    settings.base_url = Some(upstream.url());
    settings.idle_timeout = Some(30.0);
    settings
}

pub fn provider_with(settings: &ProviderSettings) -> Chat {
    Chat::new("test", settings, credentials(), Http::new())
}

pub fn provider(upstream: &Upstream) -> Chat {
    provider_with(&settings(upstream))
}

/// A request to the model `m` in a thread of these messages: `u1:hello a1:hi`.
pub fn request(messages: &str) -> Request {
    Request {
        model: Some("m".into()),
        ..dialect::request(messages)
    }
}

/// What comes of this stream.
pub async fn played(stream: impl AsRef<[u8]>) -> (Account, End) {
    let upstream = Upstream::start([Reply::events(stream)]).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    (Account::of(&events), end)
}

/// What people see of a stream, however its pieces came together. Ids that we made are not told.
#[derive(Debug, Default, PartialEq)]
pub struct Account {
    pub text: String,
    pub refusal: String,
    pub reasoning: String,
    /// Kind and status of each step as it changed, neighbours that look the same once.
    pub steps: Vec<(String, String)>,
    /// The pieces of arguments joined, by call.
    pub arguments: Vec<(String, String)>,
    pub annotations: Vec<Annotation>,
    pub images: Vec<Image>,
    pub carry: Option<Value>,
    pub usage: Option<Usage>,
    pub others: Vec<String>,
    pub truncated: Option<u32>,
}

impl Account {
    pub fn of(events: &[Event]) -> Account {
        let mut account = Account::default();
        events.iter().for_each(|event| account.add(event));
        account
    }

    fn add(&mut self, event: &Event) {
        match event {
            Event::Delta { part, text, .. } => match part {
                PartKind::Text => self.text += text,
                PartKind::Refusal => self.refusal += text,
            },
            Event::Reasoning { text, .. } => self.reasoning += text,
            Event::Step(step) => {
                let step = (step.kind.clone(), step.status.clone());
                if self.steps.last() != Some(&step) {
                    self.steps.push(step);
                }
            }
            Event::ToolArguments { call_id, text, .. } => {
                match self.arguments.iter_mut().find(|(known, _)| known == call_id) {
                    Some((_, arguments)) => *arguments += text,
                    None => self.arguments.push((call_id.clone(), text.clone())),
                }
            }
            Event::Annotation { annotation, .. } => self.annotations.push(annotation.clone()),
            Event::Image { image, .. } => self.images.push(image.clone()),
            Event::Carry(carry) => self.carry = Some(carry.clone()),
            Event::Usage(usage) => {
                assert_eq!(self.usage, None, "figures are told once");
                self.usage = Some(*usage);
            }
            Event::Truncated { messages } => self.truncated = Some(*messages),
            Event::Upstream { name, .. } => self.others.push(name.clone()),
            other => self.others.push(format!("{other:?}")),
        }
    }
}

/// An event as it stands in a stream.
pub fn sse(data: Value) -> String {
    format!("data: {data}\n\n")
}

/// A chunk with this delta.
pub fn delta(delta: Value) -> String {
    sse(
        json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] }),
    )
}

/// A delta of text.
pub fn says(text: &str) -> String {
    delta(json!({ "content": text }))
}

/// The chunk that ends an answer.
pub fn finish(reason: &str) -> String {
    sse(json!({ "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }))
}

pub fn done() -> &'static str {
    "data: [DONE]\n\n"
}

/// A whole answer that says this.
pub fn whole(text: &str) -> String {
    says(text) + &finish("stop") + done()
}
