//! Runs that go on upstream though their process is killed or their client is gone: the next daemon takes them up.

use serde_json::{Value, json};

use super::daemon::Daemon;
use crate::program::Home;

/// Each piece of it says where it stands, so that nothing can be there twice without being seen.
fn counted(words: usize) -> String {
    (0..words).map(|number| format!("{number} ")).collect()
}

const HISTORY: &str = "{ match = \"history\", steps = [{ text = \"{history}\" }] }";

/// A script whose answers go on, with these steps for anything but `history`.
fn script(steps: &str) -> String {
    format!("background = true\nanswers = [{HISTORY}, {{ steps = [{steps}] }}]")
}

fn counting(words: usize) -> String {
    let text = counted(words);
    script(&format!("{{ text = \"{text}\", split = \"words\", delay_ms = 1 }}"))
}

/// A run of the home, begun by a daemon that can be killed; with its thread.
fn begin(home: &Home) -> (Daemon, Value, Value) {
    let mut daemon = Daemon::start(home);
    daemon.ask(1, "count");
    let started = daemon.notification("assistant/started", 1);
    (daemon, started["threadId"].clone(), started["runId"].clone())
}

/// Kills the daemon when this many deltas were shown, or the end; gives all text that was.
fn kill_after_deltas(mut daemon: Daemon, deltas: usize) -> String {
    let mut shown = String::new();
    for _ in 0..deltas {
        let message = daemon.until("a delta or the end", |message| {
            message["method"] == "assistant/delta" || message["method"] == "assistant/completed"
        });
        match message["params"]["part"].is_null() {
            false => shown += message["params"]["text"].as_str().unwrap(),
            true => break,
        }
    }
    daemon.kill();
    shown
}

/// Waits in a new daemon until the run has ended: what is sent to its thread comes behind it. Gives what the model was
/// told then, and the run.
fn outlive(home: &Home, thread: &Value, run: &Value) -> (String, Value) {
    let mut daemon = Daemon::start(home);
    daemon.ask_in(1, thread, "history");
    daemon.result(1);
    let history = daemon.text(1);
    daemon.request(2, "run/get", json!({ "runId": run }));
    let run = daemon.result(2);
    daemon.leave();
    (history, run)
}

fn end_of(run: &Value) -> (&str, &str) {
    (run["status"].as_str().unwrap(), run["stopReason"].as_str().unwrap())
}

#[test]
fn an_answer_goes_on_where_its_process_was_killed() {
    const WORDS: usize = 20;
    let whole = counted(WORDS);
    let home = Home::with_script(&counting(WORDS));
    for deltas in 0..=WORDS {
        let (daemon, thread, run) = begin(&home);
        let shown = kill_after_deltas(daemon, deltas);
        assert!(whole.starts_with(&shown));
        let (history, run) = outlive(&home, &thread, &run);
        // Killed before its upstream had begun, it cannot go on.
        if deltas == 0 && end_of(&run) == ("interrupted", "daemonKilled") {
            continue;
        }
        assert_eq!(end_of(&run), ("completed", "endTurn"), "killed after {deltas} deltas");
        assert_eq!(run["text"], whole, "killed after {deltas} deltas");
        assert_eq!(
            run["messages"].as_array().unwrap().len(),
            1,
            "killed after {deltas} deltas"
        );
        assert_eq!(history, format!("user: count\nassistant: {whole}\nuser: history"));
    }
}

#[test]
fn a_process_that_took_it_up_may_be_killed_as_well() {
    const WORDS: usize = 60;
    let home = Home::with_script(&counting(WORDS));
    for looks in 0..12 {
        let (daemon, thread, run) = begin(&home);
        let mut shown = kill_after_deltas(daemon, 20);
        for _ in 0..2 {
            let mut daemon = Daemon::start(&home);
            for look in 0..looks {
                daemon.request(look, "run/get", json!({ "runId": run }));
                let seen = daemon.result(look);
                let seen = seen["text"].as_str().unwrap_or_default();
                if seen.len() > shown.len() {
                    assert!(seen.starts_with(&shown));
                    shown = seen.to_owned();
                }
            }
            daemon.kill();
        }
        let (_, run) = outlive(&home, &thread, &run);
        assert_eq!(end_of(&run), ("completed", "endTurn"), "killed after {looks} looks");
        assert_eq!(run["text"], counted(WORDS), "killed after {looks} looks");
    }
}

