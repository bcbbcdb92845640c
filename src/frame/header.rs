//! Header lines: which length they give, and where the next one may begin. Pure, and without a state.

use memchr::{memchr, memchr2};

/// The header that gives the length, in small letters.
const NAME: &[u8] = b"content-length";

/// The longest value that such a header has, white space included.
const MAX_VALUE: usize = 128;

/// The length that a header line gives, none if it is another header, or what was found instead.
pub(super) fn length(line: &[u8]) -> Result<Option<u64>, &'static str> {
    let colon = memchr(b':', line).ok_or("a line without a colon")?;
    let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
    let (junk, last) = name.split_at(name.len().saturating_sub(NAME.len()));
    let is_length = last.eq_ignore_ascii_case(NAME);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || (is_length && !is_prefix(junk)) {
        return Err("a line that is no header");
    }
    if !is_length || !junk.is_empty() {
        return Ok(None);
    }
    let digits = std::str::from_utf8(value).ok().filter(|_| is_number(value));
    let length = digits.and_then(|digits| digits.parse().ok());
    length.map(Some).ok_or("a length that is no number of bytes")
}

/// Whether what stands before `Content-Length` makes it the name of another header, as in `X-Content-Length`. Else it
/// is junk that some program wrote without a line break, and the header stands directly behind it.
fn is_prefix(before: &[u8]) -> bool {
    before.is_empty() || before.ends_with(b"-")
}

/// Looks for `Content-Length:`, a number and a line break, anywhere in a line; no JSON string can hold the three as
/// they are, so the text of a message is not taken for a header. Gives the place where it begins, and true; or where it
/// may begin once more bytes are there, and false.
pub(super) fn find_length(src: &[u8]) -> (usize, bool) {
    let mut from = 0;
    while let Some(at) = memchr2(b'c', b'C', &src[from..]).map(|at| from + at) {
        match is_length(&src[at..]) {
            Some(true) => return (at, true),
            Some(false) => from = at + 1,
            None => return (at, false),
        }
    }
    (src.len(), false)
}

/// Whether these bytes begin with a header that gives the length; none if they end too early to tell.
fn is_length(bytes: &[u8]) -> Option<bool> {
    let name = bytes.len().min(NAME.len());
    if !bytes[..name].eq_ignore_ascii_case(&NAME[..name]) {
        return Some(false);
    }
    let value = match bytes.get(name) {
        None => return None,
        Some(b':') => &bytes[name + 1..],
        Some(_) => return Some(false),
    };
    match memchr(b'\n', &value[..value.len().min(MAX_VALUE)]) {
        Some(end) => Some(is_number(value[..end].trim_ascii())),
        None if value.len() >= MAX_VALUE => Some(false),
        None => {
            let may_be = value
                .iter()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace());
            if may_be { None } else { Some(false) }
        }
    }
}

fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

/// Whether a header's name may hold this byte: RFC 9110's `tchar`.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_a_length_or_another_header_or_is_none() {
        assert_eq!(length(b"Content-Length: 12"), Ok(Some(12)));
        assert_eq!(length(b"CONTENT-LENGTH \t:\t12"), Ok(Some(12)));
        assert_eq!(length(b"Content-Type: x: y"), Ok(None));
        assert_eq!(length(b"X-Content-Length: 12"), Ok(None));
        assert_eq!(length(b"ContentLength: 12"), Ok(None));
        for line in [
            "Content-Length: ",
            "Content-Length: +1",
            "Content-Length: 1 2",
            "Content-Length: 0x1",
        ] {
            assert_eq!(
                length(line.as_bytes()),
                Err("a length that is no number of bytes"),
                "{line}"
            );
        }
        for line in ["okContent-Length: 12", "{\"a\":1}", ": 12", "two words: 12"] {
            assert_eq!(length(line.as_bytes()), Err("a line that is no header"), "{line}");
        }
        assert_eq!(length(b"hello"), Err("a line without a colon"));
    }

    #[test]
    fn a_header_is_found_behind_anything() {
        assert_eq!(find_length(b"}}content-length: 3\r\nx"), (2, true));
        assert_eq!(
            find_length(b"\"Content-Length: 3\\r\\n\"CContent-Length:3\n"),
            (24, true)
        );
        assert_eq!(find_length(b"abcContent-Len"), (3, false));
        assert_eq!(find_length(b"Content-Length: 3"), (0, false));
        assert_eq!(find_length(b"Content-Length: many\n"), (21, false));
    }
}
