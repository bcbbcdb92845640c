//! What goes back to the upstream word for word: the items of a round that only it can read (reasoning, compaction) and
//! those around them, in its order, since it refuses reasoning that has lost what followed it.
//!
//! Pure. The text of messages and the pictures are not kept twice: their items are, without them.

use serde_json::{Value, json};

/// What the client or nobody answers: without an output the upstream refuses such an item, unless its own output
/// follows in the same round.
const NEEDS_OUTPUT: &[&str] = &[
    "shell_call",
    "local_shell_call",
    "apply_patch_call",
    "computer_call",
    "mcp_approval_request",
];

/// What is to be kept of these items; none where text and calls say it all.
pub fn keep<'a>(items: impl Iterator<Item = &'a Value>) -> Option<Value> {
    let items: Vec<&Value> = items.collect();
    // Without its reasoning, what a model did itself is refused; and reasoning that cannot be read back is nothing.
    let is_readable = items
        .iter()
        .filter(|item| item["type"] == "reasoning")
        .all(|item| is_readable(item));
    let mut kept: Vec<Value> = Vec::new();
    for item in &items {
        let kind = item["type"].as_str().unwrap_or_default();
        let is_own = matches!(kind, "message" | "function_call" | "custom_tool_call" | "compaction");
        if !is_readable && !is_own {
            continue;
        }
        if NEEDS_OUTPUT.contains(&kind) && !has_output(&items, item) {
            while kept.last().is_some_and(|last| last["type"] == "reasoning") {
                kept.pop();
            }
            continue;
        }
        kept.push(match kind {
            "message" => json!({ "type": kind, "phase": item["phase"] }),
            "image_generation_call" => json!({ "type": kind, "id": item["id"] }),
            _ => (*item).clone(),
        });
    }
    while kept.last().is_some_and(|last| last["type"] == "reasoning") {
        kept.pop();
    }
    let says_more = |item: &Value| match item["type"].as_str() {
        Some("message") => item["phase"].is_string(),
        Some("function_call") => item["namespace"].is_string() || item["caller"].is_object(),
        _ => true,
    };
    kept.iter().any(says_more).then(|| json!({ "responses": kept }))
}

/// The items that were kept; none where another dialect left something.
pub fn items(carry: Option<&Value>) -> Option<&Vec<Value>> {
    carry?.get("responses")?.as_array()
}

fn is_readable(reasoning: &Value) -> bool {
    let is_encrypted = reasoning["encrypted_content"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    is_encrypted || reasoning["content"].as_array().is_some_and(|parts| !parts.is_empty())
}

fn has_output(items: &[&Value], call: &Value) -> bool {
    let mut items = items.iter();
    call["call_id"].is_string()
        && items.any(|item| {
            let kind = item["type"].as_str().unwrap_or_default();
            kind.ends_with("_output") && item["call_id"] == call["call_id"]
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(items: Value) -> Option<Value> {
        keep(items.as_array().unwrap().iter()).map(|mut carry| carry["responses"].take())
    }

    fn reasoning() -> Value {
        json!({ "type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x" })
    }

    #[test]
    fn text_and_plain_calls_need_nothing() {
        let call = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
        assert_eq!(kept(json!([{ "type": "message", "content": [] }, call])), None);
        assert_eq!(kept(json!([])), None);
    }

    #[test]
    fn reasoning_is_kept_with_what_follows_it_and_without_the_text() {
        let call = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
        let message = json!({ "type": "message", "content": [{ "type": "output_text", "text": "long" }] });
        assert_eq!(
            kept(json!([reasoning(), message, call])),
            Some(json!([reasoning(), { "type": "message", "phase": null }, call]))
        );
    }

    #[test]
    fn reasoning_that_cannot_be_read_back_takes_what_it_led_to_with_it() {
        let bare = json!({ "type": "reasoning", "id": "rs", "summary": [] });
        let search = json!({ "type": "web_search_call", "id": "ws", "status": "completed" });
        assert_eq!(kept(json!([bare, search, { "type": "message" }])), None);
        let compaction = json!({ "type": "compaction", "encrypted_content": "y" });
        let custom = json!({ "type": "custom_tool_call", "call_id": "c", "name": "n", "input": "i" });
        assert_eq!(
            kept(json!([bare, custom, compaction])),
            Some(json!([custom, compaction]))
        );
        assert_eq!(kept(json!([search])), Some(json!([search])));
    }

    #[test]
    fn what_nobody_answers_is_left_out_with_its_reasoning() {
        let shell = json!({ "type": "shell_call", "call_id": "c" });
        let output = json!({ "type": "shell_call_output", "call_id": "c" });
        assert_eq!(kept(json!([reasoning(), shell])), None);
        assert_eq!(
            kept(json!([reasoning(), shell, output])),
            Some(json!([reasoning(), shell, output]))
        );
        assert_eq!(kept(json!([reasoning()])), None, "nothing follows it");
    }
}
