//! Failures as the client is told of them: kinds, secrets, delays, shapes.

use super::*;

fn refused(status: u16, headers: &[(&str, &str)], body: &str) -> Failure {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(
            reqwest::header::HeaderName::try_from(*name).unwrap(),
            value.parse().unwrap(),
        );
    }
    let peer = Peer::new("p", Some(Secret::new("sk-secret")));
    peer.refused(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes())
}

#[test]
fn statuses_and_codes_become_kinds() {
    let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let filter = r#"{"error":{"message":"filtered","code":"content_filter"}}"#;
    let context = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
    let rows = [
        (401, "", Kind::AuthRequired, false, false),
        (403, "{}", Kind::AuthRequired, false, false),
        (404, "", Kind::NotFound, false, false),
        (400, r#"{"error":{"message":"bad"}}"#, Kind::Upstream, false, false),
        (400, filter, Kind::ContentFiltered, false, false),
        (400, context, Kind::ContextOverflow, false, false),
        (408, "", Kind::Upstream, true, true),
        (409, "", Kind::Upstream, true, true),
        (429, "", Kind::RateLimited, true, true),
        (429, quota, Kind::QuotaExceeded, false, false),
        (500, "<html>", Kind::Upstream, true, true),
        (
            500,
            r#"{"error":{"code":500,"message":"image input is not supported","type":"server_error"}}"#,
            Kind::Upstream,
            false,
            false,
        ),
        (
            503,
            r#"{"error":{"message":"Loading model","code":503}}"#,
            Kind::Overloaded,
            true,
            true,
        ),
    ];
    for (status, body, kind, retryable, repeatable) in rows {
        let failure = refused(status, &[], body);
        assert_eq!(failure.error.kind(), kind, "{status} {body}");
        assert_eq!(failure.error.data.retryable, retryable, "{status} {body}");
        assert_eq!(failure.repeatable, repeatable, "{status} {body}");
        assert_eq!(failure.error.data.upstream.unwrap().status, Some(status));
    }
}

#[test]
fn a_conversation_that_is_too_long_is_known_by_its_words() {
    let rows = [
        (
            400,
            "request (1231 tokens) exceeds the available context size (512 tokens), try increasing it",
        ),
        (
            400,
            "This model's maximum context length is 2048 tokens. However, you requested 2500 tokens.",
        ),
        (400, "the input length exceeds the context length"),
        (500, "prompt too long; exceeded max context length by 4 tokens"),
        (413, "Please reduce the length of the messages or completion."),
        (
            400,
            "the model is loaded with context length of only 4096 tokens, which is not enough",
        ),
        (
            400,
            "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        ),
    ];
    for (status, message) in rows {
        let body = serde_json::json!({ "error": { "message": message } }).to_string();
        let failure = refused(status, &[], &body);
        assert_eq!(failure.error.kind(), Kind::ContextOverflow, "{message}");
        assert!(!failure.repeatable && !failure.error.data.retryable, "{message}");
    }
    let elsewhere = refused(429, &[], r#"{"error":{"message":"over the context window quota"}}"#);
    assert_eq!(elsewhere.error.kind(), Kind::RateLimited);
}

#[test]
fn the_secret_is_blanked_and_long_messages_are_cut() {
    let body = format!(
        r#"{{"error":{{"message":"key sk-secret is bad {}"}}}}"#,
        "é".repeat(2000)
    );
    let error = refused(401, &[("x-request-id", "req_1")], &body).error;
    let text = serde_json::to_string(&error).unwrap();
    assert!(!text.contains("sk-secret"), "{text}");
    let upstream = error.data.upstream.unwrap();
    assert!(upstream.message.unwrap().len() <= UPSTREAM_MESSAGE_MAX);
    assert_eq!(upstream.request_id.as_deref(), Some("req_1"));
    assert!(
        error
            .message
            .starts_with("provider `p` does not accept the credentials: key *** is bad")
    );
}

#[test]
fn the_upstream_may_say_how_long_to_wait() {
    let delay = |status, headers: &[(&str, &str)]| refused(status, headers, "").error.data.retry_after_ms;
    assert_eq!(delay(429, &[("retry-after", "7")]), Some(7000));
    assert_eq!(delay(429, &[("x-ratelimit-reset-requests", "120ms")]), Some(120));
    assert_eq!(delay(400, &[("retry-after", "7")]), None);
    assert_eq!(delay(429, &[]), None);
}

#[test]
fn a_proxy_that_wants_a_password_is_not_taken_for_the_upstream() {
    let failure = refused(407, &[], r#"{"error":{"message":"who are you?"}}"#);
    assert_eq!(failure.error.kind(), Kind::Network);
    assert!(!failure.repeatable && !failure.error.data.retryable);
    assert!(
        failure.error.message.contains("the proxy wants a user"),
        "{}",
        failure.error
    );
}

#[test]
fn errors_are_found_in_every_shape() {
    let told = |body: &str| Peer::new("p", None).told(None, body.as_bytes());
    let message = |body: &str| told(body).and_then(|error| error.data.upstream?.message);
    assert_eq!(message(r#"{"error":{"message":"a"}}"#).as_deref(), Some("a"));
    assert_eq!(message(r#"{"error":"b"}"#).as_deref(), Some("b"));
    assert_eq!(
        message(r#"{"code":null,"message":"c","param":null,"type":"server_error"}"#).as_deref(),
        Some("c")
    );
    assert_eq!(message(r#"{"detail":"d"}"#).as_deref(), Some("d"));
    assert_eq!(
        message(r#"[{"error":{"code":400,"message":"e"}}]"#).as_deref(),
        Some("e")
    );
    assert_eq!(
        message(r#"{"detail":[{"loc":["body"],"msg":"f","type":"missing"}]}"#).as_deref(),
        Some("f")
    );
    assert_eq!(told(r#"{"id":"run_1","error":null}"#), None);
    assert_eq!(told("oops"), None);
}

#[test]
fn a_redirect_names_the_host_and_not_the_path() {
    let error = refused(302, &[("location", "https://login.example/x?token=1")], "").error;
    assert!(error.message.contains("login.example,"), "{error}");
    assert!(!error.message.contains("token"), "{error}");
}
