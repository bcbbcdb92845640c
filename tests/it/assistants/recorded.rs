//! Recorded streams of the real API, cut at every byte, against what the reference client made of them.

use std::collections::BTreeMap;

use assistd::protocol::Usage;
use assistd::provider::Round;

use super::*;
use crate::upstream::{Cut, Reply};

const RUN: &str = "AssistantsTests.StreamingRunWorks.0";
const CALL: &str = "AssistantsTests.StreamingToolCall.0";
const OUTPUTS: &str = "AssistantsTests.StreamingToolCall.1";

/// What people see of a stream, to be compared with the reference client's account.
#[derive(Debug, Default, PartialEq)]
struct Account {
    /// Id and text of each message.
    messages: Vec<(String, String)>,
    /// Id, kind and status of each step.
    steps: BTreeMap<String, (String, String)>,
    /// Id, name, arguments and output of each call.
    calls: Vec<[String; 4]>,
    usage: Option<Usage>,
    status: String,
}

fn account_of(events: &[Event]) -> Account {
    let mut account = Account::default();
    for event in events {
        match event {
            Event::MessageStarted { upstream_id } => {
                account.messages.push((upstream_id.clone().unwrap(), String::new()));
            }
            Event::Delta { text, .. } => account.messages.last_mut().unwrap().1.push_str(text),
            Event::Step(step) => {
                account
                    .steps
                    .insert(step.id.clone(), (step.kind.clone(), step.status.clone()));
                for call in &step.calls {
                    let text = |text: &Option<String>| text.clone().unwrap_or_default();
                    let row = [
                        call.call_id.clone(),
                        text(&call.name),
                        text(&call.arguments),
                        text(&call.output),
                    ];
                    match account.calls.iter_mut().find(|known| known[0] == call.call_id) {
                        Some(known) => *known = row,
                        None => account.calls.push(row),
                    }
                }
            }
            Event::Usage(usage) => account.usage = Some(*usage),
            Event::Status(status) => account.status = status.clone(),
            _ => {}
        }
    }
    account
}

/// The reference client's callbacks, in the same terms. It reports a call as done up to three times; here it is one.
fn account_of_oracle(trace: &Value) -> Account {
    let mut account = Account::default();
    let words = |text: &Value| text.as_str().unwrap_or_default().to_owned();
    let camel = |text: &Value| {
        words(text)
            .replace("in_progress", "inProgress")
            .replace("requires_action", "requiresAction")
    };
    for callback in trace["callbacks"].as_array().unwrap() {
        let argument = &callback[1];
        match callback[0].as_str().unwrap() {
            "on_message_done" => {
                let parts = argument["content"].as_array().unwrap();
                let text = parts.iter().map(|part| words(&part["text"]["value"])).collect();
                account.messages.push((words(&argument["id"]), text));
            }
            "on_run_step_created" | "on_run_step_done" => {
                let kind = if argument["type"] == "tool_calls" {
                    "toolCalls"
                } else {
                    "message"
                };
                account
                    .steps
                    .insert(words(&argument["id"]), (kind.into(), camel(&argument["status"])));
                for call in argument["step_details"]["tool_calls"].as_array().into_iter().flatten() {
                    account.calls.push(oracle_call(call));
                }
            }
            "on_tool_call_done" => {
                account
                    .calls
                    .retain(|known| known[0] != argument["id"].as_str().unwrap());
                account.calls.push(oracle_call(argument));
            }
            _ => {}
        }
    }
    let run = &trace["final"]["final_run"];
    account.status = camel(&run["status"]);
    let usage = &run["usage"];
    account.usage = usage["total_tokens"].as_u64().map(|total_tokens| Usage {
        input_tokens: usage["prompt_tokens"].as_u64().unwrap(),
        output_tokens: usage["completion_tokens"].as_u64().unwrap(),
        total_tokens,
        cached_tokens: usage["prompt_token_details"]["cached_tokens"].as_u64(),
        reasoning_tokens: usage["completion_tokens_details"]["reasoning_tokens"].as_u64(),
    });
    account
}

fn oracle_call(call: &Value) -> [String; 4] {
    let words = |text: &Value| text.as_str().unwrap_or_default().to_owned();
    let function = &call["function"];
    [
        words(&call["id"]),
        words(&function["name"]),
        words(&function["arguments"]),
        words(&function["output"]),
    ]
}

/// The same events whatever way pieces came together.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (
                Some(Event::Delta { index, text, .. }),
                Event::Delta {
                    index: i, text: piece, ..
                },
            ) if *index == i => {
                text.push_str(&piece);
            }
            (_, event) => joined.push(event),
        }
    }
    joined
}

fn request_for(stream: &str) -> Request {
    let mut request = request("u1:hello");
    if stream == OUTPUTS {
        request.anchor = Some(json!({
            "threadId": "thread_6oUGUBxLwhyApwhYBhWjHI5f",
            "runId": "run_oyfV44CrJXYJkvb2qsd80LvJ",
            "synced": "u1",
        }));
        request.rounds.push(Round {
            text: String::new(),
            calls: Vec::new(),
            outputs: Vec::new(),
            ..Round::default()
        });
    }
    request
}

async fn check_against_oracle(stream: &str) {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let bytes = std::fs::read(fixtures.join(format!("openai-dotnet/{stream}.sse"))).unwrap();
    let trace = std::fs::read(fixtures.join(format!("oracle/{stream}.trace.json"))).unwrap();
    let oracle = account_of_oracle(&serde_json::from_slice(&trace).unwrap());

    let upstream = Upstream::start([Reply::events(&bytes)]).await;
    let provider = provider(&upstream);
    let whole = play(&provider, request_for(stream)).await;
    assert_eq!(account_of(&whole.0), oracle, "whole");
    let each_once: Vec<_> = steps(&whole.0);
    for (i, step) in each_once.iter().enumerate() {
        assert!(!each_once[..i].contains(step), "reported twice: {step:?}");
    }

    let whole = (joined(whole.0), whole.1);
    // Every place is cut once in pieces of an odd size, and once among single bytes.
    const EVERY: usize = 97;
    let cuts = (0..EVERY).map(|first| Cut::From { first, every: EVERY });
    let cuts: Vec<Cut> = cuts.chain([Cut::From { first: 0, every: 1 }]).collect();
    // The shortest stream is also cut in two at every place.
    let in_two = (1..bytes.len())
        .map(Cut::At)
        .take(if stream == CALL { usize::MAX } else { 0 });
    for cut in cuts.into_iter().chain(in_two) {
        upstream.push(Reply::events(&bytes).cut(cut));
        let (events, end) = play(&provider, request_for(stream)).await;
        assert!((joined(events), end) == whole, "{stream} cut at {cut:?}");
    }
}

#[tokio::test]
async fn a_run_cut_at_every_byte_is_what_the_reference_client_sees() {
    check_against_oracle(RUN).await;
}

#[tokio::test]
async fn a_tool_call_cut_at_every_byte_is_what_the_reference_client_sees() {
    check_against_oracle(CALL).await;
}

#[tokio::test]
async fn the_stream_behind_tool_outputs_cut_at_every_byte_is_what_the_reference_client_sees() {
    check_against_oracle(OUTPUTS).await;
}
