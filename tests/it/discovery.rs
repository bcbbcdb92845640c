//! Servers on this machine that are found where nothing is set, by the real program.

use serde_json::{Value, json};

use crate::program::{Home, stderr};
use crate::upstream::{Reply, Upstream};

fn list() -> Reply {
    Reply::json(
        200,
        json!({ "object": "list", "data": [{ "id": "m", "object": "model" }] }),
    )
}

/// A home in which only these ports are looked at.
fn home_looking_at(ports: &[u16], more: &str) -> Home {
    let home = Home::new();
    home.write_config(&format!("local_ports = {ports:?}\n{more}"));
    home
}

fn port(upstream: &Upstream) -> u16 {
    let url = reqwest::Url::parse(&upstream.url()).unwrap();
    url.port().unwrap()
}

/// The results of these requests to one daemon with these variables, in their order.
async fn results(home: Home, variables: &[(&str, &str)], methods: &[&str]) -> Vec<Value> {
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let methods: Vec<String> = methods.iter().map(|method| method.to_string()).collect();
    let asking = tokio::task::spawn_blocking(move || {
        let mut command = home.command(&[]);
        command.env_remove("ASSISTD_DISCOVER").envs(variables);
        let mut daemon = crate::program::Running::of(command);
        let mut results = Vec::new();
        for (id, method) in methods.iter().enumerate() {
            daemon.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method }).to_string());
            let response: Value = serde_json::from_str(&daemon.read_until("\n")).unwrap();
            assert_eq!(response["id"], id, "{response}");
            results.push(response["result"].clone());
        }
        daemon.end_input();
        assert!(daemon.finish().status.success());
        results
    });
    asking.await.unwrap()
}

#[tokio::test]
async fn a_server_with_a_model_is_taken_once_and_kept() {
    let upstream = Upstream::start([list()]).await;
    let port = port(&upstream);
    let home = home_looking_at(&[port], "");
    let methods = [
        "initialize",
        "server/status",
        "provider/list",
        "assistant/list",
        "server/status",
    ];
    let results = results(home, &[], &methods).await;
    assert_eq!(
        results[1]["provider"],
        json!({
            "name": "local",
            "dialect": "chat",
            "reason": format!("nothing else is set, and a local server answers on port {port}"),
        })
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
    assert!(
        assistants.iter().any(|assistant| assistant["name"] == "local"),
        "{assistants:?}"
    );
    assert_eq!(upstream.requests().len(), 1, "it was asked once for its list");
    let request = upstream.request(1).await;
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("GET", "/v1/models")
    );
}

/// A start costs nothing, and neither does a daemon that is told what to use.
#[tokio::test]
async fn nobody_is_asked_at_initialize_or_where_something_is_set() {
    let upstream = Upstream::start([]).await;
    let port = port(&upstream);
    let status = ["initialize", "server/status"];
    results(home_looking_at(&[port], ""), &[], &["initialize"]).await;
    results(home_looking_at(&[port], "discover = false\n"), &[], &status).await;
    results(home_looking_at(&[port], ""), &[("ASSISTD_DISCOVER", "false")], &status).await;
    results(
        home_looking_at(&[port], ""),
        &[("ASSISTD_PROVIDER", "embedded")],
        &status,
    )
    .await;
    let key = results(home_looking_at(&[port], ""), &[("OPENAI_API_KEY", "k")], &status).await;
    assert_eq!(key[1]["provider"]["name"], "openai");
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn what_is_no_such_server_is_passed_over() {
    let page = Reply::status(200)
        .header("content-type", "text/html")
        .bytes("<!doctype html><p>hello</p>");
    let (html, silent) = (Upstream::start([page]).await, Upstream::start([Reply::silence()]).await);
    let home = home_looking_at(&[port(&html), port(&silent)], "");
    let results = results(home, &[], &["server/status"]).await;
    assert_eq!(results[0]["provider"]["name"], "embedded");
    assert_eq!(results[0]["provider"]["reason"], "nothing else is set");
}

#[tokio::test]
async fn the_console_says_which_server_it_took() {
    let upstream = Upstream::start([list()]).await;
    let port = port(&upstream);
    let talking = tokio::task::spawn_blocking(move || {
        let home = home_looking_at(&[port], "");
        let mut command = home.command(&["chat"]);
        command.env_remove("ASSISTD_DISCOVER");
        let mut console = crate::program::Running::of(command);
        console.end_input();
        console.finish()
    });
    let output = talking.await.unwrap();
    assert_eq!(
        stderr(&output),
        format!(
            "assistd: the provider `local` (chat) answers, because nothing else is set, and a local server answers on port {port}\n"
        )
    );
}
