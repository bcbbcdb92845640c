//! One item of the output that is no message: a call of the client's, or something that the upstream did itself. It
//! becomes a run step, reported when it begins, changes or ends, and never twice the same.
//!
//! Items are an open set of kinds; those without words of our own are passed on whole.

use serde_json::{Map, Value, json};

use crate::protocol::{RunStep, StepCall, StepError};
use crate::provider::json::{camel_case, camel_keys};
use crate::provider::{Event, ToolCall};

/// An item as known by now.
#[derive(Debug)]
pub struct Call {
    step: RunStep,
    /// As it was reported last.
    reported: Option<RunStep>,
    /// What has been written of the arguments.
    arguments: String,
    /// How many bytes of them have been told piece by piece.
    told: usize,
    /// Which of the item's texts the last piece belonged to.
    last_part: Option<u32>,
    /// Whether the upstream has said what is called: pieces wait for that.
    is_named: bool,
}

impl Call {
    /// An item of this kind and id, of which nothing else is known.
    pub fn new(kind: &str, id: &str) -> Self {
        let is_call = !matches!(kind, "reasoning" | "compaction");
        let call = StepCall {
            call_id: id.to_owned(),
            kind: kind_of_call(kind),
            ..StepCall::default()
        };
        Call {
            step: RunStep {
                id: id.to_owned(),
                kind: if is_call { "toolCalls".into() } else { kind.to_owned() },
                status: "inProgress".into(),
                calls: if is_call { vec![call] } else { Vec::new() },
                error: None,
                usage: None,
            },
            reported: None,
            arguments: String::new(),
            told: 0,
            last_part: None,
            is_named: !is_clients(kind),
        }
    }

    /// The item, whole or as far as it is.
    pub fn accept(&mut self, kind: &str, item: &Value, is_done: bool, out: &mut Vec<Event>) {
        self.step.status = status_of(kind, item, is_done);
        if let Some(error) = error_of(&item["error"]) {
            self.step.error = Some(error);
            self.step.status = "failed".into();
        }
        if let Some(call) = self.step.calls.first_mut() {
            let body = Body::of(kind, item);
            if let Some(id) = item["call_id"].as_str().filter(|id| !id.is_empty()) {
                call.call_id = id.to_owned();
                self.is_named = true;
            }
            call.name = body.name.or(call.name.take());
            call.output = body.output.or(call.output.take());
            if !body.outputs.is_empty() {
                call.outputs = body.outputs;
            }
            // An item that begins may have them already, and they come piece by piece all the same.
            if is_done {
                self.arguments = body.arguments.unwrap_or(std::mem::take(&mut self.arguments));
                call.arguments = Some(self.arguments.clone()).filter(|arguments| !arguments.is_empty());
            }
        }
        self.report(out);
        if is_clients(kind) {
            self.tell(out);
        }
    }

    /// A state of its own, such as `searching`.
    pub fn turn(&mut self, kind: &str, state: &str, out: &mut Vec<Event>) {
        self.step.status = status_of(kind, &json!({ "status": state }), false);
        self.report(out);
    }

    /// A piece of its arguments or code; `part` where the item has several texts.
    pub fn piece(&mut self, part: Option<u32>, piece: &str, out: &mut Vec<Event>) {
        let is_other = self.last_part.is_some() && self.last_part != part;
        self.last_part = part.or(self.last_part);
        if is_other && part.is_some() {
            self.arguments.push('\n');
        }
        self.arguments.push_str(piece);
        self.tell(out);
    }

    /// All of its arguments or code.
    pub fn whole(&mut self, part: Option<u32>, text: String, out: &mut Vec<Event>) {
        if part.is_none_or(|part| part == 0) && text.len() >= self.arguments.len() {
            self.arguments = text;
        }
        self.tell(out);
    }

    /// The call, if it is the client's to answer.
    pub fn wanted(&self, kind: &str) -> Option<ToolCall> {
        let call = self
            .step
            .calls
            .first()
            .filter(|call| is_clients(kind) && call.output.is_none())?;
        Some(ToolCall {
            id: call.call_id.clone(),
            name: call.name.clone().unwrap_or_default(),
            arguments: match kind {
                // A custom tool takes any text; what is called takes JSON.
                "custom_tool_call" => json!({ "input": self.arguments }).to_string(),
                _ => self.arguments.clone(),
            },
        })
    }

