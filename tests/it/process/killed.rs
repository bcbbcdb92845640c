//! What survives kill -9.

use std::process::Command;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::daemon::Daemon;
use crate::program::Home;

/// Each piece of it says where it stands, so that nothing can be there twice without being seen.
fn counted(words: usize) -> String {
    (0..words).map(|number| format!("{number} ")).collect()
}

fn home(text: &str, delay: &str) -> Home {
    Home::with_script(&format!(
        "answers = [{{ match = \"history\", steps = [{{ text = \"{{history}}\" }}] }},\n\
         {{ steps = [{{ text = \"{text}\", split = \"words\"{delay} }}] }}]"
    ))
}

/// All text that these bytes show, that of a last line which is cut off included.
fn shown(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for line in std::str::from_utf8(bytes).unwrap().lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(message) if message["method"] == "assistant/delta" => {
                shown += message["params"]["text"].as_str().unwrap()
            }
            Ok(_) => {}
            Err(_) if line.contains("assistant/delta") => {
                let cut = line.split_once(r#""text":""#).map_or("", |(_, text)| text);
                shown += cut.split('"').next().unwrap();
            }
            Err(_) => {}
        }
    }
    shown
}

/// Reads the answer to this many bytes, kills the daemon, and looks with another what is left.
fn kill_after(home: &Home, bytes: usize, whole: &str) {
    let mut daemon = Daemon::start(home);
    daemon.request(1, "thread/create", json!({}));
    let thread = daemon.result(1)["threadId"].clone();
    daemon.ask_in(2, &thread, "count");
    let run = daemon.notification("assistant/started", 2)["runId"].clone();
    daemon.read_bytes(bytes);
    daemon.signal(Signal::KILL);
    // What was on its way counts as shown.
    daemon.read_bytes(usize::MAX);
    let shown = shown(daemon.unparsed());
    let is_answered = daemon.unparsed().windows(19).any(|word| word == b"assistant/completed");
    daemon.kill();

    let mut daemon = Daemon::start(home);
    daemon.request(1, "run/get", json!({ "runId": run }));
    let stored = daemon.result(1);
    let end = (
        stored["status"].as_str().unwrap(),
        stored["stopReason"].as_str().unwrap(),
    );
    let text = stored_text(&mut daemon, &stored);
    // The end may have been journaled, and not shown.
    let is_whole = is_answered || (end == ("completed", "endTurn") && text == whole);
    let expected = if is_whole {
        ("completed", "endTurn")
    } else {
        ("interrupted", "daemonKilled")
    };
    assert_eq!(end, expected, "killed after {bytes} bytes");
    assert!(
        text.starts_with(&shown),
        "killed after {bytes} bytes: {} bytes were shown, {} are kept",
        shown.len(),
        text.len()
    );
    assert!(
        whole.starts_with(&text),
        "killed after {bytes} bytes: what is kept is not what was said"
    );

    let (roles, active_run) = roles(&mut daemon, &thread);
    let expected: &[&str] = if text.is_empty() && roles.len() == 1 {
        &["user"]
    } else {
        &["assistant", "user"]
    };
    assert_eq!(roles, expected, "killed after {bytes} bytes");
    assert_eq!(active_run, json!(null));

    // The thread goes on, with the partial text in its history.
    daemon.ask_in(4, &thread, "history");
    daemon.result(4);
    let before = if text.is_empty() {
        "user: count".to_owned()
    } else {
        format!("user: count\nassistant: {text}")
    };
    assert!(
        daemon.text(4) == format!("{before}\nuser: history"),
        "killed after {bytes} bytes: {}",
        daemon.text(4)
    );
    daemon.leave();
}

/// Who said something in the thread, newest first, and its run under way.
fn roles(daemon: &mut Daemon, thread: &Value) -> (Vec<String>, Value) {
    let mut roles = Vec::new();
    let mut cursor = Value::Null;
    for id in 100.. {
        daemon.request(id, "thread/read", json!({ "threadId": thread, "cursor": cursor }));
        let page = daemon.result(id);
        let messages = page["messages"].as_array().unwrap().iter();
        roles.extend(messages.map(|message| message["role"].as_str().unwrap().to_owned()));
        cursor = page["next"].clone();
        if cursor.is_null() {
            return (roles, page["thread"]["activeRun"].clone());
        }
    }
    unreachable!("the last page has no `next`")
}

