//! The Assistants v2 wire, as far as we read it. Recordings differ from the description, so every field is optional.
//!
//! A message's deltas are the hot path and borrow from the event; what comes a few times in a run may be parsed twice
//! to be lenient: a field of the wrong type is absent.

use serde::Deserialize;
use serde_json::Value;

use crate::protocol::{self, StepError};
use crate::provider::json::{Text, camel_case, lenient};
use crate::provider::openai::{Failed, Reason, TokenDetails};

/// `thread.message.delta`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MessageDelta<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub delta: Option<MessageContent<'a>>,
}

/// What a delta holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct MessageContent<'a> {
    #[serde(borrow)]
    pub content: Option<Vec<Part<'a>>>,
}

/// A message, whole or as far as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message<'a> {
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    #[serde(borrow)]
    pub role: Option<Text<'a>>,
    #[serde(borrow)]
    pub content: Option<Vec<Part<'a>>>,
    #[serde(deserialize_with = "lenient")]
    pub incomplete_details: Option<Reason>,
}

/// A part of a message. In a whole message it has no index: its place is its index.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Part<'a> {
    pub index: Option<u32>,
    #[serde(borrow)]
    pub text: Option<PartText<'a>>,
    #[serde(borrow)]
    pub refusal: Option<Text<'a>>,
    #[serde(deserialize_with = "lenient")]
    pub image_file: Option<ImageFile>,
    #[serde(deserialize_with = "lenient")]
    pub image_url: Option<ImageUrl>,
}

/// The text of a part.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PartText<'a> {
    #[serde(borrow)]
    pub value: Option<Text<'a>>,
    pub annotations: Option<Vec<Annotation>>,
}

/// A citation or a file that is offered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotation {
    #[serde(rename = "type", deserialize_with = "lenient")]
    kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    text: Option<String>,
    #[serde(deserialize_with = "lenient")]
    start_index: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    end_index: Option<u32>,
    #[serde(deserialize_with = "lenient")]
    file_citation: Option<Cited>,
    #[serde(deserialize_with = "lenient")]
    file_path: Option<Cited>,
    #[serde(deserialize_with = "lenient")]
    url_citation: Option<Cited>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cited {
    #[serde(deserialize_with = "lenient")]
    file_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    quote: Option<String>,
    #[serde(deserialize_with = "lenient")]
    url: Option<String>,
    #[serde(deserialize_with = "lenient")]
    title: Option<String>,
}

/// `image_file` of a part.
#[derive(Debug, Deserialize)]
pub struct ImageFile {
    pub file_id: String,
    #[serde(default)]
    pub detail: Option<String>,
}

/// `image_url` of a part.
#[derive(Debug, Deserialize)]
pub struct ImageUrl {
    pub url: String,
    #[serde(default)]
    pub detail: Option<String>,
}

/// `thread.run`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Run {
    #[serde(deserialize_with = "lenient")]
    pub id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub thread_id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub required_action: Option<RequiredAction>,
    #[serde(deserialize_with = "lenient")]
    pub last_error: Option<Failed>,
    #[serde(deserialize_with = "lenient")]
    pub incomplete_details: Option<Reason>,
    #[serde(deserialize_with = "lenient")]
    pub usage: Option<Usage>,
}

/// What a run in `requires_action` waits for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RequiredAction {
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub submit_tool_outputs: Option<SubmitToolOutputs>,
}

/// The calls that it wants answered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubmitToolOutputs {
    pub tool_calls: Vec<RequiredCall>,
}

/// A call that it wants answered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RequiredCall {
    #[serde(deserialize_with = "lenient")]
    pub id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub function: Option<RequiredFunction>,
}

/// Its function.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RequiredFunction {
    #[serde(deserialize_with = "lenient")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub arguments: Option<String>,
}

/// `usage` of a run or a step.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    #[serde(deserialize_with = "lenient")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    completion_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    total_tokens: Option<u64>,
    /// What real traffic has; the description and Chat Completions have `prompt_tokens_details`.
    #[serde(alias = "prompt_tokens_details", deserialize_with = "lenient")]
    prompt_token_details: Option<TokenDetails>,
    #[serde(alias = "completion_token_details", deserialize_with = "lenient")]
    completion_tokens_details: Option<TokenDetails>,
}

