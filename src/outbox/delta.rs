//! One `assistant/delta` that waits: a place in a text, and how it is written when its turn comes.
//!
//! This is the hot path, so the message is written by hand; a test holds it against the type of the wire.

use std::rc::Rc;

use serde_json::Value;

use super::{LaneState, Piece};
use crate::protocol::PartKind;

/// What all notifications of a run begin with.
pub struct Address {
    /// The thread.
    pub thread_id: String,
    /// The run.
    pub run_id: String,
    /// The caller's token.
    pub token: Option<Value>,
    /// A delta's text up to the value of `seq`.
    head: String,
}

impl Address {
    /// The address of this run.
    pub fn new(thread_id: &str, run_id: &str, token: Option<Value>) -> Self {
        let mut head = String::from(r#"{"jsonrpc":"2.0","method":"assistant/delta","params":{"threadId":"#);
        head.push_str(&Value::from(thread_id).to_string());
        head.push_str(r#","runId":"#);
        head.push_str(&Value::from(run_id).to_string());
        if let Some(token) = &token {
            head.push_str(r#","token":"#);
            head.push_str(&token.to_string());
        }
        head.push_str(r#","seq":"#);
        Address {
            thread_id: thread_id.to_owned(),
            run_id: run_id.to_owned(),
            token,
            head,
        }
    }

    /// Its share of a message, in bytes.
    pub(super) fn len(&self) -> usize {
        self.head.len()
    }
}

/// What a delta's message has besides its address and its text, in bytes: two numbers of 20 and 10 digits, a message's
/// id of up to 64, names and punctuation.
pub const MAX_DELTA_OVERHEAD: usize = 192;

/// A delta that waits.
pub(super) struct Delta {
    pub(super) lane: Rc<LaneState>,
    message: Rc<str>,
    piece: Piece,
}

impl Delta {
    pub(super) fn new(lane: Rc<LaneState>, message: Rc<str>, piece: Piece) -> Self {
        Delta { lane, message, piece }
    }

    /// Grows by the next piece, if that continues this one and both fit one message.
    pub(super) fn take_in(&mut self, message: &Rc<str>, next: &Piece, max_message: usize) -> bool {
        let own = &mut self.piece;
        let is_neighbour = own.end == next.start
            && own.index == next.index
            && own.text.is_same(&next.text)
            && Rc::ptr_eq(&self.message, message);
        let escaped = own.escaped + next.escaped;
        if !is_neighbour || escaped + self.lane.address.len() + MAX_DELTA_OVERHEAD > max_message {
            return false;
        }
        own.end = next.end;
        own.seq = next.seq;
        own.escaped = escaped;
        true
    }

    /// Appends the message's JSON text.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let piece = &self.piece;
        to.reserve(self.lane.address.len() + MAX_DELTA_OVERHEAD + piece.escaped);
        to.extend_from_slice(self.lane.address.head.as_bytes());
        number(piece.seq, to);
        to.extend_from_slice(br#","messageId":""#);
        to.extend_from_slice(self.message.as_bytes());
        to.extend_from_slice(br#"","index":"#);
        number(piece.index.into(), to);
        to.extend_from_slice(match piece.part {
            PartKind::Text => br#","part":"text","text":"#,
            PartKind::Refusal => br#","part":"refusal","text":"#,
        });
        quoted(&piece.text.borrow()[piece.start..piece.end], piece.escaped, to);
        to.extend_from_slice(b"}}");
    }
}

/// A text within JSON quotes. One that is no longer when escaped has nothing to escape, and is copied as it is.
fn quoted(text: &str, escaped: usize, to: &mut Vec<u8>) {
    if escaped == text.len() {
        to.push(b'"');
        to.extend_from_slice(text.as_bytes());
        to.push(b'"');
    } else {
        serde_json::to_writer(to, text).expect("a string is written to memory");
    }
}

fn number(number: u64, to: &mut Vec<u8>) {
    serde_json::to_writer(to, &number).expect("a number is written to memory");
}

/// How long a text is within JSON quotes, in bytes, as serde_json writes it.
pub fn escaped_len(text: &str) -> usize {
    let extra = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0x00..=0x1f => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(extra).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Framing;
    use crate::outbox::Outbox;
    use crate::protocol::DeltaParams;
    use crate::transcript::{Entry, Transcript};

    /// Guards the one message that is written by hand: it is what the type of the wire would be.
    #[test]
    fn the_message_is_what_its_type_says() {
        for (token, part, text) in [
            (None, PartKind::Text, "plain"),
            (Some(Value::from(7)), PartKind::Refusal, "\"no\"\n\u{1}😀"),
            (Some(Value::from("t\"1")), PartKind::Text, ""),
        ] {
            let params = DeltaParams {
                thread_id: "thread_1".into(),
                run_id: "run_1".into(),
                seq: 12,
                token: token.clone(),
                message_id: "msg_1".into(),
                index: 3,
                part,
                text: text.into(),
            };
            let mut transcript = Transcript::default();
            let message_id = params.message_id.clone();
            transcript.apply(1, Entry::Message { message_id });
            let (written, start) = transcript.delta(params.seq, params.index, part, text);
            let piece = Piece {
                seq: params.seq,
                index: params.index,
                part,
                text: written,
                start,
                end: start + text.len(),
                escaped: escaped_len(text),
            };
            let outbox = Outbox::new(Framing::Lines, 4096);
            let lane = outbox.lane(Address::new(&params.thread_id, &params.run_id, token));
            let mut message = Vec::new();
            Delta::new(lane.state.clone(), params.message_id.as_str().into(), piece).write(&mut message);
            let message: Value = serde_json::from_slice(&message).unwrap();
            let expected: Value = serde_json::from_str(&crate::rpc::notify("assistant/delta", &params)).unwrap();
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn the_escaped_length_is_what_is_written() {
        for text in ["", "plain", "\"\\/\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}", "äö€😀\u{2028}"] {
            let expected = serde_json::to_string(text).unwrap();
            assert_eq!(escaped_len(text) + 2, expected.len(), "{text:?}");
            let mut written = Vec::new();
            quoted(text, escaped_len(text), &mut written);
            assert_eq!(written, expected.as_bytes(), "{text:?}");
        }
    }
}