fn stored_text(daemon: &mut Daemon, run: &Value) -> String {
    let Some(message) = run["messages"].as_array().unwrap().last() else {
        return String::new();
    };
    let mut text = String::new();
    let mut cursor = Value::Null;
    for id in 1000.. {
        daemon.request(
            id,
            "message/read",
            json!({ "messageId": message, "index": 0, "cursor": cursor }),
        );
        let response = daemon.response(id);
        if response["error"]["data"]["kind"] == "notFound" {
            break;
        }
        text += response["result"]["text"].as_str().unwrap();
        cursor = response["result"]["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    text
}

#[test]
fn whatever_was_shown_of_a_slow_answer_survives_kill_9() {
    let whole = counted(300);
    let home = home(&whole, ", delay_ms = 1");
    // The answer has about 70,000 bytes on the wire.
    for step in 0..24 {
        kill_after(&home, 200 + step * 2_999, &whole);
    }
}

#[test]
fn whatever_was_shown_of_a_flood_survives_kill_9() {
    let whole = counted(60_000);
    let home = home(&whole, "");
    for step in 0..12 {
        kill_after(&home, 200 + step * 31_013, &whole);
    }
}

#[test]
fn an_answer_that_was_given_survives_kill_9() {
    let whole = counted(10);
    let home = home(&whole, "");
    for _ in 0..5 {
        let mut daemon = Daemon::start(&home);
        daemon.ask(1, "count");
        let answer = daemon.result(1);
        daemon.kill();
        let stored = super::stored_run(&home, &answer["runId"]);
        assert_eq!(
            (&stored["status"], &stored["text"]),
            (&json!("completed"), &json!(whole))
        );
    }
}

/// The user's message is stored before anything happens; one that waits for its thread is not lost either.
#[test]
fn what_the_user_said_survives_kill_9() {
    let home = super::home();
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "stall");
    let run = daemon.notification("assistant/started", 1);
    daemon.ask_in(2, &run["threadId"], "and then?");
    daemon.notification("assistant/started", 2);
    daemon.kill();
    let read = home.request("thread/read", json!({ "threadId": run["threadId"] }));
    let messages = read["messages"].as_array().unwrap().iter().rev();
    let said: Vec<_> = messages.filter(|message| message["role"] == "user").collect();
    let said: Vec<_> = said
        .iter()
        .map(|message| message["content"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["stall", "and then?"]);
}

/// A program that the daemon had started goes with it. What that one started lives on, and must not pass for the daemon:
/// it inherits nothing.
#[test]
fn what_a_killed_daemon_started_is_in_nobodys_way() {
    let home = Home::new();
    let script = home.write("answers.toml", super::SCRIPT);
    let fifo = home.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    home.write_config(&format!(
        "default_provider = \"s\"\n\
         [providers.s]\ndialect = \"scripted\"\nscript = \"{}\"\n\
         [providers.p]\ndialect = \"assistants\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         api_key_command = [\"/bin/sh\", \"-c\", \
            \"exec 9> {}; /bin/sleep 600 9>&- & echo $! >&9; exec /bin/sleep 600\"]\n\
         [assistants.a]\nprovider = \"p\"\nassistant_id = \"asst_1\"\n",
        script.display(),
        fifo.display()
    ));
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "stall");
    let run = daemon.notification("assistant/delta", 1)["runId"].clone();
    daemon.request(2, "assistant/send", json!({ "content": "hello", "assistant": "a" }));
    let (program, child) = super::listen(&fifo);
    let child = Pid::from_raw(child.parse().unwrap()).unwrap();
    daemon.kill();
    if cfg!(target_os = "linux") {
        let is_gone = super::wait_for(&program, PollFlags::HUP, Instant::now() + super::PATIENCE);
        assert!(is_gone, "the program has outlived the daemon");
    }
    let stored = super::stored_run(&home, &run);
    kill_process(child, Signal::KILL).expect("what the program started has outlived the daemon");
    assert_eq!(
        (&stored["status"], &stored["stopReason"]),
        (&json!("interrupted"), &json!("daemonKilled"))
    );
}
