//! A conversation as plain data: what a run is given and what it leaves behind.
//!
//! Nothing here waits, reads the clock or knows of the wire's framing. Content parts are the wire's own vocabulary.

use serde_json::Value;

use crate::protocol::{Part, Role, RunStatus, ToolCallEntry, ToolOutput, Truncation};

/// A conversation, as a run sees it when it starts: a snapshot, oldest message first.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The messages that go upstream, the new user message last. Answers that were retried are not among them.
    pub messages: Vec<Message>,
    /// What to leave out when the model's context is full.
    pub truncation: Truncation,
}

/// What a user or an assistant said.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Our id.
    pub id: String,
    /// Who said it.
    pub role: Role,
    /// What was said, in order.
    pub content: Vec<Part>,
    /// How far the run that made it came; user messages are `completed`.
    pub status: RunStatus,
    /// What else the model did in the round that ended with this message, whose text is this message's, once more. A
    /// round without text is a message without content. None for most messages, and for all of users.
    pub round: Option<Round>,
}

/// One round of a run: one request to the upstream, ended by calls that have been answered or by the answer's end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Round {
    /// The text that the model gave before the calls.
    pub text: String,
    /// What it called.
    pub calls: Vec<ToolCall>,
    /// What came back, by call. A call that nobody answered has none; see [`Round::output`].
    pub outputs: Vec<ToolOutput>,
    /// What its provider wants back with it, word for word. Never given to another provider.
    pub carry: Option<Value>,
}

/// A tool that the model wants called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The upstream's id of the call.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as the model wrote them: JSON, if the model did well.
    pub arguments: String,
}

impl From<&ToolCall> for ToolCallEntry {
    fn from(call: &ToolCall) -> Self {
        ToolCallEntry {
            call_id: call.id.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        }
    }
}

impl From<&ToolCallEntry> for ToolCall {
    fn from(entry: &ToolCallEntry) -> Self {
        ToolCall {
            id: entry.call_id.clone(),
            name: entry.name.clone(),
            arguments: entry.arguments.clone(),
        }
    }
}

impl Round {
    /// What the model is told of this call: upstreams refuse a history with a call that has no output.
    pub fn output(&self, call: &ToolCall) -> &str {
        let output = self.outputs.iter().find(|output| output.call_id == call.id);
        output.map_or("error: the call was not answered", |output| &output.output)
    }
}

impl Message {
    /// A finished message with one text part.
    pub fn text(id: impl Into<String>, role: Role, text: impl Into<String>) -> Self {
        Message {
            id: id.into(),
            role,
            content: vec![Part::text(text)],
            status: RunStatus::Completed,
            round: None,
        }
    }

    /// All text of the message, parts joined by nothing: for an assistant's message exactly what its deltas were.
    /// Resources are put in as text, under a line with their URI.
    pub fn joined(&self) -> String {
        let mut joined = String::new();
        for part in &self.content {
            part.append_text(&mut joined);
        }
        joined
    }
}

impl Conversation {
    /// The messages as alternating turns of plain text: neighbours of one role are joined by an empty line, since
    /// many templates demand that roles alternate. Empty messages are left out.
    pub fn turns(&self) -> Vec<(Role, String)> {
        let mut turns: Vec<(Role, String)> = Vec::new();
        for message in &self.messages {
            let text = message.joined();
            if text.is_empty() {
                continue;
            }
            match turns.last_mut() {
                Some((role, joined)) if *role == message.role => {
                    joined.push_str("\n\n");
                    joined.push_str(&text);
                }
                _ => turns.push((message.role, text)),
            }
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_role_are_joined_and_empty_ones_left_out() {
        let conversation = Conversation {
            messages: vec![
                Message::text("1", Role::User, "a"),
                Message::text("2", Role::Assistant, ""),
                Message::text("3", Role::User, "b"),
                Message::text("4", Role::Assistant, "c"),
            ],
            truncation: Truncation::Auto,
        };
        assert_eq!(
            conversation.turns(),
            [(Role::User, "a\n\nb".into()), (Role::Assistant, "c".into())]
        );
    }
}
