//! Scripts are played against the paused clock, so a wait takes no time and is still measured.

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::*;
use crate::protocol::{Options, Role, StopReason, Tool, ToolOutput};
use crate::provider::{Round, ToolCall};
use crate::thread::{Conversation, Message};

fn provider(script: &str) -> (tempfile::TempDir, Scripted) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script.toml");
    std::fs::write(&path, script).unwrap();
    (folder, Scripted::new("scripted", path))
}

fn request(said: &[&str]) -> Request {
    let role = |n: usize| [Role::User, Role::Assistant][n % 2];
    let messages = said
        .iter()
        .enumerate()
        .map(|(n, text)| Message::text(n.to_string(), role(n), *text));
    Request {
        model: Some("m".into()),
        instructions: None,
        conversation: Arc::new(Conversation {
            messages: messages.collect(),
            ..Conversation::default()
        }),
        tools: Vec::<Tool>::new(),
        options: Options::default(),
        anchor: None,
        rounds: Vec::new(),
        cancel: CancellationToken::new(),
    }
}

async fn play(script: &str, request: Request) -> Vec<Event> {
    let (_folder, provider) = provider(script);
    provider.prepare().await.unwrap();
    provider.answer(request).collect().await
}

fn problem(name: &str, script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, script).unwrap();
    let error = Scripted::new("s", path).prepare().now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    error.message.rsplit('/').next().unwrap().to_owned()
}

