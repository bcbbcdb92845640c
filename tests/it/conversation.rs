//! A conversation of several turns with the real model, through the real binary over a pipe.

use serde_json::{Value, json};

use crate::embedded::cache_dir;
use crate::program::{Home, Running};

/// Greedy, so that the answers are the same on every machine; chosen because the second question means nothing alone.
const QUESTIONS: [(&str, &str); 2] = [
    ("What is the capital of Japan?", "Tokyo"),
    ("What language do people speak there?", "Japanese"),
];

#[test]
fn the_second_answer_depends_on_the_first() {
    let home = Home::new();
    let mut daemon = start(&home);
    let mut thread_id = Value::Null;
    for question in QUESTIONS {
        thread_id = ask_well(&mut daemon, question, &thread_id);
    }
    end(daemon);
}

#[test]
fn a_daemon_started_anew_goes_on_from_what_is_kept() {
    let home = Home::new();
    let mut thread_id = Value::Null;
    for question in QUESTIONS {
        let mut daemon = start(&home);
        thread_id = ask_well(&mut daemon, question, &thread_id);
        end(daemon);
    }
}

#[test]
fn a_cancelled_answer_keeps_its_text_and_the_next_one_comes() {
    let home = Home::new();
    let mut daemon = start(&home);
    let send = json!({ "content": "Write a long story about the sea.", "options": { "temperature": 0 } });
    daemon.say(&json!({ "jsonrpc": "2.0", "id": 1, "method": "assistant/send", "params": send }).to_string());
    let mut heard = String::new();
    let mut deltas = 0;
    let result = loop {
        let message = read(&mut daemon);
        if message["method"] == "assistant/delta" {
            heard += message["params"]["text"].as_str().unwrap();
            deltas += 1;
            if deltas == 3 {
                daemon.say(r#"{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}"#);
            }
        }
        if message["id"] == 1 {
            break message["result"].clone();
        }
    };
    assert_eq!(result["status"], "cancelled");
    assert_eq!(result["text"], heard.as_str());
    let answer = ask(&mut daemon, QUESTIONS[0].0, &Value::Null);
    assert!(answer.heard.contains(QUESTIONS[0].1));
    end(daemon);
}

struct Answer {
    heard: String,
    deltas: usize,
    result: Value,
}

fn start(home: &Home) -> Running {
    // The binary's own folders are in the home; the weights are where `make test` has put them.
    let cache_dir = cache_dir();
    home.write_config("[providers.embedded]\ndialect = \"embedded\"\n");
    let mut command = home.command(&[]);
    command.env("ASSISTD_CACHE_DIR", cache_dir);
    Running::of(command)
}

/// Asks, expects an answer that streams and has this word in it, and gives the thread.
fn ask_well(daemon: &mut Running, (question, expected): (&str, &str), thread_id: &Value) -> Value {
    let answer = ask(daemon, question, thread_id);
    assert!(answer.deltas >= 3, "{question} came in {} deltas", answer.deltas);
    assert_eq!(answer.heard, answer.result["text"], "the deltas joined are the text");
    assert!(
        answer.heard.contains(expected),
        "{question} was answered: {}",
        answer.heard
    );
    answer.result["threadId"].clone()
}

fn end(mut daemon: Running) {
    daemon.end_input();
    assert!(daemon.finish().status.success());
}

fn ask(daemon: &mut Running, question: &str, thread_id: &Value) -> Answer {
    let options = json!({ "temperature": 0, "maxOutputTokens": 64 });
    let params = json!({ "content": question, "threadId": thread_id, "options": options });
    daemon.say(&json!({ "jsonrpc": "2.0", "id": 1, "method": "assistant/send", "params": params }).to_string());
    let mut answer = Answer {
        heard: String::new(),
        deltas: 0,
        result: Value::Null,
    };
    loop {
        let message = read(daemon);
        if message["method"] == "assistant/delta" {
            answer.heard += message["params"]["text"].as_str().unwrap();
            answer.deltas += 1;
        }
        if message["id"] == 1 {
            assert!(message.get("error").is_none(), "{message}");
            answer.result = message["result"].clone();
            return answer;
        }
    }
}

fn read(daemon: &mut Running) -> Value {
    serde_json::from_str(&daemon.read_until("\n")).unwrap()
}
