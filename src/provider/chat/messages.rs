//! A conversation as Chat Completions has it: instructions, messages, and the calls of tools with their outputs.
//!
//! Pure. A call never goes without its output, which upstreams refuse. What a provider carries along with a round goes
//! back with it: DeepSeek's reasoning, OpenRouter's details of it, Google's signatures of calls.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::calls::is_whole;
use super::content::{Content, Takes, content};
use super::habits::Habits;
use crate::protocol::Role;
use crate::provider::Request;
use crate::thread::{Message, Round};

/// What a round's carry holds for its calls, by their ids; its other members are the message's own.
pub const CARRIED_CALLS: &str = "tool_calls";

/// One of `messages`.
#[derive(Debug, Serialize)]
pub struct MessageBody<'a> {
    role: &'static str,
    /// Null beside calls where the model said nothing, as the upstream itself has it.
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(flatten)]
    carry: Map<String, Value>,
}

/// All that goes upstream, from this message of the conversation on.
pub fn messages<'a>(request: &'a Request, from: usize, takes: Takes, habits: &Habits) -> Vec<MessageBody<'a>> {
    let mut list = List::default();
    if let Some(instructions) = request.instructions.as_deref().filter(|text| !text.is_empty()) {
        let role = if habits.has_no_system_role() { "user" } else { "system" };
        list.push(role, Content::Text(instructions.into()));
    }
    for message in &request.conversation.messages[from..] {
        list.push_message(message, takes);
    }
    for round in &request.rounds {
        list.push_round(round, round.text.as_str().into());
    }
    if habits.must_alternate() || habits.has_no_system_role() {
        list.join_neighbours();
    }
    list.0
}

#[derive(Default)]
struct List<'a>(Vec<MessageBody<'a>>);

impl<'a> List<'a> {
    fn push(&mut self, role: &'static str, content: Content<'a>) {
        self.0.push(MessageBody {
            role,
            content: Some(content),
            tool_calls: Vec::new(),
            tool_call_id: None,
            carry: Map::new(),
        });
    }

    fn push_message(&mut self, message: &'a Message, takes: Takes) {
        if message.role == Role::User {
            if let Some(content) = content(&message.content, takes) {
                self.push("user", content);
            }
            return;
        }
        let said = match &message.round {
            Some(round) if message.content.is_empty() => Cow::Borrowed(round.text.as_str()),
            _ => message.joined().into(),
        };
        match &message.round {
            Some(round) if !round.calls.is_empty() => self.push_round(round, said),
            _ if said.is_empty() => {}
            _ => self.push("assistant", Content::Text(said)),
        }
    }

    /// The calls of a round with their outputs. Calls directly behind the round's own text are one message with it.
    fn push_round(&mut self, round: &'a Round, said: Cow<'a, str>) {
        let carry = round.carry.as_ref().and_then(Value::as_object);
        let mut carry = carry.cloned().unwrap_or_default();
        let carried = carry.remove(CARRIED_CALLS).unwrap_or_default();
        let calls = round.calls.iter().map(|call| {
            let mut body = json!({
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": arguments(&call.arguments) },
            });
            if let Some(extra) = carried.get(&call.id) {
                body["extra_content"] = extra.clone();
            }
            body
        });
        let tool_calls = calls.collect();
        match self.0.last_mut() {
            Some(own) if own.is_text_of(&said) => {
                own.tool_calls = tool_calls;
                own.carry = carry;
            }
            _ => self.0.push(MessageBody {
                role: "assistant",
                content: (!said.is_empty()).then_some(Content::Text(said)),
                tool_calls,
                tool_call_id: None,
                carry,
            }),
        }
        for call in &round.calls {
            self.0.push(MessageBody {
                role: "tool",
                content: Some(Content::Text(round.output(call).into())),
                tool_calls: Vec::new(),
                tool_call_id: Some(&call.id),
                carry: Map::new(),
            });
        }
    }

    fn join_neighbours(&mut self) {
        let mut joined: Vec<MessageBody> = Vec::with_capacity(self.0.len());
        for message in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if last.is_plain() && message.is_plain() && last.role == message.role => {
                    if let (Some(content), Some(more)) = (&mut last.content, message.content) {
                        content.join(more);
                    }
                }
                _ => joined.push(message),
            }
        }
        self.0 = joined;
    }
}

impl MessageBody<'_> {
    fn is_plain(&self) -> bool {
        self.tool_calls.is_empty() && self.role != "tool"
    }

    /// Whether this is the assistant's message that calls with this text, or without any, go on with.
    fn is_text_of(&self, said: &str) -> bool {
        let own = match &self.content {
            Some(Content::Text(own)) => own,
            _ => return false,
        };
        self.role == "assistant" && self.tool_calls.is_empty() && (said.is_empty() || own == said)
    }
}

/// Arguments as servers take them back: whole JSON, which templates read. What the model wrote otherwise is kept as
/// the one member of an object.
fn arguments(written: &str) -> Cow<'_, str> {
    if written.trim().is_empty() {
        "{}".into()
    } else if is_whole(written) {
        written.into()
    } else {
        json!({ "arguments": written }).to_string().into()
    }
}
