//! Sizes: of lines, of input, of answers.

use serde_json::{Value, json};

use super::daemon::{Daemon, MAX_LINE};
use super::{home, is_well};
use crate::program::Home;

/// The text of a part, read in pages.
fn read_text(daemon: &mut Daemon, first_id: u64, message: &Value) -> String {
    let mut text = String::new();
    let mut cursor = Value::Null;
    for id in first_id.. {
        daemon.request(
            id,
            "message/read",
            json!({ "messageId": message, "index": 0, "cursor": cursor }),
        );
        let page = daemon.result(id);
        text += page["text"].as_str().unwrap();
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    text
}

/// [`Daemon`] checks the length of every line.
#[test]
fn a_large_answer_comes_in_lines_that_everybody_can_read() {
    let pattern = "0123456789\\n\\\"\\u0001é€😀";
    let home = Home::with_script(&format!(
        "answers = [{{ match = \"big\", steps = [{{ huge = {{ bytes = 300000, pattern = \"{pattern}\", piece = 100000 }} }}] }},\n\
         {{ steps = [{{ text = \"You said: {{text}}\" }}] }}]"
    ));
    let mut daemon = Daemon::start(&home);
    daemon.ask(1, "big");
    let answer = daemon.result(1);
    let text = daemon.text(1);
    assert!(
        text.len() > 299_000 && text.starts_with("0123456789\n\"\u{1}é€😀0123"),
        "{}",
        text.len()
    );
    assert_eq!((&answer["text"], &answer["omitted"]), (&json!(null), &json!(["text"])));
    let completed = daemon.notification("assistant/completed", 1);
    assert_eq!(
        (&completed["text"], &completed["omitted"]),
        (&json!(null), &json!(["text"]))
    );
    assert!(
        read_text(&mut daemon, 100, &answer["messageId"]) == text,
        "what is stored is what was shown"
    );
    daemon.request(2, "run/get", json!({ "runId": answer["runId"] }));
    assert_eq!(daemon.result(2)["omitted"], json!(["text"]));
    daemon.request(3, "thread/read", json!({ "threadId": answer["threadId"] }));
    assert_eq!(daemon.result(3)["messages"][0]["omitted"], json!(["content"]));
    let longest = daemon
        .heard
        .iter()
        .map(|message| message.to_string().len())
        .max()
        .unwrap();
    assert!(longest > MAX_LINE / 10, "long texts come in long lines: {longest}");
    is_well_after(&mut daemon, 4);
    daemon.leave();
}

fn is_well_after(daemon: &mut Daemon, id: u64) {
    daemon.ask(id, "well?");
    assert_eq!(daemon.result(id)["text"], "You said: well?");
}

#[test]
fn a_large_question_is_taken_whole() {
    let home = home();
    let mut daemon = Daemon::start(&home);
    let question = "Ein \"großes\" Wort.\n".repeat(3_000_000 / 20);
    daemon.ask(1, &question);
    let answer = daemon.result(1);
    assert!(
        daemon.text(1) == format!("You said: {question}"),
        "the answer repeats the question"
    );
    daemon.request(2, "thread/read", json!({ "threadId": answer["threadId"], "limit": 1 }));
    let next = daemon.result(2)["next"].clone();
    daemon.request(
        3,
        "thread/read",
        json!({ "threadId": answer["threadId"], "cursor": next }),
    );
    let asked = daemon.result(3)["messages"][0].clone();
    assert_eq!(
        (&asked["role"], &asked["omitted"]),
        (&json!("user"), &json!(["content"]))
    );
    assert!(
        read_text(&mut daemon, 1000, &asked["messageId"]) == question,
        "the question is stored whole"
    );
    daemon.leave();
}

#[test]
fn a_question_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let home = home();
    let mut command = home.command(&["--stdio", "--max-input-bytes", "100000"]);
    command.env_remove("ASSISTD_MAX_INPUT_BYTES");
    let mut daemon = Daemon::run(command, super::ends::pipes());
    daemon.ask(1, &"x".repeat(3_000_000));
    let refused = daemon.read().unwrap();
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(null), &json!(-32600))
    );
    assert_eq!(refused["error"]["data"]["kind"], "inputTooLarge");
    is_well(&mut daemon, 2);
    let largest = 100_000
        - json!({ "jsonrpc": "2.0", "id": 3, "method": "assistant/send", "params": { "content": "" } })
            .to_string()
            .len();
    daemon.ask(3, &"x".repeat(largest));
    daemon.result(3);
    daemon.ask(4, &"x".repeat(largest + 1));
    daemon.until("the refusal", |message| {
        message["error"]["data"]["kind"] == "inputTooLarge"
    });
    is_well(&mut daemon, 5);
    daemon.leave();
}
