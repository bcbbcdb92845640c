//! Our types as columns: words such as `inProgress`, and JSON for what is only ever read whole.
//!
//! An unreadable column is an error that never quotes what is in it: it may be somebody's conversation.

use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A value as JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data whose maps have string keys is always JSON")
}

/// A value as JSON, or no value.
pub fn optional_json<T: Serialize>(value: Option<&T>) -> Option<String> {
    value.map(json)
}

/// A unit variant as its word on the wire.
pub fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => unreachable!("only unit variants are kept as words"),
    }
}

/// A column that was written by [`json`].
pub fn read_json<T: DeserializeOwned>(row: &Row, index: usize) -> Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text).map_err(|_| unreadable(index))
}

/// A column that was written by [`optional_json`].
pub fn read_optional_json<T: DeserializeOwned>(row: &Row, index: usize) -> Result<Option<T>> {
    match row.get_ref(index)?.as_str_or_null()? {
        None => Ok(None),
        Some(text) => serde_json::from_str(text).map(Some).map_err(|_| unreadable(index)),
    }
}

/// A column that was written by [`word`].
pub fn read_word<T: DeserializeOwned>(row: &Row, index: usize) -> Result<T> {
    read_optional_word(row, index)?.ok_or_else(|| unreadable(index))
}

/// A column that was written by [`word`], or null.
pub fn read_optional_word<T: DeserializeOwned>(row: &Row, index: usize) -> Result<Option<T>> {
    let word: Option<String> = row.get(index)?;
    let value = word.map(|word| serde_json::from_value(Value::String(word)));
    value.transpose().map_err(|_| unreadable(index))
}

/// A column that holds a number which is never negative.
pub fn read_number(row: &Row, index: usize) -> Result<u64> {
    read_optional_number(row, index)?.ok_or_else(|| unreadable(index))
}

/// A column that holds a number which is never negative, or null.
pub fn read_optional_number(row: &Row, index: usize) -> Result<Option<u64>> {
    let number: Option<i64> = row.get(index)?;
    number.map(u64::try_from).transpose().map_err(|_| unreadable(index))
}

fn unreadable(index: usize) -> Error {
    Error::FromSqlConversionFailure(index, Type::Text, "not what this column holds".into())
}
