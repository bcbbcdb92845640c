//! A connection that is made before anybody has asked anything, so that the first request does not wait for it.
//!
//! HTTP clients cannot just connect, so it costs a request: a `HEAD` of the base URL, without credentials, headers of
//! the settings or a body. Whatever is answered to that does not matter.

use std::time::Duration;

use reqwest::Method;

use super::{Endpoint, bare, proxy};

/// How long the answer is waited for.
const LIMIT: Duration = Duration::from_secs(10);

impl Endpoint {
    /// Makes the connection (name, proxy, TCP, TLS) that the next request will use. Nothing comes of a failure: the
    /// next request will meet it again, and tell.
    pub async fn warm(&self) {
        let is_near = self.base.host_str().is_some_and(proxy::is_this_machine);
        if is_near && self.base.scheme() == "http" {
            // There is nothing to save.
            return;
        }
        let (http, base) = (self.http.clone(), self.base.clone());
        // Reading the platform's certificates would hold up whoever else has something to do.
        let client = tokio::task::spawn_blocking(move || http.client(&base)).await;
        let Ok(Ok(client)) = client else {
            return;
        };
        let request = reqwest::Request::new(Method::HEAD, bare(&self.base));
        let answer = tokio::time::timeout(LIMIT, client.execute(request)).await;
        let status = answer
            .ok()
            .and_then(Result::ok)
            .map(|response| response.status().as_u16());
        tracing::debug!(provider = self.provider, status, "has made a connection ahead of time");
    }
}
