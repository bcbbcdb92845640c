//! End of input, `shutdown`, `exit`, and the exit codes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::daemon::Daemon;
use super::{home, stored_run};
use crate::program::{Home, PATIENCE, stdout};

/// What `exit` may take, and what this machine may take besides.
const SOON: Duration = Duration::from_millis(1500 + 1000);

#[test]
fn a_shell_pipes_a_question_in_and_gets_the_answer() {
    let home = home();
    let output = home.run(
        &[],
        r#"{"jsonrpc":"2.0","id":"q","method":"assistant/send","params":{"content":"slowly"}}"#,
    );
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    let last = text.lines().last().unwrap();
    assert!(last.contains(r#""id":"q""#) && last.contains("seven eight"), "{text}");
}

#[test]
fn at_the_end_of_input_all_runs_finish_and_are_answered() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "thread/create", json!({}));
    let thread = daemon.result(1)["threadId"].clone();
    for id in 2..=4 {
        daemon.ask_in(id, &thread, "slowly");
    }
    daemon.ask(5, "slowly");
    // The last line has no line break.
    daemon.write(br#"{"jsonrpc":"2.0","id":6,"method":"assistant/send","params":{"content":"last"}}"#);
    daemon.end_input();
    for id in 2..=5 {
        assert_eq!(daemon.result(id)["text"], "one two three four five six seven eight");
        assert_eq!(daemon.text(id), "one two three four five six seven eight");
    }
    assert_eq!(daemon.result(6)["text"], "You said: last");
    daemon.finish(0);
}

#[test]
fn at_the_end_of_input_half_a_message_is_answered() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.write(br#"{"jsonrpc":"2.0","id":6,"method":"#);
    daemon.end_input();
    let message = daemon.read().unwrap();
    assert_eq!(
        (&message["id"], &message["error"]["code"]),
        (&json!(null), &json!(-32700))
    );
    daemon.finish(0);
}

#[test]
fn a_tool_call_that_is_open_at_the_end_of_input_gets_an_error_as_its_output() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "initialize", json!({ "capabilities": { "toolCall": true } }));
    daemon.ask(2, "tool");
    daemon.until("`tool/call`", |message| message["method"] == "tool/call");
    daemon.end_input();
    let answer = daemon.result(2);
    assert_eq!(answer["status"], "completed");
    let text = answer["text"].as_str().unwrap();
    assert!(text.starts_with("Look: error: ") && text.contains("closed"), "{text}");
    daemon.finish(0);
}

/// The runs of a daemon, one of each kind: running, waiting for its thread, waiting for the client's tool.
fn busy_daemon(home: &Home) -> Daemon {
    let mut daemon = Daemon::start(home);
    daemon.request(1, "initialize", json!({ "capabilities": { "toolCall": true } }));
    daemon.ask(2, "stall");
    let thread = daemon.notification("assistant/delta", 2)["threadId"].clone();
    daemon.ask_in(3, &thread, "queued");
    daemon.ask(4, "tool");
    daemon.until("`tool/call`", |message| message["method"] == "tool/call");
    daemon.notification("assistant/started", 3);
    daemon
}

fn expect_cancelled(daemon: &mut Daemon) {
    for (id, text) in [(2, "Wait for it"), (3, ""), (4, "Look: ")] {
        let answer = daemon.result(id);
        assert_eq!(
            (&answer["status"], &answer["text"]),
            (&json!("cancelled"), &json!(text)),
            "{answer}"
        );
        assert_eq!(daemon.course(id).last().unwrap(), "response");
    }
    let told: Vec<_> = daemon
        .heard
        .iter()
        .filter(|message| message["method"] == "$/cancelRequest")
        .collect();
    assert_eq!(
        told.len(),
        1,
        "the client is told that its tool is not needed: {told:?}"
    );
}

#[test]
fn exit_answers_every_run_and_leaves_with_1() {
    let home = home();
    let mut daemon = busy_daemon(&home);
    let start = Instant::now();
    daemon.notify("exit");
    expect_cancelled(&mut daemon);
    assert_eq!(daemon.rest(), [json!(null); 0]);
    let took = daemon.finish(1).at - start;
    assert!(took < SOON, "{took:?}");
}

