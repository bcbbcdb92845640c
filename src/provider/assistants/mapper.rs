//! The upstream's events of one stream, in our own words.
//!
//! Pure: names and data go in, events come out, and in the end one [`End`]. What it has no word for is passed on.

use serde::Deserialize;
use serde_json::Value;

use super::anchor::Anchor;
use super::files::Uploads;
use super::messages::Messages;
use super::steps::Steps;
use super::wire::{self, Run};
use crate::error::{Error, Kind};
use crate::protocol::StopReason;
use crate::provider::http::Peer;
use crate::provider::json::{camel_case, log_unreadable};
use crate::provider::openai::{Failed, Named};
use crate::provider::surrogates;
use crate::provider::{End, Event, ToolCall};

/// What has come of one stream so far.
#[derive(Debug)]
pub struct Mapper {
    peer: Peer,
    /// Our id of the last message that the upstream has been sent with this turn.
    synced: String,
    thread_id: Option<String>,
    run_id: Option<String>,
    anchored: Option<Anchor>,
    uploads: Uploads,
    status: Option<String>,
    messages: Messages,
    steps: Steps,
    out: Vec<Event>,
    end: Option<End>,
    is_done: bool,
}

impl Mapper {
    /// For a turn whose newest message has this id of ours. `anchor` and `run_id` are what is known before.
    pub fn new(peer: Peer, synced: &str, anchor: Option<Anchor>, run_id: Option<String>) -> Self {
        Mapper {
            peer,
            synced: synced.to_owned(),
            thread_id: anchor.as_ref().map(|anchor| anchor.thread_id.clone()),
            run_id,
            anchored: anchor,
            uploads: Uploads::default(),
            status: None,
            messages: Messages::default(),
            steps: Steps::default(),
            out: Vec::new(),
            end: None,
            is_done: false,
        }
    }

    /// The same, saying with its anchors what the upstream was given.
    pub fn keeping(self, uploads: Uploads) -> Self {
        Mapper { uploads, ..self }
    }

    /// One event of the upstream.
    pub fn accept(&mut self, name: &str, data: &str) {
        let peer = &self.peer;
        tracing::trace!(
            name = &*peer.scrub(name),
            data = &*peer.scrub(data),
            "an event of the upstream"
        );
        let Err(problem) = self.dispatch(name, data) else {
            return;
        };
        log_unreadable(&problem, "an event of the upstream could not be read");
        let mended = surrogates::mend(data);
        if self.dispatch(name, &mended).is_err() {
            self.pass_on(name, &mended);
        }
    }

