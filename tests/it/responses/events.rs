//! Every kind of event, each in a stream of its own: what no recording has is written from the API's description.

use assistd::protocol::{RunStep, StepCall, StepError};

use super::*;

/// A stream of these events, whole.
async fn play_events(events: &[String]) -> Vec<Event> {
    let stream = begun() + &events.concat() + &ended("completed", json!({}));
    let (events, end) = play_stream(stream).await;
    assert_eq!(end, END_TURN);
    joined(events)
}

/// A piece of the item at 0.
fn piece(name: &str, delta: &str) -> String {
    sse(name, json!({ "item_id": "item_1", "output_index": 0, "delta": delta }))
}

fn of_item(name: &str) -> String {
    sse(name, json!({ "item_id": "item_1", "output_index": 0 }))
}

fn last_step(events: &[Event]) -> &RunStep {
    steps(events).last().unwrap()
}

fn arguments(events: &[Event]) -> Vec<(&str, &str)> {
    let pieces = events.iter().filter_map(|event| match event {
        Event::ToolArguments { call_id, text, .. } => Some((call_id.as_str(), text.as_str())),
        _ => None,
    });
    pieces.collect()
}

#[tokio::test]
async fn a_whole_turn() {
    let (events, end) = play_stream(whole_turn("Hello!")).await;
    assert_eq!(end, END_TURN);
    let status = |word: &str| Event::Status(word.into());
    let hello = Event::Delta {
        index: 0,
        part: PartKind::Text,
        text: "Hello!".into(),
    };
    let begins = Event::MessageStarted {
        upstream_id: Some("msg_0".into()),
    };
    assert_eq!(
        events,
        [
            status("inProgress"),
            begins,
            hello,
            Event::MessageDone,
            status("completed")
        ]
    );
}

#[tokio::test]
async fn a_refusal_is_a_part_of_its_own_and_an_end_of_its_own() {
    let refusal = |piece: &str| {
        let members = json!({ "item_id": "msg_0", "output_index": 0, "content_index": 0, "delta": piece });
        sse("response.refusal.delta", members)
    };
    let done = sse(
        "response.refusal.done",
        json!({ "item_id": "msg_0", "output_index": 0, "content_index": 0, "refusal": "I won't." }),
    );
    let stream = [
        begun(),
        message(0),
        refusal("I "),
        refusal("won't"),
        done,
        ended("completed", json!({})),
    ];
    let (events, end) = play_stream(stream.concat()).await;
    assert_eq!(end, End::Completed(StopReason::Refusal));
    let expected = Event::Delta {
        index: 0,
        part: PartKind::Refusal,
        text: "I won't.".into(),
    };
    assert!(joined(events).contains(&expected));
}

#[tokio::test]
async fn parts_of_a_message_keep_their_indexes() {
    let says = |index: u32, text: &str| {
        let members = json!({ "item_id": "msg_0", "output_index": 0, "content_index": index, "delta": text });
        sse("response.output_text.delta", members)
    };
    let events = play_events(&[message(0), says(0, "a"), says(1, "b"), says(0, "c")]).await;
    let deltas = events.iter().filter_map(|event| match event {
        Event::Delta { index, text, .. } => Some((*index, text.as_str())),
        _ => None,
    });
    assert_eq!(deltas.collect::<Vec<_>>(), [(0, "a"), (1, "b"), (0, "c")]);
}

#[tokio::test]
async fn reasoning_and_its_summaries_are_told_apart_and_parts_are_set_apart() {
    let summary = |index: u32, delta: &str| {
        let members = json!({ "item_id": "item_1", "output_index": 0, "summary_index": index, "delta": delta });
        sse("response.reasoning_summary_text.delta", members)
    };
    let done = json!({
        "type": "reasoning", "id": "item_1", "summary": [{ "text": "one" }, { "text": "two" }],
        "content": [{ "type": "reasoning_text", "text": "thought." }]
    });
    let events = play_events(&[
        item(
            "added",
            0,
            json!({ "type": "reasoning", "id": "item_1", "summary": [] }),
        ),
        piece("response.reasoning_text.delta", "thou"),
        piece("response.reasoning_text.delta", "ght"),
        of_item("response.reasoning_summary_part.added"),
        summary(0, "on"),
        summary(0, "e"),
        of_item("response.reasoning_summary_part.done"),
        summary(1, "two"),
        item("done", 0, done),
    ])
    .await;
    let told = events.iter().filter_map(|event| match event {
        Event::Reasoning { text, summary } => Some((*summary, text.as_str())),
        _ => None,
    });
    let expected = [(false, "thought"), (true, "one\n\ntwo"), (false, ".")];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(
        (last_step(&events).kind.as_str(), last_step(&events).status.as_str()),
        ("reasoning", "completed")
    );
    assert_eq!(text(&events), "");
}

