//! The real program with a `responses` provider: two turns of a thread, over pipes.

use super::*;
use crate::program::{Home, stderr, stdout};

#[tokio::test]
async fn a_thread_of_two_turns_over_pipes() {
    let reasoning = json!({ "type": "reasoning", "id": "rs", "summary": [{ "type": "summary_text", "text": "Hm." }] });
    let first = [
        begun(),
        item("done", 0, reasoning),
        message(1),
        says(1, "Hello "),
        says(1, "you【1†a.txt】!"),
        ended(
            "completed",
            json!({ "usage": { "input_tokens": 3, "output_tokens": 4 } }),
        ),
    ];
    let upstream = Upstream::start([Reply::events(first.concat()), Reply::events(whole_turn("Again!"))]).await;
    let base_url = upstream.url();
    let (home, answers) = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        home.write_config(&format!(
            "[providers.it]\ndialect = \"responses\"\nbase_url = \"{base_url}\"\nmodel = \"m\"\n\n[assistants.a]\nprovider = \"it\"\n"
        ));
        let mut answers = Vec::new();
        let mut thread = Value::Null;
        for content in ["hello", "again"] {
            let params = json!({ "content": content, "assistant": "a", "threadId": thread });
            let ask = json!({ "jsonrpc": "2.0", "id": 1, "method": "assistant/send", "params": params });
            let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "capabilities": { "events": "all" } } });
            let output = home.run(&["--stdio"], &format!("{initialize}\n{ask}\n"));
            assert_eq!(stderr(&output), "");
            let said: Vec<Value> = stdout(&output)
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            thread = said.last().unwrap()["result"]["threadId"].clone();
            answers.push(said);
        }
        (home, answers)
    })
    .await
    .unwrap();
    drop(home);

    let result = &answers[0].last().unwrap()["result"];
    assert_eq!(
        (&result["text"], &result["stopReason"]),
        (&json!("Hello you!"), &json!("endTurn"))
    );
    assert_eq!(result["usage"]["totalTokens"], 7);
    let types = answers[0]
        .iter()
        .filter(|message| message["method"] == "assistant/event")
        .map(|message| message["params"]["type"].as_str().unwrap());
    let types: Vec<&str> = types.collect();
    for kind in ["status", "step", "reasoning", "annotation", "usage"] {
        assert!(types.contains(&kind), "no `{kind}` among {types:?}");
    }
    let cited = answers[0]
        .iter()
        .find(|message| message["params"]["type"] == "annotation")
        .unwrap();
    assert_eq!(
        cited["params"]["annotation"],
        json!({ "type": "fileCitation", "start": 9, "end": 9, "title": "a.txt" })
    );

    let requests = upstream.requests();
    assert_eq!(requests[0].header("authorization"), None, "there is no key");
    let said = |role: &str, text: &str| json!({ "type": "message", "role": role, "content": text });
    let expected = json!([
        said("user", "hello"),
        said("assistant", "Hello you!"),
        said("user", "again")
    ]);
    assert_eq!(requests[1].json()["input"], expected);
}
