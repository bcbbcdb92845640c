//! Messages, ids and parameters as they are written, table by table.

use serde::de::DeserializeOwned;
use serde_json::json;

use super::*;
use crate::protocol::{
    CancelParams, InitializeParams, NoParams, SendParams, ThreadListParams, ThreadReadParams, ToolCallResult,
    ToolOutputParams,
};

/// A message in a few words: what the tests below compare.
fn words(message: &Message) -> String {
    match message {
        Message::One(incoming) => entry(incoming),
        Message::Batch(entries) => format!("[{}]", entries.iter().map(entry).collect::<Vec<_>>().join(", ")),
        Message::Refused(error) => format!("refused {}", error.code),
    }
}

fn entry(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Request { id, method, params } => format!("request {id:?} {method} {}", params.get().unwrap_or("-")),
        Incoming::Notification { method, params } => format!("notification {method} {}", params.get().unwrap_or("-")),
        Incoming::Response {
            id,
            outcome: Ok(result),
        } => format!("result {id:?} {}", result.get().unwrap_or("-")),
        Incoming::Response {
            id,
            outcome: Err(error),
        } => format!("error {id:?} {error}"),
        Incoming::Refused { id: Some(id), error } => format!("refused {id:?} {}", error.code),
        Incoming::Refused { id: None, error } => format!("refused null {}", error.code),
    }
}

#[track_caller]
fn parses(text: &str, expected: &str) {
    assert_eq!(words(&parse(text)), expected, "{text}");
}

