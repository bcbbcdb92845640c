//! How responses end, and what is done about those that fail.

use std::sync::Arc;

use assistd::error::Kind;
use tokio::sync::Notify;

use super::*;

/// A stream that begins, says something, and then this.
fn half_said(then: &str) -> String {
    begun() + &message(0) + &says(0, "Once ") + &says(0, "upon") + then
}

/// Settings that ask again at most this often.
fn patient(upstream: &Upstream, max_retries: u32) -> ProviderSettings {
    ProviderSettings {
        max_retries: Some(max_retries),
        ..settings(upstream)
    }
}

#[tokio::test]
async fn every_way_to_end_early_keeps_the_text() {
    let incomplete = |details: Value| ended("incomplete", json!({ "incomplete_details": details }));
    let rows = [
        (
            incomplete(json!({ "reason": "max_output_tokens" })),
            End::Incomplete(StopReason::MaxTokens),
        ),
        (
            incomplete(json!({ "reason": "length" })),
            End::Incomplete(StopReason::MaxTokens),
        ),
        (incomplete(json!(null)), End::Incomplete(StopReason::MaxTokens)),
        (
            incomplete(json!({ "reason": "content_filter" })),
            End::Incomplete(StopReason::ContentFilter),
        ),
        (
            sse(
                "response.completed",
                json!({ "response": { "status": "incomplete", "incomplete_details": { "reason": "length" } } }),
            ),
            End::Incomplete(StopReason::MaxTokens),
        ),
        (ended("cancelled", json!({})), End::Cancelled),
    ];
    for (then, expected) in rows {
        let (events, end) = play_stream(half_said(&then)).await;
        assert_eq!((text(&events).as_str(), end), ("Once upon", expected), "{then}");
    }
}

#[tokio::test]
async fn a_call_that_was_cut_is_not_made() {
    let call = json!({ "type": "function_call", "id": "fc", "call_id": "a", "name": "f", "arguments": "{\"x", "status": "incomplete" });
    let cut = json!({ "incomplete_details": { "reason": "max_output_tokens" } });
    let (_, end) = play_stream(begun() + &item("done", 0, call) + &ended("incomplete", cut)).await;
    assert_eq!(end, End::Incomplete(StopReason::MaxTokens));
}

#[tokio::test]
async fn a_failed_response_says_why() {
    let rows = [
        ("rate_limit_exceeded", "Rate limit reached", Kind::RateLimited, true),
        (
            "insufficient_quota",
            "You exceeded your current quota",
            Kind::QuotaExceeded,
            false,
        ),
        ("server_error", "An error occurred", Kind::Upstream, true),
        ("invalid_prompt", "flagged", Kind::ContentFiltered, false),
        ("context_length_exceeded", "too long", Kind::ContextOverflow, false),
    ];
    for (code, message, kind, retryable) in rows {
        let failed = ended("failed", json!({ "error": { "code": code, "message": message } }));
        let (events, end) = play_stream(half_said(&failed)).await;
        let error = error(end);
        assert_eq!(
            (error.kind(), error.data.retryable),
            (kind, retryable),
            "{code}: {error}"
        );
        assert!(error.message.contains(message), "{error}");
        assert_eq!(error.data.upstream.unwrap().code.as_deref(), Some(code));
        assert_eq!(text(&events), "Once upon");
        assert_eq!(retries(&events), 0, "nothing is started twice after the first delta");
    }
}

#[tokio::test]
async fn error_events_come_in_both_shapes_and_without_a_name() {
    let flat = json!({ "type": "error", "code": "server_error", "message": "it broke", "param": null });
    let nested = json!({ "type": "error", "sequence_number": 2, "error": { "type": "server_error", "code": "server_error", "message": "it broke", "param": null } });
    let streams = [
        format!("event: error\ndata: {flat}\n\n"),
        format!("data: {flat}\n\n"),
        format!("event: error\ndata: {nested}\n\n"),
        format!("data: {nested}\n\n"),
        "data: {\"error\":{\"message\":\"it broke\",\"code\":\"server_error\"}}\n\n".to_owned(),
    ];
    for stream in streams {
        let (events, end) = play_stream(half_said(&stream)).await;
        let error = error(end);
        assert_eq!(error.message, "provider `test` failed: it broke", "{stream}");
        assert_eq!(text(&events), "Once upon");
    }
}

