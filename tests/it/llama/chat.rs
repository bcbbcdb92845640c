//! The `chat` dialect with a real server and a real model: greedy, so that the answers are the same everywhere.

use std::path::Path;

use assistd::protocol::{Options, Role, StopReason, ToolOutput, Truncation};
use assistd::provider::chat::Chat;
use assistd::provider::credentials::Credentials;
use assistd::provider::http::Http;
use assistd::provider::{Round, ToolCall};
use assistd::thread::Message;
use futures::StreamExt;
use serde_json::json;

use super::*;
use crate::chat::Account;
use crate::dialect::{END_TURN, error, messages, play, request};
use assistd::error::Kind;
use assistd::provider::{End, Event, Provider, Request};

/// A template that knows tools, which the model's own does not.
const TOOLS_TEMPLATE: &str = "tests/it/llama/tools.jinja";

fn provider(server: &Server) -> Chat {
    let settings = server.settings(Dialect::Chat);
    Chat::new("llama", &settings, Credentials::new("llama", None, None), Http::new())
}

/// A short greedy request in a thread of these texts, the user's first, to whatever model there is.
fn greedy(texts: &[&str]) -> Request {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let mut request = request("");
    *messages(&mut request) = roles
        .zip(texts)
        .map(|(role, text)| Message::text("m", role, *text))
        .collect();
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
}

async fn the_second_answer_depends_on_the_first(provider: &Chat) {
    let first = "What is the capital of Japan?";
    let (events, end) = play(provider, greedy(&[first])).await;
    let answer = Account::of(&events);
    assert_eq!(end, END_TURN, "{answer:?}");
    assert!(answer.text.contains("Tokyo"), "{answer:?}");
    assert!(events.len() > 4, "it came in pieces: {events:?}");
    let usage = answer.usage.expect("it was asked for");
    assert_eq!(usage.total_tokens, usage.input_tokens + usage.output_tokens);
    assert!(
        usage.input_tokens > 8 && (4..=32).contains(&usage.output_tokens),
        "{usage:?}"
    );

    let second = "What language do people speak there?";
    let (events, _) = play(provider, greedy(&[first, &answer.text, second])).await;
    let known = Account::of(&events);
    assert!(known.text.contains("Japanese"), "{known:?}");
    assert!(known.usage.unwrap().input_tokens > usage.input_tokens);
    let (events, _) = play(provider, greedy(&[second])).await;
    let alone = Account::of(&events).text;
    assert!(!alone.contains("Japanese"), "the question means nothing alone: {alone}");
}

async fn an_answer_ends_at_its_limit(provider: &Chat) {
    let mut short = greedy(&["Write a long story about the sea."]);
    short.options.max_output_tokens = Some(5);
    let (events, end) = play(provider, short).await;
    assert_eq!(end, End::Incomplete(StopReason::MaxTokens));
    assert_eq!(Account::of(&events).usage.unwrap().output_tokens, 5);
}

/// The server has one slot: unless the dropped connection stops it, the next answer waits for all of this one.
async fn a_cancelled_answer_leaves_the_server_free(provider: &Chat) {
    let mut long = greedy(&["Write a long story about the sea."]);
    long.options.max_output_tokens = Some(400);
    let cancel = long.cancel.clone();
    let mut stream = provider.answer(long);
    let mut heard = 0;
    let end = loop {
        match stream.next().await.expect("a stream ends with its end") {
            Event::Delta { .. } => {
                heard += 1;
                if heard == 3 {
                    cancel.cancel();
                }
            }
            Event::End(end) => break end,
            _ => {}
        }
    };
    assert_eq!(end, End::Cancelled);
    assert!(heard < 50, "{heard} deltas");
    drop(stream);
    let (events, end) = play(provider, greedy(&["What is the capital of Japan?"])).await;
    assert_eq!(end, END_TURN);
    assert!(Account::of(&events).text.contains("Tokyo"));
}

async fn what_does_not_fit_is_left_out(provider: &Chat) {
    let filler =
        "The sea is wide and deep, and many ships have crossed it since the first people built boats. ".repeat(3);
    let mut texts = Vec::new();
    for _ in 0..7 {
        texts.extend(["Tell me something about the sea.", &filler]);
    }
    texts.push("What is the capital of Japan?");
    let (events, end) = play(provider, greedy(&texts)).await;
    let account = Account::of(&events);
    assert!(!matches!(end, End::Failed(_)), "{end:?}");
    assert!(account.text.contains("Tokyo"), "{account:?}");
    let left_out = account.truncated.expect("it is said");
    assert!(
        left_out.is_multiple_of(2) && (2..14).contains(&left_out),
        "{left_out} of 14: whole turns, and not all"
    );

    let mut strict = greedy(&texts);
    std::sync::Arc::get_mut(&mut strict.conversation).unwrap().truncation = Truncation::Error;
    let (_, end) = play(provider, strict).await;
    let error = error(end);
    assert_eq!(error.kind(), Kind::ContextOverflow);
    assert_eq!(error.data.upstream.unwrap().code.as_deref(), Some("400"));
}

#[tokio::test]
async fn a_real_model_calls_a_tool_and_reads_its_output() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join(TOOLS_TEMPLATE);
    let arguments = ["--ctx-size", "2048", "--chat-template-file", template.to_str().unwrap()];
    let Some(server) = Server::start(&arguments).await else {
        return;
    };
    let provider = provider(&server);
    let tool = json!({
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] },
    });
    let mut asked = greedy(&[
        "What is the weather in Rome?",
        "The weather in Rome is sunny.",
        "What is the weather in Oslo?",
        "The weather in Oslo is snowy.",
        "What is the weather in Paris?",
    ]);
    asked.tools = vec![serde_json::from_value(tool).unwrap()];
    asked.options.max_output_tokens = Some(60);
    // So small a model has to be shown how: the rounds of its earlier answers, as a thread keeps them.
    for (answer, city, weather) in [(3, "Oslo", "snowy"), (1, "Rome", "sunny")] {
        let call = ToolCall {
            id: format!("call_{city}"),
            name: "get_weather".into(),
            arguments: json!({ "city": city }).to_string(),
        };
        let round = Message {
            content: Vec::new(),
            round: Some(answered(vec![call], weather)),
            ..Message::text("m", Role::Assistant, "")
        };
        messages(&mut asked).insert(answer, round);
    }

    let (events, end) = play(&provider, asked.clone()).await;
    let End::ToolCalls(calls) = end else {
        panic!("{end:?} after {events:?}");
    };
    let [call] = &calls[..] else {
        panic!("one call: {calls:?}");
    };
    assert_eq!(call.name, "get_weather");
    let arguments: serde_json::Value = serde_json::from_str(&call.arguments).unwrap();
    assert_eq!(arguments, json!({ "city": "Paris" }));
    let account = Account::of(&events);
    assert_eq!(
        account.arguments,
        [(call.id.clone(), call.arguments.clone())],
        "they came in pieces"
    );

    asked.rounds.push(answered(calls, "foggy"));
    let (events, end) = play(&provider, asked).await;
    let answer = Account::of(&events).text;
    assert_eq!(end, END_TURN, "{answer}");
    assert!(answer.contains("foggy"), "{answer}");
}

fn answered(calls: Vec<ToolCall>, output: &str) -> Round {
    let outputs = calls.iter().map(|call| ToolOutput {
        call_id: call.id.clone(),
        output: output.into(),
        is_error: false,
    });
    Round {
        text: String::new(),
        outputs: outputs.collect(),
        calls,
        carry: None,
    }
}
