//! The upstream's events of one response, in our own words.
//!
//! Pure: names and data go in, events come out, and in the end one [`End`]. It may be fed from several connections: an
//! event that it has had by its number is read over. What it has no word for is passed on.

use serde::Deserialize;
use serde_json::Value;

use super::carry;
use super::items::Items;
use super::wire::{Delta, Head, Lifecycle, Response, Whole};
use crate::error::{Error, Kind};
use crate::protocol::{PartKind, StopReason};
use crate::provider::http::Peer;
use crate::provider::json::{Text, camel_case, log_unreadable};
use crate::provider::surrogates;
use crate::provider::{End, Event};

/// Events that tell the text of an item piece by piece, and what kind of item that is.
const PIECES: &[(&str, &str)] = &[
    ("function_call_arguments", "function_call"),
    ("custom_tool_call_input", "custom_tool_call"),
    ("mcp_call_arguments", "mcp_call"),
    ("code_interpreter_call_code", "code_interpreter_call"),
    ("shell_call_command", "shell_call"),
    ("apply_patch_call_operation_diff", "apply_patch_call"),
];

/// What has come of one response so far.
#[derive(Debug)]
pub struct Mapper {
    peer: Peer,
    /// The longest answer that was asked for, where the upstream does not say that it was reached.
    max_output_tokens: Option<u64>,
    /// Whether events are told apart by their numbers: set once a second connection brings them.
    is_resumed: bool,
    has_begun: bool,
    response_id: Option<String>,
    /// The number of the last event.
    sequence: Option<u64>,
    status: Option<String>,
    items: Items,
    out: Vec<Event>,
    end: Option<End>,
}

impl Mapper {
    /// For an answer of this peer. `max_output_tokens` only where the upstream cannot be trusted to say that an answer
    /// was cut.
    pub fn new(peer: Peer, max_output_tokens: Option<u64>) -> Self {
        Mapper {
            peer,
            max_output_tokens,
            is_resumed: false,
            has_begun: false,
            response_id: None,
            sequence: None,
            status: None,
            items: Items::default(),
            out: Vec::new(),
            end: None,
        }
    }

    /// One event of the upstream. Without a name its `type` is its name.
    pub fn accept(&mut self, name: &str, data: &str) {
        let peer = &self.peer;
        tracing::trace!(
            name = &*peer.scrub(name),
            data = &*peer.scrub(data),
            "an event of the upstream"
        );
        // What follows an end says nothing more, and may or may not have come together with it.
        if data == "[DONE]" || self.has_ended() {
            return;
        }
        self.has_begun = true;
        let head = match name {
            "" | "message" => head(data),
            _ if self.is_resumed => head(data),
            _ => Head::default(),
        };
        if self.is_resumed && head.sequence_number.is_some() && head.sequence_number <= self.sequence {
            return;
        }
        let name = head.kind.as_ref().map_or(name, |kind| &kind.0);
        let Err(problem) = self.dispatch(name, data) else {
            return;
        };
        log_unreadable(&problem, "an event of the upstream could not be read");
        let mended = surrogates::mend(data);
        if self.dispatch(name, &mended).is_err() {
            self.pass_on(name, &mended);
        }
    }

    /// Another connection goes on with the same response, perhaps from before where the last one broke.
    pub fn resume(&mut self) {
        self.is_resumed = true;
    }

    /// The response has this id, though no event has told so.
    pub fn expect(&mut self, response_id: String) {
        self.response_id = Some(response_id);
    }

    /// Whether anything of the response has come.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// A response that came as one object: gives what no event has told.
    pub fn accept_whole(&mut self, response: Response) {
        self.has_begun = true;
        let status = response.status.clone().unwrap_or_else(|| "completed".to_owned());
        self.accept_response(&status, response);
    }

