//! Our messages and rounds as input items.
//!
//! Pure. A round that was carried goes back as the upstream gave it, with the text and the pictures put in again.

use serde_json::{Map, Value, json};

use super::carry;
use super::files::Files;
use crate::protocol::{File, Image, Part, Role};
use crate::provider::{Round, ToolCall};
use crate::thread::Message;

/// What the items are made of.
pub struct Input<'a> {
    files: &'a Files,
    /// Whether what was carried goes along: an upstream that cannot read it any more gets the rest.
    with_carried: bool,
    items: Vec<Value>,
}

impl<'a> Input<'a> {
    /// Nothing yet.
    pub fn new(files: &'a Files, with_carried: bool) -> Self {
        Input {
            files,
            with_carried,
            items: Vec::new(),
        }
    }

    /// These messages, with the rounds that ended in them.
    pub fn messages(&mut self, messages: &[Message]) {
        for message in messages {
            match message.role {
                Role::User => self.user(message),
                Role::Assistant => self.assistant(message),
            }
        }
    }

    /// Rounds of this run, with their outputs.
    pub fn rounds(&mut self, rounds: &[Round]) {
        for round in rounds {
            self.round(round, &round.text, &[]);
        }
    }

    /// The outputs of a round whose calls the upstream has.
    pub fn outputs(&mut self, round: &Round) {
        let carried = carry::items(round.carry.as_ref()).map_or(&[][..], Vec::as_slice);
        for call in &round.calls {
            let made = carried.iter().find(|item| item["call_id"] == *call.id);
            self.items.push(output(round, call, made));
        }
    }

    /// All items. What stands before a compaction is in it.
    pub fn into_items(mut self) -> Vec<Value> {
        let last = self.items.iter().rposition(|item| item["type"] == "compaction");
        self.items.drain(..last.unwrap_or_default());
        self.items
    }

    fn user(&mut self, message: &Message) {
        let parts = (0..).zip(&message.content);
        let parts = parts.filter_map(|(index, part)| match part {
            Part::Image(image) => image_part(image),
            Part::File(_) => self.files.part(&message.id, index, part),
            Part::Text { .. } | Part::Refusal { .. } | Part::Resource { .. } => {
                let mut text = String::new();
                part.append_text(&mut text);
                (!text.is_empty()).then(|| json!({ "type": "input_text", "text": text }))
            }
        });
        let mut parts: Vec<Value> = parts.collect();
        let content = match &mut parts[..] {
            [] => return,
            [only] if only["type"] == "input_text" => only["text"].take(),
            _ => Value::Array(parts),
        };
        self.items
            .push(json!({ "type": "message", "role": "user", "content": content }));
    }

    fn assistant(&mut self, message: &Message) {
        let text = message.joined();
        match &message.round {
            Some(round) => {
                let images = message.content.iter().filter_map(|part| match part {
                    Part::Image(image) => image.data.as_deref(),
                    _ => None,
                });
                self.round(round, &text, &images.collect::<Vec<_>>());
            }
            None => self.say(&text, &Value::Null),
        }
    }

    fn round(&mut self, round: &Round, text: &str, images: &[&str]) {
        match carry::items(round.carry.as_ref()).filter(|_| self.with_carried) {
            Some(carried) => {
                self.carried(carried, text, images);
                self.outputs(round);
            }
            None => {
                self.say(text, &Value::Null);
                self.items.extend(round.calls.iter().map(|call| {
                    json!({ "type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments })
                }));
                self.items
                    .extend(round.calls.iter().map(|call| output(round, call, None)));
            }
        }
    }

    /// Items that were carried. Of several messages in one round the earlier ones are messages of their own in our
    /// history, so the text is that of the last.
    fn carried(&mut self, carried: &[Value], text: &str, images: &[&str]) {
        let last = carried.iter().rposition(|item| item["type"] == "message");
        let mut images = images.iter();
        for (index, item) in carried.iter().enumerate() {
            match item["type"].as_str() {
                Some("message") if Some(index) == last => self.say(text, &item["phase"]),
                Some("message") => {}
                Some("image_generation_call") => {
                    let image = images.next().map(|data| {
                        json!({ "type": "image_generation_call", "id": item["id"], "status": "completed", "result": data })
                    });
                    self.items.extend(image);
                }
                _ => self.items.push(item.clone()),
            }
        }
        if last.is_none() {
            self.say(text, &Value::Null);
        }
    }

    fn say(&mut self, text: &str, phase: &Value) {
        if text.is_empty() {
            return;
        }
        let mut item = json!({ "type": "message", "role": "assistant", "content": text });
        if phase.is_string() {
            item["phase"] = phase.clone();
        }
        self.items.push(item);
    }
}

/// What came of a call; `made` is the upstream's item that made it, if that is known.
fn output(round: &Round, call: &ToolCall, made: Option<&Value>) -> Value {
    let is_custom = made.is_some_and(|item| item["type"] == "custom_tool_call");
    let kind = if is_custom {
        "custom_tool_call_output"
    } else {
        "function_call_output"
    };
    let mut output = json!({ "type": kind, "call_id": call.id, "output": round.output(call) });
    // A call that a program of the model's made is answered to that program.
    if let Some(caller) = made
        .and_then(|item| item.get("caller"))
        .filter(|caller| caller.is_object())
    {
        output["caller"] = caller.clone();
    }
    output
}

fn image_part(image: &Image) -> Option<Value> {
    let mut part = Map::new();
    part.insert("type".into(), json!("input_image"));
    part.insert("detail".into(), json!(image.detail.as_deref().unwrap_or("auto")));
    match (image.url.clone().or_else(|| image.data_url()), &image.file_id) {
        (Some(url), _) => part.insert("image_url".into(), json!(url)),
        (None, Some(file_id)) => part.insert("file_id".into(), json!(file_id)),
        (None, None) => return None,
    };
    Some(Value::Object(part))
}

/// A file's name, for the model.
pub fn name_of(file: &File) -> &str {
    file.name.as_deref().unwrap_or("file")
}
