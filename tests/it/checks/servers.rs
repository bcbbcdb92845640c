//! Servers for looking at the way to them: TLS with certificates made here, and a forward proxy.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::program::Home;

/// A certificate and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// An authority of this name.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes it down, for SSL_CERT_FILE.
    pub fn file(&self, home: &Home) -> String {
        home.write("authority.pem", &self.0.pem()).display().to_string()
    }

    /// A certificate for this host, good for long.
    pub fn certificate(&self, host: &str) -> Identity {
        self.sign(host, 2099)
    }

    /// One that was good once.
    pub fn expired(&self, host: &str) -> Identity {
        self.sign(host, 2021)
    }

    fn sign(&self, host: &str, end: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(host, end).signed_by(&key, &self.0).unwrap();
        identity(certificate.der(), &key)
    }
}

/// A certificate that nobody vouches for.
pub fn signed_by_itself(host: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params(host, 2099).self_signed(&key).unwrap();
    identity(certificate.der(), &key)
}

fn identity(certificate: &CertificateDer<'_>, key: &KeyPair) -> Identity {
    Identity {
        certificate: certificate.clone().into_owned(),
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

fn params(host: &str, end: i32) -> CertificateParams {
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    params.distinguished_name = named(host);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(end, 1, 1);
    params
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut distinguished = rcgen::DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A server that speaks TLS and answers every request with the same JSON.
pub struct TlsServer {
    port: u16,
}

impl TlsServer {
    /// Listens on a free port.
    pub async fn start(identity: Identity, body: Value) -> TlsServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate], identity.key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, body) = (acceptor.clone(), body.to_string());
                tokio::spawn(async move {
                    // A client that refuses the certificate is what some tests are about.
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let head = read_head(&mut stream).await;
                    if !head.is_empty() {
                        let length = body.len();
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                             Connection: close\r\n\r\n{body}"
                        );
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        TlsServer { port }
    }

    /// `https://localhost:PORT/v1`
    pub fn url(&self) -> String {
        format!("https://localhost:{}/v1", self.port)
    }
}

/// A forward proxy that answers every CONNECT with the same status, and makes the tunnel if that is 200.
pub struct Proxy {
    port: u16,
    head: Arc<Mutex<String>>,
}

impl Proxy {
    /// Listens on a free port.
    pub async fn start(status: &'static str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let head = Arc::new(Mutex::new(String::new()));
        let heard = head.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, status, heard.clone()));
            }
        });
        Proxy { port, head }
    }

    /// Its URL, with this before the host.
    pub fn url_of(&self, user: &str) -> String {
        format!("http://{user}127.0.0.1:{}", self.port)
    }

    /// The first CONNECT that it heard.
    pub fn head(&self) -> String {
        self.head.lock().unwrap().clone()
    }
}

async fn pass(mut stream: TcpStream, status: &str, heard: Arc<Mutex<String>>) {
    let head = read_head(&mut stream).await;
    let port = head
        .split_whitespace()
        .nth(1)
        .and_then(|place| place.rsplit_once(':'))
        .map(|(_, port)| port.to_owned());
    {
        let mut heard = heard.lock().unwrap();
        if heard.is_empty() {
            *heard = head;
        }
    }
    let answer = format!("HTTP/1.1 {status}\r\n\r\n");
    if stream.write_all(answer.as_bytes()).await.is_ok()
        && status.starts_with("200")
        && let Some(port) = port
        && let Ok(mut upstream) = TcpStream::connect(format!("127.0.0.1:{port}")).await
    {
        let _ = copy_bidirectional(&mut stream, &mut upstream).await;
    }
}

/// A request without its body; empty if there was none.
async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}