#[tokio::test]
async fn a_function_call_is_told_as_it_is_written_and_then_wanted() {
    let named = |arguments: &str, status: &str| {
        json!({
            "type": "function_call", "id": "item_1", "call_id": "call_1", "name": "weather", "status": status,
            "arguments": arguments
        })
    };
    let stream = [
        begun(),
        item("added", 0, named("", "in_progress")),
        piece("response.function_call_arguments.delta", "{\"a\""),
        piece("response.function_call_arguments.delta", ":1}"),
        sse(
            "response.function_call_arguments.done",
            json!({ "item_id": "item_1", "output_index": 0, "arguments": "{\"a\":1}" }),
        ),
        item("done", 0, named("{\"a\":1}", "completed")),
        ended("completed", json!({ "output": [named("{\"a\":1}", "completed")] })),
    ];
    let (events, end) = play_stream(stream.concat()).await;
    assert_eq!(end, End::ToolCalls(vec![call("call_1", "weather", "{\"a\":1}")]));
    let events = joined(events);
    assert_eq!(arguments(&events), [("call_1", "{\"a\":1}")]);
    let expected = StepCall {
        call_id: "call_1".into(),
        kind: "function".into(),
        name: Some("weather".into()),
        arguments: Some("{\"a\":1}".into()),
        ..StepCall::default()
    };
    let step = last_step(&events);
    assert_eq!(
        (step.id.as_str(), step.kind.as_str(), step.status.as_str()),
        ("item_1", "toolCalls", "inProgress")
    );
    assert_eq!(step.calls, [expected]);
}

