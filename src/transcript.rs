//! What a run has said so far: its messages, steps and figures, put together from its entries in order.
//!
//! The run keeps one while it goes on, and the store makes the same one again from the journal of a dead process: an
//! entry means the same thing to both. Text is held once, here; the outbox holds positions in it. Nothing here waits,
//! and nothing here leaves its thread: [`Transcript::finish`] gives plain data to send on.

mod round;

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::protocol::{Annotation, Image, Part, PartKind, RunStatus, RunStep, StopReason, ToolCallEntry, Usage};

pub use round::{SaidRound, SoFar};

/// One entry of a run, as it is journaled. Deltas have a record of their own, since they are the hot path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Entry {
    /// A message begins; what follows belongs to it.
    Message {
        /// Our id of it.
        message_id: String,
    },
    /// The message is over.
    MessageDone,
    /// An annotation of a part of the message.
    Annotation {
        /// Which part.
        index: u32,
        /// The annotation.
        annotation: Annotation,
    },
    /// An image as a part of the message.
    Image {
        /// Which part.
        index: u32,
        /// The image.
        image: Image,
    },
    /// A step began, changed or ended.
    Step {
        /// The whole step.
        step: RunStep,
    },
    /// The run's figures so far.
    Usage {
        /// The sum of all rounds.
        usage: Usage,
    },
    /// What the provider wants back with the thread's next request.
    Anchor {
        /// Opaque.
        anchor: Value,
    },
    /// A round is over: what follows is said in answer to the outputs of its calls. The arguments and outputs stand in
    /// the steps, so that they are kept once.
    Round {
        /// The ids of its calls. None where the answer is whole and the provider wants something back with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<String>,
        /// What the provider wants back with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carry: Option<Value>,
    },
    /// The run has ended.
    End {
        /// How.
        end: RunEnd,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEnd {
    /// One of the five ends.
    pub status: RunStatus,
    /// Why.
    pub stop_reason: StopReason,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The calls that nobody answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallEntry>,
}

impl RunEnd {
    /// An end without an error.
    pub fn new(status: RunStatus, stop_reason: StopReason) -> Self {
        RunEnd {
            status,
            stop_reason,
            error: None,
            tool_calls: Vec::new(),
        }
    }

    /// `failed`, with the error.
    pub fn failed(error: Error) -> Self {
        RunEnd {
            error: Some(error),
            ..RunEnd::new(RunStatus::Failed, StopReason::Error)
        }
    }
}

/// A part's text, shared with whoever has to send it. It only grows.
#[derive(Debug, Clone, Default)]
pub struct Text(Rc<RefCell<String>>);

impl Text {
    /// All of it. Not to be held over an await.
    pub fn borrow(&self) -> Ref<'_, String> {
        self.0.borrow()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both are the same text, not only equal ones.
    pub fn is_same(&self, other: &Text) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// Everything a run has said so far.
#[derive(Debug, Default)]
pub struct Transcript {
    messages: Vec<Draft>,
    steps: Vec<RunStep>,
    rounds: Vec<SaidRound>,
    usage: Option<Usage>,
    anchor: Option<Value>,
    /// The anchor was left by the round under way.
    is_anchored: bool,
    /// The figures of the rounds that are over.
    usage_before_round: Usage,
    end: Option<RunEnd>,
    seq: u64,
    said: u64,
}

/// A message being made.
#[derive(Debug)]
struct Draft {
    id: Rc<str>,
    parts: Vec<DraftPart>,
    marks: Vec<Mark>,
    is_done: bool,
}

#[derive(Debug)]
struct DraftPart {
    index: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Text {
        kind: PartKind,
        text: Text,
        annotations: Vec<Annotation>,
    },
    Image(Image),
}

/// Where the text of a message stood after the event `seq`: what a replay begins behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The event.
    pub seq: u64,
    /// The content part.
    pub index: u32,
    /// The length of that part's text in bytes, with the event's piece.
    pub len: u64,
}

/// A run as plain data, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub end: RunEnd,
    /// Its messages in order.
    pub messages: Vec<SaidMessage>,
    /// Its steps in order.
    pub steps: Vec<RunStep>,
    /// Its rounds that ended with calls, or that a provider wants something back with, in order.
    pub rounds: Vec<SaidRound>,
    /// Its figures.
    pub usage: Option<Usage>,
    /// What the provider wants back with the thread's next request; none leaves what was stored.
    pub anchor: Option<Value>,
    /// The `seq` of its last event.
    pub seq: u64,
}

/// A message that a run made.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidMessage {
    /// Our id.
    pub id: String,
    /// Whether it is whole.
    pub status: RunStatus,
    /// What it holds.
    pub content: Vec<Part>,
    /// Where its text stood after each delta.
    pub marks: Vec<Mark>,
}

