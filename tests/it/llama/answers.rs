//! What every dialect makes of the real server and its real model: greedy, so that the answers are the same everywhere.

use std::sync::Arc;

use assistd::error::{Error, Kind};
use assistd::protocol::{Options, Role, StopReason, Truncation};
use assistd::provider::{End, Event, Provider, Request};
use assistd::thread::Message;
use futures::StreamExt;

use crate::dialect::{END_TURN, collect, error, messages, play, request, text, usage};

/// A question of which the model knows the answer.
const JAPAN: &str = "What is the capital of Japan?";

/// A short greedy request in a thread of these texts, the user's first, to whatever model there is.
pub fn greedy(texts: &[&str]) -> Request {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let said = roles.zip(texts).enumerate();
    let said = said.map(|(number, (role, text))| Message::text(format!("m{number}"), role, *text));
    let mut request = request("");
    messages(&mut request).extend(said);
    request.options = Options {
        temperature: Some(0.0),
        max_output_tokens: Some(32),
        ..Options::default()
    };
    request
}

/// All of it, with a provider at a server of a context of 512 tokens. Gives the refusal of what does not fit.
pub async fn are_as_they_should_be(provider: &dyn Provider) -> Error {
    assert_eq!(provider.models().await.unwrap(), ["smollm2"]);
    the_second_depends_on_the_first(provider).await;
    one_ends_at_its_limit(provider).await;
    a_cancelled_one_leaves_the_server_free(provider).await;
    what_does_not_fit_is_left_out(provider).await
}

async fn the_second_depends_on_the_first(provider: &dyn Provider) {
    let (events, end) = play(provider, greedy(&[JAPAN])).await;
    let answer = text(&events);
    assert_eq!(end, END_TURN, "{answer}");
    assert!(answer.contains("Tokyo"), "{answer}");
    assert!(events.len() > 4, "it came in pieces: {events:?}");
    let used = usage(&events).expect("it is told");
    assert_eq!(used.total_tokens, used.input_tokens + used.output_tokens);
    assert!(
        used.input_tokens > 8 && (4..=32).contains(&used.output_tokens),
        "{used:?}"
    );

    let second = "What language do people speak there?";
    let (events, _) = play(provider, greedy(&[JAPAN, &answer, second])).await;
    assert!(text(&events).contains("Japanese"), "{}", text(&events));
    assert!(usage(&events).unwrap().input_tokens > used.input_tokens);
    let (events, _) = play(provider, greedy(&[second])).await;
    let alone = text(&events);
    assert!(!alone.contains("Japanese"), "the question means nothing alone: {alone}");
}

async fn one_ends_at_its_limit(provider: &dyn Provider) {
    let mut short = greedy(&["Write a long story about the sea."]);
    short.options.max_output_tokens = Some(5);
    let (events, end) = play(provider, short).await;
    assert_eq!(end, End::Incomplete(StopReason::MaxTokens));
    assert_eq!(usage(&events).unwrap().output_tokens, 5);
}

/// The server has one slot: unless the dropped connection stops it, the next answer waits for all of this one.
async fn a_cancelled_one_leaves_the_server_free(provider: &dyn Provider) {
    let mut long = greedy(&["Write a long story about the sea."]);
    long.options.max_output_tokens = Some(400);
    let cancel = long.cancel.clone();
    let mut stream = provider.answer(long);
    loop {
        let event = stream.next().await.expect("a stream ends with its end");
        if matches!(event, Event::Delta { .. }) {
            cancel.cancel();
            break;
        }
    }
    let (rest, end) = collect(stream).await;
    assert_eq!(end, End::Cancelled);
    assert_eq!(text(&rest), "", "nothing is shown after the cancel");
    let (events, end) = play(provider, greedy(&[JAPAN])).await;
    assert_eq!(end, END_TURN);
    assert!(text(&events).contains("Tokyo"));
}

async fn what_does_not_fit_is_left_out(provider: &dyn Provider) -> Error {
    let filler =
        "The sea is wide and deep, and many ships have crossed it since the first people built boats. ".repeat(3);
    let mut texts = Vec::new();
    for _ in 0..8 {
        texts.extend(["Tell me something about the sea.", &filler]);
    }
    texts.push(JAPAN);
    let (events, end) = play(provider, greedy(&texts)).await;
    assert!(matches!(end, End::Completed(_) | End::Incomplete(_)), "{end:?}");
    assert!(text(&events).contains("Tokyo"), "{}", text(&events));
    let told = events.iter().find_map(|event| match event {
        Event::Truncated { messages } => Some(*messages),
        _ => None,
    });
    let left_out = told.expect("it is said");
    assert!(
        left_out.is_multiple_of(2) && (2..16).contains(&left_out),
        "{left_out} of 16: whole turns, and not all"
    );

    let mut strict = greedy(&texts);
    Arc::get_mut(&mut strict.conversation).unwrap().truncation = Truncation::Error;
    let (_, end) = play(provider, strict).await;
    let refusal = error(end);
    assert_eq!(refusal.kind(), Kind::ContextOverflow);
    refusal
}
