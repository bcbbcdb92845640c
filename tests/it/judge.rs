//! A judge of requests: a mock server made from the API's own description, which answers 400 and names what is wrong.
//!
//! The mock's answers are random, so an upstream of ours plays the answers and the requests are sent to the judge as
//! they were recorded.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assistd::protocol::{Format, Options};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::upstream::Recorded;

/// Where `make test` puts it.
const INSTALL: &str = "npm install --prefix target/tools @stdy/cli@0.22.2";

/// How long the judge may take to read the description.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Options with something in each member that several dialects have a word for; this tool is to be called.
pub fn options(tool: &str) -> Options {
    let schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    Options {
        temperature: Some(0.5),
        top_p: Some(0.9),
        max_output_tokens: Some(300),
        tool_choice: Some(tool.to_owned()),
        parallel_tool_calls: Some(false),
        reasoning_effort: Some("low".into()),
        format: Some(Format::JsonSchema {
            name: Some("weather".into()),
            description: Some("d".into()),
            schema: schema.as_object().expect("it is written as one").clone(),
            strict: Some(true),
        }),
        ..Options::default()
    }
}

/// The mock server; dropped, it is killed.
pub struct Judge {
    process: Child,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Judge {
    /// Starts it with the description among these fixtures.
    pub async fn start(fixtures: &Path) -> Judge {
        let description = fixtures.join("openapi/openapi.trimmed.json");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/node_modules/.bin/steady");
        assert!(
            program.exists(),
            "the judge of requests is not installed: run `{INSTALL}`"
        );
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = Command::new(program);
        // The program is a script that starts the server: both are killed, as a group.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command
            .args(["--host", "127.0.0.1", "-q", "-p", &address.port().to_string()])
            .arg("--validator-query-array-format=brackets")
            .arg(description)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut judge = Judge {
            process,
            address,
            client: client(),
        };
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = judge.process.try_wait().unwrap() {
                    panic!("the judge of requests ended at once ({status})");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let listening = tokio::time::timeout(START_LIMIT, listening).await;
        listening.expect("the judge listens once it has read the description");
        judge
    }

    /// Panics with what is wrong with the request, if anything is.
    pub async fn accepts(&self, request: &Recorded) {
        let verdict = self.verdict(request).await;
        let body = String::from_utf8_lossy(&request.body);
        assert!(
            verdict.is_empty(),
            "{} {}\n{body}\n{verdict:#?}",
            request.method,
            request.target
        );
    }

    /// The judge must be able to say no: to this request with a body that the description does not allow.
    pub async fn refuses(&self, request: &Recorded, body: Value) {
        let mut wrong = request.clone();
        wrong.body = body.to_string().into_bytes();
        assert!(!self.verdict(&wrong).await.is_empty(), "the judge accepts anything");
    }

    /// What is wrong with a request: the headers that say so.
    async fn verdict(&self, request: &Recorded) -> Vec<(String, String)> {
        let target = request.target.strip_prefix("/v1").unwrap();
        let method = reqwest::Method::from_bytes(request.method.as_bytes()).unwrap();
        let mut sent = self
            .client
            .request(method, format!("http://{}{target}", self.address))
            .body(request.body.clone());
        for (name, value) in request
            .headers
            .iter()
            .filter(|(name, _)| name != "host" && name != "content-length")
        {
            sent = sent.header(name, value);
        }
        let response = sent.send().await.unwrap();
        let mut verdict: Vec<(String, String)> = response
            .headers()
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-steady-error"))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").to_owned()))
            .filter(|(name, count)| name != "x-steady-error-count" || count != "0")
            .collect();
        if !response.status().is_success() {
            verdict.push(("status".into(), response.status().to_string()));
        }
        verdict
    }
}

/// A client for servers that are not ours.
pub fn client() -> reqwest::Client {
    // Fails only if the program has chosen one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

impl Drop for Judge {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