impl Transcript {
    /// Appends a piece of text to the message under way and gives where it went: the text, and where the piece begins
    /// in it. Two pieces under one `index` but of different kinds are two parts. A message must have begun.
    pub fn delta(&mut self, seq: u64, index: u32, kind: PartKind, piece: &str) -> (Text, usize) {
        self.seq = seq;
        self.said = seq;
        let draft = self.messages.last_mut().expect("a message begins before its text");
        let text = draft.text_part(index, kind);
        let start = text.len();
        text.0.borrow_mut().push_str(piece);
        draft.marks.push(Mark {
            seq,
            index,
            len: (start + piece.len()) as u64,
        });
        (text, start)
    }

    /// Takes any other entry.
    pub fn apply(&mut self, seq: u64, entry: Entry) {
        self.seq = seq;
        if !matches!(entry, Entry::Anchor { .. }) {
            self.said = seq;
        }
        match entry {
            Entry::Message { message_id } => self.messages.push(Draft {
                id: message_id.into(),
                parts: Vec::new(),
                marks: Vec::new(),
                is_done: false,
            }),
            Entry::MessageDone => {
                if let Some(draft) = self.messages.last_mut() {
                    draft.is_done = true;
                }
            }
            Entry::Annotation { index, annotation } => {
                if let Some(draft) = self.messages.last_mut() {
                    draft.annotate(index, annotation);
                }
            }
            Entry::Image { index, image } => {
                if let Some(draft) = self.messages.last_mut() {
                    draft.parts.push(DraftPart {
                        index,
                        body: Body::Image(image),
                    });
                }
            }
            Entry::Step { step } => match self.steps.iter_mut().find(|known| known.id == step.id) {
                Some(known) => *known = step,
                None => self.steps.push(step),
            },
            Entry::Usage { usage } => self.usage = Some(usage),
            Entry::Anchor { anchor } => {
                self.anchor = Some(anchor);
                self.is_anchored = true;
            }
            Entry::Round { calls, carry } => {
                self.rounds.push(SaidRound {
                    messages: self.messages.len(),
                    steps: self.steps.len(),
                    calls,
                    carry,
                });
                self.is_anchored = false;
                self.usage_before_round = self.usage.unwrap_or_default();
            }
            Entry::End { end } => self.end = Some(end),
        }
    }

    /// The message that text goes to; none before the first, or after the last was done.
    pub fn message_under_way(&self) -> Option<Rc<str>> {
        self.messages
            .last()
            .filter(|draft| !draft.is_done)
            .map(|draft| draft.id.clone())
    }

    /// The last message.
    pub fn last_message(&self) -> Option<Rc<str>> {
        self.messages.last().map(|draft| draft.id.clone())
    }

    /// The ids of all messages in order.
    pub fn message_ids(&self) -> Vec<String> {
        self.messages.iter().map(|draft| draft.id.to_string()).collect()
    }

    /// What the last message holds so far.
    pub fn last_content(&self) -> Vec<Part> {
        self.messages.last().map(Draft::content).unwrap_or_default()
    }

    /// All deltas joined, nothing added.
    pub fn text(&self) -> String {
        let texts = self.messages.iter().flat_map(Draft::texts);
        let mut joined = String::with_capacity(self.text_len());
        texts.for_each(|text| joined.push_str(&text.borrow()));
        joined
    }

    /// How long [`Transcript::text`] is, in bytes.
    pub fn text_len(&self) -> usize {
        self.messages.iter().flat_map(Draft::texts).map(Text::len).sum()
    }

    /// Whether the last message holds nothing but the run's text.
    pub fn is_plain(&self) -> bool {
        match self.messages.last().map_or(&[][..], |draft| &draft.parts) {
            [] => true,
            [
                DraftPart {
                    body:
                        Body::Text {
                            kind: PartKind::Text,
                            text,
                            annotations,
                        },
                    ..
                },
            ] => annotations.is_empty() && text.len() == self.text_len(),
            _ => false,
        }
    }

    /// The steps so far.
    pub fn steps(&self) -> &[RunStep] {
        &self.steps
    }

