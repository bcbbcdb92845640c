//! Tools of MCP servers: programs that the settings name, which speak the Model Context Protocol on stdin and stdout.
//!
//! A server is started when a run first needs it, and then serves every run of this process until the process ends.
//! One that has died is started again by the next run, and once within a run. Nothing here knows the client: whether
//! it agrees to a call is asked by whoever makes the call. Only this module knows the crate `rmcp`.

mod names;
mod output;
mod peer;
mod program;
mod server;
mod session;
mod toolbox;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::future::join_all;

use crate::config::Settings;

pub use server::Server;
pub use toolbox::{Offer, Toolbox};

/// Between telling a server that is to leave once more, and killing it, this much of the time is left.
const LAST_PART: u32 = 3;

/// The servers of this process, each made once.
#[derive(Default)]
pub struct Servers(RefCell<BTreeMap<String, Rc<Server>>>);

impl Servers {
    /// The servers with these names. Nothing is started yet. A name that the settings do not have is left out.
    pub fn named(&self, settings: &Settings, names: &[String]) -> Vec<Rc<Server>> {
        let mut made = self.0.borrow_mut();
        let known = names.iter().filter(|name| settings.layer.mcp.contains_key(*name));
        let servers = known.map(|name| {
            let server = made.entry(name.clone());
            server.or_insert_with(|| Rc::new(Server::new(name, settings))).clone()
        });
        servers.collect()
    }

    /// Ends all servers: their input is closed, those that do not leave within most of this time are told once more,
    /// and at its end nothing of them is left.
    pub async fn close(&self, limit: Duration) {
        // Who was starting one has been told to stop, and gets the turn to do so.
        tokio::task::yield_now().await;
        let live: Vec<_> = self.0.borrow().values().filter_map(|server| server.take()).collect();
        let closed = live.iter().map(|session| session.close(limit, limit / LAST_PART));
        join_all(closed).await;
    }
}

/// What must not be shown or logged.
#[derive(Debug, Clone, Default)]
struct Secrets(std::sync::Arc<[String]>);

impl Secrets {
    /// The text with every secret blanked.
    fn blank(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), "***");
        }
        text
    }
}
