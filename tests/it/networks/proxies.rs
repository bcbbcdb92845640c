//! Requests through forward proxies.

use assistd::config::Settings;
use assistd::error::Kind;

use super::proxy::{ForwardProxy, Manner};
use super::tls_front::{Authority, Front, address_of};
use super::{answer, ask, endpoint, error, models, upstream, with_environment};

/// `user:secret`
const GUARDED: Manner = Manner::Guarded("Basic dXNlcjpzZWNyZXQ=");

#[tokio::test]
async fn an_encrypted_request_goes_through_a_tunnel_that_the_environment_names() {
    let authority = Authority::new();
    let upstream = upstream(1).await;
    let front = Front::start(authority.identity(&["upstream.test"]), &upstream.url()).await;
    let proxy = ForwardProxy::start(GUARDED, front.address).await;
    let mut settings = with_environment(&[("https_proxy", &proxy.url("http", "user:secret"))]);
    settings.layer.ca_file = Some(authority.file());
    assert_eq!(answer(&endpoint("https://upstream.test/v1", &settings)).await, models());
    assert_eq!(proxy.heard(), ["CONNECT upstream.test:443 HTTP/1.1"]);
    assert!(upstream.request(1).await.header("proxy-authorization").is_none());
}

#[tokio::test]
async fn a_request_in_the_clear_is_handed_to_the_proxy_whole() {
    let upstream = upstream(1).await;
    let proxy = ForwardProxy::start(GUARDED, address_of(&upstream.url())).await;
    let settings = with_environment(&[("HTTP_PROXY", &proxy.url("http", "user:secret"))]);
    assert_eq!(answer(&endpoint("http://upstream.test/v1", &settings)).await, models());
    assert_eq!(proxy.heard(), ["GET http://upstream.test/v1/models HTTP/1.1"]);
}

#[tokio::test]
async fn a_proxy_that_speaks_tls_itself_is_trusted_as_an_upstream_is() {
    let authority = Authority::new();
    let upstream = upstream(1).await;
    let proxy = ForwardProxy::start(Manner::Open, address_of(&upstream.url())).await;
    let front = Front::start(authority.identity(&["127.0.0.1"]), &format!("http://{}", proxy.address)).await;
    let mut settings = Settings::ephemeral();
    settings.layer.ca_file = Some(authority.file());
    settings.layer.proxy = Some(format!("https://{}", front.address));
    assert_eq!(answer(&endpoint("http://upstream.test/v1", &settings)).await, models());
    assert_eq!(proxy.heard().len(), 1);
}

#[tokio::test]
async fn a_socks_proxy_resolves_the_name() {
    let upstream = upstream(1).await;
    let proxy = ForwardProxy::socks(address_of(&upstream.url())).await;
    let settings = with_environment(&[("ALL_PROXY", &proxy.url("socks5h", ""))]);
    assert_eq!(
        answer(&endpoint("http://upstream.test:8080/v1", &settings)).await,
        models()
    );
    assert_eq!(proxy.heard(), ["upstream.test:8080"]);
}

#[tokio::test]
async fn no_proxy_and_this_machine_go_straight() {
    let upstream = upstream(2).await;
    let proxy = ForwardProxy::start(Manner::Open, address_of(&upstream.url())).await;
    let proxy_url = proxy.url("http", "");
    // This machine needs no exception.
    let settings = with_environment(&[("HTTP_PROXY", &proxy_url)]);
    assert_eq!(answer(&endpoint(&upstream.url(), &settings)).await, models());
    assert_eq!(proxy.heard(), [""; 0]);
    // But a provider may say that it wants one there.
    let mut settings = Settings::ephemeral();
    let mut own = assistd::config::ProviderSettings::new(assistd::config::Dialect::Chat);
    own.proxy = Some(proxy_url.clone());
    settings.layer.providers.insert("test".into(), own);
    assert_eq!(answer(&endpoint(&upstream.url(), &settings)).await, models());
    assert_eq!(proxy.heard().len(), 1);
    // A name that only the proxy knows cannot be reached past it.
    let settings = with_environment(&[("HTTP_PROXY", &proxy_url), ("NO_PROXY", ".test")]);
    let error = error(&endpoint("http://upstream.test/v1", &settings)).await;
    assert!(error.message.ends_with("its name cannot be resolved (DNS)"), "{error}");
    assert_eq!(proxy.heard().len(), 1);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_from_an_upstream_that_does() {
    let rows = [
        (GUARDED, "https", "wants a user and a password", "USER:PASSWORD"),
        (GUARDED, "http", "wants a user and a password", "USER:PASSWORD"),
        (
            Manner::Forbidding,
            "https",
            "refused to make the connection",
            "NO_PROXY",
        ),
    ];
    for (manner, scheme, problem, hint) in rows {
        let upstream = upstream(0).await;
        let proxy = ForwardProxy::start(manner, address_of(&upstream.url())).await;
        let mut settings = Settings::ephemeral();
        settings.layer.proxy = Some(proxy.url("http", "user:wrong-secret"));
        let failure = ask(&endpoint(&format!("{scheme}://upstream.test/v1"), &settings))
            .await
            .unwrap_err();
        assert!(!failure.repeatable, "what a proxy forbids it forbids again");
        let error = failure.error;
        assert_eq!(error.kind(), Kind::Network, "{error}");
        assert!(
            error.message.contains(problem) && !error.message.contains("secret"),
            "{manner:?}: {error}"
        );
        let told = error.data.hint.unwrap_or_default();
        assert!(told.contains(hint), "{manner:?}: {told}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut settings = Settings::ephemeral();
    settings.layer.proxy = Some(format!("http://user:secret@{gone}"));
    let error = error(&endpoint("https://upstream.test/v1", &settings)).await;
    let expected =
        format!("failed to reach provider `test` at upstream.test through the proxy {gone}: connection refused");
    assert_eq!(error.message, expected);
    assert!(error.data.hint.unwrap().contains("is the proxy running"));
}