/// The thread has its run meanwhile, and the client sees it where it looks, but hears nothing of it.
#[test]
fn a_run_that_was_taken_up_is_there_to_be_seen_and_cancelled() {
    let steps = "{ text = \"one two \", split = \"words\" }, { stall = true }";
    let home = Home::with_script(&script(steps));
    let (daemon, thread, run) = begin(&home);
    kill_after_deltas(daemon, 1);
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "initialize", json!({ "capabilities": { "events": "all" } }));
    daemon.result(1);
    daemon.ask_in(2, &thread, "history");
    assert_eq!(daemon.notification("assistant/started", 2)["status"], "queued");
    daemon.request(3, "run/get", json!({ "runId": run }));
    let seen = daemon.result(3);
    assert_eq!(
        (&seen["status"], &seen["text"]),
        (&json!("inProgress"), &json!("one two "))
    );
    daemon.request(
        4,
        "assistant/send",
        json!({ "threadId": thread, "content": "now?", "onBusy": "error" }),
    );
    assert_eq!(daemon.error(4)["data"]["runId"], run);
    daemon.request(5, "assistant/cancel", json!({ "runId": run }));
    assert_eq!(daemon.result(5)["runs"][0]["status"], "inProgress");
    daemon.result(2);
    assert_eq!(daemon.text(2), "user: count\nassistant: one two \nuser: history");
    daemon.request(6, "run/get", json!({ "runId": run }));
    assert_eq!(end_of(&daemon.result(6)), ("cancelled", "cancelled"));
    daemon.leave();
}

/// The client is gone, and the answer is wanted all the same.
#[test]
fn a_run_whose_client_is_gone_is_left_to_the_next_daemon() {
    let home = Home::with_script(&counting(200));
    let (mut daemon, thread, run) = begin(&home);
    daemon.notification("assistant/delta", 1);
    daemon.close_output();
    daemon.finish(0);
    let (_, run) = outlive(&home, &thread, &run);
    assert_eq!(end_of(&run), ("completed", "endTurn"));
    assert_eq!(run["text"], counted(200));
}

/// Two editors: one is killed, and the other, which was there all the time, comes upon its run.
#[test]
fn a_daemon_that_finds_it_in_the_way_takes_it_up() {
    let home = Home::with_script(&counting(100));
    let mut other = Daemon::start(&home);
    other.request(1, "thread/list", json!({}));
    other.result(1);
    let (daemon, thread, run) = begin(&home);
    kill_after_deltas(daemon, 5);
    other.ask_in(2, &thread, "history");
    assert_eq!(other.notification("assistant/started", 2)["status"], "queued");
    other.result(2);
    let whole = counted(100);
    assert_eq!(other.text(2), format!("user: count\nassistant: {whole}\nuser: history"));
    other.request(3, "run/get", json!({ "runId": run }));
    assert_eq!(end_of(&other.result(3)), ("completed", "endTurn"));
    // Its thread is as any other.
    other.ask_in(4, &thread, "history");
    other.result(4);
    other.leave();
}

/// Settings may come with `initialize` only: what they are needed for waits until they are there.
#[test]
fn settings_of_the_client_are_waited_for() {
    let home = Home::new();
    let script = home.write("answers.toml", &counting(40));
    let settings = json!({ "capabilities": {}, "settings": { "providers": { "mine": { "dialect": "scripted", "script": script } }, "defaultProvider": "mine" } });
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "initialize", settings.clone());
    daemon.result(1);
    daemon.ask(2, "count");
    let run = daemon.notification("assistant/delta", 2);
    daemon.kill();
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "initialize", settings);
    daemon.result(1);
    daemon.ask_in(2, &run["threadId"], "history");
    daemon.result(2);
    let whole = counted(40);
    assert_eq!(
        daemon.text(2),
        format!("user: count\nassistant: {whole}\nuser: history")
    );
    daemon.leave();
}

/// Whoever closes the editor did not mean an answer that another one had asked for.
#[test]
fn a_daemon_that_is_shut_down_leaves_what_it_took_up() {
    let home = Home::with_script(&counting(300));
    let (daemon, thread, run) = begin(&home);
    kill_after_deltas(daemon, 1);
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "run/get", json!({ "runId": run }));
    assert_eq!(daemon.result(1)["status"], "inProgress");
    daemon.request(2, "shutdown", json!({}));
    daemon.result(2);
    daemon.notify("exit");
    daemon.finish(0);
    let (_, run) = outlive(&home, &thread, &run);
    assert_eq!(
        (end_of(&run), &run["text"]),
        (("completed", "endTurn"), &json!(counted(300)))
    );
}

/// A script that asks for something else is not held up, and ends nothing.
#[test]
fn a_client_that_only_looks_leaves_it_to_the_next_daemon() {
    let home = Home::with_script(&script("{ text = \"one \" }, { delay_ms = 60000 }, { text = \"two\" }"));
    let (daemon, thread, run) = begin(&home);
    kill_after_deltas(daemon, 1);
    for _ in 0..2 {
        let seen = home.request("run/get", json!({ "runId": run }));
        assert_eq!(seen["status"], "inProgress", "{seen}");
    }
    home.write("script.toml", &script("{ text = \"one \" }, { text = \"two\" }"));
    let (_, run) = outlive(&home, &thread, &run);
    assert_eq!(
        (end_of(&run), &run["text"]),
        (("completed", "endTurn"), &json!("one two"))
    );
}