    /// The events since the last call, in order.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Event> {
        self.out.drain(..)
    }

    /// The response's id, once it is known.
    pub fn response_id(&self) -> Option<&str> {
        self.response_id.as_deref()
    }

    /// The number of the last event, if they have numbers.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Whether the response is over: the rest of the stream says nothing that matters.
    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// How the response ended. A stream that stops without saying how has failed.
    pub fn take_end(&mut self) -> End {
        if let Some(end) = self.end.take() {
            return end;
        }
        self.items.finish(&mut self.out);
        End::Failed(self.cut_off())
    }

    /// The stream ended, and the response had not.
    pub fn cut_off(&self) -> Error {
        let error = self
            .peer
            .error(Kind::Network, "failed: the stream ended before the response did");
        error.with_hint("ask again")
    }

    fn dispatch(&mut self, name: &str, data: &str) -> Result<(), serde_json::Error> {
        match name {
            "response.output_text.delta" => self.text(PartKind::Text, serde_json::from_str(data)?),
            "response.refusal.delta" => self.text(PartKind::Refusal, serde_json::from_str(data)?),
            "response.output_text.done" => self.whole_text(PartKind::Text, serde_json::from_str(data)?),
            "response.refusal.done" => self.whole_text(PartKind::Refusal, serde_json::from_str(data)?),
            "response.output_text.annotation.added" => self.annotation(serde_json::from_str(data)?),
            "response.content_part.added" | "response.content_part.done" => {
                self.content_part(name, serde_json::from_str(data)?);
            }
            "response.output_item.added" | "response.output_item.done" => {
                self.item(name, serde_json::from_str(data)?);
            }
            "error" => self.accept_error(data),
            "keepalive" => {}
            _ => return self.dispatch_family(name, data),
        }
        Ok(())
    }

    fn dispatch_family(&mut self, name: &str, data: &str) -> Result<(), serde_json::Error> {
        let (stem, word) = name
            .strip_prefix("response.")
            .and_then(|rest| rest.rsplit_once('.').or(Some(("", rest))))
            .unwrap_or_default();
        let pieces = PIECES.iter().find(|(known, _)| *known == stem);
        match (stem, word) {
            ("", "created" | "queued" | "in_progress" | "completed" | "incomplete" | "failed" | "cancelled") => {
                // An end must not be missed because its object cannot be read.
                let lifecycle: Lifecycle = serde_json::from_str(data).unwrap_or_else(|problem| {
                    log_unreadable(&problem, "a response could not be read");
                    Lifecycle::default()
                });
                self.saw(lifecycle.sequence_number);
                self.accept_response(word, lifecycle.response.unwrap_or_default());
            }
            ("reasoning_text" | "reasoning", "delta") => self.reasoning(false, serde_json::from_str(data)?),
            ("reasoning_summary_text" | "reasoning_summary", "delta") => {
                self.reasoning(true, serde_json::from_str(data)?);
            }
            ("reasoning_text" | "reasoning", "done") => self.whole_reasoning(false, serde_json::from_str(data)?),
            ("reasoning_summary_text" | "reasoning_summary", "done") => {
                self.whole_reasoning(true, serde_json::from_str(data)?);
            }
            // Their text comes by itself.
            ("reasoning_summary_part", "added" | "done") => self.saw(head(data).sequence_number),
            ("shell_call_command", "added") => self.saw(head(data).sequence_number),
            (_, "delta") if let Some((_, kind)) = pieces => self.piece(kind, serde_json::from_str(data)?),
            (_, "done") if let Some((_, kind)) = pieces => self.whole_piece(kind, serde_json::from_str(data)?),
            (kind, "in_progress" | "searching" | "interpreting" | "generating" | "completed" | "failed")
                if kind.ends_with("_call") || kind == "mcp_list_tools" =>
            {
                self.state(kind, word, serde_json::from_str(data)?);
            }
            _ if name.is_empty() || name == "message" => self.nameless(data),
            _ => self.pass_on(name, data),
        }
        Ok(())
    }

    fn text(&mut self, kind: PartKind, delta: Delta) {
        self.saw(delta.sequence_number);
        let piece = delta.delta.as_ref().map_or("", |Text(text)| text);
        self.items.text(delta.place(), kind, piece, &mut self.out);
    }

    fn whole_text(&mut self, kind: PartKind, whole: Whole) {
        self.saw(whole.sequence_number);
        let place = whole.place();
        let text = whole.text.as_deref().unwrap_or_default();
        self.items.message(place, &mut self.out, |message, out| {
            message.whole(place.part, kind, text, out);
        });
    }

    fn annotation(&mut self, mut whole: Whole) {
        self.saw(whole.sequence_number);
        let annotation = whole.annotation.take();
        let place = whole.place();
        self.items.message(place, &mut self.out, |message, out| {
            if let Some(annotation) = annotation {
                message.annotation(place.part, annotation, out);
            }
        });
    }

    fn content_part(&mut self, name: &str, mut whole: Whole) {
        self.saw(whole.sequence_number);
        let part = whole.part.take().unwrap_or_default();
        if part.kind.as_deref() == Some("reasoning_text") {
            // Its text comes by itself.
            return;
        }
        let place = whole.place();
        let is_done = name.ends_with(".done");
        self.items.message(place, &mut self.out, |message, out| {
            if is_done {
                message.whole_part(place.part, part, out);
            } else {
                message.announce(place.part);
            }
        });
    }

    fn item(&mut self, name: &str, mut whole: Whole) {
        self.saw(whole.sequence_number);
        let Some(item) = whole.item.take() else {
            return;
        };
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let mut place = whole.place();
        place.item_id = &id;
        if name.ends_with(".done") {
            self.items.done(place, item, &mut self.out);
        } else {
            self.items.added(place, &item, &mut self.out);
        }
    }

    fn reasoning(&mut self, summary: bool, delta: Delta) {
        self.saw(delta.sequence_number);
        let place = delta.place();
        let piece = delta.delta.as_ref().map_or("", |Text(text)| text);
        self.items.reasoning(place, &mut self.out, |reasoning, out| {
            reasoning.piece(summary, place.part, piece, out);
        });
    }

    fn whole_reasoning(&mut self, summary: bool, whole: Whole) {
        self.saw(whole.sequence_number);
        let place = whole.place();
        let text = whole.text.as_deref().unwrap_or_default();
        self.items.reasoning(place, &mut self.out, |reasoning, out| {
            reasoning.whole(summary, place.part, text, out);
        });
    }

    fn piece(&mut self, kind: &str, delta: Delta) {
        self.saw(delta.sequence_number);
        let place = delta.place();
        let piece = delta.delta.as_ref().map_or("", |Text(text)| text);
        self.items.call(kind, place, &mut self.out, |call, out| {
            call.piece(place.part, piece, out)
        });
    }

    fn whole_piece(&mut self, kind: &str, mut whole: Whole) {
        self.saw(whole.sequence_number);
        let text = whole.text.take();
        let place = whole.place();
        self.items.call(kind, place, &mut self.out, |call, out| {
            if let Some(text) = text {
                call.whole(place.part, text, out);
            }
        });
    }

    fn state(&mut self, kind: &str, state: &str, whole: Whole) {
        self.saw(whole.sequence_number);
        self.items.call(kind, whole.place(), &mut self.out, |call, out| {
            call.turn(kind, state, out)
        });
    }

    /// The response itself; `word` is the event's, which counts where the object says nothing.
    fn accept_response(&mut self, word: &str, response: Response) {
        self.response_id = response.id.or(self.response_id.take());
        let status = match (word, response.status) {
            ("created" | "completed", Some(status)) => status,
            ("created", None) => "in_progress".to_owned(),
            (word, _) => word.to_owned(),
        };
        let is_over = matches!(&*status, "completed" | "incomplete" | "failed" | "cancelled");
        if is_over || word != "created" {
            let output = response.output.unwrap_or_default();
            self.items.output(output, is_over, &mut self.out);
        }
        if is_over {
            self.items.finish(&mut self.out);
        }
        let status_word = camel_case(&status);
        if self.status.as_ref() != Some(&status_word) {
            self.status = Some(status_word.clone());
            self.out.push(Event::Status(status_word));
        }
        let usage = response.usage.as_ref().map(crate::protocol::Usage::from);
        self.out.extend(usage.filter(|_| is_over).map(Event::Usage));
        let end = match &*status {
            "completed" => self.completed(usage.map(|usage| usage.output_tokens)),
            "incomplete" => End::Incomplete(incomplete(
                response.incomplete_details.and_then(|details| details.reason),
            )),
            "cancelled" => End::Cancelled,
            "failed" => {
                let failed = response.error.unwrap_or_default();
                End::Failed(self.peer.failed(failed.code, failed.message))
            }
            _ => return,
        };
        self.out.extend(carry::keep(self.items.whole()).map(Event::Carry));
        self.finish(end);
    }

    fn completed(&self, output_tokens: Option<u64>) -> End {
        let calls = self.items.wanted();
        let is_cut = self.max_output_tokens.is_some_and(|max| output_tokens >= Some(max));
        if !calls.is_empty() {
            End::ToolCalls(calls)
        } else if self.items.is_refusal() {
            End::Completed(StopReason::Refusal)
        } else if is_cut {
            End::Incomplete(StopReason::MaxTokens)
        } else {
            End::Completed(StopReason::EndTurn)
        }
    }

    /// An error in the stream: flat as the description has it, or below `error` as it comes.
    fn accept_error(&mut self, data: &str) {
        let told = self.peer.told(None, data.as_bytes());
        let error = told.unwrap_or_else(|| self.peer.error(Kind::Upstream, "ended the stream with an error"));
        self.items.finish(&mut self.out);
        self.finish(End::Failed(error));
    }

    /// An event without any name is an error or nothing that we know.
    fn nameless(&mut self, data: &str) {
        if self.peer.told(None, data.as_bytes()).is_some() {
            self.accept_error(data);
        } else {
            self.pass_on("", data);
        }
    }

    fn finish(&mut self, end: End) {
        self.end = Some(end);
    }

    fn saw(&mut self, sequence: Option<u64>) {
        self.sequence = self.sequence.max(sequence);
    }

    fn pass_on(&mut self, name: &str, data: &str) {
        self.saw(head(data).sequence_number);
        let data = self.peer.scrub(data);
        let data = Value::deserialize(&mut serde_json::Deserializer::from_str(&data));
        self.out.push(Event::Upstream {
            name: self.peer.scrub(name).into_owned(),
            data: data.unwrap_or_default(),
        });
    }
}

fn head(data: &str) -> Head<'_> {
    serde_json::from_str(data).unwrap_or_default()
}

fn incomplete(reason: Option<String>) -> StopReason {
    match reason.as_deref() {
        Some("content_filter") => StopReason::ContentFilter,
        _ => StopReason::MaxTokens,
    }
}
