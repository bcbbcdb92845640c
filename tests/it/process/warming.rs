//! The connection that is made ahead of time.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Daemon;
use super::ends::pipes;
use crate::assistants::whole_turn;
use crate::networks::tls_front::{Authority, Front};
use crate::program::Home;
use crate::upstream::{Reply, Upstream};

const KEY: &str = "sk-test-0123456789";

/// A daemon whose provider is at this URL.
fn start(authority: &Authority, url: &str, more: &str) -> (Home, Daemon) {
    let home = Home::new();
    home.write_config(&format!(
        "ca_file = \"{}\"\n{more}\n[providers.work]\ndialect = \"assistants\"\nbase_url = \"{url}\"\napi_key_env = \"KEY\"\n\
         [assistants.work]\nprovider = \"work\"\nassistant_id = \"asst_1\"\n",
        authority.file().display()
    ));
    let mut command = home.command(&["--stdio"]);
    command.env("KEY", KEY);
    (home, Daemon::run(command, pipes()))
}

/// What was asked of the upstream before the first question's request, and how long the first question took.
async fn first_question(more: &'static str, distance: Duration, is_warmed: bool) -> (Vec<String>, Duration) {
    let authority = Authority::new();
    let upstream = Upstream::start(is_warmed.then(|| Reply::status(404))).await;
    upstream.push(Reply::events(whole_turn("hi")));
    let front = Front::far(authority.identity(&["127.0.0.1"]), &upstream.url(), distance).await;
    let url = front.url("127.0.0.1");
    let (home, mut daemon) = start(&authority, &url, more);
    let talk = |mut daemon: Daemon, method: &'static str| {
        tokio::task::spawn_blocking(move || {
            let since = Instant::now();
            match method {
                "initialize" => {
                    daemon.request(1, "initialize", json!({}));
                    daemon.result(1);
                }
                _ => {
                    daemon.ask(2, "hello");
                    assert_eq!(daemon.result(2)["text"], "hi");
                }
            }
            (daemon, since.elapsed())
        })
    };
    (daemon, _) = talk(daemon, "initialize").await.unwrap();
    if is_warmed {
        let head = upstream.request(1).await;
        assert_eq!((head.method.as_str(), head.target.as_str()), ("HEAD", "/v1"));
        assert!(head.body.is_empty());
        assert!(
            head.headers.iter().all(|(_, value)| !value.contains(KEY)),
            "{:?}",
            head.headers
        );
        // Its answer is on its way to the daemon for so long.
        tokio::time::sleep(3 * distance).await;
    }
    let (daemon, took) = talk(daemon, "assistant/send").await.unwrap();
    tokio::task::spawn_blocking(move || daemon.leave()).await.unwrap();
    drop(home);
    assert_eq!(
        front.connections(),
        1,
        "the question used the connection that was there"
    );
    (
        upstream.requests().into_iter().map(|request| request.method).collect(),
        took,
    )
}

#[tokio::test]
async fn the_first_question_finds_its_connection_made() {
    let distance = Duration::from_millis(20);
    let (asked, warm) = first_question("", distance, true).await;
    assert_eq!(asked, ["HEAD", "POST"]);
    let (asked, cold) = first_question("warm = false", distance, false).await;
    assert_eq!(asked, ["POST"]);
    println!("first question: {warm:?} with a connection, {cold:?} without; {distance:?} away");
}

#[tokio::test]
async fn nobody_waits_for_a_connection_that_is_being_made() {
    let authority = Authority::new();
    // Takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (_home, mut daemon) = start(&authority, &format!("https://{}/v1", silent.local_addr().unwrap()), "");
    let talk = tokio::task::spawn_blocking(move || {
        let since = Instant::now();
        daemon.request(1, "initialize", json!({}));
        daemon.result(1);
        // It has begun: somebody has connected.
        drop(silent.accept().unwrap());
        let _kept = silent;
        daemon.request(2, "server/status", json!({}));
        daemon.result(2);
        daemon.end_input();
        daemon.rest();
        let took = daemon.finish(0).at - since;
        assert!(took < Duration::from_millis(2500), "gone after {took:?}");
    });
    talk.await.unwrap();
}
