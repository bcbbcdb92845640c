//! What is sent, as a table; the judge of requests gets the same.

use assistd::config::{History, Service};
use assistd::protocol::{File, Format, Options, Part, Role, Tool, ToolOutput};
use assistd::provider::Round;
use assistd::thread::{Conversation, Message};
use std::sync::Arc;

use super::*;

/// A thread of these messages.
pub fn thread(messages: Vec<Message>) -> Request {
    Request {
        conversation: Arc::new(Conversation {
            messages,
            ..Conversation::default()
        }),
        ..request("")
    }
}

pub fn user(id: &str, content: Vec<Part>) -> Message {
    Message {
        content,
        ..Message::text(id, Role::User, "")
    }
}

pub fn tool(name: &str) -> Tool {
    let tool = json!({ "name": name, "description": "d", "parameters": { "type": "object", "properties": {} }, "strict": true });
    serde_json::from_value(tool).unwrap()
}

/// A round that called `weather` and was answered.
pub fn round(call_id: &str, text: &str, carry: Option<Value>) -> Round {
    Round {
        text: text.into(),
        calls: vec![call(call_id, "weather", "{}")],
        outputs: vec![ToolOutput {
            call_id: call_id.into(),
            output: "sunny".into(),
            is_error: false,
        }],
        carry,
    }
}

/// The body of the one request that this makes.
async fn sent(settings: impl FnOnce(&Upstream) -> ProviderSettings, request: Request) -> Value {
    let upstream = Upstream::start([Reply::events(whole_turn("Hello!"))]).await;
    let (_, end) = play(&settings(&upstream), request).await;
    assert_eq!(end, END_TURN);
    let sent = upstream.requests().pop().unwrap();
    assert_eq!((sent.method.as_str(), sent.path()), ("POST", "/v1/responses"));
    sent.json()
}