#[test]
fn an_upstream_that_says_something_else_now_is_not_believed() {
    for other in ["one three", "one"] {
        let home = Home::with_script(&script("{ text = \"one two \" }, { stall = true }"));
        let (daemon, thread, run) = begin(&home);
        kill_after_deltas(daemon, 1);
        home.write("script.toml", &script(&format!("{{ text = \"{other}\" }}")));
        let (history, run) = outlive(&home, &thread, &run);
        assert_eq!(end_of(&run), ("interrupted", "daemonKilled"));
        assert_eq!(run["text"], "one two ");
        assert_eq!(run["error"]["data"]["kind"], "upstream", "{run}");
        assert_eq!(history, "user: count\nassistant: one two \nuser: history");
    }
}

/// It cannot be reached any more: what was shown is what there is.
#[test]
fn an_upstream_that_fails_at_once_leaves_the_run_interrupted() {
    let home = Home::with_script(&script("{ text = \"one \" }, { stall = true }"));
    let (daemon, thread, run) = begin(&home);
    kill_after_deltas(daemon, 1);
    let failing = "{ retry = { attempts = 1 } }, { error = { kind = \"network\", message = \"no way there\" } }";
    home.write("script.toml", &script(failing));
    let (_, run) = outlive(&home, &thread, &run);
    assert_eq!(
        (end_of(&run), &run["text"]),
        (("interrupted", "daemonKilled"), &json!("one "))
    );
    assert_eq!(run["error"]["data"]["kind"], "network");
}

/// Without its provider a run cannot be taken up, and its thread is free.
#[test]
fn a_run_whose_provider_does_not_keep_it_is_interrupted() {
    let home = Home::with_script(&script("{ text = \"one \" }, { stall = true }"));
    let (daemon, thread, run) = begin(&home);
    kill_after_deltas(daemon, 1);
    home.write("script.toml", &format!("answers = [{HISTORY}]"));
    let (history, run) = outlive(&home, &thread, &run);
    assert_eq!(
        (end_of(&run), &run["text"]),
        (("interrupted", "daemonKilled"), &json!("one "))
    );
    assert_eq!(history, "user: count\nassistant: one \nuser: history");
}

const WITH_TOOL: &str = "{ text = \"Let me look. \", split = \"words\", delay_ms = 1 }, \
     { tool_call = { name = \"look\" } }, { text = \"It is {output}, I think.\", split = \"words\", delay_ms = 1 }";

/// Killed before the call, the run has nobody to call the tool when it gets there: whoever comes next can.
#[test]
fn a_tool_call_ends_a_run_that_was_taken_up() {
    let home = Home::with_script(&script(WITH_TOOL));
    let (daemon, thread, run) = begin(&home);
    kill_after_deltas(daemon, 2);
    let (history, run) = outlive(&home, &thread, &run);
    assert_eq!(end_of(&run), ("completed", "toolCalls"));
    assert_eq!(run["toolCalls"][0]["callId"], "call_1");
    assert_eq!(
        history,
        "user: count\nassistant: Let me look. \nlook({}): error: the call was not answered\nuser: history"
    );
}

/// Killed behind the call, it goes on with the output that it had.
#[test]
fn a_later_round_goes_on_as_well() {
    let home = Home::with_script(&script(WITH_TOOL));
    for deltas in 0..=5 {
        let mut daemon = Daemon::start(&home);
        daemon.request(1, "initialize", json!({ "capabilities": { "toolCall": true } }));
        daemon.ask(2, "count");
        let call = daemon.until("a call", |message| message["method"] == "tool/call");
        let (thread, run) = (&call["params"]["threadId"], &call["params"]["runId"]);
        daemon.say(&json!({ "jsonrpc": "2.0", "id": call["id"], "result": { "output": "sunny" } }));
        daemon.until("the output", |message| {
            message["params"]["step"]["status"] == "completed"
        });
        kill_after_deltas(daemon, deltas);
        let (history, run) = outlive(&home, thread, run);
        if deltas == 0 && end_of(&run) == ("interrupted", "daemonKilled") {
            continue;
        }
        assert_eq!(end_of(&run), ("completed", "endTurn"), "killed after {deltas} deltas");
        assert_eq!(
            history,
            "user: count\nassistant: Let me look. \nlook({}): sunny\nassistant: It is sunny, I think.\nuser: history"
        );
    }
}
