//! How runs end, and what is in them that no recording has: written from the API's description.

use assistd::error::Kind;
use assistd::protocol::{Annotation, Image, StepError, Usage};

use super::*;
use crate::upstream::Reply;

async fn play_stream(stream: impl AsRef<[u8]>) -> (Vec<Event>, End) {
    let upstream = Upstream::start([Reply::events(stream)]).await;
    play(&provider(&upstream), request("u1:hello")).await
}

/// A stream that begins, says something, and then this.
fn half_said(then: String) -> String {
    [
        begun(),
        message("created", json!({})),
        says("Once "),
        says("upon"),
        then,
    ]
    .concat()
}

#[tokio::test]
async fn a_whole_turn() {
    let (events, end) = play_stream(whole_turn("Hello!")).await;
    assert_eq!(end, END_TURN);
    let status = |word: &str| Event::Status(word.into());
    assert_eq!(
        events,
        [
            Event::Anchor(anchor("u1")),
            status("queued"),
            status("inProgress"),
            Event::MessageStarted {
                upstream_id: Some("msg_1".into())
            },
            Event::Delta {
                index: 0,
                part: PartKind::Text,
                text: "Hello!".into()
            },
            Event::MessageDone,
            status("completed"),
        ]
    );
}

#[tokio::test]
async fn neighbouring_deltas_that_came_together_go_on_together() {
    let (events, _) = play_stream(half_said(run("completed", json!({})))).await;
    let deltas = events.iter().filter(|event| matches!(event, Event::Delta { .. }));
    assert_eq!((deltas.count(), text(&events).as_str()), (1, "Once upon"));
}

#[tokio::test]
async fn every_way_to_end_early_keeps_the_text() {
    let incomplete = |reason: &str| run("incomplete", json!({ "incomplete_details": { "reason": reason } }));
    let cut = message(
        "incomplete",
        json!({ "incomplete_details": { "reason": "content_filter" } }),
    );
    let rows = [
        (run("cancelled", json!({})), End::Cancelled),
        (run("expired", json!({})), End::Incomplete(StopReason::Expired)),
        (
            incomplete("max_completion_tokens"),
            End::Incomplete(StopReason::MaxTokens),
        ),
        (
            incomplete("max_prompt_tokens"),
            End::Incomplete(StopReason::ContextFull),
        ),
        (run("incomplete", json!({})), End::Incomplete(StopReason::MaxTokens)),
        (
            cut.clone() + &run("completed", json!({})),
            End::Incomplete(StopReason::ContentFilter),
        ),
        (
            cut + &run("failed", json!({})),
            End::Incomplete(StopReason::ContentFilter),
        ),
    ];
    for (then, expected) in rows {
        let (events, end) = play_stream(half_said(then.clone() + done())).await;
        assert_eq!(end, expected, "{then}");
        assert_eq!(text(&events), "Once upon", "{then}");
    }
}

#[tokio::test]
async fn a_failed_run_says_why() {
    let rows = [
        ("rate_limit_exceeded", "Rate limit reached", Kind::RateLimited, true),
        (
            "rate_limit_exceeded",
            "You exceeded your current quota, please check",
            Kind::QuotaExceeded,
            false,
        ),
        ("server_error", "Sorry, something went wrong.", Kind::Upstream, true),
        ("invalid_prompt", "flagged", Kind::ContentFiltered, false),
        ("tool_user_error", "the tool failed", Kind::Upstream, true),
    ];
    for (code, message, kind, retryable) in rows {
        let failed = run("failed", json!({ "last_error": { "code": code, "message": message } }));
        let (events, end) = play_stream(half_said(failed)).await;
        let error = error(end);
        assert_eq!(
            (error.kind(), error.data.retryable),
            (kind, retryable),
            "{code}: {error}"
        );
        assert!(error.message.contains(message), "{error}");
        assert_eq!(error.data.upstream.unwrap().code.as_deref(), Some(code));
        assert_eq!(text(&events), "Once upon");
    }
}

