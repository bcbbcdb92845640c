//! Where credentials do not go.

use assistd::config::Settings;
use assistd::error::Kind;
use assistd::provider::credentials::{Credentials, Secret, Source};
use assistd::provider::http::{Call, Scheme};

use super::{KEY, answer, ask, endpoint, endpoint_with, error, models, upstream};
use crate::upstream::{Reply, Upstream};

#[tokio::test]
async fn nothing_is_sent_on_to_another_origin() {
    for scheme in [Scheme::Bearer, Scheme::Header("api-key")] {
        for status in [301, 302, 307, 308] {
            let stranger = upstream(0).await;
            let to = format!("{}/models?sig=1", stranger.url());
            let upstream = Upstream::start([Reply::status(status).header("location", &to)]).await;
            // A token may stand in the query, too.
            let mut endpoint = endpoint(&format!("{}?token={KEY}", upstream.url()), &Settings::ephemeral());
            endpoint.scheme = scheme;
            let error = error(&endpoint).await;
            assert_eq!(error.kind(), Kind::Upstream, "{error}");
            assert!(error.message.contains("where its credentials must not go"), "{error}");
            assert_eq!(stranger.connections(), 0, "{scheme:?} {status}");
            let request = upstream.request(1).await;
            let sent = match scheme {
                Scheme::Bearer => request.header("authorization").map(str::to_owned),
                Scheme::Header(name) => request.header(name).map(|key| format!("Bearer {key}")),
            };
            assert_eq!(sent, Some(format!("Bearer {KEY}")));
        }
    }
}

#[tokio::test]
async fn a_redirect_within_the_origin_keeps_method_body_and_key() {
    let upstream = Upstream::start([]).await;
    upstream.push(Reply::status(307).header("location", "/v2/models"));
    upstream.push(Reply::json(200, models()));
    let endpoint = endpoint(&upstream.url(), &Settings::ephemeral());
    let answer = endpoint.send(&Call::post(["models"]).json("{\"a\":1}")).await;
    answer.unwrap();
    let request = upstream.request(2).await;
    assert_eq!((request.method.as_str(), request.path()), ("POST", "/v2/models"));
    assert_eq!(request.body, b"{\"a\":1}");
    assert_eq!(request.header("authorization"), Some(&*format!("Bearer {KEY}")));
    assert_eq!(request.header("referer"), None);
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_is_told_and_not_sent() {
    let upstream = upstream(0).await;
    let key = Source::Key(Secret::new("sk-secret\nx-evil: 1"));
    let endpoint = endpoint_with(
        &upstream.url(),
        &Settings::ephemeral(),
        Credentials::from_source("test", key),
    );
    let error = error(&endpoint).await;
    assert_eq!(error.kind(), Kind::AuthRequired);
    assert_eq!(
        error.message,
        "expected the key of provider `test` to be printable text on one line"
    );
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let upstream = upstream(3).await;
    let endpoint = endpoint(&upstream.url(), &Settings::ephemeral());
    for _ in 0..3 {
        answer(&endpoint).await;
    }
    assert_eq!(upstream.connections(), 1);
    assert!(ask(&endpoint).await.is_err(), "the test did not script a fourth");
}