/// `thread.run.step`, and `thread.run.step.delta`, whose details lie one level deeper.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Step {
    #[serde(deserialize_with = "lenient")]
    pub id: Option<String>,
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub step_details: Option<StepDetails>,
    #[serde(deserialize_with = "lenient")]
    pub delta: Option<StepDelta>,
    #[serde(deserialize_with = "lenient")]
    pub last_error: Option<Failed>,
    #[serde(deserialize_with = "lenient")]
    pub usage: Option<Usage>,
}

/// What a step's delta holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StepDelta {
    pub step_details: Option<StepDetails>,
}

/// The calls of a step. Their kinds are an open set, so they stay values.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StepDetails {
    #[serde(rename = "type", deserialize_with = "lenient")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub tool_calls: Option<Vec<Value>>,
}

/// A page of `GET /assistants`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AssistantPage {
    #[serde(deserialize_with = "lenient")]
    pub data: Option<Vec<Assistant>>,
    #[serde(deserialize_with = "lenient")]
    pub has_more: Option<bool>,
}

/// An assistant that the upstream keeps.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Assistant {
    #[serde(deserialize_with = "lenient")]
    pub id: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub description: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub model: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub instructions: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub tools: Option<Vec<Value>>,
}

impl From<&Usage> for protocol::Usage {
    fn from(usage: &Usage) -> Self {
        let input_tokens = usage.prompt_tokens.unwrap_or_default();
        let output_tokens = usage.completion_tokens.unwrap_or_default();
        protocol::Usage {
            input_tokens,
            output_tokens,
            total_tokens: usage.total_tokens.unwrap_or(input_tokens + output_tokens),
            cached_tokens: usage
                .prompt_token_details
                .as_ref()
                .and_then(|details| details.cached_tokens),
            reasoning_tokens: usage
                .completion_tokens_details
                .as_ref()
                .and_then(|details| details.reasoning_tokens),
        }
    }
}

impl From<Annotation> for protocol::Annotation {
    fn from(annotation: Annotation) -> Self {
        let kind = annotation.kind.unwrap_or_default();
        let cited = annotation
            .file_citation
            .or(annotation.file_path)
            .or(annotation.url_citation)
            .unwrap_or_default();
        protocol::Annotation {
            kind: camel_case(&kind),
            text: annotation.text,
            start: annotation.start_index,
            end: annotation.end_index,
            file_id: cited.file_id,
            container_id: None,
            quote: cited.quote.filter(|quote| !quote.is_empty()),
            url: cited.url,
            title: cited.title,
        }
    }
}

impl From<Failed> for StepError {
    fn from(error: Failed) -> Self {
        StepError {
            code: error.code.unwrap_or_default(),
            message: error.message.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn a_delta_borrows_its_text_from_the_event() {
        let json = r#"{"id":"m","delta":{"content":[{"index":0,"type":"text","text":{"value":"hello"}}]}}"#;
        let delta: MessageDelta = serde_json::from_str(json).unwrap();
        let content = delta.delta.unwrap().content.unwrap();
        let value = content[0].text.as_ref().unwrap().value.as_ref().unwrap();
        assert!(matches!(value, Text(Cow::Borrowed("hello"))));
    }

    #[test]
    fn nulls_and_wrong_types_are_absent() {
        let run: Run = serde_json::from_str(r#"{"id":7,"status":"queued","usage":"none","last_error":null}"#).unwrap();
        assert!(run.id.is_none() && run.usage.is_none() && run.last_error.is_none());
        assert_eq!(run.status.as_deref(), Some("queued"));
        let delta: MessageDelta = serde_json::from_str(r#"{"id":null,"delta":{"content":null}}"#).unwrap();
        assert!(delta.id.is_none());
    }

    #[test]
    fn both_spellings_of_the_token_details_count() {
        for name in ["prompt_token_details", "prompt_tokens_details"] {
            let json = format!(
                r#"{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"{name}":{{"cached_tokens":1}},
                    "completion_tokens_details":{{"reasoning_tokens":0}}}}"#
            );
            let usage: Usage = serde_json::from_str(&json).unwrap();
            let expected = protocol::Usage {
                input_tokens: 3,
                output_tokens: 2,
                total_tokens: 5,
                cached_tokens: Some(1),
                reasoning_tokens: Some(0),
            };
            assert_eq!(protocol::Usage::from(&usage), expected);
        }
    }
}
