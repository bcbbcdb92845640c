//! A compatible server without a key or the name of a model, as people have one on their own machine.

use serde_json::{Value, json};

use super::Daemon;
use crate::chat::{delta, done, finish, sse, whole};
use crate::program::Home;
use crate::upstream::{Reply, Upstream};

const CONFIG: &str = r#"
default_assistant = "work"

[providers.local]
dialect = "chat"
base_url = "BASE_URL"
body = { top_k = 5 }

[assistants.work]
provider = "local"
instructions = "Be brief."
tools = [{ name = "weather", parameters = { type = "object" } }]
"#;

#[tokio::test]
async fn a_local_server_needs_no_more_than_its_address() {
    let call = json!({ "tool_calls": [{ "index": 0, "id": "call_1", "function": { "name": "weather", "arguments": "{\"city\":\"Rome\"}" } }] });
    let figures = json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9 } });
    let upstream = Upstream::start([
        Reply::json(200, json!({ "object": "list", "data": [{ "id": "only" }] })),
        Reply::events(delta(call) + &finish("tool_calls") + &sse(figures.clone()) + done()),
        Reply::events(
            delta(json!({ "content": "Sun" }))
                + &delta(json!({ "content": "ny." }))
                + &finish("stop")
                + &sse(figures)
                + done(),
        ),
        Reply::events(whole("Yes.")),
    ])
    .await;
    let config = CONFIG.replace("BASE_URL", &upstream.url());
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        home.write_config(&config);
        let mut daemon = Daemon::start(&home);
        daemon.request(
            1,
            "initialize",
            json!({ "protocolVersion": 1, "capabilities": { "toolCall": true } }),
        );
        daemon.result(1);
        daemon.ask(2, "weather in Rome?");
        let asked = daemon.until("the tool is called", |message| message["method"] == "tool/call");
        assert_eq!(
            (&asked["params"]["name"], &asked["params"]["arguments"]),
            (&json!("weather"), &json!({ "city": "Rome" }))
        );
        daemon.say(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "output": "sun" } }));
        let first = daemon.result(2);
        assert_eq!(
            (&first["text"], &first["status"]),
            (&json!("Sunny."), &json!("completed"))
        );
        assert_eq!(first["usage"]["totalTokens"], 18, "of both rounds");
        daemon.ask_in(3, &first["threadId"], "sure?");
        assert_eq!(daemon.result(3)["text"], "Yes.");
        daemon.leave();
    });
    talk.await.unwrap();
    let bodies: Vec<Value> = upstream.requests()[1..].iter().map(|request| request.json()).collect();
    for body in &bodies {
        assert_eq!((&body["model"], &body["top_k"]), (&json!("only"), &json!(5)));
        assert_eq!(body["messages"][0], json!({ "role": "system", "content": "Be brief." }));
        assert_eq!(
            body["messages"][1],
            json!({ "role": "user", "content": "weather in Rome?" })
        );
    }
    assert_eq!(
        bodies[1]["messages"][3],
        json!({ "role": "tool", "tool_call_id": "call_1", "content": "sun" })
    );
    let last = bodies[2]["messages"].as_array().unwrap();
    assert_eq!(last.last().unwrap(), &json!({ "role": "user", "content": "sure?" }));
    assert!(
        last.contains(&json!({ "role": "assistant", "content": "Sunny." })),
        "{last:?}"
    );
    assert!(
        upstream
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none()),
        "there is no key"
    );
}
