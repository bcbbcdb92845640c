//! Why a connection failed: name, refusal, TLS or proxy, read from the chain of an error's sources.
//!
//! Knows no provider. A URL is never part of what is said, since it may hold credentials.

use std::error::Error as StdError;

use rustls::CertificateError;

const PLAIN_HTTP: &str = "if the server speaks no TLS, `base_url` begins with `http://`";

const PROXY_SETTINGS: &str = "check the setting `proxy`, and HTTPS_PROXY, ALL_PROXY and NO_PROXY in the environment";

/// Why a connection failed, as far as the chain of sources tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// For the end of a sentence.
    pub what: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
    /// Whether it may be otherwise the next time. What a proxy forbids it forbids again.
    pub passes: bool,
}

impl Cause {
    /// The first link of the chain that is known for what it is, else the last one's own words.
    pub fn of(error: &reqwest::Error) -> Cause {
        let mut last = None;
        for link in links(error) {
            if let Some(cause) = Cause::of_link(link) {
                return cause;
            }
            last = Some(link);
        }
        let what = if error.is_timeout() {
            "it took too long".to_owned()
        } else {
            last.map_or_else(|| "the connection ended".to_owned(), |last| last.to_string())
        };
        Cause::new(what, None)
    }

    fn new(what: impl Into<String>, hint: impl Into<Option<&'static str>>) -> Cause {
        Cause {
            what: what.into(),
            hint: hint.into(),
            passes: true,
        }
    }

    fn lasting(mut self) -> Cause {
        self.passes = false;
        self
    }

    fn of_link(link: &(dyn StdError + 'static)) -> Option<Cause> {
        if let Some(error) = link.downcast_ref::<std::io::Error>() {
            // What an error of this kind holds is not its source, and may hold another one.
            let held = error.get_ref().and_then(|held| Cause::of_link(held));
            if held.is_some() {
                return held;
            }
            return match error.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    let hint = "is the server running, and `base_url` right?";
                    Some(Cause::new("connection refused", hint))
                }
                std::io::ErrorKind::ConnectionReset => Some(Cause::new("connection reset", None)),
                std::io::ErrorKind::TimedOut => Some(Cause::new("it took too long", None)),
                _ => Cause::of_words(&error.to_string()),
            };
        }
        if let Some(tls) = link.downcast_ref::<rustls::Error>() {
            return Some(Cause::of_tls(tls));
        }
        Cause::of_words(&link.to_string())
    }

    /// The connector's own errors are private types and known only by their words.
    fn of_words(words: &str) -> Option<Cause> {
        if words.starts_with("dns error") {
            let hint = "check `base_url`, the network and the proxy settings";
            return Some(Cause::new("its name cannot be resolved (DNS)", hint));
        }
        if words.starts_with("tls handshake") {
            return Some(Cause::new("TLS: the handshake broke off", PLAIN_HTTP));
        }
        match words {
            "tunnel error: proxy authorization required" => Some(Cause::proxy_wants_credentials()),
            "tunnel error: unsuccessful" => {
                let what = "the proxy refused to make the connection";
                Some(Cause::new(what, PROXY_SETTINGS).lasting())
            }
            "tunnel error: unexpected end of file" | "tunnel error: proxy response headers too long" => {
                let what = "the proxy did not answer as one";
                Some(Cause::new(what, PROXY_SETTINGS))
            }
            _ if words.starts_with("SOCKS error") && !words.contains("io error") && !words.contains("underlying") => {
                let what = "the SOCKS proxy refused to make the connection";
                Some(Cause::new(what, PROXY_SETTINGS).lasting())
            }
            _ => None,
        }
    }

    /// HTTP 407, by whichever way it came.
    pub(super) fn proxy_wants_credentials() -> Cause {
        let what = "the proxy wants a user and a password, or does not accept those that it has";
        Cause::new(
            what,
            "write them into the proxy's URL: `http://USER:PASSWORD@HOST:PORT`",
        )
        .lasting()
    }

    fn of_tls(error: &rustls::Error) -> Cause {
        match error {
            rustls::Error::InvalidCertificate(problem) => Cause::of_certificate(problem),
            rustls::Error::InvalidMessage(_) => Cause::new(format!("TLS: {error}"), PLAIN_HTTP),
            _ => Cause::new(format!("TLS: {error}"), None),
        }
    }

    fn of_certificate(problem: &CertificateError) -> Cause {
        let (what, hint) = match problem {
            CertificateError::UnknownIssuer => (
                "TLS: its certificate comes from an authority that this machine does not know",
                "if it is an authority of your own, or a proxy that opens connections, name its certificate with `ca_file`",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "TLS: its certificate has expired",
                "whoever runs the server has to renew it; or is this machine's clock wrong?",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                "TLS: its certificate is not valid yet",
                "is this machine's clock right?",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "TLS: its certificate is for another host",
                "check the host of `base_url`: it must be one of those that the certificate names",
            ),
            CertificateError::Revoked => ("TLS: its certificate was revoked", "ask whoever runs the server"),
            other if other.to_string().contains("CaUsedAsEndEntity") => (
                "TLS: it shows the certificate of an authority as its own",
                "give the server a certificate that the authority has signed, and name the authority's with `ca_file`",
            ),
            other => {
                let hint = "ask whoever runs the server, or the proxy before it";
                return Cause::new(format!("TLS: its certificate is not accepted: {other}"), hint);
            }
        };
        Cause::new(what, hint)
    }
}

/// Whether the upstream said that it has not begun to act upon the request: RFC 9113 (HTTP/2), 6.8 and 8.7, lets such
/// a request be sent again.
pub(super) fn was_not_begun(error: &reqwest::Error) -> bool {
    links(error)
        .filter_map(|link| link.downcast_ref::<h2::Error>())
        .any(|error| {
            let says = |reason| error.is_remote() && error.reason() == Some(reason);
            (error.is_go_away() && says(h2::Reason::NO_ERROR)) || (error.is_reset() && says(h2::Reason::REFUSED_STREAM))
        })
}

fn links(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |link| (*link).source())
}
