//! Every row of the table of methods is answered by the daemon, and nothing is called unknown that it lists.

use assistd::Signals;
use assistd::config::Settings;
use assistd::protocol::{Direction, METHODS};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// JSON-RPC's own code for an unknown method.
const UNKNOWN: i64 = -32601;

#[test]
fn every_request_of_the_table_is_dispatched() {
    let mut names: Vec<&str> = METHODS
        .iter()
        .filter(|row| row.direction == Direction::ToServer)
        .map(|row| row.name)
        .collect();
    // The rest is refused behind it.
    names.retain(|name| *name != "shutdown");
    names.push("shutdown");
    for (name, response) in names.iter().zip(answers(&names)) {
        assert_ne!(
            response["error"]["code"], UNKNOWN,
            "`{name}` is a row of src/protocol/methods.rs: give it an arm in src/server/dispatch.rs"
        );
    }
}

#[test]
fn what_assistd_says_itself_cannot_be_called() {
    let names: Vec<&str> = METHODS
        .iter()
        .filter(|row| matches!(row.direction, Direction::ToClient | Direction::ToClientNotification))
        .map(|row| row.name)
        .collect();
    for (name, response) in names.iter().zip(answers(&names)) {
        assert_eq!(response["error"]["code"], UNKNOWN, "`{name}` goes to the client only");
    }
}

/// What protocol.md lists as designed is refused with a sentence that says so.
#[test]
fn what_is_not_built_yet_is_refused_as_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/protocol.md");
    let text = std::fs::read_to_string(path).unwrap();
    let row = text
        .lines()
        .find(|line| line.starts_with("| `assistant/retry`"))
        .expect("protocol.md lists the methods that are not in this version");
    let listed = row.split('|').nth(1).unwrap_or_default();
    let names: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
    for (name, response) in names.iter().zip(answers(&names)) {
        assert_eq!(response["error"]["code"], UNKNOWN, "`{name}`: {response}");
        let hint = response["error"]["data"]["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("not built yet"), "`{name}`: {response}");
    }
}

/// The responses to these methods, each called with `{}`, in the same order.
fn answers(names: &[&str]) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .unwrap();
    let mut responses = runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1024 * 1024);
        let (input, output) = tokio::io::split(server);
        let daemon = tokio::task::spawn_local(assistd::serve(input, output, Settings::ephemeral(), Signals::default()));
        let (heard, mut said) = tokio::io::split(client);
        for (id, method) in names.iter().enumerate() {
            let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": {} });
            said.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        }
        said.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"exit\"}\n")
            .await
            .unwrap();
        let mut lines = BufReader::new(heard).lines();
        let mut responses: Vec<Value> = Vec::new();
        while responses.len() < names.len() {
            let line = lines.next_line().await.unwrap().expect("every request is answered");
            responses.push(serde_json::from_str(&line).unwrap());
        }
        daemon.await.unwrap();
        responses
    });
    responses.sort_by_key(|response| response["id"].as_u64());
    responses
}
