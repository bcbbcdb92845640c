//! The models that an upstream of the `/v1` shape lists, and which of them answers where nobody names one.
//!
//! Knows no dialect. What was found is kept for as long as the provider lives; what was not found is looked for again.

use serde_json::Value;

use super::{Call, Endpoint, Failure};
use crate::error::{Error, Kind};
use crate::provider::check::only_model;

/// How many of the offered models an error names: a hub offers hundreds.
const NAMED_MAX: usize = 20;

impl Endpoint {
    /// The names of the models that the upstream lists, in its order: `GET /models`. Sent once; whoever asks repeats
    /// it if the failure may pass.
    pub async fn models(&self) -> Result<Vec<String>, Failure> {
        let answer = self.ask(&Call::get(["models"])).await?;
        let peer = answer.peer.clone();
        let list: Value = answer.json().await?;
        Ok(names(&list).map(|name| peer.cut(name)).collect())
    }

    /// The model that answers: the one that is named, else the only one that the upstream offers. Where it offers
    /// several, or says nothing of models, the error is `configInvalid` and tells what there is.
    pub async fn model(&self, named: Option<&str>) -> Result<String, Failure> {
        if let Some(named) = named {
            return Ok(named.to_owned());
        }
        let only = self.only_model.get_or_try_init(|| async {
            let offered = match self.models().await {
                Ok(offered) => offered,
                // A server without such a list: nothing is offered.
                Err(failure) if matches!(failure.status, Some(404 | 405 | 501)) => Vec::new(),
                Err(failure) => return Err(failure),
            };
            only_model(&offered)
                .map(str::to_owned)
                .ok_or_else(|| self.unnamed(&offered).into())
        });
        only.await.cloned()
    }

    fn unnamed(&self, offered: &[String]) -> Error {
        let provider = &self.provider;
        let mut message = match offered {
            [] => format!("no model is named, and provider `{provider}` lists none"),
            _ => format!("no model is named, and provider `{provider}` offers several: "),
        };
        let quoted = offered.iter().take(NAMED_MAX).map(|name| format!("`{name}`"));
        message += &quoted.collect::<Vec<_>>().join(", ");
        if let Some(more @ 1..) = offered.len().checked_sub(NAMED_MAX) {
            message += &format!(" and {more} more");
        }
        Error::new(Kind::ConfigInvalid, message)
            .with_provider(provider)
            .with_hint(
                "name one with `model` (of the request, the assistant or the provider), `--model` or ASSISTD_MODEL",
            )
    }
}

/// The names in a list as servers give it: `{"data": [{"id": …}]}`, the same below `models`, or a bare array; an entry
/// may have `name` instead, or be the name itself.
fn names(list: &Value) -> impl Iterator<Item = &str> {
    let found = [&list["data"], &list["models"], list]
        .into_iter()
        .find_map(Value::as_array);
    let entries = found.map_or(&[][..], Vec::as_slice);
    entries
        .iter()
        .filter_map(|entry| entry["id"].as_str().or(entry["name"].as_str()).or(entry.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_come_in_several_shapes() {
        let rows = [
            json!({ "object": "list", "data": [{ "id": "a" }, { "id": "b" }] }),
            json!({ "models": [{ "name": "a" }, { "name": "b", "model": "b" }] }),
            json!({ "models": [{ "name": "x" }], "data": [{ "id": "a" }, { "id": "b" }] }),
            json!([{ "id": "a" }, { "id": "b", "type": "chat" }]),
            json!(["a", "b"]),
        ];
        for list in rows {
            assert_eq!(names(&list).collect::<Vec<_>>(), ["a", "b"], "{list}");
        }
        assert_eq!(names(&json!({ "object": "list", "data": null })).count(), 0);
    }
}
