//! What arrived together: journaled with one write, then shown.
//!
//! `seq` is given here. A piece of text is one record and one delta, so it is cut to what fits both: 8 KiB in the
//! journal and one message of the client.

use std::cell::Cell;
use std::rc::Rc;

use crate::outbox::{Body, Lane, Piece, escaped_len};
use crate::protocol::{EventParams, PartKind, RunEvent};
use crate::rpc;
use crate::store::{self, Journal, RECORD_TEXT_MAX};
use crate::transcript::{Entry, Transcript};

/// What waits to be journaled and shown.
pub(super) struct Batch {
    journal: Journal,
    run_id: String,
    records: store::Batch,
    /// In the order in which it is shown.
    shown: Vec<Shown>,
    /// Text of one part that arrived together and has no record yet.
    text: String,
    place: Option<Place>,
    /// The most text in one piece, in bytes, also within JSON quotes.
    max_piece: usize,
    seq: Rc<Cell<u64>>,
    is_kept: bool,
}

struct Place {
    message: Rc<str>,
    index: u32,
    part: PartKind,
}

enum Shown {
    Piece(Rc<str>, Piece),
    Event(u64, RunEvent),
}

impl Shown {
    fn seq(&self) -> u64 {
        match self {
            Shown::Piece(_, piece) => piece.seq,
            Shown::Event(seq, _) => *seq,
        }
    }

    fn move_on(&mut self) {
        match self {
            Shown::Piece(_, piece) => piece.seq += 1,
            Shown::Event(seq, _) => *seq += 1,
        }
    }
}

impl Batch {
    pub(super) fn new(journal: Journal, lane: &Lane, seq: Rc<Cell<u64>>) -> Self {
        Batch {
            run_id: lane.address().run_id.clone(),
            journal,
            records: store::Batch::default(),
            shown: Vec::new(),
            text: String::new(),
            place: None,
            max_piece: RECORD_TEXT_MAX.min(lane.max_piece()),
            seq,
            is_kept: true,
        }
    }

    /// How much waits, in bytes; each event counts as a little text.
    pub(super) fn pending(&self) -> usize {
        self.text.len() + self.records.len() + 64 * self.shown.len()
    }

    /// Adds a piece of text of the message under way.
    pub(super) fn delta(
        &mut self,
        message: &Rc<str>,
        index: u32,
        part: PartKind,
        text: &str,
        transcript: &mut Transcript,
    ) {
        let is_neighbour = self
            .place
            .as_ref()
            .is_some_and(|place| place.index == index && place.part == part && Rc::ptr_eq(&place.message, message));
        if !is_neighbour {
            self.settle(transcript);
            self.place = Some(Place {
                message: message.clone(),
                index,
                part,
            });
        }
        self.text.push_str(text);
    }

    /// Adds an entry, behind the text that waits.
    pub(super) fn entry(&mut self, entry: Entry, transcript: &mut Transcript) {
        self.settle(transcript);
        let seq = self.next_seq();
        self.records.entry(&self.run_id, seq, &entry);
        transcript.apply(seq, entry);
    }

    /// Adds an event to be shown, behind the text that waits.
    pub(super) fn event(&mut self, event: RunEvent, transcript: &mut Transcript) {
        self.settle(transcript);
        let seq = self.next_seq();
        self.shown.push(Shown::Event(seq, event));
    }

    /// Journals all that waits, then shows it.
    pub(super) fn flush(&mut self, lane: &Lane, transcript: &mut Transcript) {
        self.settle(transcript);
        self.keep(lane);
        for shown in self.shown.drain(..) {
            match shown {
                Shown::Piece(message, piece) => lane.delta(&message, piece),
                Shown::Event(seq, event) => show(lane, seq, event),
            }
        }
    }

