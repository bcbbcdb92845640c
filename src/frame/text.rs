//! The bytes of one frame to one JSON text: UTF-8, one JSON value, no lone surrogates.
//!
//! Nothing of the text gets into what is said of its flaws.

use memchr::memchr;
use serde::de::IgnoredAny;
use serde_json::error::Category;

/// Why bytes are no JSON text.
pub(super) struct Flaw {
    /// ``found …``, to follow what was expected.
    pub found: String,
    /// Whether the text only ends too early.
    pub is_cut: bool,
}

/// Checks one frame's bytes and gives its text. The check does not recurse, so nesting has no limit here.
pub(super) fn check(bytes: &[u8]) -> Result<String, Flaw> {
    let text = std::str::from_utf8(bytes).map_err(|error| Flaw {
        found: format!("found bytes that are no UTF-8 at byte {}", error.valid_up_to() + 1),
        is_cut: false,
    })?;
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => Ok(mend_surrogates(text)),
        Err(error) => Err(Flaw::new(&error, text)),
    }
}

impl Flaw {
    fn new(error: &serde_json::Error, text: &str) -> Self {
        let is_cut = error.classify() == Category::Eof;
        let found = if text.trim_ascii().is_empty() {
            "found nothing".to_owned()
        } else if is_cut {
            "found one that ends too early".to_owned()
        } else {
            let line_start = text.split_inclusive('\n').take(error.line().saturating_sub(1));
            let byte = line_start.map(str::len).sum::<usize>() + error.column();
            format!("found one that is broken at byte {byte}: {}", reason(error))
        };
        Flaw { found, is_cut }
    }
}

/// The parser's sentence without its line and column.
fn reason(error: &serde_json::Error) -> String {
    let mut sentence = error.to_string();
    if let Some(position) = sentence.rfind(" at line ") {
        sentence.truncate(position);
    }
    sentence
}

/// Puts U+FFFD where half of a surrogate pair is escaped without the other. Node and Python send an emoji that was cut
/// in two this way, and RFC 8259 (section 8.2) allows the escape but gives it no meaning; serde_json refuses it.
fn mend_surrogates(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut kept = 0;
    let mut from = 0;
    while let Some(at) = memchr(b'\\', &text.as_bytes()[from..]).map(|at| from + at) {
        let escape = &text.as_bytes()[at..];
        from = at
            + match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
                (None, _) => 2,
                (Some(Half::Leading), Some(Half::Trailing)) => 12,
                _ => {
                    mended.push_str(&text[kept..at]);
                    mended.push_str("\\uFFFD");
                    kept = at + 6;
                    6
                }
            };
    }
    mended.push_str(&text[kept..]);
    mended
}

/// One half of a surrogate pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Leading,
    Trailing,
}

/// The half that is escaped at the beginning of these bytes, if one is.
fn surrogate(bytes: &[u8]) -> Option<Half> {
    match bytes.get(..4)? {
        [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B'] => Some(Half::Leading),
        [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F'] => Some(Half::Trailing),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_halves_are_replaced_and_pairs_kept() {
        let cases = [
            (r#""\ud83d""#, r#""\uFFFD""#),
            (r#""\uDE00x""#, r#""\uFFFDx""#),
            (r#""\ud83d\uDE00""#, r#""\ud83d\uDE00""#),
            (r#""\ud83d\ud83d\uDE00""#, r#""\uFFFD\ud83d\uDE00""#),
            (r#""\uDE00\ud83d""#, r#""\uFFFD\uFFFD""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\uFFFD""#),
            (r#""\ud83d\\uDE00""#, r#""\uFFFD\\uDE00""#),
            (r#""\ud83d\n\uDE00é""#, r#""\uFFFD\n\uFFFDé""#),
            (r#""\u00e9\ud7ff\ue000""#, r#""\u00e9\ud7ff\ue000""#),
        ];
        for (sent, read) in cases {
            let text = check(sent.as_bytes()).unwrap_or_else(|flaw| panic!("{sent}: {}", flaw.found));
            assert_eq!(text, read);
            serde_json::from_str::<String>(&text).unwrap();
        }
    }

    #[test]
    fn flaws_are_told_without_the_text() {
        let found = |bytes: &[u8]| check(bytes).unwrap_err().found;
        assert_eq!(found(b""), "found nothing");
        assert_eq!(found(b"{\"a\":"), "found one that ends too early");
        assert_eq!(found(b"{\"a\" 1}"), "found one that is broken at byte 6: expected `:`");
        assert_eq!(
            found(b"{\n\"key\": sk-1}"),
            "found one that is broken at byte 10: expected value"
        );
        assert_eq!(found(b"\"\xff\""), "found bytes that are no UTF-8 at byte 2");
        assert_eq!(
            found(b"{} {}"),
            "found one that is broken at byte 4: trailing characters"
        );
    }

    #[test]
    fn nesting_has_no_limit() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(check(deep.as_bytes()).is_ok());
    }
}
