//! The `responses` dialect with a real server and a real model: greedy, so that the answers are the same everywhere.
//! The server keeps nothing, numbers nothing, and calls an answer that reached its limit complete.

use std::path::Path;

use assistd::config::History;
use assistd::protocol::{Options, Role, StopReason, Tool, Truncation};
use assistd::provider::credentials::Credentials;
use assistd::provider::http::Http;
use assistd::provider::responses::Responses;
use assistd::provider::{End, Event, Provider, Request, Round};
use assistd::thread::Message;
use futures::StreamExt;
use serde_json::json;

use super::*;
use crate::dialect::{END_TURN, collect, error, last_anchor, messages, text};
use crate::responses::requests::{round, thread};
use crate::responses::usage;

fn provider(server: &Server) -> Responses {
    provider_with(&server.settings(Dialect::Responses))
}

fn provider_with(settings: &ProviderSettings) -> Responses {
    Responses::new("llama", settings, Credentials::new("llama", None, None), Http::new())
}

/// A short greedy request in a thread of these texts, the user's first, to whatever model there is.
fn greedy(texts: &[&str]) -> Request {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let messages = roles.zip(texts).enumerate();
    let messages = messages.map(|(number, (role, text))| Message::text(format!("m{number}"), role, *text));
    let mut request = thread(messages.collect());
    request.options = Options {
        temperature: Some(0.0),
        max_output_tokens: Some(32),
        ..Options::default()
    };
    request
}

/// One server for all: it takes seconds to load its model.
#[tokio::test]
async fn a_real_server_answers() {
    let Some(server) = Server::start(&["--ctx-size", "512"]).await else {
        return;
    };
    let provider = provider(&server);
    assert_eq!(provider.models().await.unwrap(), ["smollm2"]);
    the_second_answer_depends_on_the_first(&provider).await;
    an_answer_ends_at_its_limit(&provider).await;
    a_cancelled_answer_leaves_the_server_free(&provider).await;
    what_does_not_fit_is_left_out(&provider).await;
    a_server_that_keeps_no_history_gets_ours(&server).await;
}

async fn the_second_answer_depends_on_the_first(provider: &Responses) {
    let first = "What is the capital of Japan?";
    let (events, end) = collect(provider.answer(greedy(&[first]))).await;
    let answer = text(&events);
    assert_eq!(end, END_TURN, "{answer}");
    assert!(answer.contains("Tokyo"), "{answer}");
    assert!(events.len() > 4, "it came in pieces: {events:?}");
    let used = usage(&events).expect("it is told");
    assert_eq!(used.total_tokens, used.input_tokens + used.output_tokens);

    let second = "What language do people speak there?";
    let (events, _) = collect(provider.answer(greedy(&[first, &answer, second]))).await;
    assert!(text(&events).contains("Japanese"), "{}", text(&events));
    assert!(usage(&events).unwrap().input_tokens > used.input_tokens);
}

async fn an_answer_ends_at_its_limit(provider: &Responses) {
    let mut short = greedy(&["Write a long story about the sea."]);
    short.options.max_output_tokens = Some(5);
    let (events, end) = collect(provider.answer(short)).await;
    assert_eq!(end, End::Incomplete(StopReason::MaxTokens));
    assert_eq!(usage(&events).unwrap().output_tokens, 5);
}

/// The server has one slot: unless the dropped connection stops it, the next answer waits for all of this one.
async fn a_cancelled_answer_leaves_the_server_free(provider: &Responses) {
    let mut long = greedy(&["Write a long story about the sea."]);
    long.options.max_output_tokens = Some(400);
    let cancel = long.cancel.clone();
    let mut stream = provider.answer(long);
    while let Some(event) = stream.next().await {
        if matches!(event, Event::Delta { .. }) {
            cancel.cancel();
            break;
        }
    }
    assert_eq!(collect(stream).await.1, End::Cancelled);
    let (events, end) = collect(provider.answer(greedy(&["What is the capital of Japan?"]))).await;
    assert_eq!(end, END_TURN);
    assert!(text(&events).contains("Tokyo"));
}

