//! A script: answers, what they answer, and the steps that they are made of.
//!
//! `table` has the steps as they are written. What is wrong names file, line and what was expected. Nothing here plays
//! anything.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::config::{parse_json, parse_toml};
use crate::error::Error;
use crate::protocol::{Annotation, Image, RateLimit, RunStep, Usage};
use crate::provider::{End, ToolCall};

mod table;

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Whether an answer goes on though assistd is killed: the next one takes it up.
    #[serde(default)]
    pub background: bool,
    /// In the order of the file; the first that matches is played.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// What the model that is played cannot take.
    #[serde(default)]
    pub refuses: Vec<Refused>,
}

/// What a model may be unable to take.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refused {
    Image,
    File,
    /// Any form of the answer but text.
    Format,
}

/// One answer, and what it answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// A piece of the user's text, upper and lower case alike; absent matches any text.
    #[serde(rename = "match", default)]
    pub wanted: Option<String>,
    /// Only the user's n-th message of the thread, from 1.
    #[serde(default)]
    pub turn: Option<usize>,
    /// What happens, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "table::StepTable")]
pub enum Step {
    Say { voice: Voice, text: String, pace: Pace },
    Huge { huge: Huge, pace: Pace },
    Delay(Duration),
    Annotation { index: u32, annotation: Annotation },
    Image { index: u32, image: Image },
    NewMessage,
    RunStep(RunStep),
    ToolCalls(Vec<Call>),
    Usage(Usage),
    RateLimit(RateLimit),
    Retry(Retry),
    Truncated(u32),
    Status(String),
    Upstream { name: String, data: Value },
    Fail(Error),
    Drop,
    Stall,
    Panic(String),
    End(End),
}

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Voice {
    Text { index: u32 },
    Refusal { index: u32 },
    Reasoning { summary: bool },
}

/// How text comes: in which pieces, and what is waited before each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    pub split: Option<Split>,
    pub delay: Option<Duration>,
}

/// Where a text is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Behind each run of white space.
    Words,
    /// Behind each code point.
    Chars,
    /// Behind each line feed.
    Lines,
}

/// A text of any size that is never held whole.
#[derive(Debug, Clone)]
pub struct Huge {
    /// The size of the whole.
    pub bytes: u64,
    /// What it repeats.
    pub pattern: String,
    /// The size of one delta.
    pub piece: usize,
}

/// Repetitions before anything is shown.
#[derive(Debug, Clone)]
pub struct Retry {
    pub attempts: u32,
    pub delay: Duration,
    pub error: Error,
}

/// A tool that is called.
#[derive(Debug, Clone)]
pub struct Call {
    /// The script's name for the call.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// As the model would write them.
    pub arguments: String,
}

impl Script {
    /// Reads a script: JSON if the file's name or its first character says so, else TOML.
    pub fn parse(path: &Path, text: &str) -> Result<Script, String> {
        let is_json = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => true,
            Some("toml") => false,
            _ => text.trim_start().starts_with('{'),
        };
        if is_json {
            parse_json(path, text)
        } else {
            parse_toml(path, text)
        }
    }

    /// The first answer to this text as the user's n-th message.
    pub fn answer(&self, text: &str, turn: usize) -> Option<&Answer> {
        let text = text.to_lowercase();
        self.answers.iter().find(|answer| {
            let fits = answer
                .wanted
                .as_ref()
                .is_none_or(|wanted| text.contains(&wanted.to_lowercase()));
            fits && answer.turn.is_none_or(|wanted| wanted == turn)
        })
    }
}

impl Call {
    /// The call as the run sees it; `number` names it where the script does not.
    pub fn to_call(&self, number: usize) -> ToolCall {
        ToolCall {
            id: self.id.clone().unwrap_or_else(|| format!("call_{number}")),
            name: self.name.clone(),
            arguments: self.arguments.clone(),
        }
    }
}
