//! The chunks of one stream, in our own words.
//!
//! Pure: data goes in, events come out, and in the end one [`End`]. Only the first choice is shown. A stream that says
//! nowhere why it ended has failed, whether it says `[DONE]` or not: gateways put that behind whatever broke off.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Deserializer, Value};

use super::calls::Calls;
use super::messages::CARRIED_CALLS;
use super::reasoning::Reasoning;
use super::scalar::{Scalar, read};
use super::wire::{self, Choice, Chunk, Content, Delta, Part};
use crate::error::{Error, Kind};
use crate::protocol::{Annotation, Image, PartKind, StopReason, Usage};
use crate::provider::http::Peer;
use crate::provider::json::log_unreadable;
use crate::provider::{End, Event, surrogates};

/// What has come of one stream so far.
#[derive(Debug)]
pub struct Mapper {
    peer: Peer,
    calls: Calls,
    reasoning: Reasoning,
    /// The newest figures; told at the end, since some servers have them in every chunk.
    usage: Option<Usage>,
    /// Pages that the answer rests on, to be told at the end where no annotation has named them.
    citations: Vec<String>,
    cited: Vec<String>,
    images: u32,
    has_text: bool,
    is_refusal: bool,
    /// The upstream's reason for the end.
    finish: Option<String>,
    failure: Option<Error>,
    is_done: bool,
    has_shown: bool,
    out: Vec<Event>,
}

impl Mapper {
    /// For a round of a run whose earlier calls had these ids.
    pub fn new(peer: Peer, taken: impl Iterator<Item = String>) -> Self {
        Mapper {
            peer,
            calls: Calls::new(taken),
            reasoning: Reasoning::default(),
            usage: None,
            citations: Vec::new(),
            cited: Vec::new(),
            images: 0,
            has_text: false,
            is_refusal: false,
            finish: None,
            failure: None,
            is_done: false,
            has_shown: false,
            out: Vec::new(),
        }
    }

    /// One event of the stream.
    pub fn accept(&mut self, name: &str, data: &str) {
        let peer = &self.peer;
        tracing::trace!(data = &*peer.scrub(data), "a chunk of the upstream");
        if data == "[DONE]" {
            self.is_done = true;
            return;
        }
        let Err(problem) = self.dispatch(name, data) else {
            return;
        };
        log_unreadable(&problem, "a chunk could not be read");
        let mended = surrogates::mend(data);
        if self.dispatch(name, &mended).is_err() {
            self.pass_on(name, &mended);
        }
    }

