//! One reasoning item: its text and its summaries, each piece once, with an empty line between parts.

use super::wire;
use crate::provider::Event;

/// What has been shown of an item's reasoning.
#[derive(Debug, Default)]
pub struct Reasoning {
    parts: Vec<Part>,
}

/// Whether it is a summary, and which part.
type Key = (bool, u32);

#[derive(Debug)]
struct Part {
    key: Key,
    /// How much text has been shown, in bytes.
    shown: usize,
}

impl Reasoning {
    /// A piece.
    pub fn piece(&mut self, summary: bool, index: Option<u32>, piece: &str, out: &mut Vec<Event>) {
        if piece.is_empty() {
            return;
        }
        let key = (summary, index.unwrap_or_default());
        let follows = self.parts.iter().any(|part| part.key.0 == summary && part.shown > 0);
        let part = self.part(key);
        let begins = part.shown == 0;
        part.shown += piece.len();
        let mut text = if begins && follows {
            "\n\n".to_owned()
        } else {
            String::new()
        };
        text += piece;
        match out.last_mut() {
            Some(Event::Reasoning {
                text: before,
                summary: same,
            }) if *same == summary => before.push_str(&text),
            _ => out.push(Event::Reasoning { text, summary }),
        }
    }

    /// A whole part: gives what no piece has told.
    pub fn whole(&mut self, summary: bool, index: Option<u32>, text: &str, out: &mut Vec<Event>) {
        let shown = self.part((summary, index.unwrap_or_default())).shown;
        if let Some(missing) = text.get(shown..) {
            self.piece(summary, index, missing, out);
        }
    }

    /// The parts of a whole item.
    pub fn whole_parts(&mut self, summary: bool, parts: Vec<wire::Part>, out: &mut Vec<Event>) {
        for (index, part) in (0..).zip(parts) {
            self.whole(summary, Some(index), part.text.as_deref().unwrap_or_default(), out);
        }
    }

    fn part(&mut self, key: Key) -> &mut Part {
        let known = self.parts.iter().position(|part| part.key == key);
        let place = known.unwrap_or_else(|| {
            self.parts.push(Part { key, shown: 0 });
            self.parts.len() - 1
        });
        &mut self.parts[place]
    }
}
