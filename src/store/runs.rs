//! Runs in SQL: how they begin, start and end.

use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::Value;

use super::column::{
    json, optional_json, read_json, read_number, read_optional_json, read_optional_number, read_optional_word,
    read_word, word,
};
use super::failure::Failure;
use super::journal::Journal;
use super::messages::{self, Within};
use super::orphan::Orphan;
use super::record::Batch;
use super::{Background, NewRun, Target, now, rounds, snapshot, threads};
use crate::error::{Error, Kind};
use crate::protocol::{Part, RunEntry, RunStatus};
use crate::thread::{Conversation, Round};
use crate::transcript::Outcome;

/// What a run needs of its thread.
pub struct Material {
    pub conversation: Conversation,
    pub rounds: Vec<Round>,
    pub anchor: Option<Value>,
}

/// A run that has not ended.
#[derive(Debug)]
pub struct Live {
    /// Its key.
    key: i64,
    id: String,
    /// Its thread's key.
    thread: i64,
    status: RunStatus,
    provider: String,
    message_id: String,
    /// The user's message, while it is not in the thread.
    content: Option<Vec<Part>>,
    background: Option<Background>,
}

/// Stores a run of this `owner`, and its thread if that is new; the thread's id, and what the run needs unless it waits.
pub fn begin(tx: &Transaction, new: &NewRun, owner: &str) -> Result<(String, Option<Material>), Failure> {
    let (thread, thread_id) = match &new.thread {
        Target::Existing(id) => (threads::key(tx, id)?, id),
        Target::New(thread) => (threads::insert(tx, thread)?, &thread.id),
    };
    if let Some(assistant) = &new.assistant {
        threads::remember_assistant(tx, thread, assistant)?;
    }
    let continues = match &new.outputs[..] {
        [] => None,
        outputs => Some(rounds::answer(tx, thread, thread_id, outputs)?),
    };
    let at = now();
    let run = insert(tx, new, thread, owner, at)?;
    match (&new.content, continues) {
        (None, Some(continues)) => go_on_from(tx, run, continues)?,
        (None, None) => return Err(Error::new(Kind::Internal, "a run answers a message or goes on from a run").into()),
        (Some(_), _) => {}
    }
    threads::touch(tx, thread, at)?;
    if new.queued {
        return Ok((thread_id.clone(), None));
    }
    refuse_second(tx, thread, run)?;
    if let Some(content) = &new.content {
        messages::insert_question(tx, Within { thread, run, at }, &new.message_id, content)?;
    }
    set_under_way(tx, run)?;
    Ok((thread_id.clone(), Some(material(tx, thread, run, &new.provider)?)))
}

/// A queued run's turn has come: its message enters the thread.
pub fn start(tx: &Transaction, id: &str) -> Result<Material, Failure> {
    let Some(live) = live(tx, id)? else {
        let ended = entry(tx, id)?;
        let message = format!("run `{id}` has ended as `{}` and cannot start", word(ended.status));
        return Err(Error::new(Kind::Internal, message).into());
    };
    refuse_second(tx, live.thread, live.key)?;
    enter_question(tx, &live, now())?;
    set_under_way(tx, live.key)?;
    threads::touch(tx, live.thread, now())?;
    material(tx, live.thread, live.key, &live.provider)
}

/// Puts the user's message of a queued run into its thread; one that is there stays.
pub fn enter_question(tx: &Transaction, live: &Live, at: i64) -> Result<(), Failure> {
    let Some(content) = &live.content else {
        return Ok(());
    };
    let within = Within {
        thread: live.thread,
        run: live.key,
        at,
    };
    messages::insert_question(tx, within, &live.message_id, content)?;
    tx.prepare_cached("UPDATE run SET content = NULL WHERE key = ?1")?
        .execute([live.key])?;
    Ok(())
}

/// Folds what a run said, and its end, into the database.
pub fn fold(tx: &Transaction, live: &Live, outcome: &Outcome, at: i64) -> Result<(), Failure> {
    let within = Within {
        thread: live.thread,
        run: live.key,
        at,
    };
    for said in &outcome.messages {
        messages::insert_answer(tx, within, said)?;
    }
    if let Some(anchor) = &outcome.anchor {
        set_anchor(tx, live.thread, &live.provider, anchor)?;
    }
    set_end(tx, live.key, outcome, at)?;
    threads::touch(tx, live.thread, at)
}

