//! What calls give, and what a server may ask and say.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::ends::pipes;
use super::{Daemon, Stage, ask, said_of_servers};

#[test]
fn a_server_is_started_when_it_is_needed_and_serves_every_run() {
    let mut stage = Stage::new("", "", &[("echo", &["echo = { text = \"hello\" }"])]);
    let mut daemon = stage.start();
    daemon.request(1, "server/status", json!({}));
    daemon.result(1);
    assert!(!stage.has_note(), "nobody needs it yet");
    assert_eq!(ask(&mut daemon, 2, "echo"), ["hello"]);
    assert_eq!(ask(&mut daemon, 3, "echo"), ["hello"]);
    let statuses = |token| {
        let said = said_of_servers(&daemon, token).into_iter();
        said.map(|(status, _)| status).collect::<Vec<_>>()
    };
    assert_eq!(
        (statuses(2), statuses(3)),
        (vec!["starting".into(), "ready".into()], vec![])
    );
    stage.note();
    assert!(!stage.has_note(), "it was started once");
    daemon.leave();
}

#[test]
fn calls_of_one_round_are_under_way_at_once_and_so_are_those_of_several_runs() {
    let stage = Stage::new("", "", &[("both", &["meet & meet"]), ("each", &["meet"])]);
    let mut daemon = stage.start();
    assert_eq!(ask(&mut daemon, 1, "both"), ["met"]);
    daemon.ask(2, "each");
    daemon.ask(3, "each");
    assert_eq!(
        (&daemon.result(2)["text"], &daemon.result(3)["text"]),
        (&json!("met|"), &json!("met|"))
    );
    daemon.leave();
}

#[test]
fn a_server_that_refuses_the_arguments_tells_the_model() {
    let stage = Stage::new("", "", &[("refuse", &["refuse"])]);
    let mut daemon = stage.start();
    assert_eq!(ask(&mut daemon, 1, "refuse"), ["error: the arguments do not please"]);
    daemon.leave();
}

#[test]
fn what_a_server_asks_of_its_client_is_refused() {
    let stage = Stage::new("", "", &[("back", &["ask_back"])]);
    let mut daemon = stage.start();
    assert_eq!(ask(&mut daemon, 1, "back"), ["-32601 -32601 -32601 answered"]);
    daemon.leave();
}

#[test]
fn tools_that_come_later_are_offered_to_the_next_run() {
    let stage = Stage::new("", "", &[("grow", &["grow"])]);
    let mut daemon = stage.start();
    let before = ask(&mut daemon, 1, "tools")[0].clone();
    assert!(before.contains("demo_echo") && !before.contains("demo_new"), "{before}");
    assert_eq!(ask(&mut daemon, 2, "grow"), ["grown"]);
    assert_eq!(ask(&mut daemon, 3, "tools"), [format!("{before}, demo_new")]);
    daemon.leave();
}

#[test]
fn tools_are_listed_page_by_page() {
    let tools = |options| {
        let stage = Stage::new(options, "", &[]);
        let mut daemon = stage.start();
        let tools = ask(&mut daemon, 1, "tools");
        daemon.leave();
        tools
    };
    assert_eq!(tools("pages"), tools(""));
}

/// The versions of MCP from 2026-07-28 on have no `initialize`.
#[test]
fn a_server_without_a_handshake_is_understood() {
    let stage = Stage::new(
        "modern",
        "",
        &[("echo", &["echo = { text = \"hello\" }"]), ("grow", &["grow"])],
    );
    let mut daemon = stage.start();
    assert_eq!(ask(&mut daemon, 1, "echo"), ["hello"]);
    assert_eq!(ask(&mut daemon, 2, "grow"), ["grown"]);
    assert!(ask(&mut daemon, 3, "tools")[0].ends_with(", demo_new"));
    daemon.leave();
}

