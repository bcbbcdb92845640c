//! `assistd chat` over pipes: what a person sees, line by line, and what survives Ctrl-C.

use std::process::Output;

use rustix::process::Signal;
use serde_json::json;

use crate::program::{Home, PATIENCE, stderr, stdout};

const SCRIPT: &str = r#"
answers = [
    { match = "stall", steps = [{ text = "Wait for" }, { stall = true }] },
    { match = "fail", steps = [{ text = "Half" }, { error = { kind = "overloaded", message = "no capacity" } }] },
    { match = "cut", steps = [{ text = "Cut" }, { end = "maxTokens" }] },
    { match = "refuse", steps = [{ refusal = "No." }] },
    { match = "retry", steps = [{ retry = { delay_ms = 1500, message = "too busy" } }, { stall = true }] },
    { steps = [{ text = "{turns}: {text}", split = "chars" }] },
]
"#;

fn chat(home: &Home, args: &[&str], input: &str) -> Output {
    let output = home.run(&[&["chat"], args].concat(), input);
    for bytes in [&output.stdout, &output.stderr] {
        assert!(
            !bytes.contains(&0x1b),
            "an escape code: {}",
            String::from_utf8_lossy(bytes)
        );
    }
    output
}

#[test]
fn prompts_and_answers_look_as_in_the_original_sample() {
    let home = Home::with_script(SCRIPT);
    for ending in ["\n", "exit\n", "", "  exit \n", "/exit\n", "/quit\n"] {
        let output = chat(&home, &[], &format!("hello\r\nand now?\n{ending}"));
        assert_eq!(
            stdout(&output),
            "User: Assistant: 1: hello\nUser: Assistant: 3: and now?\nUser: \n",
            "{ending:?}"
        );
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn it_says_who_answers_and_why() {
    let home = Home::with_script(SCRIPT);
    let output = chat(&home, &["--model", "m"], "");
    assert_eq!(
        stderr(&output),
        "assistd: the provider `scripted` answers with the model `m`, because `--script` or ASSISTD_SCRIPT names a script\n"
    );
}

#[test]
fn a_server_of_tools_that_cannot_be_started_is_told() {
    let home = Home::with_script(SCRIPT);
    home.write_config("[mcp.demo]\ncommand = [\"/no/such/program\"]\n");
    assert_eq!(
        stdout(&chat(&home, &[], "hello\n")),
        "User: Assistant: [starting the MCP server `demo`]\n\
         [the MCP server `demo` (`/no/such/program`) could not be started: No such file or directory (os error 2)]\n\
         1: hello\n\
         User: \n"
    );
}

#[test]
fn a_tool_is_called_when_the_user_agrees() {
    let home = Home::with_script(
        "[[answers]]\nsteps = [{ text = \"Let me look.\" }, { tool_call = { name = \"demo_echo\", \
         arguments = { text = \"a tree\" } } }, { text = \"{output}\" }]\n",
    );
    let python = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|folder| folder.join("python3"))
        .find(|path| path.is_file())
        .expect("python3 is installed");
    let server = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/mcp/server.py");
    home.write_config(&format!("[mcp.demo]\ncommand = [{python:?}, {server:?}]\n"));
    let asked = "[the MCP server `demo` would call `echo` with {\"text\":\"a tree\"}]\n\
                 Allow it? (yes, no, always) ";
    assert_eq!(
        stdout(&chat(&home, &[], "one\nno\ntwo\nalways\nthree\n")),
        format!(
            "User: Assistant: [starting the MCP server `demo`]\n\
             Let me look.\n{asked}\nerror: the tool `demo_echo` was not called: the user said no\n\
             User: Assistant: Let me look.\n{asked}\na tree\n\
             User: Assistant: Let me look.a tree\n\
             User: \n"
        )
    );
}

#[test]
fn ends_that_are_not_the_usual_one_are_told_and_the_session_goes_on() {
    let home = Home::with_script(SCRIPT);
    let output = chat(&home, &[], "fail\ncut\nrefuse\nhello\n");
    assert_eq!(
        stdout(&output),
        "User: Assistant: Half\n\
         User: Assistant: Cut\n[cut: the answer has reached its limit of tokens]\n\
         User: Assistant: No.\n[the model refused]\n\
         User: Assistant: 7: hello\n\
         User: \n"
    );
    assert!(
        stderr(&output).ends_with("assistd: no capacity\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn ctrl_c_stops_the_answer_and_keeps_the_session() {
    let home = Home::with_script(SCRIPT);
    let mut chat = home.start(&["chat"]);
    chat.say("please stall");
    chat.read_until("Wait for");
    chat.signal(Signal::INT);
    assert_eq!(chat.read_until("User: "), "\n[stopped]\nUser: ");
    chat.say("hello");
    assert_eq!(chat.read_until("User: "), "Assistant: 3: hello\nUser: ");
    // At the prompt of a pipe there is no line to clear: it ends.
    chat.signal(Signal::INT);
    assert_eq!(chat.finish().status.code(), Some(130));
    let kept: Vec<String> = home.last_thread().into_iter().map(|(_, status, _)| status).collect();
    assert_eq!(kept, ["completed", "cancelled", "completed", "completed"]);
}

#[test]
fn a_retry_is_shown_while_it_waits() {
    let home = Home::with_script(SCRIPT);
    let mut chat = home.start(&["chat"]);
    chat.say("retry");
    assert_eq!(
        chat.read_until("]\n"),
        "User: Assistant: [too busy; trying again in 1.5 s]\n"
    );
    chat.signal(Signal::TERM);
    assert_eq!(chat.finish().status.code(), Some(143));
}

#[test]
fn commands_begin_with_a_slash() {
    let home = Home::with_script(SCRIPT);
    let output = chat(
        &home,
        &[],
        "/threads\nfirst\n/new\nsecond\n/threads\n/help\n/nwe\n/usr/bin is a path\n",
    );
    let text = stdout(&output);
    let mut answers = text.split("User: ").skip(1);
    let mut next = || answers.next().unwrap_or_default().to_owned();
    assert_eq!(next(), "[no threads]\n");
    assert_eq!(next(), "Assistant: 1: first\n");
    assert_eq!(next(), "[a new thread begins with your next message]\n");
    assert_eq!(next(), "Assistant: 1: second\n", "a new thread has no history");
    let threads = next();
    let lines: Vec<&str> = threads.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("* ") && lines[1].starts_with("  "),
        "{threads}"
    );
    assert!(lines[0].contains("2 messages"), "{threads}");
    assert!(next().contains("/thread ID"));
    assert_eq!(next(), "unknown command `/nwe`; `/help` lists the commands\n");
    assert_eq!(next(), "Assistant: 3: /usr/bin is a path\n");
}

#[test]
fn an_old_thread_is_shown_and_goes_on() {
    let home = Home::with_script(SCRIPT);
    chat(&home, &[], "first\ncut\n");
    let threads = home.request("thread/list", json!({}));
    let id = threads["threads"][0]["threadId"].as_str().unwrap();
    let shown = "User: first\nAssistant: 1: first\nUser: cut\nAssistant: Cut\n[not whole]\n";
    let output = chat(&home, &["--thread", id], "again\n");
    assert_eq!(stdout(&output), format!("{shown}User: Assistant: 5: again\nUser: \n"));
    let output = chat(&home, &[], &format!("/thread {id}\nlast\n/thread nowhere\nlast\n"));
    let text = stdout(&output);
    assert!(text.starts_with(&format!("User: {shown}")), "{text}");
    assert!(
        text.ends_with("User: Assistant: 7: last\nUser: \nUser: Assistant: 9: last\nUser: \n"),
        "{text}"
    );
    assert!(stderr(&output).contains("no thread `nowhere`"), "{}", stderr(&output));
    let output = chat(&home, &["--thread", "nowhere"], "x\n");
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
}

#[test]
fn without_a_model_it_says_what_is_missing() {
    let home = Home::new();
    home.write_config("default_assistant = \"nobody\"\n");
    let output = chat(&home, &[], "x\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("assistd: no assistant `nobody`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn files_go_along_with_the_next_message_only() {
    let home = Home::with_script(SCRIPT);
    home.write("my notes.md", "# Notes\n");
    let output = chat(&home, &[], "/file my notes.md\n/image missing.png\nRead\nAgain\n");
    assert_eq!(
        stdout(&output),
        "User: [the file goes along with your next message]\n\
         User: failed to find the image `missing.png`: there is no such file\n\
         User: Assistant: 1: Read\n\nmy notes.md\n```markdown\n# Notes\n```\n\
         User: Assistant: 3: Again\n\
         User: \n"
    );
}

/// It used to read a terminal that was not there any more, at full speed and for ever, and to wait for that at a signal.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_is_gone_takes_the_console_with_it() {
    use crate::process::{end_of, terminal, wait_for};

    let home = Home::with_script("answers = []");
    let ends = terminal();
    let mut command = home.command(&["chat"]);
    command
        .env("TERM", "dumb")
        .stdin(ends.stdin)
        .stderr(ends.stdout.try_clone().unwrap())
        .stdout(ends.stdout);
    let mut child = command.spawn().unwrap();
    drop(command);
    let gone = end_of(rustix::process::Pid::from_child(&child));
    let mut shown = Vec::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&shown).contains("User: ") {
        let is_ready = wait_for(&ends.output, rustix::event::PollFlags::IN, deadline);
        assert!(is_ready, "the prompt did not come: {}", String::from_utf8_lossy(&shown));
        let mut bytes = [0; 1024];
        let count = rustix::io::read(&ends.output, &mut bytes).unwrap();
        shown.extend_from_slice(&bytes[..count]);
        // The editor asks where the cursor is.
        if shown.ends_with(b"\x1b[6n") {
            rustix::io::write(&ends.input, b"\x1b[1;1R").unwrap();
        }
    }
    drop((ends.input, ends.output));
    let is_gone = gone.recv_timeout(PATIENCE);
    let _ = child.kill();
    let status = child.wait().unwrap();
    assert!(is_gone.is_ok(), "it stayed behind");
    assert_eq!(status.code(), Some(129));
}
