//! Sending again before anything was shown, never after; silence; cancelling.

use std::time::{Duration, Instant};

use super::*;
use assistd::error::Kind;

fn busy(status: u16) -> Reply {
    Reply::json(status, json!({ "error": { "message": "later" } })).header("retry-after-ms", "1")
}

#[tokio::test]
async fn what_may_pass_is_sent_again_and_said() {
    for status in [408, 409, 429, 500, 503] {
        let upstream = Upstream::start([busy(status), busy(status), Reply::events(whole("a"))]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        assert_eq!((retries(&events), end), (2, END_TURN), "{status}");
        let [one, two, three] = &upstream.requests()[..] else {
            panic!("three requests")
        };
        assert_eq!((&one.body, &two.body), (&two.body, &three.body), "the same request");
    }
}

#[tokio::test]
async fn a_request_says_how_often() {
    let upstream = Upstream::start([busy(503)]).await;
    let mut once = request("u1:hello");
    once.options.max_retries = Some(0);
    let (events, end) = play(&provider(&upstream), once).await;
    assert_eq!((retries(&events), error(end).kind()), (0, Kind::Overloaded));

    let mut settings = settings(&upstream);
    settings.max_retries = Some(0);
    upstream.push(busy(503));
    upstream.push(Reply::events(whole("a")));
    let mut twice = request("u1:hello");
    twice.options.max_retries = Some(1);
    let (events, end) = play(&provider_with(&settings), twice).await;
    assert_eq!((retries(&events), end), (1, END_TURN));
}

/// An error that comes as the first event, where the status was 200, and a stream that broke before it said anything.
#[tokio::test]
async fn a_stream_that_has_shown_nothing_is_asked_for_again() {
    let role = delta(json!({ "role": "assistant", "content": "" }));
    let firsts = [
        Reply::events(role.clone() + &sse(json!({ "error": { "code": 502, "message": "later" } }))),
        Reply::events(role.clone()),
        Reply::events(role).close(),
        Reply::events(""),
    ];
    for first in firsts {
        let upstream = Upstream::start([first, Reply::events(whole("a"))]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        let account = Account::of(&events);
        assert_eq!((account.text.as_str(), retries(&events), end), ("a", 1, END_TURN));
    }
}

/// llama.cpp says that it keeps its connections, and closes them behind every stream: a round that follows at once is
/// the one that finds out.
#[tokio::test]
async fn a_connection_that_is_gone_costs_nothing() {
    let upstream = Upstream::start([Reply::hang_up(), Reply::events(whole("a"))]).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!((retries(&events), end), (0, END_TURN));

    let hang_ups = [Reply::hang_up(), Reply::hang_up(), Reply::events(whole("a"))];
    let upstream = Upstream::start(hang_ups).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!(
        (retries(&events), end),
        (1, END_TURN),
        "the second time it is a failure that may pass"
    );
}

#[tokio::test]
async fn what_has_begun_is_not_begun_again() {
    let begun = [
        says("a"),
        delta(json!({ "reasoning": "hm" })),
        delta(json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "f" } }] })),
    ];
    for first in begun {
        let upstream = Upstream::start([Reply::events(first).close()]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        assert_eq!((retries(&events), error(end).kind()), (0, Kind::Network));
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[tokio::test]
async fn what_cannot_pass_is_the_end() {
    for (status, kind) in [(400, Kind::Upstream), (401, Kind::AuthRequired), (404, Kind::NotFound)] {
        let refusal = Reply::json(status, json!({ "error": { "message": format!("bad key {KEY}") } }));
        let upstream = Upstream::start([refusal]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        assert_eq!((retries(&events), error(end).kind()), (0, kind));
    }
}

#[tokio::test]
async fn limits_are_told() {
    let reply = Reply::events(whole("a")).header("x-ratelimit-remaining-requests", "9");
    let upstream = Upstream::start([reply]).await;
    let (events, _) = play(&provider(&upstream), request("u1:hello")).await;
    let Some(Event::RateLimit(limit)) = events.first() else {
        panic!("{events:?}");
    };
    assert_eq!(limit.remaining_requests, Some(9));
}

/// Silence ends the run, before the first delta as well as behind it, and is not waited for twice.
#[tokio::test]
async fn silence_is_a_failure() {
    for stream in [String::new(), says("Half")] {
        let upstream = Upstream::start([Reply::events(&stream).stall()]).await;
        let mut settings = settings(&upstream);
        settings.idle_timeout = Some(0.2);
        let (events, end) = play(&provider_with(&settings), request("u1:hello")).await;
        assert_eq!(retries(&events), 0);
        let error = error(end);
        assert_eq!(
            (error.kind(), error.message.contains("silent")),
            (Kind::Network, true),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_cancel_ends_whatever_is_waited_for() {
    let rows = [
        ("the status", Reply::silence()),
        ("the stream", Reply::events(says("Half")).stall()),
        ("a pause", Reply::json(503, json!({})).header("retry-after", "60")),
    ];
    for (what, reply) in rows {
        let upstream = Upstream::start([reply]).await;
        let request = request("u1:hello");
        let cancel = request.cancel.clone();
        let provider = provider(&upstream);
        let mut stream = provider.answer(request);
        let since = Instant::now();
        let mut end = None;
        tokio::join!(
            async {
                upstream.request(1).await;
                cancel.cancel();
            },
            async {
                while let Some(event) = stream.next().await {
                    end = Some(event);
                }
            }
        );
        assert_eq!(end, Some(Event::End(End::Cancelled)), "{what}");
        assert!(since.elapsed() < Duration::from_secs(10), "{what}");
    }
}

#[tokio::test]
async fn a_request_that_was_cancelled_before_is_never_sent() {
    let upstream = Upstream::start([]).await;
    let request = request("u1:hello");
    request.cancel.cancel();
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!((end, upstream.requests().len()), (End::Cancelled, 0));
}