#[tokio::test]
async fn a_status_in_place_of_a_code_counts_as_that_status() {
    for code in [json!("404"), json!(404)] {
        let stream = begun() + &sse("error", json!({ "code": code, "message": "Model 'x' not found" }));
        let error = error(play_stream(stream).await.1);
        assert_eq!(error.kind(), Kind::NotFound);
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_the_response_has_failed() {
    for tail in [
        "",
        "event: response.completed\ndata: {\"type\":\"response.completed\"}\n",
        "data: [DONE]\n\n",
    ] {
        let (events, end) = play_stream(half_said(tail)).await;
        let error = error(end);
        assert_eq!((error.kind(), error.data.retryable), (Kind::Network, true));
        assert_eq!(
            error.message,
            "provider `test` failed: the stream ended before the response did"
        );
        assert_eq!(text(&events), "Once upon");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_first_delta_is_not_begun_again() {
    for broken in [
        Reply::events(half_said("")).close(),
        Reply::events(half_said("")).reset(),
    ] {
        let upstream = Upstream::start([broken]).await;
        let (events, end) = play(&settings(&upstream), request("u1:hello")).await;
        assert_eq!(error(end).kind(), Kind::Network);
        assert_eq!((text(&events).as_str(), retries(&events)), ("Once upon", 0));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_before_anything_is_shown_is_asked_for_again() {
    let failed =
        |code: &str| Reply::events(begun() + &ended("failed", json!({ "error": { "code": code, "message": "m" } })));
    let refused = |status: u16| Reply::json(status, json!({ "error": { "message": "later" } }));
    let rows = [
        refused(429).header("retry-after", "3"),
        refused(408),
        refused(409),
        refused(500),
        refused(503),
        failed("server_error"),
        failed("rate_limit_exceeded"),
        Reply::events(begun()).close(),
        Reply::events(begun()).reset(),
        Reply::events(begun()),
        Reply::json(200, json!({ "error": { "message": "busy", "code": 503 } })),
    ];
    for (place, first) in rows.into_iter().enumerate() {
        let upstream = Upstream::start([first.clone(), Reply::events(whole_turn("Hello!"))]).await;
        let (events, end) = play(&settings(&upstream), request("u1:hello")).await;
        assert_eq!((text(&events).as_str(), end), ("Hello!", END_TURN), "row {place}");
        assert_eq!(retries(&events), 1, "row {place}");
        if place == 0 {
            let delay = events.iter().find_map(|event| match event {
                Event::Retry { delay, .. } => Some(delay.as_secs()),
                _ => None,
            });
            assert_eq!(delay, Some(3));
        }
        let upstream = Upstream::start([first]).await;
        let (events, end) = play(&patient(&upstream, 0), request("u1:hello")).await;
        error(end);
        assert_eq!(retries(&events), 0, "row {place}");
    }
}

#[tokio::test]
async fn a_request_may_say_that_it_is_not_to_be_repeated() {
    let upstream = Upstream::start([Reply::json(500, json!({}))]).await;
    let mut once = request("u1:hello");
    once.options.max_retries = Some(0);
    let (events, end) = play(&settings(&upstream), once).await;
    error(end);
    assert_eq!(retries(&events), 0);
}

#[tokio::test]
async fn what_no_repetition_mends_is_told_at_once() {
    for status in [400, 401, 403, 404, 422] {
        let upstream = Upstream::start([Reply::json(status, json!({ "error": { "message": "no" } }))]).await;
        let (events, end) = play(&settings(&upstream), request("u1:hello")).await;
        let error = error(end);
        assert_eq!(error.data.upstream.unwrap().status, Some(status));
        assert_eq!(retries(&events), 0);
    }
}

#[tokio::test]
async fn the_upstreams_limits_are_told() {
    let reply = Reply::events(whole_turn("Hello!")).header("x-ratelimit-remaining-requests", "7");
    let upstream = Upstream::start([reply]).await;
    let (events, _) = play(&settings(&upstream), request("u1:hello")).await;
    assert!(
        matches!(&events[0], Event::RateLimit(limit) if limit.remaining_requests == Some(7)),
        "{:?}",
        events[0]
    );
}

#[tokio::test]
async fn a_silent_upstream_is_given_up() {
    let upstream = Upstream::start([Reply::events(half_said("")).stall()]).await;
    let mut settings = settings(&upstream);
    settings.idle_timeout = Some(0.05);
    let (events, end) = play(&settings, request("u1:hello")).await;
    assert_eq!(error(end).message, "provider `test` was silent for 0.05 s");
    assert_eq!(text(&events), "Once upon");
}

#[tokio::test]
async fn a_cancelled_answer_ends_at_once_and_drops_its_connection() {
    let gate = Arc::new(Notify::new());
    let upstream = Upstream::start([Reply::events(half_said("")).wait(&gate)]).await;
    let provider = provider_with(&settings(&upstream));
    let request = request("u1:hello");
    let cancel = request.cancel.clone();
    let mut answer = provider.answer(request);
    while let Some(event) = answer.next().await {
        if matches!(event, Event::Delta { .. }) {
            cancel.cancel();
            break;
        }
    }
    let (events, end) = collect(answer).await;
    assert_eq!((text(&events).as_str(), end), ("", End::Cancelled));
    assert_eq!(upstream.requests().len(), 1, "there is nothing to cancel upstream");
}

#[tokio::test]
async fn cancelled_before_it_begins_nothing_is_sent() {
    let upstream = Upstream::start([]).await;
    let request = request("u1:hello");
    request.cancel.cancel();
    let (events, end) = play(&settings(&upstream), request).await;
    assert_eq!((events, end), (Vec::new(), End::Cancelled));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn after_each_failure_the_next_turn_works() {
    let failures = [
        vec![Reply::events(half_said("")).reset()],
        vec![Reply::events(half_said("")).close()],
        vec![Reply::events(begun() + "event: response.output_text.delta\ndata: {\"delta\":\"\u{e9}").close()],
        // A connection that was kept may be gone: a request that changes nothing is sent again at once.
        vec![Reply::hang_up(), Reply::hang_up()],
        vec![Reply::json(400, json!({ "error": { "message": "no" } }))],
    ];
    for mut replies in failures {
        replies.push(Reply::events(whole_turn("Hello!")));
        let upstream = Upstream::start(replies).await;
        let provider = provider_with(&patient(&upstream, 0));
        let (_, end) = collect(provider.answer(request("u1:hello"))).await;
        error(end);
        let (events, end) = collect(provider.answer(request("u1:hello"))).await;
        assert_eq!((text(&events).as_str(), end), ("Hello!", END_TURN));
    }
}
