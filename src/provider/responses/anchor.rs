//! What is kept with our thread: where its history is upstream, which response is under way, which files went up.
//!
//! Pure. Where our history is no continuation of the upstream's (an answer was taken out to be tried again, the thread
//! was forked), the whole history is sent, and a new chain begins.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::Uploaded;
use crate::protocol::Role;
use crate::provider::Round;
use crate::thread::Message;

/// As it is kept: under the dialect's name, so that no other takes it for its own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    responses: Anchor,
}

/// What is kept with our thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Anchor {
    /// The response that the next one follows, where the upstream keeps the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// The background response that is being made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_way: Option<String>,
    /// The files that went up.
    #[serde(skip_serializing_if = "Uploaded::is_empty")]
    pub files: Uploaded,
}

/// A response that the upstream keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// The upstream's id.
    pub id: String,
    /// Our id of the last message that was sent with it or before. What it made of that the upstream has by itself.
    pub synced: String,
    /// How many rounds of that message's run were sent with it.
    pub rounds: usize,
    /// Whether it ended in calls: it can only be followed by their outputs.
    pub waits: bool,
}

/// What a request must bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The whole history.
    Whole,
    /// What is new behind this response: our messages from this one on.
    Messages {
        /// The response.
        previous: String,
        /// The first message that the upstream does not have.
        from: usize,
    },
    /// The outputs of the last round, whose calls this response made.
    Outputs {
        /// The response.
        previous: String,
    },
}

impl Anchor {
    /// An anchor of ours; empty if another dialect left it.
    pub fn read(value: Option<&Value>) -> Anchor {
        let kept = value.and_then(|value| Kept::deserialize(value).ok());
        kept.map(|kept| kept.responses).unwrap_or_default()
    }

    /// As it is kept.
    pub fn to_value(&self) -> Value {
        let kept = Kept {
            responses: self.clone(),
        };
        serde_json::to_value(kept).expect("strings and numbers are always JSON")
    }

    /// How a turn goes on from here.
    pub fn opening(&self, messages: &[Message], rounds: &[Round]) -> Opening {
        self.next(messages, rounds).unwrap_or(Opening::Whole)
    }

    fn next(&self, messages: &[Message], rounds: &[Round]) -> Option<Opening> {
        let Previous {
            id,
            synced,
            rounds: sent,
            waits,
        } = self.previous.as_ref()?;
        let previous = id.clone();
        if !rounds.is_empty() {
            let is_this_turns = messages.last().is_some_and(|newest| newest.id == *synced);
            return (is_this_turns && *waits && rounds.len() == sent + 1).then_some(Opening::Outputs { previous });
        }
        let behind = 1 + messages.iter().rposition(|message| message.id == *synced)?;
        // The answers that follow directly are those of that message's run: the upstream has what it made of them.
        let answers = messages[behind..]
            .iter()
            .take_while(|message| message.role == Role::Assistant);
        let from = behind + answers.count();
        (from < messages.len() && !waits).then_some(Opening::Messages { previous, from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `u1 a1`: messages of the user and the assistant, by their ids.
    fn messages(ids: &str) -> Vec<Message> {
        let role = |id: &str| {
            if id.starts_with('u') {
                Role::User
            } else {
                Role::Assistant
            }
        };
        ids.split_whitespace()
            .map(|id| Message::text(id, role(id), "x"))
            .collect()
    }

    fn anchor(synced: &str, rounds: usize, waits: bool) -> Anchor {
        Anchor {
            previous: Some(Previous {
                id: "resp_1".into(),
                synced: synced.into(),
                rounds,
                waits,
            }),
            ..Anchor::default()
        }
    }

    fn from(anchor: Anchor, ids: &str) -> Option<usize> {
        match anchor.opening(&messages(ids), &[]) {
            Opening::Messages { from, .. } => Some(from),
            Opening::Outputs { .. } => panic!("no outputs"),
            Opening::Whole => None,
        }
    }

    #[test]
    fn only_what_the_upstream_lacks_is_sent() {
        assert_eq!(from(anchor("u1", 0, false), "u1 a1 u2"), Some(2));
        assert_eq!(from(anchor("u1", 0, false), "u1 u2"), Some(1));
        assert_eq!(from(anchor("u1", 2, false), "u1 a1 a2 u2 a3 u3"), Some(3), "u2 failed");
    }

    #[test]
    fn another_history_is_sent_whole() {
        assert_eq!(from(anchor("u1", 0, false), "u1"), None, "the answer is tried again");
        assert_eq!(from(anchor("u9", 0, false), "u1 a1 u2"), None, "a fork");
        assert_eq!(
            from(anchor("u1", 0, true), "u1 a1 u2"),
            None,
            "calls that nobody answered"
        );
        assert_eq!(from(Anchor::default(), "u1"), None);
    }

    #[test]
    fn outputs_follow_the_response_that_asked_for_them() {
        let rounds = [Round::default(), Round::default()];
        let outputs = Opening::Outputs {
            previous: "resp_1".into(),
        };
        assert_eq!(anchor("u1", 1, true).opening(&messages("u1"), &rounds), outputs);
        assert_eq!(anchor("u1", 0, true).opening(&messages("u1"), &rounds), Opening::Whole);
        assert_eq!(anchor("u0", 1, true).opening(&messages("u1"), &rounds), Opening::Whole);
    }

    #[test]
    fn an_anchor_of_another_dialect_is_none_of_ours() {
        let other = serde_json::json!({ "threadId": "thread_1", "runId": "run_1", "synced": "u1" });
        assert_eq!(Anchor::read(Some(&other)), Anchor::default());
        let kept = anchor("u1", 0, false).to_value();
        assert_eq!(Anchor::read(Some(&kept)), anchor("u1", 0, false));
    }
}
