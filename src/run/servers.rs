//! The tools of MCP servers in a run: offered at its beginning, called when the user agrees.
//!
//! A server that cannot be used costs the run its tools and nothing else: an event says why.

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::{Run, tools};
use crate::desk::Unanswered;
use crate::mcp::{Offer, Server, Toolbox};
use crate::protocol::{Decision, McpStatus, RunEvent, ToolApproveParams};
use crate::provider::ToolCall;
use crate::rpc;

impl Run {
    /// Offers the tools of these servers to the model. The client's own keep their names.
    pub(super) async fn open_servers(&mut self, servers: &[Rc<Server>]) {
        if servers.is_empty() {
            return;
        }
        let started: Vec<_> = servers.iter().filter(|server| !server.is_live()).collect();
        for server in &started {
            self.tell_server(server.name(), McpStatus::Starting, None);
        }
        self.flush();
        let taken: HashSet<String> = self.request.tools.iter().map(|tool| tool.name.clone()).collect();
        let token = self.stop.token();
        let (toolbox, problems) = tokio::select! {
            biased;
            () = token.cancelled() => return,
            opened = Toolbox::open(servers, taken) => opened,
        };
        for server in started {
            if problems.iter().all(|(failed, _)| failed.name() != server.name()) {
                self.tell_server(server.name(), McpStatus::Ready, None);
            }
        }
        for (server, problem) in problems {
            self.tell_server(server.name(), McpStatus::Failed, Some(problem));
        }
        self.flush();
        self.request.tools.extend(toolbox.tools());
        self.toolbox = toolbox;
    }

    fn tell_server(&mut self, server: &str, status: McpStatus, message: Option<String>) {
        self.event(RunEvent::Mcp {
            server: server.to_owned(),
            status,
            message,
        });
    }

    /// Calls a server's tool, if the user lets it. An error is a sentence for the model.
    pub(super) async fn call_server(&self, call: &ToolCall, offer: &Offer) -> Result<(String, bool), String> {
        let arguments = match tools::arguments(call)? {
            Value::Object(arguments) => arguments,
            _ => return Err(format!("the arguments of `{}` are not an object", call.name)),
        };
        if !offer.is_allowed() {
            self.ask_user(call, offer, &arguments).await?;
        }
        let output = self.toolbox.call(offer, arguments).await?;
        Ok((output.text, output.is_error))
    }

    async fn ask_user(&self, call: &ToolCall, offer: &Offer, arguments: &Map<String, Value>) -> Result<(), String> {
        let name = &call.name;
        let Some(desk) = &self.approval else {
            return Err(format!(
                "the tool `{name}` was not called: its user has to agree, and cannot be asked here; \
                 `approve` of `[mcp.{}]` in config.toml can allow it",
                offer.server.name()
            ));
        };
        let address = self.lane.address();
        let params = ToolApproveParams {
            thread_id: address.thread_id.clone(),
            run_id: address.run_id.clone(),
            call_id: call.id.clone(),
            server: offer.server.name().to_owned(),
            name: offer.tool().to_owned(),
            description: offer.description().map(str::to_owned),
            arguments: Value::Object(arguments.clone()),
        };
        self.check_size(call, &rpc::request(u64::MAX, "tool/approve", &params))?;
        match desk.approve(params).await {
            Ok(Decision::Allow) => Ok(()),
            Ok(Decision::AllowAlways) => {
                offer.allow();
                Ok(())
            }
            Ok(Decision::Deny) => Err(format!("the tool `{name}` was not called: the user said no")),
            Err(Unanswered::Late(limit)) => Err(format!(
                "the tool `{name}` was not called: its user did not agree within {} s",
                limit.as_secs_f64()
            )),
            Err(why) => Err(format!("the tool `{name}` was not called: {why}")),
        }
    }
}
