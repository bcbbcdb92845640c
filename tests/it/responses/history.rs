//! Where the history is: in our store, with what only the upstream can read carried along, or at the upstream.

use assistd::config::History;
use assistd::error::Kind;
use assistd::protocol::Truncation;
use std::sync::Arc;

use super::requests::round;
use super::*;

fn upstreams(upstream: &Upstream) -> ProviderSettings {
    ProviderSettings {
        history: Some(History::Upstream),
        ..settings(upstream)
    }
}

fn bodies(upstream: &Upstream) -> Vec<Value> {
    upstream.requests().iter().map(|request| request.json()).collect()
}

fn said(text: &str) -> Value {
    json!({ "type": "message", "role": "user", "content": text })
}

#[tokio::test]
async fn reasoning_is_carried_with_what_followed_it() {
    let reasoning = json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" });
    let stream = [
        begun(),
        item("done", 0, reasoning.clone()),
        item("done", 1, whole_message(1, "Hello!")),
        ended("completed", json!({})),
    ];
    let (events, _) = play_stream(stream.concat()).await;
    assert_eq!(
        carry(&events),
        Some(&json!([reasoning, { "type": "message", "phase": null }]))
    );
    let (events, _) = play_stream(whole_turn("Hello!")).await;
    assert_eq!(carry(&events), None);
}

