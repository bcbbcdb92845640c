//! The tools of a request add to those of the upstream's assistant, which are asked for once and only where needed.

use std::time::Instant;

use assistd::error::Kind;
use assistd::protocol::{Tool, ToolOutput};
use assistd::provider::{CANCEL_DEADLINE, Round};

use super::*;
use crate::upstream::{Recorded, Reply};

const ASSISTANT: &str = "/v1/assistants/asst_1";

fn hello() -> Reply {
    Reply::events(whole_turn("Hello!"))
}

/// The assistant as the upstream tells of it.
fn assistant(tools: Value) -> Reply {
    Reply::json(
        200,
        json!({ "id": "asst_1", "object": "assistant", "model": "m", "tools": tools }),
    )
}

/// The tool that every request of these tests adds, and as it stands in a run's request.
fn weather() -> Value {
    json!({ "name": "weather", "description": "The weather", "parameters": { "type": "object" }, "strict": false })
}

fn sent_weather() -> Value {
    json!({ "type": "function", "function": weather() })
}

/// A request that adds a tool.
fn with_tool(messages: &str) -> Request {
    let mut request = request(messages);
    request.tools = vec![serde_json::from_value::<Tool>(weather()).unwrap()];
    request
}

fn lines(requests: &[Recorded]) -> Vec<String> {
    let lines = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path()));
    lines.collect()
}

#[tokio::test]
async fn own_tools_are_asked_for_once_and_said_again_before_the_requests() {
    let own = json!({ "type": "file_search", "file_search": { "max_num_results": 5 } });
    let replaced = json!({ "type": "function", "function": { "name": "weather" } });
    let upstream = Upstream::start([assistant(json!([replaced, own])), hello(), hello()]).await;
    let provider = provider(&upstream);

    let (events, end) = play(&provider, with_tool("u1:one")).await;
    assert_eq!((retries(&events), end), (0, END_TURN));
    let mut later = with_tool("u1:one a1:two u2:three");
    later.anchor = last_anchor(&events);
    assert_eq!(play(&provider, later).await.1, END_TURN);

    let requests = upstream.requests();
    assert_eq!(
        lines(&requests),
        [
            &format!("GET {ASSISTANT}"),
            "POST /v1/threads/runs",
            "POST /v1/threads/thread_1/runs"
        ]
    );
    for request in &requests[1..] {
        assert_eq!(request.json()["tools"], json!([own, sent_weather()]));
    }
}

#[tokio::test]
async fn a_turn_without_tools_and_outputs_of_tools_ask_for_nothing() {
    let upstream = Upstream::start([hello(), hello()]).await;
    let provider = provider(&upstream);
    assert_eq!(play(&provider, request("u1:one")).await.1, END_TURN);
    let mut outputs = with_tool("u1:one");
    outputs.anchor = Some(anchor("u1"));
    let output = ToolOutput {
        call_id: "call_1".into(),
        output: "sunny".into(),
        is_error: false,
    };
    outputs.rounds.push(Round {
        text: String::new(),
        calls: Vec::new(),
        outputs: vec![output],
        ..Round::default()
    });
    assert_eq!(play(&provider, outputs).await.1, END_TURN);

    let requests = upstream.requests();
    assert_eq!(
        lines(&requests),
        [
            "POST /v1/threads/runs",
            "POST /v1/threads/thread_1/runs/run_1/submit_tool_outputs"
        ]
    );
    assert_eq!(requests[0].json().get("tools"), None, "the assistant keeps its own");
}

#[tokio::test]
async fn a_server_that_does_not_know_its_assistants_has_no_own_tools_and_is_not_asked_again() {
    for status in [404, 405] {
        let upstream = Upstream::start([Reply::status(status), hello(), hello()]).await;
        let provider = provider(&upstream);
        for _ in 0..2 {
            let (events, end) = play(&provider, with_tool("u1:one")).await;
            assert_eq!((retries(&events), end), (0, END_TURN), "{status}");
        }
        let requests = upstream.requests();
        let run = "POST /v1/threads/runs";
        assert_eq!(lines(&requests), [&format!("GET {ASSISTANT}"), run, run], "{status}");
        assert_eq!(requests[2].json()["tools"], json!([sent_weather()]));
    }
}

#[tokio::test]
async fn a_question_that_fails_is_asked_again_and_then_fails_the_turn() {
    let busy = || Reply::status(503).header("retry-after-ms", "1");
    let upstream = Upstream::start([busy(), assistant(json!([])), hello()]).await;
    let (events, end) = play(&provider(&upstream), with_tool("u1:one")).await;
    assert_eq!((retries(&events), end), (1, END_TURN));

    // A thread that the request goes on in has nothing to do with it.
    let upstream = Upstream::start([busy(), busy(), busy(), Reply::status(400)]).await;
    let provider = provider(&upstream);
    let mut later = with_tool("u1:one u2:two");
    later.anchor = Some(anchor("u1"));
    let (events, end) = play(&provider, later.clone()).await;
    assert_eq!((retries(&events), error(end).kind()), (2, Kind::Overloaded));
    let (events, end) = play(&provider, later).await;
    assert_eq!((retries(&events), error(end).kind()), (0, Kind::Upstream));
    assert!(upstream.requests().iter().all(|request| request.path() == ASSISTANT));
}

#[tokio::test]
async fn an_answer_that_is_no_assistant_is_not_quoted_with_the_key() {
    let upstream = Upstream::start([Reply::json(200, json!(format!("hello {KEY}")))]).await;
    let (_, end) = play(&provider(&upstream), with_tool("u1:one")).await;
    let error = error(end);
    assert_eq!(error.kind(), Kind::Upstream);
    assert!(error.message.contains("hello ***"), "{error}");
}

#[tokio::test]
async fn cancelled_while_it_asks_it_ends_at_once_and_the_next_turn_asks() {
    let upstream = Upstream::start([Reply::silence(), assistant(json!([])), hello()]).await;
    let provider = provider(&upstream);
    let request = with_tool("u1:one");
    let cancel = request.cancel.clone();
    let started = Instant::now();
    let cancelling = async {
        upstream.request(1).await;
        cancel.cancel();
    };
    let ((events, end), ()) = tokio::join!(play(&provider, request), cancelling);
    assert_eq!((events, end), (Vec::new(), End::Cancelled));
    assert!(started.elapsed() < CANCEL_DEADLINE);

    assert_eq!(play(&provider, with_tool("u1:one")).await.1, END_TURN);
    assert_eq!(upstream.requests().len(), 3);
}
