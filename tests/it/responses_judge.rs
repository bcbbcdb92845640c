//! Every request of the `responses` dialect, judged by the API's own description.

use assistd::config::{History, ProviderSettings};
use assistd::protocol::{Format, Options, Role};
use assistd::provider::{Provider, Round};
use assistd::thread::Message;
use serde_json::{Value, json};

use crate::dialect::{collect, fixtures, last_anchor};
use crate::judge::{self, Judge};
use crate::responses::requests::{every_part, round, thread, tool, user};
use crate::responses::{azure, begun, calling, message, play, provider_with, request, says, settings, whole_turn};
use crate::upstream::{Recorded, Reply, Upstream};

#[tokio::test]
async fn every_request_is_what_the_description_allows() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let (judge, requests) = tokio::join!(Judge::start(&fixtures), all_requests());
    for request in &requests {
        judge.accepts(&with_one_reading(request)).await;
    }
    let wrong = json!({ "model": "m", "input": [{ "type": "function_call", "arguments": 7 }], "stream": "yes" });
    judge.refuses(&requests[0], wrong).await;
}

/// The same with the parts of a user's message as those of a function's output. A message with a list of parts is two
/// things in the description (`EasyInputMessage` and `InputMessage`), of which its `oneOf` allows one: the judge refuses
/// every such message, also those that stand in the description as examples. The parts are the same in both places.
fn with_one_reading(request: &Recorded) -> Recorded {
    let mut body = request.json();
    for item in body["input"].as_array_mut().into_iter().flatten() {
        if item["content"].is_array() {
            assert_eq!((&item["type"], &item["role"]), (&json!("message"), &json!("user")));
            *item = json!({ "type": "function_call_output", "call_id": "call_0", "output": item["content"].take() });
        }
    }
    let mut request = request.clone();
    if !body.is_null() {
        request.body = body.to_string().into_bytes();
    }
    request
}

/// Rounds with all that is carried, as the recordings have it.
fn carried() -> Vec<Message> {
    let items = json!([
        { "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": "Hm." }], "encrypted_content": "x" },
        { "type": "web_search_call", "id": "ws_1", "status": "completed", "action": { "type": "search", "query": "q" } },
        { "type": "message", "phase": "commentary" },
        { "type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "container_id": "c", "outputs": null },
        { "type": "image_generation_call", "id": "ig_1" },
        { "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}" },
        { "type": "custom_tool_call", "id": "ct_1", "call_id": "call_2", "name": "sql", "input": "select 1" },
    ]);
    let compaction = json!([{ "type": "compaction", "id": "cmp_1", "encrypted_content": "y" }, { "type": "message", "phase": null }]);
    let answer = |id: &str, text: &str, items: Value| {
        let mut calls = round("call_1", "", None);
        calls.calls.extend(round("call_2", "", None).calls);
        let has_calls = items.as_array().unwrap().len() > 2;
        Message {
            round: Some(Round {
                carry: Some(json!({ "responses": items })),
                ..if has_calls { calls } else { Round::default() }
            }),
            ..Message::text(id, Role::Assistant, text)
        }
    };
    vec![
        Message::text("u1", Role::User, "one"),
        answer("a1", "Look.", items),
        answer("a2", "There.", compaction),
        Message::text("u2", Role::User, "two"),
    ]
}

/// Plays a round of each kind and gives what was sent.
async fn all_requests() -> Vec<Recorded> {
    let stream = || Reply::events(whole_turn("Hello!"));
    let upstream = Upstream::start([stream(), stream(), stream(), stream()]).await;
    let plain = request("u1:one a1:two u2:three");
    play(&settings(&upstream), plain).await;

    let mut full = thread(vec![user("u1", every_part())]);
    full.model = Some("gpt-5".into());
    full.instructions = Some("Be brief.".into());
    full.tools = vec![
        tool("weather"),
        serde_json::from_value(json!({ "name": "time" })).unwrap(),
    ];
    let own = |tool: Value| tool.as_object().unwrap().clone();
    full.options = Options {
        reasoning_summary: Some("auto".into()),
        upstream_tools: Some(vec![
            own(json!({ "type": "image_generation" })),
            own(json!({ "type": "custom", "name": "sql" })),
        ]),
        ..judge::options("weather")
    };
    play(&azure(&upstream), full.clone()).await;
    full.options.format = Some(Format::JsonObject);
    full.options.tool_choice = Some("image_generation".into());
    full.rounds = vec![round("call_9", "Let me see.", None)];
    play(&azure(&upstream), full).await;
    let mut carrying = thread(carried());
    // What stands before a compaction is not sent; so once without.
    play(&azure(&upstream), carrying.clone()).await;
    upstream.push(stream());
    let messages = carried();
    carrying = thread(vec![messages[0].clone(), messages[1].clone(), messages[3].clone()]);
    play(&azure(&upstream), carrying).await;
    let mut requests = upstream.requests();
    requests.extend(kept_upstream().await);
    requests.extend(in_the_background().await);
    requests
}

async fn kept_upstream() -> Vec<Recorded> {
    let upstream = Upstream::start([calling("call_1"), whole_turn("Sunny")].map(Reply::events)).await;
    let settings = ProviderSettings {
        history: Some(History::Upstream),
        ..azure(&upstream)
    };
    let (events, _) = play(&settings, request("u1:one")).await;
    let mut outputs = request("u1:one");
    outputs.anchor = last_anchor(&events);
    outputs.rounds = vec![round("call_1", "", None)];
    play(&settings, outputs).await;
    upstream.requests()
}

/// Broken, taken up, asked for, cancelled.
async fn in_the_background() -> Vec<Recorded> {
    let mut half = begun() + &message(0) + &says(0, "x");
    half = half.replacen("\"type\"", "\"sequence_number\":1,\"type\"", 1);
    let upstream = Upstream::start([
        Reply::events(half).close(),
        Reply::json(400, json!({ "error": { "message": "no stream" } })),
        Reply::json(200, json!({ "id": "resp_1", "status": "in_progress", "output": [] })),
        Reply::json(200, json!({ "id": "resp_1", "status": "cancelled" })),
    ])
    .await;
    let settings = ProviderSettings {
        background: Some(true),
        ..azure(&upstream)
    };
    let asked = request("u1:one");
    let cancel = asked.cancel.clone();
    let answer = provider_with(&settings).answer(asked);
    let (_, ()) = tokio::join!(collect(answer), async {
        upstream.request(3).await;
        cancel.cancel();
    });
    let requests = upstream.requests();
    let kinds: Vec<String> = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    assert_eq!(
        kinds,
        [
            "POST /v1/responses",
            "GET /v1/responses/resp_1?stream=true&starting_after=1",
            "GET /v1/responses/resp_1",
            "POST /v1/responses/resp_1/cancel",
        ]
    );
    requests
}