#[tokio::test]
async fn reasoning_that_the_upstream_does_not_take_back_is_left_out_once() {
    let reasoning = json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" });
    let refusals = [
        json!({ "error": { "code": "invalid_encrypted_content", "message": "The encrypted content could not be verified." } }),
        json!({ "error": { "message": "Item 'rs_1' of type 'reasoning' was provided without its required following item." } }),
    ];
    for refusal in refusals {
        let upstream = Upstream::start([Reply::json(400, refusal), Reply::events(whole_turn("Hello!"))]).await;
        let mut asked = request("u1:hello");
        asked.rounds = vec![round("call_1", "", Some(json!({ "responses": [reasoning] })))];
        let (_, end) = play(&settings(&upstream), asked).await;
        assert_eq!(end, END_TURN);
        let kinds = |body: &Value| {
            let items = body["input"].as_array().unwrap().iter();
            items
                .map(|item| item["type"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let bodies = bodies(&upstream);
        assert_eq!(kinds(&bodies[0]), ["message", "reasoning", "function_call_output"]);
        assert_eq!(kinds(&bodies[1]), ["message", "function_call", "function_call_output"]);
    }
}

#[tokio::test]
async fn upstream_only_what_is_new_is_sent() {
    let upstream = Upstream::start([whole_turn("One"), whole_turn("Two")].map(Reply::events)).await;
    let (events, _) = play(&upstreams(&upstream), request("u1:one")).await;
    let mut later = request("u1:one a1:One u2:two");
    later.anchor = last_anchor(&events);
    play(&upstreams(&upstream), later).await;
    let bodies = bodies(&upstream);
    assert_eq!(
        (&bodies[0]["store"], &bodies[0]["previous_response_id"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(bodies[1]["previous_response_id"], "resp_1");
    assert_eq!(bodies[1]["input"], json!([said("two")]));
}

#[tokio::test]
async fn upstream_outputs_follow_the_response_that_asked_for_them() {
    let upstream = Upstream::start([calling("call_1"), whole_turn("Sunny")].map(Reply::events)).await;
    let (events, end) = play(&upstreams(&upstream), request("u1:one")).await;
    assert_eq!(end, End::ToolCalls(vec![call("call_1", "weather", "{}")]));
    let mut second = request("u1:one");
    second.anchor = last_anchor(&events);
    second.rounds = vec![round("call_1", "", None)];
    let (events, end) = play(&upstreams(&upstream), second).await;
    assert_eq!(end, END_TURN);
    let body = &bodies(&upstream)[1];
    let output = json!({ "type": "function_call_output", "call_id": "call_1", "output": "sunny" });
    assert_eq!(
        (&body["previous_response_id"], &body["input"]),
        (&json!("resp_1"), &json!([output]))
    );
    let previous = &last_anchor(&events).unwrap()["responses"]["previous"];
    assert_eq!((&previous["rounds"], &previous["waits"]), (&json!(1), &json!(false)));
}

#[tokio::test]
async fn a_response_that_is_gone_is_followed_by_the_whole_history_once() {
    let gone = |status: u16, code: &str, message: &str| {
        Reply::json(status, json!({ "error": { "code": code, "message": message } }))
    };
    let refusals = [
        gone(404, "not_found", "no response"),
        gone(
            400,
            "previous_response_not_found",
            "Previous response with id 'resp_1' not found.",
        ),
        gone(400, "", "This server does not support previous_response_id"),
    ];
    for refusal in refusals {
        let upstream = Upstream::start([
            Reply::events(whole_turn("One")),
            refusal.clone(),
            Reply::events(whole_turn("Two")),
        ])
        .await;
        let (events, _) = play(&upstreams(&upstream), request("u1:one")).await;
        let mut later = request("u1:one a1:One u2:two");
        later.anchor = last_anchor(&events);
        let (_, end) = play(&upstreams(&upstream), later.clone()).await;
        assert_eq!(end, END_TURN);
        let body = &bodies(&upstream)[2];
        assert_eq!(
            (&body["previous_response_id"], body["input"].as_array().unwrap().len()),
            (&Value::Null, 3)
        );

        let upstream = Upstream::start([refusal.clone(), refusal]).await;
        error(play(&upstreams(&upstream), later).await.1);
    }
}

#[tokio::test]
async fn a_failed_or_cancelled_response_is_not_followed() {
    let failed = begun()
        + &message(0)
        + &says(0, "x")
        + &ended("failed", json!({ "error": { "code": "server_error", "message": "m" } }));
    let upstream = Upstream::start([
        Reply::events(whole_turn("One")),
        Reply::events(failed),
        Reply::events(whole_turn("Three")),
    ])
    .await;
    let (events, _) = play(&upstreams(&upstream), request("u1:one")).await;
    let anchor = last_anchor(&events);
    let mut second = request("u1:one a1:One u2:two");
    second.anchor = anchor.clone();
    let (events, _) = play(&upstreams(&upstream), second).await;
    assert_eq!(last_anchor(&events), None, "it stays as it was");
    let mut third = request("u1:one a1:One u2:two a2:x u3:three");
    third.anchor = anchor;
    play(&upstreams(&upstream), third).await;
    let body = &bodies(&upstream)[2];
    assert_eq!(body["previous_response_id"], "resp_1");
    assert_eq!(body["input"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_anchor_of_another_dialect_or_setting_is_none_of_ours() {
    for anchor in [
        json!({ "threadId": "t", "synced": "u1" }),
        json!({ "responses": { "previous": { "id": "r", "synced": "u1", "rounds": 0, "waits": false } } }),
    ] {
        let upstream = Upstream::start([Reply::events(whole_turn("Two"))]).await;
        let mut later = request("u1:one a1:One u2:two");
        later.anchor = Some(anchor);
        play(&settings(&upstream), later).await;
        let body = &bodies(&upstream)[0];
        assert_eq!(
            (&body["previous_response_id"], body["input"].as_array().unwrap().len()),
            (&Value::Null, 3)
        );
    }
}

fn overflow() -> Reply {
    Reply::json(
        400,
        json!({ "error": { "code": "context_length_exceeded", "message": "too long" } }),
    )
}

#[tokio::test]
async fn the_oldest_turns_are_left_out_until_it_fits() {
    let in_stream = begun()
        + &ended(
            "failed",
            json!({ "error": { "code": "context_length_exceeded", "message": "too long" } }),
        );
    for refusal in [overflow(), Reply::events(in_stream)] {
        let upstream = Upstream::start([refusal, overflow(), Reply::events(whole_turn("Hello!"))]).await;
        let (events, end) = play(&settings(&upstream), request("u1:a a1:b u2:c a2:d u3:e a3:f u4:g")).await;
        assert_eq!(end, END_TURN);
        let truncated = events.iter().filter_map(|event| match event {
            Event::Truncated { messages } => Some(*messages),
            _ => None,
        });
        let bodies = bodies(&upstream);
        let left: Vec<_> = bodies
            .iter()
            .map(|body| body["input"].as_array().unwrap().len())
            .collect();
        assert!(left[0] == 7 && left[1] < 7 && left[2] < left[1], "{left:?}");
        assert_eq!(truncated.collect::<Vec<_>>(), [7 - left[2] as u32]);
        assert_eq!(bodies[2]["input"].as_array().unwrap().last().unwrap(), &said("g"));
        assert_eq!(bodies[2]["input"][0]["role"], "user", "whole turns are left out");
    }
}

#[tokio::test]
async fn a_thread_that_must_not_be_shortened_and_one_that_cannot_be_are_errors() {
    for (messages, truncation) in [("u1:a a1:b u2:c", Truncation::Error), ("u1:a", Truncation::Auto)] {
        let upstream = Upstream::start([overflow()]).await;
        let mut asked = request(messages);
        Arc::get_mut(&mut asked.conversation).unwrap().truncation = truncation;
        let (_, end) = play(&settings(&upstream), asked).await;
        assert_eq!(error(end).kind(), Kind::ContextOverflow);
    }
}