#[test]
fn an_output_that_is_larger_than_a_message_reaches_the_model_and_not_the_step() {
    let stage = Stage::new("", "", &[("big", &["big = { bytes = 300000 }"])]);
    let mut daemon = stage.start();
    daemon.ask(1, "big");
    daemon.result(1);
    assert_eq!(daemon.text(1), "x".repeat(300_000) + "|");
    let steps = daemon.heard.iter().map(|message| &message["params"]["step"]);
    let last = steps.rev().find(|step| step.is_object()).unwrap();
    assert_eq!(
        (&last["status"], &last["calls"][0]["server"]),
        (&json!("completed"), &json!("demo"))
    );
    assert_eq!(last["calls"][0].get("output"), None);
    daemon.leave();
}

#[test]
fn a_call_that_takes_too_long_is_given_up_and_the_server_told() {
    let mut stage = Stage::new(
        "",
        "call_timeout = 0.2",
        &[("wait", &["wait", "echo = { text = \"well\" }"])],
    );
    let mut daemon = stage.start();
    assert_eq!(
        ask(&mut daemon, 1, "wait"),
        [
            "error: the MCP server `demo` (`python3`) did not answer the call of `wait` within 0.2 s",
            "well"
        ]
    );
    stage.note();
    assert_eq!((stage.note(), stage.note()), ("waiting".into(), "cancelled".into()));
    daemon.leave();
}

#[test]
fn cancelling_a_run_ends_its_calls() {
    let mut stage = Stage::new(
        "",
        "",
        &[("wait", &["wait"]), ("echo", &["echo = { text = \"well\" }"])],
    );
    let mut daemon = stage.start();
    daemon.ask(1, "wait");
    stage.note();
    assert_eq!(stage.note(), "waiting");
    daemon.request(2, "assistant/cancel", json!({ "token": 1 }));
    assert_eq!(daemon.result(1)["status"], "cancelled");
    assert_eq!(stage.note(), "cancelled");
    assert_eq!(ask(&mut daemon, 3, "echo"), ["well"], "the server goes on");
    daemon.leave();
}

/// Nothing waits for a server that starts but the run that needs it.
#[test]
fn a_run_that_waits_for_a_server_can_be_cancelled() {
    let mut stage = Stage::new("silent", "", &[]);
    let mut daemon = stage.start();
    daemon.ask(1, "tools");
    let server = stage.process();
    let start = Instant::now();
    daemon.request(2, "assistant/cancel", json!({ "token": 1 }));
    assert_eq!(daemon.result(1)["status"], "cancelled");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    server.expect_gone();
    daemon.leave();
}

#[test]
fn a_server_gets_the_environment_without_the_keys_of_providers_and_no_descriptor() {
    let answers: &[(&str, &[&str])] = &[(
        "look",
        &[
            "environment = { name = \"OPENAI_API_KEY\" }",
            "environment = { name = \"AZURE_OPENAI_API_KEY\" }",
            "environment = { name = \"OTHER\" }",
            "environment = { name = \"MORE\" }",
            "folder",
            "descriptors",
        ],
    )];
    let settings = "env_from = [\"AZURE_OPENAI_API_KEY\"]\ncwd = \"work\"\nenv.MORE = \"of its own\"";
    let stage = Stage::new("", settings, answers);
    let folder = stage.home.path().join(".config/assistd/work");
    std::fs::create_dir(&folder).unwrap();
    let mut command = stage.command();
    command
        .env("OPENAI_API_KEY", "sk-1")
        .env("AZURE_OPENAI_API_KEY", "sk-2")
        .env("OTHER", "inherited");
    // What an editor leaves open by mistake.
    let left = std::fs::File::open(stage.home.path()).unwrap();
    rustix::io::fcntl_setfd(&left, rustix::io::FdFlags::empty()).unwrap();
    let mut daemon = Daemon::run(command, pipes());
    let folder = folder.canonicalize().unwrap().display().to_string();
    assert_eq!(
        ask(&mut daemon, 1, "look"),
        ["(not set)", "sk-2", "inherited", "of its own", folder.as_str(), "0"]
    );
    daemon.leave();
}