/// The examples of the specification's section 7, in its order; that of broken JSON ends in `frame`.
#[test]
fn the_specifications_examples() {
    let cases = [
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}"#,
            "request 1 subtract [42, 23]",
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}"#,
            r#"request 3 subtract {"subtrahend": 23, "minuend": 42}"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}"#,
            "notification update [1,2,3,4,5]",
        ),
        (r#"{"jsonrpc": "2.0", "method": "foobar"}"#, "notification foobar -"),
        (
            r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#,
            r#"request "1" foobar -"#,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
            "refused null -32600",
        ),
        ("[]", "refused -32600"),
        ("[1]", "[refused null -32600]"),
        (
            "[1,2,3]",
            "[refused null -32600, refused null -32600, refused null -32600]",
        ),
        (
            r#"[
                {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
                {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
                {"foo": "boo"},
                {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
                {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
            ]"#,
            concat!(
                r#"[request "1" sum [1,2,4], notification notify_hello [7], request "2" subtract [42,23], "#,
                r#"refused null -32600, request "5" foo.get {"name": "myself"}, request "9" get_data -]"#
            ),
        ),
        (
            r#"[
                {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
                {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
            ]"#,
            "[notification notify_sum [1,2,4], notification notify_hello [7]]",
        ),
    ];
    for (text, expected) in cases {
        parses(text, expected);
    }
}

#[test]
fn ids_are_kept_as_they_are_written() {
    for id in [
        "1",
        "-1",
        "1.5",
        "1.0",
        "1e2",
        "123456789012345678901234567890",
        "\"a\\u00e9\\/\"",
        "\"\"",
        "null",
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id": {id} ,"method":"m"}}"#);
        parses(&text, &format!("request {id} m -"));
        let Message::One(Incoming::Request { id: read, .. }) = parse(&text) else {
            unreachable!("it is a request, as was just seen")
        };
        let answer = respond(&read, &json!({}));
        assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
}

#[test]
fn a_bad_id_never_makes_a_notification() {
    for id in ["true", "{}", "[]", "[1]"] {
        parses(
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#),
            "refused null -32600",
        );
    }
    let id = |len: usize| format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#, "x".repeat(len));
    assert!(words(&parse(&id(MAX_ID - 2))).starts_with("request"));
    parses(&id(MAX_ID - 1), "refused null -32600");
}

#[test]
fn ids_compare_as_written_and_by_value() {
    let id = |text: &str| Id::new(&RawValue::from_string(text.into()).unwrap()).unwrap();
    assert_eq!(id("1"), id("1"));
    assert_ne!(id("1"), id("\"1\""));
    assert_ne!(id("\"a\""), id("\"\\u0061\""));
    assert_eq!(id("\"a\"").as_value(), id("\"\\u0061\"").as_value());
}

#[test]
fn the_kind_follows_from_the_members() {
    let cases = [
        (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, "request null m -"),
        (r#"{"jsonrpc":"2.0","method":"m","params":null}"#, "notification m null"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":"p"}"#,
            r#"request 1 m "p""#,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"m\u0065thod":"a\nb"}"#, "request 1 a\nb -"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, "request 1 m -"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","extra":1}"#, "request 1 m -"),
        (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, "refused 1 -32600"),
        (r#"{"jsonrpc":"2.0","id":1,"method":["m"]}"#, "refused 1 -32600"),
        (r#"{"jsonrpc":"2.0","id":1}"#, "refused 1 -32600"),
        (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, "refused 1 -32600"),
        (r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, "refused 1 -32600"),
        (r#"{"id":1,"method":"m"}"#, "refused 1 -32600"),
        (r#"{"method":"m"}"#, "refused null -32600"),
        ("{}", "refused null -32600"),
        (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, "result 1 null"),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, "result 1 {}"),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"},"result":null}"#,
            r#"error 1 {"code":-1,"message":"no"}"#,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"error":null}"#, "error 1 null"),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, r#"error 1 "no""#),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":"no","more":[]}}"#,
            r#"error 1 {"code":1.5,"message":"no","more":[]}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}"#,
            r#"error null {"code":-32700,"message":"no"}"#,
        ),
        (r#"{"id":1,"result":{}}"#, "refused null -32600"),
        (r#"{"jsonrpc":"2.0","result":{}}"#, "refused null -32600"),
        ("1", "refused -32600"),
        ("\"text\"", "refused -32600"),
        (" null", "refused -32600"),
    ];
    for (text, expected) in cases {
        parses(text, expected);
    }
}

#[test]
fn a_batch_has_at_most_100_entries() {
    let batch = |len: usize| format!("[{}]", vec!["0"; len].join(","));
    assert!(matches!(parse(&batch(100)), Message::Batch(entries) if entries.len() == 100));
    let Message::Refused(error) = parse(&batch(101)) else {
        panic!("a batch of 101 entries was taken");
    };
    assert_eq!(error.message, "expected a batch to have at most 100 entries, found 101");
}

#[test]
fn nesting_does_not_break_the_envelope() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let request = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"content":{deep}}},"x":{deep}}}"#);
    for text in [request.clone(), format!("[{request}]")] {
        assert!(words(&parse(&text)).contains("request 1 m "));
    }
    parses(&format!("[{deep}]"), "[refused null -32600]");
    let error = decode::<SendParams>(&format!(r#"{{"content":{deep}}}"#)).unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        (-32602, "expected `params` to be nested at most 127 deep")
    );
}

fn decode<T: DeserializeOwned>(params: &str) -> Result<T, Error> {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
    match parse(&text) {
        Message::One(Incoming::Request { params, .. }) => params.decode(),
        other => panic!("{params}: {other:?}"),
    }
}

#[test]
fn no_parameters_may_be_written_in_four_ways() {
    for params in ["null", "[]", "[ ]", "{}", r#"{"_meta":{"a":1}}"#, r#"{"_meta":null}"#] {
        decode::<NoParams>(params).unwrap();
        decode::<ThreadListParams>(params).unwrap();
    }
    let Message::One(Incoming::Request { params, .. }) = parse(r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#) else {
        panic!("it is a request")
    };
    params.decode::<NoParams>().unwrap();
}

#[test]
fn empty_lists_are_objects_and_null_is_absent() {
    let params = r#"{"capabilities":[],"clientInfo":null,"settings":[],"processId":null,"protocolVersion":1}"#;
    let initialize: InitializeParams = decode(params).unwrap();
    assert!(initialize.capabilities.is_some() && initialize.client_info.is_none() && initialize.process_id.is_none());
    let params = r#"{"content":"x","options":[],"metadata":[],"tools":[{"name":"t","parameters":[]}],"wait":null}"#;
    let send: SendParams = decode(params).unwrap();
    assert!(send.wait.is_none() && send.tools.unwrap()[0].parameters.as_ref().unwrap().is_empty());
}

#[test]
fn what_is_wrong_with_parameters_is_a_sentence() {
    fn says<T: DeserializeOwned + std::fmt::Debug>(params: &str, expected: &str) {
        let error = decode::<T>(params).unwrap_err();
        assert_eq!((error.code, &*error.message), (-32602, expected), "{params}");
    }
    let send = says::<SendParams>;
    says::<ThreadReadParams>("{}", "expected `threadId`, which is missing");
    says::<ThreadReadParams>("[]", "expected `threadId`, which is missing");
    send(
        "[\"x\"]",
        "expected `params` to be an object with named members, found a list",
    );
    send("\"x\"", "expected `params` to be an object, found a string");
    send("7", "expected `params` to be an object, found a number");
    send(
        r#"{"content":5}"#,
        "expected `content` to be a string or a list of parts, found a number",
    );
    send(
        r#"{"content":{"text":"x"}}"#,
        "expected `content` to be a string or a list of parts, found an object",
    );
    send(
        r#"{"content":["x"]}"#,
        "expected `content[0]` to be an object with a `type`, found a string",
    );
    send(
        r#"{"content":[{"type":"text"}]}"#,
        "expected `content[0].text`, which is missing",
    );
    send(
        r#"{"content":[{"text":"x"}]}"#,
        "expected `content[0].type`, which is missing",
    );
    send(
        r#"{"content":[{"type":"text","text":5}]}"#,
        "expected a string in `content[0]`, found a number",
    );
    send(
        r#"{"content":[{"type":"txt","text":"x"}]}"#,
        "expected `content[0].type` to be one of `text`, `refusal`, `image`, `file`, `resource`, found `txt`; did you mean `text`?",
    );
    send(
        r#"{"thread_id":"t","content":"x"}"#,
        "unknown parameter `thread_id`; did you mean `threadId`?",
    );
    send(r#"{"content":"x","zzz":1}"#, "unknown parameter `zzz`");
    send(
        r#"{"content":"x","options":{"temprature":1}}"#,
        "unknown member `temprature` of `options`; did you mean `temperature`?",
    );
    send(
        r#"{"content":"x","threadId":7}"#,
        "expected `threadId` to be a string, found a number",
    );
    send(
        r#"{"content":"x","wait":"yes, expected no"}"#,
        "expected `wait` to be true or false, found a string",
    );
    send(
        r#"{"content":"x","onBusy":"que"}"#,
        "expected `onBusy` to be one of `queue`, `error`, `interrupt`, found `que`; did you mean `queue`?",
    );
    send(
        r#"{"content":"x","onBusy":3}"#,
        "expected `onBusy` to be one of its names, found a number",
    );
    send(
        r#"{"content":"x","token":[1]}"#,
        "expected `token` to be a string or a number, found a list",
    );
    send(
        r#"{"content":"x","tools":{"name":"t"}}"#,
        "expected `tools` to be a list, found an object",
    );
    send(
        r#"{"content":"x","tools":[{}]}"#,
        "expected `tools[0].name`, which is missing",
    );
    send(
        r#"{"content":"x","options":5}"#,
        "expected `options` to be an object, found a number",
    );
    send(
        r#"{"content":"x","options":[1]}"#,
        "expected `options` to be an object, found a list",
    );
    send(
        r#"{"content":"x","options":{"topK":-1}}"#,
        "expected `options.topK` to be a whole number from 0, found a number",
    );
    send(
        r#"{"content":"x","options":{"seed":true}}"#,
        "expected `options.seed` to be a whole number from 0, found true or false",
    );
    send(
        r#"{"content":"x","metadata":{"a":1}}"#,
        "expected `metadata.a` to be a string, found a number",
    );
    send(
        r#"{"content":1e999}"#,
        "expected `params` to have numbers that a double can hold",
    );
    says::<ThreadReadParams>(
        r#"{"threadId":"t","limit":"many"}"#,
        "expected `limit` to be a whole number from 0, found a string",
    );
    says::<NoParams>(r#"{"verbose":true}"#, "unknown parameter `verbose`");
    says::<CancelParams>(r#"{"runID":"r"}"#, "unknown parameter `runID`; did you mean `runId`?");
    says::<ToolOutputParams>(
        r#"{"runId":"r","callId":"c","output":5}"#,
        "expected `output` to be a string or a list of parts, found a number",
    );
    says::<InitializeParams>(
        r#"{"capabilities":{"events":"some"}}"#,
        "expected `capabilities.events` to be \"all\" or a list of event types, found a string",
    );
}

#[test]
fn a_sentence_holds_nothing_of_what_was_sent_but_a_short_word() {
    let secret = "sk-secret";
    for params in [
        format!(r#"{{"content":"x","wait":"{secret}"}}"#),
        format!(r#"{{"content":[{{"type":"text","text":{{"k":"{secret}"}}}}]}}"#),
        format!(r#"{{"content":"x","options":"{secret}"}}"#),
    ] {
        let error = decode::<SendParams>(&params).unwrap_err();
        assert!(!error.message.contains(secret), "{}", error.message);
    }
    let long = "é".repeat(10_000);
    let error = decode::<SendParams>(&format!(r#"{{"content":"x","{long}":1}}"#)).unwrap_err();
    assert!(error.message.len() < 200, "{}", error.message.len());
}

#[test]
fn a_result_is_decoded_like_parameters() {
    let result = |text: &str| match parse(&format!(r#"{{"jsonrpc":"2.0","id":1073741824,"result":{text}}}"#)) {
        Message::One(Incoming::Response {
            outcome: Ok(result), ..
        }) => result.decode::<ToolCallResult>(),
        other => panic!("{text}: {other:?}"),
    };
    assert!(result(r#"{"deferred":true}"#).unwrap().deferred);
    assert!(result("null").unwrap().output.is_none());
    assert_eq!(
        result("\"x\"").unwrap_err().message,
        "expected `result` to be an object, found a string"
    );
}

#[test]
fn what_is_sent_is_json_rpc() {
    let Message::One(Incoming::Request { id, .. }) = parse(r#"{"jsonrpc":"2.0","id":"a","method":"m"}"#) else {
        panic!("it is a request")
    };
    let error = Error::new(Kind::MethodNotFound, "unknown method `m`");
    let data = r#""data":{"kind":"methodNotFound","retryable":false}"#;
    assert_eq!(
        refuse(Some(&id), &error),
        format!(r#"{{"jsonrpc":"2.0","id":"a","error":{{"code":-32601,"message":"unknown method `m`",{data}}}}}"#)
    );
    assert!(refuse(None, &error).starts_with(r#"{"jsonrpc":"2.0","id":null,"error":"#));
    assert_eq!(respond_raw(&id, "[1]"), r#"{"jsonrpc":"2.0","id":"a","result":[1]}"#);
    assert_eq!(response_id(&respond_raw(&id, "[1]")), Some(id.clone()));
    assert_eq!(respond(&id, &()), r#"{"jsonrpc":"2.0","id":"a","result":null}"#);
    assert_eq!(
        notify("assistant/delta", &json!({"text": "\n"})),
        r#"{"jsonrpc":"2.0","method":"assistant/delta","params":{"text":"\n"}}"#
    );
    assert_eq!(
        request(1_073_741_824, "tool/call", &json!({})),
        r#"{"jsonrpc":"2.0","id":1073741824,"method":"tool/call","params":{}}"#
    );
    // Another library's types read it, where its ids can.
    let refusal = refuse(Some(&id), &error);
    let response: jsonrpsee::types::Response<Value> = serde_json::from_str(&refusal).unwrap();
    assert!(matches!(response.payload, jsonrpsee::types::ResponsePayload::Error(error) if error.code() == -32601));
}
