//! Several daemons, one database.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{Daemon, home, is_well, stored_run};

#[test]
fn two_daemons_see_each_others_threads_and_wait_for_nothing() {
    let home = home();
    let mut a = Daemon::start(&home);
    let mut b = Daemon::start(&home);
    a.ask(1, "stall");
    let run = a.notification("assistant/delta", 1);
    let thread = &run["threadId"];

    // While the first has a run under way, the second reads its thread, and works in another.
    b.request(1, "thread/list", json!({}));
    assert_eq!(b.result(1)["threads"][0]["threadId"], *thread);
    b.request(2, "thread/read", json!({ "threadId": thread }));
    let read = b.result(2);
    assert_eq!(
        (&read["messages"][0]["content"][0]["text"], &read["thread"]["activeRun"]),
        (&json!("stall"), &run["runId"])
    );
    is_well(&mut b, 3);

    // In the same thread it is told so, in a sentence.
    b.ask_in(4, thread, "me too");
    let error = b.error(4);
    assert_eq!(
        (&error["code"], &error["data"]["kind"], &error["data"]["runId"]),
        (&json!(-32006), &json!("busy"), &run["runId"])
    );
    assert!(
        error["message"].as_str().unwrap().contains(thread.as_str().unwrap()),
        "{error}"
    );
    b.request(5, "thread/delete", json!({ "threadId": thread }));
    assert_eq!(b.error(5)["data"]["kind"], "busy");

    // The first goes on as if nothing had happened; when it is done, the second goes on from there.
    a.request(2, "assistant/cancel", json!({ "token": 1 }));
    assert_eq!(a.result(1)["text"], "Wait for it");
    a.result(2);
    is_well(&mut a, 3);
    b.ask_in(6, thread, "history");
    assert_eq!(
        b.result(6)["text"],
        "user: stall\nassistant: Wait for it\nuser: history"
    );
    // What it answers now was stored behind that answer.
    is_well(&mut b, 7);
    a.ask_in(4, thread, "history");
    let text = a.result(4)["text"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("user: stall\nassistant: Wait for it\nuser: history\nassistant: user: stall"),
        "{text}"
    );
    a.leave();
    b.leave();
}

#[test]
fn the_run_of_a_daemon_that_was_killed_is_in_nobodys_way() {
    let home = home();
    let mut a = Daemon::start(&home);
    let mut b = Daemon::start(&home);
    is_well(&mut b, 1);
    a.ask(1, "stall");
    let thread = a.notification("assistant/delta", 1)["threadId"].clone();
    b.ask_in(2, &thread, "history");
    b.error(2);
    a.signal(Signal::KILL);
    a.rest();
    let shown = a.text(1);
    a.kill();
    b.ask_in(3, &thread, "history");
    let text = b.result(3)["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with(&format!("user: stall\nassistant: {shown}")), "{text}");
    b.leave();
}

/// Each opens the database first, or nearly, and each writes as fast as it can.
#[test]
fn many_daemons_at_once_lose_nothing() {
    const DAEMONS: u64 = 6;
    const RUNS: u64 = 10;
    let home = Arc::new(home());
    let clients: Vec<_> = (0..DAEMONS)
        .map(|_| {
            let home = home.clone();
            thread::spawn(move || {
                let mut daemon = Daemon::start(&home);
                for id in 1..=RUNS {
                    daemon.ask(id, "well?");
                }
                for id in 1..=RUNS {
                    assert_eq!(daemon.result(id)["text"], "You said: well?");
                }
                daemon.leave();
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let threads = home.request("thread/list", json!({ "limit": 200 }));
    let threads = threads["threads"].as_array().unwrap();
    assert_eq!(threads.len() as u64, DAEMONS * RUNS);
    assert!(
        threads
            .iter()
            .all(|thread| thread["messages"] == 2 && thread["activeRun"].is_null())
    );
}

/// Somebody has the right to write and does not give it back: a process that was stopped in the middle, say.
#[test]
fn a_database_that_is_held_up_holds_up_no_end() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "stall");
    let run = daemon.notification("assistant/delta", 1)["runId"].clone();
    daemon.request(2, "server/status", json!({}));
    let database = daemon.result(2)["database"].as_str().unwrap().to_owned();
    daemon.request(5, "thread/create", json!({}));
    let thread = daemon.result(5)["threadId"].clone();
    let lock = File::open(Path::new(&database).with_file_name("write.lock")).unwrap();
    lock.lock().unwrap();

    daemon.ask(3, "never stored");
    daemon.request(4, "thread/create", json!({}));
    daemon.request(6, "thread/delete", json!({ "threadId": thread }));
    // Answered without the database: by then all of them were taken.
    daemon.request(7, "server/status", json!({}));
    daemon.result(7);
    let since = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.result(1)["status"], "cancelled");
    for id in [3, 4, 6] {
        assert_eq!(daemon.error(id)["data"]["kind"], "shuttingDown");
    }
    let shown = daemon.text(1);
    let took = daemon.finish(0).at - since;
    println!("gone after {took:?}");
    assert!(took < Duration::from_millis(2500), "{took:?}");

    // What was shown, and how it ended, stands in the journal.
    drop(lock);
    let stored = stored_run(&home, &run);
    assert_eq!(
        (&stored["status"], &stored["text"]),
        (&json!("cancelled"), &json!(shown))
    );
}
