//! Nothing is set, and a server answers on this machine: what a client gets, and what `assistd doctor` says of servers
//! that are well and of those that are not.
//!
//! A server has 50 ms to answer, which a busy machine may not give it: such a try of the real program ends at once,
//! since there is no other model, and is made again.

use std::net::TcpListener;
use std::process::Output;

use serde_json::{Value, json};

use super::Daemon;
use super::ends::pipes;
use crate::chat::whole;
use crate::program::{Home, stderr, stdout};
use crate::upstream::{Reply, Upstream};

/// How often a server is sought before somebody else must be at fault.
const TRIES: usize = 20;

/// A server with these models.
async fn server(models: &'static [&'static str]) -> Upstream {
    Upstream::start([]).await.aside(move |request| {
        let list = models.iter().map(|model| json!({ "id": model, "object": "model" }));
        let list = json!({ "object": "list", "data": list.collect::<Vec<_>>() });
        (request.method == "GET").then(|| Reply::json(200, list))
    })
}

fn port(upstream: &Upstream) -> u16 {
    reqwest::Url::parse(&upstream.url()).unwrap().port().unwrap()
}

/// A home in which nothing is set but where servers usually are.
fn home(port: u16) -> Home {
    let home = Home::new();
    home.write_config(&format!("local_ports = [{port}]\n"));
    home
}

/// A daemon that has found the server, and why it took it.
fn found(home: &Home) -> (Daemon, String) {
    for _ in 0..TRIES {
        let mut command = home.command(&["--stdio"]);
        command.env_remove("ASSISTD_DISCOVER");
        let mut daemon = Daemon::run(command, pipes());
        daemon.request(0, "server/status", json!({}));
        let provider = daemon.result(0)["provider"].clone();
        if provider["dialect"] == "chat" {
            return (daemon, provider["reason"].as_str().unwrap().to_owned());
        }
        daemon.leave();
    }
    panic!("the server was not found");
}

#[tokio::test]
async fn a_server_with_one_model_answers() {
    let upstream = server(&["only"]).await;
    upstream.push(Reply::events(whole("Hello.")));
    let talk = move || {
        let (mut daemon, reason) = found(&home(port(&upstream)));
        let expected = format!(
            "nothing else is set, and a local server answers on port {}",
            port(&upstream)
        );
        assert_eq!(reason, expected);
        daemon.ask(1, "hi");
        let answer = daemon.result(1);
        assert_eq!(
            (&answer["status"], &answer["text"]),
            (&json!("completed"), &json!("Hello."))
        );
        assert_eq!(daemon.notification("assistant/started", 1)["provider"], "local");
        daemon.leave();
        let asked = upstream.requests().pop().unwrap();
        assert_eq!(
            (asked.path(), &asked.json()["model"]),
            ("/v1/chat/completions", &json!("only"))
        );
        assert_eq!(asked.header("authorization"), None);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}

#[tokio::test]
async fn of_several_models_one_has_to_be_named() {
    let upstream = server(&["small", "large"]).await;
    upstream.push(Reply::events(whole("Large.")));
    let talk = move || {
        let (mut daemon, _) = found(&home(port(&upstream)));
        daemon.ask(1, "hi");
        let error = daemon.error(1);
        assert_eq!(error["data"]["kind"], "configInvalid", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with("offers several: `small`, `large`"), "{message}");
        let hint = error["data"]["hint"].as_str().unwrap();
        assert!(hint.contains("`model`") && hint.contains("ASSISTD_MODEL"), "{hint}");
        daemon.request(2, "assistant/send", json!({ "content": "hi", "model": "large" }));
        assert_eq!(daemon.result(2)["text"], "Large.");
        let asked = upstream.requests().pop().unwrap();
        assert_eq!(asked.json()["model"], "large");
        daemon.request(3, "model/list", json!({}));
        let models = daemon.result(3);
        let names: Vec<&Value> = models["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| &model["name"])
            .collect();
        assert_eq!(names[..2], [&json!("small"), &json!("large")], "{models}");
        daemon.leave();
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}

/// The exit code and the lines of `assistd doctor` in this home.
fn doctor(home: &Home) -> (Option<i32>, String) {
    let mut command = home.command(&["doctor"]);
    command.env_remove("ASSISTD_DISCOVER");
    let output: Output = command.output().unwrap();
    assert_eq!(stderr(&output), "");
    (output.status.code(), stdout(&output))
}

fn expect_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_doctor_finds_it_too() {
    let one = server(&["only"]).await;
    let several = server(&["small", "large"]).await;
    let look = move || {
        let look = |upstream: &Upstream| {
            let home = home(port(upstream));
            let looks = (0..TRIES).map(|_| doctor(&home));
            let mut looks = looks.skip_while(|(_, text)| !text.contains("(chat)"));
            looks.next().expect("the server is found")
        };
        let (code, text) = look(&one);
        assert_eq!(code, Some(0), "{text}");
        let reason = format!(
            "provider `local` (chat), because nothing else is set, and a local server answers on port {}\n",
            port(&one)
        );
        let lines = [
            &reason,
            "  ok      model         the upstream offers one model that answers, `only`\n",
            "\nall is well\n",
        ];
        expect_lines(&text, &lines);
        let (code, text) = look(&several);
        assert_eq!(code, Some(1), "{text}");
        let lines = [
            "  FAILED  model         no model is named, and the upstream offers 2\n",
            "name one with `--model`, ASSISTD_MODEL or `model` of the assistant: it offers `small`, `large`\n",
        ];
        expect_lines(&text, &lines);
    };
    tokio::task::spawn_blocking(look).await.unwrap();
}

/// It is set, and not there, or no such server.
#[tokio::test]
async fn the_doctor_names_the_stage_of_a_server_that_is_not_well() {
    let page = Reply::status(200)
        .header("content-type", "text/html")
        .bytes("<!doctype html><p>hello</p>");
    let empty = Reply::json(200, json!({ "object": "list", "data": [] }));
    let broken = Reply::json(500, json!({ "error": { "message": "out of memory" } }));
    let upstream = Upstream::start([page, empty, broken]).await;
    let look = move || {
        let look = |port: u16| {
            let home = Home::new();
            home.write_config(&format!(
                "[providers.mine]\ndialect = \"chat\"\nbase_url = \"http://127.0.0.1:{port}/v1\"\nmax_retries = 0\n"
            ));
            let (code, text) = doctor(&home);
            assert_eq!(code, Some(1), "{text}");
            text
        };
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = look(nobody);
        expect_lines(
            &text,
            &[
                &format!("  FAILED  connect       127.0.0.1:{nobody} refuses connections\n"),
                "is the server running, and the port of `base_url` right?\n",
                "  -       model         not looked at, since an earlier stage failed\n",
                "\nsomething is wrong: see FAILED above\n",
            ],
        );
        let texts: Vec<String> = (0..3).map(|_| look(port(&upstream))).collect();
        expect_lines(
            &texts[0],
            &[
                "  FAILED  credentials   provider `mine` answered with a web page\n",
                "`base_url` has to be that of the API (most end in `/v1`)",
            ],
        );
        expect_lines(
            &texts[1],
            &[
                "  FAILED  model         the upstream offers no model\n",
                "load one there first\n",
            ],
        );
        expect_lines(
            &texts[2],
            &[
                "  FAILED  credentials   provider `mine` failed: out of memory\n",
                "the way there is fine: look at the log of the upstream, and try again later\n",
            ],
        );
        for text in &texts {
            let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("  FAILED")).collect();
            assert_eq!(failed.len(), 1, "{text}");
        }
    };
    tokio::task::spawn_blocking(look).await.unwrap();
}
