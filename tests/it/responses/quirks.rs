//! What servers leave out or do otherwise, and what comes of it all the same.

use super::*;

/// The stream without these members in its events, and without `event:` lines if so wanted.
fn without(stream: &str, members: &[&str], has_names: bool) -> String {
    let mut out = String::new();
    for line in stream.lines() {
        match line.strip_prefix("data: ") {
            Some(data) => {
                let mut data: Value = serde_json::from_str(data).unwrap();
                data.as_object_mut()
                    .unwrap()
                    .retain(|name, _| !members.contains(&name.as_str()));
                out += &format!("data: {data}\n");
            }
            None if line.starts_with("event:") && !has_names => {}
            None => out += &format!("{line}\n"),
        }
    }
    out
}

/// The stream without events of these names.
fn without_events(stream: &str, names: &[&str]) -> String {
    let events = stream.split_inclusive("\n\n");
    let kept = events.filter(|event| !names.iter().any(|name| event.starts_with(&format!("event: {name}\n"))));
    kept.collect()
}

/// Two messages around a call of the upstream's, with everything in it.
fn full() -> String {
    let code = json!({ "type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1" });
    [
        begun(),
        message(0),
        says(0, "One "),
        says(0, "two"),
        sse(
            "response.output_text.done",
            json!({ "item_id": "msg_0", "output_index": 0, "content_index": 0, "text": "One two" }),
        ),
        item("done", 0, whole_message(0, "One two")),
        item(
            "added",
            1,
            json!({ "type": "code_interpreter_call", "id": "ci_1", "code": "" }),
        ),
        sse(
            "response.code_interpreter_call_code.delta",
            json!({ "item_id": "ci_1", "output_index": 1, "delta": "1" }),
        ),
        item("done", 1, code.clone()),
        message(2),
        says(2, "three"),
        item("done", 2, whole_message(2, "three")),
        ended(
            "completed",
            json!({ "output": [whole_message(0, "One two"), code, whole_message(2, "three")] }),
        ),
    ]
    .concat()
}

#[tokio::test]
async fn places_numbers_ids_and_names_may_be_missing() {
    let stream = full();
    let expected = play_stream(&stream).await;
    let expected = (joined(expected.0), expected.1);
    let rows: &[(&[&str], bool)] = &[
        (&["output_index"], true),
        (&["content_index"], true),
        (&["item_id"], true),
        (&["output_index", "content_index", "sequence_number"], true),
        (&["output_index", "content_index", "item_id"], true),
        (&[], false),
        (&["output_index", "content_index", "item_id"], false),
    ];
    for (members, has_names) in rows {
        let played = play_stream(without(&stream, members, *has_names)).await;
        assert_eq!((joined(played.0), played.1), expected, "without {members:?}");
    }
}

#[tokio::test]
async fn what_no_delta_has_told_is_told_by_whatever_is_whole() {
    let stream = full();
    let delta = "response.output_text.delta";
    let done = "response.output_text.done";
    let added = "response.output_item.added";
    let item_done = "response.output_item.done";
    let rows: &[&[&str]] = &[
        &[done],
        &[delta],
        &[delta, done],
        &[delta, done, item_done],
        &[added],
        &[added, delta, done],
        &[added, delta, done, item_done],
        &[done, item_done],
    ];
    for missing in rows {
        let (events, end) = play_stream(without_events(&stream, missing)).await;
        assert_eq!(
            (text(&events).as_str(), end),
            ("One twothree", END_TURN),
            "without {missing:?}"
        );
        let messages = events
            .iter()
            .filter(|event| matches!(event, Event::MessageStarted { .. }));
        assert_eq!(messages.count(), 2, "without {missing:?}");
        let code = steps(&events).into_iter().next_back().unwrap();
        assert_eq!(code.calls[0].arguments.as_deref(), Some("1"), "without {missing:?}");
    }
}

#[tokio::test]
async fn an_item_whose_events_have_other_ids_each_is_one_item() {
    let mut id = 0;
    let stream = full();
    let stream: String = stream
        .split("\"msg_0\"")
        .map(|piece| {
            id += 1;
            format!("{piece}\"rotated_{id}\"")
        })
        .collect();
    let stream = stream.trim_end_matches(|c| c != '\n').to_owned() + "\n";
    let (events, end) = play_stream(stream).await;
    assert_eq!((text(&events).as_str(), end), ("One twothree", END_TURN));
    let messages = events
        .iter()
        .filter(|event| matches!(event, Event::MessageStarted { .. }));
    assert_eq!(messages.count(), 2);
}