    /// Reports what has changed since the last report: the arguments have, without a word, when the item ends.
    fn report(&mut self, out: &mut Vec<Event>) {
        if self.reported.as_ref() != Some(&self.step) {
            self.reported = Some(self.step.clone());
            out.push(Event::Step(self.step.clone()));
        }
    }

    /// Tells what is new of the arguments, once it is known whose they are.
    fn tell(&mut self, out: &mut Vec<Event>) {
        let (Some(call), true) = (self.step.calls.first(), self.is_named) else {
            return;
        };
        let Some(piece) = self.arguments.get(self.told..).filter(|piece| !piece.is_empty()) else {
            return;
        };
        self.told = self.arguments.len();
        out.push(Event::ToolArguments {
            step_id: self.step.id.clone(),
            call_id: call.call_id.clone(),
            name: call.name.clone(),
            text: piece.to_owned(),
        });
    }
}

/// Whether items of this kind are calls that the client answers.
pub fn is_clients(kind: &str) -> bool {
    matches!(kind, "function_call" | "custom_tool_call")
}

/// What an item says of itself, in our words.
#[derive(Default)]
struct Body {
    name: Option<String>,
    arguments: Option<String>,
    output: Option<String>,
    outputs: Vec<Value>,
}

impl Body {
    fn of(kind: &str, item: &Value) -> Body {
        let text = |name: &str| item[name].as_str().map(str::to_owned);
        let list = |name: &str| item[name].as_array().cloned().unwrap_or_default();
        let json = |name: &str| item.get(name).filter(|value| !value.is_null()).map(Value::to_string);
        match kind {
            "function_call" | "mcp_call" | "mcp_approval_request" => Body {
                name: text("name"),
                arguments: text("arguments"),
                output: text("output"),
                ..Body::default()
            },
            "custom_tool_call" => Body {
                name: text("name"),
                arguments: text("input"),
                ..Body::default()
            },
            "code_interpreter_call" => Body {
                arguments: text("code"),
                outputs: list("outputs").iter().map(camel_keys).collect(),
                ..Body::default()
            },
            "file_search_call" => Body {
                arguments: json("queries").filter(|queries| queries != "[]"),
                outputs: list("results").iter().map(shallow).collect(),
                ..Body::default()
            },
            "web_search_call" => Body {
                arguments: json("action"),
                outputs: list("results").iter().map(shallow).collect(),
                ..Body::default()
            },
            "mcp_list_tools" => Body {
                name: text("server_label"),
                outputs: list("tools").iter().map(name_of_tool).collect(),
                ..Body::default()
            },
            "shell_call" | "local_shell_call" => Body {
                arguments: commands(&item["action"]),
                ..Body::default()
            },
            "apply_patch_call" => Body {
                arguments: json("operation"),
                ..Body::default()
            },
            "image_generation_call" => Body {
                arguments: text("revised_prompt"),
                ..Body::default()
            },
            _ => Body {
                outputs: others(item),
                ..Body::default()
            },
        }
    }
}

/// The commands, one a line; a local shell has one, in words.
fn commands(action: &Value) -> Option<String> {
    let words = |list: &Value, between: &str| {
        let words = list.as_array()?.iter().filter_map(Value::as_str);
        Some(words.collect::<Vec<_>>().join(between))
    };
    words(&action["commands"], "\n").or_else(|| words(&action["command"], " "))
}

/// An MCP server's tool without its schema, which is long.
fn name_of_tool(tool: &Value) -> Value {
    json!({ "name": tool["name"], "description": tool["description"] })
}

/// What an item of an unknown kind says, if it says anything.
fn others(item: &Value) -> Vec<Value> {
    let known = ["id", "type", "status", "call_id", "encrypted_content"];
    let members = item.as_object().into_iter().flatten();
    let rest: Map<String, Value> = members
        .filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (camel_case(name), value.clone()))
        .collect();
    if rest.is_empty() {
        Vec::new()
    } else {
        vec![Value::Object(rest)]
    }
}

/// The same with its own members' names in camelCase; what is below may be the user's.
fn shallow(value: &Value) -> Value {
    let Some(members) = value.as_object() else {
        return value.clone();
    };
    let members = members.iter().map(|(name, value)| (camel_case(name), value.clone()));
    Value::Object(members.collect())
}

/// `code_interpreter_call` → `codeInterpreter`
fn kind_of_call(kind: &str) -> String {
    let name = match kind {
        "custom_tool_call" => "custom",
        "mcp_list_tools" | "mcp_approval_request" => kind,
        kind => kind.strip_suffix("_call").unwrap_or(kind),
    };
    camel_case(name)
}

