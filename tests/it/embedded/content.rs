//! What the embedded model takes of a message: text, and files that are text.

use assistd::provider::Asked;

use super::*;

/// Before anything is stored, and without the weights.
#[test]
fn only_text_is_taken_and_no_form() {
    let provider = Embedded::new("mine", &settings(), "nowhere".into(), false);
    let takes = |content: serde_json::Value, options: serde_json::Value| {
        let content: Vec<Part> = serde_json::from_value(content).unwrap();
        let options = serde_json::from_value(options).unwrap();
        provider.takes(&Asked {
            has_outputs: false,
            content: &content,
            model: None,
            tools: &[],
            options: &options,
        })
    };
    let text = json!({ "type": "file", "data": "aGVsbG8=", "mimeType": "text/plain" });
    takes(
        json!([{ "type": "text", "text": "a" }, text]),
        json!({ "format": { "type": "text" } }),
    )
    .unwrap();
    let rows = [
        (
            json!({ "type": "image", "url": "https://example.org/a.png" }),
            "an image",
        ),
        (
            json!({ "type": "file", "data": "//8=" }),
            "a file that is no text in UTF-8",
        ),
        (
            json!({ "type": "file", "fileId": "file_1" }),
            "a file that only an upstream has",
        ),
    ];
    for (part, found) in rows {
        let error = takes(json!([text, part]), json!({})).unwrap_err();
        assert_eq!(
            error.message,
            format!("expected `content[1]` to be text, found {found}: the embedded model reads only text")
        );
        assert_eq!(
            (error.kind(), error.data.provider.as_deref()),
            (Kind::InvalidParams, Some("mine"))
        );
    }
    for format in [
        json!({ "type": "jsonObject" }),
        json!({ "type": "jsonSchema", "schema": {} }),
    ] {
        let error = takes(json!([text]), json!({ "format": format })).unwrap_err();
        assert_eq!(
            error.message,
            "expected `options.format` to be `text`: the embedded model cannot be held to JSON"
        );
    }
}

#[tokio::test]
async fn a_text_file_is_read_by_the_model() {
    let file = json!({ "type": "file", "data": "VGhlIGNhcGl0YWwgb2YgRnJhbmNlIGlzIG5hbWVkIGluIHRoaXMgZmlsZTogUGFyaXMu",
        "mimeType": "text/plain", "name": "france.txt" });
    let mut request = request(&[]);
    let mut message = Message::text("m", Role::User, "What is the capital of France?");
    message.content.push(serde_json::from_value(file).unwrap());
    request.conversation = Arc::new(Conversation {
        messages: vec![message],
        truncation: Truncation::Auto,
    });
    let answered = events(&provider(), request).await;
    assert!(text(&answered).contains("Paris"), "{answered:?}");
    let is_ignored = |event: &Event| matches!(event, Event::Upstream { name, .. } if name == "filesIgnored");
    assert!(!answered.iter().any(is_ignored), "the file was read");
}
