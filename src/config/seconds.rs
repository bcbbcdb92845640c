//! Lengths of time as the settings write them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Seconds above zero, whole or not.
pub fn above_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    match Option::<f64>::deserialize(deserializer)? {
        Some(seconds) if !(seconds.is_finite() && seconds > 0.0) => Err(D::Error::custom(format!(
            "expected a number of seconds above 0, found `{seconds}`"
        ))),
        seconds => Ok(seconds),
    }
}
