//! The rounds of a run: where each ended, what it called, and what its provider wants back with it.
//!
//! A round refers to messages and steps by their places; what they hold stands there only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Body, Draft, Transcript};
use crate::protocol::{PartKind, RunStep, StepCall, ToolCallEntry, ToolOutput, Usage};
use crate::thread::{Round, ToolCall};

/// A round that is over: where it ended, and what it called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaidRound {
    /// How many messages the run had made when it ended.
    pub messages: usize,
    /// How many steps the run had by then: its calls stand in these, the newest first (some upstreams name calls of
    /// different rounds alike).
    pub steps: usize,
    /// The ids of its calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    /// What the provider wants back with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carry: Option<Value>,
}

impl SaidRound {
    /// Its calls, and the outputs that there are, from the run's steps.
    pub fn with_steps(&self, steps: &[RunStep], text: String) -> Round {
        let mut round = Round {
            text,
            carry: self.carry.clone(),
            ..Round::default()
        };
        for call_id in &self.calls {
            let Some(call) = call_in(&steps[..self.steps.min(steps.len())], call_id) else {
                continue;
            };
            round.calls.push(ToolCall {
                id: call_id.clone(),
                name: call.name.clone().unwrap_or_default(),
                arguments: call.arguments.clone().unwrap_or_default(),
            });
            round.outputs.extend(call.output.as_ref().map(|output| ToolOutput {
                call_id: call_id.clone(),
                output: output.clone(),
                is_error: false,
            }));
        }
        round
    }
}

/// What a message of the round under way holds so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SoFar {
    /// Its texts, by part and kind.
    pub texts: Vec<(u32, PartKind, String)>,
    /// The parts that its annotations belong to.
    pub annotations: Vec<u32>,
    /// The parts that are images.
    pub images: Vec<u32>,
    /// Whether it is whole.
    pub is_done: bool,
}

impl From<&Draft> for SoFar {
    fn from(draft: &Draft) -> Self {
        let mut so_far = SoFar {
            is_done: draft.is_done,
            ..SoFar::default()
        };
        for part in &draft.parts {
            match &part.body {
                Body::Text {
                    kind,
                    text,
                    annotations,
                } => {
                    so_far.texts.push((part.index, *kind, text.borrow().clone()));
                    so_far.annotations.extend(annotations.iter().map(|_| part.index));
                }
                Body::Image(_) => so_far.images.push(part.index),
            }
        }
        so_far
    }
}

fn joined(messages: &[Draft]) -> String {
    let mut joined = String::new();
    let texts = messages.iter().flat_map(Draft::texts);
    texts.for_each(|text| joined.push_str(&text.borrow()));
    joined
}

/// The newest call of this id.
fn call_in<'a>(steps: &'a [RunStep], call_id: &str) -> Option<&'a StepCall> {
    let calls = steps.iter().rev().flat_map(|step| &step.calls);
    calls.into_iter().find(|call| call.call_id == call_id)
}

impl Transcript {
    /// What the provider left in the round under way: an anchor of an earlier one tells nothing of it.
    pub fn anchor_of_round(&self) -> Option<&Value> {
        self.anchor.as_ref().filter(|_| self.is_anchored)
    }

    /// The rounds that are over, with their text and outputs.
    pub fn rounds(&self) -> Vec<Round> {
        let mut before = 0;
        let rounds = self.rounds.iter().map(|said| {
            let text = joined(&self.messages[before..said.messages]);
            before = said.messages;
            said.with_steps(&self.steps, text)
        });
        rounds.collect()
    }

    /// How many rounds are over.
    pub fn round_count(&self) -> usize {
        self.rounds.len()
    }

    /// What was said in the last round that is over.
    pub fn text_of_last_round(&self) -> String {
        let before = match &self.rounds[..] {
            [.., before, _] => before.messages,
            _ => 0,
        };
        let end = self.rounds.last().map_or(0, |round| round.messages);
        joined(&self.messages[before..end])
    }

    /// What was said in the round under way, message by message.
    pub fn said_in_round(&self) -> Vec<SoFar> {
        let (messages, _) = self.before_round();
        self.messages[messages..].iter().map(SoFar::from).collect()
    }

    /// How many messages and steps there were when the round under way began.
    pub fn before_round(&self) -> (usize, usize) {
        self.rounds.last().map_or((0, 0), |round| (round.messages, round.steps))
    }

    /// The figures of the rounds that are over.
    pub fn usage_before_round(&self) -> Usage {
        self.usage_before_round
    }

    /// The calls of the last round that have no output, if nothing was said since.
    pub fn open_calls(&self) -> Vec<ToolCallEntry> {
        let Some(said) = self.rounds.last() else {
            return Vec::new();
        };
        if said.messages < self.messages.len() || said.steps < self.steps.len() {
            return Vec::new();
        }
        let round = said.with_steps(&self.steps, String::new());
        let is_open = |call: &ToolCall| round.outputs.iter().all(|output| output.call_id != call.id);
        round
            .calls
            .iter()
            .filter(|call| is_open(call))
            .map(ToolCallEntry::from)
            .collect()
    }
}
