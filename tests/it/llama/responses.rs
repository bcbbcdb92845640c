//! The `responses` dialect with a real server and a real model: greedy, so that the answers are the same everywhere.
//! The server keeps nothing, numbers nothing, and calls an answer that reached its limit complete.

use std::path::Path;

use assistd::config::History;
use assistd::protocol::{Role, Tool};
use assistd::provider::credentials::Credentials;
use assistd::provider::http::Http;
use assistd::provider::responses::Responses;
use assistd::provider::{End, Provider, Round};
use assistd::thread::Message;
use serde_json::json;

use super::answers::greedy;
use super::*;
use crate::dialect::{END_TURN, collect, last_anchor, messages, text};
use crate::responses::requests::round;

fn provider(server: &Server) -> Responses {
    provider_with(&server.settings(Dialect::Responses))
}

fn provider_with(settings: &ProviderSettings) -> Responses {
    Responses::new("llama", settings, Credentials::new("llama", None, None), Http::new())
}

/// One server for all: it takes seconds to load its model.
#[tokio::test]
async fn a_real_server_answers() {
    let Some(server) = Server::start(&["--ctx-size", "512"]).await else {
        return;
    };
    let provider = provider(&server);
    answers::are_as_they_should_be(&provider).await;
    a_server_that_keeps_no_history_gets_ours(&server).await;
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
