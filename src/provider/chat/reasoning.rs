//! The model's reasoning in all spellings, and what of it has to go back with the calls that it led to.
//!
//! Pure. Reasoning is a run step of its own, so that a client sees that the model thinks without reading its thoughts.
//! Tags in the text (`<think>`) are text: only the server knows whether its model means them.

use serde_json::{Map, Value};

use super::scalar::read;
use super::wire::{Content, Delta};
use crate::ids;
use crate::protocol::RunStep;
use crate::provider::Event;

/// What the model has thought so far.
#[derive(Debug, Default)]
pub struct Reasoning {
    step_id: Option<String>,
    is_done: bool,
    /// `reasoning_content`, in full: DeepSeek refuses calls that come back without it.
    content: String,
    /// `reasoning_details`, each block in full: OpenRouter's way to pass on what only the model's maker can read.
    details: Vec<Value>,
}

impl Reasoning {
    /// The reasoning of a delta.
    pub fn accept(&mut self, delta: &mut Delta<'_>, out: &mut Vec<Event>) {
        let details: Option<Vec<Value>> = delta.reasoning_details.and_then(read);
        let content = std::mem::take(&mut delta.reasoning_content).text();
        if let Some(content) = &content {
            self.content.push_str(content);
        }
        // A server that has two spellings says the same in both.
        let text = content
            .or_else(|| std::mem::take(&mut delta.reasoning).text())
            .map(|text| text.into_owned())
            .or_else(|| details.as_deref().map(text_of_details));
        if let Some(text) = text {
            self.say(text, out);
        }
        for detail in details.into_iter().flatten() {
            self.keep(detail);
        }
    }

    /// A part of a content that is thinking: a text, or a list of texts.
    pub fn accept_part(&mut self, thinking: Content<'_>, out: &mut Vec<Event>) {
        match thinking {
            Content::Absent => {}
            Content::Text(text) => self.say(text.into_owned(), out),
            Content::Parts(parts) => {
                for part in parts {
                    self.accept_part(part.text, out);
                }
            }
        }
    }

    /// Says that the model has done thinking, once something else comes.
    pub fn end(&mut self, out: &mut Vec<Event>) {
        if let (Some(id), false) = (&self.step_id, self.is_done) {
            self.is_done = true;
            out.push(Event::Step(step(id, "completed")));
        }
    }

    /// What has to go back with the round, by the upstream's names.
    pub fn carry(&mut self) -> Map<String, Value> {
        let mut carry = Map::new();
        if !self.content.is_empty() {
            carry.insert("reasoning_content".into(), std::mem::take(&mut self.content).into());
        }
        if !self.details.is_empty() {
            carry.insert("reasoning_details".into(), std::mem::take(&mut self.details).into());
        }
        carry
    }

    fn say(&mut self, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        // Thinking that goes on behind other things is a step of its own.
        if self.step_id.is_none() || self.is_done {
            let id = ids::step();
            out.push(Event::Step(step(&id, "inProgress")));
            self.step_id = Some(id);
            self.is_done = false;
        }
        out.push(Event::Reasoning { text, summary: false });
    }

    /// Pieces of one block are joined; anything else of a block comes once.
    fn keep(&mut self, detail: Value) {
        match self.details.last_mut() {
            Some(last) if last["type"] == detail["type"] && last["index"] == detail["index"] => join(last, detail),
            _ => self.details.push(detail),
        }
    }
}

fn step(id: &str, status: &str) -> RunStep {
    RunStep {
        id: id.to_owned(),
        kind: "reasoning".into(),
        status: status.into(),
        calls: Vec::new(),
        error: None,
        usage: None,
    }
}

fn text_of_details(details: &[Value]) -> String {
    let texts = details
        .iter()
        .filter_map(|detail| detail["text"].as_str().or(detail["summary"].as_str()));
    texts.collect()
}

fn join(block: &mut Value, piece: Value) {
    let Value::Object(members) = piece else {
        return;
    };
    for (name, value) in members {
        let known = &mut block[&name];
        match (known.as_str(), value.as_str()) {
            (Some(before), Some(more)) if matches!(&*name, "text" | "summary" | "data") => {
                *known = [before, more].concat().into();
            }
            _ if value.is_null() => {}
            _ => *known = value,
        }
    }
}
