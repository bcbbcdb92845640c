//! The real program before the real server: conversations over pipes, cancelling, the model's name from the server's
//! list, and answers in a form.

use assistd::config::Dialect;
use serde_json::{Value, json};

use super::Server;
use crate::process::{Daemon, pipes};
use crate::program::Home;

/// Greedy and short, so that the answers are the same everywhere.
fn send(daemon: &mut Daemon, id: u64, assistant: &str, thread: Option<&Value>, content: &str, tokens: u32) {
    let mut params = json!({
        "content": content,
        "assistant": assistant,
        "options": { "temperature": 0, "maxOutputTokens": tokens },
    });
    if let Some(thread) = thread {
        params["threadId"] = thread.clone();
    }
    daemon.request(id, "assistant/send", params);
}

const DIALECTS: [&str; 2] = ["chat", "responses"];

/// One server for all: it takes seconds to load its model.
#[tokio::test]
async fn a_daemon_before_a_real_server() {
    let Some(server) = Server::start(&["--ctx-size", "512"]).await else {
        return;
    };
    let base_url = server.settings(Dialect::Chat).base_url.unwrap();
    let talk = move || {
        let home = Home::new();
        let providers = DIALECTS.map(|dialect| {
            format!(
                "[providers.{dialect}]\ndialect = \"{dialect}\"\nbase_url = \"{base_url}\"\n\
                 [assistants.{dialect}]\nprovider = \"{dialect}\"\n"
            )
        });
        home.write_config(&providers.concat());
        for dialect in DIALECTS {
            let mut daemon = Daemon::run(home.command(&["--stdio"]), pipes());
            daemon.request(0, "initialize", json!({ "capabilities": { "events": "all" } }));
            let thread = turns_build_on_each_other(&mut daemon, dialect);
            a_cancelled_answer_keeps_its_text_and_leaves_the_server_free(&mut daemon, dialect, &thread);
            // Over the Responses API this server passes the schema over.
            if dialect == "chat" {
                an_answer_keeps_to_a_schema(&mut daemon, dialect);
            }
            daemon.leave();
        }
        base_url
    };
    let base_url = tokio::task::spawn_blocking(talk).await.unwrap();
    let found = move || it_is_found_where_nothing_is_set(&base_url);
    tokio::task::spawn_blocking(found).await.unwrap();
    drop(server);
}

fn turns_build_on_each_other(daemon: &mut Daemon, dialect: &str) -> Value {
    send(daemon, 1, dialect, None, "What is the capital of Japan?", 32);
    let first = daemon.result(1);
    let text = first["text"].as_str().unwrap();
    assert!(text.contains("Tokyo"), "{dialect}: {first}");
    assert_eq!(daemon.text(1), text, "{dialect}: what was shown is what was said");
    assert_eq!(daemon.notification("assistant/started", 1)["provider"], dialect);
    let thread = first["threadId"].clone();
    let second = "What language do people speak there?";
    send(daemon, 2, dialect, Some(&thread), second, 32);
    let second = daemon.result(2);
    assert!(
        second["text"].as_str().unwrap().contains("Japanese"),
        "{dialect}: {second}"
    );
    let tokens = |answer: &Value| answer["usage"]["inputTokens"].as_u64().unwrap();
    assert!(tokens(&second) > tokens(&first), "{dialect}: {first} {second}");
    thread
}

/// The server has one slot: unless it is told to stop, the next answer waits for all of this one.
fn a_cancelled_answer_keeps_its_text_and_leaves_the_server_free(daemon: &mut Daemon, dialect: &str, thread: &Value) {
    send(daemon, 3, dialect, None, "Write a long story about the sea.", 400);
    daemon.notification("assistant/delta", 3);
    daemon.request(4, "assistant/cancel", json!({ "token": 3 }));
    let cancelled = daemon.result(3);
    assert_eq!(cancelled["status"], "cancelled", "{dialect}: {cancelled}");
    let text = daemon.text(3);
    assert_eq!(cancelled["text"], text.as_str(), "{dialect}");
    assert!((1..1000).contains(&text.len()), "{dialect}: {text}");
    send(daemon, 5, dialect, Some(thread), "What is the capital of Japan?", 32);
    assert!(daemon.result(5)["text"].as_str().unwrap().contains("Tokyo"));
}

/// llama.cpp lets the model say nothing that does not fit.
fn an_answer_keeps_to_a_schema(daemon: &mut Daemon, dialect: &str) {
    let schema = json!({
        "type": "object",
        "properties": {
            "city": { "type": "string", "enum": ["Paris", "Tokyo"] },
            "isCapital": { "type": "boolean" },
        },
        "required": ["city", "isCapital"],
        "additionalProperties": false,
    });
    let params = json!({
        "content": "Tell me a story about the sea.",
        "assistant": dialect,
        "options": {
            "temperature": 0,
            "maxOutputTokens": 64,
            "format": { "type": "jsonSchema", "name": "place", "schema": schema },
        },
    });
    daemon.request(6, "assistant/send", params);
    let answer = daemon.result(6);
    let text = answer["text"].as_str().unwrap();
    let place: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{dialect}: {error}: {text}"));
    assert!(
        ["Paris", "Tokyo"].contains(&place["city"].as_str().unwrap()),
        "{dialect}: {text}"
    );
    assert!(place["isCapital"].is_boolean(), "{dialect}: {text}");
    assert_eq!(place.as_object().unwrap().len(), 2, "{dialect}: {text}");
}

/// It says who it is. A busy machine may not answer within 50 ms: then the try is made again.
fn it_is_found_where_nothing_is_set(base_url: &str) {
    let port = reqwest::Url::parse(base_url).unwrap().port().unwrap();
    let home = Home::new();
    home.write_config(&format!("local_ports = [{port}]\n"));
    for _ in 0..20 {
        let mut command = home.command(&["--stdio"]);
        command.env_remove("ASSISTD_DISCOVER");
        let mut daemon = Daemon::run(command, pipes());
        daemon.request(0, "server/status", json!({}));
        if daemon.result(0)["provider"]["name"] != "llama.cpp" {
            daemon.leave();
            continue;
        }
        send(&mut daemon, 1, "llama.cpp", None, "What is the capital of Japan?", 32);
        let answer = daemon.result(1);
        assert!(answer["text"].as_str().unwrap().contains("Tokyo"), "{answer}");
        daemon.leave();
        return;
    }
    panic!("the server was not found");
}