#[tokio::test]
async fn parallel_calls_and_one_that_the_upstream_answered_itself() {
    let made = |id: &str| json!({ "type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "f", "arguments": "{}" });
    let stream = [
        begun(),
        item("done", 0, made("a")),
        item("done", 1, made("b")),
        item("done", 2, made("c")),
        item(
            "done",
            3,
            json!({ "type": "function_call_output", "id": "o", "call_id": "b", "output": "x" }),
        ),
        ended("completed", json!({})),
    ];
    let (_, end) = play_stream(stream.concat()).await;
    assert_eq!(end, End::ToolCalls(vec![call("a", "f", "{}"), call("c", "f", "{}")]));
}

#[tokio::test]
async fn a_custom_tool_is_called_with_its_text_as_input() {
    let made =
        json!({ "type": "custom_tool_call", "id": "item_1", "call_id": "call_1", "name": "sql", "input": "select 1" });
    let stream = [
        begun(),
        item(
            "added",
            0,
            json!({ "type": "custom_tool_call", "id": "item_1", "call_id": "call_1", "name": "sql", "input": "" }),
        ),
        piece("response.custom_tool_call_input.delta", "select "),
        sse(
            "response.custom_tool_call_input.done",
            json!({ "item_id": "item_1", "output_index": 0, "input": "select 1" }),
        ),
        item("done", 0, made.clone()),
        ended("completed", json!({})),
    ];
    let (events, end) = play_stream(stream.concat()).await;
    assert_eq!(
        end,
        End::ToolCalls(vec![call("call_1", "sql", "{\"input\":\"select 1\"}")])
    );
    assert_eq!(arguments(&joined(events.clone())), [("call_1", "select 1")]);
    assert_eq!(
        carry(&events),
        Some(&json!([made])),
        "its output goes back as a custom tool's"
    );
}

#[tokio::test]
async fn code_and_what_it_printed() {
    let events = play_events(&[
        item(
            "added",
            0,
            json!({ "type": "code_interpreter_call", "id": "item_1", "code": "" }),
        ),
        of_item("response.code_interpreter_call.in_progress"),
        piece("response.code_interpreter_call_code.delta", "print"),
        piece("response.code_interpreter_call_code.delta", "(1)"),
        of_item("response.code_interpreter_call.interpreting"),
        of_item("response.code_interpreter_call.completed"),
        item(
            "done",
            0,
            json!({
                "type": "code_interpreter_call", "id": "item_1", "status": "completed", "code": "print(1)",
                "outputs": [{ "type": "logs", "logs": "1\n" }, { "type": "image", "url": "https://x.test/a.png" }]
            }),
        ),
    ])
    .await;
    assert_eq!(arguments(&events), [("item_1", "print(1)")]);
    let call = &last_step(&events).calls[0];
    assert_eq!(
        (call.kind.as_str(), call.arguments.as_deref()),
        ("codeInterpreter", Some("print(1)"))
    );
    assert_eq!(
        call.outputs,
        [
            json!({ "type": "logs", "logs": "1\n" }),
            json!({ "type": "image", "url": "https://x.test/a.png" })
        ]
    );
}

#[tokio::test]
async fn searches_say_what_they_looked_for_and_found() {
    let events = play_events(&[
        item("added", 0, json!({ "type": "file_search_call", "id": "item_1", "queries": [], "results": null })),
        of_item("response.file_search_call.in_progress"),
        of_item("response.file_search_call.searching"),
        of_item("response.file_search_call.completed"),
        item("done", 0, json!({ "type": "file_search_call", "id": "item_1", "status": "completed", "queries": ["q"],
            "results": [{ "file_id": "file_1", "filename": "a.txt", "score": 0.5, "text": "t" }] })),
        item("added", 1, json!({ "type": "web_search_call", "id": "item_2", "status": "in_progress" })),
        item("done", 1, json!({ "type": "web_search_call", "id": "item_2", "status": "completed", "action": { "type": "search", "query": "q" } })),
    ])
    .await;
    let all = steps(&events);
    let statuses = all.iter().map(|step| (step.id.as_str(), step.status.as_str()));
    let expected = [
        ("item_1", "inProgress"),
        ("item_1", "completed"),
        ("item_1", "completed"),
        ("item_2", "inProgress"),
        ("item_2", "completed"),
    ];
    assert_eq!(statuses.collect::<Vec<_>>(), expected);
    let found = json!({ "fileId": "file_1", "filename": "a.txt", "score": 0.5, "text": "t" });
    assert_eq!(all[2].calls[0].outputs, [found]);
    assert_eq!(
        all[4].calls[0].arguments.as_deref(),
        Some(r#"{"query":"q","type":"search"}"#)
    );
}

#[tokio::test]
async fn a_picture_is_a_message_and_half_a_picture_is_passed_on() {
    let partial =
        json!({ "item_id": "item_1", "output_index": 0, "partial_image_index": 0, "partial_image_b64": "YWI=" });
    let events = play_events(&[
        item("added", 0, json!({ "type": "image_generation_call", "id": "item_1", "status": "in_progress" })),
        of_item("response.image_generation_call.in_progress"),
        of_item("response.image_generation_call.generating"),
        sse("response.image_generation_call.partial_image", partial),
        of_item("response.image_generation_call.completed"),
        item("done", 0, json!({ "type": "image_generation_call", "id": "item_1", "status": "completed", "result": "YWJj", "output_format": "webp" })),
        message(1),
        says(1, "There."),
    ])
    .await;
    let image = Image {
        data: Some("YWJj".into()),
        mime_type: Some("image/webp".into()),
        ..Image::default()
    };
    let at = events
        .iter()
        .position(|event| {
            *event
                == Event::Image {
                    index: 0,
                    image: image.clone(),
                }
        })
        .unwrap();
    assert!(matches!(events[at - 1], Event::MessageStarted { .. }));
    assert_eq!(events[at + 1], Event::MessageDone);
    let passed_on = |event: &Event| matches!(event, Event::Upstream { name, data } if name.ends_with("partial_image") && data["partial_image_b64"] == "YWI=");
    assert!(events.iter().any(passed_on));
    assert_eq!(text(&events), "There.");
}

#[tokio::test]
async fn calls_of_the_upstreams_own_servers_fail_without_failing_the_answer() {
    let events = play_events(&[
        item("added", 0, json!({ "type": "mcp_call", "id": "item_1", "name": "roll", "arguments": "", "server_label": "dice" })),
        of_item("response.mcp_call.in_progress"),
        piece("response.mcp_call_arguments.delta", "{}"),
        sse("response.mcp_call_arguments.done", json!({ "item_id": "item_1", "output_index": 0, "arguments": "{}" })),
        of_item("response.mcp_call.failed"),
        item("done", 0, json!({ "type": "mcp_call", "id": "item_1", "name": "roll", "arguments": "{}", "status": "failed", "error": { "type": "mcp_protocol_error", "code": 32600, "message": "no dice" } })),
        sse("response.mcp_list_tools.failed", json!({ "item_id": "item_2", "output_index": 1 })),
    ])
    .await;
    let failed = steps(&events).into_iter().rfind(|step| step.id == "item_1").unwrap();
    assert_eq!(
        (failed.status.as_str(), failed.calls[0].name.as_deref()),
        ("failed", Some("roll"))
    );
    let why = StepError {
        code: "32600".into(),
        message: "no dice".into(),
    };
    assert_eq!(failed.error, Some(why));
    assert_eq!(
        (last_step(&events).id.as_str(), last_step(&events).status.as_str()),
        ("item_2", "failed")
    );
}

#[tokio::test]
async fn commands_of_a_shell_come_one_a_line() {
    let command = |name: &str, index: u32, key: &str, text: &str| {
        sse(
            &format!("response.shell_call_command.{name}"),
            json!({ "output_index": 0, "command_index": index, key: text }),
        )
    };
    let done = json!({ "type": "shell_call", "id": "item_1", "call_id": "call_1", "status": "completed", "action": { "commands": ["ls", "pwd"] } });
    let events = play_events(&[
        item(
            "added",
            0,
            json!({ "type": "shell_call", "id": "item_1", "call_id": "call_1", "action": { "commands": [] } }),
        ),
        command("added", 0, "command", ""),
        command("delta", 0, "delta", "l"),
        command("delta", 0, "delta", "s"),
        command("done", 0, "command", "ls"),
        command("delta", 1, "delta", "pwd"),
        command("done", 1, "command", "pwd"),
        item("done", 0, done),
        item(
            "done",
            1,
            json!({ "type": "shell_call_output", "id": "o", "call_id": "call_1", "output": [{ "stdout": "." }] }),
        ),
    ])
    .await;
    assert_eq!(arguments(&events), [("call_1", "ls\npwd")]);
    let output = last_step(&events);
    assert_eq!(output.calls[0].outputs, [json!({ "output": [{ "stdout": "." }] })]);
}

#[tokio::test]
async fn annotations_of_every_kind_with_their_offsets() {
    let annotation = |annotation: Value| {
        let members = json!({ "item_id": "msg_0", "output_index": 0, "content_index": 0, "annotation": annotation });
        sse("response.output_text.annotation.added", members)
    };
    let url =
        json!({ "type": "url_citation", "start_index": 2, "end_index": 5, "url": "https://x.test", "title": "X" });
    let whole = json!({ "type": "output_text", "text": "é😀 abc", "annotations": [
        url, {}, {}, { "type": "file_path", "file_id": "file_3", "index": 1 }
    ] });
    let events = play_events(&[
        message(0),
        says(0, "é😀 abc"),
        annotation(url.clone()),
        annotation(json!({ "type": "file_citation", "file_id": "file_1", "filename": "a.txt", "index": 6 })),
        annotation(json!({ "type": "container_file_citation", "container_id": "c", "file_id": "file_2", "start_index": 0, "end_index": 1 })),
        item("done", 0, json!({ "type": "message", "id": "msg_0", "content": [whole] })),
    ])
    .await;
    let expected = [
        Annotation {
            kind: "urlCitation".into(),
            start: Some(2),
            end: Some(5),
            url: Some("https://x.test".into()),
            title: Some("X".into()),
            ..Annotation::default()
        },
        Annotation {
            kind: "fileCitation".into(),
            start: Some(6),
            end: Some(6),
            file_id: Some("file_1".into()),
            title: Some("a.txt".into()),
            ..Annotation::default()
        },
        Annotation {
            kind: "containerFileCitation".into(),
            start: Some(0),
            end: Some(1),
            file_id: Some("file_2".into()),
            container_id: Some("c".into()),
            ..Annotation::default()
        },
        Annotation {
            kind: "filePath".into(),
            start: Some(1),
            end: Some(1),
            file_id: Some("file_3".into()),
            ..Annotation::default()
        },
    ];
    assert_eq!(annotations(&events), expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn raw_marks_become_citations_also_when_they_are_cut() {
    let mut pieces: Vec<String> = vec![message(0)];
    pieces.extend(
        "Blue【4:0†sky.txt】 and deep\u{E200}cite\u{E202}turn0search1\u{E201}."
            .chars()
            .map(|c| says(0, &c.to_string())),
    );
    let events = play_events(&pieces).await;
    assert_eq!(text(&events), "Blue and deep.");
    let marks = annotations(&events);
    let marks = marks
        .iter()
        .map(|mark| (mark.kind.as_str(), mark.start, mark.end, mark.title.as_deref()));
    let expected = [
        ("fileCitation", Some(4), Some(4), Some("sky.txt")),
        ("citation", Some(13), Some(13), Some("turn0search1")),
    ];
    assert_eq!(marks.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_compaction_is_a_step_and_is_carried() {
    let compaction = json!({ "type": "compaction", "id": "cmp", "encrypted_content": "secret" });
    let stream = [
        begun(),
        item("done", 0, compaction.clone()),
        ended("completed", json!({})),
    ];
    let (events, _) = play_stream(stream.concat()).await;
    assert_eq!(
        (last_step(&events).kind.as_str(), last_step(&events).status.as_str()),
        ("compaction", "completed")
    );
    assert_eq!(last_step(&events).calls, []);
    assert_eq!(carry(&events), Some(&json!([compaction])));
}

#[tokio::test]
async fn usage_counts_what_was_cached_and_thought() {
    let usage_of = json!({
        "input_tokens": 10, "input_tokens_details": { "cached_tokens": 4 }, "output_tokens": 6,
        "output_tokens_details": { "reasoning_tokens": 5 }, "total_tokens": 16
    });
    let (events, _) = play_stream(begun() + &ended("completed", json!({ "usage": usage_of }))).await;
    let expected = Usage {
        input_tokens: 10,
        output_tokens: 6,
        total_tokens: 16,
        cached_tokens: Some(4),
        reasoning_tokens: Some(5),
    };
    assert_eq!(usage(&events), Some(expected));
}

#[tokio::test]
async fn what_has_no_word_of_ours_is_passed_on_and_keep_alives_are_not() {
    let events = play_events(&[
        sse("response.audio.delta", json!({ "delta": "AAAA" })),
        sse("keepalive", json!({ "sequence_number": 3 })),
        sse("response.steer.accepted", json!({ "x": 1 })),
    ])
    .await;
    let names = events.iter().filter_map(|event| match event {
        Event::Upstream { name, .. } => Some(name.as_str()),
        _ => None,
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["response.audio.delta", "response.steer.accepted"]
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_passed_on_and_half_a_character_is_replaced() {
    let events = play_events(&[
        message(0),
        "event: response.output_text.delta\ndata: {\"item_id\":\"msg_0\",\"output_index\":0,\"delta\":\"a\\ud83d\"}\n\n".into(),
        sse("response.output_text.delta", json!({ "item_id": "msg_0", "delta": { "no": "text" } })),
    ])
    .await;
    assert_eq!(text(&events), "a\u{FFFD}");
    assert!(events.iter().any(|event| matches!(event, Event::Upstream { .. })));
}
