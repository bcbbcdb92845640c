//! Cancelling, silence and locks: whatever the upstream does, the answer ends in time and the upstream is told.

use std::time::{Duration, Instant};

use assistd::error::Kind;
use assistd::provider::CANCEL_DEADLINE;
use tokio::sync::Notify;

use super::*;
use crate::upstream::Reply;

const CANCEL: &str = "/v1/threads/thread_1/runs/run_1/cancel";

/// Plays an answer and fires its token when the test has seen what it waits for.
async fn cancelled(provider: &Assistants, request: Request, when: impl Fn(&Event) -> bool) -> (Vec<Event>, End) {
    let cancel = request.cancel.clone();
    let mut answer = provider.answer(request);
    let mut events = Vec::new();
    while let Some(event) = answer.next().await {
        if when(&event) {
            cancel.cancel();
        }
        events.push(event);
    }
    let Some(Event::End(end)) = events.pop() else {
        panic!("no end: {events:?}");
    };
    (events, end)
}

fn is_text(event: &Event) -> bool {
    matches!(event, Event::Delta { .. })
}

fn said() -> String {
    begun() + &message("created", json!({})) + &says("Once ")
}

#[tokio::test]
async fn a_cancelled_run_is_cancelled_upstream_and_says_no_more() {
    let gate = Arc::new(Notify::new());
    let stream = Reply::events(said())
        .wait(&gate)
        .bytes(says("upon"))
        .bytes(run("cancelled", json!({})));
    let upstream = Upstream::start([stream, Reply::json(200, json!({ "status": "cancelling" }))]).await;
    let provider = provider(&upstream);
    let opening = async {
        upstream.request(2).await;
        gate.notify_one();
    };
    let started = Instant::now();
    let ((events, end), ()) = tokio::join!(cancelled(&provider, request("u1:hello"), is_text), opening);
    assert_eq!((text(&events).as_str(), end), ("Once ", End::Cancelled));
    assert!(
        started.elapsed() < CANCEL_DEADLINE,
        "it ended with the run and not with the deadline"
    );
    let request = &upstream.requests()[1];
    assert_eq!((request.method.as_str(), request.path()), ("POST", CANCEL));
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_holds_a_cancel_up_for_its_deadline_only() {
    let upstream = Upstream::start([Reply::events(said()).stall(), Reply::silence()]).await;
    let started = Instant::now();
    let (events, end) = cancelled(&provider(&upstream), request("u1:hello"), is_text).await;
    assert_eq!((text(&events).as_str(), end), ("Once ", End::Cancelled));
    let took = started.elapsed();
    assert!(took >= CANCEL_DEADLINE && took < 2 * CANCEL_DEADLINE, "{took:?}");
}

#[tokio::test]
async fn a_run_that_is_cancelled_before_it_has_a_name_is_still_told_to_stop() {
    let (gate, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let stream = Reply::events("")
        .wait(&gate)
        .bytes(said())
        .wait(&told)
        .bytes(run("cancelled", json!({})));
    let upstream = Upstream::start([stream, Reply::json(200, json!({}))]).await;
    let request = request("u1:hello");
    let cancel = request.cancel.clone();
    let provider = provider(&upstream);
    let cancelling = async {
        upstream.request(1).await;
        cancel.cancel();
        gate.notify_one();
        upstream.request(2).await;
        told.notify_one();
    };
    let ((events, end), ()) = tokio::join!(play(&provider, request), cancelling);
    assert_eq!((text(&events).as_str(), end), ("", End::Cancelled));
    assert_eq!(
        last_anchor(&events),
        Some(anchor("u1")),
        "the next turn knows what was sent"
    );
    assert_eq!(upstream.requests()[1].path(), CANCEL);
}

#[tokio::test]
async fn cancelled_before_anything_was_sent_nothing_is_sent() {
    let upstream = Upstream::start([]).await;
    let request = request("u1:hello");
    request.cancel.cancel();
    let (events, end) = play(&provider(&upstream), request).await;
    assert_eq!((events, end), (Vec::new(), End::Cancelled));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn cancelled_while_it_waits_to_try_again_it_ends_at_once() {
    let later = Reply::status(429).header("retry-after", "100");
    let upstream = Upstream::start([later]).await;
    let started = Instant::now();
    let is_retry = |event: &Event| matches!(event, Event::Retry { .. });
    let (_, end) = cancelled(&provider(&upstream), request("u1:hello"), is_retry).await;
    assert_eq!(end, End::Cancelled);
    assert!(started.elapsed() < CANCEL_DEADLINE);
}

#[tokio::test]
async fn a_run_that_waits_for_outputs_is_stopped_when_they_will_not_come() {
    let upstream = Upstream::start([Reply::json(200, json!({}))]).await;
    let mut request = request("u1:hello");
    request.anchor = Some(anchor("u1"));
    request.rounds.push(assistd::provider::Round {
        text: String::new(),
        calls: Vec::new(),
        outputs: Vec::new(),
        ..assistd::provider::Round::default()
    });
    request.cancel.cancel();
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!(end, End::Cancelled);
    assert_eq!(upstream.requests()[0].path(), CANCEL);
}

#[tokio::test]
async fn a_silent_upstream_is_told_to_stop_and_given_up() {
    let upstream = Upstream::start([Reply::events(said()).stall(), Reply::json(200, json!({}))]).await;
    let mut settings = settings(&upstream);
    settings.idle_timeout = Some(0.2);
    let (events, end) = play(&provider_with(&settings), request("u1:hello")).await;
    let error = error(end);
    assert_eq!((error.kind(), error.data.retryable), (Kind::Network, true));
    assert_eq!(error.message, "provider `test` was silent for 0.2 s");
    assert_eq!(text(&events), "Once ");
    assert_eq!(upstream.requests()[1].path(), CANCEL);
}

#[tokio::test]
async fn an_upstream_that_never_even_answers_is_given_up() {
    let upstream = Upstream::start([Reply::silence()]).await;
    let mut settings = settings(&upstream);
    settings.idle_timeout = Some(0.2);
    let (events, end) = play(&provider_with(&settings), request("u1:hello")).await;
    assert_eq!((retries(&events), error(end).kind()), (0, Kind::Network));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_no_silent_upstream() {
    let gate = Arc::new(Notify::new());
    let rest = says("upon a time") + &run("completed", json!({}));
    let upstream = Upstream::start([Reply::events(said()).wait(&gate).bytes(rest)]).await;
    let mut settings = settings(&upstream);
    settings.idle_timeout = Some(0.2);
    let provider = provider_with(&settings);
    let mut answer = provider.answer(request("u1:hello"));
    let mut events = Vec::new();
    loop {
        let event = answer.next().await.unwrap();
        if is_text(&event) {
            break;
        }
    }
    // Nobody asks for events for longer than the upstream may be silent; then it goes on.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    gate.notify_one();
    while let Some(event) = answer.next().await {
        events.push(event);
    }
    assert_eq!(events.pop(), Some(Event::End(END_TURN)));
    assert_eq!(text(&events), "upon a time");
}

/// A second turn in a thread that is locked by this run.
fn second_turn() -> Request {
    let mut request = request("u1:one a1:two u2:three");
    request.anchor = Some(anchor("u1"));
    request
}

fn locked_by(run_id: &str) -> Reply {
    let message = format!("Can't add messages to thread_1 while a run {run_id} is active.");
    Reply::json(
        400,
        json!({ "error": { "message": message, "type": "invalid_request_error", "param": null, "code": null } }),
    )
}

#[tokio::test]
async fn a_run_of_our_own_that_is_in_the_way_is_stopped_first() {
    let upstream = Upstream::start([
        locked_by("run_1"),
        Reply::json(200, json!({ "status": "cancelling" })),
        Reply::json(200, json!({ "id": "run_1", "status": "cancelling" })),
        Reply::json(200, json!({ "id": "run_1", "status": "cancelled" })),
        Reply::events(whole_turn("Hello!")),
    ])
    .await;
    let (events, end) = play(&provider(&upstream), second_turn()).await;
    assert_eq!((retries(&events), text(&events).as_str(), end), (1, "Hello!", END_TURN));
    let paths: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| format!("{} {}", request.method, request.path()))
        .collect();
    assert_eq!(
        paths,
        [
            "POST /v1/threads/thread_1/runs",
            &format!("POST {CANCEL}"),
            "GET /v1/threads/thread_1/runs/run_1",
            "GET /v1/threads/thread_1/runs/run_1",
            "POST /v1/threads/thread_1/runs",
        ]
    );
}

#[tokio::test]
async fn somebody_elses_run_is_left_alone_and_named() {
    let upstream = Upstream::start([locked_by("run_9")]).await;
    let (_, end) = play(&provider(&upstream), second_turn()).await;
    let error = error(end);
    assert_eq!((error.kind(), error.data.retryable), (Kind::Busy, true));
    assert!(error.message.contains("`run_9`"), "{error}");
    assert!(error.data.upstream.unwrap().message.unwrap().contains("run_9"));
    assert!(error.data.hint.unwrap().contains("cancel it upstream"));
}
