//! The HTTP clients, one for each network set-up, with the connections that they keep.
//!
//! A client is built when a request needs it and not before, since reading the platform's certificates takes
//! milliseconds that a start does not have. Who speaks no TLS never reads them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{Url, redirect};

use super::authorities::Authorities;
use super::network::Network;
use super::proxy::{Proxy, Way};
use crate::error::{Error, Kind};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept. Well below the minutes after which load balancers forget one in silence.
const POOL_IDLE: Duration = Duration::from_secs(55);

/// A network set-up with the clients of all providers; cheap to make and to clone.
#[derive(Debug, Clone, Default)]
pub struct Http {
    network: Network,
    clients: Clients,
}

type Clients = Arc<Mutex<HashMap<SetUp, Arc<OnceLock<Result<reqwest::Client, Error>>>>>>;

/// What makes a client another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SetUp {
    way: Way,
    /// Whom to trust besides the platform's authorities; none where no TLS is spoken.
    trust: Option<Authorities>,
}

impl Http {
    /// Without any proxy. Nothing is built yet.
    pub fn new() -> Self {
        Http::default()
    }

    /// The same clients on this network.
    pub fn on(&self, network: Network) -> Http {
        Http {
            network,
            clients: self.clients.clone(),
        }
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The proxy on the way to this URL, as far as settings and environment name one.
    pub fn proxy(&self, url: &Url) -> Option<Proxy> {
        match self.network.way(url) {
            Way::Proxy(proxy) => Some(proxy),
            Way::Direct | Way::System => None,
        }
    }

    /// The client for this URL. Building one takes milliseconds where it reads the platform's certificates.
    pub fn client(&self, url: &Url) -> Result<reqwest::Client, Error> {
        let set_up = self.set_up(url);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(set_up.clone()).or_default().clone();
        drop(clients);
        client.get_or_init(|| build(&set_up)).clone()
    }

    fn set_up(&self, url: &Url) -> SetUp {
        let way = self.network.way(url);
        let by_tls = url.scheme() == "https"
            || match &way {
                Way::Direct => false,
                Way::Proxy(proxy) => proxy.speaks_tls(),
                Way::System => true,
            };
        let trust = by_tls.then(|| self.network.authorities().clone());
        SetUp { way, trust }
    }
}

fn build(set_up: &SetUp) -> Result<reqwest::Client, Error> {
    // Fails only if somebody has chosen a provider of cryptography already, which is then the one to use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("assistd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
        .pool_idle_timeout(POOL_IDLE)
        .referer(false)
        .redirect(redirect::Policy::custom(follow));
    let builder = match &set_up.way {
        Way::Direct => builder.no_proxy(),
        Way::Proxy(proxy) => {
            let url = proxy.url().as_str();
            builder.proxy(reqwest::Proxy::all(url).map_err(|error| failed(&error.without_url()))?)
        }
        Way::System => builder,
    };
    let builder = match &set_up.trust {
        // No certificate is ever looked at on the way there, and reading them all is most of a client's price.
        None => builder.tls_certs_only([]),
        Some(authorities) if authorities.is_empty() => builder,
        Some(authorities) => {
            let certificates = authorities.iter().map(|der| reqwest::Certificate::from_der(der));
            let certificates: Result<Vec<_>, _> = certificates.collect();
            builder.tls_certs_merge(certificates.map_err(|error| failed(&error))?)
        }
    };
    builder.build().map_err(|error| failed(&error))
}

fn failed(error: &reqwest::Error) -> Error {
    tracing::error!(?error, "the HTTP client could not be built");
    // With settings that were checked before, all that is left to fail is reading the platform's certificates.
    Error::new(
        Kind::ConfigInvalid,
        "failed to set up TLS: no certificates of authorities could be read from this system",
    )
    .with_hint("install them (`ca-certificates`), or see what SSL_CERT_FILE and SSL_CERT_DIR name, or set `ca_file`")
}

/// Follows a redirect only to the same origin, since the credentials travel with it (reqwest takes away
/// `Authorization`, but does not know of `api-key`), and only where the method stays what it was.
fn follow(attempt: redirect::Attempt) -> redirect::Action {
    let same_method = matches!(attempt.status().as_u16(), 307 | 308);
    let same_origin = attempt
        .previous()
        .last()
        .is_some_and(|from| from.origin() == attempt.url().origin());
    if same_method && same_origin && attempt.previous().len() <= 5 {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn on(proxy: &str) -> Http {
        let mut settings = crate::config::Settings::ephemeral();
        settings.layer.proxy = Some(proxy.to_owned());
        let own = crate::config::ProviderSettings::new(crate::config::Dialect::Chat);
        Http::new().on(Network::of(&settings, "p", &own).unwrap())
    }

    #[test]
    fn nothing_is_built_before_the_first_request_and_clones_share_it() {
        let http = Http::new();
        assert!(http.clients.lock().unwrap().is_empty());
        http.client(&url("http://upstream.test/v1")).unwrap();
        http.clone().client(&url("http://127.0.0.1:8080/v1")).unwrap();
        assert_eq!(http.clients.lock().unwrap().len(), 1);
        http.client(&url("https://upstream.test/v1")).unwrap();
        http.on(Network::direct())
            .client(&url("https://other.test/v1"))
            .unwrap();
        assert_eq!(http.clients.lock().unwrap().len(), 2);
    }

    #[test]
    fn certificates_are_read_only_where_tls_is_spoken() {
        let trusts = |http: &Http, text: &str| http.set_up(&url(text)).trust.is_some();
        let direct = Http::new();
        assert!(!trusts(&direct, "http://x.test") && !trusts(&direct, "http://127.0.0.1:1"));
        assert!(trusts(&direct, "https://127.0.0.1:1") && trusts(&direct, "https://x.test"));
        assert!(!trusts(&on("http://p:1"), "http://x.test") && !trusts(&on("socks5://p:1"), "http://x.test"));
        assert!(trusts(&on("https://p:1"), "http://x.test"));
    }
}
