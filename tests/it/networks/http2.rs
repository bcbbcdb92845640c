//! HTTP/2 with a real server: one connection for many requests, streams, and its ways to say no.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use assistd::config::Settings;
use assistd::error::Kind;
use assistd::provider::http::{Call, Endpoint};
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use super::tls_front::Authority;
use super::{ask, endpoint};

/// The bodies of the answers, which the test writes as it goes.
type Bodies = Arc<Mutex<Vec<mpsc::UnboundedReceiver<Bytes>>>>;

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    versions: Arc<Mutex<Vec<Version>>>,
    /// Sends GOAWAY on every connection there is.
    goes_away: Arc<Notify>,
    authority: Authority,
}

impl Server {
    /// Answers with these bodies, in their order.
    async fn start(bodies: Vec<mpsc::UnboundedReceiver<Bytes>>) -> Server {
        let authority = Authority::new();
        let acceptor = authority.identity(&["127.0.0.1"]).acceptor(&["h2", "http/1.1"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            versions: Arc::default(),
            goes_away: Arc::default(),
            authority,
        };
        let bodies: Bodies = Arc::new(Mutex::new(bodies.into_iter().rev().collect()));
        let (connections, versions) = (server.connections.clone(), server.versions.clone());
        let goes_away = server.goes_away.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let stream = acceptor.accept(stream).await.unwrap();
                let (bodies, versions, goes_away) = (bodies.clone(), versions.clone(), goes_away.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        versions.lock().unwrap().push(request.version());
                        let body = bodies
                            .lock()
                            .unwrap()
                            .pop()
                            .expect("the test has a body for each request");
                        let body = StreamBody::new(body.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
                        async move { Ok::<_, Infallible>(Response::new(body)) }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                    let mut is_going = false;
                    loop {
                        tokio::select! {
                            _ = &mut connection => return,
                            () = goes_away.notified(), if !is_going => {
                                is_going = true;
                                connection.as_mut().graceful_shutdown();
                            }
                        }
                    }
                });
            }
        });
        server
    }

    fn endpoint(&self) -> Endpoint {
        let mut settings = Settings::ephemeral();
        settings.layer.ca_file = Some(self.authority.file());
        endpoint(&format!("https://{}/v1", self.address), &settings)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// The text of the next event.
async fn next(events: &mut assistd::provider::http::EventStream) -> Option<String> {
    loop {
        if let Some(event) = events.next().unwrap() {
            return Some(event.data.to_string());
        }
        if !events.fill().await.unwrap() {
            return None;
        }
    }
}

fn event(text: &str) -> Bytes {
    format!("data: {text}\n\n").into()
}

#[tokio::test]
async fn two_answers_stream_side_by_side_over_one_connection() {
    let (one, first) = mpsc::unbounded();
    let (two, second) = mpsc::unbounded();
    let server = Server::start(vec![first, second]).await;
    let endpoint = server.endpoint();
    let mut first = ask(&endpoint).await.unwrap().events();
    let mut second = ask(&endpoint).await.unwrap().events();
    // Each piece is read before the next one is written.
    one.unbounded_send(event("a")).unwrap();
    assert_eq!(next(&mut first).await.as_deref(), Some("a"));
    two.unbounded_send(event("b")).unwrap();
    assert_eq!(next(&mut second).await.as_deref(), Some("b"));
    one.unbounded_send(event("c")).unwrap();
    assert_eq!(next(&mut first).await.as_deref(), Some("c"));
    drop((one, two));
    assert_eq!((next(&mut first).await, next(&mut second).await), (None, None));
    assert_eq!(server.connections(), 1);
    assert_eq!(*server.versions.lock().unwrap(), [Version::HTTP_2; 2]);
}

#[tokio::test]
async fn a_server_that_goes_away_finishes_what_it_has_begun() {
    let (one, first) = mpsc::unbounded();
    let (two, second) = mpsc::unbounded();
    let (_, third) = mpsc::unbounded();
    let server = Server::start(vec![first, second, third]).await;
    let endpoint = server.endpoint();
    let mut first = ask(&endpoint).await.unwrap().events();
    one.unbounded_send(event("a")).unwrap();
    assert_eq!(next(&mut first).await.as_deref(), Some("a"));
    server.goes_away.notify_waiters();
    let mut second = ask(&endpoint).await.unwrap().events();
    two.unbounded_send(event("b")).unwrap();
    one.unbounded_send(event("c")).unwrap();
    drop((one, two));
    assert_eq!(next(&mut second).await.as_deref(), Some("b"));
    assert_eq!(next(&mut first).await.as_deref(), Some("c"));
    assert_eq!((next(&mut first).await, next(&mut second).await), (None, None));
    let mut third = ask(&endpoint).await.unwrap().events();
    assert_eq!(next(&mut third).await, None);
    assert_eq!(server.connections(), 2, "the one that went away is not used again");
}

/// A server that resets every stream with this reason.
async fn resetting(acceptor: TlsAcceptor, reason: h2::Reason) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_reset(reason);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn only_a_stream_that_was_refused_may_be_asked_for_again() {
    for (reason, repeatable) in [(h2::Reason::REFUSED_STREAM, true), (h2::Reason::INTERNAL_ERROR, false)] {
        let authority = Authority::new();
        let acceptor = authority.identity(&["127.0.0.1"]).acceptor(&["h2"]);
        let address = resetting(acceptor, reason).await;
        let mut settings = Settings::ephemeral();
        settings.layer.ca_file = Some(authority.file());
        let endpoint = endpoint(&format!("https://{address}/v1"), &settings);
        let failure = endpoint.send(&Call::post(["responses"]).json("{}")).await.unwrap_err();
        assert_eq!(failure.error.kind(), Kind::Network, "{}", failure.error);
        assert_eq!(failure.repeatable, repeatable, "{reason:?}: {}", failure.error);
    }
}
