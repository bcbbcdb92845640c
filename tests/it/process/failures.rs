//! Failures of the upstream as a client sees them: in the middle of an answer, for a key that is old, and for who has
//! asked too much.

use serde_json::{Value, json};

use super::Daemon;
use super::ends::pipes;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};
use crate::{chat, responses};

/// How a dialect says half an answer, that it failed, and a whole answer.
struct Wire {
    dialect: &'static str,
    half: fn() -> String,
    failed: Vec<String>,
    whole: fn(&str) -> String,
}

fn wires() -> [Wire; 2] {
    let told = json!({ "type": "server_error", "code": "engine_lost", "message": "the engine is gone" });
    let in_response = json!({ "code": "engine_lost", "message": "the engine is gone" });
    let mut alone = in_response.clone();
    alone["param"] = Value::Null;
    [
        Wire {
            dialect: "chat",
            half: || chat::says("Half "),
            failed: vec![
                chat::sse(json!({ "error": told })),
                // As OpenRouter has it: a chunk like any other, with the error beside the choices.
                chat::sse(
                    json!({ "id": "c", "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": "error" }], "error": told }),
                ),
                format!("event: error\ndata: {}\n\n", json!({ "error": told })),
            ],
            whole: chat::whole,
        },
        Wire {
            dialect: "responses",
            half: || responses::begun() + &responses::message(0) + &responses::says(0, "Half "),
            failed: vec![
                responses::ended("failed", json!({ "error": in_response })),
                responses::sse("error", alone),
                responses::sse("error", json!({ "error": told })),
            ],
            whole: responses::whole_turn,
        },
    ]
}

fn write_config(home: &Home, upstream: &Upstream, dialect: &str, settings: &str) {
    let base_url = upstream.url();
    home.write_config(&format!(
        "[providers.work]\ndialect = \"{dialect}\"\nmodel = \"m\"\nbase_url = \"{base_url}\"\n{settings}\n"
    ));
}

fn start(home: &Home) -> Daemon {
    Daemon::run(home.command(&["--stdio"]), pipes())
}

#[tokio::test]
async fn an_answer_that_fails_in_its_middle_keeps_its_text() {
    for wire in wires() {
        let upstream = Upstream::start([]).await;
        let talk = move || {
            let home = Home::new();
            write_config(&home, &upstream, wire.dialect, "");
            let mut daemon = start(&home);
            for (way, failed) in wire.failed.iter().enumerate() {
                let what = format!("{} in way {way}", wire.dialect);
                let (id, before) = (10 * way as u64, upstream.requests().len());
                upstream.push(Reply::events((wire.half)() + failed));
                daemon.ask(id, "first");
                let error = daemon.error(id);
                let completed = daemon.notification("assistant/completed", id);
                assert_eq!(upstream.requests().len(), before + 1, "{what}: it is not asked again");
                assert_eq!(
                    (&completed["status"], &completed["stopReason"], &completed["text"]),
                    (&json!("failed"), &json!("error"), &json!("Half ")),
                    "{what}"
                );
                let (data, started) = (&error["data"], daemon.notification("assistant/started", id));
                assert_eq!(
                    (
                        &data["kind"],
                        &data["provider"],
                        &data["upstream"]["code"],
                        &data["upstream"]["message"]
                    ),
                    (
                        &json!("upstream"),
                        &json!("work"),
                        &json!("engine_lost"),
                        &json!("the engine is gone")
                    ),
                    "{what}: {error}"
                );
                for id in ["threadId", "runId", "messageId"] {
                    assert_eq!(data[id], completed[id], "{what}: {error}");
                }
                assert_eq!(data["runId"], started["runId"], "{what}");
                assert_eq!(completed["error"]["data"]["upstream"], data["upstream"], "{what}");

                upstream.push(Reply::events((wire.whole)("Whole.")));
                daemon.ask_in(id + 1, &completed["threadId"], "second");
                assert_eq!(daemon.result(id + 1)["text"], "Whole.", "{what}");
                let told = upstream.requests().pop().unwrap().json().to_string();
                let places = ["first", "Half ", "second"].map(|text| told.find(text));
                assert!(places.is_sorted() && places[0].is_some(), "{what}: {told}");
                daemon.request(id + 2, "run/get", json!({ "runId": completed["runId"] }));
                let kept = daemon.result(id + 2);
                assert_eq!(
                    (&kept["status"], &kept["text"], &kept["error"]["data"]["upstream"]),
                    (&json!("failed"), &json!("Half "), &data["upstream"]),
                    "{what}"
                );
            }
            daemon.leave();
        };
        tokio::task::spawn_blocking(talk).await.unwrap();
    }
}

