//! Conversations that the model has read already, kept for their next turn.
//!
//! A conversation is known again by its pieces: if they begin the new prompt, only the rest is read. The ids that were
//! generated stay as they were; encoding the answer's text again may give others.
//! The invariant: `read` ids of a [`Warm`] are in its state, in order, and nothing else is.

use std::collections::VecDeque;

use super::model::State;
use super::vocabulary::Piece;

/// How many conversations are kept.
const MOST: usize = 4;

/// How many bytes all their states may have together; the newest is kept whatever it has.
const MOST_BYTES: usize = 256 << 20;

/// A conversation with what the model has read of it.
pub(super) struct Warm {
    /// What it consists of.
    pub(super) pieces: Vec<Piece>,
    /// The same as ids.
    pub(super) ids: Vec<u32>,
    /// How many of the ids the state has read.
    pub(super) read: usize,
    /// The model's memory of them.
    pub(super) state: State,
}

/// The conversations kept, the one used last at the end.
#[derive(Default)]
pub(super) struct Shelf(VecDeque<Warm>);

impl Shelf {
    /// Takes out the conversation that makes up the most of the beginning of these pieces.
    pub(super) fn take(&mut self, pieces: &[Piece]) -> Option<Warm> {
        let begins = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, warm)| pieces.starts_with(&warm.pieces));
        let (index, _) = begins.max_by_key(|(_, warm)| warm.pieces.len())?;
        self.0.remove(index)
    }

    /// Keeps a conversation; the ones not used for longest make room. `token_bytes` is what a state holds for a token.
    pub(super) fn put(&mut self, warm: Warm, token_bytes: usize) {
        self.0.push_back(warm);
        let bytes = |shelf: &Shelf| shelf.0.iter().map(|warm| warm.read * token_bytes).sum::<usize>();
        while self.0.len() > MOST || (self.0.len() > 1 && bytes(self) > MOST_BYTES) {
            self.0.pop_front();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Model;
    use super::super::weights;
    use super::*;

    fn pieces(text: &str) -> Vec<Piece> {
        text.split(' ').map(|word| Piece::Text(word.to_owned())).collect()
    }

    fn warm(text: &str, model: &Model) -> Warm {
        Warm {
            pieces: pieces(text),
            ids: vec![0; 10],
            read: 10,
            state: model.fresh(),
        }
    }

    #[test]
    fn the_longest_beginning_is_taken_and_half_a_piece_is_none() {
        let model = Model::load(&weights::for_tests()).unwrap();
        let mut shelf = Shelf::default();
        for text in ["a", "a b", "a b c d", "x"] {
            shelf.put(warm(text, &model), 0);
        }
        assert_eq!(shelf.take(&pieces("a b c")).unwrap().pieces, pieces("a b"));
        assert_eq!(shelf.take(&pieces("a b c")).unwrap().pieces, pieces("a"));
        assert!(shelf.take(&pieces("a b c")).is_none());
        assert!(shelf.take(&pieces("xy")).is_none());
    }

    #[test]
    fn the_ones_not_used_for_longest_make_room() {
        let model = Model::load(&weights::for_tests()).unwrap();
        let mut shelf = Shelf::default();
        for text in ["a", "b", "c", "d", "e"] {
            shelf.put(warm(text, &model), 0);
        }
        assert!(shelf.take(&pieces("a")).is_none());
        assert_eq!(shelf.0.len(), MOST);
        // Three of these are more than there is room for.
        let token_bytes = MOST_BYTES / 25;
        shelf.clear();
        for text in ["a", "b", "c"] {
            shelf.put(warm(text, &model), token_bytes);
        }
        assert!(shelf.take(&pieces("a")).is_none());
        assert_eq!(shelf.0.len(), 2);
        shelf.put(warm("d", &model), MOST_BYTES);
        assert_eq!(shelf.0.len(), 1);
        assert!(shelf.take(&pieces("d")).is_some());
    }
}
