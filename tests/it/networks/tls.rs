//! Certificates: whose are accepted, and what is said of the others.

use assistd::config::Settings;
use assistd::error::Kind;
use assistd::provider::http::Network;

use super::tls_front::{Authority, Front, Identity};
use super::{answer, endpoint, error, models, upstream};

/// Settings that trust this authority.
fn trusting(authority: &Authority) -> Settings {
    let mut settings = Settings::ephemeral();
    settings.layer.ca_file = Some(authority.file());
    settings
}

#[tokio::test]
async fn an_authority_of_ones_own_is_accepted_where_its_file_is_named() {
    let authority = Authority::new();
    let upstream = upstream(2).await;
    let front = Front::start(authority.identity(&["127.0.0.1", "localhost"]), &upstream.url()).await;
    assert_eq!(
        answer(&endpoint(&front.url("127.0.0.1"), &trusting(&authority))).await,
        models()
    );

    // The provider's own file does, too, beside one that has nothing to do with it.
    let mut settings = trusting(&Authority::new());
    let other = Authority::new();
    settings.layer.ca_file = Some(other.file());
    let mut own = assistd::config::ProviderSettings::new(assistd::config::Dialect::Chat);
    own.ca_file = Some(authority.file());
    settings.layer.providers.insert("test".into(), own);
    assert_eq!(answer(&endpoint(&front.url("localhost"), &settings)).await, models());
}

/// What is said of a server that shows this, and what to do about it.
async fn said(identity: Identity, host: &str, settings: &Settings) -> (String, String) {
    let upstream = upstream(0).await;
    let front = Front::start(identity, &upstream.url()).await;
    let error = error(&endpoint(&front.url(host), settings)).await;
    assert_eq!(error.kind(), Kind::Network, "{error}");
    let place = format!("failed to reach provider `test` at {host}: ");
    let problem = error.message.strip_prefix(&place);
    let problem = problem.unwrap_or_else(|| panic!("expected `{place}`, found `{error}`"));
    (problem.to_owned(), error.data.hint.unwrap_or_default().into_owned())
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
    let authority = Authority::new();
    let trusting = trusting(&authority);
    let (problem, hint) = said(authority.identity(&["127.0.0.1"]), "127.0.0.1", &Settings::ephemeral()).await;
    assert_eq!(
        problem,
        "TLS: its certificate comes from an authority that this machine does not know"
    );
    assert!(hint.contains("`ca_file`"), "{hint}");

    let (problem, hint) = said(authority.identity(&["other.test"]), "127.0.0.1", &trusting).await;
    assert_eq!(problem, "TLS: its certificate is for another host");
    assert!(hint.contains("`base_url`"), "{hint}");

    let (problem, hint) = said(authority.expired(&["127.0.0.1"]), "127.0.0.1", &trusting).await;
    assert_eq!(problem, "TLS: its certificate has expired");
    assert!(hint.contains("clock"), "{hint}");

    let (problem, hint) = said(authority.authority(&["127.0.0.1"]), "127.0.0.1", &trusting).await;
    assert_eq!(problem, "TLS: it shows the certificate of an authority as its own");
    assert!(hint.contains("signed"), "{hint}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_found_out() {
    let upstream = upstream(0).await;
    let error = error(&endpoint(
        &upstream.url().replace("http:", "https:"),
        &Settings::ephemeral(),
    ))
    .await;
    assert!(error.message.contains("TLS: "), "{error}");
    let hint = error.data.hint.unwrap_or_default();
    assert_eq!(hint, "if the server speaks no TLS, `base_url` begins with `http://`");
}

#[test]
fn a_wrong_file_is_told_before_anything_is_sent() {
    let mut settings = Settings::ephemeral();
    settings.layer.ca_file = Some("/no/such/ca.pem".into());
    let own = assistd::config::ProviderSettings::new(assistd::config::Dialect::Chat);
    let error = Network::of(&settings, "test", &own).unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert!(
        error.message.contains("`/no/such/ca.pem`, which cannot be read"),
        "{error}"
    );
}
