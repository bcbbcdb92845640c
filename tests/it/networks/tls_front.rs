//! TLS before an upstream that speaks none, with certificates of an authority made for the test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority, with its certificate in a file.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

/// What a server shows.
pub struct Identity {
    config: ServerConfig,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), &pem).unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            dir,
        }
    }

    /// Its certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for these hosts.
    pub fn identity(&self, hosts: &[&str]) -> Identity {
        self.issue(hosts, |_| {})
    }

    /// One that was good until 2021.
    pub fn expired(&self, hosts: &[&str]) -> Identity {
        self.issue(hosts, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// One that is an authority's itself.
    pub fn authority(&self, hosts: &[&str]) -> Identity {
        self.issue(hosts, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn issue(&self, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let hosts: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Identity { config }
    }
}

impl Identity {
    /// An acceptor that offers these protocols.
    pub fn acceptor(mut self, protocols: &[&str]) -> TlsAcceptor {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(self.config))
    }
}

/// A server that speaks TLS and hands what it hears to an upstream.
pub struct Front {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Front {
    /// Before the upstream at this URL.
    pub async fn start(identity: Identity, upstream: &str) -> Front {
        Front::far(identity, upstream, Duration::ZERO).await
    }

    /// The same, so far away that everything takes this long each way.
    pub async fn far(identity: Identity, upstream: &str, distance: Duration) -> Front {
        let acceptor = identity.acceptor(&["http/1.1"]);
        let upstream = address_of(upstream);
        let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = near.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = near.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (inner, outer) = tokio::io::duplex(64 * 1024);
                    tokio::spawn(carry(stream, outer, distance));
                    if let Ok(mut tls) = acceptor.accept(inner).await {
                        let mut plain = TcpStream::connect(upstream).await.unwrap();
                        let _ = copy_bidirectional(&mut tls, &mut plain).await;
                    }
                });
            }
        });
        Front { address, connections }
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// `https://HOST:PORT/v1`
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/v1", self.address.port())
    }
}

/// Carries bytes both ways, late.
async fn carry(stream: TcpStream, other: tokio::io::DuplexStream, distance: Duration) {
    stream.set_nodelay(true).unwrap();
    let (read, write) = stream.into_split();
    let (other_read, other_write) = tokio::io::split(other);
    tokio::join!(
        carry_one(read, other_write, distance),
        carry_one(other_read, write, distance)
    );
}

async fn carry_one(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, distance: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !distance.is_zero() {
            tokio::time::sleep(distance).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Where an URL's server listens.
pub fn address_of(url: &str) -> SocketAddr {
    let url = reqwest::Url::parse(url).unwrap();
    SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()))
}
