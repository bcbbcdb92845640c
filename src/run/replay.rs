//! Taking up a run of a dead process: its provider gives the round from the beginning, and what is known of it is passed
//! over, so that nothing is there twice.
//!
//! What was kept stays as it is. An upstream that now says something else is not believed.

use std::collections::VecDeque;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;

use super::{RoundEnd, Run};
use crate::error::{Error, Kind};
use crate::protocol::{PartKind, RunStep};
use crate::provider::{End, Event};
use crate::transcript::{SoFar, Transcript};

/// What is known of the round under way and did not come again yet.
pub(super) struct Known {
    /// In order; the first is the one that the upstream is at, if `is_open`.
    messages: VecDeque<KnownMessage>,
    is_open: bool,
    /// Steps as they are known, each with a state that it went through on its way there, or past that.
    steps: Vec<(RunStep, Option<RunStep>)>,
    anchor: Option<Value>,
}

struct KnownMessage {
    said: SoFar,
    /// How much of each text came again, in bytes.
    places: Vec<usize>,
}

/// The upstream says something else than it did.
#[derive(Debug, PartialEq)]
struct Differs;

impl Run {
    /// Takes what the stream gives of this round, but for what is known. An error means that it is another answer.
    pub(super) async fn replay(
        &mut self,
        mut stream: BoxStream<'static, Event>,
        mut known: Known,
    ) -> Result<RoundEnd, Error> {
        let token = self.stop.token();
        while !known.is_caught_up() {
            let event = tokio::select! {
                biased;
                () = token.cancelled() => return Ok((None, Some(stream))),
                event = stream.next() => event,
            };
            let Some(event) = event else {
                return Ok((self.take(None), None));
            };
            let mut end = None;
            for event in known.pass(event).map_err(|Differs| differs())? {
                end = self.take(Some(event));
            }
            if end.is_some() {
                self.settle();
                return Ok((end, None));
            }
            self.flush();
        }
        Ok(self.listen(stream).await)
    }
}

impl Known {
    /// What a transcript knows of its round under way.
    pub(super) fn of(transcript: &Transcript) -> Known {
        let (_, steps_before) = transcript.before_round();
        let steps = transcript.steps()[steps_before..].iter();
        Known {
            messages: transcript
                .said_in_round()
                .into_iter()
                .map(|said| KnownMessage {
                    places: vec![0; said.texts.len()],
                    said,
                })
                .collect(),
            is_open: false,
            steps: steps.map(|step| (step.clone(), None)).collect(),
            anchor: transcript.anchor_of_round().cloned(),
        }
    }

    /// Whether all that follows is new.
    fn is_caught_up(&self) -> bool {
        let messages = match self.messages.front() {
            None => true,
            Some(message) => self.is_open && self.messages.len() == 1 && message.is_again() && !message.said.is_done,
        };
        messages && self.steps.is_empty()
    }

    /// What of this event is new.
    fn pass(&mut self, event: Event) -> Result<Vec<Event>, Differs> {
        match event {
            Event::MessageStarted { .. } => {
                self.close()?;
                self.open();
                Ok(if self.is_open { Vec::new() } else { vec![event] })
            }
            Event::Delta { index, part, text } => self.pass_text(index, part, text),
            Event::Annotation { index, .. } => self.pass_thing(event, |said| &mut said.annotations, index),
            Event::Image { index, .. } => self.pass_thing(event, |said| &mut said.images, index),
            Event::MessageDone => {
                let is_known = self.messages.front().is_some_and(|message| message.said.is_done);
                let was_open = self.is_open;
                self.close()?;
                Ok(if was_open && is_known { Vec::new() } else { vec![event] })
            }
            Event::Step(step) => Ok(self.pass_step(step)),
            Event::Anchor(anchor) if self.anchor.as_ref() == Some(&anchor) => Ok(Vec::new()),
            Event::End(end) => {
                if matches!(end, End::Completed(_) | End::Incomplete(_) | End::ToolCalls(_)) {
                    self.close()?;
                    if !self.messages.is_empty() {
                        return Err(Differs);
                    }
                }
                // What became of steps that went another way.
                let steps = self.steps.drain(..).filter_map(|(_, newest)| newest);
                let mut events: Vec<Event> = steps.map(Event::Step).collect();
                events.push(Event::End(end));
                Ok(events)
            }
            event => Ok(vec![event]),
        }
    }

