//! A step as its author writes it: a table with exactly one key that says what happens, and the keys that go with it.
//!
//! Keys are in snake_case, as in `config.toml`; what appears on the wire as it stands has the wire's names.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Huge, Pace, Retry, Split, Step, Voice};
use crate::error::{Error, Kind, Upstream};
use crate::protocol::{Annotation, Image, RateLimit, RunStep, StopReason, Usage};
use crate::provider::End;

/// All keys of a step. Of the first group it has exactly one, or `delay_ms` alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTable {
    text: Option<String>,
    refusal: Option<String>,
    reasoning: Option<String>,
    huge: Option<HugeTable>,
    annotation: Option<Annotation>,
    image: Option<Image>,
    new_message: Option<bool>,
    step: Option<RunStep>,
    tool_call: Option<CallTable>,
    tool_calls: Option<Vec<CallTable>>,
    usage: Option<UsageTable>,
    rate_limit: Option<RateLimitTable>,
    retry: Option<RetryTable>,
    truncated: Option<u32>,
    status: Option<String>,
    upstream: Option<UpstreamTable>,
    error: Option<ErrorTable>,
    drop: Option<bool>,
    stall: Option<bool>,
    panic: Option<String>,
    end: Option<StopReason>,

    delay_ms: Option<u64>,
    split: Option<Split>,
    index: Option<u32>,
    summary: Option<bool>,
}

const ACTIONS: &str = "`text`, `refusal`, `reasoning`, `huge`, `annotation`, `image`, `new_message`, `step`, \
                       `tool_call`, `tool_calls`, `usage`, `rate_limit`, `retry`, `truncated`, `status`, `upstream`, \
                       `error`, `drop`, `stall`, `panic`, `end` or `delay_ms`";

impl TryFrom<StepTable> for Step {
    type Error = String;

    fn try_from(mut table: StepTable) -> Result<Step, String> {
        let mut actions = table.take_actions()?;
        let step = match (actions.pop(), table.delay_ms) {
            (Some(_), _) if !actions.is_empty() => {
                return Err(format!("expected a step to have only one of {ACTIONS}, found several"));
            }
            (Some(step), _) => step,
            (None, Some(delay)) => Step::Delay(Duration::from_millis(delay)),
            (None, None) => return Err(format!("expected a step to have one of {ACTIONS}, found none")),
        };
        table.check_beside(&step)?;
        Ok(step)
    }
}

impl StepTable {
    /// Everything that this step would do.
    fn take_actions(&mut self) -> Result<Vec<Step>, String> {
        let index = self.index.unwrap_or(0);
        let summary = self.summary.unwrap_or(false);
        let pace = Pace {
            split: self.split,
            delay: self.delay_ms.map(Duration::from_millis),
        };
        let say = |voice: Voice| move |text: String| Step::Say { voice, text, pace };
        let calls = |calls: Vec<CallTable>| Step::ToolCalls(calls.into_iter().map(Call::from).collect());
        let actions = [
            self.text.take().map(say(Voice::Text { index })),
            self.refusal.take().map(say(Voice::Refusal { index })),
            self.reasoning.take().map(say(Voice::Reasoning { summary })),
            self.huge.take().map(|huge| Step::Huge {
                huge: huge.into(),
                pace,
            }),
            self.annotation
                .take()
                .map(|annotation| Step::Annotation { index, annotation }),
            self.image.take().map(|image| Step::Image { index, image }),
            flag("new_message", self.new_message, Step::NewMessage)?,
            self.step.take().map(Step::RunStep),
            self.tool_call.take().map(|call| calls(vec![call])),
            self.tool_calls.take().map(calls),
            self.usage.take().map(|usage| Step::Usage(usage.into())),
            self.rate_limit.take().map(|limit| Step::RateLimit(limit.into())),
            self.retry.take().map(|retry| Step::Retry(retry.into())),
            self.truncated.map(Step::Truncated),
            self.status.take().map(Step::Status),
            self.upstream
                .take()
                .map(|UpstreamTable { name, data }| Step::Upstream { name, data }),
            self.error.take().map(|error| Step::Fail(error.into())),
            flag("drop", self.drop, Step::Drop)?,
            flag("stall", self.stall, Step::Stall)?,
            self.panic.take().map(Step::Panic),
            self.end.map(end).transpose()?.map(Step::End),
        ];
        Ok(actions.into_iter().flatten().collect())
    }

    /// The keys that only go with some steps.
    fn check_beside(&self, step: &Step) -> Result<(), String> {
        let is_said = matches!(step, Step::Say { .. });
        let is_reasoning = matches!(
            step,
            Step::Say {
                voice: Voice::Reasoning { .. },
                ..
            }
        );
        let is_part = is_said && !is_reasoning || matches!(step, Step::Annotation { .. } | Step::Image { .. });
        let takes_delay = is_said || matches!(step, Step::Huge { .. } | Step::Delay(_));
        let rules = [
            (
                "delay_ms",
                self.delay_ms.is_some(),
                takes_delay,
                "`text`, `refusal`, `reasoning`, `huge`, or alone",
            ),
            (
                "split",
                self.split.is_some(),
                is_said,
                "`text`, `refusal` or `reasoning`",
            ),
            (
                "index",
                self.index.is_some(),
                is_part,
                "`text`, `refusal`, `annotation` or `image`",
            ),
            ("summary", self.summary.is_some(), is_reasoning, "`reasoning`"),
        ];
        match rules
            .iter()
            .find(|(_, is_given, is_allowed, _)| *is_given && !is_allowed)
        {
            Some((key, _, _, place)) => Err(format!("expected `{key}` only beside {place}")),
            None => Ok(()),
        }
    }
}

