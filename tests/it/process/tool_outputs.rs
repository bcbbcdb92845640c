//! Outputs that come with the next request, to an upstream that waits for them.

use serde_json::{Value, json};

use super::daemon::Daemon;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};

const SCRIPT: &str = r#"
answers = [
    { match = "history", steps = [{ text = "{history}" }] },
    { steps = [{ tool_call = { name = "a" } }, { text = "Half" }, { tool_call = { name = "b" } }, { text = "All" }, { stall = true }] },
]
"#;

/// A daemon whose run has been answered the first call and is asked the second: its thread and run.
fn in_the_second_call(home: &Home) -> (Daemon, Value, Value) {
    let mut daemon = Daemon::start(home);
    daemon.request(1, "initialize", json!({ "capabilities": { "toolCall": true } }));
    daemon.ask(2, "go");
    let call = daemon.until("a call", |message| message["method"] == "tool/call");
    daemon.say(&json!({ "jsonrpc": "2.0", "id": call["id"], "result": { "output": "A" } }));
    let call = daemon.until("the next call", |message| message["params"]["name"] == "b");
    let params = &call["params"];
    (daemon, params["threadId"].clone(), params["runId"].clone())
}

#[test]
fn a_call_that_was_open_at_kill_9_can_be_answered_later() {
    let home = Home::with_script(SCRIPT);
    let (mut daemon, thread, run) = in_the_second_call(&home);
    daemon.kill();
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "run/get", json!({ "runId": run }));
    let dead = daemon.result(1);
    assert_eq!(
        (&dead["stopReason"], &dead["toolCalls"][0]["callId"]),
        (&json!("toolCalls"), &json!("call_2"))
    );
    let outputs = json!([{ "callId": "call_2", "output": "B" }]);
    daemon.request(
        2,
        "assistant/send",
        json!({ "threadId": thread, "toolOutputs": outputs, "token": 2 }),
    );
    daemon.notification("assistant/delta", 2);
    // Killed once more, in the round behind the call: what was called is known all the same.
    daemon.kill();
    let mut daemon = Daemon::start(&home);
    daemon.ask_in(1, &thread, "history");
    daemon.result(1);
    assert_eq!(
        daemon.text(1),
        "user: go\na({}): A\nassistant: Half\nb({}): B\nassistant: All\nuser: history"
    );
    daemon.leave();
}

/// The editor is gone while its tool is called, and comes back with what the tool gave.
#[test]
fn a_call_that_was_open_when_the_client_left_can_be_answered_later() {
    let home = Home::with_script(SCRIPT);
    let (mut daemon, thread, run) = in_the_second_call(&home);
    daemon.close_output();
    daemon.finish(0);
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "run/get", json!({ "runId": run }));
    let left = daemon.result(1);
    assert_eq!(
        (&left["stopReason"], &left["toolCalls"][0]["callId"]),
        (&json!("clientGone"), &json!("call_2"))
    );
    let outputs = json!([{ "callId": "call_2", "output": "B" }]);
    let send = json!({ "threadId": thread, "toolOutputs": outputs, "token": 2 });
    daemon.request(2, "assistant/send", send);
    assert_eq!(daemon.notification("assistant/delta", 2)["text"], "All");
    daemon.request(3, "assistant/cancel", json!({ "threadId": thread }));
    daemon.result(2);
    daemon.leave();
}

#[test]
fn a_cancelled_run_keeps_its_rounds() {
    let home = Home::with_script(SCRIPT);
    let (mut daemon, thread, run) = in_the_second_call(&home);
    daemon.request(3, "assistant/cancel", json!({ "runId": run }));
    daemon.result(2);
    daemon.ask_in(4, &thread, "history");
    daemon.result(4);
    assert_eq!(
        daemon.text(4),
        "user: go\na({}): A\nassistant: Half\nb({}): error: the call was not answered\nuser: history"
    );
    daemon.leave();
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// A run that waits for two calls.
fn waiting() -> String {
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "look", "arguments": "{}" } });
    let action =
        json!({ "type": "submit_tool_outputs", "submit_tool_outputs": { "tool_calls": [call("c1"), call("c2")] } });
    let run = json!({ "id": "run_1", "thread_id": "thread_1", "status": "requires_action", "required_action": action });
    event("thread.created", &json!({ "id": "thread_1" }))
        + &event("thread.run.requires_action", &run)
        + "event: done\ndata: [DONE]\n\n"
}

