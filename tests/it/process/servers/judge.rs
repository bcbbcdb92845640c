//! A server made with the official Python SDK, as an independent judge of what is sent to servers.
//!
//! `tests/run` installs it into `target/tools`.

use std::path::Path;

use serde_json::json;

use super::{Stage, ask, said_of_servers};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/mcp/bin/python");
const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/judge.py");

#[test]
fn a_server_of_the_official_sdk_understands_all_of_it() {
    assert!(
        Path::new(PYTHON).exists(),
        "the SDK of MCP is not at {PYTHON}: `tests/run` installs it"
    );
    let answers: &[(&str, &[&str])] = &[
        ("add", &["add = { a = 2, b = 3 }", "add = { a = \"two\" }"]),
        ("report", &["report"]),
        ("wait", &["wait"]),
    ];
    let mut stage = Stage::of(&[PYTHON, JUDGE], "", answers);
    let mut daemon = stage.start();
    let outputs = ask(&mut daemon, 1, "add");
    assert_eq!(outputs[0], "5", "{:?}", said_of_servers(&daemon, 1));
    assert!(outputs[1].contains("valid integer"), "{outputs:?}");
    assert_eq!(ask(&mut daemon, 2, "tools"), ["demo_add, demo_report, demo_wait"]);
    assert_eq!(ask(&mut daemon, 3, "report"), ["one\ntwo"]);
    daemon.ask(4, "wait");
    assert_eq!(stage.note(), "waiting");
    daemon.request(5, "assistant/cancel", json!({ "token": 4 }));
    assert_eq!(daemon.result(4)["status"], "cancelled");
    assert_eq!(stage.note(), "cancelled");
    assert_eq!(ask(&mut daemon, 6, "report"), ["one\ntwo"]);
    daemon.leave();
}
