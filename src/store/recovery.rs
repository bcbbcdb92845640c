//! What a dead process left: its journal is folded into the database, and its runs are ended.
//!
//! A run keeps the end that was journaled. One without an end was `interrupted`, unless it waited for tools to be
//! called: then its end is `toolCalls`, since that is what is left to be done. A run that goes on upstream becomes this
//! process's own, where it is a daemon: its records are copied into our journal before the other one is deleted.
//! Recovering twice, or in two processes at once, is harmless: they take turns, a run that has ended or has another owner
//! is passed over, and a record that is there twice counts once.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::time::UNIX_EPOCH;

use rusqlite::Transaction;
use serde::de::IgnoredAny;

use super::database::Database;
use super::failure::Failure;
use super::folder::Folder;
use super::journal::{ENDING, Found, HEADER, Journal, UNFINISHED, find};
use super::orphan::Orphan;
use super::record::{Batch, Body, Record, Records};
use super::{Place, now, runs};
use crate::protocol::{RunStatus, RunStep, StopReason, ToolCallEntry};
use crate::transcript::{Entry, Outcome, RunEnd, SaidRound, Transcript};

/// Whether a dead process left a journal. Looks without opening the database, and makes nothing.
pub fn is_needed(place: &Place) -> bool {
    match place {
        Place::Folder(path) if path.is_dir() => Folder::open(path).is_ok_and(|folder| has_dead(&folder)),
        _ => false,
    }
}

fn has_dead(folder: &Folder) -> bool {
    let Ok(_turn) = folder.turn() else { return false };
    let names = folder.names(ENDING).unwrap_or_default();
    names.iter().any(|name| !matches!(find(folder, name), Ok(Found::Alive)))
}

/// Recovers what every dead process left. What cannot be recovered stays where it is, for the next start: it is no
/// reason to refuse the service.
pub fn recover_all(database: &mut Database) {
    let owners = match find_owners(database) {
        Ok(owners) => owners,
        Err(failure) => return report(database, failure, "the journals"),
    };
    for owner in owners {
        if let Err(failure) = recover(database, &owner) {
            report(database, failure, &owner);
        }
    }
}

/// Recovers what one process left, if it is dead; whether it is.
pub fn recover(database: &mut Database, owner: &str) -> Result<bool, Failure> {
    let Some(folder) = database.folder() else {
        return Ok(false);
    };
    // Made before our turn, which making it takes as well.
    let heir = match database.adopts() && database.read(|tx| runs::has_background(tx, owner))? {
        true => Some(database.journal()?),
        false => None,
    };
    // In turn from the first look to the deletion: whoever finds the run in the way meanwhile waits, and then finds it
    // ended.
    let _turn = folder.turn()?;
    let left = match find(&folder, owner)? {
        Found::Alive => return Ok(false),
        Found::Gone => Left::nothing(),
        Found::Dead(mut file) => match Left::read(&mut file)? {
            Some(left) => left,
            None => {
                tracing::warn!(journal = owner, "a journal of an unknown format was left alone");
                return Ok(false);
            }
        },
    };
    let orphans = database.write_in_turn(|tx| end_runs(tx, owner, &left, heir.as_ref()))?;
    orphans.into_iter().for_each(|orphan| database.adopt(orphan));
    match fs::remove_file(folder.join(owner)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(true),
    }
}

/// The names of all journals that are there, or that runs say they are in.
fn find_owners(database: &mut Database) -> Result<Vec<String>, Failure> {
    let Some(folder) = database.folder() else {
        return Ok(Vec::new());
    };
    {
        // In our turn nobody else is making a journal: what is unfinished stays so.
        let _turn = folder.turn()?;
        for name in folder.names(UNFINISHED)? {
            fs::remove_file(folder.join(&name))?;
        }
    }
    let mut owners = folder.names(ENDING)?;
    owners.extend(database.read(runs::owners)?);
    owners.sort();
    owners.dedup();
    Ok(owners)
}

/// What a dead process left in its journal.
struct Left {
    /// Its records.
    bytes: Vec<u8>,
    transcripts: HashMap<String, Transcript>,
    /// When the journal was last written, in milliseconds since 1970: about when the process died.
    at: i64,
}

impl Left {
    fn nothing() -> Left {
        Left {
            bytes: Vec::new(),
            transcripts: HashMap::new(),
            at: now(),
        }
    }

    /// None if the journal is not of this build's format.
    fn read(file: &mut File) -> io::Result<Option<Left>> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH);
        let at = modified.map_or_else(|_| now(), |age| age.as_millis() as i64);
        if !bytes.starts_with(HEADER) {
            return Ok(None);
        }
        bytes.drain(..HEADER.len());
        Ok(Some(Left {
            transcripts: replay(Records::new(&bytes)),
            bytes,
            at,
        }))
    }

    /// The records of one run.
    fn records_of(&self, run_id: &str) -> Batch {
        let mut batch = Batch::default();
        for record in Records::new(&self.bytes).filter(|record| record.run_id == run_id) {
            match record.body {
                Body::Entry(entry) => batch.entry(run_id, record.seq, &entry),
                Body::Delta { index, kind, text } => batch.delta(run_id, record.seq, index, kind, text),
            }
        }
        batch
    }
}

/// What the records say, by run.
pub fn replay<'a>(records: impl Iterator<Item = Record<'a>>) -> HashMap<String, Transcript> {
    let mut transcripts: HashMap<String, Transcript> = HashMap::new();
    for record in records {
        if !transcripts.contains_key(record.run_id) {
            transcripts.insert(record.run_id.to_owned(), Transcript::default());
        }
        if let Some(transcript) = transcripts.get_mut(record.run_id) {
            take(transcript, record);
        }
    }
    transcripts
}

