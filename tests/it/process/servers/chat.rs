//! A real dialect whose model calls the tools of a server, beside those of the client.

use serde_json::{Value, json};

use super::Daemon;
use super::SERVER;
use crate::chat::{delta, done, finish, whole};
use crate::process::pipes;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};

/// A round that calls these, as `(id, name, arguments)`.
fn calls(calls: &[(&str, &str, Value)]) -> Reply {
    let calls = calls.iter().enumerate().map(|(index, (id, name, arguments))| {
        let function = json!({ "name": name, "arguments": arguments.to_string() });
        json!({ "index": index, "id": id, "type": "function", "function": function })
    });
    let calls: Vec<Value> = calls.collect();
    Reply::events(delta(json!({ "tool_calls": calls })) + &finish("tool_calls") + done())
}

#[tokio::test]
async fn a_models_calls_go_to_the_server_and_to_the_client() {
    let upstream = Upstream::start([
        calls(&[
            ("c1", "demo_echo", json!({ "text": "héllo" })),
            ("c2", "look", json!({})),
            ("c3", "demo_refuse", json!({})),
        ]),
        calls(&[("c4", "demo_structured", json!({}))]),
        Reply::events(whole("Done.")),
        Reply::events(whole("Yes.")),
    ])
    .await;
    let talk = move || {
        let home = Home::new();
        home.write_config(&format!(
            "default_assistant = \"work\"\n\
             [providers.test]\ndialect = \"chat\"\nmodel = \"m\"\nbase_url = \"{}\"\n\
             [assistants.work]\nprovider = \"test\"\ntools = [{{ name = \"look\" }}]\n\
             [mcp.demo]\ncommand = [\"python3\", {SERVER:?}]\napprove = \"always\"\n",
            upstream.url()
        ));
        let mut command = home.command(&["--stdio"]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let mut daemon = Daemon::run(command, pipes());
        daemon.request(0, "initialize", json!({ "capabilities": { "toolCall": true } }));
        daemon.ask(1, "go");
        let asked = daemon.until("a call", |message| message["method"] == "tool/call");
        assert_eq!(
            asked["params"]["callId"], "c2",
            "the client is asked for its own tool only"
        );
        daemon.say(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "output": "seen" } }));
        let answer = daemon.result(1);
        assert_eq!(
            (&answer["status"], &answer["text"]),
            (&json!("completed"), &json!("Done."))
        );
        daemon.leave();
        // Whoever comes next tells it all again.
        let mut command = home.command(&["--stdio"]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        let mut daemon = Daemon::run(command, pipes());
        daemon.ask_in(1, &answer["threadId"], "sure?");
        assert_eq!(daemon.result(1)["text"], "Yes.");
        daemon.leave();
        upstream.requests()
    };
    let requests = tokio::task::spawn_blocking(talk).await.unwrap();
    let bodies: Vec<Value> = requests.iter().map(|request| request.json()).collect();
    for body in &bodies {
        let tools = body["tools"].as_array().unwrap().iter();
        let names: Vec<&str> = tools.map(|tool| tool["function"]["name"].as_str().unwrap()).collect();
        assert!(
            ["look", "demo_echo", "demo_refuse"]
                .iter()
                .all(|name| names.contains(name)),
            "{names:?}"
        );
    }
    let outputs = |body: &Value| -> Vec<Value> {
        let messages = body["messages"].as_array().unwrap().iter();
        let outputs = messages.filter(|message| message["role"] == "tool");
        outputs
            .map(|message| json!([message["tool_call_id"], message["content"]]))
            .collect()
    };
    let first = [
        json!(["c1", "héllo"]),
        json!(["c2", "seen"]),
        json!(["c3", "error: the arguments do not please"]),
    ];
    assert_eq!(outputs(&bodies[1]), first);
    let second = outputs(&bodies[2]);
    assert_eq!((&second[..3], &second[3][0]), (&first[..], &json!("c4")));
    assert_eq!(outputs(&bodies[3]), second);
    let roles = |body: &Value| -> Vec<Value> {
        let messages = body["messages"].as_array().unwrap().iter();
        messages.map(|message| message["role"].clone()).collect()
    };
    assert_eq!(
        roles(&bodies[3]),
        [
            "user",
            "assistant",
            "tool",
            "tool",
            "tool",
            "assistant",
            "tool",
            "assistant",
            "user"
        ]
    );
}
