//! What is sent: a table of requests and their bodies.

use assistd::protocol::{Format, Options, Part, Tool, ToolOutput};
use assistd::provider::{Round, ToolCall};

use super::*;
use crate::upstream::Recorded;

/// The request that is sent for this one.
async fn sent(request: Request) -> Recorded {
    let upstream = Upstream::start([Reply::events(whole("a"))]).await;
    let (_, end) = play(&provider(&upstream), request).await;
    assert_eq!(end, END_TURN);
    upstream.requests().remove(0)
}

pub fn tool(name: &str) -> Tool {
    serde_json::from_value(json!({ "name": name, "description": "d", "parameters": { "type": "object", "properties": { "x": { "type": "number" } } }, "strict": false })).unwrap()
}

pub fn round(text: &str, id: &str) -> Round {
    Round {
        text: text.into(),
        calls: vec![ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: r#"{"x":1}"#.into(),
        }],
        outputs: vec![ToolOutput {
            call_id: id.into(),
            output: format!("output of {id}"),
            is_error: false,
        }],
        carry: None,
    }
}

fn called(content: Value, id: &str) -> Value {
    json!({ "role": "assistant", "content": content, "tool_calls": [{ "id": id, "type": "function", "function": { "name": "f", "arguments": "{\"x\":1}" } }] })
}

fn output(id: &str) -> Value {
    json!({ "role": "tool", "tool_call_id": id, "content": format!("output of {id}") })
}

#[tokio::test]
async fn a_plain_request_says_no_more_than_it_must() {
    let request = sent(request("u1:hello a1:hi u2:bye")).await;
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/v1/chat/completions")
    );
    assert_eq!(request.header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(
        request.json(),
        json!({
            "model": "m",
            "messages": [
                { "role": "user", "content": "hello" },
                { "role": "assistant", "content": "hi" },
                { "role": "user", "content": "bye" },
            ],
            "stream": true,
            "stream_options": { "include_usage": true },
        })
    );
}

#[tokio::test]
async fn each_option_has_its_member() {
    let mut asked = request("u1:hello");
    asked.instructions = Some("Be brief.".into());
    asked.tools = vec![
        tool("f"),
        Tool {
            name: "g".into(),
            description: None,
            parameters: None,
            strict: None,
        },
    ];
    let web_search = json!({ "type": "web_search" });
    asked.options = Options {
        temperature: Some(0.0),
        top_p: Some(0.5),
        seed: Some(7),
        max_output_tokens: Some(30),
        tool_choice: Some("f".into()),
        parallel_tool_calls: Some(false),
        reasoning_effort: Some("low".into()),
        format: Some(Format::JsonSchema {
            name: None,
            description: Some("d".into()),
            schema: json!({ "type": "object" }).as_object().unwrap().clone(),
            strict: None,
        }),
        upstream_tools: Some(vec![web_search.as_object().unwrap().clone()]),
        ..Options::default()
    };
    let body = sent(asked.clone()).await.json();
    assert_eq!(
        body,
        json!({
            "model": "m",
            "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hello" }],
            "tools": [
                { "type": "function", "function": { "name": "f", "description": "d", "parameters": { "type": "object", "properties": { "x": { "type": "number" } } }, "strict": false } },
                { "type": "function", "function": { "name": "g", "parameters": { "type": "object", "properties": {} } } },
                { "type": "web_search" },
            ],
            "tool_choice": { "type": "function", "function": { "name": "f" } },
            "parallel_tool_calls": false,
            "temperature": 0.0,
            "top_p": 0.5,
            "seed": 7,
            "max_tokens": 30,
            "reasoning_effort": "low",
            "response_format": { "type": "json_schema", "json_schema": { "name": "answer", "description": "d", "schema": { "type": "object" }, "strict": true } },
            "stream": true,
            "stream_options": { "include_usage": true },
        })
    );
    asked.tools.clear();
    asked.options.tool_choice = Some("required".into());
    asked.options.format = Some(Format::JsonObject);
    let body = sent(asked).await.json();
    assert_eq!(
        (&body["tool_choice"], &body["parallel_tool_calls"]),
        (&Value::Null, &Value::Null),
        "without tools"
    );
    assert_eq!(body["response_format"], json!({ "type": "json_object" }));
}

