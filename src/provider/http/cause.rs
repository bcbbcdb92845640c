//! Why a connection failed: name, refusal, TLS or proxy, read from the chain of an error's sources.
//!
//! Knows no provider. A URL is never part of what is said, since it may hold credentials.

use std::error::Error as StdError;

const PLAIN_HTTP: &str = "if the server speaks no TLS, `base_url` begins with `http://`";

/// Why a connection failed, as far as the chain of sources tells.
pub struct Cause {
    /// For the end of a sentence.
    pub what: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
}

impl Cause {
    /// The first link of the chain that is known for what it is, else the last one's own words.
    pub fn of(error: &reqwest::Error) -> Cause {
        let mut last = None;
        let mut source = error.source();
        while let Some(link) = source {
            if let Some(cause) = Cause::of_link(link) {
                return cause;
            }
            last = Some(link);
            source = link.source();
        }
        let what = if error.is_timeout() {
            "it took too long".to_owned()
        } else {
            last.map_or_else(|| "the connection ended".to_owned(), |last| last.to_string())
        };
        Cause { what, hint: None }
    }

    fn of_link(link: &(dyn StdError + 'static)) -> Option<Cause> {
        if let Some(error) = link.downcast_ref::<std::io::Error>() {
            if let Some(tls) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
                return Some(Cause::of_tls(tls));
            }
            let what = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "connection refused",
                std::io::ErrorKind::ConnectionReset => "connection reset",
                std::io::ErrorKind::TimedOut => "it took too long",
                _ => return Cause::of_words(&error.to_string()),
            };
            let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
            let hint = refused.then_some("is the server running, and `base_url` right?");
            return Some(Cause {
                what: what.into(),
                hint,
            });
        }
        if let Some(tls) = link.downcast_ref::<rustls::Error>() {
            return Some(Cause::of_tls(tls));
        }
        Cause::of_words(&link.to_string())
    }

    /// The connector's own errors are private types and known only by their words.
    fn of_words(words: &str) -> Option<Cause> {
        if words.starts_with("dns error") {
            let hint = Some("check `base_url`, the network and the proxy settings");
            return Some(Cause {
                what: "its name cannot be resolved (DNS)".into(),
                hint,
            });
        }
        if words.starts_with("tls handshake") {
            return Some(Cause {
                what: "TLS: the handshake broke off".into(),
                hint: Some(PLAIN_HTTP),
            });
        }
        words.contains("unsuccessful tunnel").then(|| Cause {
            what: "the proxy refused to make the connection".into(),
            hint: Some("check HTTPS_PROXY and NO_PROXY"),
        })
    }

    fn of_tls(error: &rustls::Error) -> Cause {
        let hint = match error {
            rustls::Error::InvalidCertificate(_) => {
                Some("if a proxy opens the connection, its certificate must be among the platform's: see SSL_CERT_FILE")
            }
            rustls::Error::InvalidMessage(_) => Some(PLAIN_HTTP),
            _ => None,
        };
        Cause {
            what: format!("TLS: {error}"),
            hint,
        }
    }
}
