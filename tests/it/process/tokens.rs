//! Tokens that the client gives, and those of a program.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::Daemon;
use super::ends::pipes;
use super::keys::{TALKATIVE, search};
use crate::assistants::whole_turn;
use crate::program::Home;
use crate::upstream::{Reply, Upstream};

const TOKEN: &str = "tok-very-secret-1";
const ANOTHER: &str = "tok-very-secret-2";

/// A daemon with a provider of these settings, and everything written down that can be.
fn start(home: &Home, base_url: &str, settings: &str) -> Daemon {
    home.write_config(&format!(
        "[providers.work]\ndialect = \"assistants\"\nbase_url = \"{base_url}\"\n{settings}\n\
         [assistants.work]\nprovider = \"work\"\nassistant_id = \"asst_1\"\n"
    ));
    Daemon::run(home.command(&TALKATIVE), pipes())
}

fn initialize(daemon: &mut Daemon) {
    let capabilities = json!({ "authToken": true, "events": "all" });
    daemon.request(1, "initialize", json!({ "capabilities": capabilities }));
    daemon.result(1);
}

/// Waits to be asked for a token for this reason, and gives this.
fn give(daemon: &mut Daemon, reason: &str, result: Value) {
    let question = daemon.until("a question for a token", |message| message["method"] == "auth/token");
    assert_eq!(question["params"]["provider"], "work", "{question}");
    assert_eq!(question["params"]["reason"], reason, "{question}");
    daemon.say(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": result }));
}

fn questions(daemon: &Daemon) -> usize {
    daemon
        .heard
        .iter()
        .filter(|message| message["method"] == "auth/token")
        .count()
}

fn expect_no_token(home: &Home, daemon: Daemon, written: &[&str]) {
    let heard = format!("{:?}", daemon.heard);
    daemon.leave();
    for token in [TOKEN, ANOTHER] {
        assert!(!heard.contains(token), "the token was sent to the client: {heard}");
        let mut searched = Vec::new();
        search(home.path(), token, &mut searched);
        for file in written {
            assert!(
                searched.iter().any(|name| name == file),
                "{file} was not written: {searched:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_of_the_client_is_used_renewed_and_shows_nowhere() {
    let message = format!("the token {TOKEN} is stale");
    let refusal = Reply::json(401, json!({ "error": { "message": message } }));
    let still = Reply::json(401, json!({ "error": { "message": format!("{ANOTHER} is, too") } }));
    let upstream = Upstream::start([
        refusal,
        Reply::events(whole_turn("hi")),
        Reply::events(whole_turn("again")),
        still,
    ])
    .await;
    let base_url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut daemon = start(&home, &base_url, "auth = \"client\"");
        initialize(&mut daemon);
        daemon.ask(2, "hello");
        give(&mut daemon, "missing", json!({ "token": TOKEN, "expiresIn": 3600 }));
        give(&mut daemon, "refused", json!({ "token": ANOTHER }));
        assert_eq!(daemon.result(2)["text"], "hi");
        daemon.ask(3, "and now?");
        assert_eq!(daemon.result(3)["text"], "again");
        assert_eq!(questions(&daemon), 2, "it is kept");
        // The client has no other, and says so.
        daemon.ask(4, "and then?");
        give(&mut daemon, "refused", json!({}));
        let error = daemon.error(4);
        assert_eq!(error["data"]["kind"], "authRequired", "{error}");
        let expected = "failed to get a token for provider `work`: the client has none";
        assert_eq!(error["message"], expected, "{error}");
        let log = std::fs::read_to_string(home.path().join("wire.log")).unwrap();
        assert_eq!(log.matches("[key]").count(), 3, "{log}");
        expect_no_token(&home, daemon, &["wire.log", "daemon.log", "assistd.db"]);
    });
    talk.await.unwrap();
    let sent: Vec<_> = upstream
        .requests()
        .into_iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    let bearer = |token: &str| format!("Bearer {token}");
    assert_eq!(sent, [bearer(TOKEN), bearer(ANOTHER), bearer(ANOTHER), bearer(ANOTHER)]);
}

#[tokio::test]
async fn runs_that_start_together_ask_the_client_once() {
    let upstream = Upstream::start([Reply::events(whole_turn("a")), Reply::events(whole_turn("b"))]).await;
    let base_url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut daemon = start(&home, &base_url, "auth = \"client\"");
        initialize(&mut daemon);
        daemon.ask(2, "one");
        daemon.ask(3, "two");
        give(&mut daemon, "missing", json!({ "token": TOKEN }));
        daemon.result(2);
        daemon.result(3);
        assert_eq!(questions(&daemon), 1);
        expect_no_token(&home, daemon, &["wire.log", "daemon.log", "assistd.db"]);
    });
    talk.await.unwrap();
}

#[tokio::test]
async fn a_provider_without_a_key_asks_the_client_once_it_is_refused() {
    let upstream = Upstream::start([Reply::status(401), Reply::events(whole_turn("hi"))]).await;
    let base_url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let mut daemon = start(&home, &base_url, "");
        initialize(&mut daemon);
        daemon.ask(2, "hello");
        give(&mut daemon, "missing", json!({ "token": TOKEN }));
        assert_eq!(daemon.result(2)["text"], "hi");
        expect_no_token(&home, daemon, &["wire.log", "daemon.log", "assistd.db"]);
    });
    talk.await.unwrap();
    assert_eq!(upstream.request(1).await.header("authorization"), None);
    assert_eq!(
        upstream.request(2).await.header("authorization"),
        Some(&*format!("Bearer {TOKEN}"))
    );
}