#[tokio::test]
async fn nothing_is_sent_that_was_not_asked_for() {
    let body = sent(settings, request("u1:hello")).await;
    let expected = json!({
        "model": "m", "stream": true, "store": false, "input": [{ "type": "message", "role": "user", "content": "hello" }]
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_makers_of_the_api_are_asked_for_readable_reasoning_and_no_padding() {
    let body = sent(azure, request("u1:hello")).await;
    assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(body["stream_options"], json!({ "include_obfuscation": false }));
    let foundry = |upstream: &Upstream| ProviderSettings {
        service: Some(Service::Foundry),
        ..settings(upstream)
    };
    let body = sent(foundry, request("u1:hello")).await;
    assert_eq!(
        (&body["include"][0], &body["stream_options"]),
        (&json!("reasoning.encrypted_content"), &Value::Null)
    );
    let kept = |upstream: &Upstream| ProviderSettings {
        history: Some(History::Upstream),
        ..azure(upstream)
    };
    let body = sent(kept, request("u1:hello")).await;
    assert_eq!((&body["store"], &body["include"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn every_option_has_its_place() {
    let mut asked = request("u1:hello");
    asked.model = Some("gpt".into());
    asked.instructions = Some("Be brief.".into());
    asked.tools = vec![
        tool("weather"),
        serde_json::from_value(json!({ "name": "time" })).unwrap(),
    ];
    asked.options = Options {
        temperature: Some(0.5),
        top_p: Some(0.9),
        max_output_tokens: Some(300),
        tool_choice: Some("weather".into()),
        parallel_tool_calls: Some(false),
        reasoning_effort: Some("low".into()),
        reasoning_summary: Some("auto".into()),
        format: Some(Format::JsonSchema {
            name: None,
            description: Some("a colour".into()),
            schema: json!({ "type": "object" }).as_object().unwrap().clone(),
            strict: None,
        }),
        upstream_tools: Some(vec![json!({ "type": "web_search" }).as_object().unwrap().clone()]),
        ..Options::default()
    };
    let body = sent(settings, asked).await;
    let expected = json!({
        "model": "gpt", "instructions": "Be brief.", "stream": true, "store": false,
        "input": [{ "type": "message", "role": "user", "content": "hello" }],
        "tools": [
            { "type": "function", "name": "weather", "description": "d", "parameters": { "type": "object", "properties": {} }, "strict": true },
            { "type": "function", "name": "time", "parameters": { "type": "object", "properties": {} }, "strict": false },
            { "type": "web_search" }
        ],
        "tool_choice": { "type": "function", "name": "weather" }, "parallel_tool_calls": false,
        "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 300,
        "reasoning": { "effort": "low", "summary": "auto" },
        "text": { "format": { "type": "json_schema", "name": "answer", "description": "a colour", "schema": { "type": "object" }, "strict": true } }
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_settings_body_has_the_last_word() {
    let with_body = |upstream: &Upstream| ProviderSettings {
        body: json!({ "reasoning": { "summary": "auto" }, "metadata": { "a": "b" }, "temperature": 0.1 })
            .as_object()
            .unwrap()
            .clone(),
        ..settings(upstream)
    };
    let mut asked = request("u1:hello");
    asked.options.reasoning_effort = Some("low".into());
    asked.options.temperature = Some(1.0);
    let body = sent(with_body, asked).await;
    assert_eq!(body["reasoning"], json!({ "effort": "low", "summary": "auto" }));
    assert_eq!(
        (&body["temperature"], &body["metadata"]),
        (&json!(0.1), &json!({ "a": "b" }))
    );
}

/// A message of every kind of part.
pub fn every_part() -> Vec<Part> {
    vec![
        Part::text("Look"),
        Part::Resource {
            uri: "file:///a.rs".into(),
            text: Some("fn main() {}".into()),
            mime_type: None,
            selection: None,
        },
        Part::Image(Image {
            url: Some("https://example.com/a.png".into()),
            detail: Some("low".into()),
            ..Image::default()
        }),
        Part::Image(Image {
            data: Some("AAAA".into()),
            mime_type: Some("image/webp".into()),
            ..Image::default()
        }),
        Part::Image(Image {
            file_id: Some("file-1".into()),
            ..Image::default()
        }),
        Part::File(File {
            file_id: Some("file-2".into()),
            ..File::default()
        }),
        Part::File(File {
            data: Some("aGVsbG8=".into()),
            mime_type: Some("text/plain".into()),
            name: Some("a.txt".into()),
            ..File::default()
        }),
    ]
}

#[tokio::test]
async fn every_kind_of_part_has_its_form() {
    let body = sent(azure, thread(vec![user("u1", every_part())])).await;
    let expected = json!([
        { "type": "input_text", "text": "Look" },
        { "type": "input_text", "text": "file:///a.rs\n```rs\nfn main() {}\n```\n" },
        { "type": "input_image", "image_url": "https://example.com/a.png", "detail": "low" },
        { "type": "input_image", "image_url": "data:image/webp;base64,AAAA", "detail": "auto" },
        { "type": "input_image", "file_id": "file-1", "detail": "auto" },
        { "type": "input_file", "file_id": "file-2" },
        { "type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8=" }
    ]);
    assert_eq!(body["input"][0]["content"], expected);
    // Elsewhere text is text.
    let body = sent(settings, thread(vec![user("u1", every_part())])).await;
    assert_eq!(
        body["input"][0]["content"][6],
        json!({ "type": "input_text", "text": "a.txt\n```txt\nhello\n```\n" })
    );
}

#[tokio::test]
async fn the_history_has_its_calls_their_outputs_and_what_was_carried() {
    let reasoning = json!({ "type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" });
    let made =
        json!({ "type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}" });
    let carried = json!({ "responses": [reasoning, { "type": "message", "phase": "commentary" }, made] });
    let answer = |id: &str, text: &str, round: Option<Round>| Message {
        round,
        ..Message::text(id, Role::Assistant, text)
    };
    let unanswered = Round {
        outputs: Vec::new(),
        ..round("call_2", "", None)
    };
    let mut asked = thread(vec![
        Message::text("u1", Role::User, "one"),
        answer("a1", "Let me see.", Some(round("call_1", "Let me see.", Some(carried)))),
        answer("a2", "Sunny.", None),
        Message::text("u2", Role::User, "two"),
        answer("a3", "", Some(unanswered)),
        Message::text("u3", Role::User, "three"),
    ]);
    asked.rounds = vec![round("call_3", "Again.", None)];
    let body = sent(azure, asked).await;
    let output = |id: &str, output: &str| json!({ "type": "function_call_output", "call_id": id, "output": output });
    let plain = |id: &str| json!({ "type": "function_call", "call_id": id, "name": "weather", "arguments": "{}" });
    let said = |role: &str, text: &str| json!({ "type": "message", "role": role, "content": text });
    let expected = json!([
        said("user", "one"),
        reasoning,
        { "type": "message", "role": "assistant", "content": "Let me see.", "phase": "commentary" },
        made,
        output("call_1", "sunny"),
        said("assistant", "Sunny."),
        said("user", "two"),
        plain("call_2"),
        output("call_2", "error: the call was not answered"),
        said("user", "three"),
        said("assistant", "Again."),
        plain("call_3"),
        output("call_3", "sunny"),
    ]);
    assert_eq!(body["input"], expected);
}

#[tokio::test]
async fn a_custom_tool_gets_its_own_kind_of_output_and_another_providers_carry_is_nothing() {
    let made =
        json!({ "type": "custom_tool_call", "id": "ct", "call_id": "call_1", "name": "sql", "input": "select 1" });
    let mut asked = request("u1:hello");
    asked.rounds = vec![
        round("call_1", "", Some(json!({ "responses": [made] }))),
        round("call_2", "", Some(json!({ "chat": { "reasoning_content": "x" } }))),
    ];
    let body = sent(settings, asked).await;
    let expected = json!([
        made,
        { "type": "custom_tool_call_output", "call_id": "call_1", "output": "sunny" },
        { "type": "function_call", "call_id": "call_2", "name": "weather", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "call_2", "output": "sunny" }
    ]);
    assert_eq!(body["input"].as_array().unwrap()[1..], expected.as_array().unwrap()[..]);
}

#[tokio::test]
async fn what_stands_before_a_compaction_is_not_sent_again() {
    let compaction = json!({ "type": "compaction", "id": "cmp", "encrypted_content": "y" });
    let carried = Round {
        carry: Some(json!({ "responses": [{ "type": "message" }, compaction] })),
        ..Round::default()
    };
    let mut messages = request("u1:one a1:two u2:three").conversation.messages.clone();
    messages[1].round = Some(carried);
    let body = sent(azure, thread(messages)).await;
    let expected = json!([compaction, { "type": "message", "role": "user", "content": "three" }]);
    assert_eq!(body["input"], expected);
}

#[tokio::test]
async fn without_a_model_the_only_one_is_taken() {
    let models = Reply::json(200, json!({ "data": [{ "id": "only" }] }));
    let upstream = Upstream::start([models, Reply::events(whole_turn("Hello!"))]).await;
    let (_, end) = play(&settings(&upstream), dialect::request("u1:hello")).await;
    assert_eq!(end, END_TURN);
    assert_eq!(upstream.requests()[1].json()["model"], "only");
}

#[tokio::test]
async fn a_picture_that_was_made_goes_back_with_its_call() {
    let carried = json!({ "responses": [
        { "type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x" },
        { "type": "image_generation_call", "id": "ig" }
    ] });
    let mut drawn = Message::text("a1", Role::Assistant, "");
    drawn.content = vec![Part::Image(Image {
        data: Some("AAAA".into()),
        ..Image::default()
    })];
    drawn.round = Some(Round {
        carry: Some(carried),
        ..Round::default()
    });
    let messages = vec![
        Message::text("u1", Role::User, "draw"),
        drawn,
        Message::text("u2", Role::User, "again"),
    ];
    let body = sent(azure, thread(messages)).await;
    let expected = json!({ "type": "image_generation_call", "id": "ig", "status": "completed", "result": "AAAA" });
    assert_eq!(body["input"][2], expected);
}
