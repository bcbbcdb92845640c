//! `provider/check` and `model/list` by the real program, against real sockets: each stage that fails, and the way through.

mod models;
mod servers;

use std::process::Command;

use serde_json::{Value, json};

use crate::program::Home;
use crate::upstream::{Reply, Upstream};
use servers::{Authority, Proxy, TlsServer};

const KEY: &str = "sk-nobody-may-see-this";

/// A home whose provider is at this URL, with a key from a variable.
fn home_at(base_url: &str) -> Home {
    home_through(base_url, "")
}

/// The same with more settings of the provider.
fn home_through(base_url: &str, more: &str) -> Home {
    let home = Home::new();
    home.write_config(&format!(
        "default_assistant = \"a\"\n[providers.p]\ndialect = \"assistants\"\nbase_url = \"{base_url}\"\n\
         api_key_env = \"MY_KEY\"\n{more}[assistants.a]\nprovider = \"p\"\nassistant_id = \"asst_1\"\n"
    ));
    home
}

/// What the upstream says of its assistant.
fn assistant() -> Reply {
    Reply::json(200, json!({ "id": "asst_1", "model": "gpt-9" }))
}

/// Asks a daemon of its own with these variables, without holding up the servers of the test. The key is in no answer.
async fn request(home: Home, variables: &[(&str, String)], method: &str, params: Value) -> Value {
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect();
    let method = method.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let set = |command: &mut Command| {
            command.env("MY_KEY", KEY).envs(variables);
        };
        home.respond(set, &method, params)
    });
    let response = asked.await.unwrap();
    assert!(!response.to_string().contains(KEY), "{response}");
    response
}

async fn check(home: Home, variables: &[(&str, String)]) -> Value {
    let response = request(home, variables, "provider/check", json!({})).await;
    response["result"].clone()
}

/// `stage: status`, in order.
fn statuses(result: &Value) -> Vec<String> {
    let stages = result["stages"]
        .as_array()
        .unwrap_or_else(|| panic!("no stages in {result}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    stages
        .iter()
        .map(|stage| format!("{}: {}", text(&stage["stage"]), text(&stage["status"])))
        .collect()
}

fn stage<'a>(result: &'a Value, name: &str) -> &'a Value {
    let stages = result["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["stage"] == name).unwrap()
}

/// The stage that failed: everything before it did not, and everything behind it is skipped.
fn failed<'a>(result: &'a Value, name: &str) -> (&'a str, &'a str) {
    assert_eq!(result["ok"], false, "{result}");
    let stages = statuses(result);
    let at = stages.iter().position(|stage| stage.ends_with(": failed")).unwrap();
    assert_eq!(stages[at], format!("{name}: failed"), "{result:#}");
    assert!(
        stages[at + 1..].iter().all(|stage| stage.ends_with(": skipped")),
        "{stages:?}"
    );
    let stage = stage(result, name);
    (
        stage["message"].as_str().unwrap(),
        stage["hint"].as_str().unwrap_or_default(),
    )
}

/// A port of this machine that nobody has.
async fn closed_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn over_tls_with_an_authority_of_its_own_every_stage_passes() {
    let authority = Authority::new("Test Root");
    let server = TlsServer::start(
        authority.certificate("localhost"),
        json!({ "id": "asst_1", "model": "gpt-9" }),
    )
    .await;
    let home = home_at(&server.url());
    let trusted = authority.file(&home);
    let result = check(home, &[("SSL_CERT_FILE", trusted)]).await;
    assert_eq!(result["ok"], true, "{result:#}");
    assert_eq!(
        (&result["provider"], &result["dialect"]),
        (&json!("p"), &json!("assistants"))
    );
    assert_eq!(
        statuses(&result),
        [
            "settings: passed",
            "dns: passed",
            "proxy: skipped",
            "connect: passed",
            "tls: passed",
            "credentials: passed",
            "model: passed"
        ]
    );
    let addresses = stage(&result, "dns")["details"]["addresses"]
        .as_array()
        .unwrap()
        .clone();
    assert!(addresses.contains(&json!("127.0.0.1")), "{addresses:?}");
    let tls = &stage(&result, "tls")["details"];
    assert_eq!((&tls["tls"], &tls["alpn"]), (&json!("1.3"), &json!("http/1.1")));
    let certificate = &tls["certificates"][0];
    assert_eq!(certificate["issuer"], "CN=Test Root");
    assert_eq!(certificate["names"], json!(["localhost"]));
    assert_eq!(certificate["notAfter"], "2099-01-01T00:00:00Z");
    assert_eq!(
        stage(&result, "credentials")["message"],
        "the upstream accepts the key, which comes from the environment variable `MY_KEY`"
    );
    assert_eq!(
        stage(&result, "model")["message"],
        "the upstream has the assistant `asst_1`, with the model `gpt-9`"
    );
}

