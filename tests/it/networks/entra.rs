//! Tokens of Entra ID from services on real sockets.

use assistd::config::{Dialect, Environment, ProviderSettings, Service, Settings};
use assistd::error::{Error, Kind};
use assistd::provider::credentials::{Credentials, Entra, Source};
use assistd::provider::http::Http;
use serde_json::json;

use super::{ask, endpoint_with, upstream};
use crate::upstream::{Reply, Upstream};

/// Credentials of a provider of this service in this environment. `az` is not reached: what comes before it answers.
fn credentials(service: Service, pairs: &[(&str, &str)]) -> Credentials {
    let environment: Environment = pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let mut settings = ProviderSettings::new(Dialect::Responses);
    settings.service = Some(service);
    let entra = Entra::new("test", &settings, &environment, Http::new());
    Credentials::from_source("test", Source::Entra(Box::new(entra)))
}

async fn token(credentials: &Credentials) -> Result<String, Error> {
    let secret = credentials.get().await?.expect("Entra gives a token or an error");
    Ok(secret.expose().to_owned())
}

fn given(token: &str) -> Reply {
    Reply::json(
        200,
        json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": token }),
    )
}

fn origin(upstream: &Upstream) -> String {
    upstream.url().trim_end_matches("/v1").to_owned()
}

