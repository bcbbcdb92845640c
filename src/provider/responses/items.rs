//! The items of a response's output: which one an event belongs to, and what has come of each.
//!
//! An event's item is the one of its id; else the one at its place in the output, since some servers give every event
//! of an item another id; else the newest of its kind, since others leave both out.

use serde_json::Value;

use super::calls::{Call, is_clients};
use super::messages::Message;
use super::reasoning::Reasoning;
use super::wire::{self, Place};
use crate::protocol::{Image, PartKind};
use crate::provider::{Event, ToolCall};

/// The items as known by now.
#[derive(Debug, Default)]
pub struct Items {
    known: Vec<Item>,
    /// The message that the last text belonged to.
    current: Option<usize>,
}

#[derive(Debug)]
struct Item {
    id: String,
    output_index: Option<u64>,
    /// `type`, as the upstream has it.
    kind: String,
    /// Whether a message has been begun for it.
    is_shown: bool,
    is_done: bool,
    content: Content,
    /// As the upstream gave it last, if it was whole.
    whole: Option<Value>,
}

#[derive(Debug)]
enum Content {
    Message(Message),
    Reasoning(Box<(Reasoning, Call)>),
    Call(Box<Call>),
}

impl Items {
    /// A piece of a message's text: the hot path.
    pub fn text(&mut self, place: Place, kind: PartKind, piece: &str, out: &mut Vec<Event>) {
        let item = self.find("message", place);
        if self.known[item].is_done {
            return;
        }
        self.turn_to(item, out);
        if let Content::Message(message) = &mut self.known[item].content {
            message.piece(place.part, kind, piece, out);
        }
    }

    /// Something else of a message: what is to be done with it.
    pub fn message(&mut self, place: Place, out: &mut Vec<Event>, act: impl FnOnce(&mut Message, &mut Vec<Event>)) {
        let item = self.find("message", place);
        let mut shown = Vec::new();
        match &mut self.known[item] {
            Item {
                content: Content::Message(message),
                is_done: false,
                ..
            } => act(message, &mut shown),
            _ => return,
        }
        // A message begins with the first that is shown of it.
        self.show_message(item, shown, false, out);
    }

    /// Something of an item's reasoning.
    pub fn reasoning(&mut self, place: Place, out: &mut Vec<Event>, act: impl FnOnce(&mut Reasoning, &mut Vec<Event>)) {
        let item = self.find("reasoning", place);
        if let Content::Reasoning(content) = &mut self.known[item].content {
            act(&mut content.0, out);
        }
    }

    /// Something of an item of this kind, which is neither of those.
    pub fn call(
        &mut self,
        kind: &str,
        place: Place,
        out: &mut Vec<Event>,
        act: impl FnOnce(&mut Call, &mut Vec<Event>),
    ) {
        let item = self.find(kind, place);
        if self.known[item].is_done {
            return;
        }
        if let Content::Call(call) = &mut self.known[item].content {
            act(call, out);
        }
    }

    /// `response.output_item.added`
    pub fn added(&mut self, place: Place, item: &Value, out: &mut Vec<Event>) {
        let kind = item["type"].as_str().unwrap_or_default();
        let is_known = |known: &Item| {
            known.kind == kind && !known.is_done && !place.item_id.is_empty() && known.id == place.item_id
        };
        // Pieces may have come before it: they have made the item.
        let known = self.known.iter().rposition(is_known);
        let at = known.unwrap_or_else(|| self.push(kind, place));
        match &mut self.known[at].content {
            Content::Message(_) => {}
            Content::Reasoning(content) => content.1.accept(kind, item, false, out),
            Content::Call(call) => call.accept(kind, item, false, out),
        }
    }

    /// `response.output_item.done`
    pub fn done(&mut self, place: Place, item: Value, out: &mut Vec<Event>) {
        let kind = item["type"].as_str().unwrap_or_default().to_owned();
        let at = self.find(&kind, place);
        self.settle(at, item, out);
    }

    /// The whole output: gives what no event has told. `is_over` if nothing more comes of it.
    pub fn output(&mut self, output: Vec<Value>, is_over: bool, out: &mut Vec<Event>) {
        let mut seen: Vec<String> = Vec::new();
        for (index, item) in (0..).zip(output) {
            let kind = item["type"].as_str().unwrap_or_default().to_owned();
            let id = item["id"].as_str().unwrap_or_default();
            let nth = seen.iter().filter(|seen| **seen == kind).count();
            let by_id = |known: &Item| !id.is_empty() && known.id == id;
            let same_kind = || (0..self.known.len()).filter(|&at| self.known[at].kind == kind);
            let at = self.known.iter().position(by_id).or_else(|| same_kind().nth(nth));
            let at = at.unwrap_or_else(|| {
                let place = Place {
                    item_id: id,
                    output_index: Some(index),
                    part: None,
                };
                self.push(&kind, place)
            });
            seen.push(kind);
            if is_over || item["status"] == "completed" {
                self.settle(at, item, out);
            } else {
                self.update(at, &item, false, out);
            }
        }
    }

