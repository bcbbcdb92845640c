//! What a message means: one arm a method, and nothing else.

use serde::Serialize;
use serde_json::Value;

use super::Server;
use super::lifecycle::Phase;
use super::reply::ReplyTo;
use crate::error::{Error, Kind};
use crate::protocol::{CancelRequestParams, Direction, METHODS};
use crate::rpc::{self, Incoming, Message, Params};

/// What a request comes to at once.
enum Outcome {
    /// The result, as JSON text.
    Now(String),
    /// The answer follows from a task or a run.
    Later,
}

/// Methods that are designed and come with a later version: whoever calls one is told so.
const PLANNED: &[&str] = &[
    "run/watch",
    "assistant/retry",
    "thread/fork",
    "thread/search",
    "thread/export",
    "thread/import",
];

impl Server {
    /// Takes one JSON text of the client.
    pub(super) fn on_text(&mut self, text: &str) {
        match rpc::parse(text) {
            Message::One(incoming) => self.on_incoming(incoming, None),
            Message::Batch(entries) => self.on_batch(entries),
            Message::Refused(error) => self.outbox.respond(rpc::refuse(None, &error)),
        }
    }

    fn on_batch(&mut self, entries: Vec<Incoming>) {
        let responses = entries.iter().filter(|entry| is_answered(entry)).count();
        let batch = self.batches.open(responses);
        for entry in entries {
            self.on_incoming(entry, Some(batch));
        }
    }

    fn on_incoming(&mut self, incoming: Incoming, batch: Option<u64>) {
        // `initialize` may bring the settings that runs of dead processes need; they wait for no other request.
        let is_settled = !matches!(&incoming, Incoming::Request { method, .. } if method == "initialize");
        if is_settled {
            self.take_up_orphans();
        }
        self.take_in(incoming, batch);
        if self.client.has_spoken {
            self.take_up_orphans();
        }
    }

    fn take_in(&mut self, incoming: Incoming, batch: Option<u64>) {
        match incoming {
            Incoming::Request { id, method, params } if is_topmost_cancel(&method, &params) => {
                self.cancel_request(&id.as_value());
            }
            Incoming::Request { id, method, params } => {
                let reply = ReplyTo { id: Some(id), batch };
                let outcome = self.request(reply.clone(), &method, &params);
                let is_beginning = method == "initialize";
                let is_begun = is_beginning && outcome.is_ok();
                // A client whose `initialize` was refused may try another.
                self.client.has_spoken |= !is_beginning || is_begun;
                match outcome {
                    Ok(Outcome::Now(result)) => self.respond(reply, Ok(result)),
                    Ok(Outcome::Later) => {}
                    Err(error) => self.respond(reply, Err(error)),
                }
                if is_begun {
                    self.warm_up();
                }
            }
            Incoming::Notification { method, params } => {
                self.notification(&method, &params, batch.is_some());
                self.client.has_spoken = true;
            }
            Incoming::Response { id, outcome } => self.answered(&id, outcome),
            Incoming::Refused { id, error } => {
                let text = rpc::refuse(id.as_ref(), &error);
                self.send_response(batch, text);
            }
        }
    }

    /// The dispatch table.
    fn request(&mut self, reply: ReplyTo, method: &str, params: &Params) -> Result<Outcome, Error> {
        if self.phase != Phase::Open && self.phase != Phase::InputEnded {
            return Err(Error::new(
                Kind::ShuttingDown,
                "assistd is shutting down and takes no more requests",
            ));
        }
        if reply.batch.is_some() && matches!(method, "initialize" | "shutdown" | "exit") {
            return Err(Error::new(
                Kind::InvalidRequest,
                format!("`{method}` cannot be part of a batch"),
            ));
        }
        // The arms that give a value answer at once; from the others the answer follows.
        match method {
            "initialize" => return now(&self.initialize(params.decode()?)?),
            "shutdown" => self.shutdown(reply, params.decode()?),
            "assistant/send" => self.send(reply, params.decode()?)?,
            "assistant/cancel" => self.cancel(reply, params.decode()?)?,
            "assistant/list" => self.list_assistants(reply, params.decode()?),
            "assistant/get" => self.get_assistant(reply, params.decode()?),
            "thread/create" => self.create_thread(reply, params.decode()?)?,
            "thread/list" => self.list_threads(reply, params.decode()?)?,
            "thread/read" => self.read_thread(reply, params.decode()?)?,
            "thread/update" => self.update_thread(reply, params.decode()?)?,
            "thread/delete" => self.delete_thread(reply, params.decode()?),
            "run/get" => self.get_run(reply, params.decode()?),
            "message/read" => self.read_message(reply, params.decode()?),
            "tool/output" => return now(&self.tool_output(params.decode()?)?),
            "model/list" => self.list_models(reply, params.decode()?),
            "provider/list" => self.list_providers(reply, params.decode()?),
            "provider/check" => self.check_provider(reply, params.decode()?),
            "server/status" => self.status(reply, params.decode()?),
            "rpc.discover" => return now(&self.discover(params.decode()?)),
            "$/cancelRequest" => self.cancel_request_answered(reply, params.decode()?),
            method => return Err(unknown(method)),
        }
        Ok(Outcome::Later)
    }

    fn notification(&mut self, method: &str, params: &Params, is_in_batch: bool) {
        match method {
            "exit" if !is_in_batch => self.exit(),
            "assistant/send" => {
                // Nobody is told of a failure here: a notification has no response.
                let sent = params.decode().and_then(|params| self.send(ReplyTo::default(), params));
                if let Err(error) = sent {
                    tracing::warn!(%error, "a message sent as a notification was refused");
                }
            }
            "$/cancelRequest" => match params.decode::<CancelRequestParams>() {
                Ok(params) => self.cancel_request(&params.id),
                Err(error) => tracing::warn!(%error, "`$/cancelRequest` names no request"),
            },
            _ => {}
        }
    }
}

fn now(result: &impl Serialize) -> Result<Outcome, Error> {
    Ok(Outcome::Now(
        serde_json::to_string(result).expect("a result is plain data"),
    ))
}

/// Vim's form: the id of the request to cancel stands where a request has its own, and nobody waits for an answer.
fn is_topmost_cancel(method: &str, params: &Params) -> bool {
    method == "$/cancelRequest"
        && params
            .decode::<serde_json::Map<String, Value>>()
            .is_ok_and(|map| !map.contains_key("id"))
}

fn is_answered(entry: &Incoming) -> bool {
    match entry {
        Incoming::Request { method, params, .. } => !is_topmost_cancel(method, params),
        Incoming::Refused { .. } => true,
        Incoming::Notification { .. } | Incoming::Response { .. } => false,
    }
}

fn unknown(method: &str) -> Error {
    let error = Error::new(Kind::MethodNotFound, format!("unknown method `{method}`"));
    if PLANNED.contains(&method) {
        return error.with_hint(format!(
            "`{method}` is not built yet in version {}",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let requests = METHODS.iter().filter(|row| row.direction == Direction::ToServer);
    let nearest = requests
        .map(|row| (strsim::damerau_levenshtein(method, row.name), row.name))
        .min();
    match nearest {
        Some((distance, name)) if distance <= 3 => error.with_hint(format!("did you mean `{name}`?")),
        _ => error,
    }
}