async fn what_does_not_fit_is_left_out(provider: &Responses) {
    let filler =
        "The sea is wide and deep, and many ships have crossed it since the first people built boats. ".repeat(3);
    let mut texts = Vec::new();
    for _ in 0..8 {
        texts.extend(["Tell me something about the sea.", &filler]);
    }
    texts.push("What is the capital of Japan?");
    let (events, end) = collect(provider.answer(greedy(&texts))).await;
    assert!(matches!(end, End::Completed(_) | End::Incomplete(_)), "{end:?}");
    assert!(text(&events).contains("Tokyo"), "{}", text(&events));
    let left_out = events.iter().find_map(|event| match event {
        Event::Truncated { messages } => Some(*messages),
        _ => None,
    });
    assert!(
        left_out.is_some_and(|left_out| left_out % 2 == 0 && left_out < 16),
        "{left_out:?} of 16"
    );

    let mut strict = greedy(&texts);
    std::sync::Arc::get_mut(&mut strict.conversation).unwrap().truncation = Truncation::Error;
    let (_, end) = collect(provider.answer(strict)).await;
    assert_eq!(error(end).kind(), assistd::error::Kind::ContextOverflow);
}

/// It refuses `previous_response_id`.
async fn a_server_that_keeps_no_history_gets_ours(server: &Server) {
    let mut settings = server.settings(Dialect::Responses);
    settings.history = Some(History::Upstream);
    let provider = provider_with(&settings);
    let first = "What is the capital of Japan?";
    let (events, _) = collect(provider.answer(greedy(&[first]))).await;
    let mut later = greedy(&[first, &text(&events), "What language do people speak there?"]);
    later.anchor = last_anchor(&events);
    let (events, end) = collect(provider.answer(later)).await;
    assert_eq!(end, END_TURN);
    assert!(text(&events).contains("Japanese"), "{}", text(&events));
}

#[tokio::test]
async fn a_real_model_calls_a_tool_and_reads_its_output() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/llama/tools.jinja");
    let arguments = ["--ctx-size", "2048", "--chat-template-file", template.to_str().unwrap()];
    let Some(server) = Server::start(&arguments).await else {
        return;
    };
    let provider = provider(&server);
    let mut asked = greedy(&[
        "What is the weather in Rome?",
        "The weather in Rome is sunny.",
        "What is the weather in Oslo?",
        "The weather in Oslo is snowy.",
        "What is the weather in Paris?",
    ]);
    let tool = json!({
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] },
    });
    asked.tools = vec![serde_json::from_value::<Tool>(tool).unwrap()];
    asked.options.max_output_tokens = Some(60);
    // So small a model has to be shown how: the rounds of its earlier answers, as a thread keeps them.
    for (answer, city, weather) in [(3, "Oslo", "snowy"), (1, "Rome", "sunny")] {
        let mut shown = round(&format!("call_{city}"), "", None);
        shown.calls[0].name = "get_weather".into();
        shown.calls[0].arguments = json!({ "city": city }).to_string();
        shown.outputs[0].output = weather.into();
        let message = Message {
            content: Vec::new(),
            round: Some(shown),
            ..Message::text("m", Role::Assistant, "")
        };
        messages(&mut asked).insert(answer, message);
    }

    let (events, end) = collect(provider.answer(asked.clone())).await;
    let End::ToolCalls(calls) = end else {
        panic!("{end:?} after {events:?}");
    };
    assert_eq!(calls[0].name, "get_weather");
    let arguments: serde_json::Value = serde_json::from_str(&calls[0].arguments).unwrap();
    assert_eq!(arguments, json!({ "city": "Paris" }));

    let mut outputs = round(&calls[0].id, "", None).outputs;
    outputs[0].output = "foggy".into();
    asked.rounds.push(Round {
        calls,
        outputs,
        ..Round::default()
    });
    let (events, end) = collect(provider.answer(asked)).await;
    assert_eq!(end, END_TURN);
    assert!(text(&events).contains("foggy"), "{}", text(&events));
}
