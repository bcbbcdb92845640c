//! A handshake for looking: the same verifier as the client's, with somebody beside it who remembers what was shown.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificates::{self, Read};
use super::connection::Place;
use super::route::Route;
use crate::protocol::CheckDetails;
use crate::provider::check::{Fault, Finding};

const PLAIN: &str = "if the server speaks no TLS, `base_url` begins with `http://`";

/// Speaks TLS with the server at the other end, and reports its certificates whether they are accepted or not.
pub async fn shake_hands(stream: TcpStream, target: &Place, route: &Route) -> Result<Finding, Fault> {
    let witness = Arc::new(Witness::new(route)?);
    let name = ServerName::try_from(target.host.clone()).map_err(|_| {
        Fault::new(
            format!("`{}` is no name for a certificate", target.host),
            "mend `base_url`",
        )
    })?;
    let connector = TlsConnector::from(Arc::new(config(witness.clone())?));
    let shaken = connector.connect(name, stream).await;
    let seen = witness.seen();
    let mut details = CheckDetails {
        certificates: seen.chain.iter().map(|read| read.shown.clone()).collect(),
        ..CheckDetails::default()
    };
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => return Err(fault(&error, &seen, target).seeing(details)),
    };
    let (_, session) = stream.get_ref();
    details.tls = session.protocol_version().map(version);
    details.alpn = session
        .alpn_protocol()
        .map(|name| String::from_utf8_lossy(name).into_owned());
    let message = match (seen.chain.first(), seen.chain.last()) {
        (Some(own), Some(last)) => {
            let own_roots = certificates::read(&route.roots);
            let is_own = own_roots.iter().any(|root| root.shown.subject == last.shown.issuer);
            let whose = if is_own { "`ca_file` has" } else { "the platform trusts" };
            format!(
                "`{}` has a certificate that is good until {}, by `{}`, which {whose}",
                target.host, own.shown.not_after, last.shown.issuer
            )
        }
        _ => format!("`{}` speaks TLS", target.host),
    };
    Ok(Finding::new(message).seeing(details))
}

fn config(witness: Arc<Witness>) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|error| Fault::new(format!("failed to set up TLS: {error}"), "this is a bug in assistd"))?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(witness)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// As people write it.
fn version(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

fn fault(error: &std::io::Error, seen: &Seen, target: &Place) -> Fault {
    if let (Some(refusal), Some(now)) = (&seen.refusal, seen.now) {
        return certificates::fault(refusal, &seen.chain, now, target);
    }
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => {
            Fault::new(format!("{target} answers with something that is not TLS"), PLAIN)
        }
        Some(rustls::Error::AlertReceived(alert)) => Fault::new(
            format!("the server at {target} ended the handshake with the alert {alert:?}"),
            "the server and assistd share no version or cipher, or the server wants a certificate of the client",
        ),
        Some(other) => Fault::new(format!("the handshake with {target} failed: {other}"), PLAIN),
        None => Fault::new(format!("{target} broke off the handshake"), PLAIN),
    }
}

/// The platform's verifier, and what it was asked.
#[derive(Debug)]
struct Witness {
    verifier: Verifier,
    asked: Mutex<Option<Asked>>,
}

/// What the verifier was asked and what it answered.
#[derive(Debug)]
struct Asked {
    chain: Vec<CertificateDer<'static>>,
    now: UnixTime,
    refusal: Option<CertificateError>,
}

/// The same, read.
struct Seen {
    chain: Vec<Read>,
    now: Option<UnixTime>,
    refusal: Option<CertificateError>,
}

impl Witness {
    fn new(route: &Route) -> Result<Witness, Fault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new_with_extra_roots(route.roots.iter().cloned(), provider).map_err(|error| {
            Fault::new(
                format!("the certificates that are trusted here cannot be read: {error}"),
                "install the system's certificates (the package `ca-certificates`), or name a file of them with SSL_CERT_FILE",
            )
        })?;
        Ok(Witness {
            verifier,
            asked: Mutex::new(None),
        })
    }

    fn seen(&self) -> Seen {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        match asked {
            Some(asked) => Seen {
                chain: certificates::read(&asked.chain),
                now: Some(asked.now),
                refusal: asked.refusal,
            },
            None => Seen {
                chain: Vec::new(),
                now: None,
                refusal: None,
            },
        }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self
            .verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let sent = std::iter::once(end_entity).chain(intermediates);
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Asked {
            chain: sent.map(|certificate| certificate.clone().into_owned()).collect(),
            now,
            refusal: match &verdict {
                Err(rustls::Error::InvalidCertificate(refusal)) => Some(refusal.clone()),
                _ => None,
            },
        });
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
