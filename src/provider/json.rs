//! JSON as upstreams write it: borrowed where it can be, wrong in places, named in snake_case.
//!
//! Pure; knows no dialect.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A string that is borrowed unless it has escapes. (Serde borrows a `Cow`, but not one in an `Option`.)
#[derive(Debug)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A field of the wrong type is absent.
pub fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// `in_progress` → `inProgress`
pub fn camel_case(snake: &str) -> String {
    let mut camel = String::with_capacity(snake.len());
    let mut words = snake.split('_').filter(|word| !word.is_empty());
    camel.push_str(words.next().unwrap_or_default());
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// The same value with the names of its members in camelCase, and without `index`, which is of the stream only.
pub fn camel_keys(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(camel_keys).collect(),
        Value::Object(members) => {
            let members = members.iter().filter(|(name, _)| *name != "index");
            let renamed: Map<String, Value> = members
                .map(|(name, value)| (camel_case(name), camel_keys(value)))
                .collect();
            Value::Object(renamed)
        }
        other => other.clone(),
    }
}

/// Says where the problem is, and not what it is: that would quote the answer.
pub fn log_unreadable(problem: &serde_json::Error, what: &str) {
    tracing::debug!(column = problem.column(), kind = ?problem.classify(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_turn_to_camel_case() {
        assert_eq!(camel_case("in_progress"), "inProgress");
        assert_eq!(camel_case("queued"), "queued");
        assert_eq!(camel_case("mcp_tool_call"), "mcpToolCall");
    }
}
