//! Tool calls, put together from their pieces.
//!
//! Pure. A call is known by its id where a piece has one, for indices repeat (Ollama gives every parallel call index 0)
//! and jump; a piece without an id belongs to the newest call of its index. Every call has an id of its own within the
//! run: where the upstream gives none, or one that was there before, it is ours.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::scalar::{Scalar, read};
use super::wire::{CallPiece, FunctionPiece};
use crate::ids;
use crate::protocol::{RunStep, StepCall};
use crate::provider::{Event, ToolCall};

/// The calls of one round so far.
#[derive(Debug, Default)]
pub struct Calls {
    calls: Vec<Call>,
    /// The ids of this run's earlier rounds.
    taken: Vec<String>,
}

#[derive(Debug)]
struct Call {
    id: String,
    /// As the upstream says it.
    upstream_id: Option<String>,
    index: Option<u64>,
    name: String,
    arguments: String,
    extra: Option<Value>,
}

impl Calls {
    /// No calls yet, in a run that has had calls of these ids.
    pub fn new(taken: impl Iterator<Item = String>) -> Self {
        Calls {
            calls: Vec::new(),
            taken: taken.collect(),
        }
    }

    /// Whether the model has called nothing.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// `tool_calls` of a delta.
    pub fn accept(&mut self, raw: &RawValue, out: &mut Vec<Event>) {
        let Some(pieces) = read::<Vec<CallPiece>>(raw) else {
            tracing::debug!("a tool call could not be read");
            return;
        };
        for piece in pieces {
            self.accept_piece(piece, out);
        }
    }

    /// `function_call` of a delta: there is only one, and it has no id.
    pub fn accept_function(&mut self, raw: &RawValue, out: &mut Vec<Event>) {
        let function = read::<FunctionPiece>(raw);
        let piece = CallPiece {
            index: Scalar::Number(0),
            function,
            ..CallPiece::default()
        };
        self.accept_piece(piece, out);
    }

    fn accept_piece(&mut self, piece: CallPiece<'_>, out: &mut Vec<Event>) {
        let index = piece.index.number();
        let id = piece.id.text();
        let function = piece.function.unwrap_or_default();
        let name = function.name.text();
        let known = self.place(index, id.as_deref(), name.as_deref());
        let is_new = known.is_none();
        let place = known.unwrap_or_else(|| self.begin(index, id.as_deref()));
        let call = &mut self.calls[place];
        if let (None, Some(id)) = (&call.upstream_id, id) {
            // The id came late: ours is known to the client by now, and stays.
            call.upstream_id = Some(id.into_owned());
        }
        call.extra = piece.extra_content.and_then(read).or(call.extra.take());
        call.append_name(name.as_deref().unwrap_or_default());
        let arguments = function.arguments.map(text_of).unwrap_or_default();
        call.arguments.push_str(&arguments);
        if is_new {
            out.push(Event::Step(self.step()));
        }
        if !arguments.is_empty() {
            let call = &self.calls[place];
            out.push(Event::ToolArguments {
                step_id: self.step_id(),
                call_id: call.id.clone(),
                name: Some(call.name.clone()).filter(|name| !name.is_empty()),
                text: arguments.into_owned(),
            });
        }
    }

    /// The call that a piece belongs to; none if it begins one.
    fn place(&self, index: Option<u64>, id: Option<&str>, name: Option<&str>) -> Option<usize> {
        let newest = |wanted: &dyn Fn(&Call) -> bool| self.calls.iter().rposition(wanted);
        let at_index = newest(&|call| index.is_none() || call.index == index);
        match id {
            Some(id) => {
                let is_it = |call: &Call| call.upstream_id.as_deref() == Some(id);
                let known = newest(&|call| is_it(call) && (index.is_none() || call.index == index));
                match known.or_else(|| newest(&is_it)) {
                    // One id for all calls: then it is the index that tells them apart.
                    Some(known) if name.is_some() && index.is_some() && self.calls[known].index != index => None,
                    Some(known) => Some(known),
                    None => at_index.filter(|at| self.calls[*at].upstream_id.is_none() && name.is_none()),
                }
            }
            // A server without ids: a name begins a call, unless it is said again with every piece of it.
            None => at_index.filter(|at| name.is_none_or(|name| self.calls[*at].may_go_on(name))),
        }
    }

    fn begin(&mut self, index: Option<u64>, id: Option<&str>) -> usize {
        let is_free =
            |id: &&str| self.taken.iter().all(|taken| taken != id) && self.calls.iter().all(|call| call.id != *id);
        self.calls.push(Call {
            id: id.filter(is_free).map_or_else(ids::call, str::to_owned),
            upstream_id: id.map(str::to_owned),
            index,
            name: String::new(),
            arguments: String::new(),
            extra: None,
        });
        self.calls.len() - 1
    }

    /// All calls in their order, and the step that they are.
    pub fn finish(&mut self, out: &mut Vec<Event>) -> Vec<ToolCall> {
        out.push(Event::Step(self.step()));
        let calls = self.calls.drain(..).map(|call| ToolCall {
            id: call.id,
            name: call.name,
            arguments: call.arguments,
        });
        calls.collect()
    }

    /// What the upstream wants back with its calls, by our ids.
    pub fn extras(&self) -> Map<String, Value> {
        let extras = self.calls.iter();
        extras
            .filter_map(|call| Some((call.id.clone(), call.extra.clone()?)))
            .collect()
    }

    fn step_id(&self) -> String {
        format!("step_{}", self.calls[0].id)
    }

