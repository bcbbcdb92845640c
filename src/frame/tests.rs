//! Frames over every split position of the same bytes, in both framings.

use super::*;

/// What the receiving end gives for these pieces, each arriving by itself.
fn receive<'a>(mut frames: Frames, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut src = BytesMut::new();
    let mut given = Vec::new();
    for piece in pieces {
        src.extend_from_slice(piece);
        while let Some(frame) = frames.decode(&mut src).unwrap() {
            given.push(frame);
        }
    }
    while let Some(frame) = frames.decode_eof(&mut src).unwrap() {
        given.push(frame);
    }
    given
}

fn open() -> Frames {
    Frames::new(None, 1 << 20)
}

/// One word for each item: the text, or what was wrong.
fn words(given: &[Frame]) -> Vec<String> {
    let word = |frame: &Frame| match frame {
        Ok(text) => text.clone(),
        Err(error) => match error.kind {
            FrameErrorKind::Parse => "parse".into(),
            FrameErrorKind::TooLarge { size } => format!("large {size}"),
        },
    };
    given.iter().map(word).collect()
}

fn framed(text: &str) -> String {
    format!("Content-Length: {}\r\n\r\n{text}", text.len())
}

/// Bytes, and what they hold. Every case ends in a good frame, `[0]` unless it is about the end of the input.
fn cases() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let case = |bytes: &str, given: &[&'static str]| (bytes.as_bytes().to_vec(), given.to_vec());
    let good = framed("[0]");
    let mut cases = vec![
        // Lines.
        case("", &[]),
        case(" \r\n\n\t", &[]),
        case("{\"a\":1}\n[0]\n", &["{\"a\":1}", "[0]"]),
        case("[0]", &["[0]"]),
        case("\u{feff}{}\r\n\r\n  \n [0] \r\n", &["{}", "[0]"]),
        case("\n\n [1]\n[0]", &["[1]", "[0]"]),
        case("Last login: today\n[0]\n", &["parse", "[0]"]),
        case("bash-5.2$\n[0]\n", &["parse", "[0]"]),
        case("hello\n[0]\n", &["parse", "[0]"]),
        case("hello", &["parse"]),
        case("{\"a\":1\n[0]", &["parse", "[0]"]),
        case("{} {}\n[0]", &["parse", "[0]"]),
        case("{\"a\":\"\u{1}\"}\n[0]", &["parse", "[0]"]),
        case("[0]\nContent-Length: 3\n\n[0]", &["[0]", "parse", "[0]"]),
        case("[0]\n{\"a\":", &["[0]", "parse"]),
        case("[\"\\ud83d\"]\n[0]", &["[\"\\uFFFD\"]", "[0]"]),
        // Headers.
        case(&format!("{}{good}", framed("{\"a\":\"é\"}")), &["{\"a\":\"é\"}", "[0]"]),
        case("content-length:3\n\n[0]", &["[0]"]),
        case("CONTENT-LENGTH: \t3 \r\n\r\n[0]", &["[0]"]),
        case(
            "\u{feff} \r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n[0]",
            &["[0]"],
        ),
        case(
            "Content-Length: 3\r\nContent-Type: x; charset=utf-8\r\n\r\n[0]",
            &["[0]"],
        ),
        case("Content-Length: 3\nContent-Length: 3\n\n[0]", &["[0]"]),
        case(&format!("{}\r\n\r\n{good}", framed("[1]")), &["[1]", "[0]"]),
        case(&format!("{}{good}", framed("")), &["parse", "[0]"]),
        case(&format!("{}{good}", framed("{\"a\"")), &["parse", "[0]"]),
        case(
            &format!("{}{good}", framed("[\"Content-Length: 1\"")),
            &["parse", "[0]"],
        ),
        case(&format!("{}{good}", framed("[\"\\uDE00\"]")), &["[\"\\uFFFD\"]", "[0]"]),
        case(&format!("Content-Length: 3x\r\n\r\n[1]{good}"), &["parse", "[0]"]),
        case(&format!("Content-Length: -3\r\n\r\n[1]{good}"), &["parse", "[0]"]),
        case(
            &format!("Content-Length: 99999999999999999999\r\n\r\n[1]{good}"),
            &["parse", "[0]"],
        ),
        case(
            &format!("Content-Length: 3\r\nContent-Length: 4\r\n\r\n[1] {good}"),
            &["parse", "[0]"],
        ),
        case(&format!("Content-Type: x\r\n\r\n[1]{good}"), &["parse", "[0]"]),
        case(&format!("{good}junk\r\n{good}"), &["[0]", "parse", "[0]"]),
        case(&format!("{good}junk{good}"), &["[0]", "parse", "[0]"]),
        // Lengths that count characters: too short, so the body's rest stands before the next header.
        case(
            &format!("Content-Length: 9\r\n\r\n{{\"a\":\"éé\"}}{good}"),
            &["parse", "[0]"],
        ),
        // Lengths that are too long: the body swallows the beginning of the next header, or all of it.
        case(&format!("Content-Length: 9\r\n\r\n[1]{good}"), &["parse", "[0]"]),
        case(
            &format!("Content-Length: 30\r\n\r\n[1]{good}{good}"),
            &["parse", "[0]", "[0]"],
        ),
        case(&format!("Content-Length: 500\r\n\r\n[1]{good}"), &["parse", "[0]"]),
        // Half a frame at the end.
        case("Content-Length: 9\r\n\r\n[0", &["parse"]),
        case("Content-Length: 9\r\n", &["parse"]),
        case("Content-Length: 9", &["parse"]),
        case(&format!("{good}Con"), &["[0]", "parse"]),
        case(&format!("{good}\r\n"), &["[0]"]),
        case(&format!("X-Long: {}\r\n{good}", "x".repeat(9000)), &["parse", "[0]"]),
    ];
    cases.push((b"{\"a\":\"\xff\"}\n[0]\n".to_vec(), vec!["parse", "[0]"]));
    cases.push((
        b"Content-Length: 3\r\n\r\n\"\xff\"Content-Length: 3\r\n\r\n[0]".to_vec(),
        vec!["parse", "[0]"],
    ));
    cases
}

