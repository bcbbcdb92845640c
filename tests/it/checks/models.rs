//! `model/list` and the stage of the model, against upstreams that list, that do not, and some that are not there.

use assistd::config::{Dialect, ProviderSettings};
use assistd::error::Error;
use assistd::protocol::{CheckStage, StageStatus};
use assistd::provider::check::Wanted;
use assistd::provider::credentials::Credentials;
use assistd::provider::http::{Call, Endpoint, Http};
use assistd::provider::{Event, Provider, Request};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::{Value, json};

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

/// A dialect that can do nothing but list models.
struct Listing(Endpoint);

impl Listing {
    fn at(upstream: &Upstream) -> Listing {
        let mut settings = ProviderSettings::new(Dialect::Chat);
        settings.base_url = Some(upstream.url());
        let credentials = Credentials::new("p", None, None);
        Listing(Endpoint::v1("p", &settings, credentials, Http::new()).unwrap())
    }

    /// The last stage.
    async fn model(&self, model: Option<&str>) -> CheckStage {
        let wanted = Wanted { model, key_from: None };
        self.check(wanted).await.pop().unwrap()
    }
}

impl Provider for Listing {
    fn prepare(&self) -> BoxFuture<'_, Result<(), Error>> {
        unreachable!("a check is no run")
    }

    fn answer(&self, _: Request) -> BoxStream<'static, Event> {
        unreachable!("a check is no run")
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        Some(&self.0)
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        Box::pin(async {
            let answer = self
                .0
                .send(&Call::get(["models"]))
                .await
                .map_err(|failure| failure.error)?;
            let list: Value = answer.json().await?;
            let names = list["data"].as_array().unwrap().iter();
            Ok(names.map(|model| model["id"].as_str().unwrap().to_owned()).collect())
        })
    }
}

#[tokio::test]
async fn the_model_is_one_that_is_offered_or_the_only_one() {
    let list = |names: &[&str]| {
        let models: Vec<Value> = names.iter().map(|name| json!({ "id": name })).collect();
        Reply::json(200, json!({ "data": models }))
    };
    let rows: [(&[&str], Option<&str>, StageStatus); 5] = [
        (&["m1", "m2"], Some("m2"), StageStatus::Passed),
        (&["m1"], None, StageStatus::Passed),
        (&["m1", "m2"], Some("m3"), StageStatus::Failed),
        (&["m1", "m2"], None, StageStatus::Failed),
        (&[], None, StageStatus::Failed),
    ];
    for (offered, wanted, status) in rows {
        let upstream = Upstream::start([list(offered)]).await;
        let stage = Listing::at(&upstream).model(wanted).await;
        assert_eq!(stage.status, status, "{offered:?}, {wanted:?}: {stage:?}");
        assert_eq!(stage.details.models, offered);
        let hint = stage.hint.unwrap_or_default();
        let names_all = offered.iter().all(|name| hint.contains(&format!("`{name}`")));
        assert!(status == StageStatus::Passed || names_all, "{hint}");
    }
}

#[tokio::test]
async fn an_upstream_without_a_list_is_not_at_fault_for_it() {
    let upstream = Upstream::start([Reply::json(404, json!({ "error": "not found" }))]).await;
    let stage = Listing::at(&upstream).model(Some("m")).await;
    assert_eq!(stage.status, StageStatus::Skipped);
    assert_eq!(stage.message, "the upstream does not list its models");
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_of_at_the_stage_where_it_is_asked() {
    let upstream = Upstream::start([Reply::json(500, json!({ "error": { "message": "out of order" } }))]).await;
    let stages = Listing::at(&upstream).check(Wanted::default()).await;
    let failed: Vec<&CheckStage> = stages
        .iter()
        .filter(|stage| stage.status == StageStatus::Failed)
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].message.contains("out of order"), "{failed:?}");
}
