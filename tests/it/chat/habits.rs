//! What an upstream wants otherwise is learnt from its refusal, once.

use super::*;

fn refusal(status: u16, message: &str) -> Reply {
    Reply::json(
        status,
        json!({ "error": { "message": message, "type": "invalid_request_error" } }),
    )
}

/// Plays this request twice: a refusal and two answers; gives the three bodies that were sent.
async fn bodies(refusal: Reply, request: &Request) -> Vec<Value> {
    let upstream = Upstream::start([refusal, Reply::events(whole("a")), Reply::events(whole("b"))]).await;
    let provider = provider(&upstream);
    for _ in 0..2 {
        let (events, end) = play(&provider, request.clone()).await;
        assert_eq!((retries(&events), end), (0, END_TURN), "it is no failure");
    }
    upstream.requests().iter().map(|request| request.json()).collect()
}

#[tokio::test]
async fn the_limit_of_the_answer_has_two_names() {
    let mut asked = request("u1:hello");
    asked.options.max_output_tokens = Some(9);
    let message =
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    let bodies = bodies(refusal(400, message), &asked).await;
    let limits: Vec<_> = bodies
        .iter()
        .map(|body| (&body["max_tokens"], &body["max_completion_tokens"]))
        .collect();
    let nine = json!(9);
    assert_eq!(
        limits,
        [(&nine, &Value::Null), (&Value::Null, &nine), (&Value::Null, &nine)]
    );
}

#[tokio::test]
async fn some_take_no_stream_options() {
    let message = "body.stream_options: Extra inputs are not permitted";
    let bodies = bodies(refusal(422, message), &request("u1:hello")).await;
    let has: Vec<bool> = bodies.iter().map(|body| body.get("stream_options").is_some()).collect();
    assert_eq!(has, [true, false, false]);
}

#[tokio::test]
async fn some_templates_demand_that_roles_alternate() {
    let mut asked = request("u1:one u2:two a1:three u3:four");
    asked.instructions = Some("Be brief.".into());
    let message = "Conversation roles must alternate user/assistant/user/assistant/...";
    let bodies = bodies(refusal(500, message), &asked).await;
    assert_eq!(bodies[0]["messages"].as_array().unwrap().len(), 5);
    assert_eq!(
        bodies[1]["messages"],
        json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "one\n\ntwo" },
            { "role": "assistant", "content": "three" },
            { "role": "user", "content": "four" },
        ])
    );
    assert_eq!(bodies[2], bodies[1]);
}

#[tokio::test]
async fn some_templates_know_no_instructions() {
    let mut asked = request("u1:one");
    asked.instructions = Some("Be brief.".into());
    let bodies = bodies(refusal(500, "System role not supported"), &asked).await;
    assert_eq!(
        bodies[1]["messages"],
        json!([{ "role": "user", "content": "Be brief.\n\none" }])
    );
}
