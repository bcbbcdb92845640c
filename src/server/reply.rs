//! Who is to be answered, and the one place where answers leave.

use std::collections::HashMap;

use super::Server;
use crate::error::{Error, Kind};
use crate::rpc::{self, Id};

/// Where an answer goes: a request's id, alone or as a part of a batch. A notification has none.
#[derive(Debug, Clone, Default)]
pub(super) struct ReplyTo {
    /// The request's id.
    pub(super) id: Option<Id>,
    /// The batch that the request came in.
    pub(super) batch: Option<u64>,
}

/// The batches whose responses are not all ready.
#[derive(Default)]
pub(super) struct Batches {
    open: HashMap<u64, Batch>,
    next: u64,
}

struct Batch {
    missing: usize,
    ready: Vec<String>,
}

impl Batches {
    /// A batch that will have this many responses.
    pub(super) fn open(&mut self, responses: usize) -> u64 {
        self.next += 1;
        if responses > 0 {
            self.open.insert(
                self.next,
                Batch {
                    missing: responses,
                    ready: Vec::new(),
                },
            );
        }
        self.next
    }

    /// Puts in a response. Gives all of them when it was the last.
    fn put(&mut self, key: u64, response: String) -> Option<Vec<String>> {
        let batch = self.open.get_mut(&key)?;
        batch.ready.push(response);
        batch.missing -= 1;
        if batch.missing > 0 {
            return None;
        }
        self.open.remove(&key).map(|batch| batch.ready)
    }
}

impl Server {
    /// Sends the response to a request: its result as JSON text, or an error. Every request passes here once, but for
    /// the one that asked for a run, whose response goes behind the run's last notification.
    pub(super) fn respond(&mut self, to: ReplyTo, result: Result<String, Error>) {
        let Some(id) = &to.id else {
            return;
        };
        let text = response(id, result, self.outbox.max_message());
        self.send_response(to.batch, text);
    }

    /// Sends a response that is ready, or puts it into its batch.
    pub(super) fn send_response(&mut self, batch: Option<u64>, text: String) {
        match batch {
            None => self.outbox.respond(text),
            Some(key) => {
                if let Some(responses) = self.batches.put(key, text) {
                    let text = array(responses, self.outbox.max_message());
                    self.outbox.respond(text);
                }
            }
        }
    }
}

/// A response's text; an error in its place if it is larger than the client takes.
pub(super) fn response(id: &Id, result: Result<String, Error>, max_message: usize) -> String {
    let text = match result {
        Ok(result) => rpc::respond_raw(id, &result),
        Err(error) => return rpc::refuse(Some(id), &error),
    };
    if text.len() <= max_message {
        return text;
    }
    rpc::refuse(Some(id), &too_large(text.len(), max_message))
}

/// The array of a batch. What makes it too large for the client is replaced by errors, the largest first.
fn array(mut responses: Vec<String>, max_message: usize) -> String {
    let size = |responses: &[String]| responses.iter().map(|text| text.len() + 1).sum::<usize>() + 1;
    while size(&responses) > max_message {
        let Some(largest) = responses.iter_mut().max_by_key(|text| text.len()) else {
            break;
        };
        let error = too_large(largest.len(), max_message);
        let refused = rpc::refuse(rpc::response_id(largest).as_ref(), &error);
        if refused.len() >= largest.len() {
            return rpc::refuse(None, &too_large(size(&responses), max_message));
        }
        *largest = refused;
    }
    format!("[{}]", responses.join(","))
}

fn too_large(size: usize, max_message: usize) -> Error {
    Error::new(
        Kind::OutputTooLarge,
        format!("the result has {size} bytes, and this client takes messages of up to {max_message}"),
    )
    .with_size(size as u64)
    .with_hint("ask for less, or say a larger `maxMessageBytes` in `initialize`")
}