    /// The events since the last call, in order.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Event> {
        self.out.drain(..)
    }

    /// The thread and run, once both are known.
    pub fn run(&self) -> Option<(&str, &str)> {
        Some((self.thread_id.as_deref()?, self.run_id.as_deref()?))
    }

    /// Whether the round is over: the rest of the stream says nothing that matters.
    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the stream itself said that it is over.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// How the round ended. A stream that stops without saying how has failed.
    pub fn take_end(&mut self) -> End {
        self.end.take().unwrap_or_else(|| {
            let error = self
                .peer
                .error(Kind::Network, "failed: the stream ended before the run did");
            End::Failed(error.with_hint("ask again"))
        })
    }

    fn dispatch(&mut self, name: &str, data: &str) -> Result<(), serde_json::Error> {
        match name {
            "thread.message.delta" => self.messages.accept_delta(serde_json::from_str(data)?, &mut self.out),
            "thread.message.created" | "thread.message.in_progress" => {
                self.messages.accept_begun(serde_json::from_str(data)?, &mut self.out);
            }
            "thread.message.completed" | "thread.message.incomplete" => {
                self.messages.accept_ended(serde_json::from_str(data)?, &mut self.out);
            }
            "thread.run.step.delta" => self.steps.accept_delta(serde_json::from_str(data)?, &mut self.out),
            "thread.created" => {
                let thread: Named = serde_json::from_str(data)?;
                self.thread_id = thread.id.or(self.thread_id.take());
                self.anchor();
            }
            "error" => self.accept_error(data),
            _ if data == "[DONE]" => self.is_done = true,
            _ => return self.dispatch_family(name, data),
        }
        Ok(())
    }

    fn dispatch_family(&mut self, name: &str, data: &str) -> Result<(), serde_json::Error> {
        if let Some(status) = name.strip_prefix("thread.run.step.") {
            self.steps.accept(serde_json::from_str(data)?, status, &mut self.out);
        } else if let Some(status) = name.strip_prefix("thread.run.") {
            // An end must not be missed because its object cannot be read.
            let run = serde_json::from_str(data).unwrap_or_else(|problem| {
                log_unreadable(&problem, "a run could not be read");
                Run::default()
            });
            self.accept_run(status, run);
        } else if matches!(name, "" | "message") && self.peer.told(None, data.as_bytes()).is_some() {
            self.accept_error(data);
        } else {
            self.pass_on(name, data);
        }
        Ok(())
    }

    fn accept_run(&mut self, event: &str, run: Run) {
        self.thread_id = run.thread_id.or(self.thread_id.take());
        self.run_id = run.id.or(self.run_id.take());
        self.anchor();
        let status = match event {
            "created" => run.status.as_deref().unwrap_or("queued"),
            event => event,
        };
        let is_over = !matches!(status, "queued" | "in_progress" | "cancelling");
        if is_over {
            self.steps.report(&mut self.out);
        }
        let word = camel_case(status);
        if self.status.as_ref() != Some(&word) {
            self.status = Some(word.clone());
            self.out.push(Event::Status(word));
        }
        // While it waits for tools its usage, if any, would be counted again at its end, which has the sum.
        if let Some(usage) = run.usage.as_ref().filter(|_| is_over && status != "requires_action") {
            self.out.push(Event::Usage(usage.into()));
        }
        let end = match status {
            "completed" => self.completed(),
            "requires_action" => self.required(run.required_action.unwrap_or_default()),
            "incomplete" => End::Incomplete(incomplete(
                run.incomplete_details.unwrap_or_default().reason,
                &self.messages,
            )),
            "expired" => End::Incomplete(StopReason::Expired),
            "cancelled" => End::Cancelled,
            "failed" => self.failed(run.last_error.unwrap_or_default()),
            _ => return,
        };
        self.finish(end);
    }

    fn completed(&self) -> End {
        if self.messages.incomplete_reason() == Some("content_filter") {
            End::Incomplete(StopReason::ContentFilter)
        } else if self.messages.is_refusal() {
            End::Completed(StopReason::Refusal)
        } else {
            End::Completed(StopReason::EndTurn)
        }
    }

    fn required(&self, action: wire::RequiredAction) -> End {
        let calls = action.submit_tool_outputs.unwrap_or_default().tool_calls;
        let mut calls: Vec<ToolCall> = calls
            .into_iter()
            .filter_map(|call| {
                let function = call.function?;
                Some(ToolCall {
                    id: call.id?,
                    name: function.name.unwrap_or_default(),
                    arguments: function.arguments.unwrap_or_default(),
                })
            })
            .collect();
        if calls.is_empty() {
            calls = self.steps.unanswered();
        }
        if !calls.is_empty() {
            return End::ToolCalls(calls);
        }
        let kind = action.kind.unwrap_or_else(|| "unknown".into());
        let error = self.peer.error(
            Kind::Upstream,
            &format!("waits for `{kind}`, which cannot be given to it"),
        );
        End::Failed(error.retryable(false))
    }

    fn failed(&self, error: Failed) -> End {
        if self.messages.incomplete_reason() == Some("content_filter") {
            // A cut answer is no blocked prompt.
            return End::Incomplete(StopReason::ContentFilter);
        }
        End::Failed(self.peer.failed(error.code, error.message))
    }

    fn accept_error(&mut self, data: &str) {
        let told = self.peer.told(None, data.as_bytes());
        let error = told.unwrap_or_else(|| self.peer.error(Kind::Upstream, "ended the stream with an error"));
        self.finish(End::Failed(error));
    }

    /// The first end counts.
    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Says where the upstream's thread is, as soon as it is known and whenever it changes. A thread that has been
    /// there before gets our messages with its run, not earlier.
    fn anchor(&mut self) {
        let Some(thread_id) = &self.thread_id else {
            return;
        };
        let is_same_thread = self
            .anchored
            .as_ref()
            .is_some_and(|anchor| anchor.thread_id == *thread_id);
        if is_same_thread && self.run_id.is_none() {
            return;
        }
        let anchor = Anchor {
            thread_id: thread_id.clone(),
            run_id: self.run_id.clone(),
            synced: self.synced.clone(),
        };
        if self.anchored.as_ref() != Some(&anchor) {
            let mut kept = anchor.to_value();
            self.uploads.put_into(&mut kept);
            self.out.push(Event::Anchor(kept));
            self.anchored = Some(anchor);
        }
    }

    fn pass_on(&mut self, name: &str, data: &str) {
        let data = self.peer.scrub(data);
        let data = Value::deserialize(&mut serde_json::Deserializer::from_str(&data));
        self.out.push(Event::Upstream {
            name: self.peer.scrub(name).into_owned(),
            data: data.unwrap_or_default(),
        });
    }
}

fn incomplete(reason: Option<String>, messages: &Messages) -> StopReason {
    match reason.as_deref().or(messages.incomplete_reason()) {
        Some("max_prompt_tokens") => StopReason::ContextFull,
        Some("content_filter") => StopReason::ContentFilter,
        Some("run_expired") => StopReason::Expired,
        _ => StopReason::MaxTokens,
    }
}

/// The run that is in the way, if this is the refusal of a locked thread: ``Thread thread_X already has an active run
/// run_Y.`` or ``Can't add messages to thread_X while a run run_Y is active.``
pub fn locking_run(error: &Error) -> Option<&str> {
    let message = error.upstream_message();
    if !matches!(error.upstream_status(), Some(400 | 409)) || !message.contains("active") {
        return None;
    }
    let start = message.find("run_")?;
    let length = message[start..].find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'));
    Some(&message[start..length.map_or(message.len(), |length| start + length)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Upstream;

    #[test]
    fn the_run_that_locks_a_thread_is_found_in_either_sentence() {
        let refusal = |status: u16, message: &str| {
            Error::new(Kind::Upstream, "refused").with_upstream(Upstream {
                status: Some(status),
                message: Some(message.to_owned()),
                ..Upstream::default()
            })
        };
        let active = refusal(400, "Thread thread_abc already has an active run run_x1Y.");
        assert_eq!(locking_run(&active), Some("run_x1Y"));
        let adding = refusal(400, "Can't add messages to thread_abc while a run run_x1Y is active.");
        assert_eq!(locking_run(&adding), Some("run_x1Y"));
        assert_eq!(locking_run(&refusal(400, "no run_x1Y")), None);
        assert_eq!(locking_run(&refusal(500, "an active run run_x1Y")), None);
    }
}
