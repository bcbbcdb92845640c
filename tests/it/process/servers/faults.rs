//! Servers that do not do what they should.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Stage, ask, said_of_servers};

#[test]
fn a_server_that_dies_in_a_call_is_started_again_once_in_a_run() {
    let echo = "echo = { text = \"back\" }";
    let mut stage = Stage::new(
        "",
        "env.TOKEN = \"ghp_0123456789\"",
        &[("die", &["die", echo, "die", echo]), ("echo", &[echo])],
    );
    let mut daemon = stage.start();
    let died = "error: the MCP server `demo` (`python3`) did not answer the call of `die`: it has ended (exit status 3): \
                out of memory, says token ***";
    assert_eq!(
        ask(&mut daemon, 1, "die"),
        [
            died,
            "back",
            died,
            "error: the MCP server `demo` (`python3`) has ended once more and is not started again"
        ]
    );
    assert_eq!(ask(&mut daemon, 2, "echo"), ["back"], "the next run starts it");
    let pids = [stage.note(), stage.note(), stage.note()];
    assert!(!stage.has_note(), "{pids:?}");
    daemon.leave();
}

#[test]
fn an_answer_that_a_dying_server_gave_counts() {
    let mut stage = Stage::new("", "", &[("last", &["last_words"])]);
    let mut daemon = stage.start();
    for id in [1, 3, 5, 7, 9] {
        ask(&mut daemon, id, "tools");
        let server = stage.process();
        assert_eq!(ask(&mut daemon, id + 1, "last"), ["farewell"]);
        server.expect_gone();
    }
    daemon.leave();
}

#[test]
fn a_server_that_never_gets_ready_costs_its_time_once() {
    let mut stage = Stage::new("silent", "startup_timeout = 1", &[]);
    let mut daemon = stage.start();
    ask(&mut daemon, 1, "tools");
    stage.note();
    let failed = (
        "failed".to_owned(),
        "the MCP server `demo` (`python3`) was not ready within 1 s: thinking".to_owned(),
    );
    assert_eq!(said_of_servers(&daemon, 1).last(), Some(&failed));
    // The next run does not wait for it again, and is told the same.
    let start = Instant::now();
    ask(&mut daemon, 2, "tools");
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(said_of_servers(&daemon, 2).last(), Some(&failed));
    assert!(!stage.has_note(), "it was started once");
    daemon.leave();
}

#[test]
fn garbage_and_floods_are_passed_over() {
    let stage = Stage::new("garbage flood", "", &[("echo", &["echo = { text = \"hello\" }"])]);
    let mut daemon = stage.start();
    let heard = ask(&mut daemon, 1, "echo");
    assert_eq!(heard, ["hello"], "{:?}", said_of_servers(&daemon, 1));
    daemon.leave();
}

#[test]
fn what_a_server_says_is_logged_without_secrets_and_without_the_users_words() {
    let settings = "env.TOKEN = \"ghp_0123456789\"";
    let answers: &[(&str, &[&str])] = &[("die", &["grow", "echo = { text = \"sesame\" }", "die"])];
    let stage = Stage::new("", settings, answers);
    let log = stage.home.path().join("log");
    let mut command = stage.command();
    command.arg("--log").arg("debug").arg("--log-file").arg(&log);
    command.arg("--wire-log").arg(stage.home.path().join("wire"));
    let mut daemon = super::Daemon::run(command, super::pipes());
    ask(&mut daemon, 1, "die");
    daemon.leave();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("out of memory, says token ***"), "{log}");
    assert!(log.contains("growing"), "what it sends to be logged is");
    for word in ["ghp_0123456789", "sesame"] {
        assert!(!log.contains(word), "{word} is in {log}");
    }
    let wire = std::fs::read_to_string(stage.home.path().join("wire")).unwrap();
    assert!(!wire.contains("ghp_0123456789"), "{wire}");
}

/// The client is asked within the size of its messages.
#[test]
fn arguments_that_are_too_large_to_be_shown_are_not_agreed_to() {
    let text = "x".repeat(70_000);
    let call = format!("echo = {{ text = \"{text}\" }}");
    let stage = Stage::new("", "tools.echo = \"ask\"", &[("echo", &[&call])]);
    let mut daemon = stage.start();
    daemon.request(1, "initialize", json!({ "capabilities": { "toolApprove": true } }));
    let outputs = ask(&mut daemon, 2, "echo");
    assert!(
        outputs[0].starts_with("error: the arguments of `demo_echo` are too large: "),
        "{outputs:?}"
    );
    daemon.leave();
}
