//! Another implementation of JSON-RPC as the client.

use std::io;
use std::process::Stdio;

use jsonrpsee::core::client::{
    ClientBuilder, ClientT, ReceivedMessage, Subscription, SubscriptionClientT, TransportReceiverT, TransportSenderT,
};
use jsonrpsee::core::params::ObjectParams;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::home;
use crate::program::PATIENCE;

struct Sender(ChildStdin);

impl TransportSenderT for Sender {
    type Error = io::Error;

    async fn send(&mut self, message: String) -> io::Result<()> {
        self.0.write_all(format!("{message}\n").as_bytes()).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

struct Receiver(Lines<BufReader<ChildStdout>>);

impl TransportReceiverT for Receiver {
    type Error = io::Error;

    async fn receive(&mut self) -> io::Result<ReceivedMessage> {
        match self.0.next_line().await? {
            Some(line) => Ok(ReceivedMessage::Text(line)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn params(value: Value) -> ObjectParams {
    let mut params = ObjectParams::new();
    for (name, value) in value.as_object().unwrap() {
        params.insert(name, value).unwrap();
    }
    params
}

async fn next(subscription: &mut Subscription<Value>) -> Value {
    let next = timeout(PATIENCE, subscription.next())
        .await
        .expect("a notification comes");
    next.expect("the subscription goes on").unwrap()
}

#[tokio::test]
async fn jsonrpsees_client_talks_to_the_daemon() {
    let home = home();
    let mut command = Command::from(home.command(&["--stdio"]));
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let sender = Sender(child.stdin.take().unwrap());
    let receiver = Receiver(BufReader::new(child.stdout.take().unwrap()).lines());
    let client = ClientBuilder::default().build_with_tokio(sender, receiver);

    let initialized: Value = client
        .request("initialize", params(json!({ "clientInfo": { "name": "jsonrpsee" } })))
        .await
        .unwrap();
    assert_eq!(initialized["serverInfo"]["name"], "assistd");
    client.notification("initialized", ObjectParams::new()).await.unwrap();

    let mut deltas: Subscription<Value> = client.subscribe_to_method("assistant/delta").await.unwrap();
    let mut completed: Subscription<Value> = client.subscribe_to_method("assistant/completed").await.unwrap();
    let answer: Value = client
        .request("assistant/send", params(json!({ "content": "slowly" })))
        .await
        .unwrap();
    assert_eq!(answer["text"], "one two three four five six seven eight");
    let mut text = String::new();
    while text.len() < answer["text"].as_str().unwrap().len() {
        let delta = next(&mut deltas).await;
        assert_eq!(delta["runId"], answer["runId"]);
        text += delta["text"].as_str().unwrap();
    }
    assert_eq!(text, answer["text"]);
    assert_eq!(next(&mut completed).await["status"], "completed");

    // An error, a batch of ours, and several at once.
    let error = client
        .request::<Value, _>("thread/read", params(json!({ "threadId": "none" })))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, jsonrpsee::core::client::Error::Call(call) if call.code() == -32004),
        "{error}"
    );
    let (one, two) = tokio::join!(
        client.request::<Value, _>("assistant/send", params(json!({ "content": "one" }))),
        client.request::<Value, _>("assistant/send", params(json!({ "content": "two" }))),
    );
    assert_eq!(
        (&one.unwrap()["text"], &two.unwrap()["text"]),
        (&json!("You said: one"), &json!("You said: two"))
    );

    client
        .request::<Value, _>("shutdown", ObjectParams::new())
        .await
        .unwrap();
    client.notification("exit", ObjectParams::new()).await.unwrap();
    let output = timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("the daemon leaves")
        .unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
