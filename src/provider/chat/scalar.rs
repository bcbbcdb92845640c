//! Members that are a string at some servers, a number at others, and missing or something else at the rest.
//!
//! Borrows from the event; knows no shape of the wire.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A string or a number, where it is one.
#[derive(Debug, Default)]
pub enum Scalar<'a> {
    /// Absent, null, or something else.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(u64),
}

impl<'a> Scalar<'a> {
    /// The text, if it is one and says anything.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Scalar::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The same as an owned string.
    pub fn string(self) -> Option<String> {
        self.text().map(Cow::into_owned)
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Scalar::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// The value of a raw text; none if it is of another shape.
pub fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// The visits that find nothing that is wanted.
macro_rules! absent {
    ($value:ty, $absent:expr) => {
        fn visit_unit<E>(self) -> Result<$value, E> {
            Ok($absent)
        }

        fn visit_bool<E>(self, _: bool) -> Result<$value, E> {
            Ok($absent)
        }

        fn visit_i64<E>(self, _: i64) -> Result<$value, E> {
            Ok($absent)
        }

        fn visit_f64<E>(self, _: f64) -> Result<$value, E> {
            Ok($absent)
        }
    };
}
pub(super) use absent;

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or a number")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Number(number))
            }

            absent!(Scalar<'de>, Scalar::Absent);

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Absent)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Absent)
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
