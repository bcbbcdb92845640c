//! Halves of characters: some servers cut a text into pieces in the middle of one, and JSON cannot say that.
//!
//! Pure; knows no dialect.

/// The same JSON with each escaped half of a surrogate pair that stands alone replaced by U+FFFD.
pub fn mend(json: &str) -> String {
    let mut mended = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match (escaped_unit(rest), rest.get(6..).and_then(escaped_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            // Any escape but `\u…` is of two characters, the second of which may be a backslash itself.
            _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    mended + rest
}

/// The UTF-16 unit of the `\uXXXX` that the text begins with.
fn escaped_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_mended_and_pairs_are_left() {
        assert_eq!(mend(r#""a\ud83d""#), r#""a\ufffd""#);
        assert_eq!(mend(r#""\ud83d\ude00\ude00""#), r#""\ud83d\ude00\ufffd""#);
        assert_eq!(mend(r#""\\ud83d\n\u00e9""#), r#""\\ud83d\n\u00e9""#);
    }
}
