//! What differs from run to run in the output of an example: ids and times.

use std::collections::HashMap;

/// Short names for the ids of one example: `thread_1`, `run_1`, `msg_1`, in the order in which they come.
#[derive(Default)]
pub struct Names {
    names: HashMap<String, String>,
    counts: HashMap<&'static str, usize>,
}

impl Names {
    /// The text with names in place of ids, and of what differs from run to run.
    pub fn named(&mut self, text: &str) -> String {
        let mut named = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, kind)) = find_id(rest) {
            let id = &rest[at..at + kind.len() + ID];
            named.push_str(&rest[..at]);
            if !self.names.contains_key(id) {
                let count = self.counts.entry(kind).or_default();
                *count += 1;
                self.names.insert(id.to_owned(), format!("{kind}{count}"));
            }
            named.push_str(&self.names[id]);
            rest = &rest[at + id.len()..];
        }
        without_times(&(named + rest))
    }

    /// The text with ids in place of names.
    pub fn filled(&self, text: &str) -> String {
        let pairs = self.names.iter();
        pairs.fold(text.to_owned(), |text, (id, name)| {
            text.replace(&format!("\"{name}\""), &format!("\"{id}\""))
        })
    }
}

/// The text with one time in place of all.
fn without_times(text: &str) -> String {
    const MEMBERS: [(&str, &str); 4] = [
        ("\"createdAt\":", "1795341873015"),
        ("\"updatedAt\":", "1795341873015"),
        ("\"endedAt\":", "1795341873015"),
        ("\"elapsedMs\":", "1"),
    ];
    MEMBERS.iter().fold(text.to_owned(), |text, (member, time)| {
        let mut pieces = text.split(member);
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |text, piece| {
            let rest = piece.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{text}{member}{time}{rest}")
        })
    })
}

/// The length of an id behind its first word.
const ID: usize = 32;

fn find_id(text: &str) -> Option<(usize, &'static str)> {
    let is_id = |at: usize, kind: &str| {
        let id = text.as_bytes().get(at + kind.len()..at + kind.len() + ID);
        id.is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit))
    };
    let first = |kind: &'static str| {
        let mut places = text.match_indices(kind).map(|(at, _)| at);
        places.find(|at| is_id(*at, kind)).map(|at| (at, kind))
    };
    ["thread_", "run_", "msg_"].into_iter().filter_map(first).min()
}
