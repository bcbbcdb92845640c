//! What the upstream's thread has of ours, and so what a turn must send.
//!
//! Pure. Where our history is no continuation of the upstream's (an answer was taken out to be tried again, the thread
//! was forked), the upstream gets a new thread with the whole history.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::Role;
use crate::provider::Round;
use crate::thread::Message;

/// What is kept with our thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    /// The upstream's thread.
    pub thread_id: String,
    /// The last run there that was ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Our id of the last message that was sent there. What the run made of it the upstream has by itself.
    pub synced: String,
}

/// The request that opens a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A new thread with the whole history, and a run of it.
    NewThread,
    /// A run of the anchor's thread, with our messages from this one on.
    NextRun {
        /// Where.
        anchor: Anchor,
        /// The first message that the upstream does not have.
        from: usize,
    },
    /// The outputs of the tools that the anchor's run waits for.
    Outputs {
        /// Where.
        thread_id: String,
        /// Which run.
        run_id: String,
    },
}

impl Anchor {
    /// An anchor of ours; none if another dialect left it.
    pub fn read(value: Option<&Value>) -> Option<Anchor> {
        Anchor::deserialize(value?).ok()
    }

    /// As it is kept.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("strings are always JSON")
    }
}

impl Opening {
    /// Those of these messages that go upstream with this turn.
    pub fn messages<'a>(&self, all: &'a [Message]) -> &'a [Message] {
        match self {
            Opening::NewThread => all,
            Opening::NextRun { from, .. } => &all[*from..],
            Opening::Outputs { .. } => &[],
        }
    }

    /// How this turn begins. Outputs go only to the run that this very turn has begun.
    pub fn choose(anchor: Option<Anchor>, messages: &[Message], rounds: &[Round]) -> Opening {
        let Some(anchor) = anchor else {
            return Opening::NewThread;
        };
        let is_this_turns = messages.last().is_some_and(|newest| newest.id == anchor.synced);
        if let (false, true, Some(run_id)) = (rounds.is_empty(), is_this_turns, &anchor.run_id) {
            return Opening::Outputs {
                thread_id: anchor.thread_id,
                run_id: run_id.clone(),
            };
        }
        match first_unsent(&anchor, messages) {
            Some(from) => Opening::NextRun { anchor, from },
            None => Opening::NewThread,
        }
    }
}

/// The first message that the upstream's thread does not have; none if there is nothing to add to it, or if it is not
/// our history that it holds.
fn first_unsent(anchor: &Anchor, messages: &[Message]) -> Option<usize> {
    let synced = messages.iter().rposition(|message| message.id == anchor.synced)?;
    let behind = synced + 1;
    let answers = messages[behind..]
        .iter()
        .take_while(|message| message.role == Role::Assistant);
    // The answers that follow directly are those of the anchor's run, also where they were cut: the upstream keeps
    // what it made.
    let from = behind + if anchor.run_id.is_some() { answers.count() } else { 0 };
    (from < messages.len()).then_some(from)
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

    fn anchor(synced: &str) -> Anchor {
        Anchor {
            thread_id: "thread_1".into(),
            run_id: Some("run_1".into()),
            synced: synced.into(),
        }
    }

    fn from(anchor: Anchor, ids: &str) -> Option<usize> {
        match Opening::choose(Some(anchor), &messages(ids), &[]) {
            Opening::NextRun { from, .. } => Some(from),
            _ => None,
        }
    }

    #[test]
    fn only_what_the_upstream_lacks_is_sent() {
        assert_eq!(from(anchor("u1"), "u1 a1 u2"), Some(2));
        assert_eq!(from(anchor("u1"), "u1 u2"), Some(1), "the answer was empty");
        assert_eq!(
            from(anchor("u2"), "u1 a1 u2 a2 a3 u3"),
            Some(5),
            "a run with tools makes several messages"
        );
        assert_eq!(
            from(anchor("u1"), "u1 a1 u2 a2 u3"),
            Some(2),
            "another provider answered in between"
        );
    }

    #[test]
    fn without_a_run_the_answer_is_somebody_elses() {
        let anchor = Anchor {
            run_id: None,
            ..anchor("u1")
        };
        assert_eq!(from(anchor, "u1 a1 u2"), Some(1));
    }

    #[test]
    fn another_history_goes_to_a_new_thread() {
        assert_eq!(from(anchor("u1"), "u1"), None, "the answer is tried again");
        assert_eq!(from(anchor("u2"), "u1 a1 u2"), None, "a later one is tried again");
        assert_eq!(from(anchor("u9"), "u1 a1 u2"), None, "a fork");
        assert_eq!(Opening::choose(None, &messages("u1"), &[]), Opening::NewThread);
    }

    #[test]
    fn an_anchor_of_another_dialect_is_none_of_ours() {
        assert_eq!(Anchor::read(Some(&serde_json::json!({ "responseId": "resp_1" }))), None);
        let kept = anchor("u1").to_value();
        assert_eq!(Anchor::read(Some(&kept)), Some(anchor("u1")));
    }
}
