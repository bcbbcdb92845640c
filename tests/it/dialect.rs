//! What the tests of every HTTP dialect drive it with, and what they look at.

use std::path::PathBuf;
use std::sync::Arc;

use assistd::error::Error;
use assistd::protocol::{PartKind, Role, RunStep, StopReason, Usage};
use assistd::provider::credentials::Credentials;
use assistd::provider::{End, Event, Provider, Request};
use assistd::thread::{Conversation, Message};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The key that every test's provider has.
pub const KEY: &str = "sk-test-0123456789";

pub const END_TURN: End = End::Completed(StopReason::EndTurn);

/// Those of every test's provider.
pub fn credentials() -> Credentials {
    Credentials::new("test", Some(KEY.to_owned()), None)
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
    Request {
        model: None,
        instructions: None,
        conversation: Arc::new(Conversation {
            messages: messages.split_whitespace().map(message).collect(),
            ..Conversation::default()
        }),
        tools: Vec::new(),
        options: Default::default(),
        anchor: None,
        rounds: Vec::new(),
        cancel: CancellationToken::new(),
    }
}

/// The messages of a request, to be changed.
pub fn messages(request: &mut Request) -> &mut Vec<Message> {
    &mut Arc::get_mut(&mut request.conversation).unwrap().messages
}

/// All events of an answer but its end, and its end, which is the last and the only one.
pub async fn play(provider: &dyn Provider, request: Request) -> (Vec<Event>, End) {
    collect(provider.answer(request)).await
}

/// The same of an answer that was asked for already.
pub async fn collect(answer: BoxStream<'static, Event>) -> (Vec<Event>, End) {
    let mut events: Vec<Event> = answer.collect().await;
    let Some(Event::End(end)) = events.pop() else {
        panic!("no end: {events:?}");
    };
    let has_another = events.iter().any(|event| matches!(event, Event::End(_)));
    assert!(!has_another, "two ends: {events:?}");
    (events, end)
}

/// The text of an answer, without refusals.
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

/// The figures of an answer, as they were told last.
pub fn usage(events: &[Event]) -> Option<Usage> {
    events.iter().rev().find_map(|event| match event {
        Event::Usage(usage) => Some(*usage),
        _ => None,
    })
}

/// How often it was said that the request is sent again.
pub fn retries(events: &[Event]) -> usize {
    let retries = events.iter().filter(|event| matches!(event, Event::Retry { .. }));
    retries.count()
}

pub fn last_anchor(events: &[Event]) -> Option<Value> {
    events.iter().rev().find_map(|event| match event {
        Event::Anchor(anchor) => Some(anchor.clone()),
        _ => None,
    })
}

/// The error of a failed end. The key is never in it.
#[track_caller]
pub fn error(end: End) -> Error {
    let End::Failed(error) = end else {
        panic!("expected a failure, found {end:?}");
    };
    let wire = serde_json::to_string(&error).unwrap();
    assert!(!wire.contains(KEY), "the key is in the error: {wire}");
    error
}

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
