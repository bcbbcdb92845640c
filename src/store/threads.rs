//! Threads in SQL.

use rusqlite::{OptionalExtension, Row, Transaction};

use super::column::{json, read_json, read_number, read_word, word};
use super::failure::Failure;
use super::page::{self, Page};
use super::{NewThread, now};
use crate::error::Error;
use crate::protocol::{ThreadEntry, ThreadUpdateParams, Truncation};

const ENTRY: &str = "
    SELECT id, title, assistant, metadata, truncation, messages, created_at, updated_at,
        (SELECT run.id FROM run WHERE run.thread = thread.key AND run.status = 'inProgress'), touched
    FROM thread";

/// Makes a thread; its key.
pub fn insert(tx: &Transaction, new: &NewThread) -> Result<i64, Failure> {
    tx.prepare_cached(
        "INSERT INTO thread (id, title, assistant, metadata, truncation, messages, created_at, updated_at, touched)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6, (SELECT coalesce(max(touched), 0) + 1 FROM thread))",
    )?
    .execute((
        &new.id,
        &new.title,
        &new.assistant,
        json(&new.metadata),
        word(new.truncation),
        now(),
    ))?;
    Ok(tx.last_insert_rowid())
}

/// The key of a thread that has to exist.
pub fn key(tx: &Transaction, id: &str) -> Result<i64, Failure> {
    let key = tx
        .prepare_cached("SELECT key FROM thread WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    key.ok_or_else(|| Error::not_found("thread", id).into())
}

/// The thread as the wire shows it.
pub fn entry(tx: &Transaction, id: &str) -> Result<ThreadEntry, Failure> {
    let entry = tx
        .prepare_cached(&format!("{ENTRY} WHERE id = ?1"))?
        .query_row([id], read_entry)
        .optional()?;
    entry.ok_or_else(|| Error::not_found("thread", id).into())
}

/// A page of threads, the last written to first. A thread that is written to while somebody reads pages goes to the
/// head of the list, where the next reading finds it; all others stay in their places.
pub fn list(tx: &Transaction, cursor: Option<&str>, limit: u32) -> Result<Page<ThreadEntry>, Failure> {
    let before = page::parse(cursor)?;
    let mut statement = tx.prepare_cached(&format!("{ENTRY} WHERE touched < ?1 ORDER BY touched DESC LIMIT ?2"))?;
    let rows = statement.query_map((before, page::fetched(limit)), |row| {
        Ok((row.get(9)?, read_entry(row)?))
    })?;
    Ok(page::cut(rows.collect::<Result<_, _>>()?, limit))
}

/// Changes what is given.
pub fn update(tx: &Transaction, params: &ThreadUpdateParams) -> Result<ThreadEntry, Failure> {
    let key = key(tx, &params.thread_id)?;
    tx.prepare_cached(
        "UPDATE thread SET title = coalesce(?2, title), assistant = coalesce(?3, assistant),
             metadata = coalesce(?4, metadata), truncation = coalesce(?5, truncation)
         WHERE key = ?1",
    )?
    .execute((
        key,
        &params.title,
        &params.assistant,
        params.metadata.as_ref().map(json),
        params.truncation.map(word),
    ))?;
    touch(tx, key, now())?;
    entry(tx, &params.thread_id)
}

/// Removes the thread with all that belongs to it.
pub fn delete(tx: &Transaction, id: &str) -> Result<(), Failure> {
    let key = key(tx, id)?;
    tx.execute("DELETE FROM thread WHERE key = ?1", [key])?;
    Ok(())
}

/// The thread was written to: it goes to the head of the list.
pub fn touch(tx: &Transaction, key: i64, at: i64) -> Result<(), Failure> {
    tx.prepare_cached(
        "UPDATE thread SET updated_at = max(updated_at, ?2), touched = (SELECT max(touched) + 1 FROM thread)
         WHERE key = ?1",
    )?
    .execute((key, at))?;
    Ok(())
}

/// Gives a thread that has no assistant yet the one that it remembers from now on.
pub fn remember_assistant(tx: &Transaction, key: i64, assistant: &str) -> Result<(), Failure> {
    tx.prepare_cached("UPDATE thread SET assistant = ?2 WHERE key = ?1 AND assistant IS NULL")?
        .execute((key, assistant))?;
    Ok(())
}

/// Gives the thread a title, if it has neither one nor a message yet.
pub fn title_by_first_message(tx: &Transaction, key: i64, title: &str) -> Result<(), Failure> {
    tx.prepare_cached("UPDATE thread SET title = ?2 WHERE key = ?1 AND title IS NULL AND messages = 0")?
        .execute((key, title))?;
    Ok(())
}

/// What the thread leaves out when the model's context is full.
pub fn truncation(tx: &Transaction, key: i64) -> Result<Truncation, Failure> {
    let truncation = tx
        .prepare_cached("SELECT truncation FROM thread WHERE key = ?1")?
        .query_row([key], |row| read_word(row, 0))?;
    Ok(truncation)
}

fn read_entry(row: &Row) -> rusqlite::Result<ThreadEntry> {
    Ok(ThreadEntry {
        thread_id: row.get(0)?,
        title: row.get(1)?,
        assistant: row.get(2)?,
        metadata: read_json(row, 3)?,
        truncation: read_word(row, 4)?,
        messages: read_number(row, 5)?,
        created_at: read_number(row, 6)?,
        updated_at: read_number(row, 7)?,
        active_run: row.get(8)?,
    })
}