fn answered(run_id: &str) -> String {
    let text = json!([{ "index": 0, "type": "text", "text": { "value": "Sunny." } }]);
    let run = json!({ "id": run_id, "thread_id": "thread_1", "status": "completed" });
    event(
        "thread.message.delta",
        &json!({ "id": "msg_1", "delta": { "content": text } }),
    ) + &event("thread.run.completed", &run)
        + "event: done\ndata: [DONE]\n\n"
}

fn daemon(home: &Home, upstream: &str) -> Daemon {
    let mut command = home.command(&["--stdio"]);
    command
        .env("ASSISTANT_ID", "asst_1")
        .env("OPENAI_API_KEY", "key")
        .env("OPENAI_BASE_URL", upstream);
    Daemon::run(command, super::ends::pipes())
}

/// Answered the other way round, they go up in the order of their calls.
#[tokio::test]
async fn the_waiting_run_gets_them_from_the_client() {
    let upstream = Upstream::start([Reply::events(waiting()), Reply::events(answered("run_1"))]).await;
    let url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut daemon = daemon(&home, &url);
        daemon.request(0, "initialize", json!({ "capabilities": { "toolCall": true } }));
        daemon.ask(1, "weather");
        let calls = ["c1", "c2"].map(|id| daemon.until("a call", |message| message["params"]["callId"] == id));
        for call in calls.iter().rev() {
            let output = format!("output of {}", call["params"]["callId"].as_str().unwrap());
            daemon.say(&json!({ "jsonrpc": "2.0", "id": call["id"], "result": { "output": output } }));
        }
        assert_eq!(daemon.result(1)["text"], "Sunny.");
        daemon.leave();
    });
    talk.await.unwrap();
    assert_eq!(
        upstream.requests()[1].json()["tool_outputs"],
        json!([
            { "tool_call_id": "c1", "output": "output of c1" },
            { "tool_call_id": "c2", "output": "output of c2" }
        ])
    );
}

#[tokio::test]
async fn the_waiting_run_gets_them_from_another_process() {
    let upstream = Upstream::start([Reply::events(waiting()), Reply::events(answered("run_1"))]).await;
    let url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut first = daemon(&home, &url);
        first.ask(1, "weather");
        let ended = first.result(1);
        assert_eq!(ended["toolCalls"].as_array().unwrap().len(), 2, "{ended}");
        first.leave();

        let mut second = daemon(&home, &url);
        let outputs = json!([{ "callId": "c2", "output": "sunny" }]);
        let both = json!({ "threadId": ended["threadId"], "toolOutputs": outputs, "content": "And then?" });
        second.request(1, "assistant/send", both);
        assert_eq!(second.error(1)["code"], -32602, "such a run takes no message");
        let alone = json!({ "threadId": ended["threadId"], "toolOutputs": outputs });
        second.request(2, "assistant/send", alone);
        assert_eq!(second.result(2)["text"], "Sunny.");
        second.leave();
    });
    talk.await.unwrap();
    let [_, submitted] = &upstream.requests()[..] else {
        panic!("one request for the calls, one for the outputs");
    };
    assert_eq!(submitted.path(), "/v1/threads/thread_1/runs/run_1/submit_tool_outputs");
    assert_eq!(
        submitted.json()["tool_outputs"],
        json!([
            { "tool_call_id": "c1", "output": "error: the call was not answered" },
            { "tool_call_id": "c2", "output": "sunny" }
        ])
    );
}

/// The run that waits is in the way of whoever goes on without outputs: it is cancelled, and the message is sent again.
#[tokio::test]
async fn whoever_goes_on_without_them_is_not_held_up() {
    let locked = json!({ "error": { "message": "Thread thread_1 already has an active run run_1." } });
    let upstream = Upstream::start([
        Reply::events(waiting()),
        Reply::json(400, locked),
        Reply::json(200, json!({ "id": "run_1", "status": "cancelling" })),
        Reply::json(200, json!({ "id": "run_1", "status": "cancelled" })),
        Reply::events(answered("run_2")),
    ])
    .await;
    let url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut daemon = daemon(&home, &url);
        daemon.ask(1, "weather");
        let thread = daemon.result(1)["threadId"].clone();
        daemon.ask_in(2, &thread, "never mind");
        assert_eq!(daemon.result(2)["text"], "Sunny.");
        daemon.leave();
    });
    talk.await.unwrap();
    let requests = upstream.requests();
    let last = requests.last().unwrap();
    assert_eq!(last.path(), "/v1/threads/thread_1/runs");
    let said = last.json()["additional_messages"].clone();
    assert_eq!(said, json!([{ "role": "user", "content": "never mind" }]));
}
