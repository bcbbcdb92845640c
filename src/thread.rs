//! A conversation as plain data: what a run is given and what it leaves behind.
//!
//! Nothing here waits, reads the clock or knows of the wire's framing. Content parts are the wire's own vocabulary.

use crate::protocol::{Part, Role, RunStatus, Truncation};

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
}

impl Message {
    /// A finished message with one text part.
    pub fn text(id: impl Into<String>, role: Role, text: impl Into<String>) -> Self {
        Message {
            id: id.into(),
            role,
            content: vec![Part::text(text)],
            status: RunStatus::Completed,
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
