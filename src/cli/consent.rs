//! A person's consent to a tool's call: what is asked, and what the next line means.
//!
//! Only a clear yes is one: whoever goes on with something else has not agreed.

use serde::Deserialize;
use serde_json::Value;

use super::chat::lines::Line;
use crate::protocol::Decision;

/// What stands before the answer.
pub const PROMPT: &str = "Allow it? (yes, no, always) ";

/// How much of the arguments is shown, in characters.
const SHOWN: usize = 4000;

/// What `tool/approve` asks.
#[derive(Debug, Deserialize)]
pub struct Request {
    server: String,
    name: String,
    arguments: Value,
}

impl Request {
    /// For a person.
    pub fn text(&self) -> String {
        let arguments = self.arguments.to_string();
        let shown: String = arguments.chars().take(SHOWN).collect();
        let rest = match arguments.len() - shown.len() {
            0 => String::new(),
            rest => format!("… and {rest} bytes more"),
        };
        format!(
            "[the MCP server `{}` would call `{}` with {shown}{rest}]\n",
            self.server, self.name
        )
    }
}

/// What a person has said to that.
pub fn decision(line: &Line) -> Decision {
    let Line::Text(text) = line else {
        return Decision::Deny;
    };
    match text.trim().to_lowercase().as_str() {
        "y" | "yes" => Decision::Allow,
        "a" | "always" => Decision::AllowAlways,
        _ => Decision::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_clear_yes_is_one() {
        let said = |text: &str| decision(&Line::Text(text.to_owned()));
        assert_eq!([said("y"), said(" Yes ")], [Decision::Allow, Decision::Allow]);
        assert_eq!(
            [said("a"), said("always")],
            [Decision::AllowAlways, Decision::AllowAlways]
        );
        for text in ["", "n", "no", "yes please", "what is it?"] {
            assert_eq!(said(text), Decision::Deny, "{text}");
        }
        assert_eq!(
            [decision(&Line::Cleared), decision(&Line::End)],
            [Decision::Deny, Decision::Deny]
        );
    }

    #[test]
    fn arguments_that_are_too_long_to_be_shown_are_counted() {
        let request = |text: &str| Request {
            server: "s".into(),
            name: "t".into(),
            arguments: json!({ "a": text }),
        };
        assert_eq!(
            request("é").text(),
            "[the MCP server `s` would call `t` with {\"a\":\"é\"}]\n"
        );
        let long = request(&"é".repeat(SHOWN)).text();
        assert!(long.ends_with("é… and 14 bytes more]\n"), "{long}");
    }
}
