//! `thread/…`, `message/read` and `run/get`: what is kept, and how it is read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Part, Role, RunStatus, RunStep, StopReason, ToolCallEntry, Usage, lenient};
use crate::error::Error;

/// Up to 16 pairs that belong to the client; keys up to 64 characters, values up to 512.
pub type Metadata = BTreeMap<String, String>;

/// What to leave out when the model's context is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Truncation {
    /// The oldest messages; an event says how many.
    #[default]
    Auto,
    /// Nothing: the run fails with `contextOverflow`.
    Error,
}

/// `thread/create`: a thread without messages.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThreadCreateParams {
    /// A title for people.
    pub title: Option<String>,
    /// The assistant that answers in it.
    pub assistant: Option<String>,
    /// Pairs of the client's own: up to 16, keys of up to 64 characters, values of up to 512.
    #[serde(default, deserialize_with = "lenient::object")]
    pub metadata: Option<Metadata>,
    /// What to leave out when the context is full.
    pub truncation: Option<Truncation>,
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThreadEntry {
    /// Its id.
    pub thread_id: String,
    /// A title for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The assistant that answers in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assistant: Option<String>,
    /// Pairs of the client's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Metadata,
    /// What to leave out when the context is full.
    pub truncation: Truncation,
    /// When it was made, in milliseconds since 1970.
    pub created_at: u64,
    /// When it was last written to, in milliseconds since 1970.
    pub updated_at: u64,
    /// How many messages it has.
    pub messages: u64,
    /// The run under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_run: Option<String>,
}

/// `thread/list`: threads, the last written to first.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThreadListParams {
    /// Where the last page ended: its `next`.
    pub cursor: Option<String>,
    /// How many at most, from 1 to 200; 50 where absent.
    pub limit: Option<u32>,
}

/// A page of threads.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThreadListResult {
    /// The last written to first.
    pub threads: Vec<ThreadEntry>,
    /// The cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `thread/read`: a thread and a page of its messages, newest first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThreadReadParams {
    /// The thread.
    pub thread_id: String,
    /// Where the last page ended: its `next`.
    pub cursor: Option<String>,
    /// How many messages at most, from 1 to 200; 50 where absent.
    pub limit: Option<u32>,
}

/// A thread and a page of its messages.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThreadReadResult {
    /// The thread.
    pub thread: ThreadEntry,
    /// The newest first.
    pub messages: Vec<MessageEntry>,
    /// The cursor of the next, older page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageEntry {
    /// Its id.
    pub message_id: String,
    /// Who said it.
    pub role: Role,
    /// How far the run that made it came; user messages are `completed`.
    pub status: RunStatus,
    /// What was said; absent where it does not fit (see `omitted`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<Part>>,
    /// `content`, where that does not fit, or the `data` of its images and files, such as `content[1].data`:
    /// `message/read` has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Vec<String>>,
    /// The run that made it, or that answers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// When, in milliseconds since 1970.
    pub created_at: u64,
}

/// The longest `data` that a list of messages shows, in characters of base 64.
const DATA_SHOWN: usize = 1024;

impl MessageEntry {
    /// The message as a list shows it: without the `data` of its images and files, but for short ones.
    pub fn without_data(mut self) -> Self {
        let mut left_out = Vec::new();
        for (index, part) in self.content.iter_mut().flatten().enumerate() {
            let data = part
                .data_mut()
                .and_then(|data| data.take_if(|data| data.len() > DATA_SHOWN));
            if data.is_some() {
                left_out.push(format!("content[{index}].data"));
            }
        }
        if !left_out.is_empty() {
            self.omitted = Some(left_out);
        }
        self
    }
}

/// `thread/update`: changes what is given and leaves the rest.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThreadUpdateParams {
    /// The thread.
    pub thread_id: String,
    /// A new title.
    pub title: Option<String>,
    /// Another assistant.
    pub assistant: Option<String>,
    /// Pairs of the client's own, in place of all that the thread has.
    #[serde(default, deserialize_with = "lenient::object")]
    pub metadata: Option<Metadata>,
    /// What to leave out when the context is full.
    pub truncation: Option<Truncation>,
}

/// `thread/delete`: cancels the thread's runs, then removes it with all its messages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThreadDeleteParams {
    /// The thread.
    pub thread_id: String,
}

/// `message/read`: one part of a message, in pages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageReadParams {
    /// The message.
    pub message_id: String,
    /// Which content part, from 0.
    pub index: u32,
    /// Where the last page ended: its `next`.
    pub cursor: Option<String>,
}

/// A page of a part.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageReadResult {
    /// The part's text, from the cursor on; absent where the part is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The part's data, from the cursor on: base 64 whose pages can be decoded each by itself, or joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The part itself, without its data, where it is no text; on the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// How many parts the message has.
    pub parts: u32,
    /// The cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `run/get`: a run as it stands.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunGetParams {
    /// The run.
    pub run_id: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunEntry {
    /// Its id.
    pub run_id: String,
    /// Its thread.
    pub thread_id: String,
    /// How far it is.
    pub status: RunStatus,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// The provider's name.
    pub provider: String,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The assistant's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assistant: Option<String>,
    /// The `seq` of its last event.
    pub seq: u64,
    /// The ids of the messages that it has made.
    pub messages: Vec<String>,
    /// The run's deltas joined, nothing added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RunStep>,
    /// The calls that nobody has answered, where `stopReason` is `toolCalls` or `toolLimit`, or `clientGone` while they
    /// were waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallEntry>,
    /// The run that left the calls open whose outputs this one was asked with: it answers the same message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// Tokens used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// When it was asked for, in milliseconds since 1970.
    pub created_at: u64,
    /// When it ended, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    /// Members left out because the message would be larger than `maxMessageBytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Vec<String>>,
}
