//! The request that opens a turn: what it sends, when it is sent again, and what its failures say.

use std::time::Duration;

use assistd::config::Service;
use assistd::error::Kind;
use assistd::protocol::{Image, Options, Part, RateLimit};
use assistd::provider::credentials::Credentials;

use super::*;
use crate::upstream::{Recorded, Reply};

fn hello() -> Reply {
    Reply::events(whole_turn("Hello!"))
}

fn refused(status: u16, message: &str) -> Reply {
    Reply::json(
        status,
        json!({ "error": { "message": message, "type": "x", "param": null, "code": null } }),
    )
    .header("retry-after-ms", "1")
}

/// The only request of a turn that is answered well.
async fn sent(request: Request) -> Recorded {
    let upstream = Upstream::start([hello()]).await;
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!(end, END_TURN);
    let [sent] = &upstream.requests()[..] else {
        panic!("one request a turn");
    };
    sent.clone()
}

#[tokio::test]
async fn the_first_turn_is_one_request() {
    let sent = sent(request("u1:one a1:two u2:three")).await;
    assert_eq!(
        (sent.method.as_str(), sent.target.as_str()),
        ("POST", "/v1/threads/runs")
    );
    assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(sent.header("openai-beta"), Some("assistants=v2"));
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(
        sent.json(),
        json!({ "assistant_id": "asst_1", "stream": true, "thread": { "messages": [
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": "two" },
            { "role": "user", "content": "three" }
        ] } }),
        "what was not asked for is not sent"
    );
}

#[tokio::test]
async fn a_later_turn_brings_only_what_is_new() {
    let mut request = request("u1:one a1:two u2:three");
    request.anchor = Some(anchor("u1"));
    let sent = sent(request).await;
    assert_eq!(sent.target, "/v1/threads/thread_1/runs");
    assert_eq!(
        sent.json()["additional_messages"],
        json!([{ "role": "user", "content": "three" }])
    );
}

#[tokio::test]
async fn an_answer_that_is_tried_again_gets_a_new_thread() {
    let mut request = request("u1:one a1:two u2:three");
    request.anchor = Some(anchor("u2"));
    let sent = sent(request).await;
    assert_eq!(sent.target, "/v1/threads/runs");
    assert_eq!(sent.json()["thread"]["messages"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn what_was_asked_for_is_sent() {
    let mut request = request("u1:one u2:two");
    request.anchor = Some(anchor("u1"));
    request.model = Some("gpt-4o".into());
    request.instructions = Some("Be brief.".into());
    request.options = Options {
        temperature: Some(0.5),
        top_p: Some(0.9),
        max_output_tokens: Some(300),
        tool_choice: Some("weather".into()),
        parallel_tool_calls: Some(false),
        reasoning_effort: Some("low".into()),
        seed: Some(7),
        ..Options::default()
    };
    let mut body = sent(request.clone()).await.json();
    let body = body.as_object_mut().unwrap();
    body.remove("additional_messages");
    assert_eq!(
        Value::Object(body.clone()),
        json!({
            "assistant_id": "asst_1", "stream": true, "model": "gpt-4o", "instructions": "Be brief.",
            "tool_choice": { "type": "function", "function": { "name": "weather" } },
            "temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 300, "parallel_tool_calls": false,
            "reasoning_effort": "low"
        })
    );
    request.anchor = None;
    assert_eq!(
        sent(request).await.json().get("reasoning_effort"),
        None,
        "a new thread's run has no member for it"
    );
}

#[tokio::test]
async fn parts_of_a_message_keep_their_order() {
    let mut request = request("u1:x");
    let message = &mut messages(&mut request)[0];
    let image = |image: Image| {
        Part::Image(Image {
            detail: Some("low".into()),
            ..image
        })
    };
    message.content = vec![
        Part::text("Look"),
        image(Image {
            url: Some("https://x.test/a.png".into()),
            ..Image::default()
        }),
        image(Image {
            file_id: Some("file_1".into()),
            ..Image::default()
        }),
        Part::Resource {
            uri: "file:///a.rs".into(),
            text: Some("fn main() {}".into()),
            mime_type: None,
            selection: None,
        },
    ];
    let body = sent(request).await.json();
    assert_eq!(
        body["thread"]["messages"],
        json!([{ "role": "user",
            "content": [
                { "type": "text", "text": "Look" },
                { "type": "image_url", "image_url": { "url": "https://x.test/a.png", "detail": "low" } },
                { "type": "image_file", "image_file": { "file_id": "file_1", "detail": "low" } },
                { "type": "text", "text": "file:///a.rs\n```rs\nfn main() {}\n```\n" }
            ] }])
    );
}

#[tokio::test]
async fn the_form_of_the_answer_is_told_in_the_upstreams_words() {
    let schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let rows = [
        (json!({ "type": "text" }), json!({ "type": "text" })),
        (json!({ "type": "jsonObject" }), json!({ "type": "json_object" })),
        (
            json!({ "type": "jsonSchema", "schema": schema }),
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema, "strict": true } }),
        ),
        (
            json!({ "type": "jsonSchema", "name": "n", "description": "d", "schema": schema, "strict": false }),
            json!({ "type": "json_schema",
                "json_schema": { "name": "n", "description": "d", "schema": schema, "strict": false } }),
        ),
    ];
    for (format, expected) in rows {
        let mut request = request("u1:one");
        request.options.format = Some(serde_json::from_value(format).unwrap());
        assert_eq!(sent(request).await.json()["response_format"], expected);
    }
}

