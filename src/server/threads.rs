//! `thread/…`, `run/get` and `message/read`: what the store has, with what is live put over it.

use serde::Serialize;

use super::prepared::check_metadata;
use super::queue::Arrival;
use super::reply::ReplyTo;
use super::{LiveRun, Server};
use crate::error::{Error, Kind};
use crate::ids;
use crate::outbox::escaped_len;
use crate::protocol::{
    MessageEntry, MessageReadParams, MessageReadResult, Part, Role, RunEntry, RunGetParams, RunStatus,
    ThreadCreateParams, ThreadDeleteParams, ThreadListParams, ThreadListResult, ThreadReadParams, ThreadReadResult,
    ThreadUpdateParams,
};
use crate::store::NewThread;

/// Items of a page where the request names no limit.
const PAGE: u32 = 50;

/// The most that a request may ask for.
const MAX_PAGE: u32 = 200;

/// What an envelope and an id add to a result, in bytes.
const ENVELOPE: usize = 1200;

impl Server {
    /// `thread/create`
    pub(super) fn create_thread(&mut self, reply: ReplyTo, params: ThreadCreateParams) -> Result<(), Error> {
        let metadata = params.metadata.unwrap_or_default();
        check_metadata(&metadata)?;
        self.check_assistant(params.assistant.as_deref())?;
        let created = self.store.create_thread(NewThread {
            id: ids::thread(),
            title: params.title,
            assistant: params.assistant,
            metadata,
            truncation: params.truncation.unwrap_or_default(),
        });
        self.errand(reply, created);
        Ok(())
    }

    /// `thread/list`
    pub(super) fn list_threads(&mut self, reply: ReplyTo, params: ThreadListParams) -> Result<(), Error> {
        let limit = page_limit(params.limit)?;
        let store = self.store.clone();
        let room = self.result_room();
        let first = store.list_threads(params.cursor.clone(), limit);
        self.errand(reply, async move {
            let (mut threads, mut next) = first.await?;
            let mut limit = limit;
            loop {
                let page = ThreadListResult { threads, next };
                if limit == 1 || fits(&page, room) {
                    return Ok(page);
                }
                limit = page.threads.len().div_ceil(2).max(1) as u32;
                (threads, next) = store.list_threads(params.cursor.clone(), limit).await?;
            }
        });
        Ok(())
    }

    /// `thread/read`
    pub(super) fn read_thread(&mut self, reply: ReplyTo, params: ThreadReadParams) -> Result<(), Error> {
        let limit = page_limit(params.limit)?;
        let thread_id = params.thread_id.clone();
        self.in_turn(&thread_id, move |server| server.read_page(reply, params, limit));
        Ok(())
    }

    fn read_page(&mut self, reply: ReplyTo, params: ThreadReadParams, limit: u32) {
        let store = self.store.clone();
        let room = self.result_room();
        let live = match params.cursor {
            None => self.live_messages(&params.thread_id),
            Some(_) => Vec::new(),
        };
        let first = store.read_thread(params.thread_id.clone(), params.cursor.clone(), limit);
        self.errand(reply, async move {
            let (mut thread, mut stored, mut next) = first.await?;
            let mut limit = limit;
            loop {
                let is_unstored =
                    |live: &&MessageEntry| stored.iter().all(|stored| stored.message_id != live.message_id);
                let unstored: Vec<MessageEntry> = live.iter().filter(is_unstored).cloned().collect();
                let messages = unstored.into_iter().chain(stored).collect();
                let mut page = ThreadReadResult { thread, messages, next };
                if fits(&page, room) {
                    return Ok(page);
                }
                if limit == 1 {
                    leave_out_contents(&mut page, room);
                    return Ok(page);
                }
                limit = limit.div_ceil(2).min(page.messages.len() as u32).max(1);
                (thread, stored, next) = store
                    .read_thread(params.thread_id.clone(), params.cursor.clone(), limit)
                    .await?;
            }
        });
    }

