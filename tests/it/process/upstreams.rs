//! Upstreams that do not answer.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Daemon;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};

/// How a client ends the connection, in how much time the daemon has to leave, and its exit code.
struct Farewell {
    name: &'static str,
    say: fn(&mut Daemon),
    limit: Duration,
    code: i32,
}

/// The promises are 1.5 s and, for a client that is gone, 2 s; a machine that has other things to do may take longer.
const FAREWELLS: [Farewell; 3] = [
    Farewell {
        name: "exit",
        say: |daemon| daemon.notify("exit"),
        limit: Duration::from_millis(2500),
        code: 1,
    },
    Farewell {
        name: "SIGTERM",
        say: |daemon| daemon.signal(rustix::process::Signal::TERM),
        limit: Duration::from_millis(2500),
        code: 0,
    },
    Farewell {
        name: "gone",
        say: Daemon::close_output,
        limit: Duration::from_millis(3000),
        code: 0,
    },
];

/// An upstream that is silent in the middle of the answer, and silent when it is asked to cancel.
#[tokio::test]
async fn nobody_waits_for_an_upstream_that_does_not_answer() {
    for farewell in FAREWELLS {
        let text = json!({ "id": "msg_1", "delta": { "content": [{ "index": 0, "type": "text", "text": { "value": "Half" } }] } });
        let events = format!(
            "event: thread.created\ndata: {{\"id\":\"thread_1\"}}\n\n\
             event: thread.run.created\ndata: {{\"id\":\"run_1\",\"thread_id\":\"thread_1\",\"status\":\"queued\"}}\n\n\
             event: thread.message.delta\ndata: {text}\n\n"
        );
        let upstream = Upstream::start([Reply::events(events).stall(), Reply::silence()]).await;
        let base_url = upstream.url();
        let talk = tokio::task::spawn_blocking(move || {
            let home = Home::new();
            let mut command = home.command(&["--stdio"]);
            command
                .env("ASSISTANT_ID", "asst_1")
                .env("OPENAI_API_KEY", "key")
                .env("OPENAI_BASE_URL", base_url);
            let mut daemon = Daemon::run(command, super::ends::pipes());
            daemon.ask(1, "hello");
            let run = daemon.notification("assistant/delta", 1)["runId"].clone();
            let since = Instant::now();
            (farewell.say)(&mut daemon);
            let is_answered = farewell.name != "gone";
            if is_answered {
                let answer = daemon.result(1);
                assert_eq!(
                    (&answer["status"], &answer["text"]),
                    (&json!("cancelled"), &json!("Half"))
                );
                daemon.rest();
                daemon.close_output();
            }
            let took = daemon.finish(farewell.code).at - since;
            println!("{}: gone after {took:?}", farewell.name);
            assert!(took < farewell.limit, "{}: gone after {took:?}", farewell.name);
            let stored = super::stored_run(&home, &run);
            let reason = if is_answered { "cancelled" } else { "clientGone" };
            assert_eq!(
                (&stored["stopReason"], &stored["text"]),
                (&json!(reason), &json!("Half"))
            );
        });
        talk.await.unwrap();
        let asked = upstream.request(2).await;
        assert_eq!(
            asked.path(),
            "/v1/threads/thread_1/runs/run_1/cancel",
            "{}: the upstream is told",
            farewell.name
        );
    }
}

/// The last setting is the one that a request would otherwise fall back on.
#[tokio::test]
async fn the_settings_may_switch_repetitions_off() {
    let refusal = || Reply::json(503, json!({ "error": { "message": "later" } }));
    let upstream = Upstream::start([refusal(), refusal()]).await;
    let base_url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut command = home.command(&["--stdio"]);
        command
            .env("ASSISTANT_ID", "asst_1")
            .env("OPENAI_API_KEY", "key")
            .env("OPENAI_BASE_URL", base_url)
            .env("ASSISTD_MAX_RETRIES", "5");
        let mut daemon = Daemon::run(command, super::ends::pipes());
        daemon.request(1, "initialize", json!({ "settings": { "maxRetries": 0 } }));
        daemon.result(1);
        daemon.ask(2, "hello");
        assert_eq!(daemon.error(2)["data"]["kind"], "overloaded");
        let params = json!({ "content": "hello", "options": { "maxRetries": 0 } });
        daemon.request(3, "assistant/send", params);
        assert_eq!(daemon.error(3)["data"]["kind"], "overloaded");
        daemon.leave();
    });
    talk.await.unwrap();
    assert_eq!(upstream.requests().len(), 2);
}