/// Stores what a provider wants back with the thread's next request.
pub fn set_anchor(tx: &Transaction, thread: i64, provider: &str, anchor: &serde_json::Value) -> Result<(), Failure> {
    tx.prepare_cached("INSERT OR REPLACE INTO anchor (thread, provider, value) VALUES (?1, ?2, ?3)")?
        .execute((thread, provider, json(anchor)))?;
    Ok(())
}

/// A run that has not ended; none if it has, or was deleted with its thread.
pub fn live(tx: &Transaction, id: &str) -> Result<Option<Live>, Failure> {
    let live = tx
        .prepare_cached(
            "SELECT key, thread, status, provider, message_id, content, background, id FROM run
             WHERE id = ?1 AND ended_at IS NULL",
        )?
        .query_row([id], |row| {
            Ok(Live {
                key: row.get(0)?,
                thread: row.get(1)?,
                status: read_word(row, 2)?,
                provider: row.get(3)?,
                message_id: row.get(4)?,
                content: read_optional_json(row, 5)?,
                background: read_optional_json(row, 6)?,
                id: row.get(7)?,
            })
        })
        .optional()?;
    Ok(live)
}

impl Live {
    /// Whether it still waits for its thread.
    pub fn is_queued(&self) -> bool {
        self.status == RunStatus::Queued
    }
}

