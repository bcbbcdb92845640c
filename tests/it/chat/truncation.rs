//! A conversation that does not fit the model's context.

use assistd::error::Kind;
use assistd::protocol::Truncation;

use super::requests::round;
use super::*;

fn overflow(message: &str) -> Reply {
    Reply::json(
        400,
        json!({ "error": { "code": 400, "message": message, "type": "exceed_context_size_error" } }),
    )
}

const LLAMA: &str = "request (2000 tokens) exceeds the available context size (1000 tokens), try increasing it";
const OLLAMA: &str = "the input length exceeds the context length";

/// Turns of a question and an answer, and a question.
fn long(turns: usize) -> Request {
    let turns: String = (0..turns)
        .map(|i| format!("u{i}:question-{i} a{i}:{} ", "answer".repeat(20)))
        .collect();
    request(&(turns + "u:newest"))
}

/// How many messages each request had.
fn sizes(upstream: &Upstream) -> Vec<usize> {
    let requests = upstream.requests();
    requests
        .iter()
        .map(|request| request.json()["messages"].as_array().unwrap().len())
        .collect()
}

#[tokio::test]
async fn the_oldest_turns_are_left_out_and_that_is_said_once() {
    let upstream = Upstream::start([overflow(OLLAMA), overflow(OLLAMA), Reply::events(whole("a"))]).await;
    let (events, end) = play(&provider(&upstream), long(8)).await;
    let account = Account::of(&events);
    assert_eq!(
        (account.text.as_str(), account.truncated, end),
        ("a", Some(12), END_TURN)
    );
    assert_eq!(
        sizes(&upstream),
        [17, 9, 5],
        "half of what is not the newest, each time"
    );
    assert!(matches!(events[0], Event::Truncated { .. }), "{events:?}");
    let last = upstream.requests()[2].json();
    assert_eq!(last["messages"][0], json!({ "role": "user", "content": "question-6" }));
}

#[tokio::test]
async fn the_numbers_of_the_refusal_say_how_much() {
    let upstream = Upstream::start([overflow(LLAMA), Reply::events(whole("a"))]).await;
    let (events, end) = play(&provider(&upstream), long(8)).await;
    assert_eq!(end, END_TURN);
    // 1000 of 2000 tokens, of which the history may have three quarters.
    assert_eq!(
        (sizes(&upstream), Account::of(&events).truncated),
        (vec![17, 5], Some(12))
    );
}

#[tokio::test]
async fn the_newest_question_stays_and_then_it_is_an_error() {
    let upstream = Upstream::start([overflow(OLLAMA), overflow(OLLAMA)]).await;
    let (events, end) = play(&provider(&upstream), long(1)).await;
    assert_eq!(
        (Account::of(&events).truncated, error(end).kind()),
        (None, Kind::ContextOverflow)
    );
    assert_eq!(sizes(&upstream), [3, 1]);
}

#[tokio::test]
async fn a_thread_may_want_the_error() {
    let upstream = Upstream::start([overflow(LLAMA)]).await;
    let mut asked = long(3);
    Arc::get_mut(&mut asked.conversation).unwrap().truncation = Truncation::Error;
    let (events, end) = play(&provider(&upstream), asked).await;
    let error = error(end);
    assert_eq!(
        (error.kind(), error.data.retryable, events.len()),
        (Kind::ContextOverflow, false, 0)
    );
}

/// vLLM and relays say it in the stream.
#[tokio::test]
async fn an_overflow_that_comes_as_the_first_event_is_one() {
    let first = sse(
        json!({ "object": "error", "code": 400, "message": "This model's maximum context length is 1000 tokens. However, you requested 1100 tokens." }),
    );
    let upstream = Upstream::start([Reply::events(first), Reply::events(whole("a"))]).await;
    let (events, end) = play(&provider(&upstream), long(8)).await;
    assert_eq!((end, Account::of(&events).truncated), (END_TURN, Some(6)));
}

/// A turn goes with its calls and their outputs, and the rounds of the run stay with their question.
#[tokio::test]
async fn calls_are_never_separated_from_their_outputs() {
    let upstream = Upstream::start([overflow(OLLAMA), Reply::events(whole("a"))]).await;
    let mut asked = request("u1:one a1:two u2:three");
    messages(&mut asked)[1].round = Some(round("two", "call_1"));
    asked.rounds = vec![round("", "call_2")];
    play(&provider(&upstream), asked).await;
    let roles = |body: Value| -> Vec<String> {
        let messages = body["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["role"].as_str().unwrap().to_owned())
            .collect()
    };
    let requests = upstream.requests();
    assert_eq!(
        roles(requests[0].json()),
        ["user", "assistant", "tool", "user", "assistant", "tool"]
    );
    assert_eq!(roles(requests[1].json()), ["user", "assistant", "tool"]);
}
