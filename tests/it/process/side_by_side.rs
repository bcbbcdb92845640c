//! Many threads over one connection.

use serde_json::json;

use super::{Daemon, home};

const THREADS: u64 = 20;
const ANSWER: &str = "one two three four five six seven eight";

#[test]
fn many_threads_answer_at_once_each_in_its_order() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    for id in 1..=THREADS {
        let params = json!({ "content": "slowly", "wait": id % 2 == 0 });
        daemon.request(id, "assistant/send", params);
    }
    for id in 1..=THREADS {
        daemon.notification("assistant/completed", id);
        daemon.result(id);
    }
    for id in 1..=THREADS {
        assert_eq!(daemon.text(id), ANSWER);
        let course = daemon.course(id);
        let (first, last) = match id % 2 {
            0 => (vec!["assistant/started"], vec!["assistant/completed", "response"]),
            _ => (vec!["assistant/started", "response"], vec!["assistant/completed"]),
        };
        assert_eq!(course[..first.len()], first, "{course:?}");
        assert_eq!(course[course.len() - last.len()..], last, "{course:?}");
        let between = &course[first.len()..course.len() - last.len()];
        assert!(between.iter().all(|method| method == "assistant/delta"), "{course:?}");
    }
    let at = |method: &str, id: u64| {
        let is_it = |message: &serde_json::Value| message["method"] == method && message["params"]["token"] == id;
        daemon.heard.iter().position(is_it).unwrap()
    };
    let last_start = (1..=THREADS).map(|id| at("assistant/started", id)).max().unwrap();
    let first_end = (1..=THREADS).map(|id| at("assistant/completed", id)).min().unwrap();
    assert!(last_start < first_end, "they run one after the other");
    daemon.leave();
}

#[test]
fn runs_of_one_thread_wait_for_each_other() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    daemon.request(1, "thread/create", json!({}));
    let thread = daemon.result(1)["threadId"].clone();
    for id in 2..12 {
        daemon.ask_in(id, &thread, if id == 11 { "history" } else { "next" });
    }
    let last = daemon.result(11);
    let turn = "user: next\nassistant: You said: next\n";
    assert_eq!(last["text"].as_str().unwrap(), turn.repeat(9) + "user: history");
    for id in 2..11 {
        let end = |id: u64| {
            let is_it = |message: &serde_json::Value| message.get("method").is_none() && message["id"] == id;
            daemon.heard.iter().position(is_it).unwrap()
        };
        assert!(end(id) < end(id + 1));
    }
    daemon.leave();
}