#[tokio::test]
async fn the_settings_add_to_the_body_and_have_the_last_word() {
    let upstream = Upstream::start([Reply::events(whole("a"))]).await;
    let mut settings = settings(&upstream);
    let body = json!({ "top_k": 20, "stream_options": { "chunk": 1 }, "seed": 1, "provider": { "order": ["x"] } });
    settings.body = body.as_object().unwrap().clone();
    let mut asked = request("u1:hello");
    asked.options.seed = Some(7);
    play(&provider_with(&settings), asked).await;
    let body = upstream.requests()[0].json();
    assert_eq!(body["stream_options"], json!({ "include_usage": true, "chunk": 1 }));
    assert_eq!(
        (&body["seed"], &body["top_k"], &body["provider"]["order"][0]),
        (&json!(1), &json!(20), &json!("x"))
    );
}

#[tokio::test]
async fn rounds_of_this_run_come_behind_the_question() {
    let mut asked = request("u1:hello");
    asked.rounds = vec![round("Let me see.", "call_1"), round("", "call_2")];
    // A call that nobody answered has an output all the same.
    asked.rounds[1].outputs.clear();
    let messages = sent(asked).await.json()["messages"].take();
    assert_eq!(
        messages,
        json!([
            { "role": "user", "content": "hello" },
            called(json!("Let me see."), "call_1"),
            output("call_1"),
            called(Value::Null, "call_2"),
            { "role": "tool", "tool_call_id": "call_2", "content": "error: the call was not answered" },
        ])
    );
}

#[tokio::test]
async fn earlier_rounds_stand_where_they_were() {
    let with = |text: &str, round: Round| Message {
        round: Some(round),
        content: if text.is_empty() {
            Vec::new()
        } else {
            vec![Part::text(text)]
        },
        ..Message::text("a", Role::Assistant, "")
    };
    let expected = json!([
        { "role": "user", "content": "one" },
        called(json!("Let me see."), "call_1"),
        output("call_1"),
        called(Value::Null, "call_2"),
        output("call_2"),
        { "role": "assistant", "content": "Sunny." },
        { "role": "user", "content": "two" },
    ]);
    // The round may be with its text, or directly behind it.
    let text = Message::text("a", Role::Assistant, "Let me see.");
    let firsts = [
        vec![with("Let me see.", round("Let me see.", "call_1"))],
        vec![text.clone(), with("", round("Let me see.", "call_1"))],
        vec![text, with("", round("", "call_1"))],
        vec![with("", round("Let me see.", "call_1"))],
    ];
    for first in firsts {
        let mut asked = request("u1:one a1:Sunny. u2:two");
        let second = with("", round("", "call_2"));
        messages(&mut asked).splice(1..1, first.into_iter().chain([second]));
        assert_eq!(sent(asked).await.json()["messages"], expected);
    }
}

#[tokio::test]
async fn what_was_carried_goes_back_with_its_round() {
    let mut asked = request("u1:hello");
    let mut round = round("", "call_1");
    round.carry = Some(
        json!({ "reasoning_content": "hm", "tool_calls": { "call_1": { "google": { "thought_signature": "s" } } } }),
    );
    // Arguments that are no JSON would break the templates that read them.
    round.calls[0].arguments = "{\"x\":".into();
    asked.rounds = vec![round];
    let message = sent(asked).await.json()["messages"][1].take();
    assert_eq!(
        message,
        json!({
            "role": "assistant",
            "content": null,
            "tool_calls": [{
                "id": "call_1",
                "type": "function",
                "function": { "name": "f", "arguments": "{\"arguments\":\"{\\\"x\\\":\"}" },
                "extra_content": { "google": { "thought_signature": "s" } },
            }],
            "reasoning_content": "hm",
        })
    );
}

/// Empty messages say nothing: half an answer that was cancelled before its first word.
#[tokio::test]
async fn empty_messages_are_left_out() {
    let messages = sent(request("u1:one a1: u2:two")).await.json()["messages"].take();
    assert_eq!(
        messages,
        json!([{ "role": "user", "content": "one" }, { "role": "user", "content": "two" }])
    );
}

/// A call's id that the upstream has used in this run before is ours the second time.
#[tokio::test]
async fn an_id_is_used_once_in_a_run() {
    let call = delta(
        json!({ "tool_calls": [{ "index": 0, "id": "call_1", "function": { "name": "f", "arguments": "{}" } }] }),
    );
    let upstream = Upstream::start([Reply::events(call + &finish("tool_calls") + done())]).await;
    let mut asked = request("u1:hello");
    asked.rounds = vec![round("", "call_1")];
    let (_, end) = play(&provider(&upstream), asked).await;
    let End::ToolCalls(calls) = end else {
        panic!("{end:?}");
    };
    assert_ne!(calls[0].id, "call_1");
}
