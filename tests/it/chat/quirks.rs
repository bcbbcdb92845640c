//! What servers do otherwise than the description has it, each in a stream of its own.

use assistd::provider::ToolCall;

use super::*;

fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        total_tokens: input_tokens + output_tokens,
        ..Usage::default()
    }
}

/// Streams, and the text and reasoning that come of them. Each ends as an answer does.
#[tokio::test]
async fn text_is_found_wherever_it_is() {
    let rows: Vec<(&str, String, &str, &str)> = vec![
        (
            "comments, keep-alives and events without a name",
            format!(": OPENROUTER PROCESSING\n\n: keep-alive\n\n\n\n{}", whole("a")),
            "a",
            "",
        ),
        (
            "no space behind the colon, and carriage returns",
            whole("a").replace("data: ", "data:").replace('\n', "\r\n"),
            "a",
            "",
        ),
        ("a byte order mark", format!("\u{feff}{}", whole("a")), "a", ""),
        (
            "Azure's first chunk, and chunks without choices between",
            sse(
                json!({ "id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": [{ "prompt_index": 0, "content_filter_results": {} }] }),
            ) + &says("a")
                + &sse(json!({ "choices": [], "obfuscation": "xxxx" }))
                + &whole("b"),
            "ab",
            "",
        ),
        (
            "log probabilities and padding",
            sse(
                json!({ "choices": [{ "index": 0, "delta": { "content": "a" }, "logprobs": { "content": [{ "token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": [] }] } }], "obfuscation": "x" }),
            ) + &whole("b"),
            "ab",
            "",
        ),
        (
            "content as a list, thinking in it",
            delta(
                json!({ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }], "closed": true }] }),
            ) + &delta(
                json!({ "content": [{ "type": "text", "text": "a" }, { "type": "reference", "reference_ids": [1] }, { "type": "text", "text": "b" }] }),
            ) + &whole("c"),
            "abc",
            "hm",
        ),
        (
            "thinking as a string in a list",
            delta(json!({ "content": [{ "type": "thinking", "thinking": "hm" }] })) + &whole("a"),
            "a",
            "hm",
        ),
        (
            "`reasoning_content`, empty and null at times",
            delta(json!({ "role": "assistant", "content": null, "reasoning_content": "" }))
                + &delta(json!({ "content": null, "reasoning_content": "h" }))
                + &delta(json!({ "content": "", "reasoning_content": "m" }))
                + &delta(json!({ "content": "a", "reasoning_content": null }))
                + &whole("b"),
            "ab",
            "hm",
        ),
        (
            "`reasoning`",
            delta(json!({ "reasoning": "hm" })) + &whole("a"),
            "a",
            "hm",
        ),
        (
            "two spellings that say the same",
            delta(
                json!({ "reasoning": "hm", "reasoning_content": "hm", "reasoning_details": [{ "type": "reasoning.text", "text": "hm", "index": 0 }] }),
            ) + &whole("a"),
            "a",
            "hm",
        ),
        (
            "`reasoning_details` alone",
            delta(json!({ "reasoning_details": [{ "type": "reasoning.summary", "summary": "h", "index": 0 }] }))
                + &delta(json!({ "reasoning_details": [{ "type": "reasoning.summary", "summary": "m", "index": 0 }] }))
                + &delta(
                    json!({ "reasoning_details": [{ "type": "reasoning.encrypted", "data": "xyz", "index": 1 }] }),
                )
                + &whole("a"),
            "a",
            "hm",
        ),
        (
            "tags in the text stay text",
            whole("<think>hm</think>a"),
            "<think>hm</think>a",
            "",
        ),
        (
            "an empty reason in every chunk",
            sse(json!({ "choices": [{ "index": 0, "delta": { "content": "a" }, "finish_reason": "" }] })) + &whole("b"),
            "ab",
            "",
        ),
        (
            "no index, no null reason, the answer so far beside the delta",
            sse(json!({ "choices": [{ "delta": { "content": "a" }, "message": { "content": "a" } }] }))
                + &sse(
                    json!({ "choices": [{ "delta": { "content": "b" }, "message": { "content": "ab" }, "finish_reason": "stop" }] }),
                )
                + done(),
            "ab",
            "",
        ),
        (
            "a whole message in place of deltas",
            sse(
                json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": "ab" }, "finish_reason": "stop" }] }),
            ),
            "ab",
            "",
        ),
        (
            "the last piece of text in the chunk that ends",
            says("a")
                + &sse(json!({ "choices": [{ "index": 0, "delta": { "content": "b" }, "finish_reason": "stop" }] }))
                + done(),
            "ab",
            "",
        ),
        (
            "other answers, which nobody asked for",
            sse(
                json!({ "choices": [{ "index": 1, "delta": { "content": "x" } }, { "index": 0, "delta": { "content": "a" } }] }),
            ) + &sse(json!({ "choices": [{ "index": 1, "delta": { "content": "y" }, "finish_reason": "length" }] }))
                + &whole("b"),
            "ab",
            "",
        ),
        (
            "half a character",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\ud83d\"}}]}\n\n".to_owned() + &whole("b"),
            "a\u{fffd}b",
            "",
        ),
        (
            "members of other types than described",
            sse(
                json!({ "choices": [{ "index": "0", "delta": { "content": "a", "refusal": { "x": [1] }, "reasoning": ["x"], "role": 7 }, "finish_reason": false }], "object": 1, "usage": {} }),
            ) + &sse(json!({ "choices": [{ "index": 0, "delta": { "content": 5.5 } }] }))
                + &whole("b"),
            "ab",
            "",
        ),
        (
            "a null choice list and a null delta",
            sse(json!({ "choices": null, "usage": { "prompt_tokens": 1 } }))
                + &sse(json!({ "choices": [{ "index": 0, "delta": null, "finish_reason": null }] }))
                + &whole("a"),
            "a",
            "",
        ),
        (
            "an empty error in every chunk",
            sse(json!({ "choices": [{ "index": 0, "delta": { "content": "a" } }], "error": null }))
                + &sse(json!({ "choices": [{ "index": 0, "delta": { "content": "b" } }], "error": "" }))
                + &whole("c"),
            "abc",
            "",
        ),
    ];
    for (what, stream, text, reasoning) in rows {
        let (account, end) = played(stream).await;
        assert_eq!(
            (account.text.as_str(), account.reasoning.as_str()),
            (text, reasoning),
            "{what}"
        );
        assert_eq!(end, END_TURN, "{what}");
        assert_eq!(account.others, [""; 0], "{what}");
        let steps: &[(String, String)] = &match reasoning {
            "" => vec![],
            _ => vec![
                ("reasoning".into(), "inProgress".into()),
                ("reasoning".into(), "completed".into()),
            ],
        };
        assert_eq!(account.steps, steps, "{what}");
    }
}