#[tokio::test]
async fn error_events_come_in_both_shapes_and_without_a_name() {
    let flat = json!({ "code": null, "message": "it broke", "param": null, "type": "server_error" });
    let wrapped = json!({ "error": flat });
    for stream in [
        sse("error", flat),
        sse("error", wrapped.clone()),
        format!("data: {wrapped}\n\n"),
    ] {
        let (events, end) = play_stream(half_said(stream)).await;
        let error = error(end);
        assert_eq!(error.message, "provider `test` failed: it broke");
        assert!(error.data.retryable);
        assert_eq!(text(&events), "Once upon");
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_the_run_has_failed() {
    for tail in ["", done(), "event: thread.run.completed\ndata: {\"id\":\"run_1\"}\n"] {
        // The upstream is told that nobody listens any more.
        let replies = [Reply::events(half_said(tail.into())), Reply::json(200, json!({}))];
        let upstream = Upstream::start(replies).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        let error = error(end);
        assert_eq!(error.kind(), Kind::Network);
        assert!(error.data.retryable);
        assert_eq!(
            error.message,
            "provider `test` failed: the stream ended before the run did"
        );
        assert_eq!(text(&events), "Once upon");
        assert_eq!(upstream.requests()[1].path(), "/v1/threads/thread_1/runs/run_1/cancel");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_end_of_the_answer() {
    for broken in [
        Reply::events(half_said(String::new())).close(),
        Reply::events(half_said(String::new())).reset(),
    ] {
        let upstream = Upstream::start([broken, Reply::json(200, json!({}))]).await;
        let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
        let error = error(end);
        assert_eq!(error.kind(), Kind::Network);
        assert!(
            error
                .message
                .starts_with("provider `test` broke the connection before its answer was whole"),
            "{error}"
        );
        assert_eq!(retries(&events), 0, "nothing is silently started again");
    }
}

#[tokio::test]
async fn a_refusal_is_a_part_of_its_own_and_an_end_of_its_own() {
    let refusal = [
        begun(),
        message("created", json!({})),
        delta(json!([{ "index": 0, "type": "refusal", "refusal": "I " }])),
        delta(json!([{ "index": 0, "type": "refusal", "refusal": "won't" }])),
        message(
            "completed",
            json!({ "content": [{ "type": "refusal", "refusal": "I won't" }] }),
        ),
        run("completed", json!({})),
    ];
    let (events, end) = play_stream(refusal.concat()).await;
    assert_eq!(end, End::Completed(StopReason::Refusal));
    assert!(events.contains(&Event::Delta {
        index: 0,
        part: PartKind::Refusal,
        text: "I won't".into()
    }));
}

#[tokio::test]
async fn citations_and_pictures_come_once_though_they_stand_in_the_message_too() {
    let marker = "【4:0†é.txt】";
    let citation = json!({ "index": 0, "type": "file_citation", "text": marker, "start_index": 4, "end_index": 15,
        "file_citation": { "file_id": "file_1", "quote": "" } });
    let path = json!({ "index": 1, "type": "file_path", "text": "sandbox:/a", "start_index": 16, "end_index": 26,
        "file_path": { "file_id": "file_2" } });
    let picture = json!({ "index": 1, "type": "image_file", "image_file": { "file_id": "file_3", "detail": "high" } });
    let link = json!({ "type": "image_url", "image_url": { "url": "https://x.test/a.png" } });
    let whole = json!({ "content": [
        { "type": "text", "text": { "value": format!("See {marker} sandbox:/a"), "annotations": [citation, path] } },
        picture,
        link
    ] });
    let stream = [
        begun(),
        message("created", json!({})),
        says("See "),
        delta(json!([{ "index": 0, "type": "text", "text": { "value": marker, "annotations": [citation] } }])),
        delta(json!([{ "index": 0, "type": "text", "text": { "annotations": [path] } }])),
        delta(json!([picture])),
        message("completed", whole),
        run("completed", json!({})),
    ];
    let (events, _) = play_stream(stream.concat()).await;
    assert_eq!(
        text(&events),
        format!("See {marker} sandbox:/a"),
        "the rest stood in the message only"
    );
    let annotations: Vec<&Annotation> = events
        .iter()
        .filter_map(|event| match event {
            Event::Annotation { index: 0, annotation } => Some(annotation),
            _ => None,
        })
        .collect();
    let [citation, path] = &annotations[..] else {
        panic!("each once: {annotations:?}");
    };
    let expected = Annotation {
        kind: "fileCitation".into(),
        text: Some(marker.into()),
        start: Some(4),
        end: Some(15),
        file_id: Some("file_1".into()),
        ..Annotation::default()
    };
    assert_eq!(**citation, expected);
    assert_eq!(
        (path.kind.as_str(), path.file_id.as_deref()),
        ("filePath", Some("file_2"))
    );
    let images: Vec<&Event> = events
        .iter()
        .filter(|event| matches!(event, Event::Image { .. }))
        .collect();
    let file = Image {
        file_id: Some("file_3".into()),
        detail: Some("high".into()),
        ..Image::default()
    };
    let link = Image {
        url: Some("https://x.test/a.png".into()),
        ..Image::default()
    };
    assert_eq!(
        images,
        [
            &Event::Image { index: 1, image: file },
            &Event::Image { index: 2, image: link }
        ]
    );
}

#[tokio::test]
async fn text_that_no_delta_carries_is_not_lost() {
    let content = |text: &str| json!({ "content": [{ "type": "text", "text": { "value": text, "annotations": [] } }] });
    let stream = [
        begun(),
        message("created", content("One")),
        says(" two"),
        message("completed", content("One two three")),
        message("completed", content("One two three")),
        sse(
            "thread.message.completed",
            json!({ "id": "msg_2", "content": [{ "text": { "value": "Four" } }] }),
        ),
        run("completed", json!({})),
    ];
    let (events, _) = play_stream(stream.concat()).await;
    assert_eq!(text(&events), "One two threeFour");
    let begun = events
        .iter()
        .filter(|event| matches!(event, Event::MessageStarted { .. }));
    let done = events.iter().filter(|event| matches!(event, Event::MessageDone));
    assert_eq!((begun.count(), done.count()), (2, 2));
}

#[tokio::test]
async fn halves_of_characters_do_not_lose_a_delta() {
    let half = |unit: &str| {
        format!(
            "event: thread.message.delta\ndata: {{\"id\":\"msg_1\",\"delta\":{{\"content\":[{{\"index\":0,\"type\":\"text\",\
             \"text\":{{\"value\":\"<{unit}>\"}}}}]}}}}\n\n"
        )
    };
    let stream = half_said(half("\\ud83d") + &half("\\ud83d\\ude00") + &run("completed", json!({})));
    let (events, end) = play_stream(stream).await;
    assert_eq!((text(&events).as_str(), end), ("Once upon<\u{FFFD}><😀>", END_TURN));
}

#[tokio::test]
async fn code_that_runs_upstream_is_a_step() {
    let step = |event: &str, members: Value| {
        let mut data = json!({ "id": "step_1", "type": "tool_calls", "status": "in_progress",
            "step_details": { "type": "tool_calls", "tool_calls": [] } });
        data.as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        sse(&format!("thread.run.step.{event}"), data)
    };
    let piece = |code: Value| {
        let call = json!({ "index": 0, "id": "call_1", "type": "code_interpreter", "code_interpreter": code });
        sse(
            "thread.run.step.delta",
            json!({ "id": "step_1", "delta": { "step_details": { "type": "tool_calls", "tool_calls": [call] } } }),
        )
    };
    let logs = json!({ "index": 0, "type": "logs", "logs": "42\n" });
    let whole = json!({ "id": "call_1", "type": "code_interpreter", "code_interpreter": { "input": "print(42)", "outputs": [logs] } });
    let stream = [
        begun(),
        step("created", json!({})),
        step("in_progress", json!({})),
        piece(json!({ "input": "print(" })),
        piece(json!({ "input": "42)" })),
        piece(json!({ "outputs": [logs] })),
        step(
            "completed",
            json!({ "status": "completed", "step_details": { "type": "tool_calls", "tool_calls": [whole] },
            "usage": { "prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7 } }),
        ),
        run(
            "completed",
            json!({ "usage": { "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12 } }),
        ),
    ];
    let (events, _) = play_stream(stream.concat()).await;
    let seen: Vec<(&str, usize, usize)> = steps(&events)
        .iter()
        .map(|step| {
            (
                step.status.as_str(),
                step.calls.len(),
                step.calls.iter().map(|call| call.outputs.len()).sum(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("inProgress", 0, 0),
            ("inProgress", 1, 0),
            ("inProgress", 1, 1),
            ("completed", 1, 1)
        ]
    );
    let last = &steps(&events)[3].calls[0];
    assert_eq!(
        (last.kind.as_str(), last.arguments.as_deref()),
        ("codeInterpreter", Some("print(42)"))
    );
    assert_eq!(last.outputs, [json!({ "type": "logs", "logs": "42\n" })]);
    let code: String = events
        .iter()
        .filter_map(|event| match event {
            Event::ToolArguments { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(code, "print(42)");
    let usage = Usage {
        input_tokens: 9,
        output_tokens: 3,
        total_tokens: 12,
        ..Usage::default()
    };
    let usages: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::Usage(_))).collect();
    assert_eq!(usages, [&Event::Usage(usage)], "the run's, not the steps'");
}

#[tokio::test]
async fn steps_that_fail_say_why() {
    let failed = json!({ "id": "step_1", "type": "tool_calls", "status": "failed",
        "last_error": { "code": "server_error", "message": "no luck" } });
    let (events, _) =
        play_stream(begun() + &sse("thread.run.step.failed", failed) + &run("completed", json!({}))).await;
    let step = steps(&events)[0];
    let expected = StepError {
        code: "server_error".into(),
        message: "no luck".into(),
    };
    assert_eq!((step.status.as_str(), step.error.as_ref()), ("failed", Some(&expected)));
}

#[tokio::test]
async fn what_we_have_no_word_for_is_passed_on_and_harms_nothing() {
    let stream = [
        sse("thread.message.sparkled", json!({ "id": "msg_1" })),
        ": keep-alive\n\nretry: 5\n\n".to_owned(),
        "event: thread.message.delta\ndata: {\"id\":\n\n".to_owned(),
        whole_turn("Hello!"),
    ];
    let (events, end) = play_stream(stream.concat()).await;
    assert_eq!((text(&events).as_str(), end), ("Hello!", END_TURN));
    let passed: Vec<&Event> = events
        .iter()
        .filter(|event| matches!(event, Event::Upstream { .. }))
        .collect();
    let upstream = |name: &str, data: Value| Event::Upstream {
        name: name.into(),
        data,
    };
    assert_eq!(
        passed,
        [
            &upstream("thread.message.sparkled", json!({ "id": "msg_1" })),
            &upstream("thread.message.delta", Value::Null)
        ]
    );
}

#[tokio::test]
async fn every_field_is_optional() {
    let stream = [
        sse("thread.run.created", json!({})),
        sse("thread.message.created", json!({})),
        sse(
            "thread.message.delta",
            json!({ "delta": { "content": [{ "text": { "value": "Hi" } }] } }),
        ),
        sse("thread.message.delta", json!({})),
        sse("thread.run.step.created", json!({})),
        sse(
            "thread.run.step.delta",
            json!({ "delta": { "step_details": { "tool_calls": [{}, 7] } } }),
        ),
        sse("thread.message.completed", json!({})),
        "event: thread.run.completed\ndata: nonsense\n\n".to_owned(),
    ];
    let (events, end) = play_stream(stream.concat()).await;
    assert_eq!((text(&events).as_str(), end), ("Hi", END_TURN));
}

#[tokio::test]
async fn the_connection_of_a_finished_turn_is_used_again() {
    // Two requests on one connection: the second reply would go to nobody if the first had been given up half read.
    let upstream = Upstream::start([Reply::events(whole_turn("One")), Reply::events(whole_turn("Two"))]).await;
    let provider = provider(&upstream);
    play(&provider, request("u1:hello")).await;
    play(&provider, request("u1:hello")).await;
    assert_eq!(upstream.connections(), 1);
}
