//! Servers on this machine that answer on their usual port, for who has set nothing at all.
//!
//! A server counts only if its list of models names one: any program may have one of these ports. All ports are asked at
//! once, the whole takes [`LIMIT`] at most, and nothing but the question for the list is sent.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use crate::config::{LocalServer, Settings};

/// How long all of it may take.
pub const LIMIT: Duration = Duration::from_millis(50);

/// The most of a list that is read, in bytes.
const LIST_MAX: usize = 1024 * 1024;

/// A port on which a server usually is.
struct Usual {
    port: u16,
    /// What the provider is called; none where several programs have that port.
    name: Option<&'static str>,
    /// What people call the program.
    program: &'static str,
}

const fn usual(port: u16, name: &'static str, program: &'static str) -> Usual {
    Usual {
        port,
        name: Some(name),
        program,
    }
}

const fn shared(port: u16, program: &'static str) -> Usual {
    Usual {
        port,
        name: None,
        program,
    }
}

/// The usual ports, the most wanted first, each from the program's own documentation.
const USUAL: &[Usual] = &[
    usual(11434, "ollama", "Ollama"),
    shared(8080, "llama.cpp or LocalAI"),
    usual(1234, "lmstudio", "LM Studio"),
    shared(8000, "vLLM"),
    usual(1337, "jan", "Jan"),
    usual(5001, "koboldcpp", "KoboldCpp"),
    shared(5000, "text-generation-webui"),
    usual(8321, "ogx", "OGX (Llama Stack)"),
];

/// The first server that answers with a list of models, in the order of the ports.
pub async fn find(settings: &Settings) -> Option<LocalServer> {
    let ports = match &settings.layer.local_ports {
        Some(ports) => ports.clone(),
        None => USUAL.iter().map(|usual| usual.port).collect(),
    };
    let client = client()?;
    let asked = ports
        .into_iter()
        .map(|port| tokio::time::timeout(LIMIT, ask(&client, port)));
    let found = join_all(asked)
        .await
        .into_iter()
        .find_map(|answer| answer.ok().flatten());
    if let Some(server) = &found {
        tracing::debug!(base_url = server.base_url, "found a local server");
    }
    found
}

/// A client that reads no certificates and knows no proxy: both are for other machines.
fn client() -> Option<reqwest::Client> {
    // Fails only if somebody has chosen a provider of cryptography already, which is then the one to use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    builder
        .build()
        .inspect_err(|error| tracing::warn!(%error, "no local server was sought"))
        .ok()
}

/// What answers on this port, if it is a server with a model.
async fn ask(client: &reqwest::Client, port: u16) -> Option<LocalServer> {
    let base_url = format!("http://127.0.0.1:{port}/v1");
    let mut response = client.get(format!("{base_url}/models")).send().await.ok()?;
    if response.status() != reqwest::StatusCode::OK {
        return None;
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > LIST_MAX {
            return None;
        }
    }
    server(port, base_url, &serde_json::from_slice(&body).ok()?)
}

/// A list has the shape `{"data": [{"id": …}, …]}` and names at least one model.
fn server(port: u16, base_url: String, list: &Value) -> Option<LocalServer> {
    let models = list["data"].as_array()?;
    let named = |model: &&Value| model["id"].as_str().is_some_and(|id| !id.is_empty());
    let first = models.iter().find(named)?;
    let usual = USUAL.iter().find(|usual| usual.port == port);
    // Two of those that share a port say who they are.
    let name = match first["owned_by"].as_str() {
        Some("llamacpp") => "llama.cpp",
        Some("vllm") => "vllm",
        _ => usual.and_then(|usual| usual.name).unwrap_or("local"),
    };
    let whose = match usual {
        Some(usual) => format!(", the usual one of {}", usual.program),
        None => String::new(),
    };
    Some(LocalServer {
        name: name.to_owned(),
        base_url,
        reason: format!("a local server answers on port {port}{whose}"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    /// A server that answers every connection with this, or with nothing at all; its port.
    async fn listening(answer: Option<(&'static str, String)>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                if let Some((kind, body)) = &answer {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(head.as_bytes()).await.unwrap();
                } else {
                    open.push(stream);
                }
            }
        });
        port
    }

    fn looking_at(ports: &[u16]) -> Settings {
        let mut settings = Settings::ephemeral();
        settings.layer.local_ports = Some(ports.to_vec());
        settings
    }

    async fn models(ids: &[&str]) -> u16 {
        let list: Vec<Value> = ids.iter().map(|id| json!({ "id": id, "object": "model" })).collect();
        let body = json!({ "object": "list", "data": list }).to_string();
        listening(Some(("application/json", body))).await
    }

    /// A port that nobody has any more.
    async fn closed() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_port_with_a_model_is_taken() {
        // While this has something to do the clock stands still, and a busy machine has all the time it needs.
        tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let page = "<!doctype html><title>hello</title>".to_owned();
        let html = listening(Some(("text/html", page))).await;
        let other = listening(Some(("application/json", json!({ "models": [] }).to_string()))).await;
        let (empty, closed) = (models(&[]).await, closed().await);
        assert_eq!(find(&looking_at(&[closed, html, other, empty])).await, None);
        let (good, later) = (models(&["m"]).await, models(&["n"]).await);
        let found = find(&looking_at(&[closed, html, empty, good, later])).await.unwrap();
        assert_eq!(found.base_url, format!("http://127.0.0.1:{good}/v1"));
        assert_eq!(found.name, "local");
        assert_eq!(found.reason, format!("a local server answers on port {good}"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_holds_nobody_up_for_longer_than_the_limit() {
        let (silent, also) = (listening(None).await, listening(None).await);
        let begun = Instant::now();
        assert_eq!(find(&looking_at(&[silent, also])).await, None);
        assert_eq!(begun.elapsed(), LIMIT);
    }

    #[test]
    fn a_server_is_called_by_what_it_says_it_is_or_by_its_port() {
        let rows = [
            (11434, "library", "ollama"),
            (8080, "llamacpp", "llama.cpp"),
            (8080, "me", "local"),
            (8000, "vllm", "vllm"),
            (8000, "llamacpp", "llama.cpp"),
            (1234, "organization_owner", "lmstudio"),
            (4711, "me", "local"),
        ];
        for (port, owner, name) in rows {
            let list = json!({ "data": [{ "id": "m", "owned_by": owner }] });
            let server = server(port, String::new(), &list).unwrap();
            assert_eq!(server.name, name, "{port}, {owner}");
        }
    }

    #[test]
    fn a_list_names_a_model_or_is_none() {
        let rows = [
            json!({ "data": null }),
            json!({ "data": [] }),
            json!({ "data": [{ "id": "" }] }),
            json!({ "data": [{ "name": "m" }] }),
            json!([{ "id": "m" }]),
            json!("m"),
        ];
        for list in rows {
            assert_eq!(server(8080, String::new(), &list), None, "{list}");
        }
    }
}