/// The ids of a process's runs that have not ended: those under way first, then those that wait, in their order.
pub fn live_of(tx: &Transaction, owner: &str) -> Result<Vec<String>, Failure> {
    let mut statement =
        tx.prepare_cached("SELECT id FROM run WHERE owner = ?1 ORDER BY status <> 'inProgress', key")?;
    let ids = statement.query_map([owner], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Whether a process has a run that goes on upstream though nobody listens.
pub fn has_background(tx: &Transaction, owner: &str) -> Result<bool, Failure> {
    let mut statement = tx.prepare_cached("SELECT 1 FROM run WHERE owner = ?1 AND background IS NOT NULL LIMIT 1")?;
    Ok(statement.exists([owner])?)
}

/// Makes a dead process's run the heir's own; none if the run does not go on by itself.
pub fn adopt(tx: &Transaction, live: &Live, heir: &Journal, records: Batch) -> Result<Option<Orphan>, Failure> {
    let Some(background) = live.background.clone() else {
        return Ok(None);
    };
    tx.prepare_cached("UPDATE run SET owner = ?2 WHERE key = ?1")?
        .execute((live.key, heir.name()))?;
    let material = material(tx, live.thread, live.key, &live.provider)?;
    Ok(Some(Orphan {
        run: entry(tx, &live.id)?,
        background,
        snapshot: snapshot(material, heir),
        records,
    }))
}

/// The journals of all processes that have runs.
pub fn owners(tx: &Transaction) -> Result<Vec<String>, Failure> {
    let mut statement = tx.prepare_cached("SELECT DISTINCT owner FROM run WHERE owner IS NOT NULL ORDER BY owner")?;
    let owners = statement.query_map([], |row| row.get(0))?;
    Ok(owners.collect::<Result<_, _>>()?)
}

/// Fails if a thread has a run, waiting or under way, of a process other than `owner`.
pub fn refuse_others(tx: &Transaction, thread_id: &str, owner: Option<&str>) -> Result<(), Failure> {
    let thread = threads::key(tx, thread_id)?;
    let other = tx
        .prepare_cached(
            "SELECT id, owner FROM run WHERE thread = ?1 AND owner IS NOT NULL AND owner IS NOT ?2 LIMIT 1",
        )?
        .query_row((thread, owner), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    other.map_or(Ok(()), |(run_id, owner)| {
        Err(Failure::Busy {
            thread_id: thread_id.to_owned(),
            run_id,
            owner,
        })
    })
}

/// The run as the wire shows it.
pub fn entry(tx: &Transaction, id: &str) -> Result<RunEntry, Failure> {
    let found = tx
        .prepare_cached(
            "SELECT run.id, thread.id, status, stop_reason, provider, model, run.assistant, seq, steps, tool_calls,
                 usage, error, run.created_at, ended_at,
                 (SELECT id FROM run AS before WHERE before.key = run.continues), run.key
             FROM run JOIN thread ON thread.key = run.thread WHERE run.id = ?1",
        )?
        .query_row([id], |row| Ok((row.get(15)?, read_entry(row)?)))
        .optional()?;
    let (key, mut entry) = found.ok_or_else(|| Error::not_found("run", id))?;
    let (messages, text) = messages::said_by(tx, key)?;
    entry.text = (!messages.is_empty()).then_some(text);
    entry.messages = messages;
    Ok(entry)
}

fn insert(tx: &Transaction, new: &NewRun, thread: i64, owner: &str, at: i64) -> Result<i64, Failure> {
    tx.prepare_cached(
        "INSERT INTO run (id, thread, owner, status, provider, model, assistant, message_id, content, seq, steps,
             tool_calls, background, created_at)
         VALUES (?1, ?2, ?3, 'queued', ?4, ?5, ?6, ?7, ?8, 0, '[]', '[]', ?9, ?10)",
    )?
    .execute((
        &new.run_id,
        thread,
        owner,
        &new.provider,
        &new.model,
        &new.assistant,
        &new.message_id,
        optional_json(new.content.as_ref().filter(|_| new.queued)),
        optional_json(new.background.as_ref()),
        at,
    ))?;
    Ok(tx.last_insert_rowid())
}

/// The run has no message of its own: it answers the one that the other run did.
fn go_on_from(tx: &Transaction, run: i64, other: i64) -> Result<(), Failure> {
    tx.prepare_cached(
        "UPDATE run SET continues = ?2, message_id = (SELECT message_id FROM run AS other WHERE other.key = ?2)
         WHERE key = ?1",
    )?
    .execute([run, other])?;
    Ok(())
}

/// Fails if another run of the thread is under way. (The unique index would refuse it too, but not say which run.)
fn refuse_second(tx: &Transaction, thread: i64, run: i64) -> Result<(), Failure> {
    let other = tx
        .prepare_cached(
            "SELECT thread.id, run.id, run.owner FROM run JOIN thread ON thread.key = run.thread
             WHERE run.thread = ?1 AND run.status = 'inProgress' AND run.key <> ?2",
        )?
        .query_row((thread, run), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    other.map_or(Ok(()), |(thread_id, run_id, owner)| {
        Err(Failure::Busy {
            thread_id,
            run_id,
            owner,
        })
    })
}

fn set_under_way(tx: &Transaction, key: i64) -> Result<(), Failure> {
    tx.prepare_cached("UPDATE run SET status = 'inProgress' WHERE key = ?1")?
        .execute([key])?;
    Ok(())
}

fn set_end(tx: &Transaction, key: i64, outcome: &Outcome, at: i64) -> Result<(), Failure> {
    tx.prepare_cached(
        "UPDATE run SET owner = NULL, status = ?2, stop_reason = ?3, seq = ?4, steps = ?5, tool_calls = ?6, usage = ?7,
             error = ?8, ended_at = ?9, rounds = ?10, background = NULL
         WHERE key = ?1",
    )?
    .execute((
        key,
        word(outcome.end.status),
        word(outcome.end.stop_reason),
        outcome.seq as i64,
        json(&outcome.steps),
        json(&outcome.end.tool_calls),
        optional_json(outcome.usage.as_ref()),
        optional_json(outcome.end.error.as_ref()),
        at,
        json(&outcome.rounds),
    ))?;
    Ok(())
}

fn material(tx: &Transaction, thread: i64, run: i64, provider: &str) -> Result<Material, Failure> {
    let anchor = tx
        .prepare_cached("SELECT value FROM anchor WHERE thread = ?1 AND provider = ?2")?
        .query_row((thread, provider), |row| read_json(row, 0))
        .optional()?;
    let (conversation, rounds) = messages::conversation(tx, thread, run, provider)?;
    Ok(Material {
        conversation,
        rounds,
        anchor,
    })
}

fn read_entry(row: &Row) -> rusqlite::Result<RunEntry> {
    Ok(RunEntry {
        run_id: row.get(0)?,
        thread_id: row.get(1)?,
        status: read_word(row, 2)?,
        stop_reason: read_optional_word(row, 3)?,
        provider: row.get(4)?,
        model: row.get(5)?,
        assistant: row.get(6)?,
        seq: read_number(row, 7)?,
        messages: Vec::new(),
        text: None,
        steps: read_json(row, 8)?,
        tool_calls: read_json(row, 9)?,
        usage: read_optional_json(row, 10)?,
        error: read_optional_json(row, 11)?,
        created_at: read_number(row, 12)?,
        ended_at: read_optional_number(row, 13)?,
        continues: row.get(14)?,
        omitted: None,
    })
}
