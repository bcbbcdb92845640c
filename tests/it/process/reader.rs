//! A client that reads slowly, or not at all.

use serde_json::json;

use super::daemon::MAX_LINE;
use super::{Daemon, home};

/// The whole of the answer `huge`.
const HUGE: usize = 32 * 1024 * 1024;

#[test]
fn a_client_that_does_not_read_costs_nobody_anything() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    super::is_well(&mut daemon, 1);
    #[cfg(target_os = "linux")]
    let before = daemon.peak_memory();
    daemon.ask(2, "huge");
    daemon.notification("assistant/delta", 2);

    // From here on nothing is read. More is written than a pipe holds, so the daemon has to take it.
    daemon.ask(3, "slowly");
    let filler = "x".repeat(1000);
    for id in 100..400 {
        daemon.request(id, "server/status", json!({ "_meta": { "filler": filler } }));
    }
    daemon.ask(4, "stall");
    daemon.request(5, "assistant/cancel", json!({ "token": 4 }));
    daemon.request(6, "assistant/cancel", json!({ "token": 2 }));
    #[cfg(target_os = "linux")]
    {
        let grown = daemon.peak_memory() - before;
        println!("nobody reads: {grown} bytes more");
        assert!(grown < 24 * 1024 * 1024, "the answer is held back: {grown} bytes more");
    }

    // Everything that was asked meanwhile is answered.
    assert_eq!(daemon.result(6)["runs"][0]["status"], "inProgress");
    for id in 100..400 {
        daemon.result(id);
    }
    assert_eq!(daemon.result(3)["text"], "one two three four five six seven eight");
    assert_eq!(daemon.result(4)["status"], "cancelled");
    let cancelled = daemon.result(2);
    assert_eq!(cancelled["status"], "cancelled");
    let text = daemon.text(2);
    assert!(
        text.len() < HUGE && text.starts_with("0123456789abcde\n0123"),
        "{}",
        text.len()
    );
    daemon.request(7, "run/get", json!({ "runId": cancelled["runId"] }));
    assert_eq!(daemon.result(7)["status"], "cancelled");
    daemon.leave();
}

#[test]
fn an_answer_that_waited_comes_whole_in_fewer_deltas() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "huge");
    let started = daemon.notification("assistant/started", 1);
    // The daemon has stopped at the full pipe by the time this is answered, or soon after.
    daemon.result(1);
    let text = daemon.text(1);
    assert_eq!(text.len(), HUGE);
    assert!(
        text.as_bytes().chunks(16).all(|line| line == b"0123456789abcde\n"),
        "the text is whole and in order"
    );
    let deltas = daemon
        .heard
        .iter()
        .filter(|message| message["method"] == "assistant/delta");
    let deltas: Vec<usize> = deltas
        .map(|message| message["params"]["text"].as_str().unwrap().len())
        .collect();
    println!(
        "{} deltas of at most {} bytes",
        deltas.len(),
        deltas.iter().max().unwrap()
    );
    assert!(
        deltas.len() < HUGE / 1024 / 8,
        "{} deltas: none were merged",
        deltas.len()
    );
    assert!(deltas.iter().all(|length| *length < MAX_LINE));
    #[cfg(target_os = "linux")]
    println!("peak: {} MiB", daemon.peak_memory() / 1024 / 1024);
    daemon.request(2, "run/get", json!({ "runId": started["runId"] }));
    assert_eq!(daemon.result(2)["status"], "completed");
    daemon.leave();
}

/// With 1,024 responses that nobody reads, the daemon takes no more requests, until somebody does. It can be told to
/// leave all the same.
#[test]
fn requests_whose_responses_nobody_reads_are_held_back_at_last() {
    let home = home();
    for is_read in [true, false] {
        let mut daemon = Daemon::start(&home);
        super::is_well(&mut daemon, 1);
        let (mut sent, mut bytes) = (0, Vec::new());
        for id in 100..100_000 {
            let request = json!({ "jsonrpc": "2.0", "id": id, "method": "provider/list", "params": {} });
            bytes.extend_from_slice(format!("{request}\n").as_bytes());
        }
        let written = daemon.write_what_is_taken(&bytes);
        assert!(written < bytes.len() / 2, "{written} bytes were taken");
        if !is_read {
            daemon.signal(rustix::process::Signal::TERM);
            daemon.wait(std::time::Duration::from_millis(2500));
            daemon.close_output();
            daemon.finish(0);
            continue;
        }
        // The line that was cut is completed, and everything is answered in its order.
        let rest = bytes[written..].iter().position(|byte| *byte == b'\n').unwrap();
        let last = bytes[..=written + rest].iter().filter(|byte| **byte == b'\n').count();
        while sent < last / 2 {
            assert_eq!(daemon.read().unwrap()["id"], 100 + sent as u64);
            sent += 1;
        }
        daemon.write(&bytes[written..=written + rest]);
        while sent < last {
            assert_eq!(daemon.read().unwrap()["id"], 100 + sent as u64);
            sent += 1;
        }
        println!("{sent} requests were taken while nobody read");
        daemon.leave();
    }
}
