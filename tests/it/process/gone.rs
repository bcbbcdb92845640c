//! A client that is gone, by its stdout or by its process.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::{Value, json};

use super::daemon::{Daemon, wait_for};
use super::ends::{Ends, one_socket, pipes, sockets};
use super::{home, stored_run};
use crate::program::{Home, PATIENCE};

/// The promise is 100 ms; a machine that has other things to do may take longer.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Ends of a kind, with its name.
type Kind = (&'static str, fn() -> Ends);

/// The kinds that tell when nobody reads.
const KINDS: &[Kind] = &[("pipes", pipes), ("sockets", sockets)];

/// Waits for the end of a daemon whose client went away at this moment.
fn expect_gone(mut daemon: Daemon, since: Instant, what: &str) {
    let took = daemon.wait(Duration::from_secs(20)).at - since;
    println!("{what}: gone after {took:?}");
    assert!(took < AT_ONCE, "{what}: gone after {took:?}");
    daemon.close_output();
    daemon.finish(0);
}

fn expect_client_gone(home: &Home, run: &Value, text: &str) {
    let stored = stored_run(home, run);
    let end = (&stored["status"], &stored["stopReason"]);
    assert_eq!(end, (&json!("interrupted"), &json!("clientGone")), "{stored}");
    assert!(
        stored["text"].as_str().unwrap_or_default().starts_with(text),
        "what was shown is kept"
    );
}

/// The client's process is killed while its pipes stay open elsewhere: only stdout tells.
#[test]
fn a_closed_stdout_ends_an_idle_daemon() {
    for (kind, ends) in KINDS {
        for has_spoken in [false, true] {
            let home = home();
            let mut daemon = Daemon::run(home.command(&["--stdio"]), ends());
            if has_spoken {
                daemon.request(1, "initialize", json!({}));
                daemon.result(1);
            }
            let since = Instant::now();
            daemon.close_output();
            expect_gone(daemon, since, kind);
        }
    }
}

#[test]
fn a_closed_stdout_ends_runs_that_say_nothing() {
    for (kind, ends) in KINDS {
        let home = home();
        let mut daemon = Daemon::run(home.command(&["--stdio"]), ends());
        daemon.ask(1, "stall");
        daemon.until("the text", |message| {
            message["params"]["text"] == "it"
                || message["params"]["text"]
                    .as_str()
                    .is_some_and(|text| text.ends_with("it"))
        });
        let shown = daemon.text(1);
        let run = daemon.heard[0]["params"].clone();
        daemon.ask_in(2, &run["threadId"], "queued");
        let queued = daemon.notification("assistant/started", 2);
        let since = Instant::now();
        daemon.close_output();
        expect_gone(daemon, since, kind);
        expect_client_gone(&home, &run["runId"], &shown);
        expect_client_gone(&home, &queued["runId"], "");
    }
}

#[test]
fn a_closed_stdout_ends_runs_that_stream() {
    for (kind, ends) in KINDS {
        for word in ["endless", "huge"] {
            let home = home();
            let mut daemon = Daemon::run(home.command(&["--stdio"]), ends());
            daemon.ask(1, word);
            for _ in 0..20 {
                daemon.read();
            }
            let shown = daemon.text(1);
            let run = daemon.heard[0]["params"]["runId"].clone();
            let since = Instant::now();
            daemon.close_output();
            expect_gone(daemon, since, &format!("{kind}, {word}"));
            let stored = stored_run(&home, &run);
            assert_eq!(stored["stopReason"], "clientGone", "{stored}");
            if stored["omitted"].is_null() {
                expect_client_gone(&home, &run, &shown);
            }
        }
    }
}

/// Nobody is left to answer, though the input had ended in good order before.
#[test]
fn a_closed_stdout_counts_after_the_end_of_input_and_after_shutdown_too() {
    for is_shut in [false, true] {
        let home = home();
        let mut daemon = Daemon::start(&home);
        daemon.ask(1, "stall");
        let run = daemon.notification("assistant/delta", 1)["runId"].clone();
        if is_shut {
            daemon.request(2, "shutdown", json!(null));
            daemon.result(2);
        } else {
            daemon.end_input();
        }
        let since = Instant::now();
        daemon.close_output();
        expect_gone(daemon, since, "after the end of input");
        let reason = if is_shut { "cancelled" } else { "clientGone" };
        assert_eq!(stored_run(&home, &run)["stopReason"], reason);
    }
}

#[test]
fn a_closed_stdout_ends_a_run_that_waits_for_the_clients_tool() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "initialize", json!({ "capabilities": { "toolCall": true } }));
    daemon.ask(2, "tool");
    daemon.until("`tool/call`", |message| message["method"] == "tool/call");
    let run = daemon.notification("assistant/started", 2)["runId"].clone();
    let since = Instant::now();
    daemon.close_output();
    expect_gone(daemon, since, "a tool call is open");
    expect_client_gone(&home, &run, "Look: ");
}