#[tokio::test]
async fn an_applications_secret_is_exchanged_for_a_token_with_the_right_audience() {
    for (service, scope) in [
        (Service::Azure, "https://cognitiveservices.azure.com/.default"),
        (Service::Foundry, "https://ai.azure.com/.default"),
    ] {
        let authority = Upstream::start([given("t1")]).await;
        let credentials = credentials(
            service,
            &[
                ("AZURE_TENANT_ID", "my tenant"),
                ("AZURE_CLIENT_ID", "app"),
                ("AZURE_CLIENT_SECRET", "s&cret="),
                ("AZURE_AUTHORITY_HOST", &origin(&authority)),
            ],
        );
        assert_eq!(token(&credentials).await.unwrap(), "t1");
        assert_eq!(token(&credentials).await.unwrap(), "t1", "it is kept");
        let request = authority.request(1).await;
        assert_eq!(
            (request.method.as_str(), request.path()),
            ("POST", "/my%20tenant/oauth2/v2.0/token")
        );
        assert_eq!(
            request.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
        let form = String::from_utf8(request.body).unwrap();
        let form = reqwest::Url::parse(&format!("form:?{form}")).unwrap();
        let pairs: Vec<(String, String)> = form.query_pairs().into_owned().collect();
        let expected = [
            ("grant_type", "client_credentials"),
            ("client_id", "app"),
            ("scope", scope),
            ("client_secret", "s&cret="),
        ];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

#[tokio::test]
async fn a_refused_token_is_issued_anew_and_sent_as_a_bearer() {
    let authority = Upstream::start([given("t1"), given("t2")]).await;
    let upstream = Upstream::start([Reply::status(401), Reply::json(200, json!({}))]).await;
    let credentials = credentials(
        Service::Azure,
        &[
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_CLIENT_SECRET", "s"),
            ("AZURE_AUTHORITY_HOST", &origin(&authority)),
        ],
    );
    let mut endpoint = endpoint_with(&upstream.url(), &Settings::ephemeral(), credentials);
    endpoint.scheme = assistd::provider::http::Scheme::Header("api-key");
    ask(&endpoint).await.unwrap();
    let bearers: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| request.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(bearers, [Some("Bearer t1".to_owned()), Some("Bearer t2".to_owned())]);
}

#[tokio::test]
async fn a_secret_that_is_refused_is_the_answer() {
    let refusal = json!({ "error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret 'shh-secret'.\r\nTrace ID: 1" });
    let authority = Upstream::start([Reply::json(401, refusal)]).await;
    let credentials = credentials(
        Service::Azure,
        &[
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_CLIENT_SECRET", "shh-secret"),
            ("AZURE_AUTHORITY_HOST", &origin(&authority)),
        ],
    );
    let error = token(&credentials).await.unwrap_err();
    assert_eq!(error.kind(), Kind::AuthRequired);
    assert_eq!(
        error.message,
        "failed to get an Entra token for provider `test`: by AZURE_CLIENT_SECRET: \
         127.0.0.1 refused (HTTP 401): AADSTS7000215: Invalid client secret '***'."
    );
}

#[tokio::test]
async fn what_is_set_up_by_half_or_unsafe_is_told_before_anything_is_sent() {
    let error = token(&credentials(Service::Azure, &[("AZURE_CLIENT_SECRET", "s")]))
        .await
        .unwrap_err();
    assert!(
        error
            .message
            .ends_with("AZURE_CLIENT_SECRET is set and AZURE_TENANT_ID is not"),
        "{error}"
    );
    let in_the_clear = [
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_CLIENT_SECRET", "s"),
        ("AZURE_AUTHORITY_HOST", "http://login.example"),
    ];
    let error = token(&credentials(Service::Azure, &in_the_clear)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert!(
        error
            .message
            .ends_with("expected AZURE_AUTHORITY_HOST to be an https URL"),
        "{error}"
    );
}

#[tokio::test]
async fn a_clusters_token_is_exchanged_and_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "federated\n").unwrap();
    let authority = Upstream::start([given("t1")]).await;
    let credentials = credentials(
        Service::Foundry,
        &[
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "app"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
            ("AZURE_AUTHORITY_HOST", &origin(&authority)),
        ],
    );
    assert_eq!(token(&credentials).await.unwrap(), "t1");
    let form = String::from_utf8(authority.request(1).await.body).unwrap();
    assert!(form.contains("client_assertion=federated"), "{form}");
    assert!(
        form.contains("client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"),
        "{form}"
    );
}

#[tokio::test]
async fn the_identity_of_an_app_and_of_a_machine_is_asked_for() {
    let app = Upstream::start([Reply::json(
        200,
        json!({ "access_token": "t1", "expires_on": "4102444800" }),
    )])
    .await;
    let pairs = [
        ("IDENTITY_ENDPOINT", app.url()),
        ("IDENTITY_HEADER", "h-secret".to_owned()),
    ];
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(token(&credentials(Service::Azure, &pairs)).await.unwrap(), "t1");
    let request = app.request(1).await;
    assert_eq!(
        request.target,
        "/v1?api-version=2019-08-01&resource=https%3A%2F%2Fcognitiveservices.azure.com"
    );
    assert_eq!(request.header("x-identity-header"), Some("h-secret"));

    let machine = Upstream::start([given("t2")]).await;
    let host = origin(&machine);
    let pairs = [
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", host.as_str()),
        ("AZURE_CLIENT_ID", "mine"),
    ];
    assert_eq!(token(&credentials(Service::Foundry, &pairs)).await.unwrap(), "t2");
    let request = machine.request(1).await;
    assert_eq!(
        request.target,
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fai.azure.com&client_id=mine"
    );
    assert_eq!(request.header("metadata"), Some("true"));
}

#[tokio::test]
async fn a_ready_token_comes_before_all() {
    let upstream = upstream(1).await;
    let credentials = credentials(
        Service::Azure,
        &[("AZURE_OPENAI_AD_TOKEN", "ready"), ("AZURE_CLIENT_SECRET", "s")],
    );
    let mut endpoint = endpoint_with(&upstream.url(), &Settings::ephemeral(), credentials);
    endpoint.scheme = assistd::provider::http::Scheme::Header("api-key");
    ask(&endpoint).await.unwrap();
    let request = upstream.request(1).await;
    assert_eq!(request.header("authorization"), Some("Bearer ready"));
    assert_eq!(request.header("api-key"), None);
}