    /// `thread/update`
    pub(super) fn update_thread(&mut self, reply: ReplyTo, params: ThreadUpdateParams) -> Result<(), Error> {
        if let Some(metadata) = &params.metadata {
            check_metadata(metadata)?;
        }
        self.check_assistant(params.assistant.as_deref())?;
        let thread_id = params.thread_id.clone();
        self.in_turn(&thread_id, move |server| {
            let updated = server.store.update_thread(params);
            server.errand(reply, updated);
        });
        Ok(())
    }

    /// `thread/delete`: keeps its place behind what the thread was asked before.
    pub(super) fn delete_thread(&mut self, reply: ReplyTo, params: ThreadDeleteParams) {
        self.arrive(&params.thread_id, Arrival::Delete(reply));
    }

    /// `run/get`
    pub(super) fn get_run(&mut self, reply: ReplyTo, params: RunGetParams) {
        let stored = self.store.run(params.run_id.clone());
        let live = self.runs.get(&params.run_id).map(Live::of);
        let room = self.result_room();
        self.errand(reply, async move {
            let mut run = stored.await?;
            if let Some(live) = live
                && !run.status.is_end()
            {
                live.put_over(&mut run);
            }
            Ok(fitted(run, room))
        });
    }

    /// `message/read`
    pub(super) fn read_message(&mut self, reply: ReplyTo, params: MessageReadParams) {
        let live = self
            .runs
            .values()
            .flat_map(Self::messages_of)
            .find(|message| message.message_id == params.message_id);
        let stored = self.store.message(params.message_id.clone());
        let room = self.result_room();
        self.errand(reply, async move {
            let message = match live {
                Some(live) => live,
                None => stored.await?,
            };
            read_part(message, params.index, params.cursor.as_deref(), room)
        });
    }

    /// The messages that a thread's running run has made so far, newest first.
    fn live_messages(&self, thread_id: &str) -> Vec<MessageEntry> {
        self.runs
            .values()
            .filter(|run| run.thread_id == thread_id)
            .flat_map(Self::messages_of)
            .map(MessageEntry::without_data)
            .collect()
    }

    fn messages_of(run: &LiveRun) -> Vec<MessageEntry> {
        let run_id = run.lane.as_ref().map(|lane| lane.address().run_id.clone());
        let outcome = run.transcript.borrow().finish(run.stop.end());
        let entry = |said: crate::transcript::SaidMessage| MessageEntry {
            message_id: said.id,
            role: Role::Assistant,
            status: if said.status == RunStatus::Completed {
                said.status
            } else {
                RunStatus::InProgress
            },
            content: Some(said.content),
            omitted: None,
            run_id: run_id.clone(),
            created_at: crate::store::now() as u64,
        };
        outcome.messages.into_iter().rev().map(entry).collect()
    }

    fn check_assistant(&self, assistant: Option<&str>) -> Result<(), Error> {
        match assistant {
            Some(name) => {
                let settings = self.choosing.settled(self.settings.clone());
                settings.choose(Some(name), None).map(|_| ())
            }
            None => Ok(()),
        }
    }

    fn result_room(&self) -> usize {
        self.outbox.max_message().saturating_sub(ENVELOPE)
    }
}

/// A run's live state, taken when it was asked for.
struct Live {
    status: RunStatus,
    seq: u64,
    messages: Vec<String>,
    text: String,
    steps: Vec<crate::protocol::RunStep>,
    usage: Option<crate::protocol::Usage>,
}

impl Live {
    fn of(run: &LiveRun) -> Live {
        let transcript = run.transcript.borrow();
        Live {
            status: run.stage.status(),
            seq: run.seq.get(),
            messages: transcript.message_ids(),
            text: transcript.text(),
            steps: transcript.steps().to_vec(),
            usage: transcript.usage(),
        }
    }

