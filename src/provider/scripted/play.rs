//! A script's steps as a row of acts for one round of one run.
//!
//! Nothing here waits or knows of cancelling; a huge text is made piece by piece, as it is asked for.

use std::time::Duration;

use super::script::{Huge, Pace, Retry, Script, Split, Step, Voice};
use crate::error::Error;
use crate::protocol::{PartKind, Role, RunStep, StepCall};
use crate::provider::{End, Event, Request, Round, ToolCall};
use crate::thread::Message;

/// What the stream does next.
#[derive(Debug)]
pub enum Act {
    /// Gives an event.
    Give(Event),
    /// Waits, unless it is cancelled.
    Wait(Duration),
    /// Waits until it is cancelled.
    Stall,
    /// Stops without an end, as a broken connection does.
    Drop,
    /// Panics, as a bug does.
    Panic(String),
    /// Ends.
    End(End),
}

type Acts = Box<dyn Iterator<Item = Act> + Send>;

/// What one round is played for.
pub struct Scene {
    provider: String,
    text: String,
    turn: usize,
    request: Request,
}

impl Scene {
    /// The scene of this request.
    pub fn new(provider: String, request: Request) -> Scene {
        let said = || {
            request
                .conversation
                .messages
                .iter()
                .filter(|message| message.role == Role::User)
        };
        Scene {
            provider,
            text: said().next_back().map(|message| message.joined()).unwrap_or_default(),
            turn: said().count(),
            request,
        }
    }

    /// The acts of this round. They may run out: then the answer is whole.
    pub fn acts(self, script: &Script) -> Acts {
        let Some(answer) = script.answer(&self.text, self.turn) else {
            let text = format!("You said: {}", self.text);
            return say(Voice::Text { index: 0 }, text, Pace::default());
        };
        // A round ends with the step that calls tools, so each round before this one has used up one such step.
        let mut rounds = answer.steps.split_inclusive(|step| matches!(step, Step::ToolCalls(_)));
        let steps = rounds.nth(self.request.rounds.len()).unwrap_or_default().to_vec();
        let before = self.request.rounds.last().map(|round| self.answered(round));
        let before = before.into_iter().map(Act::Give);
        Box::new(before.chain(steps.into_iter().flat_map(move |step| self.play(step))))
    }

    fn play(&self, step: Step) -> Acts {
        match step {
            Step::Say { voice, text, pace } => say(voice, self.fill(&text), pace),
            Step::Huge { huge, pace } => flood(huge, pace),
            Step::Delay(delay) => one(Act::Wait(delay)),
            Step::Annotation { index, annotation } => give(Event::Annotation { index, annotation }),
            Step::Image { index, image } => give(Event::Image { index, image }),
            Step::NewMessage => give(Event::MessageDone),
            Step::RunStep(step) => give(Event::Step(step)),
            Step::ToolCalls(tables) => {
                let first = self.calls_before();
                let numbered = tables.iter().zip(first + 1..);
                self.call(numbered.map(|(table, number)| table.to_call(number)).collect())
            }
            Step::Usage(usage) => give(Event::Usage(usage)),
            Step::RateLimit(limit) => give(Event::RateLimit(limit)),
            Step::Retry(retry) => self.retry(retry),
            Step::Truncated(messages) => give(Event::Truncated { messages }),
            Step::Status(status) => give(Event::Status(status)),
            Step::Upstream { name, data } => give(Event::Upstream { name, data }),
            Step::Fail(error) => one(Act::End(End::Failed(self.sign(error)))),
            Step::Drop => one(Act::Drop),
            Step::Stall => one(Act::Stall),
            Step::Panic(message) => one(Act::Panic(message)),
            Step::End(end) => one(Act::End(end)),
        }
    }

