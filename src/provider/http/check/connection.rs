//! Names to addresses, and addresses to a connection.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use reqwest::Url;
use tokio::net::{TcpStream, lookup_host};

use crate::protocol::CheckDetails;
use crate::provider::check::{Fault, Finding};

/// The addresses of a place, at least one.
pub type Addresses = Vec<SocketAddr>;

/// A host and its port.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Place {
    /// Where a URL leads. It has a host, or there would be no endpoint.
    pub fn of(url: &Url) -> Place {
        let host = url.host_str().unwrap_or_default();
        let usual = if url.scheme().starts_with("socks") { 1080 } else { 80 };
        Place {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_or_known_default().unwrap_or(usual),
        }
    }
}

/// As in a URL.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Looks up the addresses of a place.
pub async fn resolve(place: &Place) -> Result<Finding<Addresses>, Fault> {
    let host = &place.host;
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = SocketAddr::new(address, place.port);
        return Ok(Finding::new(format!("`{host}` is an address already")).with(vec![address]));
    }
    let addresses: Addresses = match lookup_host((host.as_str(), place.port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            tracing::debug!(%error, "a name could not be resolved");
            Vec::new()
        }
    };
    if addresses.is_empty() {
        return Err(Fault::new(
            format!("the name `{host}` cannot be resolved (DNS)"),
            "check the spelling of `base_url`, the network, and whether a proxy is needed to get out",
        ));
    }
    let shown = addresses.iter().map(|address| address.ip().to_string()).collect();
    let count = addresses.len();
    let plural = if count == 1 { "address" } else { "addresses" };
    Ok(Finding::new(format!("`{host}` has {count} {plural}"))
        .with(addresses)
        .seeing(CheckDetails {
            addresses: shown,
            ..CheckDetails::default()
        }))
}

/// Connects to the first address that takes a connection.
pub async fn connect(place: &Place, addresses: &Addresses) -> Result<Finding<TcpStream>, Fault> {
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(Finding::new(format!("{place} takes connections")).with(stream)),
            Err(error) => last = Some(error),
        }
    }
    let (what, hint) = match last.as_ref().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => (
            "refuses connections",
            "is the server running, and the port of `base_url` right?",
        ),
        Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => (
            "cannot be reached from here",
            "check the network, and whether a proxy is needed to get out",
        ),
        _ => (
            "does not take a connection",
            "check `base_url`, the network, and whether a firewall is between",
        ),
    };
    Err(Fault::new(format!("{place} {what}"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_usual_port_of_its_scheme() {
        let rows = [
            ("https://a.example/v1", "a.example:443"),
            ("http://a.example:81", "a.example:81"),
            ("http://[::1]:81", "[::1]:81"),
            ("socks5://p.example", "p.example:1080"),
        ];
        for (url, place) in rows {
            assert_eq!(Place::of(&Url::parse(url).unwrap()).to_string(), place);
        }
    }
}
