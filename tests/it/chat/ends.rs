//! How answers end, and how they fail.

use assistd::error::Kind;

use super::*;

#[tokio::test]
async fn each_reason_is_an_end() {
    let rows = [
        ("stop", END_TURN),
        ("eos_token", END_TURN),
        ("COMPLETE", END_TURN),
        ("length", End::Incomplete(StopReason::MaxTokens)),
        ("MAX_TOKENS", End::Incomplete(StopReason::MaxTokens)),
        ("model_length", End::Incomplete(StopReason::MaxTokens)),
        (
            "model_context_window_exceeded",
            End::Incomplete(StopReason::ContextFull),
        ),
        ("content_filter", End::Incomplete(StopReason::ContentFilter)),
        ("SAFETY", End::Incomplete(StopReason::ContentFilter)),
    ];
    for (reason, expected) in rows {
        let (account, end) = played(says("a") + &finish(reason) + done()).await;
        assert_eq!((account.text.as_str(), end), ("a", expected), "{reason}");
    }
    let (account, end) = played(delta(json!({ "refusal": "No." })) + &finish("stop") + done()).await;
    assert_eq!(
        (account.refusal.as_str(), end),
        ("No.", End::Completed(StopReason::Refusal))
    );
}

/// Errors in the middle of a stream, in every shape. The text stays, and nothing is sent again.
#[tokio::test]
async fn an_error_in_the_stream_is_the_end_of_it() {
    let rows = [
        (
            "a member `error`",
            sse(json!({ "error": { "message": "boom", "code": "server_error" } })),
            Kind::Upstream,
            true,
        ),
        (
            "OpenRouter: beside a reason",
            sse(
                json!({ "id": "g", "error": { "code": 502, "message": "boom" }, "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": "error" }] }),
            ),
            Kind::Upstream,
            true,
        ),
        (
            "a code that is a status",
            sse(json!({ "error": { "code": 429, "message": "boom" } })),
            Kind::RateLimited,
            true,
        ),
        (
            "vLLM: an object that is an error",
            sse(json!({ "object": "error", "message": "boom", "type": "BadRequestError", "code": 400 })),
            Kind::Upstream,
            false,
        ),
        ("vLLM: an empty one", sse(json!({ "error": {} })), Kind::Upstream, true),
        ("a text", sse(json!({ "error": "boom" })), Kind::Upstream, true),
        (
            "an event of that name",
            format!("event: error\ndata: {}\n\n", json!({ "message": "boom" })),
            Kind::Upstream,
            true,
        ),
        ("FastAPI", sse(json!({ "detail": "boom" })), Kind::Upstream, true),
        (
            "of a choice",
            sse(
                json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "error", "error": { "code": 503, "message": "boom" } }] }),
            ),
            Kind::Overloaded,
            true,
        ),
        ("only a reason", finish("error"), Kind::Upstream, true),
        (
            "DeepSeek",
            finish("insufficient_system_resource"),
            Kind::Overloaded,
            true,
        ),
    ];
    for (what, event, kind, retryable) in rows {
        let (account, end) = played(says("Half") + &event + done()).await;
        assert_eq!(account.text, "Half", "{what}");
        let error = error(end);
        assert_eq!(
            (error.kind(), error.data.retryable),
            (kind, retryable),
            "{what}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_error_behind_the_end_changes_nothing() {
    let (account, end) =
        played(says("a") + &finish("stop") + &sse(json!({ "error": { "message": "boom" } })) + done()).await;
    assert_eq!((account.text.as_str(), end), ("a", END_TURN));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_success() {
    let half = || Reply::events(says("Half"));
    for (what, reply) in [("ended", half()), ("closed", half().close()), ("reset", half().reset())] {
        let upstream = Upstream::start([reply]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        assert_eq!(Account::of(&events).text, "Half", "{what}");
        let error = error(end);
        assert_eq!(
            (error.kind(), error.data.retryable),
            (Kind::Network, true),
            "{what}: {error:?}"
        );
    }
    // Gateways say `[DONE]` whatever happened before.
    let (account, end) = played(says("Half") + done()).await;
    assert_eq!(account.text, "Half");
    assert_eq!(
        error(end).message,
        "provider `test` broke off: its stream ended without a reason for the end"
    );
}

/// `[DONE]` is that and nothing longer.
#[tokio::test]
async fn only_the_whole_sentinel_ends_the_stream() {
    let (account, end) = played(says("a") + "data: [DONE]x\n\n" + &whole("b")).await;
    assert_eq!((account.text.as_str(), end), ("ab", END_TURN));
}

/// A plain JSON text where events were asked for: an error, or a server that does not stream.
#[tokio::test]
async fn json_in_place_of_a_stream_is_told() {
    let refusal = Reply::json(200, json!({ "error": { "message": "invalid model", "code": 400 } }));
    let whole = Reply::json(
        200,
        json!({ "choices": [{ "index": 0, "message": { "content": "a" } }] }),
    );
    let upstream = Upstream::start([refusal, whole]).await;
    let provider = provider(&upstream);
    let (_, end) = play(&provider, request("u1:hello")).await;
    assert!(error(end).message.contains("invalid model"));
    let (_, end) = play(&provider, request("u1:hello")).await;
    assert!(error(end).message.contains("answered with JSON"));
}

/// A base URL that leads beside the API, as without its `/v1`: asking again would not help.
#[tokio::test]
async fn a_web_page_is_no_answer() {
    let page = Reply::status(200)
        .header("content-type", "text/html; charset=utf-8")
        .bytes("<p>hello");
    let upstream = Upstream::start([page]).await;
    let (_, end) = play(&provider(&upstream), request("u1:hello")).await;
    let error = error(end);
    assert_eq!(error.message, "provider `test` answered with a web page");
    assert!(!error.data.retryable && error.data.hint.is_some_and(|hint| hint.contains("`/v1`")));
    assert_eq!(upstream.requests().len(), 1);
}

/// A server that keeps its connection open behind the end holds nobody up for long.
#[tokio::test]
async fn an_end_is_an_end_though_the_connection_stays_open() {
    for stream in [says("a") + &finish("stop"), whole("a")] {
        let upstream = Upstream::start([Reply::events(stream).stall()]).await;
        let since = std::time::Instant::now();
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        assert_eq!((Account::of(&events).text.as_str(), end), ("a", END_TURN));
        assert!(since.elapsed() < std::time::Duration::from_secs(10));
    }
}
