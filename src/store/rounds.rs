//! Rounds in SQL: what earlier runs called goes upstream with their messages, and outputs that come later are put in.
//!
//! Calls and outputs stand in a run's steps; its rounds say which, and between which of its messages. A run whose
//! request brought outputs and no message continues the run that it answers: together they are one answer to one
//! question.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction};

use super::column::{json, read_json, read_word};
use super::failure::Failure;
use super::messages;
use crate::error::Error;
use crate::protocol::{Role, RunStatus, RunStep, StepCall, ToolCallEntry, ToolOutput};
use crate::thread::{Message, Round};
use crate::transcript::SaidRound;

/// Neighbouring messages of one run.
struct Group {
    run: Option<i64>,
    messages: Vec<Message>,
}

/// What a run called or left for its provider: each round, and how many messages the run had made by its end.
struct Called {
    id: String,
    continues: Option<i64>,
    rounds: Vec<(usize, Round)>,
}

/// A thread's messages with what was called between them, and the rounds that the run of this key goes on from: those
/// are not among the messages, the last of which is the question that they belong to.
pub fn weave(
    tx: &Transaction,
    thread: i64,
    run: i64,
    provider: &str,
    messages: Vec<(Option<i64>, Message)>,
) -> Result<(Vec<Message>, Vec<Round>), Failure> {
    let continued = continued(tx, run)?;
    let mut called = called(tx, thread, provider)?;
    let (mut woven, mut rounds) = (Vec::with_capacity(messages.len()), Vec::new());
    for group in groups(messages, &called) {
        let own = group.run.and_then(|run| called.remove(&run));
        let is_continued = group.run.is_some_and(|run| continued.contains(&run));
        match own {
            None => woven.extend(group.messages),
            Some(own) if is_continued => {
                let (questions, answers) = apart(group.messages);
                woven.extend(questions);
                rounds.extend(in_rounds(&answers, own));
            }
            Some(own) => woven.extend(between(group.messages, own)),
        }
    }
    Ok((woven, rounds))
}

/// The messages by run. A run that continues another and said nothing stands behind that one.
fn groups(messages: Vec<(Option<i64>, Message)>, called: &BTreeMap<i64, Called>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (run, message) in messages {
        match groups.last_mut().filter(|group| group.run == run) {
            Some(group) => group.messages.push(message),
            None => groups.push(Group {
                run,
                messages: vec![message],
            }),
        }
    }
    // In the order of their keys, so that one stands there before another continues it.
    for (key, own) in called {
        let is_silent = groups.iter().all(|group| group.run != Some(*key));
        let before = groups.iter().rposition(|group| group.run == own.continues);
        if let (true, Some(_), Some(before)) = (is_silent, own.continues, before) {
            let group = Group {
                run: Some(*key),
                messages: Vec::new(),
            };
            groups.insert(before + 1, group);
        }
    }
    groups
}

/// The runs that this one goes on from, back to the one with the question.
fn continued(tx: &Transaction, run: i64) -> Result<Vec<i64>, Failure> {
    let mut statement = tx.prepare_cached("SELECT continues FROM run WHERE key = ?1")?;
    let mut continued = Vec::new();
    let mut key = run;
    while let Some(before) = statement.query_row([key], |row| row.get(0))? {
        continued.push(before);
        key = before;
    }
    Ok(continued)
}

fn called(tx: &Transaction, thread: i64, provider: &str) -> Result<BTreeMap<i64, Called>, Failure> {
    let mut statement = tx.prepare_cached(
        "SELECT key, id, continues, provider, steps, rounds FROM run WHERE thread = ?1 AND rounds <> '[]'",
    )?;
    let mut rows = statement.query([thread])?;
    let mut called = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let steps: Vec<RunStep> = read_json(row, 4)?;
        let said: Vec<SaidRound> = read_json(row, 5)?;
        let is_its_own = row.get_ref(3)?.as_str() == Ok(provider);
        let rounds = said.into_iter().map(|said| {
            let mut round = said.with_steps(&steps, String::new());
            round.carry = round.carry.filter(|_| is_its_own);
            (said.messages, round)
        });
        // Of a round that called nothing another provider has nothing left.
        let rounds = rounds.filter(|(_, round)| !round.calls.is_empty() || round.carry.is_some());
        let own = Called {
            id: row.get(1)?,
            continues: row.get(2)?,
            rounds: rounds.collect(),
        };
        called.insert(row.get(0)?, own);
    }
    Ok(called)
}

/// What a run was asked, and what it said.
fn apart(messages: Vec<Message>) -> (Vec<Message>, Vec<Message>) {
    messages.into_iter().partition(|message| message.role == Role::User)
}