    /// Gives records and places to the text that waits.
    pub(super) fn settle(&mut self, transcript: &mut Transcript) {
        let Some(place) = self.place.take() else {
            return;
        };
        let mut rest = self.text.as_str();
        while !rest.is_empty() {
            let (length, escaped) = piece_len(rest, self.max_piece);
            let piece = &rest[..length];
            rest = &rest[length..];
            let seq = self.seq.get() + 1;
            self.seq.set(seq);
            self.records.delta(&self.run_id, seq, place.index, place.part, piece);
            let (text, start) = transcript.delta(seq, place.index, place.part, piece);
            let end = start + length;
            let piece = Piece {
                seq,
                index: place.index,
                part: place.part,
                text,
                start,
                end,
                escaped,
            };
            self.shown.push(Shown::Piece(place.message.clone(), piece));
        }
        self.text.clear();
    }

    fn next_seq(&self) -> u64 {
        self.seq.set(self.seq.get() + 1);
        self.seq.get()
    }

    /// Writes the records. If that fails the run goes on, and its client is told first that the promise is off.
    fn keep(&mut self, lane: &Lane) {
        if self.is_kept
            && !self.records.is_empty()
            && let Err(error) = self.journal.append(&self.records)
        {
            self.is_kept = false;
            tracing::error!(%error, "the journal cannot be written");
            // Said first, so it takes the number of what was to come first.
            let last = self.next_seq();
            let first = self.shown.first().map_or(last, Shown::seq);
            self.shown.iter_mut().for_each(Shown::move_on);
            let message = format!("the journal cannot be written: {error}");
            show(lane, first, RunEvent::Storage { kept: false, message });
        }
        self.records.clear();
    }
}

fn show(lane: &Lane, seq: u64, event: RunEvent) {
    let address = lane.address();
    let params = EventParams {
        thread_id: address.thread_id.clone(),
        run_id: address.run_id.clone(),
        seq,
        token: address.token.clone(),
        event,
    };
    let mut text = rpc::notify("assistant/event", &params);
    if text.len() > lane.max_message() {
        let params = EventParams {
            event: shortened(params.event),
            ..params
        };
        text = rpc::notify("assistant/event", &params);
        if text.len() > lane.max_message() {
            tracing::warn!(
                run = address.run_id,
                "an event is larger than the client's maxMessageBytes and is left out"
            );
            return;
        }
    }
    lane.notify(Body::Ready(text));
}

/// An event without what may be large: the client reads that with `message/read` or `run/get`.
fn shortened(event: RunEvent) -> RunEvent {
    match event {
        RunEvent::Message { message_id, status, .. } => RunEvent::Message {
            message_id,
            status,
            content: None,
        },
        RunEvent::Upstream { name, .. } => RunEvent::Upstream {
            name,
            data: serde_json::Value::Null,
        },
        RunEvent::Step { mut step } => {
            for call in &mut step.calls {
                call.arguments = None;
                call.output = None;
                call.outputs.clear();
            }
            RunEvent::Step { step }
        }
        other => other,
    }
}

/// How much of the text fits a piece, in whole characters, and how long that is within JSON quotes.
fn piece_len(text: &str, max: usize) -> (usize, usize) {
    // Most text has few escapes, and is as long as it looks.
    let length = text.floor_char_boundary(max);
    let escaped = escaped_len(&text[..length]);
    if length > 0 && escaped <= max {
        return (length, escaped);
    }
    let mut escaped = 0;
    for (position, character) in text.char_indices() {
        let next = escaped + escaped_len(character.encode_utf8(&mut [0; 4]));
        if next > max && position > 0 {
            return (position, escaped);
        }
        escaped = next;
    }
    (text.len(), escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_between_characters_and_fits_when_escaped() {
        let text = "a\u{1}€\"".repeat(100);
        for max in 6..200 {
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (length, escaped) = piece_len(rest, max);
                assert!(length > 0 && escaped <= max, "{max}: {length} {escaped}");
                assert_eq!(escaped, escaped_len(&rest[..length]));
                rest = &rest[length..];
            }
        }
    }
}
