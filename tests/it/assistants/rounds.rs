//! Tool calls: a round ends with them, and the next one sends all their outputs in one request.

use assistd::error::Kind;
use assistd::protocol::ToolOutput;
use assistd::provider::{Round, ToolCall};

use super::*;
use crate::upstream::Reply;

fn wants(calls: &[&str]) -> String {
    let calls: Vec<Value> = calls
        .iter()
        .map(|id| json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": "{\"in\":1}" } }))
        .collect();
    let action = json!({ "type": "submit_tool_outputs", "submit_tool_outputs": { "tool_calls": calls } });
    begun() + &run("requires_action", json!({ "required_action": action })) + done()
}

fn call(id: &str) -> ToolCall {
    ToolCall {
        id: id.into(),
        name: "weather".into(),
        arguments: "{\"in\":1}".into(),
    }
}

fn answered(ids: &[&str]) -> Round {
    let output = |id: &&str| ToolOutput {
        call_id: id.to_string(),
        output: format!("sunny at {id}"),
        is_error: false,
    };
    Round {
        text: String::new(),
        calls: ids.iter().map(|id| call(id)).collect(),
        outputs: ids.iter().map(output).collect(),
        ..Round::default()
    }
}

#[tokio::test]
async fn several_rounds_of_several_calls() {
    let upstream = Upstream::start([
        Reply::events(wants(&["call_1", "call_2"])),
        Reply::events(wants(&["call_3"])),
        Reply::events(whole_turn("Sunny.")),
    ])
    .await;
    let provider = provider(&upstream);
    let mut request = request("u1:hello");

    let (events, end) = play(&provider, request.clone()).await;
    assert_eq!(end, End::ToolCalls(vec![call("call_1"), call("call_2")]));
    request.anchor = last_anchor(&events);
    request.rounds.push(answered(&["call_1", "call_2"]));

    let (events, end) = play(&provider, request.clone()).await;
    assert_eq!(end, End::ToolCalls(vec![call("call_3")]));
    request.anchor = last_anchor(&events).or(request.anchor);
    request.rounds.push(answered(&["call_3"]));

    let (events, end) = play(&provider, request).await;
    assert_eq!((text(&events).as_str(), end), ("Sunny.", END_TURN));

    let [_, second, third] = &upstream.requests()[..] else {
        panic!("one request a round");
    };
    assert_eq!(second.path(), "/v1/threads/thread_1/runs/run_1/submit_tool_outputs");
    assert_eq!(
        second.json(),
        json!({ "stream": true, "tool_outputs": [
            { "tool_call_id": "call_1", "output": "sunny at call_1" },
            { "tool_call_id": "call_2", "output": "sunny at call_2" }
        ] })
    );
    assert_eq!(
        third.json()["tool_outputs"],
        json!([{ "tool_call_id": "call_3", "output": "sunny at call_3" }])
    );
}

#[tokio::test]
async fn outputs_and_a_message_at_once_are_refused_before_anything_is_sent() {
    let upstream = Upstream::start([]).await;
    let said = [assistd::protocol::Part::text("and besides")];
    let takes = |content, has_outputs| {
        let options = Default::default();
        provider(&upstream).takes(&assistd::provider::Asked {
            content,
            has_outputs,
            model: None,
            tools: &[],
            options: &options,
        })
    };
    assert_eq!((takes(&said, false), takes(&[], true)), (Ok(()), Ok(())));
    assert_eq!(
        takes(&said, true).unwrap_err().message,
        "provider `test` takes either `toolOutputs` or `content`, not both at once"
    );
    assert_eq!(upstream.requests().len(), 0);
}

/// The upstream has the calls of its own runs; it has no words for those of others.
#[tokio::test]
async fn what_was_called_without_a_word_is_no_message() {
    let upstream = Upstream::start([Reply::events(whole_turn("Hi."))]).await;
    let mut request = request("u1:one a1:x a2:two u2:three");
    let history = messages(&mut request);
    history[1].content.clear();
    history[1].round = Some(answered(&["call_1"]));
    history[2].round = Some(answered(&["call_2"]));
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!(end, END_TURN);
    let sent = upstream.requests()[0].json()["thread"]["messages"].clone();
    let said: Vec<&str> = sent
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["one", "two", "three"]);
}

/// The run waits for each call, also where the client sent less with its next request.
#[tokio::test]
async fn calls_that_nobody_answered_get_an_output_that_says_so() {
    let upstream = Upstream::start([Reply::events(whole_turn("Sunny."))]).await;
    let mut request = request("u1:hello");
    request.anchor = Some(anchor("u1"));
    let mut round = answered(&["call_1", "call_2"]);
    round.outputs.remove(0);
    request.rounds.push(round);
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!(end, END_TURN);
    assert_eq!(
        upstream.requests()[0].json()["tool_outputs"],
        json!([
            { "tool_call_id": "call_1", "output": "error: the call was not answered" },
            { "tool_call_id": "call_2", "output": "sunny at call_2" }
        ])
    );
}

#[tokio::test]
async fn calls_that_only_the_steps_tell_of_are_found() {
    let step = json!({ "id": "step_1", "delta": { "step_details": { "type": "tool_calls", "tool_calls": [
        { "index": 0, "id": "call_1", "type": "function", "function": { "name": "weather", "arguments": "{\"in\":1}" } }
    ] } } });
    let stream = begun() + &sse("thread.run.step.delta", step) + &run("requires_action", json!({}));
    let upstream = Upstream::start([Reply::events(stream)]).await;
    let (_, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!(end, End::ToolCalls(vec![call("call_1")]));
}

#[tokio::test]
async fn an_action_that_nobody_can_take_fails_the_run() {
    let stream = begun()
        + &run(
            "requires_action",
            json!({ "required_action": { "type": "submit_tool_approval" } }),
        );
    let upstream = Upstream::start([Reply::events(stream)]).await;
    let (_, end) = play(&provider(&upstream), request("u1:hello")).await;
    let error = error(end);
    assert_eq!((error.kind(), error.data.retryable), (Kind::Upstream, false));
    assert!(error.message.contains("`submit_tool_approval`"), "{error}");
}

#[tokio::test]
async fn outputs_that_come_too_late_find_the_run_expired() {
    let message = "Runs in status \"expired\" do not accept tool outputs.";
    let refusal = Reply::json(
        400,
        json!({ "error": { "message": message, "type": "invalid_request_error" } }),
    );
    let upstream = Upstream::start([refusal]).await;
    let mut request = request("u1:hello");
    request.anchor = Some(anchor("u1"));
    request.rounds.push(answered(&["call_1"]));
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!(end, End::Incomplete(StopReason::Expired));
}

#[tokio::test]
async fn outputs_never_go_to_the_run_of_an_earlier_turn() {
    let upstream = Upstream::start([]).await;
    let mut request = request("u1:one a1:two u2:three");
    request.anchor = Some(anchor("u1"));
    request.rounds.push(answered(&["call_1"]));
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!(error(end).kind(), Kind::InvalidParams);
}