/// A run's messages, each round with the last of its own, or with one without content.
fn between(messages: Vec<Message>, own: Called) -> Vec<Message> {
    let (mut woven, answers) = apart(messages);
    let mut answers = answers.into_iter();
    let mut taken = 0;
    for (number, (end, mut round)) in own.rounds.into_iter().enumerate() {
        let before = woven.len();
        woven.extend(answers.by_ref().take(end - taken.min(end)));
        taken = end.max(taken);
        match woven[before..].last_mut() {
            Some(last) => {
                round.text = last.joined();
                last.round = Some(round);
            }
            None => woven.push(Message {
                id: format!("{}:{number}", own.id),
                role: Role::Assistant,
                content: Vec::new(),
                status: RunStatus::Completed,
                round: Some(round),
            }),
        }
    }
    woven.extend(answers);
    woven
}

/// The same as rounds, with the texts in them.
fn in_rounds(answers: &[Message], own: Called) -> Vec<Round> {
    let mut taken = 0;
    let rounds = own.rounds.into_iter().map(|(end, mut round)| {
        let end = end.clamp(taken, answers.len());
        round.text = answers[taken..end].iter().map(Message::joined).collect();
        taken = end;
        round
    });
    rounds.collect()
}

/// A run that has ended and left calls open.
struct Waiting {
    key: i64,
    id: String,
    open: Vec<ToolCallEntry>,
    steps: Vec<RunStep>,
    rounds: Vec<SaidRound>,
}

/// Puts outputs into the thread's last run, whose open calls they answer, and gives that run's key. The calls of it that
/// are left out stay unanswered.
pub fn answer(tx: &Transaction, thread: i64, thread_id: &str, outputs: &[ToolOutput]) -> Result<i64, Failure> {
    let mut run = waiting(tx, thread)?.ok_or_else(|| {
        Error::invalid_params(format!(
            "thread `{thread_id}` waits for no tool outputs: its last run left no calls open"
        ))
    })?;
    run.complete(tx)?;
    let mut left = run.open.clone();
    for output in outputs {
        let place = left.iter().position(|call| call.call_id == output.call_id);
        let Some(place) = place else {
            return Err(not_open(&run, &output.call_id).into());
        };
        left.remove(place);
        run.put(output);
    }
    tx.prepare_cached("UPDATE run SET steps = ?2, rounds = ?3, tool_calls = ?4 WHERE key = ?1")?
        .execute((run.key, json(&run.steps), json(&run.rounds), json(&left)))?;
    Ok(run.key)
}

/// The thread's last run, if it has ended and left calls open.
fn waiting(tx: &Transaction, thread: i64) -> Result<Option<Waiting>, Failure> {
    let asked: Option<Option<i64>> = tx
        .prepare_cached("SELECT run FROM message WHERE thread = ?1 ORDER BY key DESC LIMIT 1")?
        .query_row([thread], |row| row.get(0))
        .optional()?;
    let Some(mut last) = asked.flatten() else {
        return Ok(None);
    };
    let mut follower = tx.prepare_cached("SELECT key FROM run WHERE continues = ?1 ORDER BY key DESC LIMIT 1")?;
    while let Some(next) = follower.query_row([last], |row| row.get(0)).optional()? {
        last = next;
    }
    let run = tx
        .prepare_cached("SELECT id, status, tool_calls, steps, rounds FROM run WHERE key = ?1")?
        .query_row([last], |row| {
            let status: RunStatus = read_word(row, 1)?;
            let run = Waiting {
                key: last,
                id: row.get(0)?,
                open: read_json(row, 2)?,
                steps: read_json(row, 3)?,
                rounds: read_json(row, 4)?,
            };
            Ok((status, run))
        })?;
    Ok(Some(run)
        .filter(|(status, run)| status.is_end() && !run.open.is_empty())
        .map(|(_, run)| run))
}

fn not_open(run: &Waiting, found: &str) -> Error {
    let open: Vec<String> = run.open.iter().map(|call| format!("`{}`", call.call_id)).collect();
    Error::invalid_params(format!(
        "expected each `callId` of `toolOutputs` once, and to be one that run `{}` left open ({}), found `{found}`",
        run.id,
        open.join(", ")
    ))
}

impl Waiting {
    /// A run that was stored before there were rounds has its last one in its end only.
    fn complete(&mut self, tx: &Transaction) -> Result<(), Failure> {
        let last = self.rounds.last().map(|round| &round.calls[..]).unwrap_or_default();
        if self.open.iter().all(|call| last.contains(&call.call_id)) {
            return Ok(());
        }
        let (messages, _) = messages::said_by(tx, self.key)?;
        self.rounds.push(SaidRound {
            messages: messages.len(),
            steps: self.steps.len(),
            calls: self.open.iter().map(|call| call.call_id.clone()).collect(),
            carry: None,
        });
        Ok(())
    }

    /// Puts an output into the newest step of its call.
    fn put(&mut self, output: &ToolOutput) {
        let is_its = |known: &StepCall| known.call_id == output.call_id;
        let mut steps = self.steps.iter_mut().rev();
        let Some(step) = steps.find(|step| step.calls.iter().any(is_its)) else {
            return;
        };
        for call in step.calls.iter_mut().filter(|call| is_its(call)) {
            call.output = Some(output.output.clone());
        }
        if step.calls.iter().all(|call| call.output.is_some()) {
            step.status = "completed".into();
        }
    }
}
