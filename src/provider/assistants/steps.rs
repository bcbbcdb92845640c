//! The run steps, from the upstream's events to ours: a step is reported when it begins, changes or ends, and never
//! twice the same.
//!
//! Calls are told apart by their ids; by their index only where a piece comes without one, since upstreams leave
//! indexes out, skip them, or give several calls the same.

use serde_json::Value;

use super::calls::{Body, join_output, kind_of_call, output_value};
use super::wire;
use crate::protocol::{RunStep, StepCall};
use crate::provider::json::{camel_case, camel_keys};
use crate::provider::{Event, ToolCall};

/// The steps as known by now.
#[derive(Debug, Default)]
pub struct Steps {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    step: RunStep,
    /// As it was reported last.
    reported: Option<RunStep>,
    /// For each call, where its pieces belong.
    places: Vec<Place>,
}

#[derive(Debug, Default)]
struct Place {
    index: Option<u64>,
    /// How many bytes of the arguments have been told piece by piece.
    told: usize,
    /// The indexes of its outputs.
    outputs: Vec<Option<u64>>,
}

impl Steps {
    /// Any event of a step but its delta; `status` is the event's own word.
    pub fn accept(&mut self, wire: wire::Step, status: &str, out: &mut Vec<Event>) {
        let known = self.step(wire.id.as_deref().unwrap_or_default());
        let details = wire.step_details.unwrap_or_default();
        if let Some(kind) = wire.kind.or(details.kind) {
            known.step.kind = kind_of_step(&kind);
        }
        let status = wire
            .status
            .as_deref()
            .unwrap_or(if status == "created" { "in_progress" } else { status });
        known.step.status = camel_case(status);
        for (place, call) in details.tool_calls.unwrap_or_default().iter().enumerate() {
            known.accept_call(call, Some(place), out);
        }
        if let Some(error) = wire.last_error {
            known.step.error = Some(error.into());
        }
        if let Some(usage) = &wire.usage {
            known.step.usage = Some(usage.into());
        }
        known.report(out);
    }

    /// `thread.run.step.delta`, which may be of a step that was begun in another stream.
    pub fn accept_delta(&mut self, wire: wire::Step, out: &mut Vec<Event>) {
        let known = self.step(wire.id.as_deref().unwrap_or_default());
        let details = wire
            .delta
            .and_then(|delta| delta.step_details)
            .or(wire.step_details)
            .unwrap_or_default();
        if let Some(kind) = details.kind {
            known.step.kind = kind_of_step(&kind);
        }
        let mut changed = false;
        let mut pieces = Vec::new();
        for call in details.tool_calls.iter().flatten() {
            changed |= known.accept_call(call, None, &mut pieces);
        }
        // The step first: whoever gets a piece of a call's arguments knows the call.
        if changed {
            known.report(out);
        }
        out.append(&mut pieces);
    }

    /// Reports what has changed since the last report: the arguments have, without a word, if the run ends or waits.
    pub fn report(&mut self, out: &mut Vec<Event>) {
        for known in &mut self.known {
            known.report(out);
        }
    }

    /// The function calls that have no output.
    pub fn unanswered(&self) -> Vec<ToolCall> {
        let calls = self.known.iter().flat_map(|known| &known.step.calls);
        calls
            .filter(|call| call.kind == "function" && call.output.is_none())
            .map(|call| ToolCall {
                id: call.call_id.clone(),
                name: call.name.clone().unwrap_or_default(),
                arguments: call.arguments.clone().unwrap_or_default(),
            })
            .collect()
    }

    fn step(&mut self, id: &str) -> &mut Known {
        let place = self.known.iter().position(|known| known.step.id == id);
        let place = place.unwrap_or_else(|| {
            self.known.push(Known::new(id));
            self.known.len() - 1
        });
        &mut self.known[place]
    }
}

impl Known {
    fn new(id: &str) -> Self {
        Known {
            step: RunStep {
                id: id.to_owned(),
                kind: "toolCalls".into(),
                status: "inProgress".into(),
                calls: Vec::new(),
                error: None,
                usage: None,
            },
            reported: None,
            places: Vec::new(),
        }
    }

    fn report(&mut self, out: &mut Vec<Event>) {
        if self.reported.as_ref() != Some(&self.step) {
            self.reported = Some(self.step.clone());
            out.push(Event::Step(self.step.clone()));
        }
    }

