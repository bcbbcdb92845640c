//! Messages in SQL.

use rusqlite::{OptionalExtension, Row, Transaction};

use super::column::{json, read_json, read_number, read_word, word};
use super::failure::Failure;
use super::page::{self, Page};
use super::{marks, rounds, threads};
use crate::error::Error;
use crate::protocol::{MessageEntry, Part, Role, RunStatus};
use crate::thread::{Conversation, Message, Round};
use crate::transcript::{Mark, SaidMessage};

/// The longest title that is made from a message, in characters.
const TITLE_MAX: usize = 80;

const ENTRY: &str = "
    SELECT message.id, message.role, message.status, message.content, run.id, message.created_at, message.key
    FROM message LEFT JOIN run ON run.key = message.run";

/// A run, and the thread that it answers in, by their keys.
#[derive(Debug, Clone, Copy)]
pub struct Within {
    /// The thread.
    pub thread: i64,
    /// The run that made the message, or that answers it.
    pub run: i64,
    /// When the message is said, in milliseconds since 1970.
    pub at: i64,
}

/// What the user said enters the thread.
pub fn insert_question(tx: &Transaction, within: Within, id: &str, content: &[Part]) -> Result<(), Failure> {
    if let Some(title) = title(content) {
        threads::title_by_first_message(tx, within.thread, &title)?;
    }
    insert(tx, within, Role::User, id, RunStatus::Completed, content, None)
}

/// What the assistant said enters the thread.
pub fn insert_answer(tx: &Transaction, within: Within, said: &SaidMessage) -> Result<(), Failure> {
    let marks = marks::encode(&said.marks);
    insert(
        tx,
        within,
        Role::Assistant,
        &said.id,
        said.status,
        &said.content,
        Some(&marks),
    )
}

fn insert(
    tx: &Transaction,
    within: Within,
    role: Role,
    id: &str,
    status: RunStatus,
    content: &[Part],
    marks: Option<&[u8]>,
) -> Result<(), Failure> {
    tx.prepare_cached(
        "INSERT INTO message (id, thread, run, role, status, content, marks, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        id,
        within.thread,
        within.run,
        word(role),
        word(status),
        json(content),
        marks,
        within.at,
    ))?;
    tx.prepare_cached("UPDATE thread SET messages = messages + 1 WHERE key = ?1")?
        .execute([within.thread])?;
    Ok(())
}

/// One message.
pub fn entry(tx: &Transaction, id: &str) -> Result<MessageEntry, Failure> {
    let entry = tx
        .prepare_cached(&format!("{ENTRY} WHERE message.id = ?1"))?
        .query_row([id], read_entry)
        .optional()?;
    entry.ok_or_else(|| Error::not_found("message", id).into())
}

/// A page of a thread's messages, newest first. What they have of images and files is not held in memory together.
pub fn list(tx: &Transaction, thread: i64, cursor: Option<&str>, limit: u32) -> Result<Page<MessageEntry>, Failure> {
    let before = page::parse(cursor)?;
    let mut statement = tx.prepare_cached(&format!(
        "{ENTRY} WHERE message.thread = ?1 AND message.key < ?2 ORDER BY message.key DESC LIMIT ?3"
    ))?;
    let rows = statement.query_map((thread, before, page::fetched(limit)), |row| {
        Ok((row.get(6)?, read_entry(row)?.without_data()))
    })?;
    Ok(page::cut(rows.collect::<Result<_, _>>()?, limit))
}

/// What goes upstream with a run of this provider: all messages in order, but for answers that were retried, each with
/// what was called; and the rounds that the run goes on from.
pub fn conversation(
    tx: &Transaction,
    thread: i64,
    run: i64,
    provider: &str,
) -> Result<(Conversation, Vec<Round>), Failure> {
    let mut statement = tx.prepare_cached(
        "SELECT id, role, content, status, run FROM message WHERE thread = ?1 AND retried = 0 ORDER BY key",
    )?;
    let rows = statement.query_map([thread], |row| {
        let message = Message {
            id: row.get(0)?,
            role: read_word(row, 1)?,
            content: read_json(row, 2)?,
            status: read_word(row, 3)?,
            round: None,
        };
        Ok((row.get(4)?, message))
    })?;
    let (messages, rounds) = rounds::weave(tx, thread, run, provider, rows.collect::<Result<_, _>>()?)?;
    let conversation = Conversation {
        messages,
        truncation: threads::truncation(tx, thread)?,
    };
    Ok((conversation, rounds))
}

/// The ids of a run's messages in order, and their texts joined.
pub fn said_by(tx: &Transaction, run: i64) -> Result<(Vec<String>, String), Failure> {
    let mut statement =
        tx.prepare_cached("SELECT id, content FROM message WHERE run = ?1 AND role = 'assistant' ORDER BY key")?;
    let mut rows = statement.query([run])?;
    let (mut ids, mut text) = (Vec::new(), String::new());
    while let Some(row) = rows.next()? {
        ids.push(row.get(0)?);
        let content: Vec<Part> = read_json(row, 1)?;
        content.iter().for_each(|part| part.append_text(&mut text));
    }
    Ok((ids, text))
}

/// Where the text of a message stood after each event.
pub fn marks(tx: &Transaction, id: &str) -> Result<Vec<Mark>, Failure> {
    let bytes: Option<Option<Vec<u8>>> = tx
        .prepare_cached("SELECT marks FROM message WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let bytes = bytes.ok_or_else(|| Error::not_found("message", id))?;
    Ok(marks::decode(&bytes.unwrap_or_default()))
}

fn read_entry(row: &Row) -> rusqlite::Result<MessageEntry> {
    Ok(MessageEntry {
        message_id: row.get(0)?,
        role: read_word(row, 1)?,
        status: read_word(row, 2)?,
        content: Some(read_json(row, 3)?),
        omitted: None,
        run_id: row.get(4)?,
        created_at: read_number(row, 5)?,
    })
}

/// The first line with words in it; none if there is none. What the user wrote comes before what the editor added.
fn title(content: &[Part]) -> Option<String> {
    let texts = content.iter().filter_map(|part| match part {
        Part::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let line = texts
        .flat_map(str::lines)
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    match line.char_indices().nth(TITLE_MAX) {
        None => Some(line.to_owned()),
        Some(_) => {
            let kept: String = line.chars().take(TITLE_MAX - 1).collect();
            Some(format!("{}…", kept.trim_end()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_with_words() {
        assert_eq!(title(&[Part::text("\n  \n Why? \nBecause.")]), Some("Why?".into()));
        assert_eq!(title(&[Part::text(" \n")]), None);
        let resource = Part::Resource {
            uri: "file:///a".into(),
            text: Some("code".into()),
            mime_type: None,
            selection: None,
        };
        assert_eq!(title(&[resource, Part::text("Explain")]), Some("Explain".into()));
    }

    #[test]
    fn a_long_title_is_cut_between_characters() {
        let exact = "ü".repeat(80);
        assert_eq!(title(&[Part::text(exact.clone())]), Some(exact));
        let cut = title(&[Part::text("ü".repeat(81))]).unwrap();
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (80, true));
    }
}