#[tokio::test]
async fn a_certificate_that_is_refused_is_named_with_the_reason() {
    let (authority, other) = (Authority::new("Known Root"), Authority::new("Unknown Root"));
    let rows = [
        (
            other.certificate("localhost"),
            "the chain of certificates ends at `CN=Unknown Root`, which is not trusted here",
            "`ca_file`",
        ),
        (
            authority.expired("localhost"),
            "the certificate of `CN=localhost` expired on 2021-01-01T00:00:00Z",
            "renew it",
        ),
        (
            authority.certificate("other.example"),
            "the server's certificate is for `other.example`, and not for `localhost`",
            "`base_url` has to name the host",
        ),
        (
            servers::signed_by_itself("localhost"),
            "the server's certificate is signed by itself (`CN=localhost`), and nobody here knows it",
            "`ca_file`",
        ),
    ];
    for (certificate, message, hint) in rows {
        let server = TlsServer::start(certificate, Value::Null).await;
        let home = home_at(&server.url());
        let trusted = authority.file(&home);
        let result = check(home, &[("SSL_CERT_FILE", trusted)]).await;
        let found = failed(&result, "tls");
        assert_eq!(found.0, message);
        assert!(found.1.contains(hint), "{found:?}");
        let shown = &stage(&result, "tls")["details"]["certificates"];
        assert_eq!(
            shown.as_array().map(Vec::len),
            Some(1),
            "the chain is shown all the same"
        );
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_with_a_bad_certificate() {
    let upstream = Upstream::start([]).await;
    let home = home_at(&upstream.url().replace("http:", "https:"));
    let authority = Authority::new("Test Root");
    let trusted = authority.file(&home);
    let result = check(home, &[("SSL_CERT_FILE", trusted)]).await;
    let (message, hint) = failed(&result, "tls");
    assert!(
        message.ends_with("that is not TLS") || message.contains("broke off the handshake"),
        "{message}"
    );
    assert_eq!(hint, "if the server speaks no TLS, `base_url` begins with `http://`");
}

#[tokio::test]
async fn an_authority_of_the_settings_is_trusted_and_named() {
    let authority = Authority::new("Own Root");
    let server = TlsServer::start(authority.certificate("localhost"), json!({ "id": "asst_1" })).await;
    let home = home_at(&server.url());
    let file = authority.file(&home);
    let result = check(home, &[("ASSISTD_CA_FILE", file)]).await;
    assert_eq!(result["ok"], true, "{result:#}");
    let message = stage(&result, "tls")["message"].as_str().unwrap();
    assert!(message.ends_with("by `CN=Own Root`, which `ca_file` has"), "{message}");
}

/// A provider's own proxy holds for every host, and the environment's for none on this machine.
#[tokio::test]
async fn a_proxy_lets_through_or_says_why_not() {
    let authority = Authority::new("Test Root");
    let server = TlsServer::start(authority.certificate("localhost"), json!({ "id": "asst_1" })).await;
    let through = |proxy: &str| {
        let home = home_through(&server.url(), &format!("proxy = \"{proxy}\"\n"));
        let trusted = authority.file(&home);
        async move { check(home, &[("SSL_CERT_FILE", trusted)]).await }
    };

    let proxy = Proxy::start("200 Connection established").await;
    let result = through(&proxy.url_of("user:secret@")).await;
    assert_eq!(result["ok"], true, "{result:#}");
    assert_eq!(statuses(&result)[2..4], ["proxy: passed", "connect: skipped"]);
    let seen = &stage(&result, "proxy")["details"]["proxy"];
    assert_eq!(
        seen,
        &json!(format!("{}/", proxy.url_of(""))),
        "its password is not shown"
    );
    let head = proxy.head();
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ="), "{head}");

    let refusing = Proxy::start("403 Forbidden").await;
    let result = through(&refusing.url_of("")).await;
    let (message, hint) = failed(&result, "proxy");
    assert!(
        message.contains("refuses a connection to localhost:") && message.ends_with("(403)"),
        "{message}"
    );
    assert!(hint.contains("NO_PROXY"), "{hint}");

    let wanting = Proxy::start("407 Proxy Authentication Required").await;
    let result = through(&wanting.url_of("")).await;
    assert!(
        failed(&result, "proxy")
            .0
            .ends_with("wants a user name and a password (407)")
    );

    let nowhere = format!("http://127.0.0.1:{}", closed_port().await);
    let result = through(&nowhere).await;
    assert!(failed(&result, "proxy").0.ends_with("does not answer"));

    let home = home_at(&server.url());
    let trusted = authority.file(&home);
    let result = check(home, &[("SSL_CERT_FILE", trusted), ("HTTPS_PROXY", nowhere)]).await;
    assert_eq!(statuses(&result)[2], "proxy: skipped", "the host is this machine");
    assert_eq!(result["ok"], true, "{result:#}");
}

#[tokio::test]
async fn a_name_that_nobody_has_and_a_port_where_nobody_listens() {
    let result = check(home_at("https://no-such-host.invalid/v1"), &[]).await;
    let (message, hint) = failed(&result, "dns");
    assert_eq!(message, "the name `no-such-host.invalid` cannot be resolved (DNS)");
    assert!(hint.contains("`base_url`"), "{hint}");

    let port = closed_port().await;
    let result = check(home_at(&format!("http://127.0.0.1:{port}/v1")), &[]).await;
    let (message, hint) = failed(&result, "connect");
    assert_eq!(message, format!("127.0.0.1:{port} refuses connections"));
    assert!(hint.starts_with("is the server running"), "{hint}");
}

#[tokio::test]
async fn a_key_that_is_refused_is_told_of_by_where_it_comes_from() {
    let body =
        json!({ "error": { "message": format!("Incorrect API key provided: {KEY}"), "code": "invalid_api_key" } });
    let upstream = Upstream::start([Reply::json(401, body)]).await;
    let result = check(home_at(&upstream.url()), &[]).await;
    assert_eq!(statuses(&result)[4], "tls: skipped", "nothing is encrypted");
    let (_, hint) = failed(&result, "credentials");
    assert!(
        hint.starts_with("the key comes from the environment variable `MY_KEY`"),
        "{hint}"
    );
    assert_eq!(upstream.request(1).await.target, "/v1/assistants/asst_1");
}

#[tokio::test]
async fn an_assistant_that_is_not_there_fails_the_last_stage() {
    let body = json!({ "error": { "message": "No assistant found with id 'asst_1'." } });
    let upstream = Upstream::start([Reply::json(404, body)]).await;
    let result = check(home_at(&upstream.url()), &[]).await;
    assert!(failed(&result, "model").0.contains("No assistant found"), "{result}");
    let message = stage(&result, "credentials")["message"].as_str().unwrap();
    assert!(message.starts_with("the upstream does not refuse the key"), "{message}");
}

#[tokio::test]
async fn wrong_settings_fail_the_first_stage() {
    let result = check(home_at("http://127.0.0.1:1"), &[("MY_KEY", String::new())]).await;
    let (message, hint) = failed(&result, "settings");
    assert_eq!(
        message,
        "the key of provider `p` is not set: the environment variable `MY_KEY` is empty"
    );
    assert!(hint.contains("`MY_KEY`"), "{hint}");

    let result = check(home_at("localhost:1"), &[]).await;
    assert_eq!(
        failed(&result, "settings").0,
        "expected `base_url` of provider `p` to be an http or https URL"
    );

    let home = Home::new();
    home.write_config("modle = \"m\"\n");
    let result = check(home, &[]).await;
    let (message, _) = failed(&result, "settings");
    assert!(message.contains("config.toml:1: unknown field `modle`"), "{message}");
    assert_eq!(result.get("provider"), None);
}

#[tokio::test]
async fn a_provider_is_named_or_refused_with_those_there_are() {
    let upstream = Upstream::start([assistant()]).await;
    let home = home_at(&upstream.url());
    home.write_config(&format!(
        "[providers.p]\ndialect = \"assistants\"\nbase_url = \"{0}\"\n[providers.q]\ndialect = \"embedded\"\n\
         [assistants.a]\nprovider = \"p\"\nassistant_id = \"asst_1\"\n[assistants.b]\nprovider = \"q\"\n",
        upstream.url()
    ));
    let response = request(home, &[], "provider/check", json!({ "provider": "p" })).await;
    assert_eq!(response["result"]["ok"], true, "{response}");
    let message = &stage(&response["result"], "credentials")["message"];
    assert_eq!(message, "the upstream answers without a key");

    let response = request(
        home_at("http://127.0.0.1:1"),
        &[],
        "provider/check",
        json!({ "provider": "x" }),
    )
    .await;
    assert_eq!(response["error"]["data"]["kind"], "notFound");
    assert_eq!(response["error"]["data"]["hint"], "the providers are `embedded`, `p`");
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn weights_that_are_not_there_are_told_of_and_not_fetched() {
    let home = Home::new();
    let cache = home.path().join("cache").display().to_string();
    let result = check(home, &[("ASSISTD_CACHE_DIR", cache)]).await;
    assert_eq!(result["provider"], "embedded");
    let (message, hint) = failed(&result, "weights");
    assert!(
        message.starts_with("the embedded model's weights are not on this machine"),
        "{message}"
    );
    assert!(hint.contains("assistd model fetch"), "{hint}");
    assert_eq!(statuses(&result)[2], "architecture: skipped");
}

#[tokio::test]
async fn a_client_that_leaves_ends_a_check() {
    // A server that takes connections and never says anything.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let home = home_at(&format!("https://127.0.0.1:{port}/v1"));
    let authority = Authority::new("Test Root");
    let trusted = authority.file(&home);
    let mut command = home.command(&["--stdio"]);
    command.env("MY_KEY", KEY).env("SSL_CERT_FILE", trusted);
    let mut daemon = crate::program::Running::of(command);
    daemon.say(r#"{"jsonrpc":"2.0","id":1,"method":"provider/check"}"#);
    // It has come to the connection, and now waits for TLS.
    let (_stream, _) = listener.accept().await.unwrap();
    daemon.close_output();
    let ended = daemon.ends_within(std::time::Duration::from_secs(3));
    assert_eq!(ended.and_then(|status| status.code()), Some(0));
}