#[tokio::test]
async fn azure_and_foundry_have_their_own_credentials_and_versions() {
    let upstream = Upstream::start([hello(), hello()]).await;
    let mut settings = settings(&upstream);
    settings.service = Some(Service::Azure);
    settings.base_url = Some(upstream.url().replace("/v1", "/openai"));
    settings.api_version = Some("2024-08-01-preview".into());
    play(&provider_with(&settings), request("u1:hello")).await;
    settings.service = Some(Service::Foundry);
    settings.base_url = Some(upstream.url().replace("/v1", "/api/projects/p/"));
    settings.api_version = None;
    play(&provider_with(&settings), request("u1:hello")).await;

    let [azure, foundry] = &upstream.requests()[..] else {
        panic!("one request each");
    };
    assert_eq!(azure.target, "/openai/threads/runs?api-version=2024-08-01-preview");
    assert_eq!(
        (azure.header("api-key"), azure.header("authorization")),
        (Some(KEY), None)
    );
    assert_eq!(foundry.target, "/api/projects/p/threads/runs?api-version=v1");
    assert_eq!(foundry.header("authorization"), Some(&*format!("Bearer {KEY}")));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_announced() {
    for status in [408, 409, 429, 500, 503] {
        let upstream = Upstream::start([refused(status, "not now"), refused(status, "not now"), hello()]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        assert_eq!((retries(&events), end), (2, END_TURN), "{status}");
        let Event::Retry { attempt, delay, error } = &events[1] else {
            panic!("a retry first: {events:?}");
        };
        assert_eq!((*attempt, *delay), (2, Duration::from_millis(1)));
        assert_eq!(error.data.upstream.as_ref().unwrap().status, Some(status));
    }
}

#[tokio::test]
async fn tries_are_counted_and_what_cannot_pass_is_not_tried_again() {
    let upstream = Upstream::start((0..3).map(|_| refused(500, "broken"))).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!((retries(&events), error(end).kind()), (2, Kind::Upstream));

    for (status, kind) in [
        (400, Kind::Upstream),
        (401, Kind::AuthRequired),
        (403, Kind::AuthRequired),
        (404, Kind::NotFound),
    ] {
        let upstream = Upstream::start([refused(status, &format!("bad, {KEY}"))]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        let error = error(end);
        assert_eq!((retries(&events), error.kind(), error.data.retryable), (0, kind, false));
        assert_eq!(error.data.upstream.unwrap().message.as_deref(), Some("bad, ***"));
    }
}

#[tokio::test]
async fn a_request_that_may_have_begun_a_run_is_not_sent_twice() {
    for reply in [Reply::hang_up(), Reply::hang_up().reset()] {
        let upstream = Upstream::start([reply]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        let error = error(end);
        assert_eq!(
            (retries(&events), error.kind(), error.data.retryable),
            (0, Kind::Network, true)
        );
        assert!(error.message.contains("broke after the request was sent"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again_and_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut settings = ProviderSettings::new(Dialect::Assistants);
    settings.base_url = Some(format!("http://{address}/v1"));
    settings.max_retries = Some(1);
    let (events, end) = play(&provider_with(&settings), request("u1:hello")).await;
    let error = error(end);
    assert_eq!((retries(&events), error.kind()), (1, Kind::Network));
    assert_eq!(
        error.message,
        "failed to reach provider `test` at 127.0.0.1: connection refused"
    );
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_named() {
    let mut settings = ProviderSettings::new(Dialect::Assistants);
    settings.base_url = Some("http://assistd.invalid/v1".into());
    settings.max_retries = Some(0);
    let (_, end) = play(&provider_with(&settings), request("u1:hello")).await;
    let error = error(end);
    assert_eq!(
        error.message,
        "failed to reach provider `test` at assistd.invalid: its name cannot be resolved (DNS)"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let upstream = Upstream::start([]).await;
    let mut settings = settings(&upstream);
    settings.base_url = Some(upstream.url().replace("http:", "https:"));
    settings.max_retries = Some(0);
    let (_, end) = play(&provider_with(&settings), request("u1:hello")).await;
    let error = error(end);
    assert_eq!(error.kind(), Kind::Network);
    assert!(
        error
            .message
            .starts_with("failed to reach provider `test` at 127.0.0.1: TLS: "),
        "{error}"
    );
    assert!(error.data.hint.unwrap().contains("`http://`"));
}

#[tokio::test]
async fn a_thread_that_is_gone_is_begun_anew_with_the_whole_history() {
    let upstream = Upstream::start([refused(404, "No thread found with id 'thread_1'."), hello()]).await;
    let mut request = request("u1:one a1:two u2:three");
    request.anchor = Some(anchor("u1"));
    let (events, end) = play(&provider(&upstream), request).await;
    assert_eq!((retries(&events), end), (1, END_TURN));
    let again = &upstream.requests()[1];
    assert_eq!(again.path(), "/v1/threads/runs");
    assert_eq!(again.json()["thread"]["messages"].as_array().unwrap().len(), 3);
    assert_eq!(last_anchor(&events).unwrap()["synced"], "u2");
}

#[tokio::test]
async fn limits_are_passed_on() {
    let reply = hello()
        .header("x-ratelimit-remaining-requests", "59")
        .header("x-ratelimit-reset-tokens", "6m0s");
    let upstream = Upstream::start([reply]).await;
    let (events, _) = play(&provider(&upstream), request("u1:hello")).await;
    let limit = RateLimit {
        remaining_requests: Some(59),
        reset_tokens: Some("6m0s".into()),
        ..RateLimit::default()
    };
    assert_eq!(events[0], Event::RateLimit(limit));
}

#[tokio::test]
async fn an_error_in_a_good_answer_is_an_error() {
    let told = json!({ "error": { "message": "Loading model", "type": "unavailable_error", "code": 503 } });
    let split = Reply::json(200, told).cut(crate::upstream::Cut::At(9));
    let not_streamed = Reply::status(200).bytes("\n{\"id\":\"run_1\",\"object\":\"thread.run\"}");
    let rows = [
        (split, "provider `test` has no capacity at the moment: Loading model"),
        (
            not_streamed,
            "provider `test` answered with JSON where a stream of events was asked for",
        ),
        (
            Reply::status(200).bytes("\n<!doctype html><title>Sign in</title>"),
            "provider `test` answered with a web page",
        ),
        (
            Reply::status(200)
                .header("content-encoding", "gzip")
                .bytes([0x1f, 0x8b, 8, 0]),
            "provider `test` compressed its answer (`gzip`), which it was not asked to do",
        ),
    ];
    for (reply, message) in rows {
        let upstream = Upstream::start([reply]).await;
        let (_, end) = play(&provider(&upstream), request("u1:hello")).await;
        assert_eq!(error(end).message, message);
    }
}

#[tokio::test]
async fn a_missing_content_type_is_nobodys_loss() {
    let upstream = Upstream::start([Reply::status(200).bytes(whole_turn("Hello!"))]).await;
    let (events, _) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!(text(&events), "Hello!");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_place() {
    let other = Upstream::start([]).await;
    let away = Reply::status(307).header("location", &format!("{}/elsewhere", other.url()));
    let upstream = Upstream::start([away]).await;
    let (_, end) = play(&provider(&upstream), request("u1:hello")).await;
    let error = error(end);
    assert!(error.message.contains("credentials must not go"), "{error}");
    assert!(other.requests().is_empty());

    let upstream = Upstream::start([Reply::status(308).header("location", "/v2/threads/runs"), hello()]).await;
    let (_, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!(end, END_TURN);
    let again = &upstream.requests()[1];
    assert_eq!((again.method.as_str(), again.path()), ("POST", "/v2/threads/runs"));
    assert_eq!(again.header("authorization"), Some(&*format!("Bearer {KEY}")));
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_expired_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let script = format!("echo x >> {0}; echo key-$(wc -l < {0} | tr -d ' ')", count.display());
    let upstream = Upstream::start([refused(401, "expired"), hello(), hello()]).await;
    let mut settings = settings(&upstream);
    settings.api_key_command = Some(vec!["sh".into(), "-c".into(), script]);
    let provider = Assistants::new(
        "test",
        &settings,
        Some("asst_1".into()),
        Credentials::new("test", None, settings.api_key_command.clone()),
        Http::new(),
    );
    provider.prepare().await.unwrap();
    for _ in 0..2 {
        let (events, end) = play(&provider, request("u1:hello")).await;
        assert_eq!((retries(&events), end), (0, END_TURN));
    }
    let keys: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["Bearer key-1", "Bearer key-2", "Bearer key-2"]);
}

#[tokio::test]
async fn the_upstreams_assistants_are_listed_in_pages() {
    let page = |from: u32, to: u32, has_more: bool| {
        let assistants: Vec<Value> = (from..to)
            .map(|i| {
                json!({ "id": format!("asst_{i}"), "name": "N", "model": "m", "tools": [
            { "type": "file_search" }, { "type": "function", "function": { "name": "weather" } }] })
            })
            .collect();
        Reply::json(
            200,
            json!({ "object": "list", "data": assistants, "has_more": has_more }),
        )
    };
    let upstream = Upstream::start([page(0, 100, true), page(100, 130, true)]).await;
    let entries = provider(&upstream).assistants().await.unwrap();
    assert_eq!(entries.len(), 130);
    let entry = &entries[129];
    assert_eq!(
        (entry.name.as_str(), entry.upstream_id.as_deref()),
        ("asst_129", Some("asst_129"))
    );
    assert_eq!((entry.provider.as_str(), entry.model.as_deref()), ("test", Some("m")));
    assert_eq!(entry.tools, ["file_search", "weather"]);
    let targets: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| request.target.clone())
        .collect();
    assert_eq!(
        targets,
        ["/v1/assistants?limit=100", "/v1/assistants?limit=100&after=asst_99"]
    );
}
