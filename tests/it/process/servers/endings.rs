//! However assistd ends, no server stays behind, nor anything that one started.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{Daemon, Process, Stage, ask};

/// A daemon whose server has started something by itself, the server, and that.
fn with_server(options: &str) -> (Stage, Daemon, [Process; 2]) {
    let mut stage = Stage::new(&format!("child {options}"), "", &[("wait", &["wait"])]);
    let mut daemon = stage.start();
    ask(&mut daemon, 1, "tools");
    let processes = [stage.process(), stage.process()];
    assert!(!processes.iter().any(Process::is_gone));
    (stage, daemon, processes)
}

fn expect_gone(processes: &[Process]) {
    processes.iter().for_each(Process::expect_gone);
}

#[test]
fn at_the_end_of_input_servers_may_leave_by_themselves() {
    let (mut stage, daemon, processes) = with_server("");
    daemon.leave();
    expect_gone(&processes);
    assert_eq!(stage.note(), "end of input");
}

#[test]
fn a_server_that_does_not_leave_is_killed() {
    for signal in [None, Some(Signal::TERM), Some(Signal::HUP)] {
        let (_stage, mut daemon, processes) = with_server("stubborn");
        let start = Instant::now();
        match signal {
            None => daemon.end_input(),
            Some(signal) => daemon.signal(signal),
        }
        let took = daemon.finish(0).at - start;
        assert!(took < Duration::from_millis(1500), "{took:?}");
        expect_gone(&processes);
    }
}

#[test]
fn exit_ends_servers_in_the_middle_of_a_call() {
    let (mut stage, mut daemon, processes) = with_server("stubborn");
    daemon.ask(2, "wait");
    assert_eq!(stage.note(), "waiting");
    let start = Instant::now();
    daemon.notify("exit");
    assert_eq!(daemon.result(2)["status"], "cancelled");
    let took = daemon.finish(1).at - start;
    assert!(took < Duration::from_millis(1500), "{took:?}");
    expect_gone(&processes);
}

#[test]
fn a_client_that_is_gone_takes_the_servers_with_it() {
    for options in ["", "stubborn"] {
        let (mut stage, mut daemon, processes) = with_server(options);
        daemon.ask(2, "wait");
        assert_eq!(stage.note(), "waiting");
        let start = Instant::now();
        daemon.close_output();
        let took = daemon.finish(0).at - start;
        assert!(took < Duration::from_millis(500), "{took:?}");
        expect_gone(&processes);
    }
}

#[test]
fn an_editor_that_dies_takes_the_servers_with_it() {
    let mut stage = Stage::new("child stubborn", "", &[]);
    let mut daemon = stage.start();
    let mut editor = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    daemon.request(1, "initialize", json!({ "processId": editor.id() }));
    ask(&mut daemon, 2, "tools");
    let processes = [stage.process(), stage.process()];
    editor.kill().unwrap();
    editor.wait().unwrap();
    daemon.finish(0);
    expect_gone(&processes);
}

#[test]
fn a_server_that_is_being_started_is_ended_too() {
    let mut stage = Stage::new("child silent", "", &[]);
    let mut daemon = stage.start();
    daemon.ask(1, "tools");
    let processes = [stage.process(), stage.process()];
    daemon.signal(Signal::TERM);
    daemon.result(1);
    daemon.finish(0);
    expect_gone(&processes);
}

/// What a server started by itself is the server's to end then: nobody else is left to do it.
#[cfg(target_os = "linux")]
#[test]
fn a_server_does_not_survive_kill_9_of_assistd() {
    for options in ["", "stubborn"] {
        let (_stage, mut daemon, [server, child]) = with_server(options);
        daemon.kill();
        server.expect_gone();
        rustix::process::pidfd_send_signal(&child.0, Signal::KILL).unwrap();
    }
}

#[test]
fn what_a_dead_server_started_goes_with_it() {
    let mut stage = Stage::new("child", "", &[("die", &["die"])]);
    let mut daemon = stage.start();
    ask(&mut daemon, 1, "die");
    let processes = [stage.process(), stage.process()];
    expect_gone(&processes);
    daemon.leave();
}