    /// Nothing more comes: gives what was held back. A message that has not ended by itself is not whole.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        for item in &mut self.known {
            if let (Content::Message(message), false) = (&mut item.content, item.is_done) {
                message.finish(out);
            }
        }
    }

    /// The calls that the client is to answer.
    pub fn wanted(&self) -> Vec<ToolCall> {
        let answered = |id: &str| {
            let outputs = self.known.iter().filter(|item| item.kind.ends_with("_output"));
            let mut outputs = outputs.filter_map(|item| item.whole.as_ref());
            outputs.any(|output| output["call_id"] == id)
        };
        let calls = self.known.iter().filter(|item| is_clients(&item.kind));
        let calls = calls.filter_map(|item| match &item.content {
            Content::Call(call) => call.wanted(&item.kind),
            _ => None,
        });
        calls.filter(|call| !answered(&call.id)).collect()
    }

    /// Whether the answer is nothing but a refusal.
    pub fn is_refusal(&self) -> bool {
        let has = |kind| {
            let mut items = self.known.iter();
            items.any(|item| matches!(&item.content, Content::Message(message) if message.has(kind)))
        };
        has(PartKind::Refusal) && !has(PartKind::Text)
    }

    /// The items as the upstream gave them, in its order.
    pub fn whole(&self) -> impl Iterator<Item = &Value> {
        self.known.iter().filter_map(|item| item.whole.as_ref())
    }

    /// The item of this kind that an event belongs to, made if there is none.
    fn find(&mut self, kind: &str, place: Place) -> usize {
        let of_kind = |item: &Item| item.kind == kind;
        let by_id = |item: &Item| of_kind(item) && !place.item_id.is_empty() && item.id == place.item_id;
        let by_index =
            |item: &Item| of_kind(item) && place.output_index.is_some() && item.output_index == place.output_index;
        let newest = |item: &Item| of_kind(item) && place.output_index.is_none() && !item.is_done;
        let known = &self.known;
        let found = known
            .iter()
            .rposition(by_id)
            .or_else(|| known.iter().rposition(by_index))
            .or_else(|| known.iter().rposition(newest));
        found.unwrap_or_else(|| self.push(kind, place))
    }

    fn push(&mut self, kind: &str, place: Place) -> usize {
        let id = match place.item_id {
            "" => format!("item_{}", self.known.len() + 1),
            id => id.to_owned(),
        };
        let call = Call::new(kind, &id);
        self.known.push(Item {
            output_index: place.output_index,
            kind: kind.to_owned(),
            is_shown: false,
            is_done: false,
            content: match kind {
                "message" => Content::Message(Message::default()),
                "reasoning" => Content::Reasoning(Box::new((Reasoning::default(), call))),
                _ => Content::Call(Box::new(call)),
            },
            whole: None,
            id,
        });
        self.known.len() - 1
    }

    /// Makes this message the current one.
    fn turn_to(&mut self, at: usize, out: &mut Vec<Event>) {
        if self.current == Some(at) {
            return;
        }
        if self.current.replace(at).is_some() {
            out.push(Event::MessageDone);
        }
        let item = &mut self.known[at];
        item.is_shown = true;
        out.push(Event::MessageStarted {
            upstream_id: Some(item.id.clone()),
        });
    }

    /// A whole item: gives what is missing of it, and ends it, once.
    fn settle(&mut self, at: usize, item: Value, out: &mut Vec<Event>) {
        if !self.known[at].is_done {
            self.update(at, &item, true, out);
            self.known[at].is_done = true;
        }
        self.known[at].whole = Some(item);
    }

    /// Gives what is missing of an item.
    fn update(&mut self, at: usize, item: &Value, is_done: bool, out: &mut Vec<Event>) {
        let known = &mut self.known[at];
        if known.is_done {
            return;
        }
        match &mut known.content {
            Content::Message(message) => {
                let mut shown = Vec::new();
                for (index, part) in (0..).zip(parts(&item["content"])) {
                    message.whole_part(Some(index), part, &mut shown);
                }
                if is_done {
                    message.finish(&mut shown);
                }
                self.show_message(at, shown, is_done, out);
            }
            Content::Reasoning(content) => {
                content.0.whole_parts(true, parts(&item["summary"]), out);
                content.0.whole_parts(false, parts(&item["content"]), out);
                content.1.accept(&known.kind, item, is_done, out);
            }
            Content::Call(call) => {
                call.accept(&known.kind, item, is_done, out);
                if let (true, Some(image)) = (is_done, image(&known.kind, item)) {
                    self.show_message(at, vec![Event::Image { index: 0, image }], true, out);
                }
            }
        }
    }

    /// What is new of a message, which ends then if it is done. One that another came after has ended by that. A
    /// picture is a message of its own: no message of the upstream's holds it.
    fn show_message(&mut self, at: usize, mut shown: Vec<Event>, is_done: bool, out: &mut Vec<Event>) {
        if !shown.is_empty() || is_done && !self.known[at].is_shown {
            self.turn_to(at, out);
            out.append(&mut shown);
        }
        if is_done && self.current.take_if(|current| *current == at).is_some() {
            out.push(Event::MessageDone);
        }
    }
}

fn parts(list: &Value) -> Vec<wire::Part> {
    let parts = list.as_array().into_iter().flatten();
    parts
        .map(|part| serde_json::from_value(part.clone()).unwrap_or_default())
        .collect()
}

/// The picture that an item has made.
fn image(kind: &str, item: &Value) -> Option<Image> {
    if kind != "image_generation_call" {
        return None;
    }
    let data = item["result"].as_str().filter(|data| !data.is_empty())?;
    Some(Image {
        data: Some(data.to_owned()),
        mime_type: Some(format!("image/{}", item["output_format"].as_str().unwrap_or("png"))),
        ..Image::default()
    })
}