    /// The text with what stands in braces put in. One pass: what is put in is not looked at again.
    fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            rest = &rest[open..];
            let known = rest
                .find('}')
                .and_then(|close| Some((close, self.word(&rest[1..close])?)));
            match known {
                Some((close, word)) => {
                    filled.push_str(&word);
                    rest = &rest[close + 1..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    fn word(&self, name: &str) -> Option<String> {
        let conversation = &self.request.conversation;
        Some(match name {
            "text" => self.text.clone(),
            "turns" => {
                let said = conversation.messages.iter().filter(|message| is_said(message));
                said.count().to_string()
            }
            "history" => conversation
                .messages
                .iter()
                .flat_map(lines)
                .collect::<Vec<_>>()
                .join("\n"),
            "output" => {
                let last = self.request.rounds.last().and_then(|round| round.outputs.last());
                last.map(|output| output.output.clone()).unwrap_or_default()
            }
            "model" => self.request.model.clone().unwrap_or_default(),
            "instructions" => self.request.instructions.clone().unwrap_or_default(),
            "tools" => {
                let names: Vec<&str> = self.request.tools.iter().map(|tool| tool.name.as_str()).collect();
                names.join(", ")
            }
            _ => return None,
        })
    }

    fn calls_before(&self) -> usize {
        self.request.rounds.iter().map(|round| round.calls.len()).sum()
    }

    fn call(&self, calls: Vec<ToolCall>) -> Acts {
        let step_id = format!("step_{}", self.request.rounds.len() + 1);
        let step = tool_step(&step_id, "inProgress", calls.iter().map(step_call).collect());
        let pieces: Vec<Act> = calls
            .iter()
            .map(|call| {
                Act::Give(Event::ToolArguments {
                    step_id: step_id.clone(),
                    call_id: call.id.clone(),
                    name: Some(call.name.clone()),
                    text: call.arguments.clone(),
                })
            })
            .collect();
        Box::new(
            give(Event::Step(step))
                .chain(pieces)
                .chain(one(Act::End(End::ToolCalls(calls)))),
        )
    }

    /// The step of the round before, now that its calls are answered.
    fn answered(&self, round: &Round) -> Event {
        let mut calls: Vec<StepCall> = round.calls.iter().map(step_call).collect();
        for call in &mut calls {
            let output = round.outputs.iter().find(|output| output.call_id == call.call_id);
            call.output = output.map(|output| output.output.clone());
        }
        let step_id = format!("step_{}", self.request.rounds.len());
        Event::Step(tool_step(&step_id, "completed", calls))
    }

    fn retry(&self, retry: Retry) -> Acts {
        let Retry { attempts, delay, error } = retry;
        let error = self.sign(error);
        Box::new((1..=attempts).flat_map(move |attempt| {
            let error = error.clone();
            [Act::Give(Event::Retry { attempt, delay, error }), Act::Wait(delay)]
        }))
    }

    fn sign(&self, error: Error) -> Error {
        error.with_provider(&self.provider)
    }
}

/// Whether there is more to a message than what was called.
fn is_said(message: &Message) -> bool {
    message.round.is_none() || !message.content.is_empty()
}

/// A message and what was called behind it, for people.
fn lines(message: &Message) -> Vec<String> {
    let mut lines = Vec::new();
    if is_said(message) {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        lines.push(format!("{role}: {}", message.joined()));
    }
    if let Some(round) = &message.round {
        let calls = round.calls.iter();
        lines.extend(calls.map(|call| format!("{}({}): {}", call.name, call.arguments, round.output(call))));
    }
    lines
}

fn one(act: Act) -> Acts {
    Box::new(std::iter::once(act))
}

fn give(event: Event) -> Acts {
    one(Act::Give(event))
}

fn say(voice: Voice, text: String, pace: Pace) -> Acts {
    let pieces = cut(&text, pace.split);
    paced(pieces.into_iter(), voice, pace.delay)
}

/// Each piece as an event, with the wait before it.
fn paced(pieces: impl Iterator<Item = String> + Send + 'static, voice: Voice, delay: Option<Duration>) -> Acts {
    Box::new(pieces.flat_map(move |text| {
        let event = match voice {
            Voice::Text { index } => Event::Delta {
                index,
                part: PartKind::Text,
                text,
            },
            Voice::Refusal { index } => Event::Delta {
                index,
                part: PartKind::Refusal,
                text,
            },
            Voice::Reasoning { summary } => Event::Reasoning { text, summary },
        };
        delay.map(Act::Wait).into_iter().chain([Act::Give(event)])
    }))
}

/// The pieces of a text; joined they are the text.
fn cut(text: &str, split: Option<Split>) -> Vec<String> {
    match split {
        None => vec![text.to_owned()],
        Some(Split::Chars) => text.chars().map(String::from).collect(),
        Some(Split::Lines) => text.split_inclusive('\n').map(str::to_owned).collect(),
        Some(Split::Words) => {
            let mut words: Vec<String> = Vec::new();
            let mut after_space = true;
            for character in text.chars() {
                let is_space = character.is_whitespace();
                match words.last_mut() {
                    Some(word) if is_space || !after_space => word.push(character),
                    _ => words.push(character.into()),
                }
                after_space = is_space;
            }
            words
        }
    }
}

/// Exactly `bytes` of the pattern, over and over; less where the last character would not fit.
fn flood(huge: Huge, pace: Pace) -> Acts {
    let Huge { bytes, pattern, piece } = huge;
    let characters: Vec<char> = pattern.chars().collect();
    let mut next = 0;
    let mut left = bytes;
    let pieces = std::iter::from_fn(move || {
        let mut text = String::with_capacity(piece);
        while let Some(character) = characters
            .get(next)
            .filter(|character| character.len_utf8() as u64 <= left)
        {
            if !text.is_empty() && text.len() + character.len_utf8() > piece {
                break;
            }
            text.push(*character);
            left -= character.len_utf8() as u64;
            next = (next + 1) % characters.len();
        }
        (!text.is_empty()).then_some(text)
    });
    paced(pieces, Voice::Text { index: 0 }, pace.delay)
}

fn tool_step(id: &str, status: &str, calls: Vec<StepCall>) -> RunStep {
    RunStep {
        id: id.to_owned(),
        kind: "toolCalls".to_owned(),
        status: status.to_owned(),
        calls,
        error: None,
        usage: None,
    }
}

fn step_call(call: &ToolCall) -> StepCall {
    StepCall {
        call_id: call.id.clone(),
        kind: "function".to_owned(),
        name: Some(call.name.clone()),
        arguments: Some(call.arguments.clone()),
        ..StepCall::default()
    }
}
