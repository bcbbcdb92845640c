//! The records of a journal, as bytes: what a run said, in order.
//!
//! A record is: the length of its body (4 bytes), the CRC-32 of its body (4), then the body: `seq` (8), the tag (1),
//! the length of the run's id (1), the run's id, and what the tag says. Numbers are little-endian. Nothing here reads
//! or writes files. A record that is torn or damaged ends the journal: nothing behind it is trusted.

use crate::protocol::PartKind;
use crate::transcript::Entry;

/// The most text that one record should hold, in bytes: a longer delta is cut by whoever gives it its `seq`.
pub const RECORD_TEXT_MAX: usize = 8 * 1024;

const TAG_ENTRY: u8 = 0;
const TAG_TEXT: u8 = 1;
const TAG_REFUSAL: u8 = 2;

/// The length and the checksum.
const FRAME: usize = 8;
/// `seq`, the tag and the length of the run's id: no body is shorter. (Zeros, which a power cut can leave behind,
/// would else be records without a body.)
const BODY_MIN: usize = 10;

/// Records that are written together. It is filled, appended, cleared and filled again, so that it allocates once.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// Adds a piece of text. `text` is at most [`RECORD_TEXT_MAX`] bytes.
    pub fn delta(&mut self, run_id: &str, seq: u64, index: u32, kind: PartKind, text: &str) {
        debug_assert!(text.len() <= RECORD_TEXT_MAX, "a delta is cut before it gets its seq");
        let tag = match kind {
            PartKind::Text => TAG_TEXT,
            PartKind::Refusal => TAG_REFUSAL,
        };
        self.record(run_id, seq, tag, |bytes| {
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        });
    }

    /// Adds anything else.
    pub fn entry(&mut self, run_id: &str, seq: u64, entry: &Entry) {
        self.record(run_id, seq, TAG_ENTRY, |bytes| {
            serde_json::to_writer(bytes, entry).expect("an entry is plain data, and a vector takes every byte");
        });
    }

    /// Forgets its records and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The records, ready to be written.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn record(&mut self, run_id: &str, seq: u64, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        let id_len = u8::try_from(run_id.len()).expect("the ids of runs are ours, and short");
        let start = self.bytes.len();
        let body = start + FRAME;
        self.bytes.reserve(FRAME + BODY_MIN + run_id.len() + 64);
        self.bytes.extend_from_slice(&[0; FRAME]);
        self.bytes.extend_from_slice(&seq.to_le_bytes());
        self.bytes.extend_from_slice(&[tag, id_len]);
        self.bytes.extend_from_slice(run_id.as_bytes());
        fill(&mut self.bytes);
        let len = (self.bytes.len() - body) as u32;
        let checksum = crc32fast::hash(&self.bytes[body..]);
        self.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        self.bytes[start + 4..body].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// A record, as it is read back.
#[derive(Debug, PartialEq)]
pub struct Record<'a> {
    /// Whose it is.
    pub run_id: &'a str,
    /// Its number within the run.
    pub seq: u64,
    /// What happened.
    pub body: Body<'a>,
}

/// What a record says.
#[derive(Debug, PartialEq)]
pub enum Body<'a> {
    /// A piece of text.
    Delta {
        /// Which content part of the message under way.
        index: u32,
        /// Text or refusal.
        kind: PartKind,
        /// The piece.
        text: &'a str,
    },
    /// Anything else.
    Entry(Entry),
}

/// The records of a journal in order, up to the first that is torn or damaged. A whole record whose meaning is not
/// known is passed over.
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Reads what follows a journal's header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Records { rest: bytes }
    }

    fn next_body(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        if body.len() < BODY_MIN || crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        self.rest = rest;
        Some(body)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            if let Some(record) = parse(self.next_body()?) {
                return Some(record);
            }
        }
    }
}

fn parse(body: &[u8]) -> Option<Record<'_>> {
    let (seq, rest) = body.split_first_chunk::<8>()?;
    let (&[tag, id_len], rest) = rest.split_first_chunk::<2>()?;
    let (run_id, rest) = rest.split_at_checked(id_len as usize)?;
    let body = match tag {
        TAG_ENTRY => Body::Entry(serde_json::from_slice(rest).ok()?),
        TAG_TEXT => parse_delta(PartKind::Text, rest)?,
        TAG_REFUSAL => parse_delta(PartKind::Refusal, rest)?,
        _ => return None,
    };
    Some(Record {
        run_id: str::from_utf8(run_id).ok()?,
        seq: u64::from_le_bytes(*seq),
        body,
    })
}

fn parse_delta(kind: PartKind, rest: &[u8]) -> Option<Body<'_>> {
    let (index, text) = rest.split_first_chunk::<4>()?;
    Some(Body::Delta {
        index: u32::from_le_bytes(*index),
        kind,
        text: str::from_utf8(text).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{RunStatus, StopReason, Usage};
    use crate::transcript::RunEnd;

    fn sample() -> Batch {
        let mut batch = Batch::default();
        batch.entry("run-1", 1, &Entry::Message { message_id: "m".into() });
        batch.delta("run-1", 2, 0, PartKind::Text, "Grüße");
        batch.delta("run-2", 1, 3, PartKind::Refusal, "");
        let usage = Usage {
            input_tokens: 1,
            ..Usage::default()
        };
        batch.entry("run-1", 3, &Entry::Usage { usage });
        let end = RunEnd::new(RunStatus::Completed, StopReason::EndTurn);
        batch.entry("run-1", 4, &Entry::End { end });
        batch
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let batch = sample();
        let records: Vec<Record> = Records::new(batch.bytes()).collect();
        assert_eq!(records.len(), 5);
        let delta = Body::Delta {
            index: 0,
            kind: PartKind::Text,
            text: "Grüße",
        };
        assert_eq!(
            (records[1].run_id, records[1].seq, &records[1].body),
            ("run-1", 2, &delta)
        );
        assert_eq!((records[2].run_id, records[2].seq), ("run-2", 1));
        assert!(matches!(&records[4].body, Body::Entry(Entry::End { .. })));
    }

    #[test]
    fn a_journal_cut_anywhere_gives_the_whole_records_before_the_cut() {
        let batch = sample();
        let bytes = batch.bytes();
        let mut ends = vec![0];
        let mut records = Records::new(bytes);
        while records.next().is_some() {
            ends.push(bytes.len() - records.rest.len());
        }
        for cut in 0..=bytes.len() {
            let whole = ends.iter().filter(|&&end| end != 0 && end <= cut).count();
            assert_eq!(Records::new(&bytes[..cut]).count(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn one_wrong_bit_ends_the_journal_there() {
        let batch = sample();
        let first = u32::from_le_bytes(batch.bytes()[..4].try_into().unwrap()) as usize + FRAME;
        let second = u32::from_le_bytes(batch.bytes()[first..first + 4].try_into().unwrap()) as usize + FRAME;
        for place in first..first + second {
            for bit in 0..8 {
                let mut bytes = batch.bytes().to_vec();
                bytes[place] ^= 1 << bit;
                assert_eq!(Records::new(&bytes).count(), 1, "bit {bit} of byte {place}");
            }
        }
    }

    #[test]
    fn zeros_behind_the_last_record_are_no_records() {
        let mut bytes = sample().bytes().to_vec();
        bytes.extend([0; 4096]);
        assert_eq!(Records::new(&bytes).count(), 5);
    }

    #[test]
    fn a_cleared_batch_is_empty() {
        let mut batch = sample();
        assert_ne!(batch.len(), 0);
        batch.clear();
        assert!(batch.is_empty());
    }
}
