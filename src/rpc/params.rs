//! The parameters of a request, or the result of a response: raw JSON until a method says what it takes.
//!
//! What is wrong with them is said in sentences for the author of a client, with the path to the member, and without
//! the parser's own words or the values that were sent.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment};

use crate::error::Error;

/// The longest word of the client's that a sentence repeats.
const MAX_WORD: usize = 64;

/// Parameters that nobody has read yet.
#[derive(Debug, Clone)]
pub struct Params {
    /// What the member is called: `params` or `result`.
    name: &'static str,
    raw: Option<Box<RawValue>>,
}

impl Params {
    pub(super) fn new(name: &'static str, raw: Option<&RawValue>) -> Self {
        Params {
            name,
            raw: raw.map(ToOwned::to_owned),
        }
    }

    /// The JSON text as it was written, if there was one.
    pub fn get(&self) -> Option<&str> {
        self.raw.as_deref().map(RawValue::get)
    }

    /// Reads them as what a method takes. Null, `[]` and nothing at all mean `{}`, since Emacs sends null and Neovim
    /// `[]` for every empty table; `_meta` is the client's own and is left out; a list of parameters is refused. The
    /// error is −32602.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut value = match serde_json::from_str(self.get().unwrap_or("null")) {
            Ok(Value::Null) => Value::Object(Default::default()),
            Ok(Value::Array(items)) if items.is_empty() => Value::Object(Default::default()),
            Ok(value) => value,
            Err(error) => return Err(Error::invalid_params(self.unreadable(&error))),
        };
        match &mut value {
            Value::Object(members) => drop(members.remove("_meta")),
            Value::Array(_) => {
                return Err(Error::invalid_params(format!(
                    "expected `{}` to be an object with named members, found a list",
                    self.name
                )));
            }
            other => {
                return Err(Error::invalid_params(format!(
                    "expected `{}` to be an object, found {}",
                    self.name,
                    kind_of(other)
                )));
            }
        }
        serde_path_to_error::deserialize::<_, T>(&value).map_err(|error| {
            let sentence = sentence(error.path(), &error.inner().to_string(), &value);
            Error::invalid_params(sentence)
        })
    }

    fn unreadable(&self, error: &serde_json::Error) -> String {
        // The frame was checked and is JSON: what is left is nesting, or a number beyond what a double holds.
        match error.to_string() {
            text if text.starts_with("number out of range") => {
                format!("expected `{}` to have numbers that a double can hold", self.name)
            }
            _ if error.classify() == Category::Syntax => {
                format!("expected `{}` to be nested at most 127 deep", self.name)
            }
            _ => format!("expected `{}` to be JSON", self.name),
        }
    }
}

/// What kind of value a JSON text is, by its first byte.
pub(super) fn type_of(text: &str) -> &'static str {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b'n') => "null",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// serde's message, said again for people. Its forms are those of `serde::de::Error`'s provided methods.
fn sentence(path: &Path, message: &str, params: &Value) -> String {
    let place = Place::new(path, params);
    if let Some(name) = message.strip_prefix("missing field `") {
        return format!(
            "expected `{}`, which is missing",
            place.member(name.trim_end_matches('`'))
        );
    }
    if let Some((name, known)) = unknown(message, "unknown field `") {
        return match place.parent_of(name) {
            "" => format!("unknown parameter `{}`{}", short(name), nearest(name, known)),
            path => format!("unknown member `{}` of `{path}`{}", short(name), nearest(name, known)),
        };
    }
    if let Some((name, known)) = unknown(message, "unknown variant `") {
        let expected = known.strip_prefix("one of ").unwrap_or(known);
        return place.expected(
            &format!("one of {expected}"),
            &format!("`{}`", short(name)),
            nearest(name, known),
        );
    }
    for prefix in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((found, expected)) = message
            .strip_prefix(prefix)
            .and_then(|rest| rest.rsplit_once(", expected "))
        {
            let found = found_kind(found, prefix);
            return place.expected(expected_kind(expected), found, String::new());
        }
    }
    // What is left is what a type says of itself where it takes several shapes.
    place.expected(message, place.kind.unwrap_or("something else"), String::new())
}

/// A member of the parameters, and what was found there.
struct Place {
    /// `content[0].text`; empty for the parameters themselves.
    path: String,
    kind: Option<&'static str>,
}

impl Place {
    fn new(path: &Path, params: &Value) -> Self {
        let mut value = Some(params);
        let mut written = String::new();
        for segment in path {
            match segment {
                Segment::Seq { index } => {
                    written.push_str(&format!("[{index}]"));
                    value = value.and_then(|value| value.get(index));
                }
                Segment::Map { key } => {
                    if !written.is_empty() {
                        written.push('.');
                    }
                    written.push_str(short(key));
                    value = value.and_then(|value| value.get(key));
                }
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        Place {
            path: written,
            kind: value.map(kind_of),
        }
    }

    fn member(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    /// The path without this name at its end: an unknown member may be in it or not.
    fn parent_of(&self, name: &str) -> &str {
        let parent = self.path.strip_suffix(short(name)).unwrap_or(&self.path);
        parent.strip_suffix('.').unwrap_or(parent)
    }

    /// A value of a part that is told by its `type` is read from a copy, so what was found may lie deeper than the path
    /// says.
    fn expected(&self, expected: &str, found: &str, nearest: String) -> String {
        let is_here = found.starts_with('`') || self.kind == Some(found);
        match self.path.as_str() {
            "" => format!("expected {expected}, found {found}{nearest}"),
            path if is_here => format!("expected `{path}` to be {expected}, found {found}{nearest}"),
            path => format!("expected {expected} in `{path}`, found {found}{nearest}"),
        }
    }
}

/// The word and the known ones of ``unknown … `word`, expected …``.
fn unknown<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let rest = message.strip_prefix(prefix)?;
    rest.rsplit_once("`, expected ")
        .or_else(|| rest.rsplit_once("`, there are no "))
}

/// `; did you mean …?`, from serde's list of the known words.
fn nearest(word: &str, known: &str) -> String {
    let known = known.split('`').skip(1).step_by(2);
    known
        .map(|known| (strsim::damerau_levenshtein(&plain(short(word)), &plain(known)), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// A name without what sets one style of names apart from another.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| *c != '_' && *c != '-');
    letters.flat_map(char::to_lowercase).collect()
}

fn short(word: &str) -> &str {
    &word[..word.floor_char_boundary(MAX_WORD)]
}

/// What serde found, as a kind of JSON value: its own words hold the value.
fn found_kind(found: &str, prefix: &str) -> &'static str {
    let is = |words: &[&str]| words.iter().any(|word| found.starts_with(word));
    match () {
        () if prefix == "invalid length " => "a list of another length",
        () if is(&["integer", "floating point"]) => "a number",
        () if is(&["boolean"]) => "true or false",
        () if is(&["string", "character"]) => "a string",
        () if is(&["sequence"]) => "a list",
        () if is(&["map", "struct"]) => "an object",
        () => "null",
    }
}

/// What a type expected, without Rust's words.
fn expected_kind(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "a nonzero u32" | "a nonzero u64" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" | "struct variant" => "an object",
        "string or map" | "variant identifier" => "one of its names",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("internally tagged enum ") => "an object with a `type`",
        _ if expected.starts_with("unit variant ") || expected.starts_with("enum ") => "one of its names",
        other => other,
    }
}
