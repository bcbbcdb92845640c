//! What OpenAI's three APIs, and all that imitate them, have in common: a few shapes of their answers, and the parts of
//! a request's body that are the same in each.
//!
//! Pure. What the APIs only share with the description, and not with each other, stays in its dialect.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::json::lenient;
use crate::protocol::Format;

/// Anything of which only the id is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    /// The upstream's id of it.
    #[serde(deserialize_with = "lenient")]
    pub id: Option<String>,
}

/// `last_error` or `error`: why something failed that had begun.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Failed {
    /// The upstream's word for it.
    #[serde(deserialize_with = "lenient")]
    pub code: Option<String>,
    /// Its sentence.
    #[serde(deserialize_with = "lenient")]
    pub message: Option<String>,
}

/// `incomplete_details`: why something is not whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// The upstream's word for it.
    #[serde(deserialize_with = "lenient")]
    pub reason: Option<String>,
}

/// The details of a `usage`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TokenDetails {
    /// How many of the tokens came from a cache.
    pub cached_tokens: Option<u64>,
    /// How many of them are the model's reasoning.
    pub reasoning_tokens: Option<u64>,
}

/// A schema for the answer, as the APIs describe it: alone or as a part of a larger object. None where the form is no
/// schema.
pub fn json_schema(format: &Format) -> Option<Map<String, Value>> {
    let Format::JsonSchema {
        name,
        description,
        schema,
        strict,
    } = format
    else {
        return None;
    };
    let mut described = Map::new();
    described.insert("name".into(), json!(name.as_deref().unwrap_or("answer")));
    described.insert("schema".into(), json!(schema));
    described.insert("strict".into(), json!(strict.unwrap_or(true)));
    if let Some(description) = description {
        described.insert("description".into(), json!(description));
    }
    Some(described)
}

/// Puts what the settings add over a body: objects member by member, null takes a member away, anything else takes its
/// place.
pub fn merge(body: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (name, value) in over {
        match (body.get_mut(name), value) {
            (Some(Value::Object(below)), Value::Object(above)) => merge(below, above),
            (_, Value::Null) => {
                body.remove(name);
            }
            _ => {
                body.insert(name.clone(), value.clone());
            }
        }
    }
}

/// A body as it is sent.
pub fn bytes(body: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(body);
    json.expect("strings, numbers and maps with string keys are always JSON")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_put_over_the_body() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let mut body = object(json!({ "a": { "x": 1, "y": 2 }, "list": [1, 2], "gone": 1, "kept": true }));
        let over = json!({ "a": { "y": 3, "z": { "w": 4 } }, "list": [9], "gone": null, "new": "n" });
        merge(&mut body, &object(over));
        let merged = json!({ "a": { "x": 1, "y": 3, "z": { "w": 4 } }, "list": [9], "kept": true, "new": "n" });
        assert_eq!(Value::Object(body), merged);
    }
}