fn take(transcript: &mut Transcript, record: Record) {
    if record.seq <= transcript.seq() {
        // It was copied by a process that died before it could say so.
        return;
    }
    match record.body {
        Body::Entry(entry) => transcript.apply(record.seq, entry),
        Body::Delta { index, kind, text } => {
            if transcript.last_message().is_none() {
                // The journal could not be written when the message began; its text is kept all the same.
                let message_id = uuid::Uuid::now_v7().to_string();
                transcript.apply(record.seq, Entry::Message { message_id });
            }
            transcript.delta(record.seq, index, kind, text);
        }
    }
}

/// Ends the runs of a dead process, but for those that the heir, which is our journal, takes over.
fn end_runs(tx: &Transaction, owner: &str, left: &Left, heir: Option<&Journal>) -> Result<Vec<Orphan>, Failure> {
    let silent = Transcript::default();
    let mut orphans = Vec::new();
    for id in runs::live_of(tx, owner)? {
        let Some(live) = runs::live(tx, &id)? else { continue };
        let transcript = left.transcripts.get(&id).unwrap_or(&silent);
        if let Some(heir) = heir.filter(|_| goes_on(transcript))
            && let Some(orphan) = runs::adopt(tx, &live, heir, left.records_of(&id))?
        {
            // Before the change is made: until then they are records of a run that is not ours, and mean nothing.
            heir.append(&orphan.records)?;
            orphans.push(orphan);
            continue;
        }
        if live.is_queued() && transcript.end().is_none() {
            // Nobody will run it, but what the user said is not lost.
            runs::enter_question(tx, &live, left.at)?;
        }
        runs::fold(tx, &live, &outcome(transcript), left.at)?;
    }
    Ok(orphans)
}

/// Whether the upstream may still be at it: it has begun the round, which is not over.
fn goes_on(transcript: &Transcript) -> bool {
    transcript.end().is_none() && transcript.anchor_of_round().is_some()
}

/// What became of a run whose process died.
fn outcome(transcript: &Transcript) -> Outcome {
    let mut outcome = transcript.finish(death(transcript));
    let open = outcome.end.tool_calls.iter().map(|call| &call.call_id);
    let has_round = |id: &String| outcome.rounds.last().is_some_and(|round| round.calls.contains(id));
    if !open.clone().all(has_round) {
        // The calls were whole, and the round's end had not come.
        let round = SaidRound {
            messages: outcome.messages.len(),
            steps: outcome.steps.len(),
            calls: open.cloned().collect(),
            carry: None,
        };
        outcome.rounds.push(round);
    }
    outcome
}

/// How a run ended whose process died.
fn death(transcript: &Transcript) -> RunEnd {
    let mut open = transcript.open_calls();
    if open.is_empty() {
        let (_, before) = transcript.before_round();
        open = transcript.steps()[before..].last().map(open_calls).unwrap_or_default();
    }
    if open.is_empty() {
        return RunEnd::new(RunStatus::Interrupted, StopReason::DaemonKilled);
    }
    RunEnd {
        tool_calls: open,
        ..RunEnd::new(RunStatus::Completed, StopReason::ToolCalls)
    }
}

/// The calls of a step that wait for their output. None if the model had not written all of them to their end.
fn open_calls(step: &RunStep) -> Vec<ToolCallEntry> {
    if step.status != "inProgress" {
        return Vec::new();
    }
    let open = step
        .calls
        .iter()
        .filter(|call| call.kind == "function" && call.output.is_none());
    let whole = open.map(|call| {
        let arguments = call.arguments.clone()?;
        serde_json::from_str::<IgnoredAny>(&arguments).ok()?;
        Some(ToolCallEntry {
            call_id: call.call_id.clone(),
            name: call.name.clone()?,
            arguments,
        })
    });
    whole.collect::<Option<_>>().unwrap_or_default()
}

fn report(database: &Database, failure: Failure, what: &str) {
    let error = database.explain(failure);
    tracing::error!(%error, "failed to recover {what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::StepCall;

    fn step(status: &str, calls: &[(&str, Option<&str>)]) -> RunStep {
        let calls = calls.iter().map(|(arguments, output)| StepCall {
            call_id: "c".into(),
            kind: "function".into(),
            name: Some("look".into()),
            arguments: Some((*arguments).to_owned()),
            output: output.map(str::to_owned),
            ..StepCall::default()
        });
        RunStep {
            id: "s".into(),
            kind: "toolCalls".into(),
            status: status.into(),
            calls: calls.collect(),
            error: None,
            usage: None,
        }
    }

    fn death_after(step: RunStep) -> RunEnd {
        let mut transcript = Transcript::default();
        transcript.apply(1, Entry::Step { step });
        death(&transcript)
    }

    #[test]
    fn a_run_that_waited_for_tools_ends_with_the_calls_left_open() {
        let end = death_after(step("inProgress", &[("{}", Some("done")), ("{\"a\":1}", None)]));
        assert_eq!(
            (end.status, end.stop_reason),
            (RunStatus::Completed, StopReason::ToolCalls)
        );
        assert_eq!(end.tool_calls.len(), 1);
        assert_eq!(end.tool_calls[0].arguments, "{\"a\":1}");
    }

    #[test]
    fn calls_that_were_answered_or_never_written_out_are_not_left_open() {
        for step in [
            step("completed", &[("{}", None)]),
            step("inProgress", &[("{}", Some("done"))]),
            step("inProgress", &[("{}", None), ("{\"a\":", None)]),
            step("inProgress", &[("", None)]),
        ] {
            let end = death_after(step);
            assert_eq!(
                (end.status, end.stop_reason),
                (RunStatus::Interrupted, StopReason::DaemonKilled)
            );
        }
    }
}