    /// The events since the last call, in order.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Event> {
        self.has_shown = self.has_shown();
        self.out.drain(..)
    }

    /// Whether anything of the answer has come: then nothing is started again.
    pub fn has_shown(&self) -> bool {
        let shows = |event: &Event| !matches!(event, Event::Usage(_) | Event::Upstream { .. });
        self.has_shown || self.out.iter().any(shows)
    }

    /// Ends what was begun: nothing more comes.
    pub fn close(&mut self) {
        self.reasoning.end(&mut self.out);
        self.out.extend(self.usage.take().map(Event::Usage));
    }

    /// Whether the answer is over: what may follow are figures.
    pub fn has_ended(&self) -> bool {
        self.finish.is_some() || self.failure.is_some()
    }

    /// Whether nothing more is to come.
    pub fn is_done(&self) -> bool {
        self.is_done || self.failure.is_some()
    }

    /// How the round ended, when nothing more comes. Events may have to be drained before it.
    pub fn finish(&mut self) -> End {
        let end = match (self.failure.take(), self.finish.take()) {
            (Some(error), _) => End::Failed(error),
            (None, Some(reason)) => self.ended(&reason),
            (None, None) => End::Failed(self.cut_off()),
        };
        self.tell_citations();
        self.close();
        end
    }

    fn cut_off(&self) -> Error {
        let error = self.peer.error(
            Kind::Network,
            "broke off: its stream ended without a reason for the end",
        );
        error.with_hint("ask again")
    }

    fn ended(&mut self, reason: &str) -> End {
        match reason.to_ascii_lowercase().as_str() {
            "length" | "max_tokens" | "model_length" => End::Incomplete(StopReason::MaxTokens),
            "model_context_window_exceeded" => End::Incomplete(StopReason::ContextFull),
            "content_filter" | "content-filter" | "safety" | "sensitive" | "recitation" => {
                End::Incomplete(StopReason::ContentFilter)
            }
            "error" | "abort" | "network_error" => {
                End::Failed(self.peer.error(Kind::Upstream, "broke off, and says no more than that"))
            }
            // DeepSeek's word.
            "insufficient_system_resource" => End::Failed(
                self.peer
                    .error(Kind::Overloaded, "had no capacity to finish the answer"),
            ),
            // `stop`, `tool_calls`, `function_call` and what else servers say: what came is what counts, for some say
            // `stop` behind calls, and some `tool_calls` behind none.
            _ if !self.calls.is_empty() => self.tool_calls(),
            _ if self.is_refusal => End::Completed(StopReason::Refusal),
            _ => End::Completed(StopReason::EndTurn),
        }
    }

    fn tool_calls(&mut self) -> End {
        let mut carry = self.reasoning.carry();
        let extras = self.calls.extras();
        if !extras.is_empty() {
            carry.insert(CARRIED_CALLS.into(), Value::Object(extras));
        }
        if !carry.is_empty() {
            self.out.push(Event::Carry(Value::Object(carry)));
        }
        End::ToolCalls(self.calls.finish(&mut self.out))
    }

    fn dispatch(&mut self, name: &str, data: &str) -> Result<(), serde_json::Error> {
        let chunk: Chunk = serde_json::from_str(data)?;
        let Chunk {
            choices,
            object,
            usage,
            error,
            citations,
            x_groq,
        } = chunk;
        let x_groq = x_groq.unwrap_or_default();
        let is_error = name == "error" || matches!(&object, Scalar::Text(object) if object == "error");
        if is_error || [error, x_groq.error].into_iter().flatten().any(says_something) {
            self.fail(data);
            return Ok(());
        }
        if let Some(usage) = usage.or(x_groq.usage).and_then(read::<wire::Usage>) {
            self.usage = Some(usage.into());
        }
        if let Some(citations) = citations {
            self.citations = read::<Vec<Scalar>>(citations)
                .into_iter()
                .flatten()
                .filter_map(Scalar::string)
                .collect();
        }
        match choices {
            Some(choices) => {
                if let Some(choice) = choices.0 {
                    self.accept_choice(choice);
                }
            }
            None if usage.is_some() || citations.is_some() => {}
            None if self.peer.told(None, data.as_bytes()).is_some() => self.fail(data),
            None => self.pass_on(object.text().as_deref().unwrap_or(name), data),
        }
        Ok(())
    }

    fn accept_choice(&mut self, choice: Choice<'_>) {
        let is_fresh = !self.has_text && self.calls.is_empty();
        let delta = choice.delta.or(choice.message.filter(|_| is_fresh));
        if let Some(delta) = delta {
            self.accept_delta(delta);
        }
        if let Some(error) = choice.error.filter(|error| says_something(error)) {
            self.fail(error.get());
        } else if let Some(reason) = choice.finish_reason.string() {
            self.finish.get_or_insert(reason);
        }
    }

    fn accept_delta(&mut self, mut delta: Delta<'_>) {
        self.reasoning.accept(&mut delta, &mut self.out);
        match delta.content {
            Content::Absent => {}
            Content::Text(text) => self.say(PartKind::Text, text),
            Content::Parts(parts) => parts.into_iter().for_each(|part| self.accept_part(part)),
        }
        if let Some(refusal) = delta.refusal.text() {
            self.say(PartKind::Refusal, refusal);
        }
        if let Some(calls) = delta.tool_calls {
            self.reasoning.end(&mut self.out);
            self.calls.accept(calls, &mut self.out);
        }
        if let Some(call) = delta.function_call {
            self.calls.accept_function(call, &mut self.out);
        }
        if let Some(annotations) = delta.annotations {
            self.annotate(annotations);
        }
        for image in delta
            .images
            .and_then(read::<Vec<wire::ImagePart>>)
            .into_iter()
            .flatten()
        {
            self.show_image(image.image_url.and_then(|image| image.url.string()));
        }
    }

    fn accept_part(&mut self, part: Part<'_>) {
        self.reasoning.accept_part(part.thinking, &mut self.out);
        if let Content::Text(text) = part.text {
            self.say(PartKind::Text, text);
        }
        if let Some(refusal) = part.refusal.text() {
            self.say(PartKind::Refusal, refusal);
        }
        if let Some(image) = part.image_url {
            let url = read::<Scalar>(image).and_then(Scalar::string);
            self.show_image(url.or_else(|| read::<wire::ImageUrl>(image)?.url.string()));
        }
    }

    /// The hot path: one event, and its text is the one allocation.
    fn say(&mut self, part: PartKind, text: Cow<'_, str>) {
        if text.is_empty() {
            return;
        }
        self.reasoning.end(&mut self.out);
        self.has_text = true;
        self.is_refusal |= part == PartKind::Refusal;
        self.out.push(Event::Delta {
            index: 0,
            part,
            text: text.into_owned(),
        });
    }

    fn annotate(&mut self, raw: &RawValue) {
        for annotation in read::<Vec<wire::Annotation>>(raw).into_iter().flatten() {
            let Some(cited) = annotation.url_citation else {
                continue;
            };
            let url = cited.url.string();
            self.cited.extend(url.clone());
            let place = |index: Scalar| index.number().and_then(|index| u32::try_from(index).ok());
            let annotation = Annotation {
                kind: "urlCitation".into(),
                start: place(cited.start_index),
                end: place(cited.end_index).filter(|end| *end > 0),
                title: cited.title.string(),
                url,
                ..Annotation::default()
            };
            self.out.push(Event::Annotation { index: 0, annotation });
        }
    }

    /// Pages of which the stream does not say where in the text they are cited.
    fn tell_citations(&mut self) {
        let (citations, cited) = (std::mem::take(&mut self.citations), &self.cited);
        let new = citations.into_iter().filter(|url| !cited.contains(url));
        let annotations = new.map(|url| Annotation {
            kind: "urlCitation".into(),
            url: Some(url),
            ..Annotation::default()
        });
        self.out
            .extend(annotations.map(|annotation| Event::Annotation { index: 0, annotation }));
    }

    /// A picture that the model made: a part of its own, behind the text.
    fn show_image(&mut self, url: Option<String>) {
        let Some(url) = url else {
            return;
        };
        self.reasoning.end(&mut self.out);
        self.images += 1;
        let embedded = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
        let image = match embedded {
            Some((mime_type, data)) => Image {
                mime_type: Some(mime_type.to_owned()),
                data: Some(data.to_owned()),
                ..Image::default()
            },
            None => Image {
                url: Some(url),
                ..Image::default()
            },
        };
        self.out.push(Event::Image {
            index: self.images,
            image,
        });
    }

    /// An error in the stream. Behind the answer's end it changes nothing any more.
    fn fail(&mut self, data: &str) {
        if self.has_ended() {
            return;
        }
        let told = self.peer.told(None, data.as_bytes());
        let error = told.unwrap_or_else(|| self.peer.error(Kind::Upstream, "ended the stream with an error"));
        self.failure = Some(error);
    }

    fn pass_on(&mut self, name: &str, data: &str) {
        let data = self.peer.scrub(data);
        let data = Deserializer::from_str(&data).into_iter().next();
        self.out.push(Event::Upstream {
            name: self.peer.scrub(name).into_owned(),
            data: data.and_then(Result::ok).unwrap_or_default(),
        });
    }
}

/// Whether this member tells of an error: some servers have it in every chunk, and say nothing in it.
fn says_something(error: &RawValue) -> bool {
    !matches!(error.get(), "\"\"" | "false" | "null")
}