    /// The figures so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// What the provider left for the next request.
    pub fn anchor(&self) -> Option<&Value> {
        self.anchor.as_ref()
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&RunEnd> {
        self.end.as_ref()
    }

    /// The `seq` of the last entry.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The `seq` of the last entry that says something of the answer: not of one that only its provider reads.
    pub fn last_said(&self) -> u64 {
        self.said
    }

    /// The run as plain data. A run without an end gets this one: its process is dead.
    pub fn finish(&self, or_else: RunEnd) -> Outcome {
        let end = self.end.clone().unwrap_or(or_else);
        Outcome {
            messages: self.messages.iter().map(|draft| draft.said(&end)).collect(),
            end,
            steps: self.steps.clone(),
            rounds: self.rounds.clone(),
            usage: self.usage,
            anchor: self.anchor.clone(),
            seq: self.seq,
        }
    }
}

impl Draft {
    fn text_part(&mut self, index: u32, wanted: PartKind) -> Text {
        let known = self.parts.iter().rev().find_map(|part| match &part.body {
            Body::Text { kind, text, .. } if part.index == index && *kind == wanted => Some(text.clone()),
            _ => None,
        });
        known.unwrap_or_else(|| {
            let text = Text::default();
            let body = Body::Text {
                kind: wanted,
                text: text.clone(),
                annotations: Vec::new(),
            };
            self.parts.push(DraftPart { index, body });
            text
        })
    }

    fn annotate(&mut self, wanted: u32, annotation: Annotation) {
        let part = self.parts.iter_mut().rev().find(|part| part.index == wanted);
        if let Some(DraftPart {
            body: Body::Text { annotations, .. },
            ..
        }) = part
        {
            annotations.push(annotation);
        }
    }

    fn texts(&self) -> impl Iterator<Item = &Text> {
        self.parts.iter().filter_map(|part| match &part.body {
            Body::Text { text, .. } => Some(text),
            Body::Image(_) => None,
        })
    }

    fn content(&self) -> Vec<Part> {
        self.parts.iter().map(DraftPart::to_part).collect()
    }

    fn said(&self, end: &RunEnd) -> SaidMessage {
        SaidMessage {
            id: self.id.to_string(),
            status: if self.is_done { RunStatus::Completed } else { end.status },
            content: self.content(),
            marks: self.marks.clone(),
        }
    }
}

impl DraftPart {
    fn to_part(&self) -> Part {
        match &self.body {
            Body::Text {
                kind: PartKind::Text,
                text,
                annotations,
            } => Part::Text {
                text: text.borrow().clone(),
                annotations: annotations.clone(),
            },
            Body::Text {
                kind: PartKind::Refusal,
                text,
                ..
            } => Part::Refusal {
                text: text.borrow().clone(),
            },
            Body::Image(image) => Part::Image(image.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Transcript {
        let mut transcript = Transcript::default();
        transcript.apply(1, Entry::Message { message_id: "m".into() });
        transcript
    }

    #[test]
    fn deltas_of_one_part_share_one_text_and_leave_marks() {
        let mut transcript = begun();
        let (first, start) = transcript.delta(2, 0, PartKind::Text, "Hel");
        let (second, next) = transcript.delta(3, 0, PartKind::Text, "lo");
        assert!(first.is_same(&second));
        assert_eq!((start, next, transcript.text().as_str()), (0, 3, "Hello"));
        let outcome = transcript.finish(RunEnd::new(RunStatus::Completed, StopReason::EndTurn));
        assert_eq!(
            outcome.messages[0].marks,
            [
                Mark {
                    seq: 2,
                    index: 0,
                    len: 3
                },
                Mark {
                    seq: 3,
                    index: 0,
                    len: 5
                }
            ]
        );
    }

    #[test]
    fn a_refusal_is_a_part_of_its_own() {
        let mut transcript = begun();
        transcript.delta(2, 0, PartKind::Text, "a");
        transcript.delta(3, 0, PartKind::Refusal, "no");
        assert_eq!(
            transcript.last_content(),
            [Part::text("a"), Part::Refusal { text: "no".into() }]
        );
    }

    #[test]
    fn a_step_is_replaced_by_its_newer_self() {
        let mut transcript = Transcript::default();
        let step = |status: &str| RunStep {
            id: "s".into(),
            kind: "toolCalls".into(),
            status: status.into(),
            calls: Vec::new(),
            error: None,
            usage: None,
        };
        transcript.apply(
            1,
            Entry::Step {
                step: step("inProgress"),
            },
        );
        transcript.apply(
            2,
            Entry::Step {
                step: step("completed"),
            },
        );
        assert_eq!(transcript.steps(), [step("completed")]);
    }

    #[test]
    fn the_message_of_a_dead_process_takes_the_runs_end() {
        let mut transcript = begun();
        transcript.delta(2, 0, PartKind::Text, "half");
        let outcome = transcript.finish(RunEnd::new(RunStatus::Interrupted, StopReason::DaemonKilled));
        assert_eq!(outcome.messages[0].status, RunStatus::Interrupted);
        assert_eq!(outcome.seq, 2);
    }
}
