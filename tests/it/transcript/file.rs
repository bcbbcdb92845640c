//! A transcript's file: its lines as steps, and writing them again.

use std::path::{Path, PathBuf};

use assistd::config::Framing;
use serde_json::Value;

use super::compare;

/// A file, line by line.
pub struct Transcript {
    pub path: PathBuf,
    pub lines: Vec<Line>,
    /// The only framing that it is for.
    pub framing: Option<Framing>,
    /// The exit code that the daemon should leave with.
    pub exit: u8,
    /// A script beside the transcripts, by its name.
    pub script: Option<String>,
    /// The `settings:` lines, as TOML.
    pub settings: String,
    /// The `~~>` lines: what the provider gives, as a script.
    pub provider: String,
}

/// One line.
pub struct Line {
    /// From 1.
    pub number: usize,
    pub text: String,
    pub step: Step,
}

/// What a line stands for.
pub enum Step {
    /// A comment, or part of the head.
    Nothing,
    /// `-->`: a text that the client sends as one frame.
    Send(String),
    /// `==>`: bytes that the client sends as they are.
    Bytes(Vec<u8>),
    /// `--|`: the client's end of its output.
    EndOfInput,
    /// `<--`: the next message from the daemon.
    Expect(Value),
    /// `<-~`: one of the next messages; the neighbours of its kind may come in any order.
    ExpectAnyOrder(Value),
}

impl Step {
    /// Whether the client does something.
    pub fn sends(&self) -> bool {
        matches!(self, Step::Send(_) | Step::Bytes(_) | Step::EndOfInput)
    }
}

impl Transcript {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut transcript = Transcript {
            path: path.to_owned(),
            lines: Vec::new(),
            framing: None,
            exit: 0,
            script: None,
            settings: String::new(),
            provider: String::new(),
        };
        for (index, text) in text.lines().enumerate() {
            let number = index + 1;
            let step = transcript
                .step(text)
                .unwrap_or_else(|problem| panic!("{}:{number}: {problem}", path.display()));
            transcript.lines.push(Line {
                number,
                text: text.to_owned(),
                step,
            });
        }
        transcript
    }

    fn step(&mut self, line: &str) -> Result<Step, String> {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        match mark {
            "" | "#" => {}
            "framing:" if rest == "lines" => self.framing = Some(Framing::Lines),
            "framing:" if rest == "headers" => self.framing = Some(Framing::Headers),
            "exit:" => {
                self.exit = rest
                    .parse()
                    .map_err(|_| format!("expected an exit code, found `{rest}`"))?
            }
            "script:" => self.script = Some(rest.to_owned()),
            "settings:" => self.settings += &format!("{rest}\n"),
            "~~>" => self.provider += &format!("{rest}\n"),
            "-->" => return Ok(Step::Send(rest.to_owned())),
            "==>" => return unescape(rest).map(Step::Bytes),
            "--|" => return Ok(Step::EndOfInput),
            "<--" | "<-~" => {
                let expected = serde_json::from_str(rest).map_err(|error| format!("expected JSON: {error}"))?;
                return Ok(if mark == "<--" {
                    Step::Expect(expected)
                } else {
                    Step::ExpectAnyOrder(expected)
                });
            }
            _ => {
                return Err(format!(
                    "expected a line to begin with `-->`, `<--` or another mark, found `{mark}`"
                ));
            }
        }
        Ok(Step::Nothing)
    }

    /// Writes the file again with what was heard after each line that sends. Placeholders that an author has put in
    /// stay.
    pub fn rewrite(&self, heard: &[Vec<Value>]) {
        let mut text = String::new();
        let mut blocks = heard.iter();
        let mut messages = [].iter();
        for (index, line) in self.lines.iter().enumerate() {
            match &line.step {
                Step::Expect(old) | Step::ExpectAnyOrder(old) => {
                    if let Some(new) = messages.next() {
                        let (mark, _) = line.text.split_at(3);
                        text += &format!("{mark} {}\n", compare::keep_placeholders(old, new));
                    }
                }
                Step::Nothing => text += &format!("{}\n", line.text),
                Step::Send(_) | Step::Bytes(_) | Step::EndOfInput => {
                    text += &format!("{}\n", line.text);
                    messages = blocks.next().map(|block| block.iter()).unwrap_or_default();
                }
            }
            if !self.expects_more(index) {
                messages
                    .by_ref()
                    .for_each(|message| text += &format!("<-- {message}\n"));
            }
        }
        std::fs::write(&self.path, text).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }

    /// Whether another message is expected before the next line that sends.
    fn expects_more(&self, index: usize) -> bool {
        let mut rest = self.lines[index + 1..].iter().map(|line| &line.step);
        let next = rest.find(|step| !matches!(step, Step::Nothing));
        matches!(next, Some(Step::Expect(_) | Step::ExpectAnyOrder(_)))
    }
}

/// `\r`, `\n`, `\t`, `\\` and `\xHH` to bytes.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (escape, tail) = rest.split_first().ok_or("expected an escape behind `\\`")?;
        rest = tail;
        bytes.push(match escape {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                rest = rest.get(2..).unwrap_or_default();
                byte.ok_or("expected two hexadecimal digits behind `\\x`")?
            }
            _ => return Err("expected `\\r`, `\\n`, `\\t`, `\\\\` or `\\xHH`".into()),
        });
    }
    Ok(bytes)
}