#[tokio::test]
async fn no_content_type_is_needed() {
    let reply = Reply::status(200).bytes(whole("a"));
    let upstream = Upstream::start([reply]).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    assert_eq!((Account::of(&events).text.as_str(), end), ("a", END_TURN));
}

#[tokio::test]
async fn figures_are_told_once_wherever_they_are() {
    let figures = json!({ "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9 });
    let ending = |extra: Value| {
        let mut chunk = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
        chunk
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        sse(chunk)
    };
    let rows = [
        says("a") + &finish("stop") + &sse(json!({ "choices": [], "usage": figures })) + done(),
        says("a") + &ending(json!({ "usage": figures })) + done(),
        sse(
            json!({ "choices": [{ "index": 0, "delta": { "content": "a" } }], "usage": { "prompt_tokens": 7, "completion_tokens": 1 } }),
        ) + &ending(json!({ "usage": figures })),
        says("a") + &ending(json!({ "x_groq": { "id": "req_1", "usage": figures } })) + done(),
        says("a") + &finish("stop") + &sse(json!({ "usage": figures })) + done(),
    ];
    for stream in rows {
        let (account, end) = played(&stream).await;
        assert_eq!((account.usage, end), (Some(usage(7, 2)), END_TURN), "{stream}");
    }
    let cached = json!({ "prompt_tokens": 7, "completion_tokens": 2, "prompt_cache_hit_tokens": 5 });
    let (account, _) = played(says("a") + &ending(json!({ "usage": cached }))).await;
    assert_eq!(account.usage.unwrap().cached_tokens, Some(5));
}

#[tokio::test]
async fn citations_and_pictures_are_not_text() {
    let citation = |url: &str, start: u32, end: u32| Annotation {
        kind: "urlCitation".into(),
        url: Some(url.into()),
        title: Some("T".into()),
        start: Some(start),
        end: Some(end),
        ..Annotation::default()
    };
    let cited = |url: &str, start: u32, end: u32| json!({ "type": "url_citation", "url_citation": { "url": url, "title": "T", "start_index": start, "end_index": end, "content": "…" } });
    let picture = |url: &str| json!({ "type": "image_url", "index": 0, "image_url": { "url": url } });
    let stream = says("é")
        + &delta(json!({ "annotations": [cited("https://a.example", 0, 1)] }))
        + &sse(
            json!({ "choices": [{ "index": 0, "delta": { "content": "b" } }], "citations": ["https://a.example", "https://b.example"] }),
        )
        + &sse(
            json!({ "choices": [{ "index": 0, "delta": { "images": [picture("data:image/png;base64,AAAA"), picture("https://c.example/c.png")] } }], "citations": ["https://a.example", "https://b.example"] }),
        )
        + &finish("stop")
        + done();
    let upstream = Upstream::start([Reply::events(stream)]).await;
    let (events, end) = play(&provider(&upstream), request("u1:hello")).await;
    let account = Account::of(&events);
    assert_eq!((account.text.as_str(), end), ("éb", END_TURN));
    let page = Annotation {
        kind: "urlCitation".into(),
        url: Some("https://b.example".into()),
        ..Annotation::default()
    };
    assert_eq!(account.annotations, [citation("https://a.example", 0, 1), page]);
    let embedded = Image {
        data: Some("AAAA".into()),
        mime_type: Some("image/png".into()),
        ..Image::default()
    };
    let elsewhere = Image {
        url: Some("https://c.example/c.png".into()),
        ..Image::default()
    };
    assert_eq!(account.images, [embedded, elsewhere]);
    let places: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            Event::Image { index, .. } => Some(*index),
            _ => None,
        })
        .collect();
    assert_eq!(places, [1, 2], "each is a part of its own");
}

