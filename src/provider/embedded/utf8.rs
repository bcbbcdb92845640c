//! Bytes that may end within a character, to text that never does.
//!
//! The invariant: the pieces joined are the text that the bytes joined would give, bad bytes replaced by U+FFFD.

/// Puts characters together again.
#[derive(Debug, Default)]
pub(super) struct Characters {
    /// The beginning of a character; at most three bytes between calls.
    waiting: Vec<u8>,
}

impl Characters {
    /// The text that is whole with these bytes; often empty.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.waiting.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.waiting.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (whole, broken) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    rest = broken;
                    let Some(len) = error.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[len..];
                }
            }
        }
        self.waiting = rest.to_vec();
        text
    }

    /// What is left at the end: U+FFFD for a character that never became whole.
    pub(super) fn finish(self) -> String {
        String::from_utf8_lossy(&self.waiting).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_every_split(bytes: &[u8]) {
        let expected = String::from_utf8_lossy(bytes);
        for split in 0..=bytes.len() {
            for next in split..=bytes.len() {
                let mut characters = Characters::default();
                let mut text = characters.push(&bytes[..split]);
                text.push_str(&characters.push(&bytes[split..next]));
                text.push_str(&characters.push(&bytes[next..]));
                text.push_str(&characters.finish());
                assert_eq!(text, expected, "split at {split} and {next}");
            }
        }
    }

    #[test]
    fn characters_are_whole_wherever_the_bytes_are_cut() {
        at_every_split("a é € 😀 z".as_bytes());
    }

    #[test]
    fn bad_bytes_are_replaced_wherever_they_are_cut() {
        at_every_split(b"a\xff\xf0\x9f\x98 b\xe2\x82");
    }

    #[test]
    fn half_a_character_waits() {
        let mut characters = Characters::default();
        assert_eq!(characters.push(&"é".as_bytes()[..1]), "");
        assert_eq!(characters.push(&"é".as_bytes()[1..]), "é");
    }
}