    fn step(&self) -> RunStep {
        let calls = self.calls.iter().map(|call| StepCall {
            call_id: call.id.clone(),
            kind: "function".into(),
            name: Some(call.name.clone()),
            arguments: Some(call.arguments.clone()),
            ..StepCall::default()
        });
        RunStep {
            id: self.step_id(),
            kind: "toolCalls".into(),
            status: "inProgress".into(),
            calls: calls.collect(),
            error: None,
            usage: None,
        }
    }
}

impl Call {
    /// A name comes whole and once; from some servers with every piece, from some in pieces.
    fn append_name(&mut self, name: &str) {
        if name.starts_with(&self.name) {
            self.name = name.to_owned();
        } else {
            self.name.push_str(name);
        }
    }

    /// Whether a piece with this name and without an id can be one more of this call.
    fn may_go_on(&self, name: &str) -> bool {
        self.name.is_empty() || (self.name == name && !is_whole(&self.arguments))
    }
}

/// Whether this is a whole JSON text, and not a piece of one.
pub fn is_whole(json: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok()
}

/// Arguments are JSON in a string; some servers give the object itself.
fn text_of(raw: &RawValue) -> Cow<'_, str> {
    match read::<Scalar>(raw) {
        Some(Scalar::Text(text)) => text,
        _ if raw.get() == "null" => "".into(),
        _ => raw.get().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is called, of deltas as they are written here: `name(arguments)`, with the ids that are not ours.
    fn called(deltas: &[&str]) -> Vec<String> {
        let mut calls = Calls::new(["call_old".to_owned()].into_iter());
        let mut out = Vec::new();
        for delta in deltas {
            calls.accept(&RawValue::from_string((*delta).to_owned()).unwrap(), &mut out);
        }
        let calls = calls.finish(&mut out);
        let mut ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), calls.len(), "one id for two calls: {calls:?}");
        let shown = |call: ToolCall| {
            let id = if call.id.len() > 12 { "" } else { &call.id };
            format!("{id} {}({})", call.name, call.arguments)
        };
        calls.into_iter().map(shown).collect()
    }

    #[test]
    fn pieces_find_their_call_however_it_is_marked() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            (
                "as described",
                &[
                    r#"[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]"#,
                    r#"[{"index":0,"function":{"arguments":"{\"x\""}}]"#,
                    r#"[{"index":0,"function":{"arguments":":1}"}}]"#,
                    r#"[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]"#,
                ],
                &[r#"a f({"x":1})"#, "b g({})"],
            ),
            (
                "interleaved",
                &[
                    r#"[{"index":0,"id":"a","function":{"name":"f","arguments":""}},{"index":1,"id":"b","function":{"name":"g","arguments":""}}]"#,
                    r#"[{"index":1,"function":{"arguments":"[2]"}},{"index":0,"function":{"arguments":"[1]"}}]"#,
                ],
                &["a f([1])", "b g([2])"],
            ),
            (
                "every call has index 0",
                &[
                    r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]"#,
                    r#"[{"index":0,"id":"b","function":{"name":"f","arguments":"{}"}}]"#,
                ],
                &["a f({})", "b f({})"],
            ),
            (
                "one index twice in one delta",
                &[
                    r#"[{"index":0,"id":"a","function":{"name":"f"}},{"index":0,"function":{"arguments":"{\"x\":"}}]"#,
                    r#"[{"index":0,"function":{"arguments":"1"}},{"index":0,"function":{"arguments":"}"}}]"#,
                ],
                &[r#"a f({"x":1})"#],
            ),
            (
                "indices that jump",
                &[
                    r#"[{"index":3,"id":"a","function":{"name":"f","arguments":""}}]"#,
                    r#"[{"index":7,"id":"b","function":{"name":"g","arguments":""}}]"#,
                    r#"[{"index":3,"function":{"arguments":"3"}}]"#,
                    r#"[{"index":7,"function":{"arguments":"7"}}]"#,
                ],
                &["a f(3)", "b g(7)"],
            ),
            (
                "id and name with every piece",
                &[
                    r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]"#,
                    r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]"#,
                ],
                &["a f({})"],
            ),
            (
                "empty ids and names behind the first piece",
                &[
                    r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]"#,
                    r#"[{"index":0,"id":"","function":{"name":"","arguments":"}"}}]"#,
                    r#"[{"index":0,"id":null,"function":{"name":null,"arguments":null}}]"#,
                ],
                &["a f({})"],
            ),
            (
                "no ids and no indices",
                &[
                    r#"[{"function":{"name":"f","arguments":{"x":1}}},{"function":{"name":"f","arguments":{"x":2}}}]"#,
                    r#"[{"function":{"name":"g","arguments":{}}}]"#,
                ],
                &[r#" f({"x":1})"#, r#" f({"x":2})"#, " g({})"],
            ),
            (
                "one id for all",
                &[
                    r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}},{"index":1,"id":"a","function":{"name":"g","arguments":"{}"}}]"#,
                ],
                &["a f({})", " g({})"],
            ),
            (
                "an id of an earlier round",
                &[r#"[{"index":0,"id":"call_old","function":{"name":"f","arguments":"{}"}}]"#],
                &[" f({})"],
            ),
            (
                "an id that comes late",
                &[
                    r#"[{"index":0,"function":{"name":"f","arguments":"{"}}]"#,
                    r#"[{"index":0,"id":"a","function":{"arguments":"}"}}]"#,
                ],
                &[" f({})"],
            ),
            (
                "a name in pieces",
                &[
                    r#"[{"index":0,"id":"a","function":{"name":"get_"}}]"#,
                    r#"[{"index":0,"id":"a","function":{"name":"time","arguments":"{}"}}]"#,
                ],
                &["a get_time({})"],
            ),
        ];
        for (what, deltas, expected) in rows {
            assert_eq!(called(deltas), *expected, "{what}");
        }
    }
}
