//! The `chat` dialect with a real server and a real model: greedy, so that the answers are the same everywhere.

use std::path::Path;

use assistd::protocol::{Role, ToolOutput};
use assistd::provider::chat::Chat;
use assistd::provider::credentials::Credentials;
use assistd::provider::http::Http;
use assistd::provider::{End, Round, ToolCall};
use assistd::thread::Message;
use serde_json::json;

use super::answers::greedy;
use super::*;
use crate::chat::Account;
use crate::dialect::{END_TURN, messages, play};

/// A template that knows tools, which the model's own does not.
const TOOLS_TEMPLATE: &str = "tests/it/llama/tools.jinja";

fn provider(server: &Server) -> Chat {
    let settings = server.settings(Dialect::Chat);
    Chat::new("llama", &settings, Credentials::new("llama", None, None), Http::new())
}

/// One server for all: it takes seconds to load its model.
#[tokio::test]
async fn a_real_server_answers() {
    let Some(server) = Server::start(&["--ctx-size", "512"]).await else {
        return;
    };
    let provider = provider(&server);
    let refusal = answers::are_as_they_should_be(&provider).await;
    assert_eq!(refusal.upstream_code(), "400");
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