    /// Takes in a call or a piece of one; `whole` is its place in a whole list. Gives whether more than its arguments
    /// has changed: those may be long, and come in many pieces.
    fn accept_call(&mut self, wire: &Value, whole: Option<usize>, out: &mut Vec<Event>) -> bool {
        let (place, is_new) = self.find(wire, whole);
        let call = &mut self.step.calls[place];
        let arguments = call.arguments.take();
        let before = call.clone();
        set(&mut call.call_id, &wire["id"]);
        let body = Body::of(wire);
        if !body.kind.is_empty() {
            call.kind = kind_of_call(body.kind);
        }
        call.name = body.name.map(str::to_owned).or(call.name.take());
        call.output = body.output.map(str::to_owned).or(call.output.take());
        if let Some(other) = body.other {
            call.outputs = vec![camel_keys(other)];
        }
        self.accept_outputs(place, body.outputs, whole.is_some());
        let changed = is_new || self.step.calls[place] != before;
        self.step.calls[place].arguments = match (arguments, body.arguments) {
            (None, piece) => piece.map(str::to_owned),
            (Some(all), None) => Some(all),
            (Some(before), Some(piece)) if whole.is_none() => Some(before + piece),
            (Some(before), Some("")) => Some(before),
            (Some(_), Some(all)) => Some(all.to_owned()),
        };
        if whole.is_none() {
            self.tell_arguments(place, out);
        }
        changed
    }

    /// The place of a call, made if there is none.
    fn find(&mut self, wire: &Value, whole: Option<usize>) -> (usize, bool) {
        let index = wire["index"].as_u64();
        let id = wire["id"].as_str().filter(|id| !id.is_empty());
        let nameless = |call: &StepCall| call.call_id.is_empty();
        let found = match (id, index) {
            (Some(id), _) => {
                let by_id = self.step.calls.iter().position(|call| call.call_id == id);
                by_id.or_else(|| {
                    let index = index.or(whole.map(|place| place as u64));
                    self.last_with(index).filter(|&place| nameless(&self.step.calls[place]))
                })
            }
            (None, Some(index)) => self.last_with(Some(index)),
            // A whole list without ids and indexes is told apart by places, a piece belongs to the newest call.
            (None, None) => whole
                .or(self.step.calls.len().checked_sub(1))
                .filter(|&place| place < self.places.len()),
        };
        let is_new = found.is_none();
        let place = found.unwrap_or_else(|| {
            self.step.calls.push(StepCall::default());
            self.places.push(Place::default());
            self.places.len() - 1
        });
        if index.is_some() {
            self.places[place].index = index;
        }
        (place, is_new)
    }

    fn last_with(&self, index: Option<u64>) -> Option<usize> {
        self.places
            .iter()
            .rposition(|place| place.index.is_some() && place.index == index)
    }

    fn accept_outputs(&mut self, place: usize, outputs: &Value, whole: bool) {
        let Some(outputs) = outputs.as_array().filter(|outputs| !outputs.is_empty()) else {
            return;
        };
        let (call, indexes) = (&mut self.step.calls[place], &mut self.places[place].outputs);
        if whole {
            call.outputs.clear();
            indexes.clear();
        }
        for output in outputs {
            let index = output["index"].as_u64();
            let known = index.and_then(|index| indexes.iter().position(|known| *known == Some(index)));
            match known {
                Some(known) => join_output(&mut call.outputs[known], output),
                None => {
                    indexes.push(index);
                    call.outputs.push(output_value(output));
                }
            }
        }
    }

    /// Tells what is new of a call's arguments, once it is known whose they are.
    fn tell_arguments(&mut self, place: usize, out: &mut Vec<Event>) {
        let call = &self.step.calls[place];
        let told = &mut self.places[place].told;
        let arguments = call.arguments.as_deref().unwrap_or_default();
        let Some(piece) = arguments
            .get(*told..)
            .filter(|piece| !piece.is_empty() && !call.call_id.is_empty())
        else {
            return;
        };
        *told = arguments.len();
        out.push(Event::ToolArguments {
            step_id: self.step.id.clone(),
            call_id: call.call_id.clone(),
            name: call.name.clone(),
            text: piece.to_owned(),
        });
    }
}

fn kind_of_step(kind: &str) -> String {
    match kind {
        "message_creation" => "message".into(),
        "tool_calls" => "toolCalls".into(),
        other => other.to_owned(),
    }
}

