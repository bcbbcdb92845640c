//! A tool call of a run step, as the wire has it: an open set of kinds, so a value and not a type.
//!
//! Pure. Knows one call at a time; `steps.rs` knows which call a piece belongs to.

use serde_json::{Value, json};

use crate::provider::json::{camel_case, camel_keys};

/// A call's own part, which lies below a member named after its kind.
pub struct Body<'a> {
    pub kind: &'a str,
    pub name: Option<&'a str>,
    /// The arguments or the code: all of it, or a piece.
    pub arguments: Option<&'a str>,
    pub output: Option<&'a str>,
    pub outputs: &'a Value,
    /// The whole part, where we have no words for it.
    pub other: Option<&'a Value>,
}

impl<'a> Body<'a> {
    /// The part of this call or piece of one.
    pub fn of(wire: &'a Value) -> Self {
        let kind = wire["type"].as_str().unwrap_or_default();
        let part = &wire[kind];
        let nothing = Body {
            kind,
            name: None,
            arguments: None,
            output: None,
            outputs: &Value::Null,
            other: None,
        };
        match kind {
            "function" => Body {
                name: part["name"].as_str(),
                arguments: part["arguments"].as_str(),
                output: part["output"].as_str(),
                ..nothing
            },
            "code_interpreter" => Body {
                arguments: part["input"].as_str(),
                outputs: &part["outputs"],
                ..nothing
            },
            "file_search" => Body {
                outputs: &part["results"],
                ..nothing
            },
            "" => nothing,
            _ => Body {
                other: Some(part),
                ..nothing
            },
        }
    }
}

/// A call's kind in our words; others as the upstream names them.
pub fn kind_of_call(kind: &str) -> String {
    match kind {
        "function" | "code_interpreter" | "file_search" => camel_case(kind),
        other => other.to_owned(),
    }
}

/// What the code printed or drew, or the search found: `{type, logs}`, `{type, fileId}`, `{fileId, fileName, …}`.
pub fn output_value(output: &Value) -> Value {
    if let Some(file_id) = output["image"]["file_id"].as_str() {
        return json!({ "type": "image", "fileId": file_id });
    }
    camel_keys(output)
}

/// Logs grow by pieces; anything else comes whole.
pub fn join_output(known: &mut Value, output: &Value) {
    match (known["logs"].as_str(), output["logs"].as_str()) {
        (Some(before), Some(piece)) => known["logs"] = Value::String([before, piece].concat()),
        _ => *known = output_value(output),
    }
}
