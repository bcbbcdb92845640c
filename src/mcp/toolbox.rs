//! The tools of servers that one run may call.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use futures::future::join_all;
use serde_json::{Map, Value};

use super::names;
use super::output::Output;
use super::server::Server;
use super::session::Listed;
use crate::config::Approve;
use crate::protocol::Tool;

/// What a run may call at servers.
#[derive(Default)]
pub struct Toolbox {
    offers: Vec<Offer>,
    /// Servers that were started again in this run: once is enough.
    restarted: RefCell<HashSet<String>>,
}

/// A tool of a server, under the name that the model knows.
pub struct Offer {
    /// For the model.
    pub name: String,
    /// Who has it.
    pub server: Rc<Server>,
    listed: Listed,
}

impl Toolbox {
    /// The tools of these servers, and a sentence for each server that cannot be used. Starts what does not run, all at
    /// once. Names that are taken stay with who has them.
    pub async fn open(servers: &[Rc<Server>], taken: HashSet<String>) -> (Toolbox, Vec<(Rc<Server>, String)>) {
        let listed = join_all(servers.iter().map(|server| server.tools())).await;
        let mut taken = taken;
        let mut toolbox = Toolbox::default();
        let mut problems = Vec::new();
        for (server, listed) in servers.iter().zip(listed) {
            match listed {
                Ok(listed) => toolbox.offer(server, &listed, &mut taken),
                Err(problem) => problems.push((server.clone(), problem)),
            }
        }
        (toolbox, problems)
    }

    fn offer(&mut self, server: &Rc<Server>, listed: &[Listed], taken: &mut HashSet<String>) {
        let wanted = listed
            .iter()
            .filter(|tool| server.approval(&tool.name) != Approve::Never);
        let offers = wanted.map(|tool| Offer {
            name: names::take(server.name(), &tool.name, taken),
            server: server.clone(),
            listed: tool.clone(),
        });
        self.offers.extend(offers);
    }

    /// All of them, for the model.
    pub fn tools(&self) -> impl Iterator<Item = Tool> {
        self.offers.iter().map(|offer| Tool {
            name: offer.name.clone(),
            description: offer.listed.description.clone(),
            parameters: Some(offer.listed.parameters.clone()),
            strict: None,
        })
    }

    /// The tool that the model knows by this name.
    pub fn find(&self, name: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.name == name)
    }

    /// Calls it; its server is started again if it has died, once in a run. An error is a sentence for the model.
    pub async fn call(&self, offer: &Offer, arguments: Map<String, Value>) -> Result<Output, String> {
        let server = &offer.server;
        let session = match server.live().await {
            Some(session) => session,
            None if self.restarted.borrow_mut().insert(server.name().to_owned()) => server.session().await?,
            None => return Err(server.sentence("has ended once more and is not started again")),
        };
        let called = session.call(&offer.listed.name, arguments, server.call_timeout()).await;
        called.map_err(|problem| server.sentence(&problem))
    }
}

impl Offer {
    /// Its name at the server.
    pub fn tool(&self) -> &str {
        &self.listed.name
    }

    /// What it does, in its server's words.
    pub fn description(&self) -> Option<&str> {
        self.listed.description.as_deref()
    }

    /// Whether it may be called without asking.
    pub fn is_allowed(&self) -> bool {
        self.server.approval(&self.listed.name) == Approve::Always
    }

    /// The user allows it for as long as this process lives.
    pub fn allow(&self) {
        self.server.allow(&self.listed.name);
    }
}