#[test]
fn a_question_that_nobody_waits_for_any_more_is_withdrawn() {
    let home = Home::new();
    let mut daemon = start(&home, "http://127.0.0.1:9/v1", "auth = \"client\"");
    initialize(&mut daemon);
    daemon.ask(2, "hello");
    let question = daemon.until("a question for a token", |message| message["method"] == "auth/token");
    daemon.request(3, "assistant/cancel", json!({ "token": 2 }));
    let withdrawn = daemon.until("its withdrawal", |message| message["method"] == "$/cancelRequest");
    assert_eq!(withdrawn["params"], json!({ "id": question["id"] }));
    assert_eq!(daemon.result(2)["status"], "cancelled");
    // A late answer is ignored, and the next run asks anew.
    daemon.say(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "token": TOKEN } }));
    daemon.ask(4, "hello again");
    give(&mut daemon, "missing", json!({}));
    assert_eq!(daemon.error(4)["data"]["kind"], "authRequired");
    expect_no_token(&home, daemon, &["wire.log", "daemon.log"]);
}

#[test]
fn an_answer_of_another_form_is_not_quoted() {
    let home = Home::new();
    let mut daemon = start(&home, "http://127.0.0.1:9/v1", "api_key_env = \"NOT_SET\"");
    initialize(&mut daemon);
    for (id, result) in [
        (2, json!(TOKEN)),
        (3, json!({ "token": [TOKEN] })),
        (4, json!({ "token": 5 })),
    ] {
        daemon.ask(id, "hello");
        give(&mut daemon, "missing", result);
        let error = daemon.error(id);
        assert_eq!(error["data"]["kind"], "authRequired", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.ends_with("expected `token` to be a string, and `expiresIn` a number of seconds"),
            "{message}"
        );
    }
    expect_no_token(&home, daemon, &["wire.log", "daemon.log"]);
}

#[test]
fn a_client_that_gives_no_tokens_is_told_what_to_do() {
    let home = Home::new();
    let mut daemon = start(&home, "http://127.0.0.1:9/v1", "auth = \"client\"");
    daemon.ask(2, "hello");
    let error = daemon.error(2);
    assert_eq!(error["data"]["kind"], "authRequired", "{error}");
    assert!(
        error["data"]["hint"].as_str().unwrap().contains("`authToken`"),
        "{error}"
    );
    daemon.leave();
}

#[tokio::test]
async fn foundry_takes_the_token_of_whoever_is_signed_in_at_the_command_line() {
    let upstream = Upstream::start([Reply::events(whole_turn("hi"))]).await;
    let base_url = upstream.url();
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        let az = home.write(
            "bin/az",
            &format!(
                "#!/bin/sh\necho \"$@\" > {}/asked\necho '{{\"accessToken\": \"{TOKEN}\", \"expires_on\": 4102444800}}'\n",
                home.path().display()
            ),
        );
        std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o700)).unwrap();
        home.write_config(&format!(
            "[providers.work]\ndialect = \"assistants\"\nservice = \"foundry\"\nbase_url = \"{base_url}\"\n\
             [assistants.work]\nprovider = \"work\"\nassistant_id = \"asst_1\"\n"
        ));
        let gone = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut command = home.command(&["--stdio"]);
        command
            .env("PATH", format!("{}:/usr/bin:/bin", az.parent().unwrap().display()))
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{gone}"));
        let mut daemon = Daemon::run(command, pipes());
        daemon.ask(1, "hello");
        assert_eq!(daemon.result(1)["text"], "hi");
        daemon.leave();
        let asked = std::fs::read_to_string(home.path().join("asked")).unwrap();
        assert_eq!(
            asked,
            "account get-access-token --output json --scope https://ai.azure.com/.default\n"
        );
    });
    talk.await.unwrap();
    assert_eq!(
        upstream.request(1).await.header("authorization"),
        Some(&*format!("Bearer {TOKEN}"))
    );
}

#[test]
fn without_any_source_of_entra_tokens_all_that_were_tried_are_named() {
    let home = Home::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    home.write_config(
        "[providers.work]\ndialect = \"assistants\"\nservice = \"azure\"\nauth = \"entra\"\n\
         base_url = \"http://127.0.0.1:9/openai\"\n[assistants.work]\nprovider = \"work\"\nassistant_id = \"asst_1\"\n",
    );
    let mut command = home.command(&["--stdio"]);
    command
        .env("PATH", home.path())
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{gone}"));
    let mut daemon = Daemon::run(command, pipes());
    daemon.ask(1, "hello");
    let error = daemon.error(1);
    assert_eq!(error["data"]["kind"], "authRequired", "{error}");
    let message = error["message"].as_str().unwrap();
    for tried in [
        "AZURE_OPENAI_AD_TOKEN is not set",
        "AZURE_CLIENT_SECRET is not set",
        "AZURE_FEDERATED_TOKEN_FILE is not set",
        "this machine has no managed identity",
        "`az` is not installed",
    ] {
        assert!(message.contains(tried), "expected `{tried}` in: {message}");
    }
    assert!(
        error["data"]["hint"].as_str().unwrap().contains("`az login`"),
        "{error}"
    );
    daemon.leave();
}
