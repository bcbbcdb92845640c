//! What stdin and stdout may be, and how they are left.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{OFlags, fcntl_getfl};
use serde_json::{Value, json};

use super::daemon::{Daemon, end_of};
use super::ends::{Ends, one_socket, pipes, sockets};
use super::home;
use crate::program::PATIENCE;

fn kinds() -> Vec<(&'static str, Ends)> {
    vec![
        ("pipes", pipes()),
        ("sockets", sockets()),
        ("one socket", one_socket()),
        #[cfg(target_os = "linux")]
        ("terminal", super::ends::terminal()),
    ]
}

#[test]
fn answers_are_whole_on_whatever_stdin_and_stdout_are() {
    for (kind, ends) in kinds() {
        println!("{kind}");
        let home = home();
        let mut daemon = Daemon::run(home.command(&["--stdio"]), ends);
        let question = "Ein \"großes\" Wort.\n".repeat(20_000);
        daemon.ask(1, "slowly");
        daemon.ask(2, &question);
        assert_eq!(daemon.result(1)["text"], "one two three four five six seven eight");
        daemon.result(2);
        assert!(daemon.text(2) == format!("You said: {question}"), "{kind}");
        daemon.request(3, "shutdown", json!(null));
        daemon.result(3);
        daemon.notify("exit");
        daemon.finish(0);
    }
}

/// A socket can say that no more comes, and still be read from.
#[test]
fn the_end_of_one_direction_is_not_the_end_of_both() {
    for ends in [sockets(), one_socket()] {
        let home = home();
        let mut daemon = Daemon::run(home.command(&["--stdio"]), ends);
        daemon.ask(1, "slowly");
        daemon.shut_input();
        assert_eq!(daemon.result(1)["text"], "one two three four five six seven eight");
        daemon.finish(0);
    }
}

/// They may be shared: with the shell that started assistd, or with the next program of a list in braces.
#[test]
fn descriptors_are_left_in_the_mode_in_which_they_were() {
    for (kind, ends) in kinds() {
        for makes_wait in [true, false] {
            let shared: Vec<OwnedFd> = [&ends.stdin, &ends.stdout].map(|end| end.try_clone().unwrap()).into();
            for end in &shared {
                rustix::io::ioctl_fionbio(end, !makes_wait).unwrap();
            }
            let before: Vec<OFlags> = shared.iter().map(|end| fcntl_getfl(end).unwrap()).collect();
            let again = Ends {
                input: ends.input.try_clone().unwrap(),
                output: ends.output.try_clone().unwrap(),
                stdin: ends.stdin.try_clone().unwrap(),
                stdout: ends.stdout.try_clone().unwrap(),
            };
            let home = home();
            let mut daemon = Daemon::run(home.command(&["--stdio"]), again);
            daemon.ask(1, "slowly");
            daemon.result(1);
            let during: Vec<OFlags> = shared.iter().map(|end| fcntl_getfl(end).unwrap()).collect();
            assert_eq!(during, before, "{kind}, under way");
            daemon.request(2, "shutdown", json!(null));
            daemon.result(2);
            daemon.notify("exit");
            daemon.wait(PATIENCE);
            // Others hold the output, so its end is not seen.
            daemon.close_output();
            daemon.finish(0);
            let after: Vec<OFlags> = shared.iter().map(|end| fcntl_getfl(end).unwrap()).collect();
            assert_eq!(after, before, "{kind}");
        }
    }
}

/// Runs a daemon with these as its stdin and stdout to its end, and gives its exit code and what it complained of.
fn run(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let home = home();
    let mut command = home.command(&["--stdio"]);
    let child = command.stdin(stdin).stdout(stdout).spawn().unwrap();
    let ended = end_of(rustix::process::Pid::from_child(&child));
    if ended.recv_timeout(PATIENCE).is_err() {
        let mut child = child;
        child.kill().unwrap();
        panic!("the daemon is still there");
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn files_and_the_null_device_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, answered) = (folder.path().join("asked"), folder.path().join("answered"));
    let send = json!({ "jsonrpc": "2.0", "id": 1, "method": "assistant/send", "params": { "content": "slowly" } });
    fs::write(&asked, format!("{send}\n")).unwrap();
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
    let clean = (Some(0), String::new());
    assert_eq!(
        run(File::open(&asked).unwrap(), File::create(&answered).unwrap()),
        clean
    );
    let text = fs::read_to_string(&answered).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["result"]["text"], "one two three four five six seven eight");
    assert_eq!(run(File::open(&asked).unwrap(), null()), clean);
    assert_eq!(run(null(), File::create(&answered).unwrap()), clean);
    assert_eq!(fs::read_to_string(&answered).unwrap(), "");

    // What is there already is not written over.
    fs::write(&answered, "before\n").unwrap();
    let more = File::options().append(true).open(&answered).unwrap();
    assert_eq!(run(File::open(&asked).unwrap(), more), clean);
    let text = fs::read_to_string(&answered).unwrap();
    assert!(text.starts_with("before\n{") && text.ends_with("}\n"), "{text}");
}

/// A disk that is full is a client that cannot be written to: quiet, and over.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_takes_nothing_ends_the_daemon_quietly() {
    let (stdin, mut input) = std::io::pipe().unwrap();
    let send = json!({ "jsonrpc": "2.0", "id": 1, "method": "assistant/send", "params": { "content": "stall" } });
    std::io::Write::write_all(&mut input, format!("{send}\n").as_bytes()).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(run(stdin, full), (Some(0), String::new()));
}

/// What some service managers and careless parents do.
#[test]
fn closed_descriptors_are_survived() {
    let home = home();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut shell = std::process::Command::new("sh");
        shell.args([
            "-c",
            &format!("exec \"$0\" --stdio {closed}"),
            env!("CARGO_BIN_EXE_assistd"),
        ]);
        shell
            .env_clear()
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = shell.spawn().unwrap();
        let ended = end_of(rustix::process::Pid::from_child(&child));
        assert!(
            ended.recv_timeout(PATIENCE).is_ok(),
            "{closed}: the daemon is still there"
        );
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b""[..]),
            "{closed}"
        );
    }
}
