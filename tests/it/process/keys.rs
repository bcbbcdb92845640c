//! Keys are nowhere.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::Daemon;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};

const KEY: &str = "sk-very-secret-0123456789";

/// The arguments of a daemon that writes everything down that it can.
pub const TALKATIVE: [&str; 7] = [
    "--stdio",
    "--wire-log",
    "wire.log",
    "--log",
    "trace",
    "--log-file",
    "daemon.log",
];

/// A daemon with the key and everything written down that can be.
fn start(home: &Home, base_url: &str) -> Daemon {
    let mut command = home.command(&TALKATIVE);
    command
        .env("ASSISTANT_ID", "asst_1")
        .env("OPENAI_API_KEY", KEY)
        .env("OPENAI_BASE_URL", base_url);
    Daemon::run(command, super::ends::pipes())
}

/// Searches everything in a folder and below for a key. What was searched is counted.
pub fn search(folder: &Path, key: &str, searched: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, key, searched);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(key)).collect();
        assert!(lines.is_empty(), "the key stands in {}: {lines:#?}", path.display());
        searched.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
}

fn expect_no_key(home: &Home, daemon: Daemon) {
    let heard = format!("{:?}", daemon.heard);
    assert!(!heard.contains(KEY), "the key was sent to the client: {heard}");
    let mut searched = Vec::new();
    search(home.path(), KEY, &mut searched);
    for file in ["wire.log", "daemon.log", "assistd.db"] {
        assert!(
            searched.iter().any(|name| name == file),
            "{file} was not written: {searched:?}"
        );
    }
    daemon.leave();
    search(home.path(), KEY, &mut searched);
}

#[test]
fn a_key_shows_nowhere_when_the_upstream_is_not_there() {
    let home = Home::new();
    // Somebody listened here, and nobody does now.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut daemon = start(&home, &format!("http://127.0.0.1:{port}/v1"));
    daemon.request(1, "initialize", json!({ "capabilities": { "events": "all" } }));
    daemon.ask(2, "hello");
    let error = daemon.error(2);
    assert_eq!(
        (&error["code"], &error["data"]["kind"]),
        (&json!(-32009), &json!("network")),
        "{error}"
    );
    for (id, method) in [
        (3, "provider/list"),
        (4, "server/status"),
        (5, "assistant/list"),
        (6, "rpc.discover"),
    ] {
        daemon.request(id, method, json!({}));
        daemon.response(id);
    }
    expect_no_key(&home, daemon);
}

#[tokio::test]
async fn a_key_shows_nowhere_when_the_upstream_repeats_it() {
    let message = format!("Incorrect API key provided: {KEY}.");
    let refusal = Reply::json(
        401,
        json!({ "error": { "message": message, "code": "invalid_api_key" } }),
    );
    let failed = json!({ "id": "run_1", "status": "failed", "last_error": {
        "code": "server_error", "message": format!("no luck with {KEY}"),
    } });
    let events = format!(
        "event: {KEY}\ndata: \"{KEY}\"\n\nevent: thread.run.failed\ndata: {failed}\n\nevent: done\ndata: [DONE]\n\n"
    );
    let upstream = Upstream::start([refusal, Reply::events(events)]).await;
    let base_url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut daemon = start(&home, &base_url);
        daemon.request(1, "initialize", json!({ "capabilities": { "events": "all" } }));
        daemon.ask(2, "hello");
        let error = daemon.error(2);
        assert_eq!(error["data"]["kind"], "authRequired", "{error}");
        daemon.ask(3, "hello again");
        let error = daemon.error(3);
        let said = error["data"]["upstream"]["message"].as_str().unwrap_or_default();
        assert!(said.starts_with("no luck with "), "{error}");
        expect_no_key(&home, daemon);
    });
    talk.await.unwrap();
    let request = upstream.request(1).await;
    assert_eq!(
        request.header("authorization"),
        Some(format!("Bearer {KEY}").as_str()),
        "it was used"
    );
}