/// A key whose presence is all that it says: `drop = true`.
fn flag(name: &str, given: Option<bool>, step: Step) -> Result<Option<Step>, String> {
    match given {
        Some(false) => Err(format!("expected `{name}` to be `true`, or absent")),
        given => Ok(given.map(|_| step)),
    }
}

fn end(reason: StopReason) -> Result<End, String> {
    match reason {
        StopReason::EndTurn | StopReason::Refusal => Ok(End::Completed(reason)),
        StopReason::MaxTokens | StopReason::ContextFull | StopReason::ContentFilter | StopReason::Expired => {
            Ok(End::Incomplete(reason))
        }
        StopReason::Cancelled => Ok(End::Cancelled),
        _ => Err(
            "expected `end` to be `endTurn`, `refusal`, `maxTokens`, `contextFull`, `contentFilter`, `expired` or \
             `cancelled`"
                .to_owned(),
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HugeTable {
    bytes: u64,
    pattern: Option<String>,
    piece: Option<usize>,
}

impl From<HugeTable> for Huge {
    fn from(table: HugeTable) -> Huge {
        Huge {
            bytes: table.bytes,
            pattern: table.pattern.unwrap_or_else(|| "0123456789abcdef".into()),
            piece: table.piece.unwrap_or(1024),
        }
    }
}

/// `arguments` is a table, or a string that is sent as it is, so that it need not be JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallTable {
    name: String,
    #[serde(default)]
    arguments: Value,
    id: Option<String>,
}

impl From<CallTable> for Call {
    fn from(table: CallTable) -> Call {
        Call {
            id: table.id,
            name: table.name,
            arguments: match table.arguments {
                Value::String(text) => text,
                Value::Null => "{}".to_owned(),
                arguments => arguments.to_string(),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageTable {
    #[serde(alias = "inputTokens")]
    input_tokens: u64,
    #[serde(alias = "outputTokens")]
    output_tokens: u64,
    #[serde(alias = "cachedTokens")]
    cached_tokens: Option<u64>,
    #[serde(alias = "reasoningTokens")]
    reasoning_tokens: Option<u64>,
}

impl From<UsageTable> for Usage {
    fn from(table: UsageTable) -> Usage {
        Usage {
            input_tokens: table.input_tokens,
            output_tokens: table.output_tokens,
            total_tokens: table.input_tokens + table.output_tokens,
            cached_tokens: table.cached_tokens,
            reasoning_tokens: table.reasoning_tokens,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitTable {
    #[serde(alias = "remainingRequests")]
    remaining_requests: Option<u64>,
    #[serde(alias = "remainingTokens")]
    remaining_tokens: Option<u64>,
    #[serde(alias = "resetRequests")]
    reset_requests: Option<String>,
    #[serde(alias = "resetTokens")]
    reset_tokens: Option<String>,
}

impl From<RateLimitTable> for RateLimit {
    fn from(table: RateLimitTable) -> RateLimit {
        RateLimit {
            remaining_requests: table.remaining_requests,
            remaining_tokens: table.remaining_tokens,
            reset_requests: table.reset_requests,
            reset_tokens: table.reset_tokens,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryTable {
    #[serde(default = "one")]
    attempts: u32,
    #[serde(default)]
    delay_ms: u64,
    kind: Option<Kind>,
    message: Option<String>,
}

impl From<RetryTable> for Retry {
    fn from(table: RetryTable) -> Retry {
        let message = table.message.unwrap_or_else(|| "the script asks for a retry".into());
        Retry {
            attempts: table.attempts,
            delay: Duration::from_millis(table.delay_ms),
            error: Error::new(table.kind.unwrap_or(Kind::Overloaded), message),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorTable {
    #[serde(default = "upstream")]
    kind: Kind,
    message: Option<String>,
    retryable: Option<bool>,
    retry_after_ms: Option<u64>,
    hint: Option<String>,
    status: Option<u16>,
    code: Option<String>,
}

impl From<ErrorTable> for Error {
    fn from(table: ErrorTable) -> Error {
        let message = table.message.unwrap_or_else(|| "the script asks for a failure".into());
        let mut error = Error::new(table.kind, message);
        error.data.retryable = table.retryable.unwrap_or(error.data.retryable);
        error.data.retry_after_ms = table.retry_after_ms;
        error.data.hint = table.hint.map(Into::into);
        if table.status.is_some() || table.code.is_some() {
            error.data.upstream = Some(Upstream {
                status: table.status,
                code: table.code,
                ..Upstream::default()
            });
        }
        error
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamTable {
    name: String,
    #[serde(default)]
    data: Value,
}

fn one() -> u32 {
    1
}

fn upstream() -> Kind {
    Kind::Upstream
}