fn set(text: &mut String, value: &Value) {
    if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
        *text = value.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delta(steps: &mut Steps, calls: Value) -> Vec<Event> {
        let mut out = Vec::new();
        let wire = json!({ "id": "s", "delta": { "step_details": { "type": "tool_calls", "tool_calls": calls } } });
        steps.accept_delta(serde_json::from_value(wire).unwrap(), &mut out);
        out
    }

    fn pieces(events: &[Event]) -> Vec<(&str, &str)> {
        let pieces = events.iter().filter_map(|event| match event {
            Event::ToolArguments { call_id, text, .. } => Some((call_id.as_str(), text.as_str())),
            _ => None,
        });
        pieces.collect()
    }

    #[test]
    fn pieces_belong_to_the_call_of_their_index_whatever_the_gaps() {
        let mut steps = Steps::default();
        delta(
            &mut steps,
            json!([{ "index": 3, "id": "a", "type": "function", "function": { "name": "f" } }]),
        );
        delta(
            &mut steps,
            json!([{ "index": 0, "id": "b", "type": "function", "function": { "name": "g" } }]),
        );
        let events = delta(
            &mut steps,
            json!([
                { "index": 3, "type": "function", "function": { "arguments": "1" } },
                { "index": 0, "type": "function", "function": { "arguments": "2" } }
            ]),
        );
        assert_eq!(pieces(&events), [("a", "1"), ("b", "2")]);
        assert_eq!(events.len(), 2, "arguments alone are no change of the step");
    }

    #[test]
    fn one_index_for_several_calls_and_several_for_one_are_sorted_out_by_id() {
        let mut steps = Steps::default();
        delta(
            &mut steps,
            json!([{ "index": 0, "id": "a", "type": "function", "function": { "arguments": "1" } }]),
        );
        let events = delta(
            &mut steps,
            json!([{ "index": 0, "id": "b", "type": "function", "function": { "arguments": "2" } }]),
        );
        assert_eq!(pieces(&events), [("b", "2")]);
        let events = delta(
            &mut steps,
            json!([{ "index": 0, "type": "function", "function": { "arguments": "3" } }]),
        );
        assert_eq!(pieces(&events), [("b", "3")]);
        let events = delta(
            &mut steps,
            json!([{ "index": 9, "id": "a", "type": "function", "function": { "arguments": "4" } }]),
        );
        assert_eq!(pieces(&events), [("a", "4")]);
    }

    #[test]
    fn arguments_wait_until_it_is_known_whose_they_are() {
        let mut steps = Steps::default();
        assert_eq!(
            pieces(&delta(
                &mut steps,
                json!([{ "index": 0, "type": "function", "function": { "arguments": "1" } }])
            )),
            []
        );
        let events = delta(
            &mut steps,
            json!([{ "index": 0, "id": "a", "type": "function", "function": { "arguments": "2" } }]),
        );
        assert_eq!(pieces(&events), [("a", "12")]);
    }

    #[test]
    fn code_and_what_it_printed_grow() {
        let mut steps = Steps::default();
        let code =
            |body: Value| json!([{ "index": 0, "id": "c", "type": "code_interpreter", "code_interpreter": body }]);
        delta(&mut steps, code(json!({ "input": "print(1", "outputs": [] })));
        let events = delta(&mut steps, code(json!({ "input": ")" })));
        assert_eq!(pieces(&events), [("c", ")")]);
        delta(
            &mut steps,
            code(json!({ "outputs": [{ "index": 0, "type": "logs", "logs": "1" }] })),
        );
        let events = delta(
            &mut steps,
            code(json!({ "outputs": [
                { "index": 0, "type": "logs", "logs": "\n" },
                { "index": 1, "type": "image", "image": { "file_id": "file_1" } }
            ] })),
        );
        let [Event::Step(step)] = &events[..] else {
            panic!("one step: {events:?}");
        };
        assert_eq!(step.calls[0].kind, "codeInterpreter");
        assert_eq!(step.calls[0].arguments.as_deref(), Some("print(1)"));
        assert_eq!(
            step.calls[0].outputs,
            [
                json!({ "type": "logs", "logs": "1\n" }),
                json!({ "type": "image", "fileId": "file_1" })
            ]
        );
    }

    #[test]
    fn a_step_that_has_not_changed_is_not_reported_again() {
        let mut steps = Steps::default();
        let step = json!({ "id": "s", "type": "tool_calls", "status": "completed", "step_details": { "type": "tool_calls",
            "tool_calls": [{ "id": "x", "type": "bing_grounding", "bing_grounding": { "request_url": "u" } }] } });
        let mut out = Vec::new();
        for _ in 0..3 {
            steps.accept(serde_json::from_value(step.clone()).unwrap(), "completed", &mut out);
            steps.report(&mut out);
        }
        let [Event::Step(step)] = &out[..] else {
            panic!("one step: {out:?}");
        };
        assert_eq!(step.calls[0].kind, "bing_grounding");
        assert_eq!(step.calls[0].outputs, [json!({ "requestUrl": "u" })]);
    }
}
