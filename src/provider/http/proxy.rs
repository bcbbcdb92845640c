//! Which proxy a request takes, if any.
//!
//! What settings and environment say, in the words that curl made common. Pure: the environment is handed in. A proxy's
//! user and password are secrets and show nowhere.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::config::Environment;

/// What switches proxies off.
const NONE: &str = "none";

/// A proxy's URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy(Url);

impl Proxy {
    /// Reads `http://user:password@host:port`, or the same with `https`, `socks4`, `socks4a`, `socks5` or `socks5h`.
    /// Without a scheme it is `http`.
    pub fn parse(text: &str) -> Option<Proxy> {
        let text = text.trim();
        let url = match text.contains("://") {
            true => Url::parse(text),
            false => Url::parse(&format!("http://{text}")),
        };
        let url = url.ok().filter(Url::has_host)?;
        let known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
        known.contains(&url.scheme()).then_some(Proxy(url))
    }

    /// Its host and port, to be shown.
    pub fn place(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The whole of it, for the client and nobody else.
    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// Whether the proxy itself is spoken to through TLS.
    pub(super) fn speaks_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Its password, if there is one, to be blanked.
    pub fn password(&self) -> Option<&str> {
        self.0.password().filter(|password| !password.is_empty())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}://{})", self.0.scheme(), self.place())
    }
}

/// The way that a request takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Way {
    /// Straight to the upstream.
    Direct,
    /// Through this proxy.
    Proxy(Proxy),
    /// As the operating system's own settings say, which the HTTP client reads; where there are such settings.
    System,
}

/// The proxies of one provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Proxies {
    /// The provider's own, for every host; or none for any.
    own: Option<Option<Proxy>>,
    https: Option<Proxy>,
    http: Option<Proxy>,
    exceptions: Vec<Exception>,
    /// Whether the system's settings hold where the rest says nothing.
    asks_system: bool,
}

impl Proxies {
    /// A provider's own `proxy` holds for every host. Else the one of the settings, else the environment's, with the
    /// exceptions of NO_PROXY and this machine. The error names the setting or variable, never its value.
    pub fn of(environment: &Environment, settings: Option<&str>, own: Option<&str>) -> Result<Proxies, String> {
        let exceptions = variable(environment, &["NO_PROXY", "no_proxy"])
            .map(|(_, text)| Exception::list(text))
            .unwrap_or_default();
        let mut proxies = Proxies {
            own: own.map(setting).transpose()?,
            exceptions,
            ..Proxies::default()
        };
        if let Some(text) = settings {
            proxies.https = setting(text)?;
            proxies.http = proxies.https.clone();
            return Ok(proxies);
        }
        // Whoever calls a program by CGI sets HTTP_PROXY by sending a header `Proxy`.
        let is_cgi = environment.contains_key("REQUEST_METHOD");
        let http: &[&'static str] = if is_cgi {
            &["http_proxy"]
        } else {
            &["HTTP_PROXY", "http_proxy"]
        };
        let found = |names: &[&'static str]| {
            let named = variable(environment, names).or_else(|| variable(environment, &["ALL_PROXY", "all_proxy"]));
            named.map(|(name, text)| read(text, name)).transpose()
        };
        proxies.https = found(&["HTTPS_PROXY", "https_proxy"])?;
        proxies.http = found(http)?;
        proxies.asks_system = cfg!(any(windows, target_vendor = "apple"));
        Ok(proxies)
    }

    /// The way to this URL.
    pub fn way(&self, url: &Url) -> Way {
        if let Some(own) = &self.own {
            return own.clone().map_or(Way::Direct, Way::Proxy);
        }
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default();
        if is_this_machine(host) || self.exceptions.iter().any(|exception| exception.holds(host, port)) {
            return Way::Direct;
        }
        let proxy = if url.scheme() == "https" {
            &self.https
        } else {
            &self.http
        };
        match proxy {
            Some(proxy) => Way::Proxy(proxy.clone()),
            None if self.asks_system => Way::System,
            None => Way::Direct,
        }
    }
}

