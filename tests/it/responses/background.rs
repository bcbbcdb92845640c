//! Responses that outlive their connection: taken up where it broke, with nothing repeated and nothing lost.

use std::sync::Arc;

use assistd::error::Kind;
use tokio::sync::Notify;

use super::*;

fn background(upstream: &Upstream) -> ProviderSettings {
    ProviderSettings {
        background: Some(true),
        ..settings(upstream)
    }
}

/// The events of a stream, each with a number.
fn numbered(stream: &str) -> Vec<String> {
    let events = stream.split_inclusive("\n\n").enumerate();
    let numbered = events.map(|(number, event)| {
        let (name, data) = event.trim_end().split_once("\ndata: ").unwrap();
        let mut data: Value = serde_json::from_str(data).unwrap();
        data["sequence_number"] = json!(number);
        format!("{name}\ndata: {data}\n\n")
    });
    numbered.collect()
}

/// Text with a mark and an annotation, reasoning, code and a call.
fn stream() -> Vec<String> {
    let code = json!({ "type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "12" });
    let reasoning =
        json!({ "type": "reasoning", "id": "rs", "summary": [{ "text": "Hmm." }], "encrypted_content": "x" });
    let call = json!({ "type": "function_call", "id": "fc", "call_id": "call_1", "name": "weather", "arguments": "{\"a\":1}" });
    let piece = |name: &str, index: u64, text: &str| sse(name, json!({ "output_index": index, "delta": text }));
    let queued = sse(
        "response.queued",
        json!({ "response": { "id": "resp_1", "status": "queued" } }),
    );
    let created = sse(
        "response.created",
        json!({ "response": { "id": "resp_1", "status": "queued" } }),
    );
    let text = "One é【1†a】 two😀";
    let whole = json!({ "type": "message", "id": "msg_1", "content": [{ "type": "output_text", "text": text }] });
    numbered(
        &[
            created,
            queued,
            sse(
                "response.in_progress",
                json!({ "response": { "id": "resp_1", "status": "in_progress" } }),
            ),
            item("added", 0, json!({ "type": "reasoning", "id": "rs", "summary": [] })),
            piece("response.reasoning_summary_text.delta", 0, "Hm"),
            piece("response.reasoning_summary_text.delta", 0, "m."),
            item("done", 0, reasoning.clone()),
            message(1),
            says(1, "One é【1"),
            says(1, "†a】 two"),
            says(1, "😀"),
            item("done", 1, whole.clone()),
            item(
                "added",
                2,
                json!({ "type": "code_interpreter_call", "id": "ci_1", "code": "" }),
            ),
            piece("response.code_interpreter_call_code.delta", 2, "1"),
            piece("response.code_interpreter_call_code.delta", 2, "2"),
            item("done", 2, code.clone()),
            item(
                "added",
                3,
                json!({ "type": "function_call", "id": "fc", "call_id": "call_1", "name": "weather", "arguments": "" }),
            ),
            piece("response.function_call_arguments.delta", 3, "{\"a\""),
            piece("response.function_call_arguments.delta", 3, ":1}"),
            item("done", 3, call.clone()),
            ended(
                "completed",
                json!({ "output": [reasoning, whole, code, call], "usage": { "input_tokens": 3, "output_tokens": 4 } }),
            ),
        ]
        .concat(),
    )
}

/// What a run without breaks gives, its retries and anchors aside.
fn seen((events, end): (Vec<Event>, End)) -> (Vec<Event>, End) {
    let events = events
        .into_iter()
        .filter(|event| !matches!(event, Event::Retry { .. } | Event::Anchor(_)));
    (joined(events.collect()), end)
}

async fn unbroken() -> (Vec<Event>, End) {
    let upstream = Upstream::start([Reply::events(stream().concat())]).await;
    let whole = seen(play(&background(&upstream), request("u1:hello")).await);
    assert_eq!(whole.1, End::ToolCalls(vec![call("call_1", "weather", "{\"a\":1}")]));
    assert_eq!(text(&whole.0), "One é two😀");
    whole
}

/// The target of a request that goes on behind the event of this number.
fn behind(number: usize) -> String {
    format!("/v1/responses/resp_1?stream=true&starting_after={number}")
}

#[tokio::test]
async fn a_background_response_is_stored_and_streamed() {
    let upstream = Upstream::start([Reply::events(stream().concat())]).await;
    let (events, _) = play(&background(&upstream), request("u1:hello")).await;
    let body = upstream.requests()[0].json();
    assert_eq!(
        (&body["background"], &body["store"], &body["stream"]),
        (&json!(true), &json!(true), &json!(true))
    );
    let anchors: Vec<&Value> = events
        .iter()
        .filter_map(|event| match event {
            Event::Anchor(anchor) => Some(anchor),
            _ => None,
        })
        .collect();
    // The last one: nothing is under way any more. All came at once here, so there is no need to have said that it was.
    assert!(
        anchors.iter().all(|anchor| anchor["responses"] == json!({})),
        "{anchors:?}"
    );
}

#[tokio::test]
async fn the_response_is_kept_as_soon_as_it_is_known() {
    let gate = Arc::new(Notify::new());
    let events = stream();
    let reply = Reply::events(&events[0]).wait(&gate).bytes(events[1..].concat());
    let upstream = Upstream::start([reply]).await;
    let mut answer = provider_with(&background(&upstream)).answer(request("u1:hello"));
    let first = answer.next().await.unwrap();
    assert_eq!(first, Event::Anchor(json!({ "responses": { "underWay": "resp_1" } })));
    gate.notify_one();
    let (rest, _) = collect(answer).await;
    assert_eq!(last_anchor(&rest), Some(json!({ "responses": {} })));
}

#[tokio::test]
async fn broken_behind_each_event_and_in_the_middle_of_each_it_goes_on_where_it_was() {
    let whole = unbroken().await;
    let events = stream();
    for at in 1..events.len() {
        let before = events[..at].concat();
        let half = &events[at].as_bytes()[..events[at].len() / 2];
        let almost = &events[at].as_bytes()[..events[at].len() - 1];
        let breaks = [
            Reply::events(&before).close(),
            Reply::events(&before).reset(),
            Reply::events(&before),
            Reply::events(&before).bytes(half).close(),
            Reply::events(&before).bytes(almost).close(),
        ];
        for (way, first) in breaks.into_iter().enumerate() {
            let rest = Reply::events(events[at..].concat());
            let upstream = Upstream::start([first, rest]).await;
            let played = play(&background(&upstream), request("u1:hello")).await;
            assert_eq!(retries(&played.0), 1);
            assert!(seen(played) == whole, "broken behind event {at} in way {way}");
            assert_eq!(upstream.requests()[1].target, behind(at - 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_may_break_again_and_again_and_the_upstream_may_repeat_itself() {
    let whole = unbroken().await;
    let events = stream();
    let upstream = Upstream::start([
        Reply::events(events[..4].concat()).close(),
        // Nothing new, twice; a refusal for now; and all from the beginning.
        Reply::events("").close(),
        Reply::events(": waiting\n\n").close(),
        Reply::json(503, json!({})),
        Reply::hang_up(),
        Reply::events(events[..9].concat()).close(),
        Reply::events(events[7..].concat()),
    ])
    .await;
    let played = play(&background(&upstream), request("u1:hello")).await;
    let delays: Vec<u128> = played
        .0
        .iter()
        .filter_map(|event| match event {
            Event::Retry { delay, .. } => Some(delay.as_millis()),
            _ => None,
        })
        .collect();
    assert_eq!(delays, [0, 500, 1000, 2000, 4000, 0]);
    assert!(seen(played) == whole);
    let targets: Vec<String> = upstream.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets[5..], [behind(3), behind(8)]);
}

#[tokio::test]
async fn a_silent_connection_is_broken_too() {
    let whole = unbroken().await;
    let events = stream();
    let upstream = Upstream::start([
        Reply::events(events[..5].concat()).stall(),
        Reply::events(events[5..].concat()),
    ])
    .await;
    let mut settings = background(&upstream);
    settings.idle_timeout = Some(0.05);
    let played = play(&settings, request("u1:hello")).await;
    assert!(seen(played) == whole);
}

#[tokio::test(start_paused = true)]
async fn where_no_stream_is_taken_up_it_is_asked_for_until_it_is_there() {
    let whole = unbroken().await;
    let events = stream();
    let response: Value = {
        let data = events.last().unwrap().split_once("data: ").unwrap().1;
        serde_json::from_str::<Value>(data).unwrap()["response"].clone()
    };
    let under_way = |output: Value| {
        Reply::json(
            200,
            json!({ "id": "resp_1", "status": "in_progress", "output": output }),
        )
    };
    for at in 1..events.len() {
        let refused = Reply::json(
            400,
            json!({ "error": { "message": "this response cannot be streamed" } }),
        );
        let upstream = Upstream::start([
            Reply::events(events[..at].concat()).close(),
            refused,
            under_way(json!([])),
            Reply::json(502, json!({})),
            under_way(json!([response["output"][0]])),
            Reply::json(200, response.clone()),
        ])
        .await;
        let (events, end) = seen(play(&background(&upstream), request("u1:hello")).await);
        assert_eq!(end, whole.1, "broken behind event {at}");
        assert_eq!(
            (text(&events), reasoning(&events)),
            (text(&whole.0), reasoning(&whole.0)),
            "broken behind event {at}"
        );
        assert_eq!(usage(&events), usage(&whole.0));
        assert_eq!(steps(&events).last(), steps(&whole.0).last());
        assert_eq!(carry(&events), carry(&whole.0));
        let requests = upstream.requests();
        assert!(
            requests[2..]
                .iter()
                .all(|request| request.target == "/v1/responses/resp_1")
        );
    }
}

/// A second stream would say again what the first has said, and nothing tells which events those are.
#[tokio::test]
async fn where_events_have_no_numbers_the_response_itself_is_asked_for() {
    let whole = Reply::json(
        200,
        json!({ "id": "resp_1", "status": "completed", "output": [whole_message(0, "One two")] }),
    );
    let upstream = Upstream::start([Reply::events(begun() + &message(0) + &says(0, "One ")).close(), whole]).await;
    let (events, end) = play(&background(&upstream), request("u1:hello")).await;
    assert_eq!((text(&events).as_str(), end), ("One two", END_TURN));
    assert_eq!(upstream.requests()[1].target, "/v1/responses/resp_1");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stays_out_of_reach_fails_at_last_and_is_not_forgotten() {
    let mut replies = vec![Reply::events(stream()[..9].concat()).close()];
    replies.extend(vec![Reply::hang_up(); 14]);
    let upstream = Upstream::start(replies).await;
    let (events, end) = play(&background(&upstream), request("u1:hello")).await;
    assert_eq!(error(end).kind(), Kind::Network);
    assert_eq!(
        last_anchor(&events),
        Some(json!({ "responses": { "underWay": "resp_1" } }))
    );
    let posts = upstream
        .requests()
        .into_iter()
        .filter(|request| request.method == "POST");
    assert_eq!(posts.count(), 1, "nothing is started twice");
}

#[tokio::test]
async fn a_response_that_is_gone_upstream_has_failed() {
    let gone = || Reply::json(404, json!({ "error": { "message": "no such response" } }));
    let upstream = Upstream::start([Reply::events(stream()[..9].concat()).close(), gone(), gone()]).await;
    let (events, end) = play(&background(&upstream), request("u1:hello")).await;
    assert_eq!(error(end).kind(), Kind::NotFound);
    assert_eq!(last_anchor(&events), Some(json!({ "responses": {} })));
}

#[tokio::test]
async fn another_process_takes_it_up_from_its_beginning() {
    let whole = unbroken().await;
    let events = stream();
    let upstream = Upstream::start([
        Reply::events(events[..6].concat()).close(),
        Reply::events(events[6..].concat()),
    ])
    .await;
    let mut left = request("u1:hello");
    left.anchor = Some(json!({ "responses": { "underWay": "resp_1" } }));
    let answer = provider_with(&background(&upstream)).resume(left.clone()).unwrap();
    let (played, end) = collect(answer).await;
    assert_eq!(last_anchor(&played), Some(json!({ "responses": {} })));
    assert!(seen((played, end)) == whole);
    let targets: Vec<String> = upstream.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/v1/responses/resp_1?stream=true", &behind(5)]);

    let failed = begun() + &ended("failed", json!({ "error": { "code": "server_error", "message": "m" } }));
    upstream.push(Reply::events(failed));
    let answer = provider_with(&background(&upstream)).resume(left.clone()).unwrap();
    let (played, end) = collect(answer).await;
    error(end);
    assert_eq!(
        retries(&played),
        0,
        "it is never begun anew: some of it may have been shown"
    );

    assert!(
        provider_with(&settings(&upstream)).resume(left).is_none(),
        "it is no background provider"
    );
    assert!(
        provider_with(&background(&upstream))
            .resume(request("u1:hello"))
            .is_none(),
        "nothing is under way"
    );
}

#[tokio::test]
async fn cancelling_tells_the_upstream_also_while_the_connection_is_gone() {
    let gate = Arc::new(Notify::new());
    let streams = [
        Reply::events(stream()[..10].concat()).wait(&gate),
        Reply::events(stream()[..10].concat()).close(),
    ];
    for (way, first) in streams.into_iter().enumerate() {
        let replies = if way == 0 {
            vec![first]
        } else {
            vec![first, Reply::silence()]
        };
        let upstream = Upstream::start(replies).await;
        upstream.push(Reply::json(200, json!({ "id": "resp_1", "status": "cancelled" })));
        let asked = request("u1:hello");
        let cancel = asked.cancel.clone();
        let mut answer = provider_with(&background(&upstream)).answer(asked);
        while let Some(event) = answer.next().await {
            let is_then = match way {
                0 => matches!(event, Event::Delta { .. }),
                _ => matches!(event, Event::Retry { .. }),
            };
            if is_then {
                break;
            }
        }
        if way == 1 {
            // The response is being looked for.
            let looking = async { while answer.next().await.is_some() {} };
            tokio::select! {
                () = looking => panic!("nothing more comes"),
                _ = upstream.request(2) => {}
            }
        }
        cancel.cancel();
        let (events, end) = collect(answer).await;
        assert_eq!(end, End::Cancelled);
        assert!(
            events
                .iter()
                .all(|event| *event == Event::Anchor(json!({ "responses": {} }))),
            "{events:?}"
        );
        let last = upstream.requests().pop().unwrap();
        assert_eq!(
            (last.method.as_str(), last.path()),
            ("POST", "/v1/responses/resp_1/cancel")
        );
    }
}

#[tokio::test]
async fn cancelled_before_its_first_event_it_is_waited_for_and_then_cancelled() {
    let gate = Arc::new(Notify::new());
    let reply = Reply::events("").wait(&gate).bytes(&stream()[0]).stall();
    let upstream = Upstream::start([
        reply,
        Reply::json(200, json!({ "id": "resp_1", "status": "cancelled" })),
    ])
    .await;
    let asked = request("u1:hello");
    let cancel = asked.cancel.clone();
    let playing = tokio::spawn({
        let answer = provider_with(&background(&upstream)).answer(asked);
        collect(answer)
    });
    upstream.request(1).await;
    cancel.cancel();
    gate.notify_one();
    let (_, end) = playing.await.unwrap();
    assert_eq!(end, End::Cancelled);
    assert_eq!(upstream.requests()[1].path(), "/v1/responses/resp_1/cancel");
}

#[tokio::test]
async fn the_recorded_response_and_its_resumption_are_the_unbroken_one() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let read = |part: u32| {
        let name = format!("openai-dotnet/ResponsesTests.CanStreamBackgroundResponses.{part}.sse");
        std::fs::read_to_string(fixtures.join(name)).unwrap()
    };
    let (first, second) = (read(0), read(1));
    let upstream = Upstream::start([Reply::events(&first)]).await;
    let whole = seen(play(&background(&upstream), request("u1:hello")).await);
    // As recorded: broken behind its second event, taken up with `starting_after=1`.
    let two: String = first.split_inclusive("\n\n").take(2).collect();
    let upstream = Upstream::start([Reply::events(two).close(), Reply::events(&second)]).await;
    let taken_up = seen(play(&background(&upstream), request("u1:hello")).await);
    assert!(taken_up == whole);
    assert!(upstream.requests()[1].target.ends_with("?stream=true&starting_after=1"));
}