/// A socket for both directions, and a terminal, are closed as a whole.
#[test]
fn closed_ends_of_both_directions_end_the_daemon() {
    let kinds: &[Kind] = &[
        ("one socket", one_socket),
        #[cfg(target_os = "linux")]
        ("terminal", super::ends::terminal),
    ];
    for (kind, ends) in kinds {
        for word in [None, Some("stall"), Some("endless")] {
            let home = home();
            let mut daemon = Daemon::run(home.command(&["--stdio"]), ends());
            let run = word.map(|word| {
                daemon.ask(1, word);
                daemon.notification("assistant/delta", 1)["runId"].clone()
            });
            let since = Instant::now();
            daemon.end_input();
            daemon.close_output();
            expect_gone(daemon, since, &format!("{kind}, {word:?}"));
            if let Some(run) = run {
                expect_client_gone(&home, &run, "");
            }
        }
    }
}

/// A process that stands for the editor.
fn editor() -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn watching(daemon: &mut Daemon, process: Value) -> Value {
    daemon.request(1, "initialize", json!({ "processId": process }));
    daemon.result(1)["watchingProcess"].clone()
}

/// stdin and stdout are left open by somebody else, as a debugger or a second window does.
#[test]
fn the_death_of_the_watched_process_ends_the_daemon() {
    for word in [None, Some("stall"), Some("endless")] {
        let home = home();
        let mut editor = editor();
        let mut daemon = Daemon::start(&home);
        assert_eq!(watching(&mut daemon, json!(editor.id())), true);
        let run = word.map(|word| {
            daemon.ask(2, word);
            daemon.notification("assistant/delta", 2)["runId"].clone()
        });
        let since = Instant::now();
        editor.kill().unwrap();
        expect_gone(daemon, since, &format!("the editor's death, {word:?}"));
        editor.wait().unwrap();
        if let Some(run) = run {
            expect_client_gone(&home, &run, "");
        }
    }
}

#[test]
fn a_process_that_is_not_there_is_not_watched() {
    let mut dead = editor();
    dead.kill().unwrap();
    super::daemon::end_of(Pid::from_child(&dead)).recv().unwrap();
    // Dead, with its number still taken.
    expect_not_watched(json!(dead.id()));
    dead.wait().unwrap();
    for process in [
        json!(dead.id()),
        json!(i32::MAX),
        json!(u32::MAX),
        json!(0),
        json!(null),
    ] {
        expect_not_watched(process);
    }
}

fn expect_not_watched(process: Value) {
    let home = home();
    let mut daemon = Daemon::start(&home);
    assert_eq!(watching(&mut daemon, process), false);
    super::is_well(&mut daemon, 2);
    daemon.leave();
}

/// The whole scene: an editor starts assistd, says who it is, and is killed, while its pipes are held open by others.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_editor_leaves_no_daemon_behind() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    let home = home();
    // The shell waits for its child, so it is still there to be killed.
    let mut command = Command::new("sh");
    command
        .args(["-c", "\"$0\" --stdio; exit $?", env!("CARGO_BIN_EXE_assistd")])
        .env_clear()
        .env("HOME", home.path())
        .env("ASSISTD_SCRIPT", home.path().join("script.toml"));
    let mut editor = Daemon::run(command, pipes());
    let shell = editor.pid().as_raw_nonzero().get();
    assert_eq!(watching(&mut editor, json!(shell)), true);
    editor.request(2, "server/status", json!({}));
    let daemon = editor.result(2)["processId"].as_i64().unwrap() as i32;
    assert_ne!(daemon, shell);
    let daemon = pidfd_open(Pid::from_raw(daemon).unwrap(), PidfdFlags::empty()).unwrap();
    let since = Instant::now();
    editor.kill();
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&daemon, PollFlags::IN)], Some(&limit)).unwrap();
    let took = since.elapsed();
    println!("a killed editor: gone after {took:?}");
    assert_eq!(ended, 1, "the daemon is still there");
    assert!(took < AT_ONCE, "{took:?}");
}

/// A program that asks for a key is stopped with the daemon, with all that it started.
#[cfg(target_os = "linux")]
#[test]
fn no_child_is_left_behind() {
    use rustix::event::PollFlags;

    for signal in [None, Some(rustix::process::Signal::TERM)] {
        let home = Home::new();
        let fifo = home.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        home.write_config(&format!(
            "default_assistant = \"a\"\n\
             [providers.p]\ndialect = \"assistants\"\nbase_url = \"http://127.0.0.1:9/v1\"\n\
             api_key_command = [\"/bin/sh\", \"-c\", \"exec > {}; echo started; /bin/sleep 600 & wait\"]\n\
             [assistants.a]\nprovider = \"p\"\nassistant_id = \"asst_1\"\n",
            fifo.display()
        ));
        let mut daemon = Daemon::start(&home);
        daemon.ask(1, "hello");
        // Its end is seen when neither the shell nor its child holds the other side.
        let (fifo, said) = super::listen(&fifo);
        assert_eq!(said, "started");
        let since = Instant::now();
        match signal {
            None => daemon.close_output(),
            Some(signal) => {
                daemon.signal(signal);
                assert_eq!(daemon.result(1)["status"], "cancelled");
                assert_eq!(daemon.rest(), [json!(null); 0]);
            }
        }
        expect_gone(daemon, since, "with a key command under way");
        let deadline = Instant::now() + PATIENCE;
        assert!(
            wait_for(&fifo, PollFlags::IN, deadline),
            "the key command outlived the daemon"
        );
    }
}
