//! `assistd ask` as a shell sees it: what goes where, and the exit code.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Home, stderr, stdout};

const STALL: &str = r#"answers = [{ steps = [{ text = "half an " }, { text = "answer" }, { stall = true }] }]"#;

fn script(steps: &str) -> Home {
    Home::with_script(&format!("answers = [{{ steps = [{steps}] }}]"))
}

#[test]
fn only_the_answer_goes_to_stdout_and_nothing_to_stderr() {
    let home = script(r#"{ reasoning = "hm" }, { text = "Hello ", split = "chars" }, { text = "there" }"#);
    let output = home.run(&["ask", "hi"], "");
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("Hello there\n".into(), String::new())
    );
    assert_eq!(output.status.code(), Some(0));
    // A line that is ended is not ended twice.
    let output = script(r#"{ text = "Hello\n" }"#).run(&["ask", "hi"], "");
    assert_eq!(stdout(&output), "Hello\n");
}

#[test]
fn standard_input_is_added_to_the_question_after_an_empty_line() {
    let home = script(r#"{ text = "<{text}>" }"#);
    assert_eq!(
        stdout(&home.run(&["ask", "what", "is this?"], "a\nb\n")),
        "<what is this?\n\na\nb>\n"
    );
    assert_eq!(stdout(&home.run(&["ask", "what?"], "")), "<what?>\n");
    assert_eq!(stdout(&home.run(&["ask"], "only this\n")), "<only this>\n");
    let output = home.run(&["ask"], "\n");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "assistd: expected a question, as an argument or on standard input\n"
    );
}

#[test]
fn a_question_that_is_too_large_is_refused() {
    let home = script(r#"{ text = "a" }"#);
    let output = home.run(&["ask", "--max-input-bytes", "100000"], &"a".repeat(200_000));
    assert_eq!((stdout(&output), output.status.code()), (String::new(), Some(2)));
    assert!(stderr(&output).contains("100000"), "{}", stderr(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let home = script(r#"{ text = "a" }"#);
    let mut command = home.command(&["ask", "hi"]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::fs::File::create("/dev/full").unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.starts_with("assistd: failed to write the answer: "), "{said}");
}

#[test]
fn the_exit_code_tells_the_kind_of_end() {
    let error = |kind: &str| format!(r#"{{ error = {{ kind = "{kind}", message = "it failed" }} }}"#);
    let cases = [
        (r#"{ text = "a" }"#.to_owned(), 0),
        (error("upstream"), 1),
        (error("contextOverflow"), 2),
        (error("authRequired"), 3),
        (error("network"), 4),
        (error("rateLimited"), 5),
        (error("quotaExceeded"), 5),
        (error("overloaded"), 5),
        (error("contentFiltered"), 7),
        (r#"{ drop = true }"#.to_owned(), 4),
        (r#"{ panic = "boom" }"#.to_owned(), 1),
        (r#"{ text = "a" }, { end = "maxTokens" }"#.to_owned(), 6),
        (r#"{ text = "a" }, { end = "contentFilter" }"#.to_owned(), 7),
        (r#"{ tool_call = { name = "t" } }"#.to_owned(), 6),
    ];
    for (steps, code) in cases {
        let output = script(&steps).run(&["ask", "x"], "");
        assert_eq!(output.status.code(), Some(code), "{steps}: {}", stderr(&output));
        let complaints = stderr(&output);
        assert_eq!(complaints.is_empty(), code == 0, "{steps}: {complaints}");
        assert!(complaints.lines().count() <= 1, "one sentence: {complaints}");
        assert!(
            !steps.contains("error") || complaints.starts_with("assistd: it failed"),
            "{complaints}"
        );
    }
}

#[test]
fn a_refusal_is_no_answer() {
    let output = script(r#"{ refusal = "I would rather not", split = "words" }"#).run(&["ask", "x"], "");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(stdout(&output), "");
    assert_eq!(stderr(&output), "assistd: the model refused: I would rather not\n");
}

#[test]
fn json_prints_the_notifications_and_the_response_as_lines() {
    let home = script(r#"{ reasoning = "hm" }, { text = "a b", split = "words" }, { refusal = "c" }"#);
    let output = home.run(&["ask", "--json", "x"], "");
    let text = stdout(&output);
    let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let methods: Vec<&str> = messages
        .iter()
        .map(|message| message["method"].as_str().unwrap_or("response"))
        .collect();
    assert_eq!(methods.first(), Some(&"assistant/started"), "{text}");
    assert_eq!(
        methods[methods.len() - 2..],
        ["assistant/completed", "response"],
        "{text}"
    );
    let texts = messages.iter().filter(|message| message["method"] == "assistant/delta");
    let joined: String = texts
        .map(|message| message["params"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(joined, "a bc");
    assert!(
        messages.iter().any(|message| message["params"]["type"] == "reasoning"),
        "{text}"
    );
    assert_eq!(messages.last().unwrap()["result"]["text"], "a bc");
    let output = script(r#"{ error = { kind = "network" } }"#).run(&["ask", "--json", "x"], "");
    let last: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["error"]["data"]["kind"], output.status.code()),
        (&"network".into(), Some(4))
    );
}

#[test]
fn ctrl_c_stops_the_answer_and_its_text_is_kept() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let home = Home::with_script(STALL);
        let mut ask = home.start(&["ask", "tell me"]);
        ask.end_input();
        assert_eq!(ask.read_until("answer"), "half an answer");
        ask.signal(signal);
        let output = ask.finish();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!((stdout(&output), stderr(&output)), ("\n".into(), String::new()));
        let said = |role: &str, status: &str, text: &str| (role.to_owned(), status.to_owned(), text.to_owned());
        let kept = [
            said("user", "completed", "tell me"),
            said("assistant", "cancelled", "half an answer"),
        ];
        assert_eq!(home.last_thread(), kept);
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let home = script(r#"{ huge = { bytes = 100000000, pattern = "all work and no play\n" } }"#);
    let mut ask = home.start(&["ask", "x"]);
    ask.end_input();
    ask.read_until("play\n");
    ask.close_output();
    let output = ask.finish();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert_eq!(home.last_thread().last().unwrap().1, "cancelled");
}

#[test]
fn a_second_ctrl_c_leaves_even_if_nobody_reads() {
    let home = script(r#"{ huge = { bytes = 100000000 } }"#);
    let mut ask = home.start(&["ask", "x"]);
    ask.end_input();
    ask.read_until("0");
    // Two signals that come together are one to the kernel.
    let end = (0..50).find_map(|_| {
        ask.signal(Signal::INT);
        ask.ends_within(Duration::from_millis(200))
    });
    assert_eq!(end.and_then(|status| status.code()), Some(130));
}

#[test]
fn a_thread_goes_on_and_one_that_is_not_there_is_an_error() {
    let home = script(r#"{ text = "{turns}" }"#);
    let first = home.run(&["ask", "--json", "a"], "");
    let last: Value = serde_json::from_str(stdout(&first).lines().last().unwrap()).unwrap();
    let thread = last["result"]["threadId"].as_str().unwrap();
    assert_eq!(stdout(&home.run(&["ask", "--thread", thread, "b"], "")), "3\n");
    let output = home.run(&["ask", "--thread", "nowhere", "b"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("assistd: no thread `nowhere`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_settings_stop_it_with_file_and_line() {
    let home = script(r#"{ text = "a" }"#);
    home.write_config("model = \"m\"\n\n[providers.local]\ndialect = \"chat\"\nbase_ulr = \"x\"\n");
    let output = home.run(&["ask", "x"], "");
    assert_eq!(output.status.code(), Some(2));
    let complaint = stderr(&output);
    assert!(
        complaint.contains("config.toml:5: unknown field `base_ulr`"),
        "{complaint}"
    );
    assert!(complaint.ends_with("did you mean `base_url`?\n"), "{complaint}");
    let home = Home::with_script("[[answers]]\nsteps = [\n{ text = 5 },\n]\n");
    let output = home.run(&["ask", "x"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("script.toml:3: invalid type: integer `5`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let home = script(r#"{ text = "{model} {instructions}" }"#);
    home.write_config(
        "model = \"file\"\n[assistants.poet]\nprovider = \"embedded\"\ninstructions = \"Rhyme.\"\nmodel = \"muse\"\n",
    );
    let ask = |args: &[&str], model: Option<&str>| {
        let mut command = home.command(&[&["ask", "x"], args].concat());
        command
            .envs(model.map(|model| ("ASSISTD_MODEL", model)))
            .stdin(std::process::Stdio::null());
        stdout(&command.output().unwrap())
    };
    assert_eq!(
        ask(&[], None),
        "muse Rhyme.\n",
        "the only assistant of the settings is meant"
    );
    assert_eq!(ask(&["--provider", "embedded"], None), "file \n");
    assert_eq!(ask(&["--provider", "embedded"], Some("variable")), "variable \n");
    assert_eq!(
        ask(&["--assistant", "poet", "--model", "flag"], Some("variable")),
        "flag Rhyme.\n"
    );
}

#[test]
fn ephemeral_keeps_nothing() {
    let home = script(r#"{ text = "a" }"#);
    home.run(&["ask", "--ephemeral", "x"], "");
    assert_eq!(
        home.request("thread/list", serde_json::json!({}))["threads"],
        serde_json::json!([])
    );
}

#[test]
fn help_shows_examples_and_the_exit_codes() {
    let home = Home::new();
    let help = stdout(&home.run(&["ask", "--help"], ""));
    for line in ["Examples:", "git diff --staged | assistd ask", "130", "no credentials"] {
        assert!(help.contains(line), "{line}: {help}");
    }
    assert!(stdout(&home.run(&["--help"], "")).contains("assistd chat"));
    let version = stdout(&home.run(&["--version"], ""));
    assert_eq!(version, format!("assistd {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(home.run(&["--no-such-flag"], "").status.code(), Some(2));
    assert_eq!(home.run(&["ask", "--stdio", "x"], "").status.code(), Some(2));
}

#[test]
fn every_shell_gets_its_completions() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&home.run(&["completions", shell], ""));
        for word in ["assistd", "chat", "--script"] {
            assert!(
                script.contains(word.trim_start_matches('-')),
                "{shell} does not complete {word}"
            );
        }
    }
    let output = home.run(&["completions", "teletype"], "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_schema_is_that_of_the_wire() {
    let home = Home::with_script("");
    let printed: Value = serde_json::from_str(&stdout(&home.run(&["schema"], ""))).unwrap();
    // The whole document is larger than a line that is sent to a client which says nothing.
    let input = [
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{"maxMessageBytes":1000000}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}"#,
        "",
    ];
    let said = stdout(&home.run(&[], &input.join("\n")));
    let discovered: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(printed, discovered["result"]);
}

/// Relative to the folder in which the command runs, which is not the daemon's business.
#[test]
fn files_and_images_go_along_by_relative_paths() {
    let home = script(r#"{ text = "{text}" }"#);
    home.write("notes/my notes.md", "# Notes\n");
    std::fs::write(home.path().join("dot.gif"), b"GIF89a").unwrap();
    let output = home.run(&["ask", "--file", "notes/my notes.md", "--image=dot.gif", "Well?"], "");
    assert_eq!(
        (stdout(&output), stderr(&output)),
        (
            "Well?\n\nmy notes.md\n```markdown\n# Notes\n```\n".into(),
            String::new()
        )
    );
    let read = home.request("thread/list", serde_json::json!({}));
    let thread = read["threads"][0]["threadId"].clone();
    let read = home.request("thread/read", serde_json::json!({ "threadId": thread }));
    let kinds: Vec<_> = read["messages"][1]["content"].as_array().unwrap().iter().collect();
    assert_eq!(
        kinds
            .iter()
            .map(|part| part["type"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["text", "image", "file"]
    );
    assert_eq!(kinds[1]["mimeType"], "image/gif");

    let output = home.run(&["ask", "--file", "notes/my notes.md"], "");
    assert_eq!(
        stdout(&output),
        "my notes.md\n```markdown\n# Notes\n```\n",
        "a file alone is a question"
    );

    let output = home.run(&["ask", "--file", "missing", "Well?"], "");
    assert_eq!(output.status.code(), Some(2));
    let missing = home.path().canonicalize().unwrap().join("missing");
    assert_eq!(
        stderr(&output),
        format!(
            "assistd: failed to read `{}`, which is `content[1].path`: there is no such file\n",
            missing.display()
        )
    );
}

#[test]
fn a_schema_is_read_from_a_file() {
    let home = Home::with_script("refuses = [\"format\"]\nanswers = [{ steps = [{ text = \"{text}\" }] }]");
    home.write("schema.json", r#"{ "type": "object" }"#);
    home.write("list.json", "[]");
    home.write("broken.json", "{");
    let fails = |schema: &str| {
        let output = home.run(&["ask", "--schema", schema, "Well?"], "");
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    assert_eq!(
        fails("schema.json"),
        "assistd: the model that this script plays cannot take `options.format`\n"
    );
    assert_eq!(
        fails("list.json"),
        "assistd: expected the schema `list.json` to be a JSON object\n"
    );
    assert!(fails("broken.json").starts_with("assistd: expected the schema `broken.json` to be JSON: "));
    assert!(fails("missing.json").starts_with("assistd: failed to read the schema `missing.json`: "));
}