/// Each time that the command is run it gives another key.
#[tokio::test]
async fn a_key_that_is_refused_is_fetched_again() {
    for wire in wires() {
        let refusal = |message: &str| Reply::json(401, json!({ "error": { "message": message } }));
        let upstream = Upstream::start([
            refusal("the key sk-fetched-1 has expired"),
            Reply::events((wire.whole)("One.")),
            Reply::events((wire.whole)("Two.")),
            refusal("sk-fetched-2 has expired, too"),
            refusal("and sk-fetched-3 is none"),
        ])
        .await;
        let talk = move || {
            let home = Home::new();
            let script = "n=$(cat count 2>/dev/null || echo 0); n=$((n + 1)); echo $n > count; echo sk-fetched-$n";
            let command = format!("cd {} && {script}", home.path().display());
            write_config(
                &home,
                &upstream,
                wire.dialect,
                &format!("api_key_command = [\"/bin/sh\", \"-c\", {command:?}]"),
            );
            let mut process = home.command(&["--stdio"]);
            process.env("PATH", "/usr/bin:/bin");
            let mut daemon = Daemon::run(process, pipes());
            daemon.ask(1, "first");
            assert_eq!(daemon.result(1)["text"], "One.");
            daemon.ask(2, "second");
            assert_eq!(daemon.result(2)["text"], "Two.");
            daemon.ask(3, "third");
            let error = daemon.error(3);
            assert_eq!(
                (&error["data"]["kind"], &error["data"]["upstream"]["status"]),
                (&json!("authRequired"), &json!(401)),
                "{error}"
            );
            let heard = format!("{:?}", daemon.heard);
            assert!(!heard.contains("sk-fetched"), "{heard}");
            daemon.leave();
            let sent: Vec<String> = upstream
                .requests()
                .iter()
                .map(|request| request.header("authorization").unwrap().to_owned())
                .collect();
            let expected = [1, 2, 2, 2, 3].map(|number| format!("Bearer sk-fetched-{number}"));
            assert_eq!(sent, expected);
        };
        tokio::task::spawn_blocking(talk).await.unwrap();
    }
}

/// Nobody is kept waiting for longer than two minutes: the client is told how long, and may ask again when it likes.
#[tokio::test]
async fn who_is_to_wait_for_long_is_told_so_at_once() {
    for wire in wires() {
        let later = Reply::json(
            429,
            json!({ "error": { "message": "too many tokens today", "code": "tpd" } }),
        );
        let upstream = Upstream::start([later.header("retry-after", "3600")]).await;
        let talk = move || {
            let home = Home::new();
            write_config(&home, &upstream, wire.dialect, "");
            let mut daemon = start(&home);
            daemon.request(0, "initialize", json!({ "capabilities": { "events": "all" } }));
            daemon.ask(1, "first");
            let error = daemon.error(1);
            let data = &error["data"];
            assert_eq!(
                (&error["code"], &data["kind"], &data["retryable"], &data["retryAfterMs"]),
                (&json!(-32007), &json!("rateLimited"), &json!(true), &json!(3_600_000)),
                "{error}"
            );
            assert_eq!(
                (&data["upstream"]["status"], &data["upstream"]["code"]),
                (&json!(429), &json!("tpd")),
                "{error}"
            );
            let is_retry = |message: &&Value| message["params"]["type"] == "retry";
            assert_eq!(daemon.heard.iter().find(is_retry), None, "it does not wait");
            upstream.push(Reply::events((wire.whole)("Now.")));
            daemon.ask_in(2, &data["threadId"], "second");
            assert_eq!(daemon.result(2)["text"], "Now.");
            assert_eq!(upstream.requests().len(), 2);
            daemon.leave();
        };
        tokio::task::spawn_blocking(talk).await.unwrap();
    }
}
