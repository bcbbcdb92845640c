//! Servers on this machine that are found where nothing is set.
//!
//! They have 50 ms to answer, which a busy machine may not give them: so the clock stands still here.

use std::future::Future;

use assistd::Signals;
use assistd::config::{Settings, parse_toml};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::program::{Home, stderr};
use crate::upstream::{Reply, Upstream};

fn list() -> Reply {
    Reply::json(
        200,
        json!({ "object": "list", "data": [{ "id": "m", "object": "model" }] }),
    )
}

fn port(upstream: &Upstream) -> u16 {
    let url = reqwest::Url::parse(&upstream.url()).unwrap();
    url.port().unwrap()
}

/// Runs a test while the clock stands still: it goes on by itself only when there is nothing else to do.
fn standing_still(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .start_paused(true)
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(async {
        let busy = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        test.await;
        busy.abort();
    });
    runtime.shutdown_background();
}

/// The results of these requests to one daemon that looks at this port, in their order.
async fn results(port: u16, toml: &str, environment: &[(&str, &str)], methods: &[&str]) -> Vec<Value> {
    let mut settings = Settings::ephemeral();
    let toml = format!("local_ports = [{port}]\n{toml}");
    settings.layer = parse_toml("config.toml".as_ref(), &toml).unwrap();
    settings.environment = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let (client, daemon) = tokio::io::duplex(64 * 1024);
    let (input, output) = tokio::io::split(daemon);
    let daemon = tokio::task::spawn_local(assistd::serve(input, output, settings, Signals::default()));
    let (said, mut say) = tokio::io::split(client);
    let mut lines = BufReader::new(said).lines();
    let mut results = Vec::new();
    for (id, method) in methods.iter().enumerate() {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method });
        say.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let line = lines.next_line().await.unwrap().unwrap();
        let response: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(response["id"], id, "{response}");
        results.push(response["result"].clone());
    }
    say.shutdown().await.unwrap();
    assert_eq!(daemon.await.unwrap(), 0);
    results
}

#[test]
fn a_server_with_a_model_is_taken_once_and_kept() {
    standing_still(async {
        let upstream = Upstream::start([list()]).await;
        let port = port(&upstream);
        let methods = [
            "initialize",
            "server/status",
            "provider/list",
            "assistant/list",
            "server/status",
        ];
        let results = results(port, "", &[], &methods).await;
        let reason = format!("nothing else is set, and a local server answers on port {port}");
        assert_eq!(
            results[1]["provider"],
            json!({ "name": "local", "dialect": "chat", "reason": reason })
        );
        assert_eq!(results[4]["provider"], results[1]["provider"]);
        let providers = results[2]["providers"].as_array().unwrap();
        let local = providers.iter().find(|provider| provider["name"] == "local").unwrap();
        assert_eq!(
            (&local["isDefault"], &local["baseUrl"], &local["credentials"]),
            (
                &json!(true),
                &json!(format!("http://127.0.0.1:{port}/v1")),
                &json!("none")
            )
        );
        let assistants = results[3]["assistants"].as_array().unwrap();
        assert!(assistants.iter().any(|assistant| assistant["name"] == "local"));
        assert_eq!(upstream.requests().len(), 1, "it was asked once for its list");
        let request = upstream.request(1).await;
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("GET", "/v1/models")
        );
    });
}

/// A start costs nothing, and a daemon that is told what to use asks nobody else.
#[test]
fn nobody_is_asked_at_initialize_or_where_something_is_set() {
    standing_still(async {
        let upstream = Upstream::start([]).await;
        let port = port(&upstream);
        let status = ["initialize", "server/status"];
        results(port, "", &[], &["initialize"]).await;
        results(port, "discover = false", &[], &status).await;
        results(port, "default_provider = \"embedded\"", &[], &status).await;
        let key = results(port, "", &[("OPENAI_API_KEY", "k")], &status).await;
        assert_eq!(key[1]["provider"]["name"], "openai");
        assert_eq!(upstream.connections(), 0);
    });
}

#[test]
fn a_page_is_no_list_and_nobody_asks_again_at_once() {
    standing_still(async {
        let page = Reply::status(200)
            .header("content-type", "text/html")
            .bytes("<!doctype html><p>hello</p>");
        let upstream = Upstream::start([page]).await;
        let results = results(port(&upstream), "", &[], &["server/status", "provider/list"]).await;
        assert_eq!(results[0]["provider"]["name"], "embedded");
        assert_eq!(results[0]["provider"]["reason"], "nothing else is set");
        assert_eq!(upstream.requests().len(), 1);
    });
}

/// Each try is the real program with its 50 ms: one of them finds the machine at leisure.
#[tokio::test]
async fn the_console_says_which_server_it_took() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let body = json!({ "data": [{ "id": "m", "owned_by": "me" }] }).to_string();
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|bytes| bytes > 2) {
                line.clear();
            }
            // Who has given up by now does not want it.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let expected =
        format!("assistd: the provider `local` (chat) answers, because a local server answers on port {port}\n");
    let mut said = String::new();
    for _ in 0..20 {
        let talking = tokio::task::spawn_blocking(move || {
            let home = Home::new();
            home.write_config(&format!("local_ports = [{port}]\n"));
            // Named, so that a try that does not find it ends at once and fetches no weights.
            let mut command = home.command(&["chat", "--ephemeral", "--assistant", "local"]);
            command.env_remove("ASSISTD_DISCOVER");
            let mut console = crate::program::Running::of(command);
            console.end_input();
            console.finish()
        });
        said = stderr(&talking.await.unwrap());
        if said == expected {
            return;
        }
    }
    panic!("expected {expected:?}, the last try said {said:?}");
}
