//! What of a conversation is left out when the model cannot take all of it: whole turns, the oldest first.
//!
//! Pure. A turn goes from a message of the user to the next, so calls and their outputs stay together; the newest turn
//! always stays. Upstreams say how long a context is only when it is full, and some not even then.

use super::Event;
use crate::error::{Error, Kind};
use crate::protocol::{Role, Truncation};
use crate::thread::{Conversation, Message};

/// The part of a context that the history may fill where its size is known: the answer needs some, too.
const HISTORY_SHARE: f64 = 0.75;

/// Numbers below this are no sizes of contexts.
const TOKENS_MIN: u64 = 64;

/// What a message costs beside its text, in bytes: `{"role":"assistant","content":""},`.
const FRAME: usize = 34;

/// What is left out of the requests of one round.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// How many of the oldest messages.
    messages: usize,
    /// How many of them the client has been told of.
    told: usize,
    /// The numbers of a refusal have been gone by. Those that did not help once are not believed again.
    has_believed: bool,
}

impl LeftOut {
    /// How many of the oldest messages are left out.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Leaves out more of the conversation, which was refused; false where that was for another reason, the thread is
    /// not to be cut, or nothing is left to leave out. `size` is what was sent in all, in bytes, where that was the
    /// whole conversation.
    pub fn cut(&mut self, conversation: &Conversation, refusal: &Error, size: Option<usize>) -> bool {
        if refusal.kind() != Kind::ContextOverflow || conversation.truncation != Truncation::Auto {
            return false;
        }
        let share = share(refusal).filter(|_| size.is_some() && !self.has_believed);
        self.has_believed |= share.is_some();
        let begins = cut(&conversation.messages, self.messages, size.unwrap_or_default(), share);
        self.messages = begins.unwrap_or(self.messages);
        begins.is_some()
    }

    /// What the client is to be told, once the rest has been taken.
    pub fn news(&mut self) -> Option<Event> {
        let is_news = self.messages > self.told;
        self.told = self.messages;
        is_news.then_some(Event::Truncated {
            messages: self.messages as u32,
        })
    }
}

/// Where the conversation begins after the next cut; none if only the newest turn is left. `from` is where it began,
/// `size` what was sent in all, in bytes, and `share` how much of that may stay, if it is known.
fn cut(messages: &[Message], from: usize, size: usize, share: Option<f64>) -> Option<usize> {
    let newest = messages.iter().rposition(|message| message.role == Role::User)?;
    let beginnings = (from + 1..=newest).filter(|at| messages[*at].role == Role::User);
    let sizes = |range: std::ops::Range<usize>| messages[range].iter().map(size_of).sum::<usize>();
    let excess = match share {
        Some(share) => size.saturating_sub((size as f64 * share) as usize),
        None => sizes(from..newest) / 2,
    };
    let mut last = None;
    for at in beginnings {
        last = Some(at);
        if sizes(from..at) >= excess {
            break;
        }
    }
    last
}

/// How much of the request may stay, by the numbers in the upstream's refusal: `request (1231 tokens) exceeds the
/// available context size (512 tokens)`, `maximum context length is 8192 tokens. However, your messages resulted in
/// 9000 tokens`. Whichever comes first, the smaller is the limit.
fn share(refusal: &Error) -> Option<f64> {
    let message = refusal.upstream_message().replace(',', "");
    let digits = message.split(|c: char| !c.is_ascii_digit());
    let mut numbers = digits
        .filter_map(|digits| digits.parse::<u64>().ok())
        .filter(|number| *number >= TOKENS_MIN);
    let (one, other) = (numbers.next()?, numbers.next()?);
    (one != other).then(|| one.min(other) as f64 / one.max(other) as f64 * HISTORY_SHARE)
}

/// About how long a message is upstream, in bytes.
fn size_of(message: &Message) -> usize {
    let round = message.round.as_ref().map_or(0, |round| {
        let calls = round.calls.iter();
        calls.map(|call| call.arguments.len() + round.output(call).len()).sum()
    });
    FRAME + message.joined().len() + round
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Upstream;

    /// `u1000 a500 u300`: who, and how much.
    fn messages(sizes: &str) -> Vec<Message> {
        let message = |word: &str| {
            let (who, size) = word.split_at(1);
            let role = if who == "u" { Role::User } else { Role::Assistant };
            Message::text("m", role, "x".repeat(size.parse().unwrap()))
        };
        sizes.split_whitespace().map(message).collect()
    }

    #[test]
    fn whole_turns_go_the_oldest_first_and_the_newest_stays() {
        let rows: &[(&str, usize, Option<f64>, Option<usize>)] = &[
            // About half of what is not the newest turn.
            ("u1000 a1000 u1000 a1000 u1000 a1000 u500", 0, None, Some(4)),
            ("u1000 a1000 u1000 a1000 u1000 a1000 u500", 4, None, Some(6)),
            ("u1000 a1000 u1000 a1000 u1000 a1000 u500", 6, None, None),
            // As much as the numbers say, and at least one turn.
            (
                "u1000 a1000 u1000 a1000 u1000 a1000 u1000 a1000 u2000",
                0,
                Some(0.3),
                Some(8),
            ),
            (
                "u1000 a1000 u1000 a1000 u1000 a1000 u1000 a1000 u2000",
                0,
                Some(0.8),
                Some(2),
            ),
            (
                "u1000 a1000 u1000 a1000 u1000 a1000 u1000 a1000 u2000",
                0,
                Some(0.99),
                Some(2),
            ),
            // An answer of several messages stays with its question.
            ("u1000 a100 a100 a100 u1000 a100 u100", 0, Some(0.9), Some(4)),
            ("u1000", 0, None, None),
        ];
        for (sizes, from, share, expected) in rows {
            let messages = messages(sizes);
            let size = messages.iter().map(size_of).sum();
            assert_eq!(cut(&messages, *from, size, *share), *expected, "{sizes} from {from}");
        }
    }

    #[test]
    fn the_numbers_of_a_refusal_say_how_much_may_stay() {
        let told = |message: &str| {
            let error = Error::new(Kind::ContextOverflow, "x").with_upstream(Upstream {
                message: Some(message.to_owned()),
                ..Upstream::default()
            });
            share(&error).map(|share| (share * 100.0).round() as u32)
        };
        let llama = "request (1024 tokens) exceeds the available context size (512 tokens), try increasing it";
        assert_eq!(told(llama), Some(38));
        let openai = "This model's maximum context length is 8,000 tokens. However, you requested 10,000 tokens (9000 in the messages, 1000 in the completion).";
        assert_eq!(told(openai), Some(60));
        assert_eq!(told("the input length exceeds the context length"), None);
    }
}