/// The first of these that is set and not empty, with its name.
fn variable<'a>(environment: &'a Environment, names: &[&'static str]) -> Option<(&'static str, &'a str)> {
    names.iter().find_map(|name| {
        let value = environment.get(*name)?.trim();
        (!value.is_empty()).then_some((*name, value))
    })
}

fn setting(text: &str) -> Result<Option<Proxy>, String> {
    match text.trim() {
        "" | NONE => Ok(None),
        text => read(text, "proxy").map(Some),
    }
}

fn read(text: &str, name: &str) -> Result<Proxy, String> {
    Proxy::parse(text).ok_or_else(|| {
        format!(
            "expected `{name}` to be a proxy's URL, such as `http://proxy.example:3128` or `socks5h://127.0.0.1:1080`"
        )
    })
}

/// Whether a host is this machine by its name or address.
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost") || address(host).is_some_and(|address| address.is_loopback())
}

/// The address that a URL's host is, if it is one.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// One entry of NO_PROXY.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Exception {
    hosts: Hosts,
    /// Only this port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hosts {
    All,
    /// A name and all below it.
    Domain(String),
    /// Addresses that share so many first bits with this one.
    Net(IpAddr, u8),
}

impl Exception {
    fn list(text: &str) -> Vec<Exception> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        entries.filter_map(Exception::parse).collect()
    }

    fn parse(entry: &str) -> Option<Exception> {
        if entry.is_empty() {
            return None;
        }
        let whole = |hosts| Some(Exception { hosts, port: None });
        if entry == "*" {
            return whole(Hosts::All);
        }
        if let Some(net) = Hosts::net(entry) {
            return whole(net);
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let hosts = Hosts::net(host).unwrap_or_else(|| {
            let domain = host
                .trim_start_matches('*')
                .trim_start_matches('.')
                .trim_end_matches('.');
            Hosts::Domain(domain.to_ascii_lowercase())
        });
        Some(Exception { hosts, port })
    }

    /// `host` is as a URL has it: in lower case.
    fn holds(&self, host: &str, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        match &self.hosts {
            Hosts::All => true,
            Hosts::Domain(domain) => {
                let rest = host.trim_end_matches('.').strip_suffix(domain.as_str());
                !domain.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Hosts::Net(net, bits) => address(host).is_some_and(|address| shares(address, *net, *bits)),
        }
    }
}

impl Hosts {
    /// An address, or `address/bits`.
    fn net(text: &str) -> Option<Hosts> {
        let (text, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let net = address(text)?;
        let most = if net.is_ipv4() { 32 } else { 128 };
        Some(Hosts::Net(net, bits.unwrap_or(most).min(most)))
    }
}

fn shares(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let differ = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()) << 96,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        pairs.collect()
    }

    /// Where a request to this URL goes: `-`, or the proxy's place.
    fn way(pairs: &[(&str, &str)], settings: Option<&str>, own: Option<&str>, url: &str) -> String {
        let proxies = Proxies::of(&environment(pairs), settings, own).unwrap();
        match proxies.way(&Url::parse(url).unwrap()) {
            Way::Proxy(proxy) => proxy.place(),
            Way::Direct | Way::System => "-".into(),
        }
    }

    #[test]
    fn the_environment_names_proxies_by_scheme() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2")];
        assert_eq!(way(&both, None, None, "https://x.test"), "s:1");
        assert_eq!(way(&both, None, None, "http://x.test"), "p:2");
        assert_eq!(way(&[("https_proxy", "s")], None, None, "https://x.test"), "s:80");
        assert_eq!(
            way(&[("ALL_PROXY", "socks5h://a:3")], None, None, "https://x.test"),
            "a:3"
        );
        assert_eq!(
            way(
                &[("ALL_PROXY", "a:3"), ("HTTPS_PROXY", "")],
                None,
                None,
                "https://x.test"
            ),
            "a:3"
        );
        assert_eq!(way(&[], None, None, "https://x.test"), "-");
    }

    #[test]
    fn a_header_of_a_stranger_names_no_proxy() {
        let cgi = [("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(way(&cgi, None, None, "http://x.test"), "-");
        assert_eq!(way(&cgi[..1], None, None, "http://x.test"), "evil:1");
    }

    #[test]
    fn no_proxy_holds_for_names_below_addresses_nets_and_ports() {
        let rows = [
            ("x.test", "https://x.test", "-"),
            ("x.test", "https://a.x.test", "-"),
            ("x.test", "https://ax.test", "p:1"),
            (".x.test", "https://x.test", "-"),
            ("*.x.test", "https://a.x.test", "-"),
            ("X.TEST", "https://x.test", "-"),
            ("y.test, x.test", "https://x.test", "-"),
            ("y.test x.test", "https://x.test", "-"),
            ("*", "https://x.test", "-"),
            ("x.test:443", "https://x.test", "-"),
            ("x.test:8443", "https://x.test", "p:1"),
            ("x.test:8443", "https://x.test:8443", "-"),
            ("10.0.0.7", "https://10.0.0.7", "-"),
            ("10.0.0.7", "https://10.0.0.70", "p:1"),
            ("10.0.0.0/8", "https://10.9.8.7", "-"),
            ("10.0.0.0/8", "https://11.0.0.1", "p:1"),
            ("10.0.0.0/8", "https://x.test", "p:1"),
            ("0.0.0.0/0", "https://11.0.0.1", "-"),
            ("fd00::/8", "https://[fd12::1]", "-"),
            ("[fd12::1]:443", "https://[fd12::1]", "-"),
            ("fd12::1", "https://[fd12::2]", "p:1"),
            ("", "https://x.test", "p:1"),
            (",", "https://x.test", "p:1"),
        ];
        for (exceptions, url, expected) in rows {
            let pairs = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", exceptions)];
            assert_eq!(way(&pairs, None, None, url), expected, "{exceptions} {url}");
        }
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy_unless_its_provider_says_so() {
        for host in ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "a.localhost"] {
            let url = format!("http://{host}:8080");
            assert_eq!(way(&[("ALL_PROXY", "p:1")], None, None, &url), "-", "{host}");
            assert_eq!(way(&[], Some("p:1"), None, &url), "-", "{host}");
            assert_eq!(way(&[], None, Some("p:1"), &url), "p:1", "{host}");
        }
    }

    #[test]
    fn settings_win_over_the_environment_and_a_provider_over_both() {
        let pairs = [("HTTPS_PROXY", "e:1"), ("NO_PROXY", "x.test")];
        assert_eq!(way(&pairs, Some("s:1"), None, "https://y.test"), "s:1");
        assert_eq!(way(&pairs, Some("s:1"), None, "https://x.test"), "-");
        assert_eq!(way(&pairs, Some("none"), None, "https://y.test"), "-");
        assert_eq!(way(&pairs, Some("s:1"), Some("o:1"), "https://x.test"), "o:1");
        assert_eq!(way(&pairs, Some("s:1"), Some("none"), "https://y.test"), "-");
    }

    #[test]
    fn a_wrong_proxy_is_told_without_its_value() {
        for (pairs, settings, name) in [
            (vec![("HTTPS_PROXY", "ftp://u:secret@p")], None, "`HTTPS_PROXY`"),
            (vec![], Some("http://u:secret@"), "`proxy`"),
        ] {
            let problem = Proxies::of(&environment(&pairs), settings, None).unwrap_err();
            assert!(problem.contains(name) && !problem.contains("secret"), "{problem}");
        }
        let proxies = Proxies::of(&Environment::new(), Some("http://user:secret@p:1"), None).unwrap();
        assert!(!format!("{proxies:?}").contains("secret"), "{proxies:?}");
    }
}