#[test]
fn exit_after_shutdown_leaves_with_0() {
    let home = home();
    let mut daemon = busy_daemon(&home);
    let start = Instant::now();
    daemon.request(5, "shutdown", json!(null));
    daemon.result(5);
    expect_cancelled(&mut daemon);
    let answered = |id: u64| {
        daemon
            .heard
            .iter()
            .position(|message| message["id"] == id && message.get("method").is_none())
    };
    assert!(
        (2..=4).all(|id| answered(id) < answered(5)),
        "`shutdown` is answered last"
    );
    daemon.ask(6, "too late");
    assert_eq!(daemon.error(6)["code"], -32013);
    daemon.notify("exit");
    let took = daemon.finish(0).at - start;
    assert!(took < SOON, "{took:?}");
}

#[test]
fn the_end_of_input_after_shutdown_leaves_with_0() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "shutdown", json!(null));
    daemon.result(1);
    daemon.leave();
}

#[test]
fn the_end_of_input_at_once_leaves_with_0() {
    let home = home();
    Daemon::start(&home).leave();
}

/// A client that takes nothing for ten seconds, while output waits after the end of its input, is gone.
#[test]
fn after_the_end_of_input_nobody_waits_for_a_client_that_does_not_read() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "huge");
    let started = daemon.notification("assistant/started", 1);
    daemon.end_input();
    daemon.wait(Duration::from_secs(25));
    // What stands in the pipe is no use to anybody: it ends in the middle of a line.
    daemon.close_output();
    daemon.finish(0);
    let stored = stored_run(&home, &started["runId"]);
    assert_eq!(
        (&stored["status"], &stored["stopReason"]),
        (&json!("interrupted"), &json!("clientGone"))
    );
}

#[test]
fn exit_does_not_wait_for_a_client_that_does_not_read() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "huge");
    daemon.notification("assistant/delta", 1);
    let start = Instant::now();
    daemon.notify("exit");
    let took = daemon.wait(Duration::from_secs(20)).at - start;
    assert!(took < SOON, "{took:?}");
    daemon.close_output();
    daemon.finish(1);
}

/// A daemon whose run has ended, with more to say than its client reads, after the end of its input.
fn talkative_daemon(home: &Home, process: Option<u32>) -> Daemon {
    let mut daemon = Daemon::start(home);
    daemon.request(1, "initialize", json!({ "processId": process }));
    daemon.ask(2, "large");
    let run = daemon.notification("assistant/started", 2)["runId"].clone();
    daemon.end_input();
    let deadline = Instant::now() + PATIENCE;
    while stored_run(home, &run)["status"] != "completed" {
        assert!(Instant::now() < deadline, "the run does not end");
    }
    daemon
}

#[test]
fn a_daemon_that_only_flushes_can_still_be_told_to_leave() {
    let home = home();
    let mut daemon = talkative_daemon(&home, None);
    let since = Instant::now();
    daemon.signal(Signal::TERM);
    let took = daemon.wait(PATIENCE).at - since;
    assert!(took < SOON, "{took:?}");
    daemon.close_output();
    daemon.finish(0);

    let mut editor = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut daemon = talkative_daemon(&home, Some(editor.id()));
    let since = Instant::now();
    editor.kill().unwrap();
    editor.wait().unwrap();
    let took = daemon.wait(PATIENCE).at - since;
    assert!(took < SOON, "{took:?}");
    daemon.close_output();
    daemon.finish(0);

    let mut daemon = talkative_daemon(&home, None);
    let since = Instant::now();
    daemon.close_output();
    let took = daemon.finish(0).at - since;
    assert!(took < SOON, "{took:?}");

    let mut daemon = talkative_daemon(&home, None);
    daemon.result(2);
    assert_eq!(daemon.text(2).len(), 400_000, "who reads late gets everything");
    daemon.finish(0);
}
