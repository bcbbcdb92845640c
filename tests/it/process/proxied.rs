//! The real program through a proxy that wants a password, to a server that speaks HTTP/2.

use bytes::Bytes;
use futures::channel::mpsc;

use super::Daemon;
use super::ends::pipes;
use super::keys::{TALKATIVE, search};
use crate::assistants::whole_turn;
use crate::networks::http2::Server;
use crate::networks::proxy::{ForwardProxy, Manner};
use crate::program::Home;

const KEY: &str = "sk-very-secret-0123456789";

#[tokio::test]
async fn neither_the_proxys_password_nor_the_key_shows_in_the_most_talkative_log() {
    let (body, read) = mpsc::unbounded();
    body.unbounded_send(Bytes::from(whole_turn("hi"))).unwrap();
    drop(body);
    let server = Server::start(vec![read]).await;
    // `user:hunter2-secret`
    let manner = Manner::Guarded("Basic dXNlcjpodW50ZXIyLXNlY3JldA==");
    let proxy = ForwardProxy::start(manner, server.address).await;
    let (url, ca_file) = (proxy.url("http", "user:hunter2-secret"), server.authority.file());
    let talk = tokio::task::spawn_blocking(move || {
        let home = Home::new();
        home.write_config(&format!("ca_file = \"{}\"\nwarm = false\n", ca_file.display()));
        let mut command = home.command(&TALKATIVE);
        command
            .env("ASSISTANT_ID", "asst_1")
            .env("OPENAI_API_KEY", KEY)
            .env("OPENAI_BASE_URL", "https://upstream.test/v1")
            .env("HTTPS_PROXY", url);
        let mut daemon = Daemon::run(command, pipes());
        daemon.ask(1, "hello");
        assert_eq!(daemon.result(1)["text"], "hi");
        daemon.leave();
        for secret in [KEY, "hunter2", "dXNlcjpodW50ZXIyLXNlY3JldA"] {
            let mut searched = Vec::new();
            search(home.path(), secret, &mut searched);
            assert!(searched.iter().any(|name| name == "daemon.log"), "{searched:?}");
        }
    });
    talk.await.unwrap();
    assert_eq!(proxy.heard(), ["CONNECT upstream.test:443 HTTP/1.1"]);
    assert_eq!(*server.versions.lock().unwrap(), [hyper::Version::HTTP_2]);
}
