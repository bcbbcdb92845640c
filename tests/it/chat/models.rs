//! Which model answers where nobody names one.

use assistd::error::Kind;

use super::*;

fn list(names: &[&str]) -> Reply {
    let models: Vec<Value> = names
        .iter()
        .map(|name| json!({ "id": name, "object": "model" }))
        .collect();
    Reply::json(200, json!({ "object": "list", "data": models }))
}

fn unnamed() -> Request {
    Request {
        model: None,
        ..request("u1:hello")
    }
}

#[tokio::test]
async fn the_only_model_answers_and_is_asked_for_once() {
    let upstream = Upstream::start([
        list(&["only"]),
        Reply::events(whole("a")),
        Reply::events(whole("b")),
        Reply::events(whole("c")),
    ])
    .await;
    let provider = provider(&upstream);
    play(&provider, unnamed()).await;
    play(&provider, unnamed()).await;
    play(&provider, request("u1:hello")).await;
    let requests = upstream.requests();
    assert_eq!((requests[0].method.as_str(), requests[0].path()), ("GET", "/v1/models"));
    assert_eq!(requests[0].header("authorization"), Some(&*format!("Bearer {KEY}")));
    let models: Vec<Value> = requests[1..]
        .iter()
        .map(|request| request.json()["model"].take())
        .collect();
    assert_eq!(models, ["only", "only", "m"]);
}

#[tokio::test]
async fn of_several_none_is_taken_and_all_are_named() {
    let upstream = Upstream::start([list(&["a", "b"]), list(&["a"]), Reply::events(whole("a"))]).await;
    let provider = provider(&upstream);
    let (_, end) = play(&provider, unnamed()).await;
    let told = error(end);
    assert_eq!(told.kind(), Kind::ConfigInvalid);
    assert_eq!(
        told.message,
        "no model is named, and provider `test` offers several: `a`, `b`"
    );
    assert!(told.data.hint.is_some());
    // What was not found is looked for again.
    let (_, end) = play(&provider, unnamed()).await;
    assert_eq!(end, END_TURN);

    let many: Vec<String> = (0..300).map(|i| format!("m{i}")).collect();
    upstream.push(list(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    let (_, end) = play(&provider_with(&settings(&upstream)), unnamed()).await;
    assert!(error(end).message.ends_with("`m19` and 280 more"));
}

#[tokio::test]
async fn a_server_without_a_list_says_so() {
    for reply in [
        Reply::status(404),
        list(&[]),
        Reply::json(200, json!({ "object": "list", "data": null })),
    ] {
        let upstream = Upstream::start([reply]).await;
        let (_, end) = play(&provider(&upstream), unnamed()).await;
        let error = error(end);
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        assert_eq!(error.message, "no model is named, and provider `test` lists none");
    }
}

/// A server that still loads its model is asked again, as for an answer.
#[tokio::test]
async fn the_list_is_asked_for_again_where_that_may_help() {
    let loading =
        Reply::json(503, json!({ "error": { "message": "Loading model", "code": 503 } })).header("retry-after-ms", "1");
    let upstream = Upstream::start([loading, list(&["only"]), Reply::events(whole("a"))]).await;
    let (events, end) = play(&provider(&upstream), unnamed()).await;
    assert_eq!((retries(&events), end), (1, END_TURN));
}

#[tokio::test]
async fn the_models_are_listed() {
    let upstream = Upstream::start([list(&["a", "b"])]).await;
    assert_eq!(provider(&upstream).models().await.unwrap(), ["a", "b"]);
}
