//! Every request of the `assistants` dialect, judged by the API's own description.

use assistd::protocol::{Image, Options, Part, Tool, ToolOutput};
use assistd::provider::{Provider, Round};
use serde_json::json;

use crate::assistants::{anchor, begun, provider, run, whole_turn};
use crate::dialect::{fixtures, messages, play, request};
use crate::judge::{self, Judge};
use crate::upstream::{Recorded, Reply, Upstream};

#[tokio::test]
async fn every_request_is_what_the_description_allows() {
    let Some(fixtures) = fixtures() else {
        return;
    };
    let (judge, requests) = tokio::join!(Judge::start(&fixtures), all_requests());
    for request in &requests {
        judge.accepts(request).await;
    }
    let opening = requests.iter().find(|request| request.path() == "/v1/threads/runs");
    let wrong = json!({ "assistant_id": "asst_1", "no_such_member": true });
    judge.refuses(opening.unwrap(), wrong).await;
}

/// Plays a turn of each kind and gives what was sent.
async fn all_requests() -> Vec<Recorded> {
    let stream = || Reply::events(whole_turn("Hello!"));
    let object = || Reply::json(200, json!({ "id": "run_1", "status": "cancelled" }));
    let locked = Reply::json(
        400,
        json!({ "error": { "message": "Thread thread_1 already has an active run run_1." } }),
    );
    let own_tools = json!([
        { "type": "code_interpreter" },
        { "type": "file_search", "file_search": { "max_num_results": 5 } },
        { "type": "function", "function": { "name": "time", "parameters": { "type": "object" }, "strict": false } }
    ]);
    let uploaded = |id: &str| Reply::json(200, json!({ "id": id, "object": "file" }));
    let upstream = Upstream::start([
        uploaded("file_3"),
        uploaded("file_4"),
        // What the assistant has by itself, which the turns with tools say again.
        Reply::json(
            200,
            json!({ "id": "asst_1", "object": "assistant", "tools": own_tools }),
        ),
        stream(),
        stream(),
        stream(),
        // A locked thread: the refusal, cancel, poll, once more.
        locked,
        object(),
        object(),
        stream(),
        Reply::json(
            200,
            json!({ "object": "list", "data": [{ "id": "asst_1" }], "has_more": true }),
        ),
        Reply::json(200, json!({ "object": "list", "data": [], "has_more": false })),
        // Cut off: cancel.
        Reply::events(begun() + &run("in_progress", json!({}))),
        object(),
    ])
    .await;
    let provider = provider(&upstream);

    let mut first = request("u1:one a1:two u2:three");
    first.model = Some("gpt-4o".into());
    first.instructions = Some("Be brief.".into());
    let tool = json!({ "name": "weather", "description": "d", "parameters": { "type": "object", "properties": {} }, "strict": false });
    first.tools = vec![serde_json::from_value::<Tool>(tool).unwrap()];
    first.options = Options {
        format: Some(serde_json::from_value(json!({ "type": "jsonSchema", "schema": { "type": "object" } })).unwrap()),
        ..judge::options("weather")
    };
    messages(&mut first)[2].content = vec![
        Part::text("Look"),
        Part::Image(Image {
            url: Some("https://example.com/a.png".into()),
            detail: Some("low".into()),
            ..Image::default()
        }),
        Part::Image(Image {
            file_id: Some("file_1".into()),
            ..Image::default()
        }),
        Part::File(assistd::protocol::File {
            file_id: Some("file_2".into()),
            ..Default::default()
        }),
        Part::Image(Image {
            data: Some("iVBORw0KGgo=".into()),
            mime_type: Some("image/png".into()),
            ..Image::default()
        }),
        Part::File(assistd::protocol::File {
            data: Some("YSxiCg==".into()),
            mime_type: Some("text/csv".into()),
            name: Some("a.csv".into()),
            ..Default::default()
        }),
    ];
    let kept = |synced: &str| {
        let mut anchor = anchor(synced);
        anchor["files"] = json!({ "u2/4": "file_3", "u2/5": "file_4" });
        Some(anchor)
    };
    let mut later = first.clone();
    later.anchor = kept("u1");
    let mut outputs = later.clone();
    outputs.anchor = kept("u2");
    let output = ToolOutput {
        call_id: "call_1".into(),
        output: "sunny".into(),
        is_error: false,
    };
    outputs.rounds.push(Round {
        text: String::new(),
        calls: Vec::new(),
        outputs: vec![output],
        ..Round::default()
    });

    play(&provider, first).await;
    play(&provider, later.clone()).await;
    play(&provider, outputs).await;
    play(&provider, later).await;
    provider.assistants().await.unwrap();
    play(&provider, request("u1:one")).await;

    let mut requests = upstream.requests();
    // The description at hand is a cut one and has no files; `assistants/files.rs` reads what is uploaded.
    requests.retain(|request| request.path() != "/v1/files");
    let mut kinds: Vec<String> = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.path()))
        .collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "GET /v1/assistants",
            "GET /v1/assistants/asst_1",
            "GET /v1/threads/thread_1/runs/run_1",
            "POST /v1/threads/runs",
            "POST /v1/threads/thread_1/runs",
            "POST /v1/threads/thread_1/runs/run_1/cancel",
            "POST /v1/threads/thread_1/runs/run_1/submit_tool_outputs",
        ]
    );
    requests
}
