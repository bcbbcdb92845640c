//! The tools of a run: those of the upstream's assistant, those of the request, and what reads the files of the thread.
//!
//! Pure.

use serde::Serialize;
use serde_json::{Map, Value};

use super::files;
use crate::protocol::Tool;
use crate::provider::Request;

/// The assistant's own tools, then those that the request adds, then what reads the files of the thread; what the request
/// adds takes the place of an own tool of the same kind or name. Nothing where nothing is added.
pub fn tools<'a>(own: &'a [Value], request: &'a Request) -> Vec<ToolBody<'a>> {
    let added = &request.tools;
    let upstream_tools = request.options.upstream_tools.as_deref().unwrap_or_default();
    let is_kept = |tool: &&Value| {
        let name = tool["function"]["name"].as_str();
        let is_in_place = |added: &Map<String, Value>| name.is_none() && added.get("type") == Some(&tool["type"]);
        added.iter().all(|added| Some(&*added.name) != name) && !upstream_tools.iter().any(is_in_place)
    };
    let is_there = |kind: &Value| {
        let own = own.iter().map(|tool| &tool["type"]);
        let added = upstream_tools.iter().filter_map(|tool| tool.get("type"));
        own.chain(added).any(|known| *known == kind["type"])
    };
    let mut readers = files::tools_for(&request.conversation.messages);
    readers.retain(|reader| !is_there(reader));
    if added.is_empty() && upstream_tools.is_empty() && readers.is_empty() {
        return Vec::new();
    }
    let own = own.iter().filter(is_kept).map(ToolBody::Own);
    let added = added.iter().map(ToolBody::from);
    own.chain(added)
        .chain(upstream_tools.iter().map(ToolBody::Upstream))
        .chain(readers.into_iter().map(ToolBody::Reader))
        .collect()
}

/// One tool of a run.
#[derive(Serialize)]
#[serde(untagged)]
pub enum ToolBody<'a> {
    /// One of the assistant's, as it came.
    Own(&'a Value),
    /// One that the upstream runs, as the request has it.
    Upstream(&'a Map<String, Value>),
    /// One that reads files.
    Reader(Value),
    /// One of the request's.
    Added {
        r#type: &'static str,
        function: FunctionBody<'a>,
    },
}

/// A function that the model may call.
#[derive(Serialize)]
pub struct FunctionBody<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

impl<'a> From<&'a Tool> for ToolBody<'a> {
    fn from(tool: &'a Tool) -> Self {
        ToolBody::Added {
            r#type: "function",
            function: FunctionBody {
                name: &tool.name,
                description: tool.description.as_deref(),
                parameters: tool.parameters.as_ref(),
                strict: tool.strict,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::protocol::{Part, Role};
    use crate::thread::Message;

    fn request() -> Request {
        Request {
            model: None,
            instructions: None,
            conversation: Arc::default(),
            tools: Vec::new(),
            options: Default::default(),
            anchor: None,
            rounds: Vec::new(),
            cancel: CancellationToken::new(),
        }
    }

    fn added(name: &str) -> Tool {
        serde_json::from_value(json!({ "name": name, "description": "the request's" })).unwrap()
    }

    #[test]
    fn own_tools_come_first_and_a_function_of_the_same_name_is_the_requests() {
        let own = [
            json!({ "type": "file_search", "file_search": { "max_num_results": 5 } }),
            json!({ "type": "function", "function": { "name": "weather", "description": "the assistant's" } }),
            json!({ "type": "function", "function": { "name": "time", "strict": true } }),
        ];
        let mut request = Request {
            tools: vec![added("file_search"), added("weather")],
            ..request()
        };
        let merged = serde_json::to_value(tools(&own, &request)).unwrap();
        let function =
            |name: &str| json!({ "type": "function", "function": { "name": name, "description": "the request's" } });
        assert_eq!(
            merged,
            json!([own[0], own[2], function("file_search"), function("weather")])
        );

        request.tools.clear();
        assert!(tools(&own, &request).is_empty(), "the assistant keeps its own");
        let search = json!({ "type": "file_search", "file_search": { "max_num_results": 9 } });
        request.options.upstream_tools = Some(vec![search.as_object().unwrap().clone()]);
        let merged = serde_json::to_value(tools(&own, &request)).unwrap();
        assert_eq!(merged, json!([own[1], own[2], search]));
    }

    #[test]
    fn files_bring_the_tool_that_reads_them_unless_it_is_there() {
        let mut message = Message::text("u1", Role::User, "x");
        for name in ["a.pdf", "b.pdf", "c.csv"] {
            message.content.push(Part::File(crate::protocol::File {
                file_id: Some("file_1".into()),
                name: Some(name.into()),
                ..Default::default()
            }));
        }
        let mut request = request();
        request.conversation = Arc::new(crate::thread::Conversation {
            messages: vec![message],
            ..Default::default()
        });
        let own = [json!({ "type": "file_search", "file_search": { "max_num_results": 5 } })];
        let merged = serde_json::to_value(tools(&own, &request)).unwrap();
        assert_eq!(merged, json!([own[0], { "type": "code_interpreter" }]));
        let merged = serde_json::to_value(tools(&[], &request)).unwrap();
        assert_eq!(
            merged,
            json!([{ "type": "file_search" }, { "type": "code_interpreter" }])
        );
    }
}
