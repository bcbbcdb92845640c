//! What we are to a server: a client that calls tools, and nothing else.
//!
//! What a server asks of its client (a model's answer, the user's words, folders) is refused as a method that we do not
//! have, which is what we said when it was started.

// The specification gives sampling, roots and logging up; servers that are older than that still speak of them.
#![allow(deprecated)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rmcp::model::{
    ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationCreateRequestMethod,
    Implementation, ListRootsRequestMethod, ListRootsResult, LoggingMessageNotificationParam, ProtocolVersion,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{ClientHandler, ErrorData, RoleClient};

use super::Secrets;

/// Our end of a session.
pub(super) struct Peer {
    /// The server, for the log.
    pub(super) server: String,
    /// Blanked in the log.
    pub(super) secrets: Secrets,
    /// Whether the server's tools are others by now than those that it listed.
    pub(super) has_changed: Arc<AtomicBool>,
}

impl ClientHandler for Peer {
    fn get_info(&self) -> ClientConfig {
        let own = Implementation::new("assistd", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), own)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListRootsRequestMethod>())
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Err(ErrorData::method_not_found::<ElicitationCreateRequestMethod>())
    }

    async fn on_logging_message(&self, said: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        let text = self.secrets.blank(&said.data.to_string());
        tracing::debug!(server = self.server, level = ?said.level, "{text}");
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.has_changed.store(true, Ordering::Relaxed);
    }
}
