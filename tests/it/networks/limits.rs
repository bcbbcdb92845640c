//! What an upstream says of its limits, as a client sees it; and clients that want no repetitions.

use std::time::Duration;

use assistd::protocol::Options;
use assistd::provider::Event;
use serde_json::json;

use crate::assistants::{provider, provider_with, settings, whole_turn};
use crate::dialect::{END_TURN, error, play, request, retries};
use crate::upstream::{Reply, Upstream};

fn refusal(header: &str, value: &str) -> Reply {
    Reply::json(
        429,
        json!({ "error": { "message": "slow down", "code": "rate_limit_exceeded" } }),
    )
    .header(header, value)
}

#[tokio::test(start_paused = true)]
async fn the_time_until_a_limit_is_reset_is_waited_for_and_shown() {
    let refusal = refusal("x-ratelimit-reset-tokens", "1m30s").header("x-ratelimit-remaining-tokens", "0");
    let upstream = Upstream::start([refusal, Reply::events(whole_turn("hi"))]).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!(end, END_TURN);
    let delays: Vec<Duration> = events
        .iter()
        .filter_map(|event| match event {
            Event::Retry { delay, error, .. } => {
                assert_eq!(error.data.retry_after_ms, Some(90_000));
                Some(*delay)
            }
            _ => None,
        })
        .collect();
    assert_eq!(delays, [Duration::from_secs(90)]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_is_far_off_is_the_answer() {
    let upstream = Upstream::start([refusal("x-ratelimit-reset-requests", "6m0s")]).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!(retries(&events), 0);
    assert_eq!(error(end).data.retry_after_ms, Some(360_000));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_say_how_often_it_is_repeated() {
    let upstream = Upstream::start([refusal("retry-after", "1")]).await;
    let mut request = request("u1:hello");
    request.options = Options {
        max_retries: Some(0),
        ..Options::default()
    };
    let mut settings = settings(&upstream);
    settings.max_retries = Some(5);
    let (events, end) = play(&provider_with(&settings), request).await;
    assert_eq!(retries(&events), 0);
    assert_eq!(error(end).data.retry_after_ms, Some(1000));
}