/// A call of the client's is under way until the client has answered it, whatever the upstream says.
fn status_of(kind: &str, item: &Value, is_done: bool) -> String {
    let status = match item["status"].as_str() {
        Some("failed" | "incomplete") => "failed",
        Some("cancelled") => "cancelled",
        _ if is_clients(kind) => "inProgress",
        Some("completed") => "completed",
        _ if is_done => "completed",
        _ => "inProgress",
    };
    status.to_owned()
}

/// Why an item failed: a text, or an object of many shapes.
fn error_of(error: &Value) -> Option<StepError> {
    let text = |name: &str| match &error[name] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    match error {
        Value::String(message) if !message.is_empty() => Some(StepError {
            code: String::new(),
            message: message.clone(),
        }),
        Value::Object(_) => Some(StepError {
            code: Some(text("code"))
                .filter(|code| !code.is_empty())
                .unwrap_or_else(|| text("type")),
            message: text("message"),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: &str, item: Value) -> RunStep {
        let mut out = Vec::new();
        let mut call = Call::new(kind, "item_1");
        call.accept(kind, &item, true, &mut out);
        let mut steps = out.into_iter().filter_map(|event| match event {
            Event::Step(step) => Some(step),
            _ => None,
        });
        steps.next_back().unwrap()
    }

    #[test]
    fn every_kind_of_item_says_what_it_did() {
        let rows = [
            (
                "code_interpreter_call",
                json!({ "code": "1", "outputs": [{ "type": "logs", "logs": "x" }], "status": "completed" }),
                ("codeInterpreter", Some("1"), json!([{ "type": "logs", "logs": "x" }])),
            ),
            (
                "file_search_call",
                json!({ "queries": ["q"], "results": [{ "file_id": "f", "attributes": { "a_b": 1 } }] }),
                (
                    "fileSearch",
                    Some("[\"q\"]"),
                    json!([{ "fileId": "f", "attributes": { "a_b": 1 } }]),
                ),
            ),
            (
                "web_search_call",
                json!({ "action": { "query": "q" } }),
                ("webSearch", Some("{\"query\":\"q\"}"), json!([])),
            ),
            (
                "shell_call",
                json!({ "call_id": "c", "action": { "commands": ["a", "b"] } }),
                ("shell", Some("a\nb"), json!([])),
            ),
            (
                "local_shell_call",
                json!({ "action": { "command": ["ls", "-a"] } }),
                ("localShell", Some("ls -a"), json!([])),
            ),
            (
                "mcp_list_tools",
                json!({ "server_label": "s", "tools": [{ "name": "t", "input_schema": {} }] }),
                ("mcpListTools", None, json!([{ "name": "t", "description": null }])),
            ),
            (
                "program_output",
                json!({ "id": "p", "call_id": "c", "result": "42" }),
                ("programOutput", None, json!([{ "result": "42" }])),
            ),
        ];
        for (kind, item, (expected, arguments, outputs)) in rows {
            let step = step(kind, item);
            let call = &step.calls[0];
            assert_eq!((step.status.as_str(), call.kind.as_str()), ("completed", expected));
            assert_eq!(call.arguments.as_deref(), arguments, "{kind}");
            assert_eq!(Value::from(call.outputs.clone()), outputs, "{kind}");
        }
    }

    #[test]
    fn a_failed_item_says_why() {
        let text = step("mcp_call", json!({ "name": "n", "error": "refused" }));
        assert_eq!(
            (text.status.as_str(), text.error.unwrap().message.as_str()),
            ("failed", "refused")
        );
        let object = step(
            "mcp_call",
            json!({ "error": { "type": "http_error", "code": 503, "message": "m" } }),
        );
        assert_eq!(object.error.unwrap().code, "503");
    }

    #[test]
    fn pieces_wait_until_it_is_known_whose_they_are() {
        let mut out = Vec::new();
        let mut call = Call::new("function_call", "fc_1");
        call.piece(None, "{\"a", &mut out);
        assert_eq!(out, []);
        call.accept(
            "function_call",
            &json!({ "call_id": "call_1", "name": "f", "arguments": "" }),
            false,
            &mut out,
        );
        let Some(Event::ToolArguments { call_id, text, .. }) = out.last() else {
            panic!("{out:?}");
        };
        assert_eq!((call_id.as_str(), text.as_str()), ("call_1", "{\"a"));
        assert_eq!(call.wanted("function_call").unwrap().arguments, "{\"a");
    }
}
