//! JSON-RPC 2.0: one JSON text to messages, and answers, notifications and requests to JSON texts.
//!
//! No method is known here, and nothing waits. The envelope is read by hand: what a message is follows from which
//! members it has, so a request with a bad id can never pass for a notification and leave its sender waiting.
//! The quotations are from the JSON-RPC 2.0 specification.

mod envelope;
mod params;

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jsonrpsee::types::TwoPointZero;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, Kind};

use envelope::{Batch, Envelope};

pub use params::Params;

/// The most entries of a batch.
pub const MAX_BATCH: usize = 100;

/// The longest id, in bytes of its JSON text.
pub const MAX_ID: usize = 1024;

/// A request's id: the JSON text of a string, a number or null, kept as it came and echoed byte for byte. Two ids are
/// equal if they are written alike.
#[derive(Clone)]
pub struct Id(Arc<RawValue>);

impl Id {
    /// > An identifier established by the Client that MUST contain a String, Number, or NULL value if included.
    fn new(raw: &RawValue) -> Result<Self, Error> {
        let found = match params::type_of(raw.get()) {
            "a string" | "a number" | "null" if raw.get().len() <= MAX_ID => return Ok(Id(raw.to_owned().into())),
            "a string" | "a number" => format!("one of {} bytes", raw.get().len()),
            other => other.to_owned(),
        };
        Err(invalid(format!(
            "expected `id` to be a string, a number or null of at most {MAX_ID} bytes, found {found}"
        )))
    }

    /// The id as it was written.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The id as a value: for `params.id` of `$/cancelRequest`, which is compared by value, and for tokens.
    pub fn as_value(&self) -> Value {
        serde_json::from_str(self.get()).unwrap_or_default()
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Id {}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What one JSON text holds.
#[derive(Debug)]
pub enum Message {
    /// One message.
    One(Incoming),
    /// At least one entry. The responses to its requests and refusals go out as one array, when all are there.
    Batch(Vec<Incoming>),
    /// Neither: to be answered with id null.
    Refused(Error),
}

/// One message from the client.
#[derive(Debug)]
pub enum Incoming {
    /// To be answered exactly once, under its id.
    Request {
        /// Its id.
        id: Id,
        /// Its method, as yet unknown.
        method: String,
        /// Its parameters, as yet unread.
        params: Params,
    },
    /// Never answered.
    Notification {
        /// Its method, as yet unknown.
        method: String,
        /// Its parameters, as yet unread.
        params: Params,
    },
    /// The client's answer to a request of ours.
    Response {
        /// The id that we gave it; null if the client could not read our request.
        id: Id,
        /// The result, or the client's error object, whatever it is.
        outcome: Result<Params, Value>,
    },
    /// No JSON-RPC message: to be answered under its id, or null where it has none that can be echoed.
    Refused {
        /// Its id, if it has a good one.
        id: Option<Id>,
        /// What is wrong with it.
        error: Error,
    },
}

/// Reads one JSON text. Nothing of `params` but its extent is looked at.
pub fn parse(text: &str) -> Message {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Message::One(incoming(text)),
        Some(b'[') => batch(text),
        _ => Message::Refused(invalid(format!(
            "expected a message to be an object, or a list of them, found {}",
            params::type_of(text)
        ))),
    }
}

/// > If the batch rpc call itself fails to be recognized as an valid JSON or as an Array with at least one value, the
/// > response from the Server MUST be a single Response object.
fn batch(text: &str) -> Message {
    match serde_json::from_str::<Batch>(text) {
        Ok(batch) if batch.len == 0 => Message::Refused(invalid("expected a batch to have an entry, found none")),
        Ok(batch) if batch.len > MAX_BATCH => Message::Refused(invalid(format!(
            "expected a batch to have at most {MAX_BATCH} entries, found {}",
            batch.len
        ))),
        Ok(batch) => Message::Batch(batch.entries.iter().map(|entry| incoming(entry.get())).collect()),
        Err(_) => Message::Refused(unreadable()),
    }
}

fn incoming(text: &str) -> Incoming {
    if params::type_of(text) != "an object" {
        let found = params::type_of(text);
        return Incoming::refused(None, format!("expected a message to be an object, found {found}"));
    }
    match serde_json::from_str::<Envelope>(text) {
        Ok(envelope) => envelope.open(),
        Err(_) => Incoming::Refused {
            id: None,
            error: unreadable(),
        },
    }
}

impl Incoming {
    fn refused(id: Option<Id>, message: impl Into<String>) -> Self {
        Incoming::Refused {
            id,
            error: invalid(message.into()),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::InvalidRequest, message.into())
}

/// For a text that is no JSON: whoever reads the frames has checked, so this is not seen.
fn unreadable() -> Error {
    Error::new(Kind::ParseError, "expected one JSON text")
}

/// A response with a result.
///
/// > This member is REQUIRED. It MUST be the same as the value of the id member in the Request Object.
pub fn respond(id: &Id, result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Response<'a, T> {
        jsonrpc: TwoPointZero,
        id: &'a Id,
        result: &'a T,
    }
    text(&Response {
        jsonrpc: TwoPointZero,
        id,
        result,
    })
}

/// A response whose result is JSON text already, on one line.
pub fn respond_raw(id: &Id, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.get())
}

/// A response with an error, under id null where the request's could not be read.
pub fn refuse(id: Option<&Id>, error: &Error) -> String {
    #[derive(Serialize)]
    struct Refusal<'a> {
        jsonrpc: TwoPointZero,
        id: Option<&'a Id>,
        error: &'a Error,
    }
    text(&Refusal {
        jsonrpc: TwoPointZero,
        id,
        error,
    })
}

/// A notification.
pub fn notify(method: &str, params: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Notification<'a, T> {
        jsonrpc: TwoPointZero,
        method: &'a str,
        params: &'a T,
    }
    text(&Notification {
        jsonrpc: TwoPointZero,
        method,
        params,
    })
}

/// A request of ours.
pub fn request(id: u64, method: &str, params: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Request<'a, T> {
        jsonrpc: TwoPointZero,
        id: u64,
        method: &'a str,
        params: &'a T,
    }
    text(&Request {
        jsonrpc: TwoPointZero,
        id,
        method,
        params,
    })
}

/// The id of a response of ours, for putting another in its place.
pub fn response_id(response: &str) -> Option<Id> {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let response: Response = serde_json::from_str(response).ok()?;
    Id::new(response.id).ok()
}

fn text(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("what the wire says has string keys and serializers that cannot fail")
}
