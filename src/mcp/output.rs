//! What a tool gave, as the text that the model gets. Pure.
//!
//! Upstreams take text from tools, so what is not text is named instead, with its type and size.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

/// Stands for what a later version of MCP has and this one does not.
const UNKNOWN: &str = "[something that assistd does not know, not shown]";

/// What a tool gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// For the model.
    pub text: String,
    /// Whether it is an account of a failure.
    pub is_error: bool,
}

impl From<CallToolResult> for Output {
    /// The content's blocks, each from a line of its own. A structured result stands for them where there are none:
    /// servers are told to give the same as text, too.
    fn from(result: CallToolResult) -> Self {
        let blocks: Vec<String> = result.content.into_iter().map(text_of).collect();
        let text = match (blocks.is_empty(), result.structured_content) {
            (true, Some(structured)) => structured.to_string(),
            _ => blocks.join("\n"),
        };
        Output {
            text,
            is_error: result.is_error.unwrap_or(false),
        }
    }
}

fn text_of(block: ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text,
        ContentBlock::Image(image) => left_out("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => left_out("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => format!("{uri}\n{text}"),
            ResourceContents::BlobResourceContents {
                uri, mime_type, blob, ..
            } => {
                let kind = format!("resource {uri}");
                left_out(&kind, mime_type.as_deref().unwrap_or("application/octet-stream"), &blob)
            }
            _ => UNKNOWN.to_owned(),
        },
        ContentBlock::ResourceLink(link) => match link.description {
            Some(description) => format!("{} ({}): {description}", link.name, link.uri),
            None => format!("{} ({})", link.name, link.uri),
        },
        _ => UNKNOWN.to_owned(),
    }
}

/// Says what was there; `base64` is four characters for three bytes.
fn left_out(what: &str, mime_type: &str, base64: &str) -> String {
    let bytes = base64.trim_end_matches('=').len() * 3 / 4;
    format!("[{what}: {mime_type}, {bytes} bytes, not shown]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn output(result: serde_json::Value) -> Output {
        serde_json::from_value::<CallToolResult>(result).unwrap().into()
    }

    #[test]
    fn blocks_stand_on_lines_of_their_own_and_what_is_no_text_is_named() {
        let all = output(json!({ "content": [
            { "type": "text", "text": "one" },
            { "type": "image", "mimeType": "image/png", "data": "AAECAw==" },
            { "type": "audio", "mimeType": "audio/wav", "data": "AAEC" },
            { "type": "resource", "resource": { "uri": "file:///a", "text": "two" } },
            { "type": "resource", "resource": { "uri": "file:///b", "mimeType": "a/b", "blob": "AAE=" } },
            { "type": "resource_link", "uri": "file:///c", "name": "c", "description": "a link" },
        ] }));
        assert_eq!(
            all.text,
            "one\n[image: image/png, 4 bytes, not shown]\n[audio: audio/wav, 3 bytes, not shown]\nfile:///a\ntwo\n\
             [resource file:///b: a/b, 2 bytes, not shown]\nc (file:///c): a link"
        );
        assert!(!all.is_error);
    }

    #[test]
    fn a_structured_result_counts_where_there_is_no_text() {
        let both = json!({ "content": [{ "type": "text", "text": "{\"a\": 1}" }], "structuredContent": { "a": 1 } });
        assert_eq!(output(both).text, "{\"a\": 1}");
        assert_eq!(
            output(json!({ "content": [], "structuredContent": { "a": 1 } })).text,
            "{\"a\":1}"
        );
        let failed = output(json!({ "content": [], "isError": true }));
        assert_eq!((failed.text.as_str(), failed.is_error), ("", true));
    }
}
