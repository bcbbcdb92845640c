//! SIGTERM, SIGINT, SIGHUP.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{Daemon, home, stored_run};

const SIGNALS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::HUP];

/// 1.5 s are promised; a machine that has other things to do may take longer.
const SOON: Duration = Duration::from_millis(1500 + 1000);

#[test]
fn a_signal_ends_an_idle_daemon() {
    for signal in SIGNALS {
        let home = home();
        let mut daemon = Daemon::start(&home);
        super::is_well(&mut daemon, 1);
        daemon.signal(signal);
        daemon.finish(0);
    }
}

#[test]
fn a_signal_cancels_answers_and_flushes() {
    for signal in SIGNALS {
        let home = home();
        let mut daemon = Daemon::start(&home);
        daemon.ask(1, "stall");
        let thread = daemon.notification("assistant/delta", 1)["threadId"].clone();
        daemon.ask(2, "endless");
        daemon.ask_in(3, &thread, "queued");
        for id in [2, 3] {
            daemon.notification("assistant/started", id);
        }
        daemon.notification("assistant/delta", 2);
        let since = Instant::now();
        daemon.signal(signal);
        for id in 1..=3 {
            let answer = daemon.result(id);
            assert_eq!(
                (&answer["status"], &answer["stopReason"]),
                (&json!("cancelled"), &json!("cancelled"))
            );
            assert_eq!(answer["text"], daemon.text(id));
            let course = daemon.course(id);
            assert_eq!(course[course.len() - 2..], ["assistant/completed", "response"]);
        }
        let run = daemon.result(1)["runId"].clone();
        let took = daemon.finish(0).at - since;
        println!("{signal:?}: gone after {took:?}");
        assert!(took < SOON, "{signal:?}: {took:?}");
        let stored = stored_run(&home, &run);
        assert_eq!(
            (&stored["status"], &stored["text"]),
            (&json!("cancelled"), &json!("Wait for it"))
        );
    }
}

#[test]
fn a_signal_does_not_wait_for_a_client_that_does_not_read() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "huge");
    daemon.notification("assistant/delta", 1);
    let since = Instant::now();
    daemon.signal(Signal::TERM);
    let took = daemon.wait(Duration::from_secs(20)).at - since;
    assert!(took < SOON, "{took:?}");
    daemon.close_output();
    daemon.finish(0);
}
