//! Every request of the `chat` dialect, judged by the API's own description.

use assistd::protocol::{File, Format, Image, Options, Part};
use assistd::provider::Provider;
use serde_json::json;

use crate::chat::{provider, provider_with, request, requests, settings, whole};
use crate::dialect::{fixtures, messages, play};
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
    let wrong = json!({ "model": "m", "messages": [{ "role": "nobody", "content": 7 }], "temperature": "hot" });
    judge.refuses(requests.last().unwrap(), wrong).await;
}

/// Plays a round of each kind and gives what was sent.
async fn all_requests() -> Vec<Recorded> {
    let stream = || Reply::events(whole("Hello!"));
    let list = Reply::json(200, json!({ "object": "list", "data": [{ "id": "gpt-4o" }] }));
    let upstream = Upstream::start([stream(), stream(), stream(), list]).await;

    let mut plain = request("u1:one a1:two u2:three");
    plain.instructions = Some("Be brief.".into());
    plain.options.max_output_tokens = Some(300);
    play(&provider(&upstream), plain).await;

    // As OpenAI itself gets it.
    let mut own = settings(&upstream);
    own.service = Some(assistd::config::Service::Foundry);
    own.base_url = Some(upstream.url());
    let own = provider_with(&own);
    let mut full = request("u1:one a1:two u2:three");
    full.tools = vec![requests::tool("f"), requests::tool("g")];
    full.options = Options {
        seed: Some(7),
        ..judge::options("f")
    };
    messages(&mut full)[1].round = Some(requests::round("two", "call_1"));
    messages(&mut full)[2].content = vec![
        Part::text("Look"),
        Part::Image(Image {
            url: Some("https://example.com/a.png".into()),
            detail: Some("low".into()),
            ..Image::default()
        }),
        Part::Image(Image {
            data: Some("iVBORw0KGgo=".into()),
            ..Image::default()
        }),
        Part::File(File {
            data: Some("JVBERi0xLjc=".into()),
            name: Some("a.pdf".into()),
            mime_type: Some("application/pdf".into()),
            ..File::default()
        }),
        Part::File(File {
            file_id: Some("file_1".into()),
            ..File::default()
        }),
    ];
    play(&own, full.clone()).await;

    full.rounds = vec![requests::round("Let me see.", "call_2"), requests::round("", "call_3")];
    full.options.tool_choice = Some("required".into());
    full.options.format = Some(Format::JsonObject);
    play(&own, full).await;

    own.models().await.unwrap();
    let recorded = upstream.requests();
    assert!(recorded[1].json()["max_completion_tokens"].is_u64());
    // The description has no list of models: what it has is judged.
    recorded
        .into_iter()
        .filter(|request| request.method == "POST")
        .collect()
}
