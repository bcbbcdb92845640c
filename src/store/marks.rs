//! The marks of a message as a column: where its text stood after each event.
//!
//! Each mark is three numbers of 7 bits a byte, `seq` as the distance to the one before it: about four bytes a delta.

use crate::transcript::Mark;

/// The column's bytes.
pub fn encode(marks: &[Mark]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(marks.len() * 4);
    let mut before = 0;
    for mark in marks {
        push(&mut bytes, mark.seq.wrapping_sub(before));
        push(&mut bytes, mark.index.into());
        push(&mut bytes, mark.len);
        before = mark.seq;
    }
    bytes
}

/// The marks, up to the first byte that is none.
pub fn decode(mut bytes: &[u8]) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut seq = 0u64;
    while let (Some(distance), Some(index), Some(len)) = (take(&mut bytes), take(&mut bytes), take(&mut bytes)) {
        seq = seq.wrapping_add(distance);
        let index = index as u32;
        marks.push(Mark { seq, index, len });
    }
    marks
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_went() {
        let numbers = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX];
        let marks: Vec<Mark> = numbers
            .iter()
            .map(|&number| Mark {
                seq: number,
                index: number as u32,
                len: number,
            })
            .collect();
        let bytes = encode(&marks);
        assert_eq!(decode(&bytes), marks);
        for cut in 0..bytes.len() {
            let part = decode(&bytes[..cut]);
            assert_eq!(part, marks[..part.len()]);
        }
    }

    #[test]
    fn a_delta_costs_a_few_bytes() {
        let marks: Vec<Mark> = (1..=1000)
            .map(|seq| Mark {
                seq,
                index: 0,
                len: seq * 5,
            })
            .collect();
        assert!(encode(&marks).len() <= 4000);
    }
}