fn texts(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Delta { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

fn said(events: &[Event]) -> String {
    texts(events).concat()
}

fn ended(events: &[Event]) -> &End {
    match events.last() {
        Some(Event::End(end)) => end,
        other => panic!("expected an end, found {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn words_come_one_by_one_with_a_wait_before_each() {
    let start = Instant::now();
    let script = r#"answers = [{ steps = [{ text = "one  two\nthree", split = "words", delay_ms = 100 }] }]"#;
    let events = play(script, request(&["x"])).await;
    assert_eq!(texts(&events), ["one  ", "two\n", "three"]);
    assert_eq!(start.elapsed(), Duration::from_millis(300));
    assert_eq!(
        events[3..],
        [Event::MessageDone, Event::End(End::Completed(StopReason::EndTurn))]
    );
}

#[tokio::test]
async fn the_pieces_of_every_split_are_the_text() {
    for (split, pieces) in [("words", 4), ("chars", 9), ("lines", 2)] {
        let script = format!(r#"answers = [{{ steps = [{{ text = " é\nb 漢字c ", split = "{split}" }}] }}]"#);
        let events = play(&script, request(&["x"])).await;
        assert_eq!(said(&events), " é\nb 漢字c ", "{split}");
        assert_eq!(texts(&events).len(), pieces, "{split}");
    }
}

#[tokio::test]
async fn the_first_answer_that_matches_text_and_turn_is_played() {
    let script = r#"
        answers = [
            { match = "HELLO", turn = 2, steps = [{ text = "again" }] },
            { match = "hello", steps = [{ text = "hi" }] },
        ]"#;
    assert_eq!(said(&play(script, request(&["Oh, Hello!"])).await), "hi");
    assert_eq!(said(&play(script, request(&["a", "b", "hello"])).await), "again");
    assert_eq!(said(&play(script, request(&["other"])).await), "You said: other");
}

#[tokio::test]
async fn braces_are_filled_once_and_unknown_ones_left() {
    let script = r#"answers = [{ steps = [{ text = "{text}|{turns}|{model}|{x}|{|{history}" }] }]"#;
    let events = play(script, request(&["a", "b", "{turns}"])).await;
    assert_eq!(said(&events), "{turns}|3|m|{x}|{|user: a\nassistant: b\nuser: {turns}");
}

#[tokio::test]
async fn a_tool_call_ends_the_round_and_the_next_round_goes_on_behind_it() {
    let script = r#"
        answers = [{ steps = [
            { text = "Let me look. " },
            { tool_call = { name = "read", arguments = { path = "a" } } },
            { text = "It says {output}." },
        ] }]"#;
    let mut asked = request(&["x"]);
    let events = play(script, asked.clone()).await;
    let call = ToolCall {
        id: "call_1".into(),
        name: "read".into(),
        arguments: r#"{"path":"a"}"#.into(),
    };
    assert_eq!(*ended(&events), End::ToolCalls(vec![call.clone()]));
    assert_eq!(events[events.len() - 2], Event::MessageDone);
    asked.rounds.push(Round {
        text: said(&events),
        calls: vec![call],
        outputs: vec![ToolOutput {
            call_id: "call_1".into(),
            output: "42".into(),
            is_error: false,
        }],
        ..Round::default()
    });
    let events = play(script, asked.clone()).await;
    assert_eq!(said(&events), "It says 42.");
    let Event::Step(step) = &events[0] else {
        panic!("expected the step of the calls, found {:?}", events[0])
    };
    assert_eq!(
        (step.status.as_str(), step.calls[0].output.as_deref()),
        ("completed", Some("42"))
    );
    assert_eq!(*ended(&events), End::Completed(StopReason::EndTurn));
}

#[tokio::test]
async fn a_huge_answer_has_exactly_its_size() {
    let script = r#"answers = [{ steps = [{ huge = { bytes = 1000003, pattern = "abcdefg", piece = 1000 } }] }]"#;
    let events = play(script, request(&["x"])).await;
    let text = said(&events);
    assert_eq!(text.len(), 1_000_003);
    assert!(text.starts_with("abcdefgabc"));
    assert_eq!(texts(&events).len(), 1001);
    let script = r#"answers = [{ steps = [{ huge = { bytes = 10, pattern = "漢", piece = 1 } }] }]"#;
    assert_eq!(said(&play(script, request(&["x"])).await), "漢漢漢");
    let script = r#"answers = [{ steps = [{ huge = { bytes = 10, pattern = "" } }] }]"#;
    assert_eq!(said(&play(script, request(&["x"])).await), "");
}

#[tokio::test]
async fn faults_end_the_stream_as_they_say() {
    let of =
        |step: &str| format!("answers = [{{ steps = [{{ text = \"half\" }}, {{ {step} }}, {{ text = \"!\" }}] }}]");
    let events = play(
        &of(r#"error = { kind = "overloaded", message = "full", retry_after_ms = 5 }"#),
        request(&["x"]),
    )
    .await;
    let End::Failed(error) = ended(&events) else {
        panic!("expected a failure, found {events:?}")
    };
    assert_eq!(
        (error.kind(), error.data.retry_after_ms, error.data.retryable),
        (Kind::Overloaded, Some(5), true)
    );
    assert_eq!(error.data.provider.as_deref(), Some("scripted"));
    assert_eq!(said(&events), "half");

    let events = play(&of("drop = true"), request(&["x"])).await;
    assert_eq!(events.len(), 1, "a dropped stream has no end: {events:?}");

    let events = play(&of(r#"end = "maxTokens""#), request(&["x"])).await;
    assert_eq!(events[1..], [Event::End(End::Incomplete(StopReason::MaxTokens))]);

    let events = play(&of(r#"refusal = "I won't""#), request(&["x"])).await;
    assert_eq!(*ended(&events), End::Completed(StopReason::Refusal));
}

#[tokio::test(start_paused = true)]
async fn retries_are_announced_and_waited_for() {
    let start = Instant::now();
    let script = r#"answers = [{ steps = [{ retry = { attempts = 2, delay_ms = 250, kind = "rateLimited" } }] }]"#;
    let events = play(script, request(&["x"])).await;
    let attempts: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            Event::Retry { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!((attempts, start.elapsed()), (vec![1, 2], Duration::from_millis(500)));
}

#[tokio::test]
#[should_panic(expected = "boom")]
async fn a_panic_is_a_panic_of_the_stream() {
    play(r#"answers = [{ steps = [{ panic = "boom" }] }]"#, request(&["x"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_seen_within_one_poll_wherever_the_script_stands() {
    let scripts = [
        r#"answers = [{ steps = [{ text = "a" }, { stall = true }] }]"#,
        r#"answers = [{ steps = [{ text = "a" }, { delay_ms = 3600000 }, { text = "b" }] }]"#,
        r#"answers = [{ steps = [{ text = "a" }, { text = "b c d", split = "words" }] }]"#,
        r#"answers = [{ steps = [{ text = "a" }] }]"#,
        r#"answers = [{ steps = [{ text = "a" }, { huge = { bytes = 99999999 } }] }]"#,
    ];
    for script in scripts {
        let (_folder, provider) = provider(script);
        provider.prepare().await.unwrap();
        let asked = request(&["x"]);
        let cancel = asked.cancel.clone();
        let mut stream = provider.answer(asked);
        assert_eq!(said(&[stream.next().await.unwrap()]), "a");
        cancel.cancel();
        assert_eq!(
            stream.next().now_or_never(),
            Some(Some(Event::End(End::Cancelled))),
            "{script}"
        );
        assert_eq!(stream.next().await, None);
    }
}

#[tokio::test]
async fn an_edited_script_is_read_before_the_next_run() {
    let (folder, provider) = provider(r#"answers = [{ steps = [{ text = "a" }] }]"#);
    provider.prepare().await.unwrap();
    std::fs::write(
        folder.path().join("script.toml"),
        r#"answers = [{ steps = [{ text = "b" }] }]"#,
    )
    .unwrap();
    provider.prepare().await.unwrap();
    let events: Vec<Event> = provider.answer(request(&["x"])).collect().await;
    assert_eq!(said(&events), "b");
}

#[test]
fn what_is_wrong_names_file_line_and_what_was_expected() {
    let toml = "[[answers]]\nmatch = \"a\"\n[[answers.steps]]\ntxet = \"x\"\n";
    assert_eq!(
        problem("a.toml", toml),
        "a.toml:4: unknown field `txet`; did you mean `text`?"
    );
    let problem_of = |step: &str| problem("a.toml", &format!("[[answers]]\n\n[[answers.steps]]\n{step}\n"));
    let none = problem_of("");
    assert!(
        none.starts_with("a.toml:3: expected a step to have one of `text`"),
        "{none}"
    );
    let several = problem_of("text = \"a\"\ndrop = true");
    assert!(several.contains("only one of `text`"), "{several}");
    let beside = problem_of("drop = true\nsplit = \"words\"");
    assert!(beside.contains("expected `split` only beside `text`"), "{beside}");
    let both = problem_of("tool_call = { name = \"a\" }\ntool_calls = [{ name = \"b\" }]");
    assert!(both.contains("only one of `text`"), "{both}");
    let end = problem_of("end = \"toolCalls\"");
    assert!(end.contains("expected `end` to be `endTurn`"), "{end}");
    let json = problem("a.json", "{\n\"answers\": [\n{\"steps\": [{\"text\": 5}]}]}");
    assert!(
        json.starts_with("a.json:3: invalid type: integer `5`, expected a string"),
        "{json}"
    );
    let missing = Scripted::new("s", "/no/such/file.toml".into());
    let error = missing.prepare().now_or_never().unwrap().unwrap_err();
    assert!(
        error
            .message
            .starts_with("failed to read the script `/no/such/file.toml`: "),
        "{error}"
    );
}

#[test]
fn a_script_is_toml_or_json() {
    for (name, text) in [
        ("a.json", r#"{"answers": [{"match": "a", "steps": [{"delay_ms": 1}]}]}"#),
        (
            "a.script",
            r#" {"answers": [{"match": "a", "steps": [{"delay_ms": 1}]}]}"#,
        ),
        ("a.toml", "[[answers]]\nmatch = \"a\"\nsteps = [{ delay_ms = 1 }]"),
        ("a", "[[answers]]\nmatch = \"a\"\nsteps = [{ delay_ms = 1 }]"),
    ] {
        let script = Script::parse(std::path::Path::new(name), text).unwrap();
        assert!(script.answer("A", 1).is_some(), "{name}");
        assert!(script.answer("b", 1).is_none(), "{name}");
    }
}

/// The script that the tests of the whole use, and that the documentation tells authors to try.
#[test]
fn the_example_script_is_right() {
    let example = include_str!("../../../tests/it/scripts/hello.toml");
    let script = Script::parse(std::path::Path::new("hello.toml"), example).unwrap();
    assert!(script.answers.iter().all(|answer| !answer.steps.is_empty()));
}

/// Guards docs/script.md: its examples are scripts, and it names every step.
#[test]
fn the_documentation_of_scripts_is_right() {
    let page = include_str!("../../../docs/script.md");
    let examples = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let scripts: Vec<&str> = examples.filter(|example| example.contains("[[answers]]")).collect();
    assert!(!scripts.is_empty());
    for example in scripts {
        Script::parse(std::path::Path::new("script.md"), example).unwrap();
    }
    for key in problem("a.toml", "answers = [{ steps = [{}] }]")
        .split('`')
        .skip(1)
        .step_by(2)
    {
        let (alone, with_value) = (format!("`{key}`"), format!("`{key} = "));
        assert!(
            page.contains(&alone) || page.contains(&with_value),
            "docs/script.md does not name `{key}`"
        );
    }
}