/// How calls find their pieces is told where they are put together; here is that they reach the end of the round.
#[tokio::test]
async fn calls_end_the_round_whatever_the_reason_says() {
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
    };
    let ollama = delta(
        json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{}" } }] }),
    ) + &delta(
        json!({ "tool_calls": [{ "index": 0, "id": "b", "function": { "name": "g", "arguments": { "x": [1, "é"] } } }] }),
    );
    for reason in ["tool_calls", "stop", "function_call", "eos"] {
        let (account, end) = played(says("Let me see.") + &ollama + &finish(reason) + done()).await;
        assert_eq!(account.text, "Let me see.");
        assert_eq!(
            end,
            End::ToolCalls(vec![call("a", "f", "{}"), call("b", "g", r#"{"x":[1,"é"]}"#)]),
            "{reason}"
        );
    }
    // Calls that were cut are not called.
    let (_, end) = played(ollama + &finish("length") + done()).await;
    assert_eq!(end, End::Incomplete(StopReason::MaxTokens));

    let legacy = delta(json!({ "function_call": { "name": "f", "arguments": "{\"x\"" } }))
        + &delta(json!({ "function_call": { "arguments": ":1}" } }))
        + &finish("function_call")
        + done();
    let (_, end) = played(legacy).await;
    let End::ToolCalls(calls) = end else {
        panic!("{end:?}");
    };
    assert_eq!(
        (calls[0].name.as_str(), calls[0].arguments.as_str()),
        ("f", r#"{"x":1}"#)
    );
    assert!(calls[0].id.starts_with("call_"), "{calls:?}");

    // Said to be calls, and there are none.
    let (_, end) = played(says("a") + &finish("tool_calls") + done()).await;
    assert_eq!(end, END_TURN);
}

/// A step for the calls from their first piece on, which ends with all that they say.
#[tokio::test]
async fn a_call_is_a_step_as_soon_as_it_begins() {
    let pieces =
        delta(json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{\"x\"" } }] }))
            + &delta(json!({ "tool_calls": [{ "index": 0, "function": { "arguments": ":1}" } }] }))
            + &finish("tool_calls")
            + done();
    let upstream = Upstream::start([Reply::events(pieces)]).await;
    let (events, _) = play(&provider(&upstream), request("u1:hello")).await;
    let steps = steps(&events);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(steps.iter().all(|step| step.id == "step_a"));
    let arguments: Vec<_> = steps
        .iter()
        .map(|step| step.calls[0].arguments.as_deref().unwrap())
        .collect();
    assert_eq!(arguments, [r#"{"x""#, r#"{"x":1}"#]);
}

/// What upstreams want back with their calls, in their own words.
#[tokio::test]
async fn reasoning_goes_back_with_the_calls_it_led_to() {
    let call = json!({ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{}" }, "extra_content": { "google": { "thought_signature": "sig" } } });
    let stream = delta(json!({ "reasoning_content": "h" }))
        + &delta(
            json!({ "reasoning_content": "m", "reasoning_details": [{ "type": "reasoning.text", "text": "h", "index": 0 }] }),
        )
        + &delta(
            json!({ "reasoning_details": [{ "type": "reasoning.text", "text": "m", "index": 0, "signature": "s" }] }),
        )
        + &delta(json!({ "tool_calls": [call] }));
    let (account, _) = played(stream.clone() + &finish("tool_calls") + done()).await;
    assert_eq!(
        account.carry,
        Some(json!({
            "reasoning_content": "hm",
            "reasoning_details": [{ "type": "reasoning.text", "text": "hm", "index": 0, "signature": "s" }],
            "tool_calls": { "a": { "google": { "thought_signature": "sig" } } },
        }))
    );
    // Without calls nothing is wanted back.
    let (account, _) = played(delta(json!({ "reasoning_content": "hm" })) + &whole("a")).await;
    assert_eq!(account.carry, None);
}

#[tokio::test]
async fn what_has_no_word_here_is_passed_on() {
    let stream = "event: model_load.progress\ndata: {\"progress\":0.5}\n\n".to_owned() + &whole("a");
    let (account, end) = played(stream).await;
    assert_eq!(
        (account.others, end),
        (vec!["model_load.progress".to_owned()], END_TURN)
    );
}
