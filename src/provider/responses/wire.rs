//! The Responses wire, as far as we read it. Servers leave out what they like, so every field is optional.
//!
//! A delta is the hot path and borrows from the event; what comes a few times in a run may be parsed twice to be
//! lenient: a field of the wrong type is absent. Output items are an open set of kinds, so they stay values.

use serde::Deserialize;
use serde_json::Value;

use crate::protocol;
use crate::provider::json::{Text, camel_case, lenient};
use crate::provider::openai::{Failed, Reason, TokenDetails};

/// Where an event belongs.
#[derive(Debug, Default, Clone, Copy)]
pub struct Place<'a> {
    /// The item's id. Some servers give every event of an item another one.
    pub item_id: &'a str,
    /// The item's place in the output.
    pub output_index: Option<u64>,
    /// The part of it: of a message's content, or of a summary.
    pub part: Option<u32>,
}

/// Any event that adds a piece to something: `*.delta`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Delta<'a> {
    #[serde(borrow)]
    item_id: Option<Text<'a>>,
    output_index: Option<u64>,
    #[serde(alias = "summary_index", alias = "command_index")]
    content_index: Option<u32>,
    pub sequence_number: Option<u64>,
    #[serde(borrow)]
    pub delta: Option<Text<'a>>,
}

/// Any event that tells the whole of something: `*.done`, `*.added` and the states of hosted tools. The whole is under
/// a name of its own in each.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Whole {
    #[serde(deserialize_with = "lenient")]
    item_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub output_index: Option<u64>,
    #[serde(alias = "summary_index", alias = "command_index", deserialize_with = "lenient")]
    content_index: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    pub sequence_number: Option<u64>,
    #[serde(
        alias = "refusal",
        alias = "arguments",
        alias = "input",
        alias = "code",
        alias = "command",
        deserialize_with = "lenient"
    )]
    pub text: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub part: Option<Part>,
    #[serde(deserialize_with = "lenient")]
    pub annotation: Option<Annotation>,
    pub item: Option<Value>,
}

/// What kind of event it is, where the stream has no `event:` lines; and its number, of any event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Head<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    pub sequence_number: Option<u64>,
}

/// An event that tells of the response: `response.created`, `response.completed` and the like.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    pub sequence_number: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    pub response: Option<Response>,
}

/// A response, whole or as far as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Response {
    #[serde(deserialize_with = "lenient")]
    pub id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub output: Option<Vec<Value>>,
    #[serde(deserialize_with = "lenient")]
    pub error: Option<Failed>,
    #[serde(deserialize_with = "lenient")]
    pub incomplete_details: Option<Reason>,
    #[serde(deserialize_with = "lenient")]
    pub usage: Option<Usage>,
}

/// A part of a message's content, or of a reasoning item's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Part {
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub text: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub refusal: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub annotations: Option<Vec<Annotation>>,
}

/// A citation or a file that is offered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotation {
    #[serde(rename = "type", deserialize_with = "lenient")]
    kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    index: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    start_index: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    end_index: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    file_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    container_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    filename: Option<String>,
    #[serde(deserialize_with = "lenient")]
    url: Option<String>,
    #[serde(deserialize_with = "lenient")]
    title: Option<String>,
}

/// `usage` of a response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    #[serde(deserialize_with = "lenient")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    total_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    input_tokens_details: Option<TokenDetails>,
    #[serde(deserialize_with = "lenient")]
    output_tokens_details: Option<TokenDetails>,
}

impl Delta<'_> {
    /// Where it belongs.
    pub fn place(&self) -> Place<'_> {
        Place {
            item_id: self.item_id.as_ref().map_or("", |id| &id.0),
            output_index: self.output_index,
            part: self.content_index,
        }
    }
}

impl Whole {
    /// Where it belongs.
    pub fn place(&self) -> Place<'_> {
        let in_item = || self.item.as_ref()?["id"].as_str();
        Place {
            item_id: self.item_id.as_deref().or_else(in_item).unwrap_or_default(),
            output_index: self.output_index,
            part: self.content_index,
        }
    }
}

impl From<&Usage> for protocol::Usage {
    fn from(usage: &Usage) -> Self {
        let input_tokens = usage.input_tokens.unwrap_or_default();
        let output_tokens = usage.output_tokens.unwrap_or_default();
        let input = usage.input_tokens_details.as_ref();
        let output = usage.output_tokens_details.as_ref();
        protocol::Usage {
            input_tokens,
            output_tokens,
            total_tokens: usage.total_tokens.unwrap_or(input_tokens + output_tokens),
            cached_tokens: input.and_then(|details| details.cached_tokens),
            reasoning_tokens: output.and_then(|details| details.reasoning_tokens),
        }
    }
}

/// Offsets are as the upstream counts them; a citation of a file has one place only.
impl From<Annotation> for protocol::Annotation {
    fn from(annotation: Annotation) -> Self {
        protocol::Annotation {
            kind: camel_case(annotation.kind.as_deref().unwrap_or_default()),
            text: None,
            start: annotation.start_index.or(annotation.index),
            end: annotation.end_index.or(annotation.index),
            file_id: annotation.file_id,
            container_id: annotation.container_id,
            quote: None,
            url: annotation.url,
            title: annotation.title.or(annotation.filename),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn a_delta_borrows_its_text_from_the_event() {
        let json = r#"{"type":"response.output_text.delta","item_id":"m","output_index":1,"content_index":0,"delta":"hello","logprobs":[],"obfuscation":"xy"}"#;
        let delta: Delta = serde_json::from_str(json).unwrap();
        assert!(matches!(delta.delta, Some(Text(Cow::Borrowed("hello")))));
        let delta: Delta = serde_json::from_str(r#"{"delta":"hello","item_id":null,"output_index":null}"#).unwrap();
        assert_eq!(delta.place().item_id, "");
    }

    #[test]
    fn nulls_and_wrong_types_are_absent() {
        let response: Response =
            serde_json::from_str(r#"{"id":7,"status":"queued","usage":"none","error":null,"output":{}}"#).unwrap();
        assert!(response.id.is_none() && response.usage.is_none() && response.output.is_none());
        assert_eq!(response.status.as_deref(), Some("queued"));
    }
}