#[test]
fn every_case_in_one_piece() {
    for (bytes, expected) in cases() {
        let given = words(&receive(open(), [&bytes[..]]));
        assert_eq!(given, expected, "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn every_case_byte_by_byte() {
    for (bytes, expected) in cases() {
        let given = words(&receive(open(), bytes.chunks(1)));
        assert_eq!(given, expected, "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn every_case_cut_in_two_anywhere() {
    for (bytes, expected) in cases() {
        for cut in 0..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            let given = words(&receive(open(), [head, tail]));
            assert_eq!(given, expected, "cut at {cut}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn what_is_sent_is_received() {
    let texts = ["{\"a\":\"é\"}", "[]", "{\"text\":\"Content-Length: 3\\r\\n\\r\\n\"}"];
    for framing in [Framing::Lines, Framing::Headers] {
        let mut bytes = Vec::new();
        texts.iter().for_each(|text| encode(framing, text, &mut bytes));
        for frames in [open(), Frames::new(Some(framing), 100)] {
            assert_eq!(words(&receive(frames, bytes.chunks(1))), texts);
        }
    }
}

#[test]
fn the_framing_is_known_before_the_first_item() {
    for (bytes, framing) in [
        (&b"{}\n"[..], Framing::Lines),
        (b"what?\n", Framing::Lines),
        (b"Content-Length: 2\n\n{}", Framing::Headers),
        (b"Content-Length: x\n", Framing::Headers),
    ] {
        let mut frames = open();
        let mut src = BytesMut::new();
        assert_eq!(frames.framing(), None);
        src.extend_from_slice(bytes);
        assert!(frames.decode(&mut src).unwrap().is_some());
        assert_eq!(frames.framing(), Some(framing));
    }
}

#[test]
fn a_framing_that_is_set_is_not_guessed() {
    let lines = receive(
        Frames::new(Some(Framing::Lines), 100),
        [&b"Content-Length: 2\r\n\r\n{}"[..]],
    );
    assert_eq!(words(&lines), ["parse", "{}"]);
    let headers = receive(
        Frames::new(Some(Framing::Headers), 100),
        [&b"{}\nContent-Length: 2\r\n\r\n{}"[..]],
    );
    assert_eq!(words(&headers), ["parse", "{}"]);
}

#[test]
fn a_frame_at_the_limit_is_taken_and_a_larger_one_skipped_without_being_held() {
    let (fits, large) = ("[\"xxxx\"]", "[\"xxxxx\"]");
    let lines = format!("{fits}\n{large}\n{fits}\n{large}");
    let headers = [framed(fits), framed(large), framed(fits), framed(large)].concat();
    for bytes in [lines, headers] {
        let given = receive(Frames::new(None, 8), bytes.as_bytes().chunks(1));
        assert_eq!(words(&given), [fits, "large 9", fits, "large 9"], "{bytes}");
    }
    let mut frames = Frames::new(None, 8);
    let mut src = BytesMut::from("[");
    for _ in 0..1000 {
        src.extend_from_slice(&[b'x'; 1000]);
        assert_eq!(frames.decode(&mut src).unwrap(), None);
        assert!(src.is_empty());
    }
}

#[test]
fn an_oversized_body_is_answered_before_it_has_arrived() {
    let given = receive(Frames::new(None, 8), [&b"Content-Length: 1000000\r\n\r\n"[..]]);
    assert_eq!(words(&given), ["large 1000000"]);
}

#[test]
fn the_hint_for_lines_comes_once_until_a_line_parses() {
    let bytes = b"{\n\"a\": [\n]}\n{\n[0]\n{\n{\n";
    let given = receive(open(), [&bytes[..]]);
    let hints: Vec<_> = given
        .iter()
        .map(|frame| frame.as_ref().err().and_then(|error| error.hint))
        .collect();
    let hint = Some(ONE_PER_LINE);
    assert_eq!(hints, [hint, None, None, None, None, hint, None]);
}

#[test]
fn a_broken_header_or_body_says_that_the_length_counts_bytes() {
    for bytes in [
        "Content-Length: many\r\n\r\n",
        "Content-Length: 2\r\n\r\n{\"",
        "Content-Length: 9\r\n\r\n{}",
    ] {
        let given = receive(open(), [bytes.as_bytes()]);
        let error = Error::from(given[0].clone().unwrap_err());
        assert_eq!(error.code, -32700);
        assert_eq!(error.data.hint.as_deref(), Some(COUNTS_BYTES));
    }
}

#[test]
fn what_is_too_large_is_an_invalid_request_with_its_size() {
    let error = Error::from(FrameError::too_large(9, 8));
    assert_eq!(
        (error.code, error.kind(), error.data.size),
        (-32600, Kind::InputTooLarge, Some(9))
    );
    assert_eq!(error.message, "expected a message of at most 8 bytes, found one of 9");
}

/// Random bytes made of the pieces that matter, in random cuts: no panic, no endless loop, no item out of nothing, and
/// the cuts change nothing.
#[test]
fn no_bytes_are_too_strange() {
    let pieces: [&[u8]; 17] = [
        b"Content-Length: ",
        b"content-length:",
        b"Content-Type: x",
        b"\r\n",
        b"\n",
        b"3",
        b"17",
        b"{\"a\":1}",
        b"[0]",
        b"\"",
        b"\\ud83d",
        b"\xEF\xBB\xBF",
        b"\xff",
        b" ",
        b"{",
        b"Con",
        b"x:",
    ];
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..random.below(24) {
            bytes.extend_from_slice(pieces[random.below(pieces.len())]);
        }
        let frames = || Frames::new(None, 16);
        let whole = words(&receive(frames(), [&bytes[..]]));
        assert!(whole.len() <= bytes.len(), "{}", String::from_utf8_lossy(&bytes));
        let cut = random.below(bytes.len() + 1);
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(
            words(&receive(frames(), [head, tail])),
            whole,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(
            words(&receive(frames(), bytes.chunks(1))),
            whole,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

/// A xorshift generator: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
