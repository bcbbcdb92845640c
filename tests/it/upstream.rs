//! An upstream for tests: HTTP/1.1 by hand on a real loopback socket, so that every byte can be put where it hurts.
//!
//! It answers the requests, on whatever connection they come, with the scripted replies in their order, and records
//! them. Dropped before all replies were asked for, it fails the test.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A running upstream.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<Recorded>>,
    arrived: Notify,
    connections: AtomicUsize,
    aside: Mutex<Option<Aside>>,
}

/// What a request is answered with that the replies are not for.
type Aside = Box<dyn Fn(&Recorded) -> Option<Reply> + Send>;

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What to answer, and how to cut it.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Piece>,
}

#[derive(Clone)]
enum Piece {
    /// One chunk of the body, in a write of its own.
    Bytes(Vec<u8>),
    /// Goes on when the test says so.
    Wait(Arc<Notify>),
    /// Never goes on, with the connection open.
    Stall,
    /// Closes the connection in the middle.
    Close,
    /// Breaks the connection with a reset.
    Reset,
}

/// Where a body is cut into chunks.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// In two, before this byte.
    At(usize),
    /// Before this byte, and then after every so many.
    From { first: usize, every: usize },
}

impl Upstream {
    /// Listens on a free port.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.replies.lock().unwrap().extend(replies);
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Upstream { address, shared }
    }

    /// `http://127.0.0.1:PORT/v1`
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The same, answering the requests for which this gives a reply with that, and only the others as scripted.
    pub fn aside(self, aside: impl Fn(&Recorded) -> Option<Reply> + Send + 'static) -> Upstream {
        *self.shared.aside.lock().unwrap() = Some(Box::new(aside));
        self
    }

    /// Adds a reply behind those that wait.
    pub fn push(&self, reply: Reply) {
        self.shared.replies.lock().unwrap().push_back(reply);
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until this many requests have come, and gives the last of them.
    pub async fn request(&self, count: usize) -> Recorded {
        let waiting = async {
            loop {
                let arrived = self.shared.arrived.notified();
                if let Some(request) = self.shared.requests.lock().unwrap().get(count - 1) {
                    return request.clone();
                }
                arrived.await;
            }
        };
        let request = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        request.unwrap_or_else(|_| panic!("request {count} never came"))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let left = self.shared.replies.lock().unwrap().len();
        if !std::thread::panicking() {
            assert_eq!(left, 0, "{left} replies were never asked for");
        }
    }
}

impl Recorded {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null if it is empty.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Reply {
    /// This status, without a body.
    pub fn status(status: u16) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// This status and a body of JSON.
    pub fn json(status: u16, body: Value) -> Reply {
        Reply::status(status)
            .header("content-type", "application/json")
            .bytes(body.to_string())
    }

    /// A stream of events.
    pub fn events(body: impl AsRef<[u8]>) -> Reply {
        Reply::status(200)
            .header("content-type", "text/event-stream")
            .bytes(body)
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with one more chunk of the body.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.pieces.push(Piece::Bytes(bytes.as_ref().to_vec()));
        self
    }

    /// The same with its chunks cut. HTTP's chunks stay apart on their way through the client, however TCP joins them.
    pub fn cut(mut self, cut: Cut) -> Reply {
        let whole: Vec<u8> = std::mem::take(&mut self.pieces)
            .into_iter()
            .flat_map(Piece::into_bytes)
            .collect();
        let chunks: Vec<&[u8]> = match cut {
            Cut::At(at) => vec![&whole[..at], &whole[at..]],
            Cut::From { first, every } => {
                let (start, rest) = whole.split_at(first.min(whole.len()));
                std::iter::once(start).chain(rest.chunks(every)).collect()
            }
        };
        chunks.into_iter().fold(self, Reply::bytes)
    }

    /// Waits here until the gate is opened.
    pub fn wait(mut self, gate: &Arc<Notify>) -> Reply {
        self.pieces.push(Piece::Wait(gate.clone()));
        self
    }

    /// Says nothing more, with the connection open.
    pub fn stall(mut self) -> Reply {
        self.pieces.push(Piece::Stall);
        self
    }

    /// Closes the connection here, before the body is over.
    pub fn close(mut self) -> Reply {
        self.pieces.push(Piece::Close);
        self
    }

    /// Resets the connection here.
    pub fn reset(mut self) -> Reply {
        self.pieces.push(Piece::Reset);
        self
    }

    /// Takes the request and never says anything, not even a status.
    pub fn silence() -> Reply {
        Reply::status(0).stall()
    }

    /// Takes the request and closes the connection.
    pub fn hang_up() -> Reply {
        Reply::status(0).close()
    }
}

impl Piece {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Piece::Bytes(bytes) => bytes,
            _ => panic!("cut a reply before it waits or breaks"),
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(request) = read_request(&mut read).await {
        let reply = shared.aside.lock().unwrap().as_ref().and_then(|aside| aside(&request));
        let reply = reply.or_else(|| shared.replies.lock().unwrap().pop_front());
        let (target, is_head) = (request.target.clone(), request.method == "HEAD");
        shared.requests.lock().unwrap().push(request);
        shared.arrived.notify_waiters();
        let reply = reply.unwrap_or_else(|| {
            let message = format!("the test did not script a reply to {target}");
            Reply::json(418, serde_json::json!({ "error": { "message": message } }))
        });
        if !write_reply(&mut write, reply, is_head).await {
            return;
        }
    }
}

async fn read_request(read: &mut BufReader<OwnedReadHalf>) -> Option<Recorded> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        read.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    read.read_exact(&mut body).await.ok()?;
    Some(Recorded {
        method,
        target,
        headers,
        body,
    })
}

/// Whether the connection may be used again.
async fn write_reply(write: &mut OwnedWriteHalf, reply: Reply, is_head: bool) -> bool {
    if reply.status != 0 {
        let mut head = format!("HTTP/1.1 {} X\r\ntransfer-encoding: chunked\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        if write.write_all(head.as_bytes()).await.is_err() {
            return false;
        }
    }
    if is_head {
        return true;
    }
    for piece in reply.pieces {
        match piece {
            Piece::Bytes(bytes) if bytes.is_empty() => {}
            Piece::Bytes(bytes) => {
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(&bytes);
                chunk.extend_from_slice(b"\r\n");
                // Whoever has gone away has seen enough.
                if write.write_all(&chunk).await.is_err() {
                    return false;
                }
            }
            Piece::Wait(gate) => gate.notified().await,
            Piece::Stall => std::future::pending().await,
            Piece::Close => return false,
            Piece::Reset => {
                let _ = write.as_ref().set_zero_linger();
                return false;
            }
        }
    }
    write.write_all(b"0\r\n\r\n").await.is_ok()
}
