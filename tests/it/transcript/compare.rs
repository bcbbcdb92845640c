//! Expected and heard messages: names for what differs from run to run, and the differences of the rest.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// What the ids that the daemon makes begin with, and what they are called in transcripts.
const KINDS: [(&str, &str); 3] = [("thread_", "thread"), ("run_", "run"), ("msg_", "message")];

/// The length of an id behind its first word.
const ID_LENGTH: usize = 32;

/// Members whose values differ from run to run, and nobody cares.
const ANY: [&str; 8] = [
    "createdAt",
    "updatedAt",
    "endedAt",
    "uptimeMs",
    "residentBytes",
    "processId",
    "version",
    "database",
];

/// The names of what was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// `<thread1>` and so on, by id.
    ids: HashMap<String, String>,
    /// The other placeholders, with what they were bound to.
    values: BTreeMap<String, Value>,
    counts: [usize; KINDS.len()],
}

impl Names {
    /// A message's text with names in place of ids; new ids get the next number of their kind.
    pub fn named(&mut self, text: &str) -> String {
        let mut named = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, kind)) = find_id(rest) {
            let id = &rest[at..at + KINDS[kind].0.len() + ID_LENGTH];
            named.push_str(&rest[..at]);
            if !self.ids.contains_key(id) {
                self.counts[kind] += 1;
                self.ids
                    .insert(id.to_owned(), format!("<{}{}>", KINDS[kind].1, self.counts[kind]));
            }
            named.push_str(&self.ids[id]);
            rest = &rest[at + id.len()..];
        }
        named.push_str(rest);
        named
    }

    /// A text to send, with what its placeholders stand for.
    pub fn filled(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (id, name) in &self.ids {
            filled = filled.replace(name, id);
        }
        for (name, value) in &self.values {
            filled = filled.replace(&format!("\"{name}\""), &value.to_string());
        }
        filled
    }

    /// Puts `<any>` or `<next1>` where a member's name says that its value differs from run to run.
    pub fn generalize(&mut self, heard: &mut Value) {
        match heard {
            Value::Object(members) => {
                for (key, value) in members {
                    if ANY.contains(&key.as_str()) {
                        *value = "<any>".into();
                    } else if key == "next" {
                        let name = format!("<next{}>", self.values.len() + 1);
                        let cursor = std::mem::replace(value, name.clone().into());
                        self.values.insert(name, cursor);
                    } else {
                        self.generalize(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.generalize(item)),
            _ => {}
        }
    }

    /// How a message differs from what was expected, path by path. Placeholders are bound by the way.
    pub fn differences(&mut self, expected: &Value, heard: &Value) -> Vec<String> {
        let mut differences = Vec::new();
        self.compare("", expected, heard, &mut differences);
        differences
    }

    fn compare(&mut self, path: &str, expected: &Value, heard: &Value, differences: &mut Vec<String>) {
        match (expected, heard) {
            (Value::Object(wanted), Value::Object(given)) => {
                let missing = Value::String("(nothing)".into());
                let mut keys: Vec<&String> = wanted.keys().chain(given.keys()).collect();
                keys.sort();
                keys.dedup();
                for key in keys {
                    let path = format!("{path}.{key}");
                    match (wanted.get(key), given.get(key)) {
                        (Some(expected), Some(heard)) => self.compare(&path, expected, heard, differences),
                        (expected, heard) => {
                            let (expected, heard) = (expected.unwrap_or(&missing), heard.unwrap_or(&missing));
                            differences.push(format!("{path}: expected {expected}, heard {heard}"));
                        }
                    }
                }
            }
            (Value::Array(wanted), Value::Array(given)) if wanted.len() == given.len() => {
                for (index, (expected, heard)) in wanted.iter().zip(given).enumerate() {
                    self.compare(&format!("{path}[{index}]"), expected, heard, differences);
                }
            }
            (Value::String(name), heard) if is_placeholder(name) && expected != heard => {
                let bound = self.values.entry(name.clone()).or_insert_with(|| heard.clone());
                if bound != heard && name != "<any>" {
                    differences.push(format!("{path}: expected {name}, which is {bound}, heard {heard}"));
                }
            }
            _ if expected == heard => {}
            _ => differences.push(format!("{path}: expected {expected}, heard {heard}")),
        }
    }
}

/// Whether a string stands for something, and is none of the names that ids get.
fn is_placeholder(text: &str) -> bool {
    let Some(word) = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')) else {
        return false;
    };
    let stem = word.trim_end_matches(|c: char| c.is_ascii_digit());
    !stem.is_empty() && stem.chars().all(|c| c.is_ascii_lowercase()) && !KINDS.iter().any(|(_, kind)| *kind == stem)
}

fn find_id(text: &str) -> Option<(usize, usize)> {
    let is_id = |at: usize, prefix: &str| {
        let id = text.as_bytes().get(at + prefix.len()..at + prefix.len() + ID_LENGTH);
        id.is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit))
    };
    let first = |(kind, (prefix, _)): (usize, &(&str, &str))| {
        let mut places = text.match_indices(prefix).map(|(at, _)| at);
        places.find(|at| is_id(*at, prefix)).map(|at| (at, kind))
    };
    KINDS.iter().enumerate().filter_map(first).min()
}

/// A heard message as a transcript shows it: placeholders where the old one had some, or where no two runs agree.
pub fn keep_placeholders(old: &Value, heard: &Value) -> Value {
    match (old, heard) {
        (Value::String(name), _) if is_placeholder(name) => old.clone(),
        (Value::Object(old), Value::Object(heard)) => heard
            .iter()
            .map(|(key, value)| {
                (
                    key.clone(),
                    keep_placeholders(old.get(key).unwrap_or(&Value::Null), value),
                )
            })
            .collect(),
        (Value::Array(old), Value::Array(heard)) => heard
            .iter()
            .enumerate()
            .map(|(index, value)| keep_placeholders(old.get(index).unwrap_or(&Value::Null), value))
            .collect(),
        _ => heard.clone(),
    }
}