#[tokio::test]
async fn items_that_share_an_index_or_an_id_are_told_apart() {
    let made = |id: &str, call_id: &str| json!({ "type": "function_call", "id": id, "call_id": call_id, "name": "f", "arguments": "" });
    let piece = |id: &str, text: &str| {
        sse(
            "response.function_call_arguments.delta",
            json!({ "item_id": id, "output_index": 0, "delta": text }),
        )
    };
    let whole = |id: &str, call_id: &str, text: &str| json!({ "type": "function_call", "id": id, "call_id": call_id, "name": "f", "arguments": text });
    let same_index = [
        begun(),
        item("added", 0, made("fc_a", "a")),
        item("added", 0, made("fc_b", "b")),
        piece("fc_a", "1"),
        piece("fc_b", "2"),
        item("done", 0, whole("fc_a", "a", "1")),
        item("done", 0, whole("fc_b", "b", "2")),
        ended("completed", json!({})),
    ];
    let same_id = [
        begun(),
        item("added", 0, made("fc", "a")),
        piece("fc", "1"),
        item("done", 0, whole("fc", "a", "1")),
        item("added", 0, made("fc", "b")),
        piece("fc", "2"),
        item("done", 0, whole("fc", "b", "2")),
        ended("completed", json!({})),
    ];
    for stream in [same_index.concat(), same_id.concat()] {
        let (_, end) = play_stream(&stream).await;
        assert_eq!(
            end,
            End::ToolCalls(vec![call("a", "f", "1"), call("b", "f", "2")]),
            "{stream}"
        );
    }
}

#[tokio::test]
async fn arguments_that_stand_in_the_first_event_and_come_in_pieces_count_once() {
    let made = json!({ "type": "function_call", "id": "fc", "call_id": "a", "name": "f", "arguments": "{}" });
    let stream = [
        begun(),
        item("added", 0, made),
        sse(
            "response.function_call_arguments.delta",
            json!({ "item_id": "fc", "output_index": 0, "delta": "{}" }),
        ),
        ended("completed", json!({})),
    ];
    let (_, end) = play_stream(stream.concat()).await;
    assert_eq!(end, End::ToolCalls(vec![call("a", "f", "{}")]));
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_read_all_the_same() {
    let body = json!({
        "id": "resp_1", "object": "response", "status": "completed", "error": null,
        "output": [{ "type": "reasoning", "id": "rs", "summary": [{ "type": "summary_text", "text": "Hm." }] }, whole_message(1, "Hello!")],
        "usage": { "input_tokens": 3, "output_tokens": 2 }
    });
    let upstream = Upstream::start([Reply::json(200, body)]).await;
    let (events, end) = play(&settings(&upstream), request("u1:hello")).await;
    assert_eq!(
        (text(&events).as_str(), reasoning(&events).as_str(), end),
        ("Hello!", "Hm.", END_TURN)
    );
    assert_eq!(usage(&events).unwrap().total_tokens, 5);
}

#[tokio::test]
async fn json_that_is_no_response_is_an_error() {
    let rows = [
        (json!({ "error": { "message": "no such model" } }), "no such model"),
        (json!({ "detail": "nothing here" }), "nothing here"),
        (json!([1]), "answered with JSON that is no response"),
    ];
    for (body, expected) in rows {
        let upstream = Upstream::start([Reply::json(200, body)]).await;
        let mut settings = settings(&upstream);
        settings.max_retries = Some(0);
        let (_, end) = play(&settings, request("u1:hello")).await;
        let error = error(end);
        assert!(error.message.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_reached_its_limit_is_cut_whatever_its_status_says() {
    let usage_of = |output: u64| json!({ "output": [], "usage": { "input_tokens": 1, "output_tokens": output } });
    for (used, expected) in [(20, End::Incomplete(StopReason::MaxTokens)), (19, END_TURN)] {
        let stream = begun() + &message(0) + &says(0, "Once") + &ended("completed", usage_of(used));
        let upstream = Upstream::start([Reply::events(stream)]).await;
        let mut request = request("u1:hello");
        request.options.max_output_tokens = Some(20);
        let (_, end) = play(&settings(&upstream), request).await;
        assert_eq!(end, expected);
    }
}

#[tokio::test]
async fn the_end_of_a_chat_stream_is_read_over() {
    let (events, end) = play_stream(whole_turn("Hello!") + "data: [DONE]\n\n").await;
    assert_eq!((text(&events).as_str(), end), ("Hello!", END_TURN));
}

#[tokio::test]
async fn raw_marks_of_a_stream_that_breaks_are_not_lost() {
    let stream = begun() + &message(0) + &says(0, "a【4:0†b");
    let (events, end) = play_stream(stream).await;
    assert_eq!(text(&events), "a【4:0†b");
    error(end);
}
