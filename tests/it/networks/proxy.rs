//! Forward proxies, by hand: HTTP (CONNECT and plain) and SOCKS 5. Whatever name they are asked for, they lead to the
//! one upstream that they were started with, so that names need not exist.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// A running proxy.
pub struct ForwardProxy {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

/// How a proxy takes a request.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// It serves everybody.
    Open,
    /// It wants this as `Proxy-Authorization`, and says 407 to others.
    Guarded(&'static str),
    /// It says 403.
    Forbidding,
}

impl ForwardProxy {
    pub async fn start(manner: Manner, upstream: SocketAddr) -> ForwardProxy {
        ForwardProxy::run(move |stream, heard| serve(stream, manner, upstream, heard)).await
    }

    /// One that speaks SOCKS 5 (RFC 1928) without credentials.
    pub async fn socks(upstream: SocketAddr) -> ForwardProxy {
        ForwardProxy::run(move |stream, heard| serve_socks(stream, upstream, heard)).await
    }

    async fn run<F>(serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static) -> ForwardProxy
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let noted = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, noted.clone()));
            }
        });
        ForwardProxy { address, heard }
    }

    /// The first lines of what it was asked, in order.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// `SCHEME://USER@127.0.0.1:PORT`
    pub fn url(&self, scheme: &str, user: &str) -> String {
        let at = if user.is_empty() { "" } else { "@" };
        format!("{scheme}://{user}{at}{}", self.address)
    }
}

async fn serve(stream: TcpStream, manner: Manner, upstream: SocketAddr, heard: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let (mut headers, mut credentials) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.to_ascii_lowercase().starts_with("proxy-authorization:") {
            credentials = line.split_once(':')?.1.trim().to_owned();
            continue;
        }
        headers += &line;
        if line == "\r\n" {
            break;
        }
    }
    heard.lock().unwrap().push(first.trim().to_owned());
    let refusal = match manner {
        Manner::Guarded(wanted) if wanted != credentials => Some("407 Proxy Authentication Required"),
        Manner::Forbidding => Some("403 Forbidden"),
        Manner::Open | Manner::Guarded(_) => None,
    };
    if let Some(refusal) = refusal {
        let answer = format!("HTTP/1.1 {refusal}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return stream.write_all(answer.as_bytes()).await.ok();
    }
    let mut plain = TcpStream::connect(upstream).await.ok()?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    if method == "CONNECT" {
        stream
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .ok()?;
    } else {
        let path = reqwest::Url::parse(target).ok()?.path().to_owned();
        plain
            .write_all(format!("{method} {path} HTTP/1.1\r\n{headers}").as_bytes())
            .await
            .ok()?;
    }
    copy_bidirectional(&mut stream, &mut plain).await.ok().map(|_| ())
}

async fn serve_socks(mut stream: TcpStream, upstream: SocketAddr, heard: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let (version, methods) = (stream.read_u8().await.ok()?, stream.read_u8().await.ok()?);
    assert_eq!(version, 5);
    stream.read_exact(&mut vec![0; methods.into()]).await.ok()?;
    stream.write_all(&[5, 0]).await.ok()?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.ok()?;
    assert_eq!(head, [5, 1, 0, 3], "connects to a name");
    let mut name = vec![0; stream.read_u8().await.ok()?.into()];
    stream.read_exact(&mut name).await.ok()?;
    let port = stream.read_u16().await.ok()?;
    heard
        .lock()
        .unwrap()
        .push(format!("{}:{port}", String::from_utf8(name).ok()?));
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    let mut plain = TcpStream::connect(upstream).await.ok()?;
    copy_bidirectional(&mut stream, &mut plain).await.ok().map(|_| ())
}
