//! The members of a message as they are written, and what kind of message follows from them.
//!
//! An absent member is told apart from null. Nothing here reads what is inside `params` and `result`.

use std::fmt;

use jsonrpsee::types::TwoPointZero;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Id, Incoming, MAX_BATCH, Params, params};
/// The members of a message, each as it is written; an absent one is none, and null is not absent.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    jsonrpc: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl Envelope<'_> {
    /// > A Notification is a Request object without an "id" member.
    ///
    /// > If there was an error in detecting the id in the Request object (e.g. Parse error/Invalid Request), it MUST be
    /// > Null.
    pub fn open(self) -> Incoming {
        let id = match self.id.map(Id::new).transpose() {
            Ok(id) => id,
            Err(error) => return Incoming::Refused { id: None, error },
        };
        let is_response = self.method.is_none() && (self.result.is_some() || self.error.is_some());
        // A refusal under the id of a response could pass for the answer to a request of the client's own.
        let echoed = id.clone().filter(|_| !is_response);
        if !self.jsonrpc.is_some_and(is_version) {
            return Incoming::refused(echoed, "expected `jsonrpc` to be `\"2.0\"`");
        }
        let Some(method) = self.method else {
            return match id {
                Some(id) if is_response => Incoming::Response {
                    id,
                    outcome: self.outcome(),
                },
                _ if is_response => Incoming::refused(None, "expected a response to have an `id`, which is missing"),
                _ => Incoming::refused(echoed, "expected `method`, which is missing"),
            };
        };
        let Ok(method) = serde_json::from_str::<String>(method.get()) else {
            let found = params::type_of(method.get());
            return Incoming::refused(echoed, format!("expected `method` to be a string, found {found}"));
        };
        let params = Params::new("params", self.params);
        match id {
            Some(id) => Incoming::Request { id, method, params },
            None => Incoming::Notification { method, params },
        }
    }

    /// Clients that grew up with JSON-RPC 1.0 send both members, one of them null: an `error` that is null is none.
    fn outcome(&self) -> Result<Params, Value> {
        match self
            .error
            .filter(|error| error.get() != "null" || self.result.is_none())
        {
            Some(error) => Err(serde_json::from_str(error.get()).unwrap_or_default()),
            None => Ok(Params::new("result", self.result)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Member {
            Jsonrpc,
            Id,
            Method,
            Params,
            Result,
            Error,
            #[serde(other)]
            Other,
        }

        struct EnvelopeVisitor;

        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(member) = map.next_key()? {
                    let value: &'de RawValue = map.next_value()?;
                    match member {
                        Member::Jsonrpc => envelope.jsonrpc = Some(value),
                        Member::Id => envelope.id = Some(value),
                        Member::Method => envelope.method = Some(value),
                        Member::Params => envelope.params = Some(value),
                        Member::Result => envelope.result = Some(value),
                        Member::Error => envelope.error = Some(value),
                        Member::Other => {}
                    }
                }
                Ok(envelope)
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

fn is_version(raw: &RawValue) -> bool {
    serde_json::from_str::<TwoPointZero>(raw.get()).is_ok()
}

/// The entries of a batch as they are written: the first [`MAX_BATCH`], and how many there are.
pub(super) struct Batch<'a> {
    pub entries: Vec<&'a RawValue>,
    pub len: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BatchVisitor;

        impl<'de> Visitor<'de> for BatchVisitor {
            type Value = Batch<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Batch<'de>, A::Error> {
                let mut entries = Vec::new();
                while entries.len() < MAX_BATCH {
                    match seq.next_element()? {
                        Some(entry) => entries.push(entry),
                        None => break,
                    }
                }
                let mut len = entries.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    len += 1;
                }
                Ok(Batch { entries, len })
            }
        }

        deserializer.deserialize_seq(BatchVisitor)
    }
}