    fn put_over(self, run: &mut RunEntry) {
        run.status = self.status;
        run.seq = self.seq;
        run.messages = self.messages;
        run.text = Some(self.text);
        run.steps = self.steps;
        run.usage = self.usage;
    }
}

/// A run without what does not fit: first its steps, then its text.
fn fitted(mut run: RunEntry, room: usize) -> RunEntry {
    let mut omitted = Vec::new();
    if !fits(&run, room) && !run.steps.is_empty() {
        run.steps.clear();
        omitted.push("steps".to_owned());
    }
    if !fits(&run, room) && run.text.take().is_some() {
        omitted.push("text".to_owned());
    }
    run.omitted = (!omitted.is_empty()).then_some(omitted);
    run
}

/// Leaves out contents, the largest first, until the page fits.
fn leave_out_contents(page: &mut ThreadReadResult, room: usize) {
    while !fits(page, room) {
        let size = |message: &MessageEntry| message.content.as_ref().map_or(0, json_len);
        let Some(largest) = page.messages.iter_mut().max_by_key(|message| size(message)) else {
            return;
        };
        if largest.content.take().is_none() {
            return;
        }
        largest.omitted = Some(vec!["content".into()]);
    }
}

/// A page of one part of a message. A cursor is the place in the part, in bytes.
fn read_part(message: MessageEntry, index: u32, cursor: Option<&str>, room: usize) -> Result<MessageReadResult, Error> {
    let content = message.content.unwrap_or_default();
    let parts = content.len() as u32;
    let part = content.into_iter().nth(index as usize).ok_or_else(|| {
        let id = &message.message_id;
        Error::new(
            Kind::NotFound,
            format!("message `{id}` has {parts} parts, and no part {index}"),
        )
    })?;
    let mut result = MessageReadResult {
        text: None,
        data: None,
        part: None,
        parts,
        next: None,
    };
    match part {
        Part::Text { text, .. } | Part::Refusal { text } | Part::Resource { text: Some(text), .. } => {
            let (page, next) = page_of(&text, cursor, room)?;
            result.text = Some(page);
            result.next = next;
        }
        mut other => {
            let data = other.data_mut().and_then(Option::take);
            let room = room.saturating_sub(json_len(&other));
            result.part = cursor.is_none().then_some(other);
            if let Some(data) = data {
                // Four characters are three bytes: each page can be decoded by itself.
                let (page, next) = page_of(&data, cursor, room / 4 * 4)?;
                result.data = Some(page);
                result.next = next;
            }
        }
    }
    Ok(result)
}

fn page_of(text: &str, cursor: Option<&str>, room: usize) -> Result<(String, Option<String>), Error> {
    let start = match cursor {
        None => 0,
        Some(cursor) => cursor
            .parse()
            .ok()
            .filter(|start| text.is_char_boundary(*start))
            .ok_or_else(|| Error::invalid_params("expected `cursor` to be the `next` of the page before"))?,
    };
    let rest = &text[start..];
    if rest.len() <= room && escaped_len(rest) <= room {
        return Ok((rest.to_owned(), None));
    }
    let mut escaped = 0;
    let mut end = 0;
    for (position, character) in rest.char_indices() {
        escaped += escaped_len(character.encode_utf8(&mut [0; 4]));
        if escaped > room {
            break;
        }
        end = position + character.len_utf8();
    }
    Ok((rest[..end].to_owned(), Some((start + end).to_string())))
}

fn page_limit(limit: Option<u32>) -> Result<u32, Error> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        limit => Err(Error::invalid_params(format!(
            "expected `limit` to be from 1 to {MAX_PAGE}, found {limit}"
        ))),
    }
}

fn fits(result: &impl Serialize, room: usize) -> bool {
    json_len(result) <= room
}

fn json_len(value: &impl Serialize) -> usize {
    serde_json::to_string(value).expect("a result is plain data").len()
}
