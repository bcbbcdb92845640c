//! Which way a request takes: straight or through a proxy, and which certificates are trusted on it.
//!
//! The one place of the check that has to say the same as the client that runs use.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connection::{self, Addresses, Place};
use crate::protocol::CheckDetails;
use crate::provider::check::{Fault, Finding};
use crate::provider::http::{Endpoint, Way, bare};

/// The most of a proxy's answer that is read, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// The way to an endpoint.
pub struct Route {
    /// The proxy that applies.
    pub proxy: Option<Proxy>,
    /// What is trusted besides the platform's certificates.
    pub roots: Vec<CertificateDer<'static>>,
}

/// A proxy.
pub struct Proxy {
    /// Where it is.
    pub place: Place,
    url: Url,
    /// What it wants to see of a user, if its URL has one.
    authorization: Option<String>,
}

impl Route {
    /// The way that requests to this endpoint take.
    pub fn to(endpoint: &Endpoint) -> Route {
        let network = endpoint.http.network();
        let matcher = match network.way(&endpoint.base) {
            Way::Direct => None,
            Way::Proxy(proxy) => Some(Matcher::builder().all(proxy.url().as_str()).build()),
            Way::System => Some(Matcher::from_system()),
        };
        Route {
            proxy: matcher.and_then(|matcher| Proxy::on_the_way(&matcher, &endpoint.base)),
            roots: network.authorities().iter().cloned().collect(),
        }
    }
}

impl Proxy {
    /// The client's own words for a proxy, so that its user and password are read as the client reads them.
    fn on_the_way(matcher: &Matcher, base: &Url) -> Option<Proxy> {
        // The type of a URL that the matcher takes is another one, which both parse.
        let intercept = matcher.intercept(&base.as_str().parse().ok()?)?;
        let url = Url::parse(&intercept.uri().to_string()).ok()?;
        let authorization = intercept
            .basic_auth()
            .and_then(|value| value.to_str().ok().map(str::to_owned));
        Some(Proxy {
            place: Place::of(&url),
            url,
            authorization,
        })
    }
}

impl Proxy {
    /// Connects to the proxy and, where it has to make a tunnel, has it do so. Gives the tunnel where that can be looked
    /// into: a proxy that is itself behind TLS, or that speaks SOCKS, is only connected to.
    pub async fn pass(
        &self,
        addresses: &Addresses,
        target: &Place,
        is_tunnel: bool,
    ) -> Result<Finding<Option<TcpStream>>, Fault> {
        let details = CheckDetails {
            proxy: Some(bare(&self.url).to_string()),
            ..CheckDetails::default()
        };
        let place = &self.place;
        let connected = connection::connect(place, addresses).await;
        let mut stream = match connected {
            Ok(finding) => finding.value,
            Err(_) => {
                let hint = "is the proxy running, and the setting `proxy` or HTTPS_PROXY right? NO_PROXY names hosts to reach without";
                let message = format!("the proxy at {place} does not answer");
                return Err(Fault::new(message, hint).seeing(details));
            }
        };
        if !is_tunnel || self.url.scheme() != "http" {
            let stream = (!is_tunnel).then_some(stream);
            return Ok(Finding::new(format!("the proxy at {place} takes connections"))
                .with(stream)
                .seeing(details));
        }
        match self.open(&mut stream, target).await {
            Ok(()) => {
                let message = format!("the proxy at {place} lets a connection to {target} through");
                Ok(Finding::new(message).with(Some(stream)).seeing(details))
            }
            Err(fault) => Err(fault.seeing(details)),
        }
    }

    async fn open(&self, stream: &mut TcpStream, target: &Place) -> Result<(), Fault> {
        let place = &self.place;
        let broken = |_| {
            Fault::new(
                format!("the proxy at {place} broke the connection instead of answering"),
                "is it an HTTP proxy? one that speaks SOCKS has a URL that begins with `socks5://`",
            )
        };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request += &format!("Proxy-Authorization: {authorization}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut head = Vec::new();
        // Byte by byte, since what follows the head belongs to the tunnel.
        while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
            head.push(stream.read_u8().await.map_err(broken)?);
        }
        let status = String::from_utf8_lossy(&head)
            .split_whitespace()
            .nth(1)
            .map(str::to_owned);
        match status.as_deref() {
            Some(success) if success.starts_with('2') => Ok(()),
            Some("407") => Err(Fault::new(
                format!("the proxy at {place} wants a user name and a password (407)"),
                "put them into the proxy's URL: `http://USER:PASSWORD@HOST:PORT`",
            )),
            status => Err(Fault::new(
                format!(
                    "the proxy at {place} refuses a connection to {target} ({})",
                    status.unwrap_or("no HTTP")
                ),
                "ask whoever runs the proxy to allow that host, or name it in NO_PROXY if it can be reached without",
            )),
        }
    }
}
