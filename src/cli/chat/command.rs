//! What a line that begins with `/` means.

/// For `/help`.
pub const HELP: &str = "\
/new          begin a new thread
/threads      list the threads, the last written to first
/thread ID    go on with an old thread
/file PATH    send a file along with your next message
/image PATH   send an image along with your next message
/help         this
A tool that needs your consent asks for it: yes, no, or always.
An empty line, `exit` or Ctrl-D ends the console; Ctrl-C stops the answer.
";

/// A command to the console.
#[derive(Debug, PartialEq)]
pub enum Command {
    Help,
    New,
    Threads,
    Thread(String),
    /// A part of this type, from the file at this path.
    Attach(&'static str, String),
}

/// The command of a line; none for a line that is said to the assistant, such as one that begins with a path.
pub fn parse(line: &str) -> Option<Result<Command, String>> {
    let mut words = line.split_whitespace();
    let name = words.next()?.strip_prefix('/')?;
    if name.is_empty() || !name.chars().all(|character| character.is_ascii_alphabetic()) {
        return None;
    }
    // A path may have spaces in it.
    let path = line.trim_start()[1 + name.len()..].trim();
    Some(match (name, words.next(), words.next()) {
        ("help", None, _) => Ok(Command::Help),
        ("new", None, _) => Ok(Command::New),
        ("threads", None, _) => Ok(Command::Threads),
        ("thread", Some(id), None) => Ok(Command::Thread(id.to_owned())),
        ("thread", ..) => Err("expected `/thread` and the id of one thread; `/threads` lists them".to_owned()),
        ("file", Some(_), _) => Ok(Command::Attach("file", path.to_owned())),
        ("image", Some(_), _) => Ok(Command::Attach("image", path.to_owned())),
        ("file" | "image", ..) => Err(format!("expected `/{name}` and a path")),
        ("help" | "new" | "threads", ..) => Err(format!("expected nothing behind `/{name}`")),
        _ => Err(format!("unknown command `/{name}`; `/help` lists the commands")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words_behind_a_slash() {
        assert_eq!(parse("/help"), Some(Ok(Command::Help)));
        assert_eq!(parse("  /thread abc "), Some(Ok(Command::Thread("abc".into()))));
        assert!(matches!(parse("/thread"), Some(Err(_))));
        assert!(matches!(parse("/new x"), Some(Err(_))));
        assert_eq!(
            parse(" /file  my report.pdf "),
            Some(Ok(Command::Attach("file", "my report.pdf".into())))
        );
        assert_eq!(parse("/image"), Some(Err("expected `/image` and a path".into())));
        assert!(
            parse("/nwe")
                .unwrap()
                .unwrap_err()
                .starts_with("unknown command `/nwe`")
        );
    }

    #[test]
    fn a_path_or_a_comment_is_said_to_the_assistant() {
        for line in ["hello", "/usr/bin is what?", "// what does this do?", "/", "1/2"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
