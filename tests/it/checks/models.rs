//! `model/list` against upstreams that list, and some that are not there.

use serde_json::json;

use super::{closed_port, home_at, request};
use crate::upstream::{Reply, Upstream};

/// Nothing of a list that could not be had is lost in silence.
#[tokio::test]
async fn models_are_listed_by_provider_and_failures_become_warnings() {
    let models = Reply::json(
        200,
        json!({ "object": "list", "data": [{ "id": "m2" }, { "id": "m1" }] }),
    );
    let upstream = Upstream::start([models]).await;
    let home = home_at(&upstream.url());
    let port = closed_port().await;
    home.write_config(&format!(
        "default_assistant = \"a\"\nmodel = \"m1\"\n\
         [providers.p]\ndialect = \"assistants\"\nbase_url = \"{0}\"\n\
         [providers.gone]\ndialect = \"assistants\"\nbase_url = \"http://127.0.0.1:{port}\"\n\
         [providers.embedded]\ndialect = \"embedded\"\nmodel = \"/no/such.gguf\"\n\
         [assistants.a]\nprovider = \"p\"\nassistant_id = \"asst_1\"\n",
        upstream.url()
    ));
    let response = request(home, &[], "model/list", json!({})).await;
    assert_eq!(
        response["result"]["models"],
        json!([
            { "name": "m2", "provider": "p", "isDefault": false },
            { "name": "m1", "provider": "p", "isDefault": true }
        ])
    );
    let warnings = response["result"]["warnings"].to_string();
    assert!(warnings.contains("no model file `/no/such.gguf`"), "{warnings}");
    assert!(warnings.contains("failed to reach provider `gone`"), "{warnings}");
    assert_eq!(upstream.request(1).await.target, "/v1/models");
}

#[tokio::test]
async fn what_is_wrong_with_the_only_provider_that_was_asked_is_an_error() {
    let port = closed_port().await;
    let home = home_at(&format!("http://127.0.0.1:{port}"));
    let response = request(home, &[], "model/list", json!({ "provider": "p" })).await;
    assert_eq!(response["error"]["data"]["kind"], "network", "{response}");
}