    fn pass_text(&mut self, index: u32, part: PartKind, text: String) -> Result<Vec<Event>, Differs> {
        self.open();
        let is_last = self.messages.len() == 1;
        let Some(message) = self.messages.front_mut() else {
            return Ok(vec![Event::Delta { index, part, text }]);
        };
        let rest = message.unknown(index, part, &text)?;
        if rest.is_empty() {
            return Ok(Vec::new());
        }
        if !is_last || message.said.is_done {
            return Err(Differs);
        }
        let text = rest.to_owned();
        Ok(vec![Event::Delta { index, part, text }])
    }

    /// An annotation or an image: those that came first are those that are known.
    fn pass_thing(
        &mut self,
        event: Event,
        known: impl Fn(&mut SoFar) -> &mut Vec<u32>,
        index: u32,
    ) -> Result<Vec<Event>, Differs> {
        self.open();
        let is_last = self.messages.len() == 1;
        let Some(message) = self.messages.front_mut() else {
            return Ok(vec![event]);
        };
        let known = known(&mut message.said);
        if let Some(place) = known.iter().position(|known| *known == index) {
            known.remove(place);
            return Ok(Vec::new());
        }
        if !is_last || message.said.is_done {
            return Err(Differs);
        }
        Ok(vec![event])
    }

    /// A step that is known is new once it has come to where it was.
    fn pass_step(&mut self, step: RunStep) -> Vec<Event> {
        let Some(place) = self.steps.iter().position(|(known, _)| known.id == step.id) else {
            return vec![Event::Step(step)];
        };
        let (known, newest) = &mut self.steps[place];
        if *known == step {
            self.steps.remove(place);
        } else {
            *newest = Some(step);
        }
        Vec::new()
    }

    /// Text belongs to a message, whether or not its beginning was told.
    fn open(&mut self) {
        self.is_open = !self.messages.is_empty();
    }

    /// The upstream leaves a message: all of its text must have come again.
    fn close(&mut self) -> Result<(), Differs> {
        if std::mem::take(&mut self.is_open) {
            let message = self.messages.pop_front();
            if message.is_some_and(|message| !message.has_text_again()) {
                return Err(Differs);
            }
        }
        Ok(())
    }
}

impl KnownMessage {
    /// Whether all that is known of it came again.
    fn is_again(&self) -> bool {
        self.has_text_again() && self.said.annotations.is_empty() && self.said.images.is_empty()
    }

    fn has_text_again(&self) -> bool {
        let mut texts = self.said.texts.iter().zip(&self.places);
        texts.all(|((_, _, text), place)| *place == text.len())
    }

    /// What of this piece is not known, and counts it as come again.
    fn unknown<'a>(&mut self, index: u32, part: PartKind, piece: &'a str) -> Result<&'a str, Differs> {
        let texts = &self.said.texts;
        let Some(found) = texts.iter().position(|(i, kind, _)| (*i, *kind) == (index, part)) else {
            return Ok(piece);
        };
        let place = &mut self.places[found];
        let left = &texts[found].2[*place..];
        let length = left.len().min(piece.len());
        if left.as_bytes()[..length] != piece.as_bytes()[..length] {
            return Err(Differs);
        }
        *place += length;
        piece.get(length..).ok_or(Differs)
    }
}

fn differs() -> Error {
    Error::new(
        Kind::Upstream,
        "assistd was killed, and the upstream now gives another answer than it had begun: what was shown is kept",
    )
    .with_hint("ask again")
}

#[cfg(test)]
mod tests;
